//! Topic permissions: routing keys of publishes and bindings on topic exchanges.

use leveret_proto::v1::{ClearTopicPermissionsRequest, SetTopicPermissionsRequest};
use leveret_tests::amqp::method;
use leveret_tests::client::{assert_refused, bind, to_exchange};
use tonic::Code;

use super::{Scene, closed};

#[tokio::test]
async fn keys_of_topic_exchanges_have_permissions_of_their_own() {
    let mut scene = Scene::set().await;
    scene.add_worker("worker").await;
    scene.root.declare_exchange("news", "topic").await;
    scene.root.declare_exchange("direct", "direct").await;
    scene.root.declare_queue("q").await;
    for exchange in ["news", "direct"] {
        let request = SetTopicPermissionsRequest {
            user: "worker".into(),
            vhost: "/".into(),
            exchange: exchange.into(),
            write: "^own\\.".into(),
            read: "^public\\.".into(),
        };
        scene.root.admin().set_topic_permissions(request).await.expect("set topic permissions");
    }
    let write = "write access to topic 'other.x' in exchange 'news' in vhost '/' refused for user 'worker'";
    let read = "read access to topic 'own.#' in exchange 'news' in vhost '/' refused for user 'worker'";
    let denied = |text: &str| (1, 403, format!("ACCESS_REFUSED - {text}"));

    let mut amqp = scene.amqp("worker", "/").await;
    amqp.confirm_select(1).await.expect("confirms");
    for (exchange, key) in [("news", "own.x"), ("direct", "other.x")] {
        amqp.publish(1, exchange, key, true, b"a").await.expect("sent");
        amqp.expect(1, method::BASIC_ACK).await.expect("a confirm");
    }
    amqp.bind(1, "news", "q", "public.#").await.expect("bound");
    amqp.bind(1, "direct", "q", "own.x").await.expect("only topic exchanges count");
    amqp.publish(1, "news", "other.x", true, b"a").await.expect("sent");
    assert_eq!(closed(amqp.next().await), denied(write));
    let mut amqp = scene.amqp("worker", "/").await;
    assert_eq!(closed(amqp.bind(1, "news", "q", "own.#").await), denied(read));

    let mut client = scene.grpc("worker").await;
    let publish = async |client: &mut leveret_tests::client::Client| {
        let results = client.publish_batch(vec![to_exchange("news", "other.x", "b")]).await;
        results[0].error.clone().map(|error| (error.reason, error.message))
    };
    assert_eq!(publish(&mut client).await, Some(("ACCESS_REFUSED".into(), write.into())));
    let refused = client.rpc.bind(bind("news", "q", "own.#")).await;
    let status = assert_refused(refused, Code::PermissionDenied, &["ACCESS_REFUSED"]);
    assert_eq!(status.message(), read);

    let clear = |exchange: Option<&str>| ClearTopicPermissionsRequest {
        user: "worker".into(),
        vhost: "/".into(),
        exchange: exchange.map(Into::into),
    };
    scene.root.admin().clear_topic_permissions(clear(Some("direct"))).await.expect("cleared");
    assert!(publish(&mut client).await.is_some(), "those of the other exchange are still there");
    scene.root.admin().clear_topic_permissions(clear(None)).await.expect("cleared");
    assert_eq!(publish(&mut client).await, None);
    client.rpc.bind(bind("news", "q", "own.#")).await.expect("bound");
}

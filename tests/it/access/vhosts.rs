//! Virtual hosts: each a world of its own, that ends with all that is in it.

use leveret_proto::v1::{
    BindRequest, ClearPermissionsRequest, ConsumeOpen, DeclareExchangeRequest, DeclareQueueRequest,
    GetRequest, ListBindingsRequest, ListExchangesRequest, ListQueuesRequest, ListVhostsRequest,
    PublishRequest,
};
use leveret_tests::client::{Client, assert_refused, bind, body, queue, to_exchange};
use leveret_tests::streams::ConsumeLane;
use tonic::Code;

use super::{Scene, closed, connection_closed};

/// The names of a virtual host's queues.
async fn queues(client: &mut Client, vhost: &str) -> Vec<String> {
    let request = ListQueuesRequest { vhost: vhost.into(), ..Default::default() };
    let queues = client.rpc.list_queues(request).await.expect("list").into_inner().queues;
    queues.into_iter().map(|queue| queue.name).collect()
}

async fn vhosts(client: &mut Client) -> Vec<String> {
    let vhosts = client.admin().list_vhosts(ListVhostsRequest {}).await.expect("list").into_inner().vhosts;
    vhosts.into_iter().map(|vhost| vhost.name).collect()
}

/// A queue and an exchange of the same names, bound, with one message that names the virtual host.
async fn fill(client: &mut Client, vhost: &str) {
    let exchange = DeclareExchangeRequest { vhost: vhost.into(), name: "x".into(), ..Default::default() };
    client.rpc.declare_exchange(exchange).await.expect("an exchange");
    client
        .rpc
        .declare_queue(DeclareQueueRequest { vhost: vhost.into(), ..queue("q") })
        .await
        .expect("a queue");
    let BindRequest { binding, .. } = bind("x", "q", "k");
    client.rpc.bind(BindRequest { vhost: vhost.into(), binding }).await.expect("bound");
    let messages = vec![to_exchange("x", "k", vhost.to_owned())];
    let results =
        client.rpc.publish(PublishRequest { vhost: vhost.into(), messages }).await.expect("publish");
    assert_eq!(results.into_inner().results[0].queues, 1);
}

async fn take(client: &mut Client, vhost: &str) -> Vec<String> {
    let request = GetRequest {
        vhost: vhost.into(),
        queue: "q".into(),
        count: 10,
        auto_ack: true,
        ..Default::default()
    };
    let deliveries = client.rpc.get(request).await.expect("get").into_inner().deliveries;
    deliveries.iter().map(|delivery| String::from_utf8(body(delivery).to_vec()).expect("text")).collect()
}

#[tokio::test]
async fn virtual_hosts_do_not_see_each_other() {
    let mut scene = Scene::set().await;
    for vhost in ["a", "b"] {
        scene.add_vhost(vhost).await;
        scene.allow("guest", vhost, [".*"; 3]).await;
        fill(&mut scene.root, vhost).await;
    }
    let root = &mut scene.root;
    assert_eq!(vhosts(root).await, ["/", "a", "b"]);
    assert_eq!((queues(root, "a").await, queues(root, "/").await), (vec!["q".to_owned()], vec![]));
    let exchanges = ListExchangesRequest { vhost: "b".into() };
    let exchanges = root.rpc.list_exchanges(exchanges).await.expect("list").into_inner().exchanges;
    assert_eq!(exchanges.len(), 8, "seven that are always there: {exchanges:?}");
    let bindings = ListBindingsRequest { vhost: "/".into() };
    assert!(root.rpc.list_bindings(bindings).await.expect("list").into_inner().bindings.is_empty());
    let mut amqp = scene.amqp("guest", "a").await;
    let taken = amqp.get(1, "q").await.expect("get").expect("a message");
    assert_eq!(taken.body, "a");
    assert_eq!(take(&mut scene.root, "b").await, ["b"]);
    // The same names over AMQP, and texts that name the virtual host.
    assert_eq!(
        closed(amqp.get(1, "nothing").await),
        (1, 404, "NOT_FOUND - no queue 'nothing' in vhost 'a'".into())
    );
    let missing = scene.root.rpc.get(GetRequest { queue: "q".into(), ..Default::default() }).await;
    let status = assert_refused(missing, Code::NotFound, &["QUEUE_NOT_FOUND"]);
    assert_eq!(status.message(), "no queue 'q' in vhost '/'");
}

#[tokio::test]
async fn an_unknown_virtual_host_and_one_without_permission() {
    let mut scene = Scene::set().await;
    scene.add_vhost("closed").await;
    scene.add_worker("worker").await;
    for (vhost, text) in [
        ("nowhere", "NOT_ALLOWED - vhost nowhere not found"),
        ("closed", "NOT_ALLOWED - access to vhost 'closed' refused for user 'worker'"),
        ("", "NOT_ALLOWED - vhost  not found"),
    ] {
        assert_eq!(closed(scene.try_amqp("worker", vhost).await.map(drop)), (0, 530, text.into()));
    }
    let mut worker = scene.grpc("worker").await;
    for vhost in ["nowhere", "closed"] {
        // Over gRPC, who may not list them does not hear which there are.
        let text = format!("access to vhost '{vhost}' refused for user 'worker'");
        let declare = DeclareQueueRequest { vhost: vhost.into(), ..queue("q") };
        let status = worker.rpc.declare_queue(declare).await;
        let status = assert_refused(status, Code::PermissionDenied, &["ACCESS_REFUSED"]);
        assert_eq!(status.message(), text);
        let list = ListQueuesRequest { vhost: vhost.into(), ..Default::default() };
        let status = worker.rpc.list_queues(list).await;
        assert_refused(status, Code::PermissionDenied, &["ACCESS_REFUSED"]);
    }
    assert_eq!(vhosts(&mut worker).await, ["/"], "only what it may enter");
    // Permissions that are taken away end nothing, but let nothing new in.
    let mut amqp = scene.amqp("worker", "/").await;
    amqp.declare_queue(1, "q", &[]).await.expect("declared");
    let clear = ClearPermissionsRequest { user: "worker".into(), vhost: "/".into() };
    scene.root.admin().clear_permissions(clear).await.expect("cleared");
    let (channel, code, text) = closed(amqp.declare_queue(1, "q", &[]).await);
    assert_eq!((channel, code), (1, 403), "{text}");
    let text = "NOT_ALLOWED - access to vhost '/' refused for user 'worker'";
    assert_eq!(closed(scene.try_amqp("worker", "/").await.map(drop)), (0, 530, text.into()));
}

#[tokio::test]
async fn a_virtual_host_goes_with_all_that_is_in_it() {
    let mut scene = Scene::set().await;
    scene.add_vhost("a").await;
    scene.allow("guest", "a", [".*"; 3]).await;
    fill(&mut scene.root, "a").await;
    fill(&mut scene.root, "/").await;
    let mut inside = scene.amqp("guest", "a").await;
    inside.consume(1, "q").await.expect("a consumer");
    let mut outside = scene.amqp("guest", "/").await;
    let open = ConsumeOpen { vhost: "a".into(), queue: "q".into(), ..Default::default() };
    let mut stream = ConsumeLane::open(&scene.root, open).await;
    scene.delete_vhost("a").await;
    let text = connection_closed(&mut inside, 320).await;
    assert!(text.starts_with("CONNECTION_FORCED - ") && text.contains('a'), "{text}");
    assert!(stream.next_or_end().await.is_err(), "its consumer is gone");
    assert_eq!(outside.get(1, "q").await.expect("get").expect("a message").body, "/");
    assert_eq!(vhosts(&mut scene.root).await, ["/"]);
    let list = ListQueuesRequest { vhost: "a".into(), ..Default::default() };
    assert!(scene.root.rpc.list_queues(list.clone()).await.is_err());
    let missing = leveret_proto::v1::DeleteVhostRequest { name: "a".into() };
    let again = scene.root.admin().delete_vhost(missing).await;
    assert_eq!(again.expect_err("it is gone").code(), Code::NotFound);
    let mut scene = scene.kill_and_restart().await;
    assert_eq!(vhosts(&mut scene.root).await, ["/"]);
    assert!(scene.root.rpc.list_queues(list).await.is_err());
    // One of the same name is a new one.
    scene.add_vhost("a").await;
    scene.allow("guest", "a", [".*"; 3]).await;
    assert_eq!(queues(&mut scene.root, "a").await, Vec::<String>::new());
    assert_eq!(take(&mut scene.root, "/").await, ["/"]);
}

#[tokio::test]
async fn virtual_hosts_and_what_is_in_them_survive_kill_9() {
    let mut scene = Scene::set().await;
    for vhost in ["a", "b"] {
        scene.add_vhost(vhost).await;
        scene.allow("guest", vhost, [".*"; 3]).await;
        fill(&mut scene.root, vhost).await;
    }
    let mut scene = scene.kill_and_restart().await;
    assert_eq!(vhosts(&mut scene.root).await, ["/", "a", "b"]);
    for vhost in ["a", "b"] {
        assert_eq!(take(&mut scene.root, vhost).await, [vhost]);
    }
}

//! Exchanges, queues, bindings: declare, list, delete, route.

use bytes::Bytes;
use leveret_proto::v1::{
    BindRequest, Binding, DeclareExchangeRequest, DeclareQueueRequest, DeleteExchangeRequest,
    DeleteQueueRequest, DestinationKind, ListBindingsRequest, ListExchangesRequest, PublishOutcome, Table,
    TableEntry, UnbindRequest, Value, value,
};
use leveret_tests::client::{Client, assert_refused, bind, queue, to_exchange};
use leveret_tests::server::Server;
use leveret_tests::streams::ConsumeLane;
use tonic::Code;

#[tokio::test]
async fn queue_declare_is_idempotent_and_counts_ready() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let first = client.rpc.declare_queue(queue("jobs")).await.expect("declare").into_inner();
    assert_eq!((first.name.as_str(), first.messages_ready, first.consumers), ("jobs", 0, 0));
    client.publish("jobs", "a").await;
    let _consumer = ConsumeLane::on(&server.client().await, "jobs", 1).await;
    client.publish("jobs", "b").await;
    client.wait_queue("jobs", "one message out", |q| q.messages_unacknowledged == 1).await;
    let again = client.rpc.declare_queue(queue("jobs")).await.expect("declare again").into_inner();
    assert_eq!((again.messages_ready, again.consumers), (1, 1), "ready only, not what is out");
    let passive = DeclareQueueRequest { passive: true, ..queue("jobs") };
    assert_eq!(client.rpc.declare_queue(passive).await.expect("passive").into_inner().messages_ready, 1);
}

#[tokio::test]
async fn queue_declare_with_other_properties_is_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    let other = DeclareQueueRequest { durable: Some(false), ..queue("jobs") };
    let status = assert_refused(
        client.rpc.declare_queue(other).await,
        Code::FailedPrecondition,
        &["PRECONDITION_FAILED"],
    );
    assert!(status.message().contains("durable") && status.message().contains("jobs"), "{status:?}");
    let other = DeclareQueueRequest { auto_delete: true, ..queue("jobs") };
    assert_refused(client.rpc.declare_queue(other).await, Code::FailedPrecondition, &["PRECONDITION_FAILED"]);
}

#[tokio::test]
async fn a_missing_queue_is_not_found_and_its_delete_is_fine() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let passive = DeclareQueueRequest { passive: true, ..queue("nowhere") };
    assert_refused(client.rpc.declare_queue(passive).await, Code::NotFound, &["QUEUE_NOT_FOUND"]);
    assert_eq!(client.delete_queue("nowhere").await, 0);
    let missing = DeleteExchangeRequest { name: "nowhere".into(), ..Default::default() };
    client.rpc.delete_exchange(missing).await.expect("deleting a missing exchange is fine");
}

#[tokio::test]
async fn purge_takes_what_is_ready_only() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    for body in ["a", "b", "c"] {
        client.publish("jobs", body).await;
    }
    let out = client.get("jobs", 1).await;
    assert_eq!(client.purge("jobs").await, 2);
    let info = client.queue_info("jobs").await;
    assert_eq!((info.messages_ready, info.messages_unacknowledged), (0, 1));
    client.ack(&out).await;
    assert_eq!(client.queue_info("jobs").await.messages, 0);
}

#[tokio::test]
async fn delete_conditions() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    client.publish("jobs", "a").await;
    let delete = |if_unused, if_empty| DeleteQueueRequest {
        name: "jobs".into(),
        if_unused,
        if_empty,
        ..Default::default()
    };
    let refused = client.rpc.delete_queue(delete(false, true)).await;
    assert_refused(refused, Code::FailedPrecondition, &["PRECONDITION_FAILED"]);
    let consumer = ConsumeLane::on(&server.client().await, "jobs", 1).await;
    let refused = client.rpc.delete_queue(delete(true, false)).await;
    assert_refused(refused, Code::FailedPrecondition, &["PRECONDITION_FAILED"]);
    drop(consumer);
    client
        .wait_queue("jobs", "no consumer and the message back", |q| q.consumers == 0 && q.messages_ready == 1)
        .await;
    let gone = client.rpc.delete_queue(delete(true, false)).await.expect("delete").into_inner();
    assert_eq!(gone.messages, 1);
    assert_eq!(client.queue_names().await, Vec::<String>::new());
    // The name is free, and nothing of the old queue is left in it.
    client.declare_queue("jobs").await;
    assert_eq!(client.queue_info("jobs").await.messages, 0);
}

#[tokio::test]
async fn exchange_declare_list_and_delete() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_exchange("orders", "topic").await;
    client.declare_exchange("orders", "topic").await;
    let other =
        DeclareExchangeRequest { name: "orders".into(), r#type: "fanout".into(), ..Default::default() };
    let refused = client.rpc.declare_exchange(other).await;
    assert_refused(refused, Code::FailedPrecondition, &["PRECONDITION_FAILED"]);
    let listed = client
        .rpc
        .list_exchanges(ListExchangesRequest::default())
        .await
        .expect("list")
        .into_inner()
        .exchanges;
    let names: Vec<&str> = listed.iter().map(|exchange| exchange.name.as_str()).collect();
    for name in ["", "amq.direct", "amq.fanout", "amq.topic", "orders"] {
        assert!(names.contains(&name), "{name:?} in {names:?}");
    }
    assert!(names.is_sorted(), "{names:?}");
    let orders = listed.iter().find(|exchange| exchange.name == "orders").expect("orders");
    assert_eq!((orders.r#type.as_str(), orders.durable), ("topic", true));

    client.declare_queue("jobs").await;
    client.bind("orders", "jobs", "#").await;
    let if_unused = DeleteExchangeRequest { name: "orders".into(), if_unused: true, ..Default::default() };
    let refused = client.rpc.delete_exchange(if_unused.clone()).await;
    assert_refused(refused, Code::FailedPrecondition, &["PRECONDITION_FAILED"]);
    unbind(&mut client, "orders", "jobs", "#").await;
    client.rpc.delete_exchange(if_unused).await.expect("delete an unused exchange");
}

#[tokio::test]
async fn reserved_names_are_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let reserved = queue("amq.mine");
    assert_refused(client.rpc.declare_queue(reserved).await, Code::PermissionDenied, &["ACCESS_REFUSED"]);
    let reserved = DeclareExchangeRequest { name: "amq.mine".into(), ..Default::default() };
    assert_refused(client.rpc.declare_exchange(reserved).await, Code::PermissionDenied, &["ACCESS_REFUSED"]);
    client.declare_queue("jobs").await;
    assert_refused(client.rpc.bind(bind("", "jobs", "k")).await, Code::PermissionDenied, &["ACCESS_REFUSED"]);
    let default = DeleteExchangeRequest { name: "amq.direct".into(), ..Default::default() };
    assert_refused(client.rpc.delete_exchange(default).await, Code::PermissionDenied, &["ACCESS_REFUSED"]);
}

#[tokio::test]
async fn direct_routing_and_unbind() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_exchange("x", "direct").await;
    client.declare_queue("a").await;
    client.declare_queue("b").await;
    client.bind("x", "a", "red").await;
    client.bind("x", "b", "red").await;
    client.bind("x", "b", "blue").await;
    // Twice over two bindings, once in the queue; a binding made twice is one.
    client.bind("x", "b", "blue").await;
    assert_eq!(send(&mut client, "x", "red").await, (PublishOutcome::Routed, 2));
    assert_eq!(send(&mut client, "x", "blue").await, (PublishOutcome::Routed, 1));
    assert_eq!(send(&mut client, "x", "green").await, (PublishOutcome::Unrouted, 0));
    unbind(&mut client, "x", "b", "red").await;
    unbind(&mut client, "x", "b", "red").await;
    assert_eq!(send(&mut client, "x", "red").await, (PublishOutcome::Routed, 1));
    assert_eq!(client.drain("a").await, ["red", "red"]);
    assert_eq!(client.drain("b").await, ["red", "blue"]);
}

#[tokio::test]
async fn fanout_and_topic_routing() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_exchange("fan", "fanout").await;
    client.declare_exchange("top", "topic").await;
    for name in ["a", "b", "c"] {
        client.declare_queue(name).await;
        client.bind("fan", name, "").await;
    }
    assert_eq!(send(&mut client, "fan", "whatever").await, (PublishOutcome::Routed, 3));
    for name in ["a", "b", "c"] {
        assert_eq!(client.drain(name).await, ["whatever"]);
    }
    for (name, pattern) in [("a", "order.*.eu"), ("b", "order.#"), ("c", "#.eu")] {
        client.bind("top", name, pattern).await;
    }
    for key in ["order.new.eu", "order", "order.new", "eu", "order..eu", "other"] {
        send(&mut client, "top", key).await;
    }
    assert_eq!(client.drain("a").await, ["order.new.eu", "order..eu"]);
    assert_eq!(client.drain("b").await, ["order.new.eu", "order", "order.new", "order..eu"]);
    assert_eq!(client.drain("c").await, ["order.new.eu", "eu", "order..eu"]);
}

#[tokio::test]
async fn exchange_to_exchange_routes_once_per_queue_and_cuts_cycles() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_exchange("in", "direct").await;
    client.declare_exchange("out", "fanout").await;
    client.declare_queue("jobs").await;
    bind_exchange(&mut client, "in", "out", "k").await;
    bind_exchange(&mut client, "out", "in", "k").await;
    client.bind("out", "jobs", "").await;
    client.bind("in", "jobs", "k").await;
    assert_eq!(send(&mut client, "in", "k").await, (PublishOutcome::Routed, 1));
    assert_eq!(client.drain("jobs").await, ["k"]);
}

#[tokio::test]
async fn an_internal_exchange_takes_no_publish_from_clients() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let internal = DeclareExchangeRequest {
        name: "inside".into(),
        r#type: "fanout".into(),
        internal: true,
        ..Default::default()
    };
    client.rpc.declare_exchange(internal).await.expect("declare");
    client.declare_exchange("outside", "fanout").await;
    client.declare_queue("jobs").await;
    bind_exchange(&mut client, "outside", "inside", "").await;
    client.bind("inside", "jobs", "").await;
    let results = client.publish_batch(vec![to_exchange("inside", "", "no")]).await;
    assert_eq!(results[0].outcome(), PublishOutcome::Rejected);
    assert_eq!(results[0].error.as_ref().map(|error| error.reason.as_str()), Some("ACCESS_REFUSED"));
    assert_eq!(send(&mut client, "outside", "yes").await, (PublishOutcome::Routed, 1));
}

#[tokio::test]
async fn bindings_are_listed_and_go_with_their_ends() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_exchange("x", "direct").await;
    client.declare_queue("a").await;
    client.bind("x", "a", "k").await;
    let listed = bindings(&mut client).await;
    assert!(listed.contains(&("".into(), "a".into(), "a".into())), "the default exchange's too: {listed:?}");
    assert!(listed.contains(&("x".into(), "a".into(), "k".into())), "{listed:?}");
    client.delete_queue("a").await;
    assert_eq!(bindings(&mut client).await, []);
    let missing = client.rpc.bind(bind("x", "a", "k")).await;
    assert_refused(missing, Code::NotFound, &["QUEUE_NOT_FOUND"]);
    client.declare_queue("a").await;
    let missing = client.rpc.bind(bind("nowhere", "a", "k")).await;
    assert_refused(missing, Code::NotFound, &["EXCHANGE_NOT_FOUND"]);
}

#[tokio::test]
async fn auto_delete_goes_with_the_last_user() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client
        .rpc
        .declare_queue(DeclareQueueRequest { auto_delete: true, ..queue("brief") })
        .await
        .expect("declare");
    let consumer = ConsumeLane::on(&server.client().await, "brief", 1).await;
    drop(consumer);
    for _ in 0..500 {
        if client.queue_names().await.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(client.queue_names().await, Vec::<String>::new());

    let exchange = DeclareExchangeRequest {
        name: "brief".into(),
        r#type: "fanout".into(),
        auto_delete: true,
        ..Default::default()
    };
    client.rpc.declare_exchange(exchange).await.expect("declare");
    client.declare_queue("a").await;
    client.bind("brief", "a", "").await;
    unbind(&mut client, "brief", "a", "").await;
    let listed = client
        .rpc
        .list_exchanges(ListExchangesRequest::default())
        .await
        .expect("list")
        .into_inner()
        .exchanges;
    assert!(listed.iter().all(|exchange| exchange.name != "brief"));
}

#[tokio::test]
async fn arguments_are_kept_and_listed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let arguments = Table {
        entries: vec![TableEntry {
            name: "team".into(),
            value: Some(Value { kind: Some(value::Kind::Text("billing".into())) }),
        }],
    };
    let declare = DeclareQueueRequest { arguments: Some(arguments.clone()), ..queue("jobs") };
    client.rpc.declare_queue(declare).await.expect("an argument that nobody knows is kept");
    assert_eq!(client.queue_info("jobs").await.arguments, Some(arguments.clone()));
    let server = server.kill_and_restart().await;
    let mut client = server.client().await;
    assert_eq!(client.queue_info("jobs").await.arguments, Some(arguments));
}

async fn send(client: &mut Client, exchange: &str, key: &str) -> (PublishOutcome, u32) {
    let results = client.publish_batch(vec![to_exchange(exchange, key, Bytes::from(key.to_string()))]).await;
    assert_eq!(results.len(), 1);
    (results[0].outcome(), results[0].queues)
}

async fn unbind(client: &mut Client, exchange: &str, queue: &str, key: &str) {
    let request = UnbindRequest { vhost: String::new(), binding: bind(exchange, queue, key).binding };
    client.rpc.unbind(request).await.expect("unbind");
}

async fn bind_exchange(client: &mut Client, source: &str, destination: &str, key: &str) {
    let binding = Binding {
        source: source.into(),
        destination: destination.into(),
        destination_kind: DestinationKind::Exchange.into(),
        routing_key: key.into(),
        arguments: None,
    };
    client
        .rpc
        .bind(BindRequest { vhost: String::new(), binding: Some(binding) })
        .await
        .expect("bind an exchange");
}

async fn bindings(client: &mut Client) -> Vec<(String, String, String)> {
    let listed =
        client.rpc.list_bindings(ListBindingsRequest::default()).await.expect("list").into_inner().bindings;
    listed.into_iter().map(|b| (b.source, b.destination, b.routing_key)).collect()
}

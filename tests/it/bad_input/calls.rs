//! Calls that cannot be done.

use leveret_proto::v1::{
    AckRequest, BindRequest, Binding, ConsumeOpen, DeclareExchangeRequest, DeclareQueueRequest,
    DestinationKind, GetRequest, ListQueuesRequest, Message, Properties, PublishMessage, PublishRequest,
    PurgeQueueRequest, SubscribeRequest, Table, TableEntry, Value, value,
};
use leveret_tests::client::{Client, assert_refused, bind, queue, to_queue};
use leveret_tests::server::Server;
use leveret_tests::streams::{ConsumeLane, PublishLane};
use tonic::Code;

/// A server with another client at work, which must not notice anything.
struct Scene {
    _server: Server,
    client: Client,
    bystander: Client,
    consumer: ConsumeLane,
}

impl Scene {
    async fn set() -> Self {
        let server = Server::start().await;
        let client = server.client().await;
        let mut bystander = server.client().await;
        bystander.declare_queue("bystander").await;
        let consumer = ConsumeLane::on(&bystander, "bystander", 10).await;
        Self { _server: server, client, bystander, consumer }
    }

    /// The other client's publish, delivery and ack still work, and so does the offender's connection.
    async fn others_go_on(mut self) {
        self.bystander.publish("bystander", "still here").await;
        let delivery = self.consumer.next().await;
        self.consumer.settle_and_wait(&delivery, leveret_proto::v1::SettleKind::Ack).await;
        self.client.declare_queue("offender").await;
    }
}

#[tokio::test]
async fn unknown_queues() {
    let mut scene = Scene::set().await;
    let client = &mut scene.client;
    let missing = GetRequest { queue: "nowhere".into(), ..Default::default() };
    let status = assert_refused(client.rpc.get(missing).await, Code::NotFound, &["QUEUE_NOT_FOUND"]);
    assert!(status.message().contains("nowhere"), "{status:?}");
    let missing = PurgeQueueRequest { name: "nowhere".into(), ..Default::default() };
    assert_refused(client.rpc.purge_queue(missing).await, Code::NotFound, &["QUEUE_NOT_FOUND"]);
    let missing = ListQueuesRequest { name: "nowhere".into(), ..Default::default() };
    assert_refused(client.rpc.list_queues(missing).await, Code::NotFound, &["QUEUE_NOT_FOUND"]);
    let missing = SubscribeRequest { queue: "nowhere".into(), ..Default::default() };
    assert_refused(client.rpc.subscribe(missing).await, Code::NotFound, &["QUEUE_NOT_FOUND"]);
    let missing = ConsumeOpen { queue: "nowhere".into(), ..Default::default() };
    assert_refused(ConsumeLane::try_open(client, missing).await, Code::NotFound, &["QUEUE_NOT_FOUND"]);
    assert_refused(
        client.rpc.bind(bind("amq.direct", "nowhere", "k")).await,
        Code::NotFound,
        &["QUEUE_NOT_FOUND"],
    );
    scene.others_go_on().await;
}

#[tokio::test]
async fn unknown_exchanges_and_types() {
    let mut scene = Scene::set().await;
    let client = &mut scene.client;
    let missing = DeclareExchangeRequest { name: "nowhere".into(), passive: true, ..Default::default() };
    assert_refused(client.rpc.declare_exchange(missing).await, Code::NotFound, &["EXCHANGE_NOT_FOUND"]);
    let missing = bind("nowhere", "bystander", "k");
    assert_refused(client.rpc.bind(missing).await, Code::NotFound, &["EXCHANGE_NOT_FOUND"]);
    let odd = DeclareExchangeRequest { name: "odd".into(), r#type: "x-odd".into(), ..Default::default() };
    let status = assert_refused(
        client.rpc.declare_exchange(odd).await,
        Code::FailedPrecondition,
        &["PRECONDITION_FAILED", "INVALID_ARGUMENT"],
    );
    assert!(status.message().contains("x-odd"), "{status:?}");
    scene.others_go_on().await;
}

#[tokio::test]
async fn unknown_vhosts() {
    let mut scene = Scene::set().await;
    let declare = DeclareQueueRequest { vhost: "nowhere".into(), ..queue("jobs") };
    let status = scene.client.rpc.declare_queue(declare).await.expect_err("only the default vhost exists");
    assert!(matches!(status.code(), Code::NotFound | Code::FailedPrecondition), "{status:?}");
    assert!(!leveret_tests::client::reason(&status).is_empty(), "{status:?}");
    // "/" and "" are the same one.
    let same = DeclareQueueRequest { vhost: "/".into(), passive: true, ..queue("bystander") };
    scene.client.rpc.declare_queue(same).await.expect("the default vhost by name");
    scene.others_go_on().await;
}

#[tokio::test]
async fn ack_ids_that_name_nothing() {
    let mut scene = Scene::set().await;
    let ack_ids = vec![String::new(), "nonsense".into(), "\u{0}\u{7f}".into(), "A".repeat(10_000)];
    let count = ack_ids.len();
    let results =
        scene.client.rpc.ack(AckRequest { ack_ids }).await.expect("the call goes well").into_inner().results;
    assert_eq!(results.len(), count);
    for result in results {
        let error = result.error.expect("an error for each");
        assert_eq!((error.code, error.reason.as_str()), (Code::InvalidArgument as i32, "ACK_ID_MALFORMED"));
    }
    assert!(
        scene
            .client
            .rpc
            .ack(AckRequest::default())
            .await
            .expect("nothing to do")
            .into_inner()
            .results
            .is_empty()
    );
    scene.others_go_on().await;
}

#[tokio::test]
async fn a_changed_ack_id_settles_nothing() {
    let mut scene = Scene::set().await;
    let client = &mut scene.client;
    client.declare_queue("jobs").await;
    client.publish("jobs", "a").await;
    let taken = client.get("jobs", 1).await;
    let good = taken[0].ack_id.clone();
    let mut changed = Vec::new();
    for at in 0..good.len() {
        let mut letters: Vec<char> = good.chars().collect();
        letters[at] = if letters[at] == 'A' { 'B' } else { 'A' };
        let id: String = letters.into_iter().collect();
        if !id.eq_ignore_ascii_case(&good) {
            changed.push(id);
        }
    }
    client.rpc.ack(AckRequest { ack_ids: changed }).await.expect("the call goes well");
    assert_eq!(client.queue_info("jobs").await.messages_unacknowledged, 1, "still out");
    client.ack(&taken).await;
    scene.others_go_on().await;
}

#[tokio::test]
async fn names_that_are_too_long_or_empty() {
    let mut scene = Scene::set().await;
    let client = &mut scene.client;
    // 255 bytes are fine, in two-byte letters too.
    client.declare_queue(&"q".repeat(255)).await;
    client.declare_queue(&format!("{}x", "ü".repeat(127))).await;
    for name in ["q".repeat(256), "ü".repeat(128), "q".repeat(100_000)] {
        let long = DeclareQueueRequest { name: name.clone(), ..Default::default() };
        let refused = client.rpc.declare_queue(long).await;
        assert_refused(refused, Code::InvalidArgument, &["INVALID_ARGUMENT"]);
        let long = DeclareExchangeRequest { name: name.clone(), ..Default::default() };
        assert_refused(client.rpc.declare_exchange(long).await, Code::InvalidArgument, &["INVALID_ARGUMENT"]);
        let long = PublishRequest { messages: vec![to_queue(&name, "x")], ..Default::default() };
        assert_refused(client.rpc.publish(long).await, Code::InvalidArgument, &["INVALID_ARGUMENT"]);
        let long = bind("amq.direct", "bystander", &name);
        assert_refused(client.rpc.bind(long).await, Code::InvalidArgument, &["INVALID_ARGUMENT"]);
        let long = ConsumeOpen { queue: "bystander".into(), consumer_tag: name, ..Default::default() };
        assert_refused(
            ConsumeLane::try_open(client, long).await,
            Code::InvalidArgument,
            &["INVALID_ARGUMENT"],
        );
    }
    let empty = GetRequest::default();
    assert_refused(client.rpc.get(empty).await, Code::InvalidArgument, &["INVALID_ARGUMENT"]);
    scene.others_go_on().await;
}

#[tokio::test]
async fn a_publish_that_cannot_be_done_ends_only_its_stream() {
    let mut scene = Scene::set().await;
    let mut lane = PublishLane::open(&scene.client).await;
    lane.send(vec![to_queue("bystander", "fine")]);
    lane.confirmed(1).await;
    lane.send(vec![to_queue(&"q".repeat(256), "not fine")]);
    // Either this message's own error, or the stream's.
    match lane.next().await {
        Ok(Some(response)) => {
            let error = response.exceptions[0].error.as_ref().expect("an error");
            assert_eq!(error.code, Code::InvalidArgument as i32);
        }
        other => {
            assert_refused(other, Code::InvalidArgument, &["INVALID_ARGUMENT"]);
        }
    }
    assert_eq!(leveret_tests::client::body(&scene.consumer.next().await), "fine");
    scene.others_go_on().await;
}

#[tokio::test]
async fn bodies_over_the_limit() {
    let mut scene = Scene::set().await;
    // The tests' servers take 512 KiB.
    let limit = 512 << 10;
    let client = &mut scene.client;
    client.declare_queue("jobs").await;
    let large = PublishRequest { messages: vec![to_queue("jobs", vec![0; limit + 1])], ..Default::default() };
    let status =
        assert_refused(client.rpc.publish(large).await, Code::InvalidArgument, &["MESSAGE_TOO_LARGE"]);
    assert!(status.message().contains(&limit.to_string()), "the limit is named: {status:?}");
    client.publish("jobs", vec![0; limit - 1000]).await;
    // A large one in a batch: all of it or none of it.
    let batch = vec![to_queue("jobs", "small"), to_queue("jobs", vec![0; limit + 1])];
    let refused = client.rpc.publish(PublishRequest { messages: batch, ..Default::default() }).await;
    assert_refused(refused, Code::InvalidArgument, &["MESSAGE_TOO_LARGE"]);
    assert_eq!(client.queue_info("jobs").await.messages, 1);
    scene.others_go_on().await;
}

#[tokio::test]
async fn a_request_far_over_the_limit() {
    let mut scene = Scene::set().await;
    let client = &mut scene.client;
    client.declare_queue("jobs").await;
    let huge = PublishRequest { messages: vec![to_queue("jobs", vec![0; 150 << 20])], ..Default::default() };
    let status = client.rpc.publish(huge).await.expect_err("refused");
    let codes = [Code::InvalidArgument, Code::OutOfRange, Code::ResourceExhausted];
    assert!(codes.contains(&status.code()), "{status:?}");
    assert_eq!(client.queue_info("jobs").await.messages, 0);
    scene.others_go_on().await;
}

#[tokio::test]
async fn properties_out_of_range() {
    let mut scene = Scene::set().await;
    let long = Some("p".repeat(256));
    for properties in [
        Properties { priority: Some(256), ..Default::default() },
        Properties { delivery_mode: Some(1000), ..Default::default() },
        Properties { content_type: long.clone(), ..Default::default() },
        Properties { message_id: long, ..Default::default() },
        Properties { headers: Some(one("k".repeat(256), value::Kind::Bool(true))), ..Default::default() },
        Properties { headers: Some(one("k".into(), value::Kind::Uint8(256))), ..Default::default() },
        Properties { headers: Some(one("k".into(), value::Kind::Int16(40_000))), ..Default::default() },
        Properties { headers: Some(nested(30)), ..Default::default() },
        Properties { headers: Some(nested(500)), ..Default::default() },
    ] {
        let message = Message { properties: Some(Box::new(properties.clone())), ..Default::default() };
        let publish =
            PublishMessage { routing_key: "bystander".into(), message: Some(message), ..Default::default() };
        let refused =
            scene.client.rpc.publish(PublishRequest { messages: vec![publish], ..Default::default() }).await;
        let status = refused.expect_err("a value out of range");
        // Very deep nesting is refused by the decoder, before a handler of ours sees it.
        let expected =
            if status.message().contains("recursion") { Code::Internal } else { Code::InvalidArgument };
        assert_eq!(status.code(), expected, "{properties:?}: {status:?}");
    }
    scene.others_go_on().await;
}

#[tokio::test]
async fn arguments_of_the_wrong_type() {
    let mut scene = Scene::set().await;
    for (name, kind) in [
        ("x-message-ttl", value::Kind::Text("soon".into())),
        ("x-max-length", value::Kind::Int64(-1)),
        ("x-expires", value::Kind::Int64(0)),
        ("x-overflow", value::Kind::Text("explode".into())),
        ("x-queue-type", value::Kind::Int64(1)),
        ("x-dead-letter-exchange", value::Kind::Bool(true)),
    ] {
        let declare = DeclareQueueRequest { arguments: Some(one(name.into(), kind.clone())), ..queue("odd") };
        let status = scene.client.rpc.declare_queue(declare).await.expect_err("a wrong argument");
        let codes = [Code::FailedPrecondition, Code::InvalidArgument, Code::Unimplemented];
        assert!(codes.contains(&status.code()), "{name}={kind:?}: {status:?}");
        assert!(!leveret_tests::client::reason(&status).is_empty(), "{status:?}");
        assert!(status.message().contains(name), "the argument is named: {status:?}");
    }
    assert!(!scene.client.queue_names().await.contains(&"odd".into()), "nothing was declared");
    scene.others_go_on().await;
}

#[tokio::test]
async fn an_exclusive_declare_needs_a_session() {
    let mut scene = Scene::set().await;
    let exclusive = DeclareQueueRequest { exclusive: true, ..queue("mine") };
    let refused = scene.client.rpc.declare_queue(exclusive).await;
    let status = assert_refused(refused, Code::InvalidArgument, &["SESSION_REQUIRED"]);
    assert!(status.message().contains("ession"), "it says what to do: {status:?}");
    let unnamed = scene.client.rpc.declare_queue(queue("")).await;
    assert_refused(unnamed, Code::InvalidArgument, &["SESSION_REQUIRED", "INVALID_ARGUMENT"]);
    scene.others_go_on().await;
}

#[tokio::test]
async fn streams_that_begin_or_go_on_wrongly() {
    use leveret_proto::v1::{ConsumeRequest, ConsumeSettle, SettleKind, consume_request::Action};
    let mut scene = Scene::set().await;
    let settle = |kind: i32| Action::Settle(ConsumeSettle { delivery_tag: 1, multiple: false, kind });
    let open = || Action::Open(ConsumeOpen { queue: "bystander".into(), ..Default::default() });
    let ack = SettleKind::Ack.into();
    for actions in
        [vec![Some(settle(ack))], vec![None], vec![Some(open()), Some(open())], vec![Some(open()), None]]
    {
        let wrong = actions.clone();
        let requests: Vec<_> = actions.into_iter().map(|action| ConsumeRequest { action }).collect();
        // Never half-closed: the server must end the stream by itself.
        let endless = tokio_stream::StreamExt::chain(tokio_stream::iter(requests), tokio_stream::pending());
        let mut responses = scene.client.rpc.consume(endless).await.expect("headers").into_inner();
        let status = loop {
            match responses.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{wrong:?} ended well"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::InvalidArgument, "{wrong:?}: {status:?}");
    }
    let mut lane = ConsumeLane::on(&scene.client, "bystander", 1).await;
    lane.settle(1, false, SettleKind::Unspecified);
    let status = lane.next_or_end().await.expect_err("a settle must say how");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    scene.others_go_on().await;
}

#[tokio::test]
async fn bindings_that_are_missing_or_odd() {
    let mut scene = Scene::set().await;
    let missing = scene.client.rpc.bind(BindRequest::default()).await;
    assert_refused(missing, Code::InvalidArgument, &["INVALID_ARGUMENT"]);
    let odd = Binding {
        source: "amq.direct".into(),
        destination: "bystander".into(),
        destination_kind: 99,
        ..Default::default()
    };
    let refused = scene.client.rpc.bind(BindRequest { vhost: String::new(), binding: Some(odd) }).await;
    assert_refused(refused, Code::InvalidArgument, &["INVALID_ARGUMENT"]);
    let nowhere = Binding {
        source: "amq.direct".into(),
        destination: "nowhere".into(),
        destination_kind: DestinationKind::Exchange.into(),
        ..Default::default()
    };
    let refused = scene.client.rpc.bind(BindRequest { vhost: String::new(), binding: Some(nowhere) }).await;
    assert_refused(refused, Code::NotFound, &["EXCHANGE_NOT_FOUND"]);
    scene.others_go_on().await;
}

fn one(name: String, kind: value::Kind) -> Table {
    Table { entries: vec![TableEntry { name, value: Some(Value { kind: Some(kind) }) }] }
}

/// Tables in tables.
fn nested(depth: usize) -> Table {
    (0..depth).fold(Table::default(), |inner, _| one("t".into(), value::Kind::Table(inner)))
}

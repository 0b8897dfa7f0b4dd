//! Across protocols: what pika publishes is the same to a gRPC client, and back; queues belong to both.

use leveret_proto::v1::value::Kind;
use leveret_proto::v1::{
    Array, Decimal, DeclareQueueRequest, GetRequest, Message, Properties, PublishMessage, Table, TableEntry,
    Value, message,
};
use leveret_tests::amqp::{Connection, calls, method};
use leveret_tests::client;
use leveret_tests::server::Server;
use tonic::Code;

use super::{python, run};

fn entry(name: &str, kind: Option<Kind>) -> TableEntry {
    TableEntry { name: name.into(), value: Some(Value { kind }) }
}

fn text(text: &str) -> Option<Kind> {
    Some(Kind::Text(text.into()))
}

fn table(entries: Vec<TableEntry>) -> Option<Kind> {
    Some(Kind::Table(Table { entries }))
}

fn array(kinds: Vec<Option<Kind>>) -> Option<Kind> {
    Some(Kind::Array(Array { values: kinds.into_iter().map(|kind| Value { kind }).collect() }))
}

/// What cross.py sends, type by type.
fn headers_of_pika() -> Table {
    let deep = table(vec![entry("deeper", Some(Kind::Bool(true)))]);
    Table {
        entries: vec![
            entry("text", text("grüße")),
            entry("bytes", Some(Kind::ByteArray(vec![0, 0xff, 0x80].into()))),
            entry("yes", Some(Kind::Bool(true))),
            entry("no", Some(Kind::Bool(false))),
            entry("int", Some(Kind::Int32(i32::MIN))),
            entry("long", Some(Kind::Int64(7))),
            entry("large", Some(Kind::Int64(1 << 62))),
            entry("decimal", Some(Kind::Decimal(Decimal { scale: 2, number: 12345 }))),
            entry("time", Some(Kind::Timestamp(1_700_000_000))),
            entry("void", None),
            entry("table", table(vec![entry("deep", deep), entry("n", Some(Kind::Int32(-1)))])),
            entry(
                "array",
                array(vec![
                    text("a"),
                    Some(Kind::Int32(1)),
                    array(vec![Some(Kind::Bool(true)), None]),
                    table(vec![entry("in", text("array"))]),
                ]),
            ),
            entry("empty", table(Vec::new())),
            entry("none", array(Vec::new())),
        ],
    }
}

/// What cross.py expects.
fn headers_to_pika() -> Table {
    let deep = table(vec![entry("deeper", Some(Kind::Bool(true)))]);
    Table {
        entries: vec![
            entry("text", text("grüße")),
            entry("int64", Some(Kind::Int64(i64::MIN))),
            entry("bool", Some(Kind::Bool(false))),
            entry("double", Some(Kind::Double(1.5e300))),
            entry("bytes", Some(Kind::Bytes(vec![0, 0xff, 0x80].into()))),
            entry("timestamp", Some(Kind::Timestamp(1_700_000_000))),
            entry("table", table(vec![entry("deep", deep), entry("n", Some(Kind::Int64(-1)))])),
            entry("array", array(vec![text("a"), Some(Kind::Int32(1)), None])),
            entry("int8", Some(Kind::Int8(-128))),
            entry("uint8", Some(Kind::Uint8(255))),
            entry("int16", Some(Kind::Int16(-32768))),
            entry("uint16", Some(Kind::Uint16(65535))),
            entry("int32", Some(Kind::Int32(i32::MIN))),
            entry("uint32", Some(Kind::Uint32(u32::MAX))),
            // pika reads floating point numbers as whole ones.
            entry("float", Some(Kind::Float(2.0))),
            entry("decimal", Some(Kind::Decimal(Decimal { scale: 2, number: 12345 }))),
            entry("byte_array", Some(Kind::ByteArray(vec![1, 2, 3].into()))),
            entry("void", None),
            entry("", text("empty name")),
        ],
    }
}

fn properties(headers: Table) -> Properties {
    Properties {
        content_type: Some("text/plain".into()),
        content_encoding: Some("identity".into()),
        headers: Some(headers),
        priority: Some(9),
        correlation_id: Some("c-1".into()),
        reply_to: Some("answers".into()),
        expiration: Some("3600000".into()),
        message_id: Some("m-1".into()),
        timestamp: Some(1_700_000_000),
        r#type: Some("order".into()),
        user_id: Some("guest".into()),
        app_id: Some("shop".into()),
        cluster_id: Some("reserved".into()),
        delivery_mode: Some(2),
    }
}

const BODY: &[u8] = b"body\0\xff";

#[tokio::test]
async fn what_pika_publishes_is_the_same_over_grpc() {
    let Some(python) = python("cross::what_pika_publishes_is_the_same_over_grpc") else { return };
    let server = Server::start().await;
    server.client().await.declare_queue("crossing").await;
    run(python.clone(), server.amqp_port(), &["cross.py", "publish", "crossing"]).await;
    run(python, server.amqp_port(), &["cross.py", "publish", "crossing"]).await;
    // Fresh from memory, and from the log.
    let fresh = server.client().await.get("crossing", 1).await.remove(0);
    server.client().await.ack(std::slice::from_ref(&fresh)).await;
    let server = server.kill_and_restart().await;
    let stored = server.client().await.get("crossing", 1).await.remove(0);
    for delivery in [fresh, stored] {
        assert_eq!(client::body(&delivery), BODY);
        assert_eq!((delivery.exchange.as_str(), delivery.routing_key.as_str()), ("", "crossing"));
        let message = delivery.message.expect("a message");
        assert_eq!(message.persistent, Some(true));
        assert_eq!(message.properties.as_deref(), Some(&properties(headers_of_pika())));
    }
}

#[tokio::test]
async fn what_grpc_publishes_is_the_same_to_pika() {
    let Some(python) = python("cross::what_grpc_publishes_is_the_same_to_pika") else { return };
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("crossing").await;
    let publish = PublishMessage {
        routing_key: "crossing".into(),
        message: Some(Message {
            body: Some(message::Body::Bytes(BODY.into())),
            persistent: None,
            properties: Some(Box::new(properties(headers_to_pika()))),
        }),
        ..Default::default()
    };
    client.publish_batch(vec![publish.clone(), publish]).await;
    run(python.clone(), server.amqp_port(), &["cross.py", "expect", "crossing"]).await;
    let server = server.kill_and_restart().await;
    run(python, server.amqp_port(), &["cross.py", "expect", "crossing"]).await;
}

#[tokio::test]
async fn a_queue_is_the_same_queue_on_both() {
    let Some(python) = python("cross::a_queue_is_the_same_queue_on_both") else { return };
    let server = Server::start().await;
    let mut client = server.client().await;
    // Declared by pika, with a binding; used by gRPC.
    run(python.clone(), server.amqp_port(), &["cross.py", "declare", "shared"]).await;
    let info = client.queue_info("shared").await;
    assert!(info.durable && !info.exclusive && !info.auto_delete, "{info:?}");
    let arguments = Some(Table { entries: vec![entry("x-mine", text("kept"))] });
    let again = DeclareQueueRequest { name: "shared".into(), arguments, ..Default::default() };
    client.rpc.declare_queue(again).await.expect("the same again");
    let transient = DeclareQueueRequest { name: "shared".into(), durable: Some(false), ..Default::default() };
    let refused = client.rpc.declare_queue(transient).await.expect_err("another queue");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let messages = (1..=6).map(|n| client::to_exchange("amq.topic", "from.grpc", n.to_string())).collect();
    client.publish_batch(messages).await;
    // pika takes three and leaves one unacked; gRPC finds the rest, in order.
    run(python, server.amqp_port(), &["cross.py", "take", "shared"]).await;
    let left = client.wait_queue("shared", "what was out", |info| info.messages_ready == 3).await;
    assert_eq!(left.messages, 3);
    let deliveries = client.get("shared", 10).await;
    let bodies: Vec<_> = deliveries.iter().map(client::body).collect();
    assert_eq!(bodies, ["4", "5", "6"]);
    assert!(deliveries[0].redelivered);
}

#[tokio::test]
async fn an_exclusive_queue_of_amqp_is_locked_for_grpc() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut owner = Connection::open(server.amqp_port()).await.expect("a connection");
    owner.channel(1).await.expect("a channel");
    let exclusive = 4;
    let declare = calls::queue("mine", exclusive, &[]);
    owner.call(1, method::QUEUE_DECLARE, &declare, method::QUEUE_DECLARE_OK).await.expect("declare");
    let get = GetRequest { queue: "mine".into(), ..Default::default() };
    let refused = client.rpc.get(get).await.expect_err("another connection's queue");
    assert_eq!(client::reason(&refused), "RESOURCE_LOCKED");
    // Publishing to it is allowed.
    client.publish("mine", "hello").await;
    assert_eq!(owner.get(1, "mine").await.expect("get").expect("a message").body, &b"hello"[..]);
    drop(owner);
    for _ in 0..500 {
        if client.queue_names().await.is_empty() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the queue outlives its connection");
}

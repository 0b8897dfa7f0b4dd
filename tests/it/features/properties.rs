//! All 14 AMQP properties and headers of every type come back as they were sent, over a restart too.

use leveret_proto::v1::{
    Array, Decimal, Delivery, Message, Properties, PublishMessage, Table, TableEntry, Value, message,
    value::Kind,
};
use leveret_tests::server::Server;

fn entry(name: &str, kind: Option<Kind>) -> TableEntry {
    TableEntry { name: name.into(), value: Some(Value { kind }) }
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

/// A value of every type.
fn headers() -> Table {
    let inner = Table {
        entries: vec![
            entry(
                "deep",
                Some(Kind::Table(Table { entries: vec![entry("deeper", Some(Kind::Bool(true)))] })),
            ),
            entry("n", Some(Kind::Int64(-1))),
        ],
    };
    let list =
        Array { values: vec![value(Kind::Text("a".into())), value(Kind::Int32(1)), Value { kind: None }] };
    Table {
        entries: vec![
            entry("text", Some(Kind::Text("grüße".into()))),
            entry("int64", Some(Kind::Int64(i64::MIN))),
            entry("bool", Some(Kind::Bool(false))),
            entry("double", Some(Kind::Double(1.5e300))),
            entry("bytes", Some(Kind::Bytes(vec![0, 0xff, 0x80].into()))),
            entry("timestamp", Some(Kind::Timestamp(1_700_000_000))),
            entry("table", Some(Kind::Table(inner))),
            entry("array", Some(Kind::Array(list))),
            entry("int8", Some(Kind::Int8(-128))),
            entry("uint8", Some(Kind::Uint8(255))),
            entry("int16", Some(Kind::Int16(-32768))),
            entry("uint16", Some(Kind::Uint16(65535))),
            entry("int32", Some(Kind::Int32(i32::MIN))),
            entry("uint32", Some(Kind::Uint32(u32::MAX))),
            entry("float", Some(Kind::Float(0.25))),
            entry("decimal", Some(Kind::Decimal(Decimal { scale: 2, number: 12345 }))),
            entry("byte_array", Some(Kind::ByteArray(vec![1, 2, 3].into()))),
            entry("void", None),
            // A name may stand twice, and an empty one is a name too.
            entry("text", Some(Kind::Text("second".into()))),
            entry("", Some(Kind::Text("empty name".into()))),
        ],
    }
}

fn everything() -> Properties {
    Properties {
        content_type: Some("text/plain".into()),
        content_encoding: Some("identity".into()),
        headers: Some(headers()),
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

async fn round_trip(persistent: Option<bool>, properties: Option<Properties>) -> [Delivery; 2] {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    let publish = PublishMessage {
        routing_key: "jobs".into(),
        message: Some(Message {
            body: Some(message::Body::Bytes("x".into())),
            persistent,
            properties: properties.map(Box::new),
        }),
        ..Default::default()
    };
    client.publish_batch(vec![publish.clone(), publish]).await;
    let before = client.get("jobs", 1).await.remove(0);
    client.ack(std::slice::from_ref(&before)).await;
    let server = server.kill_and_restart().await;
    let after = server.client().await.get("jobs", 1).await.remove(0);
    [before, after]
}

#[tokio::test]
async fn every_property_and_header_type_round_trips() {
    for delivery in round_trip(None, Some(everything())).await {
        let properties = delivery.message.expect("a message").properties.expect("properties");
        assert_eq!(*properties, everything());
    }
}

#[tokio::test]
async fn absent_properties_stay_absent_and_unset_is_persistent() {
    for delivery in round_trip(None, None).await {
        let message = delivery.message.expect("a message");
        assert_eq!(message.persistent, Some(true), "persistent is what unset means");
        let properties = *message.properties.unwrap_or_default();
        assert_eq!(
            Properties { delivery_mode: None, ..properties.clone() },
            Properties::default(),
            "{properties:?}"
        );
    }
}

#[tokio::test]
async fn empty_is_not_absent() {
    let sent = Properties {
        content_type: Some(String::new()),
        headers: Some(Table::default()),
        priority: Some(0),
        timestamp: Some(0),
        delivery_mode: Some(2),
        ..Default::default()
    };
    for delivery in round_trip(None, Some(sent.clone())).await {
        assert_eq!(delivery.message.expect("a message").properties.as_deref(), Some(&sent));
    }
}

//! Guards against anything that is lost or changed between the broker's messages and the interface's.

use std::sync::Arc;

use bytes::Bytes;
use leveret_broker::properties::{PERSISTENT, Properties, inspect};
use leveret_broker::{Message, RefusalKind, Table, Value};
use leveret_proto::v1;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn text() -> impl Strategy<Value = Option<String>> {
    option::of("\\PC{0,60}")
}

fn some_bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Void),
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u8>().prop_map(Value::U8),
        any::<i16>().prop_map(Value::I16),
        any::<u16>().prop_map(Value::U16),
        any::<i32>().prop_map(Value::I32),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        any::<f32>().prop_map(Value::F32),
        any::<f64>().prop_map(Value::F64),
        (any::<u8>(), any::<u32>()).prop_map(|(scale, number)| Value::Decimal { scale, number }),
        some_bytes().prop_map(Value::Bytes),
        "\\PC{0,20}".prop_map(|text| Value::Bytes(text.into())),
        some_bytes().prop_map(Value::ByteArray),
        any::<u64>().prop_map(Value::Timestamp),
    ];
    leaf.prop_recursive(5, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::Array),
            vec(("\\PC{0,10}", inner), 0..4).prop_map(|entries| Value::Table(Table(entries))),
        ]
    })
}

fn table() -> impl Strategy<Value = Table> {
    vec(("\\PC{0,20}", value()), 0..5).prop_map(Table)
}

prop_compose! {
    fn properties()(
        texts in proptest::array::uniform9(text()),
        expiration in option::of(0..1000u32),
        headers in option::of(table()),
        delivery_mode in option::of(any::<u8>()),
        priority in option::of(any::<u8>()),
        timestamp in option::of(any::<u64>()),
    ) -> Properties {
        let [content_type, content_encoding, correlation_id, reply_to, message_id, kind, user_id, app_id,
            cluster_id] = texts;
        // Anything but a number is refused.
        let expiration = expiration.map(|ms| ms.to_string());
        Properties {
            content_type, content_encoding, headers, delivery_mode, priority, correlation_id, reply_to, expiration,
            message_id, timestamp, kind, user_id, app_id, cluster_id,
        }
    }
}

fn message(properties: Bytes, body: Bytes) -> Message {
    Message {
        exchange: Arc::from("x"),
        routing_key: Arc::from("k"),
        persistent: inspect(&properties).is_ok_and(|found| found.delivery_mode == Some(PERSISTENT)),
        properties,
        body,
        received_ms: 0,
        expiration_ms: None,
        dead_lettered: false,
        blob: None,
    }
}

/// Out over the wire, and in again as a publish.
fn there_and_back(message: &Message, body: BodyAs) -> Publish {
    let mut out = publish_message_to(message);
    out.message = Some(message_to(message, body));
    let wire = out.encode_to_vec();
    let back = v1::PublishMessage::decode(wire.as_slice()).unwrap();
    PublishReader::new(1 << 20).read(back, true).unwrap()
}

proptest! {
    #[test]
    fn a_message_that_goes_out_and_in_is_the_same(properties in properties(), body in some_bytes(), text: bool) {
        let before = message(properties.encode().unwrap(), body);
        let after = there_and_back(&before, BodyAs::from_flag(text));
        prop_assert_eq!(after.properties, before.properties);
        prop_assert_eq!(after.body, before.body);
        prop_assert_eq!(after.persistent, before.persistent);
        prop_assert_eq!((after.exchange, after.routing_key), (before.exchange, before.routing_key));
    }

    #[test]
    fn tables_come_back_as_they_were(table in table()) {
        let back = table_from(table_to(table.clone())).unwrap();
        // Through text, because NaN is not equal to itself.
        prop_assert_eq!(format!("{back:?}"), format!("{table:?}"));
    }

    #[test]
    fn persistent_says_the_same_as_the_delivery_mode(
        persistent in option::of(any::<bool>()),
        mode in option::of(any::<u8>()),
        some_properties: bool,
    ) {
        let properties = (some_properties || mode.is_some())
            .then(|| Box::new(v1::Properties { delivery_mode: mode.map(u32::from), ..Default::default() }));
        let encoded = properties_from(persistent, properties).unwrap();
        let is_persistent = inspect(&encoded).unwrap().delivery_mode == Some(PERSISTENT);
        prop_assert_eq!(is_persistent, persistent.unwrap_or(mode.unwrap_or(PERSISTENT) == PERSISTENT));
    }
}

#[test]
fn every_value_has_a_kind_of_its_own() {
    let values = vec![
        Value::Void,
        Value::Bool(true),
        Value::I8(-1),
        Value::U8(1),
        Value::I16(-1),
        Value::U16(1),
        Value::I32(-1),
        Value::U32(1),
        Value::I64(-1),
        Value::F32(1.0),
        Value::F64(1.0),
        Value::Decimal { scale: 2, number: 314 },
        Value::Bytes(Bytes::from_static(b"text")),
        Value::Bytes(Bytes::from_static(&[0xff])),
        Value::ByteArray(Bytes::from_static(b"text")),
        Value::Timestamp(1),
        Value::Array(vec![Value::Void, Value::I64(1)]),
        Value::Table(Table(vec![("k".into(), Value::Void)])),
    ];
    let table = Table(vec![("all".into(), Value::Array(values))]);
    assert_eq!(table_from(table_to(table.clone())).unwrap(), table);
}

#[test]
fn the_simplest_message_is_persistent() {
    let publish = PublishReader::new(10).read(v1::PublishMessage::default(), true).unwrap();
    assert!(publish.persistent);
    assert_eq!(
        publish.properties.as_ref(),
        Properties { delivery_mode: Some(PERSISTENT), ..Properties::default() }.encode().unwrap()
    );
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    let field = |refusal: Refusal| {
        assert_eq!(refusal.kind, RefusalKind::InvalidArgument);
        refusal.details.into_iter().find(|(key, _)| *key == "field").unwrap().1
    };
    let publish = |change: &dyn Fn(&mut v1::PublishMessage, &mut v1::Properties)| {
        let mut message = v1::PublishMessage::default();
        let mut properties = Box::<v1::Properties>::default();
        change(&mut message, &mut properties);
        message.message = Some(v1::Message { properties: Some(properties), ..Default::default() });
        field(PublishReader::new(10).read(message, true).unwrap_err())
    };
    assert_eq!(publish(&|m, _| m.exchange = "x".repeat(256)), "exchange");
    assert_eq!(publish(&|m, _| m.routing_key = "x".repeat(256)), "routing_key");
    assert_eq!(publish(&|_, p| p.app_id = Some("x".repeat(256))), "app_id");
    assert_eq!(publish(&|_, p| p.priority = Some(256)), "priority");
    assert_eq!(publish(&|_, p| p.delivery_mode = Some(256)), "delivery_mode");
    let value = |kind| {
        let entry = v1::TableEntry { name: "k".into(), value: Some(v1::Value { kind: Some(kind) }) };
        field(table_from(v1::Table { entries: vec![entry] }).unwrap_err())
    };
    assert_eq!(value(Kind::Int8(128)), "int8");
    assert_eq!(value(Kind::Uint8(256)), "uint8");
    assert_eq!(value(Kind::Int16(-32_769)), "int16");
    assert_eq!(value(Kind::Uint16(65_536)), "uint16");
    assert_eq!(value(Kind::Decimal(v1::Decimal { scale: 256, number: 1 })), "scale");
    let long = v1::TableEntry { name: "x".repeat(256), value: None };
    assert_eq!(field(table_from(v1::Table { entries: vec![long] }).unwrap_err()), "name");
}

#[test]
fn a_body_over_the_limit_is_too_large() {
    let mut message = v1::PublishMessage::default();
    message.message =
        Some(v1::Message { body: Some(v1::message::Body::Text("x".repeat(11))), ..Default::default() });
    assert_eq!(PublishReader::new(10).read(message, true).unwrap_err().kind, RefusalKind::TooLarge);
}

#[test]
fn the_deepest_table_survives_the_wire() {
    let mut value = Value::Void;
    for level in 1..NESTING_MAX {
        value = if level % 2 == 0 {
            Value::Array(vec![value])
        } else {
            Value::Table(Table(vec![("t".into(), value)]))
        };
    }
    let headers = Some(Table(vec![("t".into(), value)]));
    let properties = Properties { headers, ..Properties::default() }.encode().unwrap();
    let delivery = v1::Delivery {
        message: Some(message_to(&message(properties.clone(), Bytes::new()), BodyAs::Bytes)),
        ..Default::default()
    };
    let wire = v1::ConsumeResponse { deliveries: vec![delivery], ..Default::default() }.encode_to_vec();
    let back = v1::ConsumeResponse::decode(wire.as_slice()).unwrap();
    let back = back.deliveries.into_iter().next().unwrap().message.unwrap();
    assert_eq!(properties_from(back.persistent, back.properties).unwrap(), properties);
}

#[test]
fn a_delivery_with_broken_properties_keeps_its_body() {
    let out = message_to(&message(Bytes::from_static(&[0x80]), Bytes::from_static(b"body")), BodyAs::Text);
    assert_eq!(out.body, Some(v1::message::Body::Text("body".into())));
    assert_eq!(out.properties, None);
}

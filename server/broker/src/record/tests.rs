//! Golden bytes: what is on a disk must stay readable.

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::fact::{
    BindingFact, DefaultsFact, ExchangeFact, Fact, FactError, LevelFact, PermissionFact, QueueFact,
    TopicPermissionFact, UserFact, VhostFact, fields, table,
};
use super::{MessageError, decode_message, encode_message_header};
use crate::input::{Binding, DestinationKind};
use crate::message::Message;
use crate::value::{Table, Value};

fn message() -> Message {
    Message {
        exchange: Arc::from("ex"),
        routing_key: Arc::from("key"),
        properties: Bytes::from_static(&[0x10, 0, 2]),
        body: Bytes::from_static(b"body"),
        received_ms: 0x0102_0304_0506_0708,
        persistent: true,
        expiration_ms: None,
        dead_lettered: false,
        blob: None,
    }
}

fn joined(message: &Message) -> Bytes {
    let mut record = Vec::new();
    encode_message_header(message, &mut record);
    record.extend_from_slice(&message.body);
    Bytes::from(record)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn every_value() -> Table {
    let bytes = |b: &'static [u8]| Bytes::from_static(b);
    let values = vec![
        Value::Void,
        Value::Bool(true),
        Value::I8(-1),
        Value::U8(255),
        Value::I16(-2),
        Value::U16(65_535),
        Value::I32(-3),
        Value::U32(u32::MAX),
        Value::I64(i64::MIN),
        Value::F32(1.5),
        Value::F64(-0.0),
        Value::Decimal { scale: 2, number: 314 },
        Value::Bytes(bytes(b"\xff\x00")),
        Value::ByteArray(bytes(b"raw")),
        Value::Timestamp(1_700_000_000),
        Value::Array(vec![Value::I32(1), Value::Array(vec![]), Value::Bytes(bytes(b"x"))]),
        Value::Table(Table(vec![("n".into(), Value::Table(Table::default()))])),
    ];
    Table(values.into_iter().enumerate().map(|(n, v)| (format!("a{n}"), v)).collect())
}

#[test]
fn message_bytes() {
    let expected = concat!(
        "01",
        "01",
        "0807060504030201",
        "0200",
        "6578",
        "0300",
        "6b6579",
        "03000000",
        "100002",
        "626f6479"
    );
    assert_eq!(hex(&joined(&message())), expected);
}

#[test]
fn a_message_that_expires_says_so_behind_its_time() {
    let dead = Message { expiration_ms: Some(60_000), dead_lettered: true, persistent: false, ..message() };
    let expected = concat!(
        "01",
        "06",
        "0807060504030201",
        "60ea000000000000",
        "0200",
        "6578",
        "0300",
        "6b6579",
        "03000000",
        "100002",
        "626f6479"
    );
    assert_eq!(hex(&joined(&dead)), expected);
    assert_eq!(decode_message(&joined(&dead)), Ok(dead));
}

#[test]
fn a_message_is_sliced_out_of_its_record() {
    let record = joined(&message());
    let decoded = decode_message(&record).unwrap();
    assert_eq!(decoded, message());
    let inside = record.as_ptr_range();
    assert!(inside.contains(&decoded.body.as_ptr()) && inside.contains(&decoded.properties.as_ptr()));
}

#[test]
fn bad_messages() {
    let record = joined(&message());
    for cut in 0..record.len() - message().body.len() {
        assert_eq!(decode_message(&record.slice(..cut)), Err(MessageError::Short(cut)));
    }
    let changed = |at: usize, byte: u8| {
        let mut bytes = record.to_vec();
        bytes[at] = byte;
        decode_message(&Bytes::from(bytes))
    };
    assert_eq!(changed(0, 0), Err(MessageError::Version(0)), "zeroed bytes do not parse");
    assert_eq!(changed(0, 2), Err(MessageError::Version(2)));
    assert_eq!(changed(1, 9), Err(MessageError::Flags(9)));
    assert_eq!(changed(12, 0xff), Err(MessageError::Utf8));
    assert!(matches!(changed(20, 0xff), Err(MessageError::Short(_))));
}

fn exchange_fact() -> Fact {
    Fact::Exchange(ExchangeFact {
        vhost: "/".into(),
        name: "ex".into(),
        kind: "topic".into(),
        auto_delete: true,
        internal: true,
        arguments: fields(&Table(vec![("k".into(), Value::I32(-1))])),
    })
}

fn queue_fact() -> Fact {
    Fact::Queue(QueueFact {
        vhost: "/".into(),
        name: "q".into(),
        queue: 300,
        auto_delete: false,
        arguments: fields(&Table(vec![("x-queue-mode".into(), Value::Bytes(Bytes::from_static(b"lazy")))])),
        ..QueueFact::default()
    })
}

/// A queue that uses its priorities, and was sent messages that expire.
fn levelled_fact() -> Fact {
    let level = |priority, queue| LevelFact { priority, queue };
    Fact::Queue(QueueFact {
        vhost: "/".into(),
        name: "q".into(),
        queue: 300,
        levels: vec![level(3, 301), level(255, 302)],
        expiring: true,
        ..QueueFact::default()
    })
}

fn binding_fact(arguments: Table) -> Fact {
    Fact::Binding(BindingFact::new(
        "/",
        &Binding {
            source: Arc::from("ex"),
            destination_kind: DestinationKind::Queue,
            destination: Arc::from("q"),
            routing_key: Arc::from("a.#"),
            arguments,
        },
    ))
}

#[test]
fn fact_bytes() {
    let cases = [
        (
            exchange_fact(),
            concat!("01", "01000000", "2f", "02000000", "6578"),
            concat!(
                "01",
                "0a012f",
                "12026578",
                "1a05746f706963",
                "2001",
                "2801",
                "3207",
                "0a016b",
                "1049",
                "1801"
            ),
        ),
        (
            queue_fact(),
            concat!("02", "01000000", "2f", "01000000", "71"),
            concat!(
                "01",
                "0a012f",
                "120171",
                "18ac02",
                "2a16",
                "0a0c782d71756575652d6d6f6465",
                "1053",
                "32046c617a79"
            ),
        ),
        (
            levelled_fact(),
            concat!("02", "01000000", "2f", "01000000", "71"),
            concat!(
                "01", "0a012f", "120171", "18ac02", "3205", "0803", "10ad02", "3206", "08ff01", "10ae02",
                "3801"
            ),
        ),
        (
            binding_fact(Table::default()),
            concat!(
                "03", "01000000", "2f", "02000000", "6578", "01000000", "71", "01000000", "71", "03000000",
                "612e23", "00000000"
            ),
            concat!("01", "0a012f", "12026578", "220171", "2a03612e23"),
        ),
        (
            Fact::Vhost(VhostFact {
                name: "v".into(),
                description: "for tests".into(),
                tags: vec!["a".into(), "bc".into()],
            }),
            concat!("04", "01000000", "76"),
            concat!("01", "0a0176", "1209666f72207465737473", "1a0161", "1a026263"),
        ),
        (
            Fact::User(UserFact {
                name: "ann".into(),
                password_hash: "$a$".into(),
                tags: vec!["administrator".into()],
            }),
            concat!("05", "03000000", "616e6e"),
            concat!("01", "0a03616e6e", "1203246124", "1a0d61646d696e6973747261746f72"),
        ),
        (
            Fact::Permission(PermissionFact {
                vhost: "/".into(),
                user: "ann".into(),
                configure: "^a".into(),
                write: ".*".into(),
                read: String::new(),
            }),
            concat!("06", "01000000", "2f", "03000000", "616e6e"),
            concat!("01", "0a012f", "1203616e6e", "1a025e61", "22022e2a"),
        ),
        (
            Fact::TopicPermission(TopicPermissionFact {
                vhost: "/".into(),
                user: "ann".into(),
                exchange: "x".into(),
                write: "^a".into(),
                read: ".*".into(),
            }),
            concat!("07", "01000000", "2f", "03000000", "616e6e", "01000000", "78"),
            concat!("01", "0a012f", "1203616e6e", "1a0178", "22025e61", "2a022e2a"),
        ),
        (Fact::Defaults(DefaultsFact {}), "08", "01"),
    ];
    for (fact, key, value) in cases {
        assert_eq!((hex(&fact.key()), hex(&fact.value())), (key.to_string(), value.to_string()), "{fact:?}");
        assert_eq!(Fact::decode(&fact.key(), &fact.value()), Ok(fact));
    }
}

#[test]
fn tables_keep_order_and_types() {
    let full = every_value();
    assert_eq!(table(&fields(&full)), Ok(full.clone()));
    let fact = binding_fact(full.clone());
    let Ok(Fact::Binding(back)) = Fact::decode(&fact.key(), &fact.value()) else { panic!() };
    assert_eq!(back.binding().unwrap().arguments, full);
}

#[test]
fn keys_tell_apart_what_differs() {
    let with = |source: &str, destination: &str, key: &str| {
        Fact::Binding(BindingFact {
            vhost: "/".into(),
            source: source.into(),
            to_exchange: false,
            destination: destination.into(),
            routing_key: key.into(),
            arguments: Vec::new(),
        })
        .key()
    };
    assert_ne!(with("ab", "c", ""), with("a", "bc", ""));
    assert_ne!(with("a", "b", "c"), with("a", "c", "b"));
    let one = |n: i32| binding_fact(Table(vec![("a".into(), Value::I32(n))])).key();
    assert_ne!(one(1), one(2));
}

#[test]
fn bad_facts() {
    let fact = queue_fact();
    let (key, value) = (fact.key(), fact.value());
    let malformed = |result| matches!(result, Err(FactError::Malformed(_)));
    assert!(malformed(Fact::decode(&[], &value)));
    assert!(malformed(Fact::decode(&key, &[])));
    assert!(malformed(Fact::decode(&key, &value[..value.len() - 1])));
    assert!(malformed(Fact::decode(&exchange_fact().key(), &value)), "a value under another key");
    for kind in [0, 9] {
        assert_eq!(Fact::decode(&[kind], &value), Err(FactError::Kind(kind)));
    }
    assert_eq!(Fact::decode(&key, &[2, 0]), Err(FactError::Version(2)));
    let mut odd = fields(&Table(vec![("a".into(), Value::U8(1))]));
    odd[0].unsigned = 256;
    assert!(table(&odd).is_err());
    odd[0].letter = u32::from(b'?');
    assert!(table(&odd).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn messages_come_back(
        exchange in ".{0,40}",
        routing_key in ".{0,40}",
        properties in prop::collection::vec(any::<u8>(), 0..60),
        body in prop::collection::vec(any::<u8>(), 0..200),
        received_ms in any::<u64>(),
        persistent in any::<bool>(),
        expiration_ms in any::<Option<u64>>(),
        dead_lettered in any::<bool>(),
    ) {
        let message = Message {
            exchange: Arc::from(exchange),
            routing_key: Arc::from(routing_key),
            properties: Bytes::from(properties),
            body: Bytes::from(body),
            received_ms,
            persistent,
            expiration_ms,
            dead_lettered,
            blob: None,
        };
        prop_assert_eq!(decode_message(&joined(&message)), Ok(message));
    }

    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let mut versioned = bytes.clone();
        versioned.splice(0..0, [1, 1]);
        let _ = decode_message(&Bytes::from(bytes.clone()));
        let _ = decode_message(&Bytes::from(versioned.clone()));
        let _ = Fact::decode(&bytes, &versioned[1..]);
        let _ = Fact::decode(&[3], &versioned[1..]);
    }
}

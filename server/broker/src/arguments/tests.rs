use std::sync::Arc;

use bytes::Bytes;

use super::queue::QueueArguments;
use super::{DeadLetterTo, Overflow, QUEUE, QueueFlags, QueueType, check_queue, exchange, same};
use crate::refusal::RefusalKind::{self, NotImplemented, PreconditionFailed};
use crate::value::{Table, Value};

const DURABLE: QueueFlags =
    QueueFlags { durable: true, exclusive: false, auto_delete: false, server_named: false };

const Q: &str = "queue 'q' in vhost '/'";

fn string(value: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(value.as_bytes()))
}

fn one(name: &str, value: Value) -> Table {
    Table(vec![(name.to_string(), value)])
}

fn quorum_with(name: &str, value: Value) -> Table {
    Table(vec![("x-queue-type".to_string(), string("quorum")), (name.to_string(), value)])
}

fn judged(name: &str, value: Value) -> Result<(), RefusalKind> {
    check_queue(Q, DURABLE, &one(name, value)).map(drop).map_err(|refusal| refusal.kind)
}

#[track_caller]
fn refused(name: &str, flags: QueueFlags, arguments: &Table) -> String {
    let flags = QueueFlags { server_named: name.is_empty(), ..flags };
    let refusal = check_queue(&format!("queue '{name}' in vhost '/'"), flags, arguments).unwrap_err();
    assert_eq!(refusal.kind, PreconditionFailed);
    refusal.text
}

#[test]
fn values_are_checked() {
    let good = [
        ("x-message-ttl", Value::I32(0)),
        ("x-message-ttl", Value::I64(315_360_000_000)),
        ("x-expires", Value::U8(1)),
        ("x-max-length", Value::I16(0)),
        ("x-max-length-bytes", Value::I64(i64::MAX)),
        ("x-overflow", string("drop-head")),
        ("x-overflow", string("reject-publish-dlx")),
        ("x-dead-letter-exchange", string("")),
        ("x-max-priority", Value::U16(255)),
        ("x-single-active-consumer", Value::Bool(false)),
        ("x-queue-type", string("classic")),
        ("x-queue-type", string("quorum")),
        ("x-queue-mode", string("lazy")),
        ("x-queue-version", Value::I32(2)),
        ("x-any", Value::Void),
    ];
    for (name, value) in good {
        assert_eq!(judged(name, value.clone()), Ok(()), "{name} {value:?}");
    }
    let bad = [
        ("x-message-ttl", Value::I32(-1)),
        ("x-message-ttl", Value::I64(315_360_000_001)),
        ("x-message-ttl", string("1")),
        ("x-expires", Value::I32(0)),
        ("x-max-length", Value::I32(-1)),
        ("x-max-length-bytes", Value::F64(1.0)),
        ("x-overflow", string("drop-tail")),
        ("x-overflow", Value::I32(1)),
        ("x-dead-letter-exchange", Value::I32(1)),
        ("x-dead-letter-exchange", Value::Bytes(Bytes::from_static(b"\xff"))),
        ("x-dead-letter-routing-key", string("alone")),
        ("x-max-priority", Value::I32(256)),
        ("x-single-active-consumer", string("true")),
        ("x-queue-type", string("magic")),
        ("x-queue-type", Value::Bool(true)),
        ("x-queue-mode", string("eager")),
        ("x-queue-version", Value::I32(3)),
    ];
    for (name, value) in bad {
        assert_eq!(judged(name, value.clone()), Err(PreconditionFailed), "{name} {value:?}");
    }
    assert_eq!(judged("x-queue-type", string("stream")), Err(NotImplemented));
    let long = Value::Bytes(Bytes::from(vec![b'x'; 256]));
    assert_eq!(judged("x-dead-letter-exchange", long), Err(PreconditionFailed));
}

#[test]
fn a_refusal_names_the_argument_and_the_value() {
    let text = "invalid arg 'x-expires' for queue 'q' in vhost '/': must be a whole number from 1 to 315360000000, \
                received the value '0' of type 'signedint'";
    assert_eq!(refused("q", DURABLE, &one("x-expires", Value::I32(0))), text);
    for value in [Value::I32(1), Value::Bytes(Bytes::from_static(b"\xff"))] {
        let refusal =
            exchange::check("exchange 'x' in vhost '/'", &one("alternate-exchange", value)).unwrap_err();
        assert_eq!(refusal.kind, PreconditionFailed);
    }
}

#[test]
fn each_type_of_queue_has_arguments_of_its_own() {
    for key in ["x-delivery-limit", "x-quorum-initial-group-size", "x-max-age"] {
        let text = format!("invalid arg '{key}' for queue 'q' in vhost '/' of queue type classic");
        assert_eq!(refused("q", DURABLE, &one(key, Value::I32(1))), text);
    }
    for key in ["x-max-priority", "x-queue-mode", "x-max-age"] {
        let text = format!("invalid arg '{key}' for queue 'q' in vhost '/' of queue type quorum");
        assert_eq!(refused("q", DURABLE, &quorum_with(key, Value::I32(1))), text);
    }
    for key in ["x-delivery-limit", "x-max-length", "x-quorum-initial-group-size"] {
        assert!(check_queue(Q, DURABLE, &quorum_with(key, Value::I32(1))).is_ok(), "{key}");
    }
    assert!(check_queue(Q, DURABLE, &quorum_with("x-delivery-limit", string("20"))).is_err());
}

#[test]
fn a_quorum_queue_is_durable_and_nobody_s_own() {
    let quorum = one("x-queue-type", string("quorum"));
    let cases = [
        ("non-durable", QueueFlags { durable: false, ..DURABLE }),
        ("auto-delete", QueueFlags { auto_delete: true, ..DURABLE }),
        ("exclusive-owner", QueueFlags { exclusive: true, ..DURABLE }),
    ];
    for (property, flags) in cases {
        let text = format!("invalid property '{property}' for queue 'q' in vhost '/'");
        assert_eq!(refused("q", flags, &quorum), text);
    }
    assert_eq!(refused("", DURABLE, &quorum), "Cannot declare a server-named queue for type quorum");
}

#[test]
fn arguments_are_read_once() {
    let read = |arguments: &[(&str, Value)]| {
        let table = arguments.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        QueueArguments::read(&Table(table))
    };
    assert_eq!(read(&[]), QueueArguments::default());
    let classic = read(&[
        ("x-message-ttl", Value::I32(0)),
        ("x-expires", Value::I64(7)),
        ("x-max-length", Value::I32(3)),
        ("x-max-length-bytes", Value::U32(4)),
        ("x-overflow", string("reject-publish")),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("k")),
        ("x-max-priority", Value::I32(10)),
        ("x-single-active-consumer", Value::Bool(true)),
    ]);
    let expected = QueueArguments {
        queue_type: QueueType::Classic,
        message_ttl_ms: Some(0),
        expires_ms: Some(7),
        length_max: Some(3),
        bytes_max: Some(4),
        overflow: Overflow::RejectPublish,
        dead_letter: Some(DeadLetterTo { exchange: Arc::from(""), routing_key: Some(Arc::from("k")) }),
        priority_max: 10,
        single_active_consumer: true,
        delivery_limit: None,
    };
    assert_eq!(classic, expected);
    let quorum = ("x-queue-type", string("quorum"));
    let limit = |value| read(&[quorum.clone(), ("x-delivery-limit", value)]).delivery_limit;
    assert_eq!(read(std::slice::from_ref(&quorum)).delivery_limit, Some(20));
    assert_eq!((limit(Value::I32(0)), limit(Value::I32(-1))), (Some(0), None));
    // As an older broker may have kept it without a look.
    assert_eq!(read(&[("x-max-length", string("many"))]), QueueArguments::default());
}

#[test]
fn integers_compare_by_value() {
    let compare = |a: Option<Value>, b: Option<Value>| {
        let table = |v: Option<Value>| v.map_or_else(Table::default, |v| one("x-max-length", v));
        same(&QUEUE, "queue 'q' in vhost '/'", &table(a), &table(b)).is_ok()
    };
    assert!(compare(Some(Value::I32(5)), Some(Value::I64(5))));
    assert!(!compare(Some(Value::I32(5)), Some(Value::I64(6))));
    assert!(!compare(Some(Value::I32(5)), None));
    assert!(!compare(Some(string("5")), Some(Value::I32(5))));
    assert!(compare(None, None));
}

#[test]
fn no_queue_type_is_the_classic_one() {
    let classic = one("x-queue-type", string("classic"));
    let compare = |a: &Table, b: &Table| same(&QUEUE, "queue 'q' in vhost '/'", a, b).map_err(|r| r.text);
    assert_eq!(compare(&classic, &Table::default()), Ok(()));
    assert_eq!(compare(&Table::default(), &classic), Ok(()));
    let text = "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received the value 'quorum' of type \
                'longstr' but current is none";
    let quorum = one("x-queue-type", string("quorum"));
    assert_eq!(compare(&quorum, &Table::default()), Err(text.to_string()));
    assert_eq!(compare(&quorum, &quorum), Ok(()));
    assert!(compare(&one("x-queue-type", string("stream")), &quorum).is_err());
}

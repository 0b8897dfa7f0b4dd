use bytes::Bytes;

use super::{QUEUE, check_queue, exchange, same};
use crate::refusal::RefusalKind::{self, NotImplemented, PreconditionFailed};
use crate::value::{Table, Value};

fn string(value: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(value.as_bytes()))
}

fn one(name: &str, value: Value) -> Table {
    Table(vec![(name.to_string(), value)])
}

fn judged(name: &str, value: Value) -> Result<(), RefusalKind> {
    check_queue("q", &one(name, value)).map_err(|refusal| refusal.kind)
}

#[test]
fn values_are_checked_before_features_are_refused() {
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
        ("x-delivery-limit", Value::I32(-1)),
        ("x-queue-type", string("quorum")),
        ("x-queue-type", string("stream")),
    ];
    for (name, value) in good {
        assert_eq!(judged(name, value.clone()), Err(NotImplemented), "{name} {value:?}");
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
        ("x-dead-letter-routing-key", string("alone")),
        ("x-max-priority", Value::I32(256)),
        ("x-single-active-consumer", string("true")),
        ("x-delivery-limit", string("20")),
        ("x-queue-type", string("magic")),
        ("x-queue-type", Value::Bool(true)),
    ];
    for (name, value) in bad {
        assert_eq!(judged(name, value.clone()), Err(PreconditionFailed), "{name} {value:?}");
    }
    for (name, value) in [
        ("x-queue-type", string("classic")),
        ("x-queue-mode", string("lazy")),
        ("x-single-active-consumer", Value::Bool(true)),
        ("x-any", Value::Void),
    ] {
        assert_eq!(judged(name, value), Ok(()));
    }
}

#[test]
fn a_refusal_names_the_argument_and_the_value() {
    let refusal = check_queue("q", &one("x-expires", Value::I32(0))).unwrap_err();
    let text = "invalid arg 'x-expires' for queue 'q' in vhost '/': must be a whole number from 1 to 315360000000, \
                received the value '0' of type 'signedint'";
    assert_eq!(refusal.text, text);
    let refusal = check_queue("q", &one("x-max-priority", Value::I32(5))).unwrap_err();
    assert_eq!(refusal.text, "argument 'x-max-priority' is not implemented yet");
    assert_eq!(refusal.details, [("field", "x-max-priority".to_string())]);
    for value in [Value::I32(1), Value::Bytes(Bytes::from_static(b"\xff"))] {
        let refusal = exchange::check("x", &one("alternate-exchange", value)).unwrap_err();
        assert_eq!(refusal.kind, PreconditionFailed);
    }
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
    assert_eq!(compare(&one("x-queue-type", string("quorum")), &Table::default()), Err(text.to_string()));
}

//! SEMANTICS 4, headers: every x-match, prefixed names, presence, values whatever their types.

use bytes::Bytes;

use super::{HeadersMatch, MessageHeaders};
use crate::properties::Properties;
use crate::value::{Table, Value};

fn string(value: &'static str) -> Value {
    Value::Bytes(Bytes::from_static(value.as_bytes()))
}

fn table(entries: &[(&str, Value)]) -> Table {
    Table(entries.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
}

fn takes(arguments: &[(&str, Value)], headers: &[(&str, Value)]) -> bool {
    let properties = Properties {
        content_type: Some("text/plain".into()),
        headers: Some(table(headers)),
        ..Properties::default()
    };
    let properties = properties.encode().expect("it fits");
    HeadersMatch::parse(&table(arguments)).expect("it is valid").takes(&MessageHeaders::of(&properties))
}

#[test]
fn all_needs_every_one_and_any_needs_one() {
    let (one, two, both) =
        ([("a", Value::I32(1))], [("b", string("x"))], [("a", Value::I32(1)), ("b", string("x"))]);
    for (how, by_one, by_none) in [("all", false, false), ("any", true, false)] {
        let wanted = [("x-match", string(how)), ("a", Value::I32(1)), ("b", string("x"))];
        assert!(takes(&wanted, &both), "{how}");
        assert_eq!((takes(&wanted, &one), takes(&wanted, &two)), (by_one, by_one), "{how}");
        assert_eq!(takes(&wanted, &[("c", Value::I32(1)), ("a", Value::I32(2))]), by_none, "{how}");
    }
    assert!(!takes(&[("a", Value::I32(1)), ("b", string("x"))], &one), "all is what is meant");
    assert!(takes(&both, &[("c", Value::Void), ("b", string("x")), ("a", Value::I32(1))]), "more is fine");
}

#[test]
fn with_nothing_to_ask_for_all_takes_everything_and_any_nothing() {
    for headers in [&[][..], &[("a", Value::I32(1))]] {
        assert!(takes(&[], headers) && takes(&[("x-match", string("all"))], headers));
        assert!(takes(&[("x-match", string("all-with-x"))], headers));
        assert!(!takes(&[("x-match", string("any"))], headers));
        assert!(!takes(&[("x-match", string("any-with-x"))], headers));
    }
    assert!(HeadersMatch::default().takes(&MessageHeaders::of(&[])));
}

#[test]
fn names_with_the_prefix_count_only_with_x() {
    let ask = |how: &'static str| [("x-match", string(how)), ("x-a", Value::I32(1))];
    let (with, without) = ([("x-a", Value::I32(1))], [("b", Value::I32(1))]);
    assert!(takes(&ask("all"), &without), "nothing is left to ask for");
    assert!(!takes(&ask("any"), &with), "nothing is left that could be had");
    assert!(takes(&ask("all-with-x"), &with) && !takes(&ask("all-with-x"), &without));
    assert!(takes(&ask("any-with-x"), &with) && !takes(&ask("any-with-x"), &without));
    let itself = [("x-match", string("any-with-x"))];
    assert!(!takes(&itself, &[("x-match", string("any-with-x"))]), "x-match itself is never asked for");
}

#[test]
fn void_asks_for_presence() {
    assert!(takes(&[("a", Value::Void)], &[("a", string("anything"))]));
    assert!(takes(&[("a", Value::Void)], &[("a", Value::Void)]));
    assert!(!takes(&[("a", Value::Void)], &[("b", Value::I32(1))]));
    assert!(!takes(&[("a", Value::I32(1))], &[("a", Value::Void)]), "not the other way round");
}

#[test]
fn values_are_compared_and_not_their_types() {
    let same = [
        (Value::I32(5), Value::I64(5)),
        (Value::U8(5), Value::I16(5)),
        (Value::I32(5), Value::F64(5.0)),
        (Value::F32(0.5), Value::F64(0.5)),
        (Value::Timestamp(5), Value::U32(5)),
        (string("x"), Value::ByteArray(Bytes::from_static(b"x"))),
        (Value::Bool(true), Value::Bool(true)),
        (Value::Array(vec![Value::I8(1)]), Value::Array(vec![Value::I64(1)])),
        (Value::Table(table(&[("k", Value::I8(1))])), Value::Table(table(&[("k", Value::U16(1))]))),
        (Value::Decimal { scale: 1, number: 5 }, Value::Decimal { scale: 1, number: 5 }),
    ];
    for (a, b) in same {
        assert!(takes(&[("a", a.clone())], &[("a", b.clone())]), "{a:?} {b:?}");
        assert!(takes(&[("a", b.clone())], &[("a", a.clone())]), "{b:?} {a:?}");
    }
    let differ = [
        (Value::I32(5), Value::I32(6)),
        (Value::I32(1), Value::Bool(true)),
        (Value::I32(5), string("5")),
        (Value::I64(5), Value::F64(5.5)),
        (Value::I64(i64::MAX), Value::F64(i64::MAX as f64)),
        (Value::F64(f64::NAN), Value::F64(f64::NAN)),
        (string("x"), string("X")),
        (Value::Array(vec![Value::I8(1)]), Value::Array(vec![])),
        (Value::Table(table(&[("k", Value::I8(1))])), Value::Table(table(&[("l", Value::I8(1))]))),
    ];
    for (a, b) in differ {
        assert!(!takes(&[("a", a.clone())], &[("a", b.clone())]), "{a:?} {b:?}");
        assert!(!takes(&[("a", b.clone())], &[("a", a.clone())]), "{b:?} {a:?}");
    }
}

#[test]
fn of_two_headers_with_one_name_the_first_counts() {
    let headers = [("a", Value::I32(1)), ("a", Value::I32(2))];
    assert!(takes(&[("a", Value::I32(1))], &headers) && !takes(&[("a", Value::I32(2))], &headers));
}

#[test]
fn a_wrong_x_match_is_refused() {
    for (value, text) in [
        (string("some"), "Invalid x-match field value 'some'; expected all, any, all-with-x, or any-with-x"),
        (Value::I32(1), "Invalid x-match field, the value '1' of type 'signedint'; expected longstr"),
        (Value::Bool(true), "Invalid x-match field, the value 'true' of type 'bool'; expected longstr"),
    ] {
        assert_eq!(HeadersMatch::parse(&table(&[("x-match", value)])), Err(text.to_string()));
    }
}

#[test]
fn properties_without_headers_or_with_broken_ones_have_none() {
    let wanted = HeadersMatch::parse(&table(&[("a", Value::Void)])).expect("it is valid");
    for properties in [&[][..], &[0, 0], &[0x10, 0, 2], &[0x20, 0, 0, 0, 0, 9, 1], b"\x20\0\0\0\0\x03\x01aQ"]
    {
        let headers = MessageHeaders::of(properties);
        assert!(!wanted.takes(&headers), "{properties:?}");
        assert!(headers.were_read());
    }
    let unread = MessageHeaders::of(&[]);
    assert!(
        HeadersMatch::default().takes(&unread) && !unread.were_read(),
        "what asks for nothing reads nothing"
    );
}

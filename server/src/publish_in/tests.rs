use leveret_broker::properties::Properties;
use leveret_broker::{Table, Value};

use super::*;

fn accepted(properties: &Properties, sender: Sender<'_>) -> Accepted {
    accept(properties.encode().unwrap(), sender).unwrap()
}

fn refused(properties: &Properties, sender: Sender<'_>) -> String {
    match accept(properties.encode().unwrap(), sender).unwrap_err() {
        Refused::Refusal(refusal) => refusal.text,
        Refused::Malformed(error) => panic!("{error}"),
    }
}

fn keys(keys: &[&str]) -> Value {
    Value::Array(keys.iter().map(|key| Value::Bytes(Bytes::copy_from_slice(key.as_bytes()))).collect())
}

fn with_headers(entries: Vec<(&str, Value)>) -> Properties {
    let entries = entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Properties { headers: Some(Table(entries)), ..Properties::default() }
}

#[test]
fn plain_properties_go_in_as_they_are_without_extras() {
    let properties = Properties {
        content_type: Some("text/plain".into()),
        headers: Some(Table(vec![("k".into(), Value::I32(1))])),
        delivery_mode: Some(PERSISTENT),
        priority: Some(0),
        ..Properties::default()
    };
    let accepted = accepted(&properties, Sender::default());
    assert_eq!(accepted.properties, properties.encode().unwrap());
    assert!(accepted.persistent);
    assert_eq!(accepted.extras, None);
}

#[test]
fn what_the_core_has_to_know_is_found() {
    let properties = Properties {
        priority: Some(7),
        expiration: Some("60000".into()),
        ..with_headers(vec![("CC", keys(&["a", "b"])), ("other", Value::Void), ("BCC", keys(&["c"]))])
    };
    let accepted = accepted(&properties, Sender::default());
    let extras = accepted.extras.unwrap();
    assert_eq!(extras.routing_keys, ["a".into(), "b".into(), "c".into()]);
    assert_eq!((extras.expiration_ms, extras.priority), (Some(60_000), 7));
    // Only those who got a blind copy know of it.
    let left = Properties::decode(&accepted.properties).unwrap().headers.unwrap();
    assert_eq!(left, Table(vec![("CC".into(), keys(&["a", "b"])), ("other".into(), Value::Void)]));
    assert!(!accepted.persistent);
}

#[test]
fn copies_must_be_arrays_of_routing_keys() {
    let long = "x".repeat(256);
    for bad in [Value::Void, Value::Bytes("a".into()), Value::Array(vec![Value::I32(1)]), keys(&[&long])] {
        for name in ["CC", "BCC"] {
            let text = refused(&with_headers(vec![(name, bad.clone())]), Sender::default());
            assert!(text.contains(name), "{text}");
        }
    }
}

#[test]
fn an_expiration_is_a_number_of_milliseconds() {
    let with = |text: &str| Properties { expiration: Some(text.into()), ..Properties::default() };
    for bad in ["", "-1", "+1", "1.5", "1s", " 1", "315360000001", "99999999999999999999999"] {
        assert!(refused(&with(bad), Sender::default()).contains("invalid expiration"), "{bad}");
    }
    for (good, ms) in [("0", 0), ("007", 7), ("315360000000", EXPIRATION_MS_MAX)] {
        let extras = accepted(&with(good), Sender::default()).extras.unwrap();
        assert_eq!(extras.expiration_ms, Some(ms));
    }
}

#[test]
fn the_core_hears_of_a_user_id() {
    let properties = Properties { user_id: Some("mallory".into()), ..Properties::default() };
    let extras = accepted(&properties, Sender::default()).extras.unwrap();
    assert_eq!(extras.user_id.as_deref(), Some("mallory"));
}

#[test]
fn a_direct_reply_goes_to_the_channels_own_queue() {
    let properties = Properties { reply_to: Some(REPLY_TO.into()), ..Properties::default() };
    assert_eq!(refused(&properties, Sender { reply_to: Some(None) }), "fast reply consumer does not exist");
    let own = Sender { reply_to: Some(Some("amq.rabbitmq.reply-to.x")) };
    let rewritten = Properties::decode(&accepted(&properties, own).properties).unwrap();
    assert_eq!(rewritten.reply_to.as_deref(), Some("amq.rabbitmq.reply-to.x"));
    let other = Properties { reply_to: Some("answers".into()), ..Properties::default() };
    assert_eq!(accepted(&other, own).properties, other.encode().unwrap());
}

#[test]
fn what_cannot_be_read_is_malformed() {
    for bad in [&[][..], &[0x80, 0, 5, b'a'], &[0, 1], &[0x20, 0, 0, 0, 0, 3, 1, b'k', b'Z'], &[0, 0, 0]] {
        let error = accept(Bytes::copy_from_slice(bad), Sender::default()).unwrap_err();
        assert!(matches!(error, Refused::Malformed(_)), "{bad:?}: {error:?}");
    }
}

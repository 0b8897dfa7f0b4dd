//! Guards against bytes that other peers would not understand, and against methods that change on their way through.

use leveret_broker::{Table, Value};
use proptest::prelude::*;

use crate::amqp::frame::{self, FrameError, Kind};
use crate::amqp::fuzz;
use crate::amqp::method::{Method, MethodError};
use crate::amqp::reply_code::{Failure, ReplyCode};
use crate::amqp::wire::{WireError, cut};

fn encoded(method: &Method<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    method.encode(&mut bytes);
    bytes
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    // Bits share an octet, the first lowest; a string behind them begins anew.
    let declare = Method::QueueDeclare {
        reserved_1: 0,
        queue: "q",
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: true,
        nowait: false,
        arguments: Table(vec![("k".into(), Value::Bool(true))]),
    };
    let bytes = [0, 50, 0, 10, 0, 0, 1, b'q', 0b0_1010, 0, 0, 0, 4, 1, b'k', b't', 1];
    assert_eq!(encoded(&declare), bytes);
    assert_eq!(Method::decode(&bytes), Ok(declare));
    let ack = [0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    assert_eq!(Method::decode(&ack), Ok(Method::BasicAck { delivery_tag: 256, multiple: true }));
}

#[test]
fn methods_that_are_wrong_say_how() {
    assert_eq!(Method::decode(&[0, 60, 0, 99]), Err(MethodError::Unknown { class: 60, method: 99 }));
    assert_eq!(Method::decode(&[0, 60, 0]), Err(MethodError::Short(3)));
    let wrong = |bytes: &[u8]| match Method::decode(bytes) {
        Err(MethodError::Arguments { ids, name, error }) => (ids, name, error),
        other => panic!("{other:?}"),
    };
    assert_eq!(wrong(&[0, 60, 0, 80, 1]), ((60, 80), "basic.ack", WireError::Truncated));
    assert_eq!(wrong(&[0, 10, 0, 51, 9]), ((10, 51), "connection.close-ok", WireError::Trailing(1)));
    assert_eq!(wrong(&[0, 20, 0, 10, 1, 0xff]), ((20, 10), "channel.open", WireError::NotUtf8));
}

#[test]
fn frames_come_apart_where_they_end() {
    let mut bytes = Vec::new();
    frame::write(&mut bytes, Kind::Body, 258, |out| out.extend_from_slice(b"hello"));
    assert_eq!(bytes, [3, 1, 2, 0, 0, 0, 5, b'h', b'e', b'l', b'l', b'o', 0xce]);
    bytes.extend_from_slice(b"more");
    let (found, length) = frame::split(&bytes, 4096).unwrap().unwrap();
    assert_eq!((found.kind, found.channel, found.payload, length), (Kind::Body, 258, &b"hello"[..], 13));
    for cut in 0..13 {
        assert_eq!(frame::split(&bytes[..cut], 4096), Ok(None), "{cut} bytes");
    }
}

#[test]
fn frames_that_are_wrong_are_refused_as_soon_as_it_can_be_seen() {
    assert_eq!(frame::split(&[7], 4096), Err(FrameError::UnknownType(7)));
    let too_large = FrameError::TooLarge { channel: 1, size: 4097, most: 4096 };
    assert_eq!(frame::split(&[3, 0, 1, 0, 0, 0x10, 1], 4096), Err(too_large));
    let bad_end = FrameError::BadEnd { channel: 1, found: 0 };
    assert_eq!(frame::split(&[3, 0, 1, 0, 0, 0, 1, b'x', 0], 4096), Err(bad_end));
}

#[test]
fn reply_texts_fit_into_a_short_string() {
    let failure = Failure::new(ReplyCode::NotFound, "ä".repeat(200), (50, 10));
    let text = failure.reply_text();
    assert!(text.starts_with("NOT_FOUND - ä") && text.len() <= 255 && text.len() >= 254, "{text}");
    assert_eq!(cut("aä", 2), "a");
    assert_eq!(cut("aä", 3), "aä");
}

proptest! {
    #[test]
    fn any_bytes_as_frames_and_methods(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz::frames(&bytes);
    }

    #[test]
    fn any_arguments_of_any_method(
        class in proptest::sample::select(vec![10u8, 20, 30, 40, 50, 60, 85, 90]),
        method in 10..121u8,
        arguments in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(3), any::<u8>()], 0..60),
    ) {
        fuzz::frames(&[&[0, class, 0, method], &arguments[..]].concat());
    }
}

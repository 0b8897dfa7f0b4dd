use super::talk::Talk;
use crate::amqp::frame::Kind;
use crate::amqp::fuzz::{RobotCore, message};
use crate::amqp::session::End;
use crate::hub::Output;

#[test]
fn a_handshake_has_its_time() {
    let mut talk = Talk::new();
    talk.bytes(b"AMQP\x00\x00\x09\x01");
    assert_eq!(talk.session.next_tick_ms(), Some(10_000));
    talk.time_passes(9_999);
    assert_eq!(talk.ended(), None);
    talk.time_passes(1);
    assert_eq!(talk.ended(), Some(&End::HandshakeTimeout));
}

#[test]
fn heartbeats_go_out_when_nothing_else_does() {
    let mut talk = Talk::open();
    assert_eq!(talk.session.next_tick_ms(), Some(5_000));
    talk.time_passes(5_000);
    assert_eq!(talk.hears(), ["heartbeat"]);
    talk.frame(Kind::Heartbeat, 0, |_| {});
    talk.time_passes(5_000);
    assert_eq!(talk.hears(), ["heartbeat"]);
    // Something else was written since.
    talk.time_passes(4_000);
    talk.says(1, &crate::amqp::Method::ChannelOpen { reserved_1: "" });
    talk.hears();
    talk.time_passes(1_000);
    assert_eq!(talk.hears().len(), 0);
}

#[test]
fn a_silent_client_is_gone_after_two_intervals() {
    let mut talk = Talk::open();
    for _ in 0..3 {
        talk.time_passes(5_000);
        talk.hears();
    }
    assert_eq!(talk.ended(), None);
    talk.time_passes(5_000);
    assert_eq!(talk.ended(), Some(&End::MissedHeartbeats));
}

#[test]
fn any_bytes_are_a_sign_of_life() {
    let mut talk = Talk::open();
    for _ in 0..10 {
        talk.time_passes(5_000);
        talk.hears();
        talk.bytes(b"\x08");
        talk.bytes(b"\x00\x00\x00\x00\x00\x00\xce");
    }
    assert_eq!(talk.ended(), None);
}

#[test]
fn a_client_whose_publishes_wait_is_not_missed() {
    let mut talk = Talk::open();
    talk.session.set_blocked(true);
    for _ in 0..20 {
        talk.time_passes(5_000);
        talk.hears();
    }
    talk.session.set_blocked(false);
    talk.time_passes(5_000);
    assert_eq!(talk.ended(), None);
    for _ in 0..4 {
        talk.time_passes(5_000);
        talk.hears();
    }
    assert_eq!(talk.ended(), Some(&End::MissedHeartbeats));
}

#[test]
fn a_client_that_takes_bytes_lives_and_one_that_takes_none_does_not() {
    let mut talk = Talk::with_channel();
    let mut deliver = RobotCore::default().deliver(leveret_broker::ChanId(101), "t".into());
    deliver.message = message("q", vec![0, 0].into(), vec![b'x'; 1000].into());
    while talk.session.reads() {
        talk.session.output(vec![Output::Deliver(deliver.clone())]);
        talk.session.fill();
    }
    for _ in 0..10 {
        talk.time_passes(5_000);
        talk.session.written(10);
    }
    assert_eq!(talk.ended(), None);
    for _ in 0..4 {
        talk.time_passes(5_000);
    }
    assert_eq!(talk.ended(), Some(&End::MissedHeartbeats));
}

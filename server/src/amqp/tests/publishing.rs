use leveret_broker::properties::Properties;
use leveret_broker::{Input, Outcome, RefusalKind};

use super::talk::{Talk, publish};
use crate::amqp::frame::Kind;
use crate::amqp::fuzz::message;
use crate::amqp::method::Method;
use crate::hub::Output;

fn confirming() -> Talk {
    let mut talk = Talk::with_channel();
    talk.says(1, &Method::ConfirmSelect { nowait: true });
    talk
}

const REJECTED: Outcome = Outcome::Rejected(RefusalKind::PreconditionFailed);

#[test]
fn a_body_comes_in_parts_between_frames_of_other_channels() {
    let mut talk = Talk::with_channel();
    talk.says(2, &Method::ChannelOpen { reserved_1: "" });
    talk.core_hears();
    talk.says(1, &publish("x", "k"));
    talk.says(2, &publish("y", "l"));
    talk.header(1, 6, &[0, 0]);
    talk.body(1, b"abc");
    talk.header(2, 0, &[0x10, 0, 2]);
    talk.body(1, b"");
    talk.body(1, b"def");
    assert_eq!(
        talk.core_hears(),
        ["c102 publish 1 to 'y'/'l' ''", "c101 publish 1 to 'x'/'k' transient 'abcdef'"]
    );
}

#[test]
fn properties_go_in_as_they_came_with_what_the_core_has_to_know() {
    let properties = Properties {
        content_type: Some("a".into()),
        delivery_mode: Some(2),
        priority: Some(3),
        expiration: Some("500".into()),
        user_id: Some("guest".into()),
        ..Properties::default()
    };
    let encoded = properties.encode().unwrap();
    let mut talk = Talk::with_channel();
    talk.says(1, &publish("x", "k"));
    talk.header(1, 0, &encoded);
    let taken = talk.session.take_for_core();
    let Some(Input::Publish { publish, .. }) = taken.inputs.last() else { panic!("{:?}", taken.inputs) };
    assert_eq!(publish.properties, encoded);
    assert!(publish.persistent);
    let extras = publish.extras.as_ref().unwrap();
    assert_eq!((extras.priority, extras.expiration_ms), (3, Some(500)));
    assert_eq!(extras.user_id.as_deref(), Some("guest"));
    assert!(taken.publish_bytes > encoded.len());
}

#[test]
fn properties_that_say_what_cannot_be_close_the_channel() {
    let closes = |properties: Properties| {
        let mut talk = Talk::with_channel();
        talk.says(1, &publish("", "q"));
        talk.header(1, 3, &properties.encode().unwrap());
        // The body is on its way.
        talk.body(1, b"abc");
        assert_eq!(talk.core_hears(), ["c101 opened", "c101 closed"][1..]);
        talk.hears().join("\n")
    };
    let expiration = closes(Properties { expiration: Some("soon".into()), ..Properties::default() });
    assert!(expiration.contains("406") && expiration.contains("invalid expiration 'soon'"), "{expiration}");
    let reply_to =
        closes(Properties { reply_to: Some("amq.rabbitmq.reply-to".into()), ..Properties::default() });
    assert!(
        reply_to.contains("406") && reply_to.contains("fast reply consumer does not exist"),
        "{reply_to}"
    );
}

#[test]
fn content_that_breaks_the_rules_has_its_code() {
    let says = |frames: &dyn Fn(&mut Talk)| {
        let mut talk = Talk::with_channel();
        talk.says(1, &publish("", "q"));
        frames(&mut talk);
        talk.hears_connection_close()
    };
    // More than the header promised.
    let more = says(&|t| {
        t.header(1, 3, &[0, 0]);
        t.body(1, b"abcd");
    });
    assert_eq!((more.0, more.2), (501, (60, 40)));
    // Of another class, too short, twice, or a body before it.
    let class = |t: &mut Talk| {
        t.frame(Kind::Header, 1, |out| out.extend_from_slice(&[0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]))
    };
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead";
    assert_eq!(says(&class), (505, text.to_owned(), (60, 40)));
    assert_eq!(says(&|t| t.frame(Kind::Header, 1, |out| out.extend_from_slice(&[0, 60, 0]))).0, 501);
    assert_eq!(says(&|t| t.body(1, b"x")).0, 505);
    let twice = says(&|t| {
        t.header(1, 3, &[0, 0]);
        t.header(1, 3, &[0, 0]);
    });
    assert_eq!(twice.0, 505);
    // Properties that cannot be read.
    assert_eq!(says(&|t| t.header(1, 0, &[0x80, 0, 9, b'x'])).0, 502);
}

#[test]
fn a_message_that_is_too_large_closes_the_channel_and_its_body_is_passed_over() {
    let mut talk = Talk::with_channel();
    talk.core_hears();
    talk.says(1, &publish("", "q"));
    talk.header(1, 64 * 1024 + 1, &[0, 0]);
    let heard = talk.hears();
    assert!(
        heard[0].contains("406")
            && heard[0].contains("message size 65537 is larger than configured max size 65536"),
        "{heard:?}"
    );
    for _ in 0..9 {
        talk.body(1, &[7; 8000]);
    }
    assert_eq!(talk.hears().len(), 0);
    assert_eq!(talk.core_hears(), ["c101 closed"]);
}

#[test]
fn half_sent_bodies_are_bounded_over_a_connection() {
    let mut talk = Talk::open();
    let most = 8000 * 8;
    for number in 1..=16 {
        talk.says(number, &Method::ChannelOpen { reserved_1: "" });
        talk.says(number, &publish("", "q"));
        talk.header(number, most + 1, &[0, 0]);
    }
    for _ in 0..8 {
        for number in 1..=16 {
            talk.body(number, &[7; 8000]);
        }
    }
    // 1 MB is fine; and what is finished or closed counts no more.
    for number in 1..=8 {
        talk.body(number, b"!");
    }
    talk.hears();
    assert_eq!(talk.ended(), None);
    assert_eq!(talk.core_hears().iter().filter(|line| line.contains("publish")).count(), 8);
}

#[test]
fn confirms_are_cumulative_and_count_from_the_select() {
    let mut talk = Talk::with_channel();
    talk.publishes(1, "", "q", b"before");
    talk.says(1, &Method::ConfirmSelect { nowait: true });
    talk.confirms(101, 1, &[]);
    assert_eq!(talk.hears().len(), 0);
    talk.confirms(101, 2, &[]);
    talk.confirms(101, 5, &[]);
    assert_eq!(
        talk.hears(),
        ["1 BasicAck { delivery_tag: 1, multiple: false }", "1 BasicAck { delivery_tag: 4, multiple: true }"]
    );
}

#[test]
fn confirms_that_wait_are_merged() {
    let mut talk = confirming();
    let confirms = |upto, others: &[(u64, Outcome)]| Output::Confirms {
        chan: leveret_broker::ChanId(101),
        upto,
        others: others.to_vec(),
    };
    talk.session.output(vec![confirms(3, &[]), confirms(7, &[(5, REJECTED)])]);
    talk.session.output(vec![confirms(9, &[])]);
    assert_eq!(
        talk.hears(),
        [
            "1 BasicAck { delivery_tag: 4, multiple: true }",
            "1 BasicNack { delivery_tag: 5, multiple: false, requeue: false }",
            "1 BasicAck { delivery_tag: 9, multiple: true }"
        ]
    );
}

#[test]
fn rejected_publishes_are_nacked_in_their_order() {
    let mut talk = confirming();
    let others = [(1, REJECTED), (2, Outcome::Unrouted), (4, REJECTED), (5, REJECTED), (6, REJECTED)];
    talk.confirms(101, 6, &others);
    assert_eq!(
        talk.hears(),
        [
            "1 BasicNack { delivery_tag: 1, multiple: false, requeue: false }",
            "1 BasicAck { delivery_tag: 3, multiple: true }",
            "1 BasicNack { delivery_tag: 6, multiple: true, requeue: false }"
        ]
    );
}

#[test]
fn a_returned_message_comes_before_its_confirm() {
    let mut talk = confirming();
    let returned = message("nowhere", vec![0x10, 0, 2].into(), "hello".into());
    talk.core_says(Output::Return { chan: leveret_broker::ChanId(101), tag: 1, message: returned });
    talk.confirms(101, 1, &[(1, Outcome::Unrouted)]);
    assert_eq!(
        talk.hears(),
        [
            "1 BasicReturn { reply_code: 312, reply_text: \"NO_ROUTE\", exchange: \"\", routing_key: \"nowhere\" }",
            "1 header of 5: [16, 0, 2]",
            "1 body 'hello'",
            "1 BasicAck { delivery_tag: 1, multiple: false }"
        ]
    );
}

#[test]
fn a_client_that_does_not_read_what_is_returned_is_not_read() {
    let mut talk = confirming();
    let returned = message("nowhere", vec![0, 0].into(), vec![b'x'; 60_000].into());
    let chan = leveret_broker::ChanId(101);
    let mut count = 0;
    while talk.session.reads() {
        count += 1;
        talk.session.output(vec![Output::Return { chan, tag: count, message: returned.clone() }]);
        talk.session.fill();
    }
    assert!((10..40).contains(&count), "{count} messages of 60 kB");
    talk.hears();
    assert!(talk.session.reads());
}

#[test]
fn a_client_is_told_when_its_publishes_wait() {
    let mut talk = Talk::with_channel();
    talk.session.set_blocked(true);
    talk.session.set_blocked(true);
    talk.session.set_blocked(false);
    assert_eq!(
        talk.hears(),
        ["0 ConnectionBlocked { reason: \"publishes wait for the disk\" }", "0 ConnectionUnblocked"]
    );
}

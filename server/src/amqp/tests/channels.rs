use leveret_broker::{Refusal, RefusalKind, Reply};

use super::talk::{Talk, close_channel, declare, publish};
use crate::amqp::frame::Kind;
use crate::amqp::fuzz::not_found;
use crate::amqp::method::Method;

fn declared(name: &str) -> Reply {
    Reply::QueueDeclared { name: name.into(), messages_ready: 3, consumers: 1 }
}

const OPEN: Method<'static> = Method::ChannelOpen { reserved_1: "" };

#[test]
fn a_request_is_answered_and_what_came_behind_it_follows() {
    let mut talk = Talk::with_channel();
    talk.says(1, &declare("q"));
    // Behind a request everything of its channel waits, but not what other channels do.
    talk.publishes(1, "", "q", b"one");
    talk.says(2, &OPEN);
    talk.publishes(2, "", "q", b"two");
    assert_eq!(
        talk.core_hears(),
        ["r102 declare queue 'q'", "c103 opened", "c103 publish 1 to ''/'q' 'two'"]
    );
    talk.replies(102, declared("q"));
    assert_eq!(talk.core_hears(), ["c101 publish 1 to ''/'q' 'one'"]);
    assert_eq!(
        talk.hears(),
        [
            "2 ChannelOpenOk { reserved_1: [] }",
            "1 QueueDeclareOk { queue: \"q\", message_count: 3, consumer_count: 1 }"
        ]
    );
}

#[test]
fn an_empty_name_means_the_queue_declared_last() {
    let mut talk = Talk::with_channel();
    talk.says(1, &declare(""));
    assert_eq!(talk.core_hears(), ["r102 declare queue ''"]);
    talk.replies(102, declared("amq.gen-x"));
    let bind = |queue, routing_key| Method::QueueBind {
        reserved_1: 0,
        queue,
        exchange: "x",
        routing_key,
        nowait: true,
        arguments: Default::default(),
    };
    for (queue, key, names) in [("", "", "'amq.gen-x'"), ("", "k", "'k'"), ("q", "", "''")] {
        talk.says(1, &bind(queue, key));
        let heard = talk.core_hears();
        assert!(heard[0].ends_with(&format!("to 'x' by {names}")), "{heard:?}");
        let req = heard[0][1..4].parse().expect("a request");
        talk.replies(req, Reply::Done);
    }
    talk.says(1, &Method::QueuePurge { reserved_1: 0, queue: "", nowait: false });
    assert_eq!(talk.core_hears(), ["r106 purge 'amq.gen-x'"]);
}

#[test]
fn without_a_declared_queue_an_empty_name_is_not_found() {
    let mut talk = Talk::with_channel();
    talk.says(1, &Method::BasicGet { reserved_1: 0, queue: "", no_ack: true });
    assert_eq!(
        talk.hears(),
        [
            "1 ChannelClose { reply_code: 404, reply_text: \"NOT_FOUND - no previously declared queue\", class_id: 60, \
          method_id: 70 }"
        ]
    );
    assert_eq!(talk.core_hears(), ["c101 closed"]);
}

#[test]
fn a_refusal_closes_the_channel_and_only_its_close_is_heard() {
    let mut talk = Talk::with_channel();
    talk.says(1, &declare("q"));
    talk.core_hears();
    talk.publishes(1, "", "q", b"behind");
    talk.refuses(102, Refusal::new(RefusalKind::PreconditionFailed, "inequivalent arg 'durable'"));
    assert_eq!(
        talk.hears(),
        [
            "1 ChannelClose { reply_code: 406, reply_text: \"PRECONDITION_FAILED - inequivalent arg 'durable'\", \
          class_id: 50, method_id: 10 }"
        ]
    );
    assert_eq!(talk.core_hears(), ["c101 closed"]);
    // Neither what waited nor what still comes.
    talk.publishes(1, "", "q", b"late");
    talk.says(1, &Method::BasicAck { delivery_tag: 1, multiple: false });
    talk.says(1, &OPEN);
    assert_eq!((talk.core_hears().len(), talk.hears().len()), (0, 0));
    talk.says(1, &Method::ChannelCloseOk {});
    // The same number again, at once.
    talk.says(1, &OPEN);
    assert_eq!(talk.core_hears(), ["c103 opened"]);
    assert_eq!(talk.hears(), ["1 ChannelOpenOk { reserved_1: [] }"]);
}

#[test]
fn late_answers_for_a_closed_channel_are_dropped() {
    let mut talk = Talk::with_channel();
    talk.says(1, &declare("q"));
    talk.publishes(1, "", "", b"x");
    talk.says(1, &Method::ConfirmSelect { nowait: true });
    talk.frame(Kind::Header, 1, |_| {});
    talk.refuses(102, not_found("x"));
    talk.says(1, &Method::ChannelCloseOk {});
    talk.hears();
    talk.confirms(101, 5, &[]);
    talk.replies(102, declared("q"));
    assert_eq!(talk.hears().len(), 0);
}

#[test]
fn a_client_closes_and_opens_without_waiting() {
    let mut talk = Talk::with_channel();
    talk.says(1, &close_channel());
    talk.says(1, &OPEN);
    talk.says(1, &declare("q"));
    assert_eq!(talk.core_hears(), ["r102 CloseChannel { chan: ChanId(101) }"]);
    talk.replies(102, Reply::Done);
    assert_eq!(talk.core_hears(), ["c101 closed", "c103 opened", "r104 declare queue 'q'"]);
    assert_eq!(talk.hears(), ["1 ChannelCloseOk", "1 ChannelOpenOk { reserved_1: [] }"]);
}

#[test]
fn closes_that_cross_are_both_answered() {
    // The client's comes while ours is on its way...
    let mut talk = Talk::with_channel();
    talk.publishes(1, "missing", "", b"");
    talk.core_says(crate::hub::Output::ChannelFailed {
        chan: leveret_broker::ChanId(101),
        cause: leveret_broker::Cause::Publish { tag: 1 },
        refusal: not_found("no exchange 'missing' in vhost '/'"),
    });
    talk.says(1, &close_channel());
    let heard = talk.hears();
    assert!(heard[0].starts_with("1 ChannelClose { reply_code: 404") && heard[0].contains("method_id: 40"));
    assert_eq!(heard[1..], ["1 ChannelCloseOk"]);
    // ...or it waits behind a request that is refused, or was asked before the failure showed.
    for behind in [declare("q"), close_channel()] {
        let mut talk = Talk::with_channel();
        talk.says(1, &behind);
        talk.says(1, &close_channel());
        if matches!(behind, Method::ChannelClose { .. }) {
            talk.core_says(crate::hub::Output::ChannelFailed {
                chan: leveret_broker::ChanId(101),
                cause: leveret_broker::Cause::Publish { tag: 1 },
                refusal: not_found("x"),
            });
        } else {
            talk.refuses(102, not_found("x"));
        }
        let heard = talk.hears();
        assert!(heard[0].starts_with("1 ChannelClose { reply_code: 404"), "{heard:?}");
        assert_eq!(heard[1], "1 ChannelCloseOk");
        talk.says(1, &Method::ChannelCloseOk {});
        talk.says(1, &OPEN);
        assert_eq!(talk.hears(), ["1 ChannelOpenOk { reserved_1: [] }"]);
    }
}

#[test]
fn misuse_of_channels_ends_the_connection() {
    let misuse = |says: &dyn Fn(&mut Talk)| {
        let mut talk = Talk::with_channel();
        talk.says(2, &OPEN);
        talk.hears();
        says(&mut talk);
        talk.hears_connection_close()
    };
    let text = |text: &str| text.to_owned();
    assert_eq!(
        misuse(&|t| t.says(1, &OPEN)),
        (504, text("CHANNEL_ERROR - second 'channel.open' seen"), (20, 10))
    );
    assert_eq!(
        misuse(&|t| t.says(3, &declare("q"))),
        (504, text("CHANNEL_ERROR - expected 'channel.open'"), (50, 10))
    );
    assert_eq!(misuse(&|t| t.says(17, &OPEN)).0, 530);
    assert_eq!(misuse(&|t| t.says(0, &declare("q"))).0, 503);
    assert_eq!(misuse(&|t| t.says(1, &super::talk::close_connection())).0, 503);
    assert_eq!(misuse(&|t| t.says(1, &Method::BasicGetEmpty { reserved_1: "" })).0, 503);
    assert_eq!(misuse(&|t| t.frame(Kind::Heartbeat, 1, |_| {})).0, 505);
    assert_eq!(misuse(&|t| t.header(0, 0, &[0, 0])).0, 505);
    assert_eq!(misuse(&|t| t.header(1, 0, &[0, 0])).0, 505);
    assert_eq!(misuse(&|t| t.body(1, b"x")).0, 505);
    assert_eq!(misuse(&|t| t.says(1, &Method::ChannelFlow { active: false })).0, 540);
    assert_eq!(misuse(&|t| t.says(1, &Method::BasicRecover { requeue: false })).0, 540);
    let qos = Method::BasicQos { prefetch_size: 1, prefetch_count: 0, global: false };
    assert_eq!(misuse(&|t| t.says(1, &qos)), (540, text("NOT_IMPLEMENTED - prefetch_size!=0 (1)"), (60, 10)));
    let unknown = |t: &mut Talk| t.frame(Kind::Method, 1, |out| out.extend_from_slice(&[0, 99, 0, 1]));
    assert_eq!(misuse(&unknown).0, 540);
    let malformed = |t: &mut Talk| t.frame(Kind::Method, 1, |out| out.extend_from_slice(&[0, 60, 0, 80, 1]));
    assert_eq!(
        misuse(&malformed),
        (502, text("SYNTAX_ERROR - basic.ack: the arguments end early"), (60, 80))
    );
    let immediate = Method::BasicPublish {
        reserved_1: 0,
        exchange: "",
        routing_key: "",
        mandatory: false,
        immediate: true,
    };
    assert_eq!(misuse(&|t| t.says(1, &immediate)).0, 540);
    let interrupted = |t: &mut Talk| {
        t.says(1, &publish("", "q"));
        t.says(1, &declare("q"));
    };
    assert_eq!(misuse(&interrupted).0, 505);
}

#[test]
fn garbage_ends_the_connection_and_nothing_more_is_understood() {
    let mut talk = Talk::with_channel();
    talk.bytes(b"GET / HTTP/1.1\r\n");
    let (code, text, ids) = talk.hears_connection_close();
    assert_eq!((code, &*text, ids), (501, "FRAME_ERROR - frame type 71 does not exist", (0, 0)));
    assert_eq!(talk.core_hears(), ["c101 closed", "connection 7 closed"]);
    talk.says(0, &Method::ConnectionCloseOk {});
    assert_eq!(talk.ended(), None);
    talk.time_passes(5_000);
    assert!(talk.ended().is_some());
}

#[test]
fn modes_of_a_channel_exclude_each_other() {
    let mut talk = Talk::with_channel();
    talk.says(1, &Method::ConfirmSelect { nowait: false });
    talk.says(1, &Method::ConfirmSelect { nowait: false });
    assert_eq!(talk.hears(), ["1 ConfirmSelectOk", "1 ConfirmSelectOk"]);
    talk.says(1, &Method::TxSelect {});
    let heard = talk.hears();
    assert!(
        heard[0].contains("406") && heard[0].contains("cannot switch from confirm to tx mode"),
        "{heard:?}"
    );

    let mut talk = Talk::with_channel();
    talk.says(1, &Method::TxSelect {});
    talk.replies(102, Reply::Done);
    assert_eq!(talk.hears(), ["1 TxSelectOk"]);
    talk.says(1, &Method::ConfirmSelect { nowait: false });
    let heard = talk.hears();
    assert!(
        heard[0].contains("406") && heard[0].contains("cannot switch from tx to confirm mode"),
        "{heard:?}"
    );

    let mut talk = Talk::with_channel();
    talk.says(1, &Method::TxCommit {});
    let heard = talk.hears();
    assert!(heard[0].contains("406") && heard[0].contains("channel is not transactional"), "{heard:?}");
}

#[test]
fn a_backlog_that_grows_stops_the_reading() {
    let mut talk = Talk::with_channel();
    talk.says(1, &declare("q"));
    let body = vec![b'x'; 8000];
    let mut sent = 0;
    while talk.session.reads() {
        talk.publishes(1, "", "q", &body);
        sent += 1;
        assert!(sent < 200, "it never stops");
    }
    assert!(sent > 100, "it stops early: {sent}");
    talk.core_hears();
    talk.replies(102, declared("q"));
    assert!(talk.session.reads());
    assert_eq!(talk.core_hears().len(), sent);
}

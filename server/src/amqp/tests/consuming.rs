use leveret_broker::{Cause, ChanId, Got, GotMessage, Reply, Settle, Table, Value};

use super::talk::Talk;
use crate::amqp::fuzz::{RobotCore, message};
use crate::amqp::method::Method;
use crate::hub::Output;

fn consume<'a>(queue: &'a str, consumer_tag: &'a str, arguments: Vec<(&str, Value)>) -> Method<'a> {
    let arguments = Table(arguments.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    Method::BasicConsume {
        reserved_1: 0,
        queue,
        consumer_tag,
        no_local: true,
        no_ack: false,
        exclusive: false,
        nowait: false,
        arguments,
    }
}

fn consuming(tag: &str) -> Reply {
    Reply::Consuming { consumer_tag: tag.into(), reply_to: None }
}

#[test]
fn a_consumer_starts_gets_messages_and_settles_them() {
    let mut talk = Talk::with_channel();
    talk.says(1, &Method::BasicQos { prefetch_size: 0, prefetch_count: 5, global: false });
    talk.says(1, &consume("q", "", vec![("x-priority", Value::I16(-3))]));
    assert_eq!(talk.core_hears(), ["r102 consume 'q' as '' prefetch 5 priority -3"]);
    talk.replies(102, consuming("amq.ctag-1"));
    let mut core = RobotCore::default();
    talk.core_says(Output::Deliver(core.deliver(ChanId(101), "amq.ctag-1".into())));
    assert_eq!(
        talk.hears(),
        [
            "1 BasicQosOk",
            "1 BasicConsumeOk { consumer_tag: \"amq.ctag-1\" }",
            "1 BasicDeliver { consumer_tag: \"amq.ctag-1\", delivery_tag: 1, redelivered: false, exchange: \"\", \
             routing_key: \"q\" }",
            "1 header of 5: [16, 0, 2]",
            "1 body 'hello'"
        ]
    );
    talk.says(1, &Method::BasicAck { delivery_tag: 1, multiple: true });
    talk.says(1, &Method::BasicNack { delivery_tag: 2, multiple: true, requeue: true });
    talk.says(1, &Method::BasicReject { delivery_tag: 3, requeue: false });
    // With them goes the credit for what is written.
    let cost = message("q", vec![0x10, 0, 2].into(), "hello".into()).cost_bytes();
    assert_eq!(
        talk.core_hears(),
        ["c101 ack 1 multiple", "c101 requeue 2 multiple", "c101 drop 3", &format!("c101 writable {cost}")]
    );
}

#[test]
fn prefetch_counts_for_consumers_that_start_later() {
    let mut talk = Talk::with_channel();
    for (tag, prefetch) in [("a", 5), ("b", 7)] {
        talk.says(1, &Method::BasicQos { prefetch_size: 0, prefetch_count: prefetch, global: false });
        talk.says(1, &consume("q", tag, vec![]));
        let heard = talk.core_hears();
        assert!(heard[0].ends_with(&format!("as '{tag}' prefetch {prefetch} priority 0")), "{heard:?}");
        talk.replies(heard[0][1..4].parse().unwrap(), consuming(tag));
    }
    talk.says(1, &Method::BasicQos { prefetch_size: 0, prefetch_count: 9, global: true });
    assert_eq!(talk.core_hears(), ["r104 ChannelPrefetch { chan: ChanId(101), messages: 9 }"]);
    talk.hears();
    talk.replies(104, Reply::Done);
    assert_eq!(talk.hears(), ["1 BasicQosOk"]);
}

#[test]
fn a_priority_must_be_an_integer() {
    let mut talk = Talk::with_channel();
    talk.says(1, &consume("q", "", vec![("x-priority", Value::Bytes("high".into()))]));
    let heard = talk.hears();
    assert!(heard[0].contains("406") && heard[0].contains("x-priority"), "{heard:?}");
}

#[test]
fn an_unknown_tag_closes_the_channel_by_the_method_that_said_it() {
    for (says, how, ids) in [
        (Method::BasicAck { delivery_tag: 9, multiple: false }, Settle::Ack, "method_id: 80"),
        (Method::BasicReject { delivery_tag: 9, requeue: true }, Settle::Requeue, "method_id: 90"),
        (
            Method::BasicNack { delivery_tag: 9, multiple: false, requeue: false },
            Settle::Drop,
            "method_id: 120",
        ),
    ] {
        let mut talk = Talk::with_channel();
        talk.says(1, &says);
        let refusal = leveret_broker::Refusal::new(
            leveret_broker::RefusalKind::PreconditionFailed,
            "unknown delivery tag 9",
        );
        let cause = Cause::Settle { how, tag: 9 };
        talk.core_says(Output::ChannelFailed { chan: ChanId(101), cause, refusal });
        let heard = talk.hears();
        let text = "PRECONDITION_FAILED - unknown delivery tag 9";
        assert!(heard[0].contains("406") && heard[0].contains(text) && heard[0].contains(ids), "{heard:?}");
    }
}

#[test]
fn a_get_says_what_is_left_or_that_there_is_nothing() {
    let mut talk = Talk::with_channel();
    let get = |no_ack| Method::BasicGet { reserved_1: 0, queue: "q", no_ack };
    talk.says(1, &get(false));
    assert_eq!(talk.core_hears(), ["r102 get 'q' Channel(ChanId(101))"]);
    let deliver = RobotCore::default().deliver(ChanId(101), "".into());
    let got = GotMessage {
        ack_id: deliver.ack_id,
        delivery_tag: 1,
        redelivered: true,
        attempt: 2,
        delivery_count: None,
        message: message("q", vec![0, 0].into(), Default::default()),
    };
    talk.replies(102, Reply::Got(Got { messages: vec![got], messages_ready: 4 }));
    talk.says(1, &get(true));
    talk.core_hears();
    talk.replies(103, Reply::Got(Got::default()));
    assert_eq!(
        talk.hears(),
        [
            "1 BasicGetOk { delivery_tag: 1, redelivered: true, exchange: \"\", routing_key: \"q\", message_count: 4 }",
            "1 header of 0: [0, 0]",
            "1 BasicGetEmpty { reserved_1: \"\" }"
        ]
    );
}

#[test]
fn large_bodies_leave_in_frames_that_fit() {
    let mut talk = Talk::with_channel();
    let mut deliver = RobotCore::default().deliver(ChanId(101), "t".into());
    deliver.message = message("q", vec![0, 0].into(), vec![b'x'; 8184 * 2 + 1].into());
    talk.core_says(Output::Deliver(deliver));
    let heard = talk.hears();
    assert_eq!(heard[1..], ["1 header of 16369: [0, 0]", "1 body of 8184", "1 body of 8184", "1 body 'x'"]);
}

#[test]
fn credit_comes_back_only_for_what_the_socket_has_taken() {
    let mut talk = Talk::with_channel();
    let mut core = RobotCore::default();
    let mut cost = 0;
    for _ in 0..4 {
        let mut deliver = core.deliver(ChanId(101), "t".into());
        deliver.message = message("q", vec![0, 0].into(), vec![b'x'; 5000].into());
        cost += deliver.message.cost_bytes();
        talk.core_says(Output::Deliver(deliver));
    }
    assert_eq!(talk.session.take_credit_due().len(), 0);
    talk.hears();
    assert_eq!(talk.credit, [(ChanId(101), cost)]);
}

#[test]
fn a_client_that_does_not_read_holds_what_its_credit_allows_and_is_not_read() {
    let mut talk = Talk::with_channel();
    let mut core = RobotCore::default();
    let mut deliver = core.deliver(ChanId(101), "t".into());
    deliver.message = message("q", vec![0, 0].into(), vec![b'x'; 1000].into());
    let mut given = 0;
    while talk.session.reads() {
        talk.session.output(vec![Output::Deliver(deliver.clone())]);
        talk.session.fill();
        given += 1;
        assert!(given < 10_000, "it is read for ever");
    }
    // Bytes are made of a part only; the rest waits as it came, shared with the queue.
    assert!(talk.session.out().len() < 300 * 1024, "{}", talk.session.out().len());
    let heard = talk.hears().len();
    assert_eq!(heard, given * 3);
    assert!(talk.session.reads());
}

#[test]
fn a_consumer_whose_queue_is_gone_is_told_to_a_client_that_wants_it() {
    let mut talk = Talk::with_channel();
    talk.core_says(Output::ConsumerCancelled { chan: ChanId(101), consumer_tag: "t".into() });
    assert_eq!(talk.hears(), ["1 BasicCancel { consumer_tag: \"t\", nowait: true }"]);
    talk.says(1, &Method::BasicCancel { consumer_tag: "t", nowait: false });
    talk.core_hears();
    talk.replies(102, Reply::Done);
    assert_eq!(talk.hears(), ["1 BasicCancelOk { consumer_tag: \"t\" }"]);
}

#[test]
fn who_deletes_a_queue_has_the_answer_before_the_end_of_its_consumers() {
    let mut talk = Talk::with_channel();
    talk.says(
        1,
        &Method::QueueDelete { reserved_1: 0, queue: "q", if_unused: false, if_empty: false, nowait: false },
    );
    talk.core_hears();
    talk.core_says(Output::ConsumerCancelled { chan: ChanId(101), consumer_tag: "t".into() });
    assert_eq!(talk.hears(), [""; 0], "the answer is not there yet");
    talk.replies(102, Reply::Removed { messages: 3 });
    assert_eq!(
        talk.hears(),
        ["1 QueueDeleteOk { message_count: 3 }", "1 BasicCancel { consumer_tag: \"t\", nowait: true }"]
    );
    talk.says(
        1,
        &Method::QueueDelete { reserved_1: 0, queue: "q2", if_unused: false, if_empty: false, nowait: true },
    );
    talk.core_hears();
    talk.core_says(Output::ConsumerCancelled { chan: ChanId(101), consumer_tag: "u".into() });
    talk.replies(103, Reply::Removed { messages: 0 });
    assert_eq!(talk.hears(), ["1 BasicCancel { consumer_tag: \"u\", nowait: true }"]);
}

#[test]
fn direct_replies_go_to_the_name_that_the_core_gave() {
    let mut talk = Talk::with_channel();
    talk.says(1, &consume("amq.rabbitmq.reply-to", "", vec![]));
    talk.core_hears();
    let reply_to = Some("amq.rabbitmq.reply-to.77".into());
    talk.replies(102, Reply::Consuming { consumer_tag: "t".into(), reply_to });
    let properties = leveret_broker::properties::Properties {
        reply_to: Some("amq.rabbitmq.reply-to".into()),
        ..Default::default()
    };
    talk.says(1, &super::talk::publish("", "q"));
    talk.header(1, 0, &properties.encode().unwrap());
    let inputs = talk.session.take_for_core().inputs;
    let Some(leveret_broker::Input::Publish { publish, .. }) = inputs.last() else { panic!("{inputs:?}") };
    let sent = leveret_broker::properties::Properties::decode(&publish.properties).unwrap();
    assert_eq!(sent.reply_to.as_deref(), Some("amq.rabbitmq.reply-to.77"));
}

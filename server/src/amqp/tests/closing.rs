use leveret_broker::{ChanId, Refusal, RefusalKind, Reply};

use super::talk::{Talk, close_connection, declare};
use crate::amqp::fuzz::RobotCore;
use crate::amqp::method::Method;
use crate::amqp::session::End;
use crate::hub::Output;

#[test]
fn a_client_closes_once_the_core_has_let_everything_go() {
    let mut talk = Talk::with_channel();
    talk.publishes(1, "", "q", b"last");
    talk.says(0, &close_connection());
    assert_eq!(talk.core_hears(), ["c101 publish 1 to ''/'q' 'last'", "r102 CloseConnection"]);
    // What still comes is not for it any more.
    talk.confirms(101, 1, &[]);
    assert_eq!(talk.hears().len(), 0);
    assert!(!talk.session.reads());
    talk.replies(102, Reply::Done);
    assert_eq!(talk.hears(), ["0 ConnectionCloseOk"]);
    assert_eq!(talk.ended(), Some(&End::ByClient));
    assert_eq!(talk.core_hears(), ["c101 closed", "connection 7 closed"]);
}

#[test]
fn a_connection_that_the_core_has_ended_is_told_why() {
    let refusal = || Refusal::new(RefusalKind::ConnectionForced, "user 'guest' was deleted");
    let mut talk = Talk::with_channel();
    talk.core_says(Output::ConnectionForced { refusal: refusal() });
    let text = "CONNECTION_FORCED - user 'guest' was deleted";
    assert_eq!(talk.hears_connection_close(), (320, text.into(), (0, 0)));
    talk.says(0, &Method::ConnectionCloseOk {});
    assert!(matches!(talk.ended(), Some(End::ByServer(_))));
    // One that was about to end anyway ends as it wanted.
    let mut talk = Talk::with_channel();
    talk.says(0, &close_connection());
    talk.core_says(Output::ConnectionForced { refusal: refusal() });
    assert_eq!(talk.hears(), ["0 ConnectionCloseOk"]);
}

#[test]
fn a_refusal_of_the_connections_scope_ends_the_connection() {
    let mut talk = Talk::with_channel();
    talk.says(1, &declare("q"));
    talk.core_hears();
    talk.refuses(102, Refusal::new(RefusalKind::NotImplemented, "queues of type 'stream'"));
    assert_eq!(
        talk.hears_connection_close(),
        (540, "NOT_IMPLEMENTED - queues of type 'stream'".into(), (50, 10))
    );
    assert_eq!(talk.core_hears(), ["c101 closed", "connection 7 closed"]);
    // Nothing but the answer is heard, and nothing is said.
    talk.says(2, &Method::ChannelOpen { reserved_1: "" });
    assert_eq!((talk.hears().len(), talk.core_hears().len()), (0, 0));
    talk.says(0, &Method::ConnectionCloseOk {});
    assert!(matches!(talk.ended(), Some(End::ByServer(_))));
}

#[test]
fn a_close_that_is_never_answered_ends_by_itself() {
    let mut talk = Talk::with_channel();
    talk.time_passes(1000);
    talk.says(0, &declare("q"));
    talk.hears();
    talk.time_passes(4999);
    assert_eq!(talk.ended(), None);
    talk.time_passes(1);
    assert!(matches!(talk.ended(), Some(End::ByServer(_))));
}

const SHUTDOWN: &str = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";

#[test]
fn a_stop_closes_at_once_where_nothing_is_open() {
    let mut talk = Talk::with_channel();
    talk.session.drain();
    assert_eq!(talk.hears_connection_close(), (320, SHUTDOWN.into(), (0, 0)));
    let mut talk = Talk::new();
    talk.session.drain();
    assert!(talk.ended().is_some());
}

#[test]
fn a_stop_waits_for_confirms_but_takes_nothing_new() {
    let mut talk = Talk::with_channel();
    talk.says(1, &Method::ConfirmSelect { nowait: true });
    talk.publishes(1, "", "q", b"accepted");
    talk.session.drain();
    assert!(!talk.session.reads());
    assert_eq!(talk.hears().len(), 0);
    talk.confirms(101, 1, &[]);
    let heard = talk.hears();
    assert_eq!(heard[0], "1 BasicAck { delivery_tag: 1, multiple: false }");
    assert!(heard[1].starts_with("0 ConnectionClose { reply_code: 320"));
}

#[test]
fn a_stop_lets_consumers_settle_until_the_end() {
    let mut talk = Talk::with_channel();
    talk.says(
        1,
        &Method::BasicConsume {
            reserved_1: 0,
            queue: "q",
            consumer_tag: "t",
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: true,
            arguments: Default::default(),
        },
    );
    talk.replies(102, Reply::Consuming { consumer_tag: "t".into(), reply_to: None });
    talk.core_says(Output::Deliver(RobotCore::default().deliver(ChanId(101), "t".into())));
    talk.hears();
    talk.core_hears();
    talk.session.drain();
    talk.says(1, &Method::BasicAck { delivery_tag: 1, multiple: false });
    assert_eq!(talk.core_hears(), ["c101 ack 1"]);
    assert_eq!(talk.hears().len(), 0);
    talk.session.shut_down();
    assert_eq!(talk.hears_connection_close(), (320, SHUTDOWN.into(), (0, 0)));
}

#[test]
fn a_socket_that_is_gone_closes_its_channels() {
    let mut talk = Talk::with_channel();
    talk.publishes(1, "", "q", b"not accepted");
    let inputs: Vec<_> = talk.session.abandon().iter().map(super::talk::show_input).collect();
    assert_eq!(inputs, ["c101 closed", "connection 7 closed"]);
}

/// Guards against messages behind one that could not be stored, on a connection that goes on as if nothing were.
#[test]
fn what_could_not_be_stored_ends_the_connection_with_an_internal_error() {
    let mut talk = Talk::with_channel();
    talk.session.not_stored("the body of the message could not be written");
    let why = "INTERNAL_ERROR - the body of the message could not be written".to_owned();
    assert_eq!(talk.hears_connection_close(), (541, why, (0, 0)));
}

use leveret_broker::{Table, Value};

use super::talk::Talk;
use crate::amqp::frame;
use crate::amqp::fuzz::{Counter, handshake, settings};
use crate::amqp::method::Method;
use crate::amqp::session::{End, Session};

const HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

fn start_ok<'a>(mechanism: &'a str, response: &'a [u8], capable: bool) -> Method<'a> {
    let capabilities = Table(vec![("authentication_failure_close".into(), Value::Bool(capable))]);
    let client_properties = Table(vec![
        ("product".into(), Value::Bytes("a client".into())),
        ("version".into(), Value::Bytes("1.2".into())),
        ("capabilities".into(), Value::Table(capabilities)),
    ]);
    Method::ConnectionStartOk { client_properties, mechanism, response, locale: "en_US" }
}

fn tune_ok(channel_max: u16, frame_max: u32) -> Method<'static> {
    Method::ConnectionTuneOk { channel_max, frame_max, heartbeat: 0 }
}

fn open(vhost: &str) -> Method<'_> {
    Method::ConnectionOpen { vhost, reserved_1: "", reserved_2: false }
}

/// Up to connection.tune.
fn logged_in() -> Talk {
    let mut talk = Talk::new();
    talk.bytes(HEADER);
    talk.hears_bytes();
    talk.says(0, &start_ok("PLAIN", b"\0guest\0guest", true));
    assert_eq!(talk.hears(), ["0 ConnectionTune { channel_max: 16, frame_max: 8192, heartbeat: 10 }"]);
    talk
}

#[test]
fn a_connection_opens_and_says_who_it_is() {
    let mut talk = logged_in();
    talk.says(0, &tune_ok(16, 4096));
    talk.says(0, &open("/"));
    let info = talk.session.wants_connection().expect("a connection is wanted");
    assert_eq!(
        (&*info.peer, info.protocol, &*info.user, &*info.client, &*info.vhost),
        ("127.0.0.1:9", "amqp 0-9-1", "guest", "a client 1.2", "/")
    );
    assert_eq!(talk.hears().len(), 0);
    talk.session.connected(leveret_broker::ConnId(7));
    assert_eq!(talk.hears(), ["0 ConnectionOpenOk { reserved_1: \"\" }"]);
}

#[test]
fn the_start_tells_what_clients_look_for() {
    let mut talk = Talk::new();
    talk.bytes(b"AMQP\x01\x01\x00\x09");
    let bytes = talk.hears_bytes();
    let (frame, _) = frame::split(&bytes, 8192).unwrap().unwrap();
    let Ok(Method::ConnectionStart { version_major, version_minor, server_properties, mechanisms, locales }) =
        Method::decode(frame.payload)
    else {
        panic!("{frame:?}")
    };
    assert_eq!(
        (version_major, version_minor, mechanisms, locales),
        (0, 9, &b"PLAIN AMQPLAIN"[..], &b"en_US"[..])
    );
    assert_eq!(server_properties.get("product"), Some(&Value::Bytes("RabbitMQ".into())));
    assert_eq!(server_properties.get("version"), Some(&Value::Bytes("3.13.7".into())));
    assert!(server_properties.get("leveret_version").is_some());
    let Some(Value::Table(capabilities)) = server_properties.get("capabilities") else { panic!() };
    for name in ["publisher_confirms", "basic.nack", "consumer_cancel_notify", "connection.blocked"] {
        assert_eq!(capabilities.get(name), Some(&Value::Bool(true)), "{name}");
    }
}

#[test]
fn other_protocols_are_answered_with_ours_and_named() {
    for (header, named) in [
        (b"AMQP\x00\x01\x00\x00", "another version of AMQP"),
        (b"GET / HT", "an HTTP request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "a TLS handshake"),
        (b"PRI * HT", "HTTP/2, as gRPC speaks it"),
        (b"SSH-2.0-", "an unknown protocol"),
    ] {
        let mut talk = Talk::new();
        talk.bytes(&header[..3]);
        assert_eq!(talk.hears_bytes(), b"");
        talk.bytes(&header[3..]);
        assert_eq!(talk.hears_bytes(), HEADER);
        assert_eq!(talk.ended(), Some(&End::OtherProtocol(named)));
    }
}

#[test]
fn both_mechanisms_bring_the_login_to_be_checked() {
    let amqplain = b"\x05LOGINS\x00\x00\x00\x05guest\x08PASSWORDS\x00\x00\x00\x05guest";
    for (mechanism, response, good) in [
        ("PLAIN", &b"\0guest\0guest"[..], true),
        ("PLAIN", b"other\0guest\0guest", true),
        ("PLAIN", b"\0guest\0guesT", false),
        ("PLAIN", b"\0guest\0guest\0", false),
        ("PLAIN", b"\0root\0guest", false),
        ("PLAIN", b"\0banned\0secret", false),
        ("AMQPLAIN", amqplain, true),
    ] {
        let mut talk = Talk::new();
        talk.bytes(HEADER);
        talk.hears_bytes();
        talk.says(0, &start_ok(mechanism, response, true));
        if good {
            assert!(talk.hears()[0].starts_with("0 ConnectionTune"), "{mechanism}");
        } else {
            let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the \
                        broker logfile.";
            assert_eq!(talk.hears_connection_close(), (403, text.into(), (0, 0)));
            talk.says(0, &Method::ConnectionCloseOk {});
            assert!(matches!(talk.ended(), Some(End::LoginRefused(_))));
        }
    }
}

#[test]
fn a_refused_login_closes_the_socket_of_a_client_that_cannot_be_told() {
    let mut talk = Talk::new();
    talk.bytes(HEADER);
    talk.hears_bytes();
    talk.says(0, &start_ok("PLAIN", b"\0guest\0no", false));
    assert_eq!(talk.hears_bytes(), b"");
    assert_eq!(talk.ended(), Some(&End::LoginRefused("guest".into())));
}

#[test]
fn logins_that_make_no_sense_are_errors() {
    for (mechanism, response, code) in
        [("EXTERNAL", &b""[..], 503), ("PLAIN", b"guest", 502), ("AMQPLAIN", b"\x05LOGIN", 502)]
    {
        let mut talk = Talk::new();
        talk.bytes(HEADER);
        talk.hears_bytes();
        talk.says(0, &start_ok(mechanism, response, true));
        let (found, _, ids) = talk.hears_connection_close();
        assert_eq!((found, ids), (code, (10, 11)), "{mechanism}");
    }
}

#[test]
fn what_is_tuned_stays_within_what_was_offered() {
    for (channel_max, frame_max, says) in [
        (17, 8192, "negotiated channel_max = 17 is higher than the maximum allowed value (16)"),
        (0, 8192, "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (16)"),
        (16, 8193, "negotiated frame_max = 8193 is higher than the maximum allowed value (8192)"),
        (16, 0, "negotiated frame_max = 0 (no limit) is higher than the maximum allowed value (8192)"),
        (16, 4095, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
    ] {
        let mut talk = logged_in();
        talk.says(0, &tune_ok(channel_max, frame_max));
        assert_eq!(talk.hears_connection_close(), (530, format!("NOT_ALLOWED - {says}"), (10, 31)));
    }
}

#[test]
fn a_virtual_host_must_exist_and_be_open_to_the_user() {
    for (vhost, text) in [
        ("other", "NOT_ALLOWED - vhost other not found"),
        ("closed", "NOT_ALLOWED - access to vhost 'closed' refused for user 'guest'"),
    ] {
        let mut talk = logged_in();
        talk.says(0, &tune_ok(16, 8192));
        talk.says(0, &open(vhost));
        assert_eq!(talk.hears_connection_close(), (530, text.into(), (10, 40)));
    }
}

#[test]
fn nothing_goes_on_until_the_login_is_checked() {
    let mut session = Session::new(settings(), Box::new(Counter(100)), "peer".into(), 0);
    let bytes = handshake();
    let used = session.receive(&bytes);
    assert!(used < bytes.len() && !session.reads());
    assert_eq!(session.wants_login().map(|login| login.user.as_str()), Some("guest"));
    assert!(!format!("{session:?}{:?}", session.wants_login()).contains("password"), "never shown");
    session.login_checked(Ok("guest".into()));
    let used = used + session.receive(&bytes[used..]);
    assert_eq!((used, session.reads()), (bytes.len(), false));
    let (user, vhost) = session.wants_vhost().expect("a virtual host");
    assert_eq!((&*user, &*vhost), ("guest", "/"));
    assert!(session.wants_connection().is_none());
    session.entered(Ok(()));
    assert!(session.wants_connection().is_some());
}

#[test]
fn a_login_that_cannot_be_checked_now_is_told_so() {
    let mut talk = Talk::new();
    talk.bytes(HEADER);
    talk.hears_bytes();
    talk.says(0, &start_ok("PLAIN", b"\0busy\0secret", true));
    let text = "RESOURCE_ERROR - too many logins wait to be checked, try again later";
    assert_eq!(talk.hears_connection_close(), (506, text.into(), (0, 0)));
}

#[test]
fn any_new_secret_is_good_and_the_connection_goes_on() {
    let update = |new_secret| Method::ConnectionUpdateSecret { new_secret, reason: "it was old" };
    let mut talk = Talk::open();
    for secret in [&b"guest"[..], b"another", b""] {
        talk.says(0, &update(secret));
        assert_eq!(talk.hears(), ["0 ConnectionUpdateSecretOk"]);
    }
    talk.says(1, &Method::ChannelOpen { reserved_1: "" });
    assert!(talk.hears()[0].starts_with("1 ChannelOpenOk"), "it goes on");
}

#[test]
fn methods_out_of_turn_end_the_handshake() {
    let mut talk = Talk::new();
    talk.bytes(HEADER);
    talk.hears_bytes();
    talk.says(0, &open("/"));
    assert_eq!(
        talk.hears_connection_close(),
        (503, "COMMAND_INVALID - connection.open is not expected here".into(), (10, 40))
    );
    let mut talk = logged_in();
    talk.says(1, &Method::ChannelOpen { reserved_1: "" });
    assert_eq!(talk.hears_connection_close().0, 504);
}

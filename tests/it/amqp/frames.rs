//! Frames that are wrong: the right code, on the connection, and nobody else is disturbed.

use std::time::{Duration, Instant};

use leveret_tests::amqp::calls::{self, delivery_mode};
use leveret_tests::amqp::codec::{self, BODY, END, HEADER, HEARTBEAT, METHOD, PROTOCOL_HEADER, Writer};
use leveret_tests::amqp::{Connection, Error, Tune, method};

use super::{Broker, HARD, assert_connection_closed, assert_connection_closed_by};

#[tokio::test]
async fn a_wrong_protocol_header_is_answered_by_the_right_one() {
    let broker = Broker::start().await;
    for header in [
        *b"AMQP\x00\x01\x00\x00",
        *b"AMQP\x03\x01\x00\x00",
        *b"AMQP\x00\x00\x09\x02",
        *b"MQTT\x00\x00\x00\x00",
    ] {
        let mut connection = Connection::raw(broker.port).await.expect("a socket");
        connection.send(&header).await.expect("send");
        let answer = connection.rest().await.expect("an answer and the end");
        assert_eq!(answer, PROTOCOL_HEADER[..], "{header:?}");
    }
    broker.channel().await;
}

#[tokio::test]
async fn the_header_of_0_9_is_as_good() {
    let broker = Broker::start().await;
    let mut connection = Connection::raw(broker.port).await.expect("a socket");
    connection.send(b"AMQP\x01\x01\x00\x09").await.expect("send");
    connection.expect(0, method::CONNECTION_START).await.expect("connection.start");
}

#[tokio::test]
async fn tls_and_http_on_the_port_are_logged_as_such() {
    let broker = Broker::start().await;
    for (name, hello) in [
        ("TLS", &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ] {
        let mut connection = Connection::raw(broker.port).await.expect("a socket");
        connection.send(hello).await.expect("send");
        connection.rest().await.expect("the end of the socket");
        broker.logged(name).await;
    }
    broker.channel().await;
}

#[tokio::test]
async fn a_handshake_that_stops_is_ended() {
    let broker = Broker::start().await;
    let mut silent = Connection::raw(broker.port).await.expect("a socket");
    let mut halfway = Connection::raw(broker.port).await.expect("a socket");
    halfway.send(&PROTOCOL_HEADER).await.expect("send");
    halfway.expect(0, method::CONNECTION_START).await.expect("connection.start");
    let begun = Instant::now();
    silent.rest().await.expect("the end of the silent one");
    halfway.rest().await.expect("the end of the one that stopped halfway");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_frame_over_frame_max() {
    let broker = Broker::start().await;
    let tune = Tune { frame_max: 4096, ..Tune::default() };
    let mut connection = Connection::open_with(broker.port, tune).await.expect("a connection");
    connection.channel(1).await.expect("a channel");
    // As large as it may be.
    connection.declare_queue(1, "frame_max", &[]).await.expect("declare");
    connection.publish(1, "", "frame_max", false, &[7; 4088 * 2]).await.expect("publish");
    let arguments = Writer::new().short(0).shortstr("").shortstr("frame_max").octet(0);
    connection.method(1, method::BASIC_PUBLISH, &arguments).await.expect("send");
    connection.send(&calls::header(1, 8000, &delivery_mode(false))).await.expect("send");
    connection.send(&codec::frame(BODY, 1, &[7; 8000])).await.expect("send");
    assert_connection_closed(&mut connection, 501).await;
    let mut other = broker.channel().await;
    assert_eq!(other.delete_queue(1, "frame_max").await.expect("delete"), 1);
}

#[tokio::test]
async fn a_frame_whose_size_is_absurd() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    // The size alone is enough; nothing is waited for or allocated.
    connection.send(&[METHOD, 0, 1, 0xff, 0xff, 0xff, 0xff]).await.expect("send");
    assert_connection_closed(&mut connection, 501).await;
}

#[tokio::test]
async fn a_frame_that_ends_wrong() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    let mut frame = codec::method(1, method::BASIC_QOS, &Writer::new().long(0).short(1).octet(0));
    *frame.last_mut().expect("its end") = END - 1;
    connection.send(&frame).await.expect("send");
    assert_connection_closed(&mut connection, 501).await;
}

#[tokio::test]
async fn a_frame_of_an_unknown_kind() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    connection.send(&codec::frame(7, 1, b"what is this")).await.expect("send");
    assert_connection_closed(&mut connection, 501).await;
}

#[tokio::test]
async fn methods_that_do_not_exist() {
    let broker = Broker::start().await;
    for id in [(60, 199), (77, 10), (0, 0), (65535, 65535)] {
        let mut connection = broker.channel().await;
        connection.method(1, id, &Writer::new()).await.expect("send");
        assert_connection_closed_by(&mut connection, HARD).await;
    }
}

#[tokio::test]
async fn a_method_that_is_cut_off() {
    let broker = Broker::start().await;
    for (id, arguments) in [
        (method::QUEUE_DECLARE, Writer::new().short(0).octet(200)),
        (method::BASIC_QOS, Writer::new().short(0)),
        (method::QUEUE_DECLARE, Writer::new().short(0).shortstr("q").octet(0).long(1_000_000)),
    ] {
        let mut connection = broker.channel().await;
        connection.method(1, id, &arguments).await.expect("send");
        assert_connection_closed_by(&mut connection, 501..=502).await;
    }
    // Not even a method's number.
    let mut connection = broker.channel().await;
    connection.send(&codec::frame(METHOD, 1, &[0, 60])).await.expect("send");
    assert_connection_closed_by(&mut connection, 501..=502).await;
}

#[tokio::test]
async fn a_body_larger_than_promised() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    publish_begun(&mut connection, 10).await;
    connection.send(&codec::frame(BODY, 1, &[7; 11])).await.expect("send");
    assert_connection_closed(&mut connection, 501).await;
}

#[tokio::test]
async fn contents_out_of_order() {
    let broker = Broker::start().await;
    let qos = codec::method(1, method::BASIC_QOS, &Writer::new().long(0).short(1).octet(0));
    let header = calls::header(1, 10, &delivery_mode(false));
    let body = codec::frame(BODY, 1, &[7; 5]);
    // Header or body without a method.
    for frame in [&header, &body] {
        let mut connection = broker.channel().await;
        connection.send(frame).await.expect("send");
        assert_connection_closed(&mut connection, 505).await;
    }
    // A method or a body where the header was to come.
    for frame in [&qos, &body] {
        let mut connection = broker.channel().await;
        let arguments = Writer::new().short(0).shortstr("").shortstr("nowhere").octet(0);
        connection.method(1, method::BASIC_PUBLISH, &arguments).await.expect("send");
        connection.send(frame).await.expect("send");
        assert_connection_closed(&mut connection, 505).await;
    }
    // A method or a second header where the body was to come.
    for frame in [&qos, &header] {
        let mut connection = broker.channel().await;
        publish_begun(&mut connection, 10).await;
        connection.send(frame).await.expect("send");
        assert_connection_closed(&mut connection, 505).await;
    }
}

#[tokio::test]
async fn a_header_of_another_class() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    let arguments = Writer::new().short(0).shortstr("").shortstr("nowhere").octet(0);
    connection.method(1, method::BASIC_PUBLISH, &arguments).await.expect("send");
    let payload = Writer::new().short(50).short(0).longlong(0).short(0).0;
    connection.send(&codec::frame(HEADER, 1, &payload)).await.expect("send");
    assert_connection_closed(&mut connection, 505).await;
}

#[tokio::test]
async fn an_empty_body_has_no_frame_and_heartbeats_may_come_in_between() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    connection.declare_queue(1, "between", &[]).await.expect("declare");
    connection.publish(1, "", "between", false, b"").await.expect("publish");
    publish_begun_to(&mut connection, "between", 4).await;
    connection.send(&codec::frame(HEARTBEAT, 0, b"")).await.expect("send");
    connection.send(&codec::frame(BODY, 1, b"ab")).await.expect("send");
    // Another channel's frames may come in between too, and an empty part of a body.
    connection
        .send(&codec::method(2, method::CHANNEL_OPEN, &Writer::new().shortstr("")))
        .await
        .expect("send");
    connection.send(&codec::frame(BODY, 1, b"")).await.expect("send");
    connection.send(&codec::frame(BODY, 1, b"cd")).await.expect("send");
    connection.expect(2, method::CHANNEL_OPEN_OK).await.expect("channel 2");
    let bodies = [
        connection.get(1, "between").await.expect("get").expect("a message").body,
        connection.get(1, "between").await.expect("get").expect("a message").body,
    ];
    assert_eq!(bodies, [&b""[..], b"abcd"]);
    connection.delete_queue(1, "between").await.expect("delete");
}

#[tokio::test]
async fn a_heartbeat_on_a_channel() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    connection.send(&codec::frame(HEARTBEAT, 1, b"")).await.expect("send");
    assert_connection_closed(&mut connection, 505).await;
}

#[tokio::test]
async fn noise_after_the_handshake() {
    let broker = Broker::start().await;
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..50 {
        let mut connection = broker.channel().await;
        let mut noise = vec![0; rng.usize(8..2000)];
        rng.fill(&mut noise);
        // One that begins like a frame, so that it is not always the size that is wrong.
        noise[..3].copy_from_slice(&[rng.u8(1..4), 0, 1]);
        let size = noise.len() - 8;
        noise[3..7].copy_from_slice(&u32::try_from(size).expect("small").to_be_bytes());
        *noise.last_mut().expect("its end") = END;
        connection.send(&noise).await.expect("send");
        assert_connection_closed_by(&mut connection, HARD).await;
    }
    broker.channel().await;
}

#[tokio::test]
async fn limits_in_tune_ok_that_are_no_limits() {
    let broker = Broker::start().await;
    for (channel_max, frame_max) in [(2048, 131_072), (0, 131_072), (2047, 131_073), (2047, 4095)] {
        let tune = Tune { channel_max, frame_max, heartbeat: 0 };
        match Connection::open_with(broker.port, tune).await {
            Err(Error::Closed { channel: 0, code: 530, .. }) => {}
            other => panic!("channel_max {channel_max}, frame_max {frame_max}: {other:?}"),
        }
    }
}

/// Method and header of a publish whose body is still to come.
async fn publish_begun(connection: &mut Connection, body_bytes: u64) {
    publish_begun_to(connection, "nowhere", body_bytes).await;
}

async fn publish_begun_to(connection: &mut Connection, queue: &str, body_bytes: u64) {
    let arguments = Writer::new().short(0).shortstr("").shortstr(queue).octet(0);
    connection.method(1, method::BASIC_PUBLISH, &arguments).await.expect("send");
    connection.send(&calls::header(1, body_bytes, &delivery_mode(false))).await.expect("send");
}

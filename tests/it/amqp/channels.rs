//! Channels: opened twice, not at all, too many; what is ignored after a close, and in which order things come.

use leveret_tests::amqp::codec::{self, Writer};
use leveret_tests::amqp::{Connection, Error, Settle, Tune, calls, method};

use super::{Broker, assert_channel_closed, assert_connection_closed, assert_connection_closed_by};

#[tokio::test]
async fn a_method_on_a_channel_that_is_not_open() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    connection.method(7, method::BASIC_QOS, &Writer::new().long(0).short(1).octet(0)).await.expect("send");
    let text = assert_connection_closed(&mut connection, 504).await;
    assert_eq!(text, "CHANNEL_ERROR - expected 'channel.open'");
}

#[tokio::test]
async fn a_channel_that_is_opened_twice() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    connection.method(1, method::CHANNEL_OPEN, &Writer::new().shortstr("")).await.expect("send");
    let text = assert_connection_closed(&mut connection, 504).await;
    assert_eq!(text, "CHANNEL_ERROR - second 'channel.open' seen");
}

#[tokio::test]
async fn more_channels_than_agreed() {
    let broker = Broker::start().await;
    let tune = Tune { channel_max: 5, ..Tune::default() };
    let mut connection = Connection::open_with(broker.port, tune).await.expect("a connection");
    for channel in 1..=5 {
        connection.channel(channel).await.expect("a channel");
    }
    connection.method(6, method::CHANNEL_OPEN, &Writer::new().shortstr("")).await.expect("send");
    assert_connection_closed(&mut connection, 530).await;
}

#[tokio::test]
async fn all_channels_that_are_agreed() {
    let broker = Broker::start().await;
    let mut connection = broker.connect().await;
    let open = |channel| codec::method(channel, method::CHANNEL_OPEN, &Writer::new().shortstr(""));
    let all: Vec<u8> = (1..=2047).flat_map(open).collect();
    connection.send(&all).await.expect("send");
    let mut opened = std::collections::BTreeSet::new();
    while opened.len() < 2047 {
        let frame = connection.next().await.expect("channel.open-ok");
        assert_eq!(frame.method(), Some(method::CHANNEL_OPEN_OK));
        assert!(opened.insert(frame.channel), "channel {} twice", frame.channel);
    }
}

#[tokio::test]
async fn methods_of_the_connection_on_a_channel() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    let close = Writer::new().short(200).shortstr("bye").short(0).short(0);
    connection.method(1, method::CONNECTION_CLOSE, &close).await.expect("send");
    assert_connection_closed(&mut connection, 503).await;
    let mut connection = broker.channel().await;
    connection.method(0, method::BASIC_QOS, &Writer::new().long(0).short(1).octet(0)).await.expect("send");
    // RabbitMQ says 504; both are the connection's.
    assert_connection_closed_by(&mut connection, 503..=504).await;
}

#[tokio::test]
async fn what_follows_a_close_is_ignored_until_close_ok() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    connection.declare_queue(1, "behind", &[]).await.expect("declare");
    // In one go: a mistake, and behind it what a client sends that does not know of it yet.
    let mut bytes = Settle::Ack.bytes(1, 99, false);
    bytes.extend(calls::publish(1, ("", "behind"), 0, &calls::delivery_mode(true), b"late", 4096));
    bytes.extend(codec::method(1, method::QUEUE_DECLARE, &calls::queue("behind.2", calls::DURABLE, &[])));
    bytes.extend(Settle::Ack.bytes(1, 100, false));
    connection.send(&bytes).await.expect("send");
    let text = assert_channel_closed(&mut connection, 406).await;
    assert_eq!(text, "PRECONDITION_FAILED - unknown delivery tag 99");
    // The number is free again, and nothing of what followed was done.
    connection.channel(1).await.expect("channel 1 again");
    assert_eq!(connection.delete_queue(1, "behind").await.expect("delete"), 0);
    let passive = calls::queue("behind.2", 1, &[]);
    connection.method(1, method::QUEUE_DECLARE, &passive).await.expect("send");
    assert_channel_closed(&mut connection, 404).await;
}

#[tokio::test]
async fn a_client_closes_a_channel_and_uses_its_number_again() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    let close = Writer::new().short(200).shortstr("bye").short(0).short(0);
    for _ in 0..20 {
        connection.call(1, method::CHANNEL_CLOSE, &close, method::CHANNEL_CLOSE_OK).await.expect("close-ok");
        connection.channel(1).await.expect("open-ok");
    }
}

#[tokio::test]
async fn a_return_comes_before_its_confirm() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    connection.confirm_select(1).await.expect("confirm.select");
    let mandatory = 1;
    for tag in 1..=3 {
        let bytes =
            calls::publish(1, ("", "nowhere.at.all"), mandatory, &calls::delivery_mode(true), b"x", 4096);
        connection.send(&bytes).await.expect("send");
        let returned = connection.content().await.expect("basic.return");
        assert_eq!(returned.method.method(), Some(method::BASIC_RETURN));
        let mut arguments = returned.method.arguments();
        assert_eq!((arguments.short(), arguments.shortstr()), (312, "NO_ROUTE".to_string()));
        assert_eq!(returned.body, &b"x"[..]);
        assert_eq!(returned.properties, &calls::delivery_mode(true)[..]);
        let mut ack = connection.expect(1, method::BASIC_ACK).await.expect("basic.ack");
        assert_eq!(ack.longlong(), tag);
    }
}

#[tokio::test]
async fn an_ordinary_goodbye_is_answered() {
    let broker = Broker::start().await;
    let mut connection = broker.channel().await;
    let close = Writer::new().short(200).shortstr("bye").short(0).short(0);
    connection
        .call(0, method::CONNECTION_CLOSE, &close, method::CONNECTION_CLOSE_OK)
        .await
        .expect("close-ok");
    connection.ended().await.expect("the end of the socket");
}

#[tokio::test]
async fn wrong_credentials_are_told_to_those_who_ask() {
    let broker = Broker::start().await;
    for (mechanism, response, code) in
        [("PLAIN", &b"\0guest\0wrong"[..], 403), ("PLAIN", b"\0nobody\0guest", 403), ("CRAM-MD5", b"", 503)]
    {
        let mut connection = Connection::raw(broker.port).await.expect("a socket");
        connection.send(&codec::PROTOCOL_HEADER).await.expect("send");
        connection.expect(0, method::CONNECTION_START).await.expect("connection.start");
        connection.start_ok(mechanism, response).await.expect("send");
        match connection.next().await {
            Err(Error::Closed { channel: 0, code: said, .. }) if said == code => {}
            other => panic!("{mechanism} {response:?} was answered by {other:?}"),
        }
    }
}

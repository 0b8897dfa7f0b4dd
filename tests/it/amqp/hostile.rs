//! Clients that die, do not read, or do not speak: they cost themselves only.

use std::fs;
use std::time::{Duration, Instant};

use leveret_tests::amqp::codec::{self, BODY, HEARTBEAT, PROTOCOL_HEADER, Writer};
use leveret_tests::amqp::{Connection, Error, Settle, Tune, calls, method};
use leveret_tests::server::Server;
use tokio::task::JoinSet;

use super::Broker;

/// What may come on top of the memory budget of 16 MiB.
const MEMORY_BYTES_MAX: u64 = 100 << 20;
/// Sockets that are open and silent at once, and how many are being opened at a time.
const HALF_OPEN: usize = 10_000;
const OPENERS: usize = 50;

impl Broker {
    /// Memory of the process under test itself, in bytes.
    fn memory(&self) -> u64 {
        self.server.as_ref().map_or(0, Server::anonymous_bytes)
    }

    /// Files and sockets that the process under test has open.
    fn files(&self) -> usize {
        let Some(server) = &self.server else { return usize::MAX };
        fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the process's files").count()
    }
}

/// A confirmed publish and its delivery, in decent time.
async fn works(broker: &Broker, name: &str) {
    let begun = Instant::now();
    let mut connection = broker.channel().await;
    connection.declare_queue(1, name, &[]).await.expect("declare");
    connection.confirm_select(1).await.expect("confirm.select");
    connection.publish(1, "", name, true, b"works").await.expect("publish");
    connection.expect(1, method::BASIC_ACK).await.expect("basic.ack");
    let got = connection.get(1, name).await.expect("get").expect("a message");
    assert_eq!(got.body, &b"works"[..]);
    connection.settle(1, Settle::Ack, got.delivery().0, false).await.expect("ack");
    connection.delete_queue(1, name).await.expect("delete");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_client_that_dies_in_mid_body() {
    let broker = Broker::start().await;
    let mut witness = broker.channel().await;
    witness.declare_queue(1, "mid.body", &[]).await.expect("declare");
    for sent in [0, 1, 5_000, 99_999] {
        let mut connection = broker.channel().await;
        connection.publish(1, "", "mid.body", true, b"whole").await.expect("publish");
        let arguments = Writer::new().short(0).shortstr("").shortstr("mid.body").octet(0);
        connection.method(1, method::BASIC_PUBLISH, &arguments).await.expect("send");
        connection.send(&calls::header(1, 100_000, &calls::delivery_mode(true))).await.expect("send");
        for part in vec![7u8; sent].chunks(4000) {
            connection.send(&codec::frame(BODY, 1, part)).await.expect("send");
        }
        drop(connection);
    }
    // The whole ones are there, of the others nothing.
    for _ in 0..4 {
        let got = loop {
            if let Some(got) = witness.get(1, "mid.body").await.expect("get") {
                break got;
            }
        };
        assert_eq!(got.body, &b"whole"[..]);
    }
    works(&broker, "mid.body.works").await;
    assert_eq!(witness.delete_queue(1, "mid.body").await.expect("delete"), 0);
}

/// Bodies that are promised cost nothing until they come.
#[tokio::test]
async fn promises_are_not_paid_in_advance() {
    let broker = Broker::start().await;
    let mut connections = Vec::new();
    for _ in 0..200 {
        let mut connection = broker.channel().await;
        let arguments = Writer::new().short(0).shortstr("").shortstr("nowhere").octet(0);
        connection.method(1, method::BASIC_PUBLISH, &arguments).await.expect("send");
        connection.send(&calls::header(1, 500_000, &calls::delivery_mode(true))).await.expect("send");
        connection.send(&codec::frame(BODY, 1, &[7; 100])).await.expect("send");
        connections.push(connection);
    }
    works(&broker, "promises.works").await;
    let memory = broker.memory();
    assert!(memory < MEMORY_BYTES_MAX, "{} MiB", memory >> 20);
}

/// Bodies that stop half-way, of ever more connections: there is a bound over all of them, whoever sends whole messages
/// goes on, and the oldest go first.
#[tokio::test]
async fn bodies_that_never_end() {
    let broker = Broker::start().await;
    let mut publisher = broker.channel().await;
    publisher.declare_queue(1, "whole", &[]).await.expect("declare");
    publisher.confirm_select(1).await.expect("confirm.select");
    let part = codec::frame(BODY, 1, &[7; 100_000]);
    let mut stuck = Vec::new();
    for number in 0..300 {
        let mut connection = broker.channel().await;
        let arguments = Writer::new().short(0).shortstr("").shortstr("nowhere").octet(0);
        connection.method(1, method::BASIC_PUBLISH, &arguments).await.expect("send");
        connection.send(&calls::header(1, 500_000, &calls::delivery_mode(true))).await.expect("send");
        for _ in 0..4 {
            connection.send(&part).await.expect("send");
        }
        stuck.push(connection);
        if number % 10 == 0 {
            publisher.publish(1, "", "whole", true, &vec![7; 500_000]).await.expect("publish");
            publisher.expect(1, method::BASIC_ACK).await.expect("basic.ack");
            assert_eq!(publisher.purge(1, "whole").await.expect("purge"), 1);
        }
    }
    let memory = broker.memory();
    assert!(memory < MEMORY_BYTES_MAX, "{} MiB", memory >> 20);
    let first = stuck[0].next().await;
    assert!(matches!(first, Err(Error::Closed { channel: 0, code: 506, .. })), "the oldest is closed");
    // The youngest can still end what they began.
    let last = stuck.last_mut().expect("a connection");
    last.send(&part).await.expect("send");
    let nothing = last.get(1, "whole").await.expect("the channel is open");
    assert!(nothing.is_none());
    works(&broker, "stuck.works").await;
}

#[tokio::test]
async fn a_consumer_that_never_reads() {
    let broker = Broker::start().await;
    let mut publisher = broker.channel().await;
    publisher.declare_queue(1, "unread", &[]).await.expect("declare");
    publisher.confirm_select(1).await.expect("confirm.select");
    // No prefetch: everything may come, and nothing is read after consume-ok.
    let mut deaf = broker.channel().await;
    deaf.consume(1, "unread").await.expect("consume");
    let body = vec![7; 64 << 10];
    let mut confirmed = 0;
    let mut sent = 0;
    while confirmed < 2_000 {
        while sent < 2_000 && sent - confirmed < 20 {
            publisher.publish(1, "", "unread", true, &body).await.expect("publish");
            sent += 1;
        }
        confirmed = publisher.expect(1, method::BASIC_ACK).await.expect("basic.ack").longlong();
        let memory = broker.memory();
        assert!(memory < MEMORY_BYTES_MAX, "{} MiB after {confirmed} messages", memory >> 20);
    }
    works(&broker, "unread.works").await;
    drop(deaf);
    // Everything is there for others, in order.
    let mut reader = broker.channel().await;
    reader.qos(1, 100, false).await.expect("qos");
    reader.consume(1, "unread").await.expect("consume");
    for tag in 1..=2_000 {
        let content = reader.content().await.expect("a delivery");
        assert_eq!((content.delivery().0, content.body.len()), (tag, 64 << 10));
        reader.settle(1, Settle::Ack, tag, false).await.expect("ack");
    }
    drop(reader);
    assert_eq!(publisher.delete_queue(1, "unread").await.expect("delete"), 0);
}

/// A publisher that does not read its confirms: they pile up in its own socket and must not pile up in the broker.
#[tokio::test]
async fn a_publisher_that_never_reads() {
    let broker = Broker::start().await;
    let mut deaf = broker.channel().await;
    deaf.confirm_select(1).await.expect("confirm.select");
    let mandatory = 1;
    let bytes =
        calls::publish(1, ("", "nowhere"), mandatory, &calls::delivery_mode(false), &[7; 32 << 10], 4096);
    // Each comes back as a return; at some point the broker takes no more.
    for _ in 0..4_000 {
        match tokio::time::timeout(Duration::from_millis(500), deaf.send(&bytes)).await {
            Ok(sent) => sent.expect("send"),
            Err(_) => break,
        }
    }
    let memory = broker.memory();
    assert!(memory < MEMORY_BYTES_MAX, "{} MiB", memory >> 20);
    works(&broker, "deaf.works").await;
}

#[tokio::test]
async fn heartbeats_go_both_ways() {
    let broker = Broker::start().await;
    let tune = Tune { heartbeat: 1, ..Tune::default() };
    let mut alive = Connection::open_with(broker.port, tune).await.expect("a connection");
    let mut dead = Connection::open_with(broker.port, tune).await.expect("a connection");
    let begun = Instant::now();
    let watch = tokio::spawn(async move {
        dead.ended().await.expect("the end of the one that says nothing");
        begun.elapsed()
    });
    let mut heard = 0;
    while begun.elapsed() < Duration::from_secs(5) {
        alive.send(&codec::frame(HEARTBEAT, 0, b"")).await.expect("send");
        if let Ok(frame) = tokio::time::timeout(Duration::from_millis(500), alive.frame()).await {
            let frame = frame.expect("a heartbeat");
            assert_eq!((frame.kind, frame.channel, frame.payload.len()), (HEARTBEAT, 0, 0));
            heard += 1;
        }
    }
    assert!(heard >= 4, "{heard} heartbeats in 5 s");
    let ended = watch.await.expect("the watch");
    // Two to three intervals without a byte.
    assert!(ended >= Duration::from_millis(1500) && ended <= Duration::from_secs(4), "{ended:?}");
    // Who speaks is alive.
    alive.channel(1).await.expect("a channel");
}

#[tokio::test]
async fn ten_thousand_half_open_connections() {
    let broker = Broker::start().await;
    let port = broker.port;
    let mut openers = JoinSet::new();
    for opener in 0..OPENERS {
        openers.spawn(async move {
            let mut sockets = Vec::new();
            for number in 0..HALF_OPEN / OPENERS {
                let mut socket = Connection::raw(port).await.unwrap_or_else(|error| {
                    panic!("socket {number} of opener {opener}: {error}; are {HALF_OPEN} open files allowed?")
                });
                // Some say nothing, some half a header, some a whole one.
                socket.send(&PROTOCOL_HEADER[..number % 9]).await.expect("send");
                sockets.push(socket);
            }
            sockets
        });
    }
    let sockets = openers.join_all().await;
    let (files, memory) = (broker.files(), broker.memory());
    assert!(files > HALF_OPEN / 2, "{files} files are open");
    assert!(memory < MEMORY_BYTES_MAX + (100 << 20), "{} MiB for {HALF_OPEN} connections", memory >> 20);
    works(&broker, "half.open").await;
    drop(sockets);
    works(&broker, "half.open").await;
}

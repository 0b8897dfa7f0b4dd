//! Floods: very many of something that each client may have. Memory has a bound whatever they do, and others are served.

use std::io;
use std::time::Duration;

use leveret_tests::amqp::{Connection, Settle, method};
use leveret_tests::server::{Options, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What may come on top of the memory budget of 16 MiB, and of what a test says.
const MEMORY_BYTES_MAX: u64 = 100 << 20;

/// Frames of HTTP/2, and a flag.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_HEADERS: u8 = 4;
/// What goes into one frame, at most.
const PART_BYTES: usize = 16_384;

fn within(server: &Server, bytes: u64, when: &str) {
    let memory = server.anonymous_bytes();
    assert!(memory < bytes, "{} MiB of anonymous memory {when}, {} at most", memory >> 20, bytes >> 20);
}

/// Somebody else publishes and gets, over gRPC.
async fn works(server: &Server) {
    let mut client = server.client().await;
    client.declare_queue("works").await;
    let sent = client.publish("works", "works");
    tokio::time::timeout(Duration::from_secs(10), sent).await.expect("a confirm in decent time");
    assert_eq!(client.purge("works").await, 1);
}

/// 125 MiB of messages that one consumer without prefetch has read and never acks; they are others' when it goes.
#[tokio::test]
async fn a_consumer_that_never_acks() {
    const MESSAGES: u64 = 2_000;
    let options = Options { segment_size: "8MiB".into(), log_budget: "64MiB".into(), ..Options::default() };
    let server = Server::start_with(options).await;
    let mut publisher = Connection::open(server.amqp_port()).await.expect("a connection");
    publisher.channel(1).await.expect("a channel");
    publisher.declare_queue(1, "unacked", &[]).await.expect("declare");
    publisher.confirm_select(1).await.expect("confirm.select");
    let mut greedy = Connection::open(server.amqp_port()).await.expect("a connection");
    greedy.channel(1).await.expect("a channel");
    greedy.consume(1, "unacked").await.expect("consume");
    let body = vec![7; 64 << 10];
    for tag in 1..=MESSAGES {
        publisher.publish(1, "", "unacked", true, &body).await.expect("publish");
        publisher.expect(1, method::BASIC_ACK).await.expect("basic.ack");
        let content = greedy.content().await.expect("a delivery");
        assert_eq!((content.delivery(), content.body.len()), ((tag, false), 64 << 10));
        if tag % 100 == 0 {
            within(&server, MEMORY_BYTES_MAX, &format!("with {tag} unacked messages"));
        }
    }
    works(&server).await;
    drop(greedy);
    let mut reader = Connection::open(server.amqp_port()).await.expect("a connection");
    reader.channel(1).await.expect("a channel");
    reader.qos(1, 100, false).await.expect("qos");
    reader.consume(1, "unacked").await.expect("consume");
    for tag in 1..=MESSAGES {
        let content = reader.content().await.expect("a delivery");
        assert_eq!((content.delivery(), content.body.len()), ((tag, true), 64 << 10));
        reader.settle(1, Settle::Ack, tag, false).await.expect("ack");
    }
    within(&server, MEMORY_BYTES_MAX, "after all");
}

/// 20,000 channels with a consumer each.
#[tokio::test]
async fn channels_by_the_ten_thousand() {
    const CONNECTIONS: usize = 40;
    const CHANNELS: u16 = 500;
    /// What a channel with a consumer may cost.
    const CHANNEL_BYTES_MAX: u64 = 4 << 10;
    let server = Server::start().await;
    let before = server.anonymous_bytes();
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let mut connection = Connection::open(server.amqp_port()).await.expect("a connection");
        connection.channel(1).await.expect("a channel");
        if number == 0 {
            connection.declare_queue(1, "shared", &[]).await.expect("declare");
        }
        connection.consume(1, "shared").await.expect("consume");
        for channel in 2..=CHANNELS {
            connection.channel(channel).await.expect("a channel");
            connection.consume(channel, "shared").await.expect("consume");
        }
        connections.push(connection);
    }
    let channels = CONNECTIONS as u64 * u64::from(CHANNELS);
    within(&server, before + channels * CHANNEL_BYTES_MAX, "with 20,000 channels");
    works(&server).await;
    // Each of them is a consumer: in turn.
    connections[0].publish(1, "", "shared", true, b"one").await.expect("publish");
    drop(connections);
    works(&server).await;
}

/// Requests that begin and do not go on, of 3,000 streams. What anybody may call takes no message that is not small.
#[tokio::test]
async fn grpc_requests_that_never_end() {
    const CONNECTIONS: usize = 20;
    const STREAMS: u32 = 150;
    // An open PublishStream costs some 40 KB, and the windows of its connection are in use.
    for (path, bytes) in
        [("/leveret.v1.Broker/PublishStream", 280 << 20), ("/grpc.health.v1.Health/Check", 100 << 20)]
    {
        let options = Options::default().flag("--grpc-decode-budget", "8MiB");
        let server = Server::start_with(options).await;
        let (mut connections, mut begun) = (Vec::new(), 0);
        for _ in 0..CONNECTIONS {
            let mut connection = Http2::connect(server.grpc_port()).await;
            for stream in 0..STREAMS {
                if !connection.half_a_request(path, 2 * stream + 1).await {
                    break;
                }
                begun += 1;
            }
            connections.push(connection);
        }
        assert!(begun >= CONNECTIONS, "only {begun} requests were begun");
        tokio::time::sleep(Duration::from_secs(1)).await;
        within(&server, bytes, &format!("with {begun} half requests of {path}"));
        works(&server).await;
    }
}

/// A client that speaks as much HTTP/2 (RFC 9113) as it takes to leave requests unfinished.
struct Http2 {
    stream: TcpStream,
    /// Bytes of data that the server takes on all streams together.
    window: usize,
}

impl Http2 {
    async fn connect(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("the preface");
        let mut connection = Self { stream, window: 65_535 };
        connection.frame(SETTINGS, 0, 0, b"").await;
        connection
    }

    async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        let written = tokio::time::timeout(Duration::from_secs(10), self.stream.write_all(&bytes)).await;
        written.expect("the server reads").expect("a connection");
    }

    /// The head of a request and a part of its message. False where the server does not take so much.
    async fn half_a_request(&mut self, path: &str, stream: u32) -> bool {
        // RFC 7541: indexed fields of the static table, and literals that are not indexed.
        let mut head = vec![0x83, 0x86, 0x04, path.len() as u8];
        head.extend(path.as_bytes());
        for (name, value) in
            [(":authority", "broker"), ("content-type", "application/grpc"), ("te", "trailers")]
        {
            head.extend([0, name.len() as u8]);
            head.extend(name.as_bytes());
            head.push(value.len() as u8);
            head.extend(value.as_bytes());
        }
        self.frame(HEADERS, END_HEADERS, stream, &head).await;
        let mut part = vec![7; PART_BYTES];
        part[..5].copy_from_slice(&[0, 0, 0, 0xff, 0xff]);
        for _ in 0..3 {
            if !self.room().await {
                return false;
            }
            self.frame(DATA, 0, stream, &part).await;
            self.window -= PART_BYTES;
        }
        true
    }

    /// Waits until the server takes a part more. False where it does not in a second.
    async fn room(&mut self) -> bool {
        while self.window < PART_BYTES {
            let Ok(read) = tokio::time::timeout(Duration::from_secs(1), self.read()).await else {
                return false;
            };
            let (kind, stream, payload) = read.expect("a connection");
            if let (WINDOW_UPDATE, 0, [a, b, c, d]) = (kind, stream, &payload[..]) {
                self.window += u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            }
        }
        true
    }

    async fn read(&mut self) -> io::Result<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.stream.read_exact(&mut payload).await?;
        Ok((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
    }
}

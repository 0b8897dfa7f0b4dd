//! The listener and the socket loop, over a core on a real thread that answers by simple rules.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leveret_broker::{Input, RefusalKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::talk::{close_connection, declare, publish, show_frame};
use crate::amqp::frame::{self, Kind};
use crate::amqp::fuzz::{RobotCore, handshake, settings};
use crate::amqp::method::Method;
use crate::amqp::session::SessionSettings;
use crate::auth::{Auth, fake};
use crate::hub::Hub;
use crate::inbox::{Envelope, Inbox};
use crate::stage::Stage;

/// A front end over a core.
struct World {
    addr: SocketAddr,
    hub: Hub,
    inbox: Arc<Inbox>,
    core: Option<std::thread::JoinHandle<Seen>>,
    stage: watch::Sender<Stage>,
    served: JoinHandle<()>,
}

/// What the core saw until its end.
#[derive(Debug, Default)]
struct Seen {
    opened: u64,
    login_at: Option<u64>,
    closed: u64,
    channels_closed: u64,
    publishes: u64,
    credit: u64,
}

impl World {
    async fn new(publish_bytes: u32) -> Self {
        Self::with(publish_bytes, (*settings()).clone()).await
    }

    async fn with(publish_bytes: u32, settings: SessionSettings) -> Self {
        let inbox = Arc::new(Inbox::default());
        let core = std::thread::spawn({
            let inbox = Arc::clone(&inbox);
            move || run_core(&inbox)
        });
        let hub = Hub::new(Arc::clone(&inbox), publish_bytes, settings.channel_credit_bytes);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stage, stages) = watch::channel(Stage::Serving);
        let auth = Auth::new(hub.clone(), vec!["guest".into()]).unwrap();
        let served = tokio::spawn(crate::amqp::serve(listener, hub.clone(), auth, settings, stages));
        Self { addr, hub, inbox, core: Some(core), stage, served }
    }

    async fn client(&self) -> Client {
        let mut client = self.stranger().await;
        client.says(&handshake()).await;
        for line in ["ConnectionStart", "ConnectionTune", "ConnectionOpenOk"] {
            assert!(client.hears().await.contains(line));
        }
        client
    }

    async fn stranger(&self) -> Client {
        Client { stream: TcpStream::connect(self.addr).await.unwrap(), buffer: Vec::new() }
    }

    fn end(mut self) -> Seen {
        self.inbox.push(Envelope::Close);
        self.core.take().unwrap().join().unwrap()
    }
}

fn run_core(inbox: &Inbox) -> Seen {
    let (mut robot, mut seen, mut lanes) = (RobotCore::default(), Seen::default(), Vec::new());
    let mut envelopes = std::collections::VecDeque::new();
    loop {
        inbox.take(&mut envelopes, Duration::from_millis(50));
        for envelope in envelopes.drain(..) {
            match envelope {
                Envelope::OpenLane { lane, sender, .. } => lanes.push((lane, sender)),
                Envelope::CloseLane { lane } => lanes.retain(|(other, _)| *other != lane),
                Envelope::Batch { lane, inputs, .. } => {
                    let mut outputs = Vec::new();
                    for input in inputs {
                        see(&mut seen, &input);
                        robot.answer(input, &mut outputs);
                    }
                    if let Some((_, sender)) = lanes.iter().find(|(other, _)| *other == lane) {
                        let _ = sender.send(outputs);
                    }
                }
                Envelope::Input(input) => see(&mut seen, &input),
                Envelope::Close => return seen,
                Envelope::Request { input: Input::Request { op, .. }, reply, .. } => {
                    // Users change at that very moment.
                    inbox.access_changed();
                    let _ = reply.send(fake::answer(&op).expect("a question of logins"));
                }
                Envelope::Request { input, .. } => panic!("{input:?}"),
            }
        }
    }
}

fn see(seen: &mut Seen, input: &Input) {
    match input {
        Input::ConnectionOpened { info, .. } => {
            assert_eq!(info.protocol, "amqp 0-9-1");
            seen.opened += 1;
            seen.login_at = info.login_at;
        }
        Input::ConnectionClosed { .. } => seen.closed += 1,
        Input::ChannelClosed { .. } => seen.channels_closed += 1,
        Input::Publish { .. } => seen.publishes += 1,
        Input::Writable { bytes, .. } => seen.credit += bytes,
        _ => {}
    }
}

struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn says(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next frame.
    async fn hears(&mut self) -> String {
        loop {
            if let Some((frame, length)) = frame::split(&self.buffer, u32::MAX).unwrap() {
                let line = show_frame(frame);
                self.buffer.drain(..length);
                return line;
            }
            let read = self.stream.read_buf(&mut self.buffer);
            assert!(timeout(Duration::from_secs(10), read).await.expect("an answer").unwrap() > 0, "closed");
        }
    }

    /// Nothing more comes, and the socket is closed.
    async fn hears_the_end(&mut self) {
        let read = self.stream.read_to_end(&mut self.buffer);
        let _ = timeout(Duration::from_secs(10), read).await.expect("an end");
        assert_eq!(self.buffer, b"");
    }
}

fn bytes(methods: &[(u16, Method<'_>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, method) in methods {
        frame::write(&mut out, Kind::Method, *number, |out| method.encode(out));
    }
    out
}

fn message(number: u16, body: &[u8]) -> Vec<u8> {
    let mut out = bytes(&[(number, publish("", "q"))]);
    frame::write(&mut out, Kind::Header, number, |out| {
        out.extend_from_slice(&[0, 60, 0, 0]);
        out.extend_from_slice(&(body.len() as u64).to_be_bytes());
        out.extend_from_slice(&[0x10, 0, 2]);
    });
    for part in body.chunks(8000) {
        frame::write(&mut out, Kind::Body, number, |out| out.extend_from_slice(part));
    }
    out
}

const OPEN: Method<'static> = Method::ChannelOpen { reserved_1: "" };

#[tokio::test]
async fn a_conversation_over_a_socket() {
    let world = World::new(1 << 20).await;
    let mut client = world.client().await;
    let select = Method::ConfirmSelect { nowait: true };
    client.says(&bytes(&[(1, OPEN), (1, select), (1, declare("q"))])).await;
    assert_eq!(client.hears().await, "1 ChannelOpenOk { reserved_1: [] }");
    assert!(client.hears().await.starts_with("1 QueueDeclareOk"));
    // Byte by byte.
    for byte in message(1, b"hello") {
        client.says(&[byte]).await;
    }
    assert_eq!(client.hears().await, "1 BasicAck { delivery_tag: 1, multiple: false }");
    client.says(&message(1, &vec![b'x'; 60_000])).await;
    assert_eq!(client.hears().await, "1 BasicAck { delivery_tag: 2, multiple: false }");
    client.says(&bytes(&[(0, close_connection())])).await;
    assert_eq!(client.hears().await, "0 ConnectionCloseOk");
    client.hears_the_end().await;
    let seen = world.end();
    assert_eq!((seen.opened, seen.publishes, seen.channels_closed), (1, 2, 1));
}

#[tokio::test]
async fn publishes_without_room_wait_and_the_client_is_told() {
    let world = World::new(1000).await;
    let all = world.hub.permit(1000).await.expect("room");
    let mut client = world.client().await;
    client
        .says(&[bytes(&[(1, OPEN), (1, Method::ConfirmSelect { nowait: true })]), message(1, b"x")].concat())
        .await;
    // What was read with the publish waits with it in the core's eyes, not in the client's.
    assert_eq!(client.hears().await, "1 ChannelOpenOk { reserved_1: [] }");
    assert!(client.hears().await.starts_with("0 ConnectionBlocked"));
    // Others are undisturbed.
    let mut other = world.client().await;
    other.says(&bytes(&[(1, OPEN), (1, declare("q"))])).await;
    assert!(other.hears().await.contains("ChannelOpenOk") && other.hears().await.contains("QueueDeclareOk"));
    drop(all);
    let mut heard = [client.hears().await, client.hears().await];
    heard.sort();
    assert_eq!(heard, ["0 ConnectionUnblocked", "1 BasicAck { delivery_tag: 1, multiple: false }"]);
}

#[tokio::test]
async fn a_client_that_vanishes_in_the_middle_of_a_body_leaves_nothing() {
    let world = World::new(1 << 20).await;
    let mut client = world.client().await;
    let mut half = [bytes(&[(1, OPEN)]), message(1, &[b'x'; 20_000])].concat();
    half.truncate(half.len() - 5000);
    client.says(&half).await;
    client.hears().await;
    drop(client);
    // The next one is served, and by then the first is gone.
    tokio::time::sleep(Duration::from_millis(100)).await;
    world.client().await;
    let seen = world.end();
    assert_eq!((seen.publishes, seen.channels_closed), (0, 1));
    assert!(seen.closed >= 1);
}

#[tokio::test]
async fn strangers_are_answered_and_silent_ones_are_closed() {
    let mut settings = (*settings()).clone();
    settings.handshake_ms = 200;
    let world = World::with(1 << 20, settings).await;
    let mut web = world.stranger().await;
    web.says(b"GET / HTTP/1.1\r\n\r\n").await;
    let mut answer = Vec::new();
    web.stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"AMQP\x00\x00\x09\x01");
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(world.stranger().await);
    }
    for client in &mut silent {
        client.hears_the_end().await;
    }
    assert_eq!(world.end().opened, 0);
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_ends_with_the_last() {
    let world = World::new(1 << 20).await;
    let mut idle = world.client().await;
    let mut busy = world.client().await;
    let consume = Method::BasicConsume {
        reserved_1: 0,
        queue: "q",
        consumer_tag: "t",
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: true,
        arguments: Default::default(),
    };
    busy.says(&bytes(&[(1, OPEN), (1, consume)])).await;
    for line in ["ChannelOpenOk", "BasicDeliver", "header", "body"] {
        assert!(busy.hears().await.contains(line));
    }
    world.stage.send(Stage::Draining).unwrap();
    assert!(idle.hears().await.contains("reply_code: 320"));
    idle.says(&bytes(&[(0, Method::ConnectionCloseOk {})])).await;
    idle.hears_the_end().await;
    while TcpStream::connect(world.addr).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // It can still ask and settle.
    busy.says(&bytes(&[(1, Method::BasicAck { delivery_tag: 1, multiple: false }), (1, declare("q"))])).await;
    assert!(busy.hears().await.contains("QueueDeclareOk"));
    world.stage.send(Stage::Ending).unwrap();
    assert!(busy.hears().await.contains("reply_code: 320"));
    busy.says(&bytes(&[(0, Method::ConnectionCloseOk {})])).await;
    timeout(Duration::from_secs(10), world.served).await.expect("served to the end").unwrap();
}

#[tokio::test]
async fn a_refusal_of_the_core_reaches_the_client() {
    let world = World::new(1 << 20).await;
    let mut client = world.client().await;
    client.says(&bytes(&[(1, OPEN), (1, declare("missing"))])).await;
    client.hears().await;
    let code = crate::amqp::ReplyCode::from(RefusalKind::NotFound).number();
    assert!(client.hears().await.contains(&format!("reply_code: {code}")));
}

/// Guards against a connection that a later user of the same name inherits.
#[tokio::test]
async fn the_core_hears_since_when_the_login_holds() {
    let world = World::new(1 << 20).await;
    let _client = world.client().await;
    assert!(world.hub.access_generation() > 0);
    assert_eq!(world.end().login_at, Some(0));
}

//! Instructions that the server takes for a message, counted by callgrind and held against tests/instructions.toml: a
//! ratchet that needs no quiet machine. What it counts is what all threads of the server execute, system calls left out.
//!
//! A scenario is played in two lives of the server, the second with three times the messages. The difference, over the
//! messages that the second had more, is free of start, login and stop, which take as much as 50,000 messages.

mod figures;

use std::fs;
use std::time::Duration;

use leveret_tests::amqp::{Connection, Error, Settle, calls, method};
use leveret_tests::binary;
use leveret_tests::client;
use leveret_tests::server::{Home, Options, Server};
use leveret_tests::streams::PublishLane;
use rustix::process::Signal;

use crate::skip;

/// Messages of the first life.
const MESSAGES: u64 = 20_000;
/// As many are sent in one write, and all of them answered before the next.
const WINDOW: u16 = 2_000;
const BODY: [u8; 100] = [b'x'; 100];
/// Fewer are not enough to take a message from a socket and into a file: something was not counted.
const INSTRUCTIONS_MIN: f64 = 500.0;
/// For a server whose threads share one core with a translator, on a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(600);
const QUEUE: &str = "counted";

#[derive(Debug, Clone, Copy)]
enum Scenario {
    /// AMQP: persistent messages into a durable queue, confirmed.
    Publish,
    /// AMQP: the same with a consumer of that queue, prefetch of a window, an ack for each message.
    EndToEnd,
    /// gRPC: PublishStream with one message in each request.
    PublishStream,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::EndToEnd => "end_to_end",
            Self::PublishStream => "publish_stream",
        }
    }

    /// Plays it; the server has answered all of it when this returns.
    async fn play(self, server: &Server, messages: u64) {
        match self {
            Self::Publish => over_amqp(server, messages, false).await.expect("AMQP"),
            Self::EndToEnd => over_amqp(server, messages, true).await.expect("AMQP"),
            Self::PublishStream => over_grpc(server, messages).await,
        }
    }
}

#[tokio::test]
async fn publish_takes_no_more_instructions() {
    hold(Scenario::Publish).await;
}

#[tokio::test]
async fn end_to_end_takes_no_more_instructions() {
    hold(Scenario::EndToEnd).await;
}

#[tokio::test]
async fn publish_stream_takes_no_more_instructions() {
    hold(Scenario::PublishStream).await;
}

async fn hold(scenario: Scenario) {
    let test = format!("instructions::{}_takes_no_more_instructions", scenario.name());
    let Some(valgrind) = skip::tool("valgrind", &test) else { return };
    let figures = figures::Figures::read();
    if figures.machine != std::env::consts::ARCH && !figures::writing() {
        skip::say(&format!(
            "SKIPPED {test}: the figures are of {}, this is no such machine",
            figures.machine
        ));
        return;
    }
    let valgrind = valgrind.display().to_string();
    let few = total(scenario, &valgrind, MESSAGES).await;
    let many = total(scenario, &valgrind, 3 * MESSAGES).await;
    let measured = many.saturating_sub(few) as f64 / (2 * MESSAGES) as f64;
    let binary = binary::leveret();
    let rustc = figures::rustc_of(&fs::read(&binary).expect("the server's binary"));
    eprintln!("{}: {measured:.1} instructions a message", scenario.name());
    assert!(measured > INSTRUCTIONS_MIN, "{measured:.0} instructions a message: the server was not counted");
    if figures::writing() {
        figures::write(scenario.name(), measured, &rustc);
        return;
    }
    if rustc != figures.rustc {
        skip::say(&format!("{test}: {}", figures.of_another(&rustc)));
    }
    if let Err(why) = figures.judge(scenario.name(), measured, &rustc) {
        panic!("{why}\nMeasured was {}, which has to be a release build.", binary.display());
    }
}

/// Instructions of one life of a server.
async fn total(scenario: Scenario, valgrind: &str, messages: u64) -> u64 {
    let home = Home::new().expect("a temporary directory");
    let out = home.path().join("callgrind.out");
    let wrapper = [valgrind, "--tool=callgrind", &format!("--callgrind-out-file={}", out.display())];
    // The settings of production, so that nothing is counted that small segments cause.
    let options = Options {
        memory_budget: "256MiB".into(),
        wrapper: wrapper.map(String::from).into(),
        ..Options::large()
    };
    let mut server = Server::start_on(&home, options).await;
    scenario.play(&server, messages).await;
    server.signal(Signal::TERM);
    let status = server.wait_exit(PATIENCE).await;
    assert!(status.success(), "SIGTERM ends with {status}");
    figures::total(&fs::read_to_string(&out).expect("callgrind's file"))
}

async fn over_amqp(server: &Server, messages: u64, consumed: bool) -> Result<(), Error> {
    let mut connection = Connection::open(server.amqp_port()).await?;
    connection.channel(1).await?;
    connection.declare_queue(1, QUEUE, &[]).await?;
    connection.confirm_select(1).await?;
    if consumed {
        connection.qos(1, WINDOW, false).await?;
        connection.consume(1, QUEUE).await?;
    }
    let message = calls::publish(1, ("", QUEUE), 0, &calls::delivery_mode(true), &BODY, 131_072);
    let window = message.repeat(WINDOW.into());
    let (mut sent, mut confirmed, mut delivered) = (0, 0, 0);
    while sent < messages {
        connection.send(&window).await?;
        sent += u64::from(WINDOW);
        while confirmed < sent || consumed && delivered < sent {
            let frame = connection.next().await?;
            match frame.method() {
                Some(method::BASIC_ACK) => confirmed = frame.arguments().longlong(),
                Some(method::BASIC_DELIVER) => delivered += 1,
                Some(other) => panic!("{other:?} was not to come"),
                None => {}
            }
        }
        if consumed {
            let tags = sent - u64::from(WINDOW) + 1..=sent;
            let acks: Vec<u8> = tags.flat_map(|tag| Settle::Ack.bytes(1, tag, false)).collect();
            connection.send(&acks).await?;
        }
    }
    assert_eq!(confirmed, messages, "all are confirmed, and no more");
    assert_eq!(delivered, if consumed { messages } else { 0 }, "all are delivered, and no more");
    let left = connection.declare_queue(1, QUEUE, &[]).await?;
    assert_eq!(u64::from(left), messages - delivered, "messages that are left");
    Ok(())
}

async fn over_grpc(server: &Server, messages: u64) {
    let mut client = server.client().await;
    client.declare_queue(QUEUE).await;
    let mut lane = PublishLane::open(&client).await;
    let mut sent = 0;
    while sent < messages {
        for _ in 0..WINDOW {
            lane.send(vec![client::to_queue(QUEUE, &BODY[..])]);
        }
        sent += u64::from(WINDOW);
        let answers = lane.confirmed(sent).await;
        assert_eq!(answers.last().map(|answer| answer.confirmed_upto), Some(sent), "all, and no more");
    }
    lane.finish().await.expect("the end of the stream");
    assert_eq!(client.queue_info(QUEUE).await.messages, messages);
}

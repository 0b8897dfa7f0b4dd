//! amqplib, the client library of most Node users: the scenarios in tests/clients/amqplib against the real binary, by
//! the current version and by an old one, that asks for frames of at most 4096 bytes. What they expect was seen on
//! RabbitMQ; with AMQP_PORT set they run against whatever broker listens there.

use std::time::Duration;

use leveret_tests::binary::workspace;
use leveret_tests::script::{self, Broker};
use leveret_tests::server::Options;
use tokio::process::Command;

use crate::skip;

/// How long a scenario may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A package as it is installed, and the frame size it asks for.
const VERSIONS: [(&str, &str); 2] = [("amqplib", "131072"), ("amqplib-old", "4096")];

async fn scenario(name: &str) {
    let Some(package) = skip::tool("amqplib", &format!("amqplib::{name}")) else { return };
    for (version, frame_max) in VERSIONS {
        let mut command = Command::new("node");
        command.args(["scenarios.js", name]);
        command.env("AMQPLIB", package.with_file_name(version)).env("FRAME_MAX", frame_max);
        let broker = Broker::start(Options::default()).await;
        script::run(command, &workspace().join("tests/clients/amqplib"), broker, TIMEOUT).await;
    }
}

#[tokio::test]
async fn publish_and_consume() {
    scenario("publish_and_consume").await;
}

#[tokio::test]
async fn properties() {
    scenario("properties").await;
}

#[tokio::test]
async fn mandatory() {
    scenario("mandatory").await;
}

#[tokio::test]
async fn requeue() {
    scenario("requeue").await;
}

#[tokio::test]
async fn dead_letters() {
    scenario("dead_letters").await;
}

#[tokio::test]
async fn large() {
    scenario("large").await;
}

#[tokio::test]
async fn frame_max() {
    scenario("frame_max").await;
}

#[tokio::test]
async fn errors_of_a_channel() {
    scenario("errors_of_a_channel").await;
}

#[tokio::test]
async fn errors_of_a_connection() {
    scenario("errors_of_a_connection").await;
}

#[tokio::test]
async fn consumer_cancelled() {
    scenario("consumer_cancelled").await;
}

#[tokio::test]
async fn rpc() {
    scenario("rpc").await;
}

#[tokio::test]
async fn reconnect() {
    scenario("reconnect").await;
}

//! RabbitMQ's Java client, with its recovery of connections: the scenarios in tests/clients/java against the real binary.
//! What they expect was seen on RabbitMQ; with AMQP_PORT set they run against whatever broker listens there.

use std::time::Duration;

use leveret_tests::binary::workspace;
use leveret_tests::script::{self, Broker};
use leveret_tests::server::Options;
use tokio::process::Command;

use crate::skip;

/// How long a scenario may take.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn scenario(name: &str) {
    let Some(program) = skip::tool("java-client", &format!("java_client::{name}")) else { return };
    let mut command = Command::new(program);
    command.arg(name);
    let broker = Broker::start(Options::default()).await;
    script::run(command, &workspace().join("tests/clients/java"), broker, TIMEOUT).await;
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
async fn errors_of_a_channel() {
    scenario("errors_of_a_channel").await;
}

#[tokio::test]
async fn errors_of_a_connection() {
    scenario("errors_of_a_connection").await;
}

#[tokio::test]
async fn transactions() {
    scenario("transactions").await;
}

#[tokio::test]
async fn rpc() {
    scenario("rpc").await;
}

#[tokio::test]
async fn reconnect() {
    scenario("reconnect").await;
}

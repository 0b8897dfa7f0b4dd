//! amqp-tools, the commands of the C library rabbitmq-c: the scenarios in tests/clients/amqp-tools against the real
//! binary. What they expect was seen on RabbitMQ; with AMQP_PORT set they run against whatever broker listens there.

use std::time::Duration;

use leveret_tests::binary::workspace;
use leveret_tests::script::{self, Broker};
use leveret_tests::server::Options;
use tokio::process::Command;

use crate::skip;

/// How long a scenario may take.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn scenario(name: &str) {
    let Some(commands) = skip::tool("amqp-tools", &format!("amqp_tools::{name}")) else { return };
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("./story.sh");
    command.arg(name).env("PATH", format!("{}:{path}", commands.display()));
    let broker = Broker::start(Options::default()).await;
    script::run(command, &workspace().join("tests/clients/amqp-tools"), broker, TIMEOUT).await;
}

#[tokio::test]
async fn declare_and_delete() {
    scenario("declare_and_delete").await;
}

#[tokio::test]
async fn publish_and_get() {
    scenario("publish_and_get").await;
}

#[tokio::test]
async fn consume() {
    scenario("consume").await;
}

#[tokio::test]
async fn errors() {
    scenario("errors").await;
}

#[tokio::test]
async fn large() {
    scenario("large").await;
}

#[tokio::test]
async fn reconnect() {
    scenario("reconnect").await;
}

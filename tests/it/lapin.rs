//! lapin, the Rust client: the scenarios in tests/clients/lapin against the real binary. With AMQP_PORT set they run
//! against whatever broker listens there.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::pika::broker;
use crate::skip;

/// How long a scenario may take.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn scenario(name: &str) {
    let Some(lapin) = skip::tool("lapin", &format!("lapin::{name}")) else { return };
    let (port, _server) = broker().await;
    let child = Command::new(lapin)
        .arg(name)
        .env("AMQP_PORT", port.to_string())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("lapin");
    let output = tokio::time::timeout(TIMEOUT, child.wait_with_output())
        .await
        .unwrap_or_else(|_| panic!("{name} still runs after {TIMEOUT:?}"))
        .expect("its output");
    assert!(output.status.success(), "{name}:\n{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn confirms() {
    scenario("confirms").await;
}

#[tokio::test]
async fn prefetch() {
    scenario("prefetch").await;
}

#[tokio::test]
async fn requeue() {
    scenario("requeue").await;
}

#[tokio::test]
async fn cancel_notify() {
    scenario("cancel_notify").await;
}

#[tokio::test]
async fn mandatory() {
    scenario("mandatory").await;
}

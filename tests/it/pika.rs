//! pika, the client library of most Python users: the scripts in tests/clients/pika against the real binary. What they
//! expect was seen on RabbitMQ; with AMQP_PORT set they run against whatever broker listens there.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use leveret_tests::binary::workspace;
use leveret_tests::server::{Options, Server};
use tokio::process::Command;

use crate::skip;

mod cross;

/// How long a script may take.
const TIMEOUT: Duration = Duration::from_secs(120);

fn directory() -> PathBuf {
    workspace().join("tests/clients/pika")
}

/// A Python that has pika; or None when it could not be installed.
fn python(test: &str) -> Option<PathBuf> {
    skip::tool("pika", &format!("pika::{test}"))
}

/// Runs Python in the scripts' directory and asserts that it ends well.
async fn run(python: PathBuf, port: u16, arguments: &[&str]) -> Output {
    let child = Command::new(python)
        .args(arguments)
        .current_dir(directory())
        .env("AMQP_PORT", port.to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("python");
    let output = tokio::time::timeout(TIMEOUT, child.wait_with_output())
        .await
        .unwrap_or_else(|_| panic!("{arguments:?} still runs after {TIMEOUT:?}"))
        .expect("its output");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{arguments:?} ends with {}:\n{}\n{}",
        output.status,
        said(&output.stdout),
        said(&output.stderr)
    );
    output
}

/// The port of the broker under test, and that broker where it is ours.
pub(crate) async fn broker() -> (u16, Option<Server>) {
    match std::env::var("AMQP_PORT") {
        Ok(port) => (port.parse().expect("AMQP_PORT is a number"), None),
        Err(_) => {
            let server = Server::start_with(Options::default()).await;
            (server.amqp_port(), Some(server))
        }
    }
}

/// A script that is one story, with its assertions in it.
async fn script(name: &str) {
    let Some(python) = python(name) else { return };
    let (port, _server) = broker().await;
    run(python, port, &[&format!("{name}.py")]).await;
}

/// A module of test cases, all of which must have been run.
async fn cases(module: &str, count: usize) {
    let Some(python) = python(module) else { return };
    let (port, _server) = broker().await;
    let output = run(python, port, &["-m", "unittest", module]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains(&format!("Ran {count} tests in ")),
        "{count} cases of {module} are expected:\n{said}"
    );
    assert!(!said.contains("skipped"), "{said}");
}

#[tokio::test]
async fn hello_world() {
    script("hello_world").await;
}

#[tokio::test]
async fn work_queue() {
    script("work_queue").await;
}

#[tokio::test]
async fn publish_subscribe() {
    script("publish_subscribe").await;
}

#[tokio::test]
async fn routing() {
    script("routing").await;
}

#[tokio::test]
async fn topics() {
    script("topics").await;
}

#[tokio::test]
async fn rpc() {
    script("rpc").await;
}

#[tokio::test]
async fn publisher_confirms() {
    script("publisher_confirms").await;
}

#[tokio::test]
async fn asyncio_client() {
    script("asyncio_client").await;
}

#[tokio::test]
async fn errors() {
    cases("errors", 52).await;
}

#[tokio::test]
async fn basics() {
    cases("basics", 26).await;
}

#[tokio::test]
async fn features() {
    cases("features", 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_readme_shows() {
    let Some(python) = python("what_the_readme_shows") else { return };
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("README.md");
    let (_, rest) = readme.split_once("```python\n").expect("a block of Python in README.md");
    let (block, _) = rest.split_once("```").expect("the end of the block");
    let (port, _server) = broker().await;
    let block = block.replace("5672", &port.to_string());
    run(python, port, &["-c", &format!("{block}\nassert body == b'one', body")]).await;
}

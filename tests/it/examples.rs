//! The examples work by the lines of examples/README.md: tests/tools/install.sh runs the install lines in a copy, and
//! these tests the others.

use std::time::Duration;

use leveret_tests::binary::workspace;
use leveret_tests::script::{self, Broker};
use leveret_tests::server::Options;
use tokio::process::Command;

use crate::skip;

/// How long an example may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The block that follows a marker.
fn block(readme: &str, marker: &str) -> String {
    let (_, rest) =
        readme.split_once(&format!("<!-- {marker} -->\n```")).unwrap_or_else(|| panic!("no {marker}"));
    let (_, rest) = rest.split_once('\n').expect("a line after the fence");
    rest.split_once("```").expect("the end of the block").0.to_string()
}

async fn example(name: &str) {
    let test = format!("examples::{}", name.replace('-', "_"));
    let Some(directory) = skip::tool(&format!("example-{name}"), &test) else { return };
    let readme = std::fs::read_to_string(workspace().join("examples/README.md")).expect("examples/README.md");
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", &block(&readme, &format!("run: {name}"))]);
    let broker = Broker::start(Options::default()).await;
    command.env("AMQP_URL", format!("amqp://guest:guest@127.0.0.1:{}", broker.amqp_port()));
    command.env("LEVERET_GRPC", format!("127.0.0.1:{}", broker.grpc_port().unwrap_or_default()));
    let said = script::run(command, &directory, broker, TIMEOUT).await;
    assert_eq!(said, block(&readme, "expect: all"));
}

#[tokio::test]
async fn amqp_python() {
    example("amqp-python").await;
}

#[tokio::test]
async fn amqp_node() {
    example("amqp-node").await;
}

#[tokio::test]
async fn amqp_go() {
    example("amqp-go").await;
}

#[tokio::test]
async fn amqp_java() {
    example("amqp-java").await;
}

#[tokio::test]
async fn grpc_python() {
    example("grpc-python").await;
}

#[tokio::test]
async fn grpc_node() {
    example("grpc-node").await;
}

#[tokio::test]
async fn grpc_go() {
    example("grpc-go").await;
}

#[tokio::test]
async fn grpc_java() {
    example("grpc-java").await;
}

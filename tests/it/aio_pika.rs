//! aio-pika, the client library of Python's asyncio, with its robust connections: the cases in tests/clients/aio-pika
//! against the real binary. What they expect was seen on RabbitMQ; with AMQP_PORT set they run against whatever broker
//! listens there.

use std::time::Duration;

use leveret_tests::binary::workspace;
use leveret_tests::script::{self, Broker};
use leveret_tests::server::Options;
use tokio::process::Command;

use crate::skip;

/// How long the cases may take.
const TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn client() {
    let Some(python) = skip::tool("aio-pika", "aio_pika::client") else { return };
    let mut command = Command::new(python);
    command.args(["-W", "ignore::DeprecationWarning", "-m", "unittest", "client"]);
    let broker = Broker::start(Options::default()).await;
    script::run(command, &workspace().join("tests/clients/aio-pika"), broker, TIMEOUT).await;
}

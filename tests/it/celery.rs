//! Celery, with kombu and py-amqp below: the stories in tests/clients/celery, with real workers, against the real
//! binary. kombu reads `product` and `version` of the broker and acts by them. With AMQP_PORT set they run against
//! whatever broker listens there.

use std::time::Duration;

use leveret_tests::binary::workspace;
use leveret_tests::script::{self, Broker};
use leveret_tests::server::Options;
use tempfile::TempDir;
use tokio::process::Command;

use crate::skip;

/// How long a story may take.
const TIMEOUT: Duration = Duration::from_secs(240);

async fn story(name: &str, arguments: &[&str], product: &str, version: &str) {
    let Some(python) = skip::tool("celery", &format!("celery::{name}")) else { return };
    let traces = TempDir::new().expect("a directory");
    let options = Options::default().flag("--amqp-product", product).flag("--amqp-version", version);
    let broker = Broker::start(options).await;
    let mut command = Command::new(python);
    command.args(arguments).env("TASKS_DIRECTORY", traces.path());
    if name == "quorum_queues" {
        command.env("QUEUE_TYPE", "quorum");
    }
    script::run(command, &workspace().join("tests/clients/celery"), broker, TIMEOUT).await;
}

#[tokio::test]
async fn no_task_is_lost_when_worker_and_broker_are_killed() {
    let name = "no_task_is_lost_when_worker_and_broker_are_killed";
    story(name, &["survival.py"], "RabbitMQ", "3.13.7").await;
}

#[tokio::test]
async fn a_workers_life() {
    story("a_workers_life", &["worker.py"], "RabbitMQ", "3.13.7").await;
}

#[tokio::test]
async fn a_workers_life_with_a_broker_by_its_own_name() {
    story("a_workers_life_with_a_broker_by_its_own_name", &["worker.py"], "Leveret", "4.1.4").await;
}

#[tokio::test]
async fn quorum_queues() {
    story("quorum_queues", &["quorum.py"], "RabbitMQ", "4.1.4").await;
}

#[tokio::test]
async fn kombu() {
    story("kombu", &["-m", "unittest", "client"], "RabbitMQ", "3.13.7").await;
}

//! The AMQP benchmark: the same light client against Leveret and, where it is installed, RabbitMQ, in turns.

pub(crate) mod codec;
pub(crate) mod link;
pub(crate) mod load;
mod rabbitmq;
mod report;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::Error;
use crate::child::{self, Running};
use link::Link;
use rabbitmq::RabbitMq;
use report::Report;

const QUEUE: &str = "bench";

/// How the AMQP benchmark runs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// Directory on the disk to be measured; a new one below it is used and removed. Default: the build directory.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Runs of each figure; the median counts.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds for each figure of a run.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The server's fsync policy.
    #[arg(long, default_value = "always")]
    fsync: String,
    /// Bytes of a body.
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Messages of the backlog that is drained.
    #[arg(long, default_value_t = 100_000)]
    backlog: u64,
    /// Without RabbitMQ, installed or not.
    #[arg(long)]
    no_rabbitmq: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Figure {
    /// Publishes with at most so many unconfirmed.
    Publish {
        /// Unconfirmed at most.
        window: u64,
    },
    /// Publish, deliver, ack.
    EndToEnd {
        /// Unacked at most.
        prefetch: u16,
    },
    /// A backlog is delivered and acked.
    Drain,
}

/// In the order of the table.
const FIGURES: [Figure; 7] = [
    Figure::Publish { window: 1 },
    Figure::Publish { window: 100 },
    Figure::Publish { window: 2000 },
    Figure::EndToEnd { prefetch: 1 },
    Figure::EndToEnd { prefetch: 100 },
    Figure::EndToEnd { prefetch: 2000 },
    Figure::Drain,
];

/// What a measurement gives.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    /// Messages per second.
    rate: f64,
    /// Latency in microseconds, 50th and 99th percentile; only where messages go one by one.
    latency: Option<(f64, f64)>,
}

/// A broker, and the kind of queue that is used on it.
#[derive(Debug, Clone)]
struct Target {
    name: String,
    addr: SocketAddr,
    queue_type: &'static str,
}

/// Runs and prints.
pub(crate) async fn run(arguments: &Arguments) -> Result<bool, Error> {
    let parent = arguments.data_dir.clone().unwrap_or_else(child::target);
    std::fs::create_dir_all(&parent)?;
    let directory = tempfile::Builder::new().prefix("leveret-bench-").tempdir_in(&parent)?;
    let broker = Running::broker(&directory.path().join("data"), &arguments.fsync).await?;
    let mut targets = vec![Target {
        name: format!("leveret, fsync={}", arguments.fsync),
        addr: broker.amqp_addr(),
        queue_type: "classic",
    }];
    // Kept until the end: it ends with its value.
    let rabbitmq = match arguments.no_rabbitmq {
        true => None,
        false => RabbitMq::start(&directory.path().join("rabbitmq"))?,
    };
    match &rabbitmq {
        Some(rabbitmq) => targets.extend(rabbitmq.targets()),
        None => eprintln!("without RabbitMQ: no rabbitmq-server found, or not asked for"),
    }
    let arguments = arguments.clone();
    let measured =
        tokio::task::spawn_blocking(move || measure(&targets, &arguments).map_err(|error| error.to_string()));
    let report = measured.await??;
    report.print();
    Ok(true)
}

/// Every figure of every target once per run, the targets in turns.
fn measure(targets: &[Target], arguments: &Arguments) -> Result<Report, Error> {
    let mut report = Report::new(targets, arguments);
    for run in 1..=arguments.runs {
        for figure in FIGURES {
            for (index, target) in targets.iter().enumerate() {
                let outcome = once(target, figure, arguments)?;
                eprintln!(
                    "run {run} of {}: {}: {}",
                    arguments.runs,
                    target.name,
                    report::line(figure, outcome)
                );
                report.add(index, figure, outcome);
            }
        }
    }
    Ok(report)
}

/// One measurement on a new queue.
fn once(target: &Target, figure: Figure, arguments: &Arguments) -> Result<Outcome, Error> {
    let mut link = Link::open(target.addr)?;
    link.delete(QUEUE)?;
    link.declare(QUEUE, target.queue_type)?;
    let duration = Duration::from_secs_f64(arguments.seconds);
    let outcome = match figure {
        Figure::Publish { window } => load::publish(target.addr, arguments.bytes, window, duration)?,
        Figure::EndToEnd { prefetch } => load::end_to_end(target.addr, arguments.bytes, prefetch, duration)?,
        Figure::Drain => load::drain(target.addr, arguments.bytes, arguments.backlog)?,
    };
    link.delete(QUEUE)?;
    Ok(outcome)
}

//! Benchmarks: the broker against the bare cost of its parts, side by side on one machine.
//!
//! `cargo run --release -p leveret-bench -- grpc`, `-- compare` and `-- store`.

mod amqp;
mod child;
mod compare;
mod disk;
mod echo;
mod floor;
mod grpc;
mod load;
mod machine;
mod peer;
mod report;
mod store;
mod stream;
mod unary;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The broker's, so that the bare services have no worse one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Benchmarks of the Leveret message broker.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Publishing over gRPC against a bare service on the same transport, and a bare fdatasync.
    Grpc(GrpcArguments),
    /// Leveret beside the floor, RabbitMQ, NATS and Redis: throughput and latency, with a table, JSON and plots.
    Compare(compare::Arguments),
    /// Backlogs: restart, memory, disk and draining with millions of messages.
    Store(store::Arguments),
    /// The floor: an AMQP server that parses, copies, writes, syncs, confirms, and does nothing else.
    Floor {
        /// Where it listens.
        addr: SocketAddr,
        /// Directory of its file.
        directory: PathBuf,
    },
    /// The bare service.
    #[command(hide = true)]
    Echo {
        /// Where it listens.
        addr: SocketAddr,
    },
}

/// How the gRPC benchmark runs.
#[derive(Debug, Clone, clap::Args)]
struct GrpcArguments {
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
    /// Publishes that may be unconfirmed on the stream.
    #[arg(long, default_value_t = 2000)]
    window: u64,
    /// Bytes of a body.
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// How the clients of both streams make their requests.
    #[arg(long, value_enum, default_value = "channel")]
    client: stream::Client,
    /// Fail when a target is missed.
    #[arg(long)]
    check: bool,
}

/// What ends a benchmark early.
type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Arguments::parse().what {
        What::Grpc(arguments) => grpc::run(&arguments).await,
        What::Compare(arguments) => compare::run(arguments).await,
        What::Store(arguments) => store::run(&arguments).await,
        What::Floor { addr, directory } => floor::serve(addr, &directory),
        What::Echo { addr } => echo::serve(addr).await.map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

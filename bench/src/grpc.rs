//! The runs: broker, bare, broker, bare; so that whatever else the machine does falls on both.

use std::time::Duration;

use leveret_proto::v1::broker_client::BrokerClient;
use leveret_proto::v1::{DeclareQueueRequest, PurgeQueueRequest};
use tonic::transport::Channel;

use crate::child::{self, Running};
use crate::report::{Figures, Report, Streams};
use crate::stream::Load;
use crate::{Error, GrpcArguments, disk, stream, unary};

const QUEUE: &str = "bench";

/// Runs and prints; false when `--check` is given and a target is missed.
pub(crate) async fn run(arguments: &GrpcArguments) -> Result<bool, Error> {
    let parent = arguments.data_dir.clone().unwrap_or_else(child::target);
    std::fs::create_dir_all(&parent)?;
    let directory = tempfile::Builder::new().prefix("leveret-bench-").tempdir_in(&parent)?;
    let broker = Running::broker(&directory.path().join("data"), &arguments.fsync).await?;
    let echo = Running::echo().await?;
    let mut client = BrokerClient::new(broker.connect().await?);
    client.declare_queue(DeclareQueueRequest { name: QUEUE.into(), ..Default::default() }).await?;

    let duration = Duration::from_secs_f64(arguments.seconds);
    let load = Load { bytes: arguments.bytes, window: arguments.window, duration, client: arguments.client };
    let mut report = Report::new(arguments);
    for run in 1..=arguments.runs {
        let stream_broker = stream::broker(broker.connect().await?, QUEUE, load).await?;
        purge(&mut client).await?;
        let stream_bare = stream::bare(echo.connect().await?, load).await?;
        let stream_lean = stream::lean(echo.connect().await?, load).await?;
        let unary_broker = unary::broker(broker.connect().await?, QUEUE, arguments.bytes, duration).await?;
        purge(&mut client).await?;
        let unary_bare = unary::bare(echo.connect().await?, arguments.bytes, duration).await?;
        let path = directory.path().to_path_buf();
        let fdatasync = tokio::task::spawn_blocking(move || disk::fdatasync(&path, duration)).await??;
        let streams = Streams { broker: stream_broker, bare: stream_bare, lean: stream_lean };
        let figures = Figures::new(streams, &unary_broker, &unary_bare, &fdatasync);
        eprintln!("run {run} of {}: {figures}", arguments.runs);
        report.add(figures);
    }
    Ok(report.print() || !arguments.check)
}

/// Keeps the runs alike: no backlog from the run before.
async fn purge(client: &mut BrokerClient<Channel>) -> Result<(), Error> {
    client.purge_queue(PurgeQueueRequest { name: QUEUE.into(), ..Default::default() }).await?;
    Ok(())
}

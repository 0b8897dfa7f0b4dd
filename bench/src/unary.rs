//! Unary calls one by one: latency.

use std::future::Future;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use leveret_proto::v1::PublishRequest;
use leveret_proto::v1::broker_client::BrokerClient;
use tonic::Status;
use tonic::transport::Channel;

use crate::Error;
use crate::echo::pb::UnaryRequest;
use crate::echo::pb::echo_service_client::EchoServiceClient;
use crate::stream::publish;

/// Calls before the count begins.
const WARM_UP: u32 = 200;

/// Latencies of publishes of one persistent message, in nanoseconds.
pub(crate) async fn broker(
    channel: Channel,
    queue: &str,
    bytes: usize,
    duration: Duration,
) -> Result<Histogram<u64>, Error> {
    let client = BrokerClient::new(channel);
    let request = PublishRequest { vhost: String::new(), messages: vec![publish(queue, bytes)] };
    one_by_one(duration, || {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.publish(request).await.map(drop) }
    })
    .await
}

/// The same against the bare service.
pub(crate) async fn bare(
    channel: Channel,
    bytes: usize,
    duration: Duration,
) -> Result<Histogram<u64>, Error> {
    let client = EchoServiceClient::new(channel);
    let request = UnaryRequest { body: vec![7; bytes].into() };
    one_by_one(duration, || {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.unary(request).await.map(drop) }
    })
    .await
}

async fn one_by_one<F>(duration: Duration, call: impl Fn() -> F) -> Result<Histogram<u64>, Error>
where
    F: Future<Output = Result<(), Status>>,
{
    for _ in 0..WARM_UP {
        call().await?;
    }
    let mut latencies = Histogram::new(3)?;
    let end = Instant::now() + duration;
    while Instant::now() < end {
        let started = Instant::now();
        call().await?;
        latencies.record(u64::try_from(started.elapsed().as_nanos())?)?;
    }
    Ok(latencies)
}

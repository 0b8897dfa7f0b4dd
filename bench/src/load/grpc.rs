//! A gRPC stream of requests that are encoded once: tonic and HTTP/2 on one thread, and no message encoded by it.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use hdrhistogram::Histogram;
use leveret_proto::v1::{PublishStreamRequest, PublishStreamResponse};
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

use super::Sample;
use super::swarm::cpu_time;
use crate::Error;
use crate::echo::pb::{
    BatchStreamRequest, BatchStreamResponse, RequestStreamResponse, StreamRequest, StreamResponse,
};
use crate::stream::{Requests, Stopwatch, Window, publish};

/// What a stream is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Messages that may be unconfirmed.
    pub(crate) window: u64,
    /// Bytes of a body.
    pub(crate) body: usize,
    /// Messages in a request.
    pub(crate) batch: usize,
    pub(crate) warm_up: Duration,
    pub(crate) counted: Duration,
}

/// Publishes to a queue of the broker.
pub(crate) fn publish_stream(addr: SocketAddr, queue: &str, load: Load) -> Result<Sample, Error> {
    run(
        addr,
        "/leveret.v1.Broker/PublishStream",
        request(queue, load),
        load,
        |answer: &PublishStreamResponse| match answer.exceptions.first() {
            None => Ok(answer.confirmed_upto),
            Some(exception) => Err(format!("a publish was not routed: {exception:?}").into()),
        },
    )
}

/// The same many messages to the bare service, without what a broker needs to know of them.
pub(crate) fn bare(addr: SocketAddr, load: Load) -> Result<Sample, Error> {
    let body = Bytes::from(vec![7; load.body]);
    if load.batch == 1 {
        let request = StreamRequest { body }.encode_to_vec();
        let path = "/leveret.bench.v1.EchoService/Stream";
        return run(addr, path, request, load, |answer: &StreamResponse| Ok(answer.count));
    }
    let request = BatchStreamRequest { bodies: vec![body; load.batch] }.encode_to_vec();
    let path = "/leveret.bench.v1.EchoService/BatchStream";
    run(addr, path, request, load, |answer: &BatchStreamResponse| Ok(answer.count))
}

/// What the broker is given, to a bare service that takes it apart and counts it.
pub(crate) fn bare_requests(addr: SocketAddr, load: Load) -> Result<Sample, Error> {
    let path = "/leveret.bench.v1.EchoService/RequestStream";
    run(addr, path, request("bench-classic-00000", load), load, |answer: &RequestStreamResponse| {
        Ok(answer.count)
    })
}

fn request(queue: &str, load: Load) -> Vec<u8> {
    let messages = vec![publish(queue, load.body); load.batch];
    PublishStreamRequest { vhost: String::new(), messages }.encode_to_vec()
}

fn run<T: Message + Default + 'static>(
    addr: SocketAddr,
    path: &'static str,
    request: Vec<u8>,
    load: Load,
    confirmed: fn(&T) -> Result<u64, Error>,
) -> Result<Sample, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let channel = Endpoint::from_shared(format!("http://{addr}"))?.tcp_nodelay(true).connect().await?;
        let mut client = Grpc::new(channel);
        client.ready().await?;
        let window = Arc::new(Window::default());
        let end = Instant::now() + load.warm_up + load.counted;
        let requests = Requests::new(Bytes::from(request), load.batch as u64, &window, load.window, end);
        let (path, codec) = (PathAndQuery::from_static(path), Raw(PhantomData));
        let mut answers = client.streaming(Request::new(requests), path, codec).await?.into_inner();
        let mut watch = Stopwatch::start(load.warm_up);
        let mut cpu = cpu_time();
        while let Some(answer) = answers.message().await? {
            let upto = confirmed(&answer)?;
            window.confirm(upto);
            if watch.count(upto) {
                cpu = cpu_time();
            }
        }
        let (seconds, rate) = watch.rate()?;
        let client = (cpu_time() - cpu).as_secs_f64() / seconds;
        Ok(Sample { rate, latencies: Histogram::new(3)?, client })
    })
}

/// Sends bytes as they are, and decodes answers.
struct Raw<T>(PhantomData<T>);

impl<T: Message + Default + 'static> Codec for Raw<T> {
    type Encode = Bytes;
    type Decode = T;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self {
        Self(PhantomData)
    }
}

impl<T> Encoder for Raw<T> {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put_slice(&item);
        Ok(())
    }
}

impl<T: Message + Default> Decoder for Raw<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        T::decode(src).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

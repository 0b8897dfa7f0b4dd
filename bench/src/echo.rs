//! The bare service: tonic and nothing behind it. What a broker on this transport could reach at most.
//!
//! `Stream` is written as one writes such a service: a task reads messages and hands cumulative counts to the
//! response stream. `LeanStream` saves whatever can be saved, the task too.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use leveret_proto::v1::PublishStreamRequest;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::Error;
use pb::echo_service_server::{EchoService, EchoServiceServer};
use pb::{BatchStreamRequest, BatchStreamResponse, RequestStreamResponse};
use pb::{LeanStreamRequest, LeanStreamResponse, StreamRequest, StreamResponse, UnaryRequest, UnaryResponse};

/// Generated.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub(crate) mod pb {
    tonic::include_proto!("leveret.bench.v1");
}

/// Messages after which an answer goes out though more wait.
const ANSWER_EVERY: u64 = 256;

/// Serves until killed.
pub(crate) async fn serve(addr: SocketAddr) -> Result<(), Error> {
    Ok(Server::builder().tcp_nodelay(true).add_service(EchoServiceServer::new(Echo)).serve(addr).await?)
}

struct Echo;

#[tonic::async_trait]
impl EchoService for Echo {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<StreamResponse, Status>> + Send>>;
    type BatchStreamStream = Pin<Box<dyn Stream<Item = Result<BatchStreamResponse, Status>> + Send>>;
    type RequestStreamStream = Pin<Box<dyn Stream<Item = Result<RequestStreamResponse, Status>> + Send>>;
    type LeanStreamStream = Counts;

    async fn unary(&self, _: Request<UnaryRequest>) -> Result<Response<UnaryResponse>, Status> {
        Ok(Response::new(UnaryResponse { count: 1 }))
    }

    async fn stream(
        &self,
        request: Request<Streaming<StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let answers = counts(request, |_| 1).map(|count| Ok(StreamResponse { count }));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn batch_stream(
        &self,
        request: Request<Streaming<BatchStreamRequest>>,
    ) -> Result<Response<Self::BatchStreamStream>, Status> {
        let answers = counts(request, |request| request.bodies.len() as u64);
        Ok(Response::new(Box::pin(answers.map(|count| Ok(BatchStreamResponse { count })))))
    }

    async fn request_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::RequestStreamStream>, Status> {
        let answers = counts(request, |request| request.messages.len() as u64);
        Ok(Response::new(Box::pin(answers.map(|count| Ok(RequestStreamResponse { count })))))
    }

    async fn lean_stream(
        &self,
        request: Request<Streaming<LeanStreamRequest>>,
    ) -> Result<Response<Counts>, Status> {
        Ok(Response::new(Counts { requests: request.into_inner(), taken: 0, answered: 0 }))
    }
}

/// A task reads, and the newest count is the answer.
fn counts<T: Send + 'static>(request: Request<Streaming<T>>, messages: fn(&T) -> u64) -> WatchStream<u64> {
    let mut requests = request.into_inner();
    let (counts, newest) = watch::channel(0);
    tokio::spawn(async move {
        // Ends with the client, whichever way it goes.
        while let Ok(Some(request)) = requests.message().await {
            counts.send_modify(|count| *count += messages(&request));
        }
    });
    WatchStream::from_changes(newest)
}

/// Takes what is there, then says how much that was.
pub(crate) struct Counts {
    requests: Streaming<LeanStreamRequest>,
    taken: u64,
    answered: u64,
}

impl Stream for Counts {
    type Item = Result<LeanStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while self.taken - self.answered < ANSWER_EVERY {
            match Pin::new(&mut self.requests).poll_next(cx) {
                Poll::Ready(Some(Ok(_))) => self.taken += 1,
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(Err(status))),
                Poll::Ready(None) if self.taken == self.answered => return Poll::Ready(None),
                Poll::Pending if self.taken == self.answered => return Poll::Pending,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        self.answered = self.taken;
        Poll::Ready(Some(Ok(LeanStreamResponse { count: self.taken })))
    }
}

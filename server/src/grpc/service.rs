//! Service leveret.v1.Broker: one method a call, each handed to the file of its subject.

use std::sync::Arc;

use leveret_broker::{ConnId, Op, Refusal, Reply, Settle};
use leveret_proto::v1::broker_server::Broker;
use leveret_proto::v1::*;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Response, Status, Streaming};

use super::budget::Held;
use super::consume::{self, ConsumeResponses};
use super::errors;
use super::get::{self, put_back_or_drop};
use super::manage::{self, ask, done, removed};
use super::peer::Peer;
use super::publish_stream::{self, PublishResponses};
use super::session::{SessionStream, Sessions};
use super::status::StatusSource;
use super::subscribe::{self, SubscribeResponses};
use super::{publish, rows};
use crate::hub::{Channel, Hub, Outputs};
use crate::stage::{self, Stage};

/// What every call needs.
pub(super) struct Service {
    pub(super) hub: Hub,
    pub(super) sessions: Sessions,
    pub(super) status: Arc<dyn StatusSource>,
    pub(super) stage: stage::Receiver,
    pub(super) message_bytes_max: u64,
}

/// A channel for a stream and the connection it is on.
struct Opened {
    conn: ConnId,
    channel: (Channel, Outputs),
}

impl Service {
    /// Refuses new work when the process is stopping.
    fn serving(&self) -> Result<(), Status> {
        if *self.stage.borrow() == Stage::Serving {
            Ok(())
        } else {
            Err(errors::status(errors::shutting_down()))
        }
    }

    /// The session of a call that may have one.
    fn session(&self, metadata: &MetadataMap) -> Result<Option<ConnId>, Status> {
        self.serving()?;
        let session = self.sessions.of(metadata).map_err(errors::status)?;
        Ok(session.map(|connection| connection.id()))
    }

    /// Opens a channel: on the call's session if it names one, else on the client's connection.
    fn open_channel(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<Opened, Status> {
        self.serving()?;
        let connection = match self.sessions.of(metadata).map_err(errors::status)? {
            Some(session) => session,
            None => Arc::clone(&peer(extensions)?.connection),
        };
        Ok(Opened { conn: connection.id(), channel: connection.open_channel() })
    }

    async fn settle(&self, ack_ids: &[String], how: Settle) -> Result<Vec<SettleResult>, Status> {
        get::settle(&self.hub, ack_ids, how).await
    }
}

fn peer(extensions: &Extensions) -> Result<&Peer, Status> {
    extensions.get::<Peer>().ok_or_else(|| Status::internal("a request without a connection"))
}

/// A listing of a vhost.
fn list(vhost: String, op: Op) -> manage::Request {
    (vhost, Ok::<_, Refusal>(op))
}

/// The answer to a listing as a response: its rows, turned one by one.
macro_rules! rows {
    ($reply:expr, $variant:ident, $row:path, $response:ident { $field:ident }) => {
        match $reply {
            Reply::$variant(found) => {
                Ok(Response::new($response { $field: found.into_iter().map($row).collect() }))
            }
            other => Err(errors::unexpected(&other)),
        }
    };
}

#[tonic::async_trait]
impl Broker for Service {
    type PublishStreamStream = PublishResponses;
    type SubscribeStream = SubscribeResponses;
    type ConsumeStream = ConsumeResponses;
    type SessionStream = SessionStream;

    async fn declare_exchange(
        &self,
        request: Request<DeclareExchangeRequest>,
    ) -> Result<Response<DeclareExchangeResponse>, Status> {
        let conn = self.session(request.metadata())?;
        done(&self.hub, conn, manage::declare_exchange(request.into_inner())).await?;
        Ok(Response::new(DeclareExchangeResponse {}))
    }

    async fn delete_exchange(
        &self,
        request: Request<DeleteExchangeRequest>,
    ) -> Result<Response<DeleteExchangeResponse>, Status> {
        let conn = self.session(request.metadata())?;
        done(&self.hub, conn, manage::delete_exchange(request.into_inner())).await?;
        Ok(Response::new(DeleteExchangeResponse {}))
    }

    async fn list_exchanges(
        &self,
        request: Request<ListExchangesRequest>,
    ) -> Result<Response<ListExchangesResponse>, Status> {
        let conn = self.session(request.metadata())?;
        let reply = ask(&self.hub, conn, list(request.into_inner().vhost, Op::ListExchanges)).await?;
        rows!(reply, Exchanges, rows::exchange, ListExchangesResponse { exchanges })
    }

    async fn declare_queue(
        &self,
        request: Request<DeclareQueueRequest>,
    ) -> Result<Response<DeclareQueueResponse>, Status> {
        let conn = self.session(request.metadata())?;
        match ask(&self.hub, conn, manage::declare_queue(request.into_inner())).await? {
            Reply::QueueDeclared { name, messages_ready, consumers } => {
                let name = name.as_ref().to_owned();
                Ok(Response::new(DeclareQueueResponse { name, messages_ready, consumers }))
            }
            other => Err(errors::unexpected(&other)),
        }
    }

    async fn delete_queue(
        &self,
        request: Request<DeleteQueueRequest>,
    ) -> Result<Response<DeleteQueueResponse>, Status> {
        let conn = self.session(request.metadata())?;
        let messages = removed(&self.hub, conn, manage::delete_queue(request.into_inner())).await?;
        Ok(Response::new(DeleteQueueResponse { messages }))
    }

    async fn purge_queue(
        &self,
        request: Request<PurgeQueueRequest>,
    ) -> Result<Response<PurgeQueueResponse>, Status> {
        let conn = self.session(request.metadata())?;
        let messages = removed(&self.hub, conn, manage::purge_queue(request.into_inner())).await?;
        Ok(Response::new(PurgeQueueResponse { messages }))
    }

    async fn list_queues(
        &self,
        request: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        let conn = self.session(request.metadata())?;
        let reply = ask(&self.hub, conn, manage::list_queues(request.into_inner())).await?;
        rows!(reply, Queues, rows::queue, ListQueuesResponse { queues })
    }

    async fn bind(&self, request: Request<BindRequest>) -> Result<Response<BindResponse>, Status> {
        let conn = self.session(request.metadata())?;
        done(&self.hub, conn, manage::bind(request.into_inner())).await?;
        Ok(Response::new(BindResponse {}))
    }

    async fn unbind(&self, request: Request<UnbindRequest>) -> Result<Response<UnbindResponse>, Status> {
        let conn = self.session(request.metadata())?;
        done(&self.hub, conn, manage::unbind(request.into_inner())).await?;
        Ok(Response::new(UnbindResponse {}))
    }

    async fn list_bindings(
        &self,
        request: Request<ListBindingsRequest>,
    ) -> Result<Response<ListBindingsResponse>, Status> {
        let conn = self.session(request.metadata())?;
        let reply = ask(&self.hub, conn, list(request.into_inner().vhost, Op::ListBindings)).await?;
        rows!(reply, Bindings, rows::binding, ListBindingsResponse { bindings })
    }

    async fn list_consumers(
        &self,
        request: Request<ListConsumersRequest>,
    ) -> Result<Response<ListConsumersResponse>, Status> {
        let conn = self.session(request.metadata())?;
        let reply = ask(&self.hub, conn, list(request.into_inner().vhost, Op::ListConsumers)).await?;
        rows!(reply, Consumers, rows::consumer, ListConsumersResponse { consumers })
    }

    async fn list_connections(
        &self,
        request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        let conn = self.session(request.metadata())?;
        let reply = ask(&self.hub, conn, list(String::new(), Op::ListConnections)).await?;
        rows!(reply, Connections, rows::connection, ListConnectionsResponse { connections })
    }

    async fn list_channels(
        &self,
        request: Request<ListChannelsRequest>,
    ) -> Result<Response<ListChannelsResponse>, Status> {
        let conn = self.session(request.metadata())?;
        let reply = ask(&self.hub, conn, list(String::new(), Op::ListChannels)).await?;
        rows!(reply, Channels, rows::channel, ListChannelsResponse { channels })
    }

    async fn status(&self, _request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        // Also while the process is stopping: somebody may want to watch it.
        match ask(&self.hub, None, list(String::new(), Op::Stats)).await? {
            Reply::Stats(core) => Ok(Response::new(rows::status(core, self.status.server_status()))),
            other => Err(errors::unexpected(&other)),
        }
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        self.serving()?;
        let held = request.extensions().get::<Held>().cloned();
        publish::publish(&self.hub, request.into_inner(), held, self.message_bytes_max)
            .await
            .map(Response::new)
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<PublishResponses>, Status> {
        let opened = self.open_channel(request.metadata(), request.extensions())?;
        let hub = self.hub.clone();
        Ok(Response::new(publish_stream::open(
            hub,
            opened.channel,
            request.into_inner(),
            self.message_bytes_max,
            self.stage.clone(),
        )))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let conn = self.session(request.metadata())?;
        get::get(&self.hub, conn, request.into_inner()).await.map(Response::new)
    }

    async fn ack(&self, request: Request<AckRequest>) -> Result<Response<AckResponse>, Status> {
        let results = self.settle(&request.into_inner().ack_ids, Settle::Ack).await?;
        Ok(Response::new(AckResponse { results }))
    }

    async fn nack(&self, request: Request<NackRequest>) -> Result<Response<NackResponse>, Status> {
        let NackRequest { ack_ids, requeue } = request.into_inner();
        let results = self.settle(&ack_ids, put_back_or_drop(requeue.unwrap_or(true))).await?;
        Ok(Response::new(NackResponse { results }))
    }

    async fn reject(&self, request: Request<RejectRequest>) -> Result<Response<RejectResponse>, Status> {
        let RejectRequest { ack_ids, requeue } = request.into_inner();
        let results = self.settle(&ack_ids, put_back_or_drop(requeue.unwrap_or(false))).await?;
        Ok(Response::new(RejectResponse { results }))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<SubscribeResponses>, Status> {
        let Opened { conn, channel } = self.open_channel(request.metadata(), request.extensions())?;
        let stage = self.stage.clone();
        subscribe::open(&self.hub, conn, channel, request.into_inner(), stage).await.map(Response::new)
    }

    async fn consume(
        &self,
        request: Request<Streaming<ConsumeRequest>>,
    ) -> Result<Response<ConsumeResponses>, Status> {
        let Opened { conn, channel } = self.open_channel(request.metadata(), request.extensions())?;
        let stage = self.stage.clone();
        Ok(Response::new(consume::open(self.hub.clone(), conn, channel, request.into_inner(), stage)))
    }

    async fn session(&self, request: Request<SessionRequest>) -> Result<Response<SessionStream>, Status> {
        self.serving()?;
        let peer = peer(request.extensions())?.clone();
        let stream = self.sessions.open(&self.hub, &peer, request.into_inner(), self.stage.clone());
        stream.map(Response::new).map_err(errors::status)
    }
}

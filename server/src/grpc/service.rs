//! Service leveret.v1.Broker: one method a call, each handed to the file of its subject.

use std::sync::Arc;

use leveret_broker::{Op, Refusal, Reply, Settle};
use leveret_proto::v1::broker_server::Broker;
use leveret_proto::v1::*;
use tonic::{Request, Response, Status, Streaming};

use super::budget::Held;
use super::consume::{self, ConsumeResponses};
use super::errors;
use super::gate::{Gate, Of, Opened, Passed, of};
use super::get::{self, put_back_or_drop};
use super::manage::{self, ask, done, removed};
use super::publish_stream::{self, PublishResponses};
use super::session::SessionStream;
use super::status::StatusSource;
use super::subscribe::{self, SubscribeResponses};
use super::{publish, rows};

/// The service.
pub(super) struct Service {
    pub(super) gate: Gate,
    pub(super) status: Arc<dyn StatusSource>,
    pub(super) message_bytes_max: u64,
}

impl Service {
    async fn settle(&self, of: Of<'_>, ack_ids: &[String], how: Settle) -> Result<Vec<SettleResult>, Status> {
        // Also while the process is stopping: what is out can be settled.
        let passed = self.gate.pass_while_stopping(of).await?;
        get::settle(&self.gate.hub, passed.caller(), ack_ids, how).await
    }
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
        let caller = self.gate.pass(of(&request)).await?.caller();
        done(&self.gate.hub, caller, manage::declare_exchange(request.into_inner())).await?;
        Ok(Response::new(DeclareExchangeResponse {}))
    }

    async fn delete_exchange(
        &self,
        request: Request<DeleteExchangeRequest>,
    ) -> Result<Response<DeleteExchangeResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        done(&self.gate.hub, caller, manage::delete_exchange(request.into_inner())).await?;
        Ok(Response::new(DeleteExchangeResponse {}))
    }

    async fn list_exchanges(
        &self,
        request: Request<ListExchangesRequest>,
    ) -> Result<Response<ListExchangesResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        let reply = ask(&self.gate.hub, caller, list(request.into_inner().vhost, Op::ListExchanges)).await?;
        rows!(reply, Exchanges, rows::exchange, ListExchangesResponse { exchanges })
    }

    async fn declare_queue(
        &self,
        request: Request<DeclareQueueRequest>,
    ) -> Result<Response<DeclareQueueResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        match ask(&self.gate.hub, caller, manage::declare_queue(request.into_inner())).await? {
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
        let caller = self.gate.pass(of(&request)).await?.caller();
        let messages = removed(&self.gate.hub, caller, manage::delete_queue(request.into_inner())).await?;
        Ok(Response::new(DeleteQueueResponse { messages }))
    }

    async fn purge_queue(
        &self,
        request: Request<PurgeQueueRequest>,
    ) -> Result<Response<PurgeQueueResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        let messages = removed(&self.gate.hub, caller, manage::purge_queue(request.into_inner())).await?;
        Ok(Response::new(PurgeQueueResponse { messages }))
    }

    async fn list_queues(
        &self,
        request: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        let reply = ask(&self.gate.hub, caller, manage::list_queues(request.into_inner())).await?;
        rows!(reply, Queues, rows::queue, ListQueuesResponse { queues })
    }

    async fn bind(&self, request: Request<BindRequest>) -> Result<Response<BindResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        done(&self.gate.hub, caller, manage::bind(request.into_inner())).await?;
        Ok(Response::new(BindResponse {}))
    }

    async fn unbind(&self, request: Request<UnbindRequest>) -> Result<Response<UnbindResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        done(&self.gate.hub, caller, manage::unbind(request.into_inner())).await?;
        Ok(Response::new(UnbindResponse {}))
    }

    async fn list_bindings(
        &self,
        request: Request<ListBindingsRequest>,
    ) -> Result<Response<ListBindingsResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        let reply = ask(&self.gate.hub, caller, list(request.into_inner().vhost, Op::ListBindings)).await?;
        rows!(reply, Bindings, rows::binding, ListBindingsResponse { bindings })
    }

    async fn list_consumers(
        &self,
        request: Request<ListConsumersRequest>,
    ) -> Result<Response<ListConsumersResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        let reply = ask(&self.gate.hub, caller, list(request.into_inner().vhost, Op::ListConsumers)).await?;
        rows!(reply, Consumers, rows::consumer, ListConsumersResponse { consumers })
    }

    async fn list_connections(
        &self,
        request: Request<ListConnectionsRequest>,
    ) -> Result<Response<ListConnectionsResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        let reply = ask(&self.gate.hub, caller, list(String::new(), Op::ListConnections)).await?;
        rows!(reply, Connections, rows::connection, ListConnectionsResponse { connections })
    }

    async fn list_channels(
        &self,
        request: Request<ListChannelsRequest>,
    ) -> Result<Response<ListChannelsResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        let reply = ask(&self.gate.hub, caller, list(String::new(), Op::ListChannels)).await?;
        rows!(reply, Channels, rows::channel, ListChannelsResponse { channels })
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        // Also while the process is stopping: somebody may want to watch it.
        let caller = self.gate.pass_while_stopping(of(&request)).await?.caller();
        match ask(&self.gate.hub, caller, list(String::new(), Op::Stats)).await? {
            Reply::Stats(core) => Ok(Response::new(rows::status(core, self.status.server_status()))),
            other => Err(errors::unexpected(&other)),
        }
    }

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        let held = request.extensions().get::<Held>().cloned();
        publish::publish(&self.gate.hub, caller, request.into_inner(), held, self.message_bytes_max)
            .await
            .map(Response::new)
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<PublishResponses>, Status> {
        let opened = self.gate.pass(of(&request)).await?.open_channel();
        Ok(Response::new(publish_stream::open(
            self.gate.hub.clone(),
            opened.channel,
            request.into_inner(),
            self.message_bytes_max,
            self.gate.stage.clone(),
        )))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let caller = self.gate.pass(of(&request)).await?.caller();
        get::get(&self.gate.hub, caller, request.into_inner()).await.map(Response::new)
    }

    async fn ack(&self, request: Request<AckRequest>) -> Result<Response<AckResponse>, Status> {
        let results = self.settle(of(&request), &request.get_ref().ack_ids, Settle::Ack).await?;
        Ok(Response::new(AckResponse { results }))
    }

    async fn nack(&self, request: Request<NackRequest>) -> Result<Response<NackResponse>, Status> {
        let NackRequest { ack_ids, requeue } = request.get_ref();
        let results = self.settle(of(&request), ack_ids, put_back_or_drop(requeue.unwrap_or(true))).await?;
        Ok(Response::new(NackResponse { results }))
    }

    async fn reject(&self, request: Request<RejectRequest>) -> Result<Response<RejectResponse>, Status> {
        let RejectRequest { ack_ids, requeue } = request.get_ref();
        let results = self.settle(of(&request), ack_ids, put_back_or_drop(requeue.unwrap_or(false))).await?;
        Ok(Response::new(RejectResponse { results }))
    }

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<SubscribeResponses>, Status> {
        let Opened { caller, channel } = self.gate.pass(of(&request)).await?.open_channel();
        let stage = self.gate.stage.clone();
        subscribe::open(&self.gate.hub, caller, channel, request.into_inner(), stage).await.map(Response::new)
    }

    async fn consume(
        &self,
        request: Request<Streaming<ConsumeRequest>>,
    ) -> Result<Response<ConsumeResponses>, Status> {
        let Opened { caller, channel } = self.gate.pass(of(&request)).await?.open_channel();
        let (hub, stage) = (self.gate.hub.clone(), self.gate.stage.clone());
        Ok(Response::new(consume::open(hub, caller, channel, request.into_inner(), stage)))
    }

    async fn session(&self, request: Request<SessionRequest>) -> Result<Response<SessionStream>, Status> {
        let Passed { user, peer, login_at, .. } = self.gate.pass(of(&request)).await?;
        let Gate { hub, sessions, stage, .. } = &self.gate;
        let stream = sessions.open(hub, &peer, (user, login_at), request.into_inner(), stage.clone());
        stream.map(Response::new).map_err(errors::status)
    }
}

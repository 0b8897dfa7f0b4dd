//! A server of a few lines: queues in memory, as much of the service as the commands under test need.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use leveret_proto::v1::broker_server::{Broker, BrokerServer};
use leveret_proto::v1::consume_request::Action;
use leveret_proto::v1::message::Body;
use leveret_proto::v1::*;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

/// The server's state; a clone is the same server.
#[derive(Clone)]
pub(super) struct Fake {
    queues: Arc<Mutex<HashMap<String, Queue>>>,
    changed: Arc<watch::Sender<()>>,
}

#[derive(Default)]
struct Queue {
    ready: BTreeMap<u64, (PublishMessage, bool)>,
    out: BTreeMap<u64, PublishMessage>,
    next: u64,
}

impl Fake {
    /// Starts one with a queue.
    pub(super) async fn start(queue: &str) -> (Self, SocketAddr) {
        let fake = Self { queues: Arc::default(), changed: Arc::new(watch::Sender::new(())) };
        fake.lock().insert(queue.to_owned(), Queue::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let addr = listener.local_addr().expect("address");
        let server = tonic::transport::Server::builder().add_service(BrokerServer::new(fake.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (fake, addr)
    }

    /// Bodies that are ready, "*" after those that were delivered before.
    pub(super) fn ready(&self, queue: &str) -> Vec<String> {
        let show = |(message, again): &(PublishMessage, bool)| {
            String::from_utf8_lossy(&body(message)).into_owned() + if *again { "*" } else { "" }
        };
        self.lock()[queue].ready.values().map(show).collect()
    }

    /// How many are out.
    pub(super) fn out(&self, queue: &str) -> usize {
        self.lock()[queue].out.len()
    }

    /// The messages that are ready.
    pub(super) fn messages(&self, queue: &str) -> Vec<PublishMessage> {
        self.lock()[queue].ready.values().map(|(message, _)| message.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.queues.lock().expect("lock")
    }

    fn publish(&self, message: PublishMessage) -> bool {
        let mut queues = self.lock();
        let Some(queue) = queues.get_mut(&message.routing_key) else { return false };
        queue.next += 1;
        queue.ready.insert(queue.next, (message, false));
        self.changed.send_replace(());
        true
    }

    fn take(&self, name: &str, hold: bool) -> Option<Delivery> {
        let mut queues = self.lock();
        let queue = queues.get_mut(name)?;
        let (place, (message, redelivered)) = queue.ready.pop_first()?;
        let delivery = Delivery {
            ack_id: format!("{name}/{place}"),
            delivery_tag: 0,
            redelivered,
            exchange: message.exchange.clone(),
            routing_key: message.routing_key.clone(),
            message: message.message.clone(),
            consumer_tag: String::new(),
        };
        if hold {
            queue.out.insert(place, message);
        }
        Some(delivery)
    }

    fn settle(&self, ack_id: &str, requeue: bool) {
        let (name, place) = ack_id.split_once('/').expect("our id");
        let place = place.parse().expect("our id");
        let mut queues = self.lock();
        let queue = queues.get_mut(name).expect("our id");
        if let Some(message) = queue.out.remove(&place).filter(|_| requeue) {
            queue.ready.insert(place, (message, true));
        }
        self.changed.send_replace(());
    }

    fn is_out(&self, ack_id: &str) -> bool {
        let (name, place) = ack_id.split_once('/').expect("our id");
        self.lock()[name].out.contains_key(&place.parse().expect("our id"))
    }

    fn known(&self, queue: &str) -> Result<(), Status> {
        if self.lock().contains_key(queue) {
            return Ok(());
        }
        let details = ErrorDetails::with_error_info("NOT_FOUND", "leveret", HashMap::new());
        Err(Status::with_error_details(Code::NotFound, format!("no queue '{queue}' in vhost '/'"), details))
    }

    /// A Consume stream: what is out on it goes back when it ends.
    async fn run(self, open: ConsumeOpen, mut requests: Streaming<ConsumeRequest>, answers: Answers) {
        let mut changed = self.changed.subscribe();
        let (mut newest, mut open_ended) = (0, true);
        let mut out: BTreeMap<u64, String> = BTreeMap::new();
        loop {
            out.retain(|_, id| self.is_out(id));
            if !open_ended && out.is_empty() {
                break;
            }
            while open_ended && (open.auto_ack || out.len() < open.prefetch_messages as usize) {
                let Some(mut delivery) = self.take(&open.queue, !open.auto_ack) else { break };
                newest += 1;
                delivery.delivery_tag = newest;
                if !open.auto_ack {
                    out.insert(newest, delivery.ack_id.clone());
                }
                let response = ConsumeResponse { deliveries: vec![delivery], ..ConsumeResponse::default() };
                if answers.send(Ok(response)).await.is_err() {
                    break;
                }
            }
            tokio::select! {
                request = requests.message(), if open_ended => match request {
                    Ok(Some(ConsumeRequest { action: Some(Action::Settle(settle)) })) => {
                        let done: BTreeSet<u64> = out.range(..=settle.delivery_tag).map(|(tag, _)| *tag).collect();
                        for tag in done {
                            self.settle(&out[&tag], settle.kind() != SettleKind::Ack);
                        }
                    }
                    Ok(_) => open_ended = false,
                    Err(_) => break,
                },
                _ = changed.changed() => {}
                () = answers.closed() => break,
            }
        }
        for id in out.values() {
            self.settle(id, true);
        }
    }
}

type Answers = mpsc::Sender<Result<ConsumeResponse, Status>>;

fn body(message: &PublishMessage) -> Bytes {
    match message.message.as_ref().and_then(|message| message.body.clone()) {
        Some(Body::Bytes(bytes)) => bytes,
        Some(Body::Text(text)) => text.into(),
        None => Bytes::new(),
    }
}

macro_rules! service {
    ($([$name:ident $request:ident $response:ident])*; $($rest:tt)*) => {
        #[tonic::async_trait]
        impl Broker for Fake {
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented(stringify!($name)))
            })*
            $($rest)*
        }
    };
}

service! {
    [declare_exchange DeclareExchangeRequest DeclareExchangeResponse]
    [delete_exchange DeleteExchangeRequest DeleteExchangeResponse]
    [list_exchanges ListExchangesRequest ListExchangesResponse]
    [declare_queue DeclareQueueRequest DeclareQueueResponse]
    [delete_queue DeleteQueueRequest DeleteQueueResponse]
    [bind BindRequest BindResponse]
    [unbind UnbindRequest UnbindResponse]
    [list_bindings ListBindingsRequest ListBindingsResponse]
    [list_consumers ListConsumersRequest ListConsumersResponse]
    [list_connections ListConnectionsRequest ListConnectionsResponse]
    [list_channels ListChannelsRequest ListChannelsResponse]
    [publish PublishRequest PublishResponse]
    [reject RejectRequest RejectResponse];

    type PublishStreamStream = ReceiverStream<Result<PublishStreamResponse, Status>>;
    type ConsumeStream = ReceiverStream<Result<ConsumeResponse, Status>>;
    type SubscribeStream = ReceiverStream<Result<SubscribeResponse, Status>>;
    type SessionStream = ReceiverStream<Result<SessionResponse, Status>>;

    async fn subscribe(&self, _: Request<SubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        Err(Status::unimplemented("subscribe"))
    }

    async fn session(&self, _: Request<SessionRequest>) -> Result<Response<Self::SessionStream>, Status> {
        Err(Status::unimplemented("session"))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let login = request.metadata().get("authorization").and_then(|login| login.to_str().ok());
        let version = login.unwrap_or("nobody").to_owned();
        Ok(Response::new(StatusResponse { version, log_bytes: 3 << 20, uptime_ms: 1500, ..StatusResponse::default() }))
    }

    async fn list_queues(&self, _: Request<ListQueuesRequest>) -> Result<Response<ListQueuesResponse>, Status> {
        let queues = self.lock();
        let info = |(name, queue): (&String, &Queue)| QueueInfo {
            name: name.clone(),
            durable: true,
            messages_ready: queue.ready.len() as u64,
            messages_unacknowledged: queue.out.len() as u64,
            messages: (queue.ready.len() + queue.out.len()) as u64,
            ..QueueInfo::default()
        };
        Ok(Response::new(ListQueuesResponse { queues: queues.iter().map(info).collect() }))
    }

    async fn purge_queue(&self, request: Request<PurgeQueueRequest>) -> Result<Response<PurgeQueueResponse>, Status> {
        let name = request.into_inner().name;
        self.known(&name)?;
        let ready = self.lock().get_mut(&name).map(|queue| std::mem::take(&mut queue.ready));
        Ok(Response::new(PurgeQueueResponse { messages: ready.map_or(0, |ready| ready.len() as u64) }))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let request = request.into_inner();
        self.known(&request.queue)?;
        let deliveries = (0..request.count.max(1)).map_while(|_| self.take(&request.queue, true)).collect();
        Ok(Response::new(GetResponse { deliveries, messages_ready: 0 }))
    }

    async fn ack(&self, request: Request<AckRequest>) -> Result<Response<AckResponse>, Status> {
        let ids = request.into_inner().ack_ids;
        ids.iter().for_each(|id| self.settle(id, false));
        Ok(Response::new(AckResponse { results: vec![SettleResult::default(); ids.len()] }))
    }

    async fn nack(&self, request: Request<NackRequest>) -> Result<Response<NackResponse>, Status> {
        let ids = request.into_inner().ack_ids;
        ids.iter().for_each(|id| self.settle(id, true));
        Ok(Response::new(NackResponse { results: vec![SettleResult::default(); ids.len()] }))
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let (answers, stream) = mpsc::channel(4);
        let fake = self.clone();
        tokio::spawn(async move {
            let mut requests = request.into_inner();
            let mut number = 0;
            while let Ok(Some(request)) = requests.message().await {
                let mut exceptions = Vec::new();
                for message in request.messages {
                    number += 1;
                    if !fake.publish(message) {
                        let outcome = PublishOutcome::Unrouted.into();
                        exceptions.push(PublishException { number, outcome, error: None });
                    }
                }
                let response = PublishStreamResponse { confirmed_upto: number, exceptions, returned: Vec::new() };
                let _ = answers.send(Ok(response)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn consume(
        &self,
        request: Request<Streaming<ConsumeRequest>>,
    ) -> Result<Response<Self::ConsumeStream>, Status> {
        let (answers, stream) = mpsc::channel(4);
        let fake = self.clone();
        tokio::spawn(async move {
            let mut requests = request.into_inner();
            let Ok(Some(ConsumeRequest { action: Some(Action::Open(open)) })) = requests.message().await else {
                return;
            };
            match fake.known(&open.queue) {
                Ok(()) => fake.run(open, requests, answers).await,
                Err(status) => _ = answers.send(Err(status)).await,
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

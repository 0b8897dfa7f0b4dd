//! A gRPC client with the short forms that tests use all the time.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use leveret_proto::v1::admin_client::AdminClient;
use leveret_proto::v1::broker_client::BrokerClient;
use leveret_proto::v1::{
    AckRequest, BindRequest, Binding, DeclareExchangeRequest, DeclareQueueRequest, DeleteQueueRequest,
    Delivery, DestinationKind, GetRequest, ListQueuesRequest, Message, PublishMessage, PublishOutcome,
    PublishRequest, PublishResult, PurgeQueueRequest, QueueInfo, message,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

/// Largest message that the tests' clients take.
const MESSAGE_BYTES_MAX: usize = 160 << 20;

/// A connection of its own. `rpc` is the generated client, for everything without a short form.
#[derive(Debug, Clone)]
pub struct Client {
    /// The generated client.
    pub rpc: BrokerClient<InterceptedService<Channel, Login>>,
    channel: Channel,
    login: Login,
}

/// Adds a login to every call, if there is one.
#[derive(Debug, Clone, Default)]
pub struct Login(Option<Arc<MetadataValue<Ascii>>>);

impl Login {
    /// A user's.
    pub fn new(user: &str, password: &str) -> Self {
        let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
        Self(Some(Arc::new(format!("Basic {encoded}").parse().expect("Base64 is ASCII"))))
    }
}

impl Interceptor for Login {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(login) = &self.0 {
            request.metadata_mut().insert("authorization", MetadataValue::clone(login));
        }
        Ok(request)
    }
}

impl Client {
    /// Connects to a server that serves.
    pub async fn connect(port: u16) -> Self {
        Self::try_connect(port).await.expect("a connection to the server")
    }

    /// The same, with a login.
    pub async fn connect_as(port: u16, user: &str, password: &str) -> Self {
        let channel = endpoint(port).connect().await.expect("a connection to the server");
        Self::over(channel, &Login::new(user, password))
    }

    /// Connects, or says why not.
    pub async fn try_connect(port: u16) -> Result<Self, tonic::transport::Error> {
        Ok(Self::over(endpoint(port).connect().await?, &Login::default()))
    }

    /// The same connection with another login.
    pub fn with_login(&self, user: &str, password: &str) -> Self {
        Self::over(self.channel(), &Login::new(user, password))
    }

    fn over(channel: Channel, login: &Login) -> Self {
        let rpc = BrokerClient::with_interceptor(channel.clone(), login.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self { rpc, channel, login: login.clone() }
    }

    /// The generated client of users, virtual hosts and permissions, on the same connection.
    pub fn admin(&self) -> AdminClient<InterceptedService<Channel, Login>> {
        AdminClient::with_interceptor(self.channel(), self.login.clone())
    }

    /// The connection, for other services.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Declares a durable queue.
    pub async fn declare_queue(&mut self, name: &str) {
        self.rpc.declare_queue(queue(name)).await.expect("declare a queue");
    }

    /// Declares a durable exchange.
    pub async fn declare_exchange(&mut self, name: &str, kind: &str) {
        let request = DeclareExchangeRequest { name: name.into(), r#type: kind.into(), ..Default::default() };
        self.rpc.declare_exchange(request).await.expect("declare an exchange");
    }

    /// Binds a queue.
    pub async fn bind(&mut self, exchange: &str, queue: &str, key: &str) {
        self.rpc.bind(bind(exchange, queue, key)).await.expect("bind a queue");
    }

    /// Publishes one persistent message to a queue and asserts that it was routed.
    pub async fn publish(&mut self, queue: &str, body: impl Into<Bytes>) {
        let results = self.publish_batch(vec![to_queue(queue, body)]).await;
        assert_eq!(results[0].outcome(), PublishOutcome::Routed, "{results:?}");
    }

    /// Publishes a batch.
    pub async fn publish_batch(&mut self, messages: Vec<PublishMessage>) -> Vec<PublishResult> {
        let request = PublishRequest { vhost: String::new(), messages };
        self.rpc.publish(request).await.expect("publish").into_inner().results
    }

    /// Gets up to `count` messages with a lease of the default length.
    pub async fn get(&mut self, queue: &str, count: u32) -> Vec<Delivery> {
        let request = GetRequest { queue: queue.into(), count, ..Default::default() };
        self.rpc.get(request).await.expect("get").into_inner().deliveries
    }

    /// Gets and settles at once; the bodies. Nothing says when that is durable.
    pub async fn take(&mut self, queue: &str, count: u32) -> Vec<Bytes> {
        let request = GetRequest { queue: queue.into(), count, auto_ack: true, ..Default::default() };
        let deliveries = self.rpc.get(request).await.expect("get").into_inner().deliveries;
        deliveries.iter().map(body).collect()
    }

    /// Takes everything from a queue, in order, and acks it: when this is done it is durable.
    pub async fn drain(&mut self, queue: &str) -> Vec<Bytes> {
        let mut all = Vec::new();
        loop {
            let some = self.get(queue, 1000).await;
            if some.is_empty() {
                return all;
            }
            self.ack(&some).await;
            all.extend(some.iter().map(body));
        }
    }

    /// Acks by id and asserts that each was settled.
    pub async fn ack(&mut self, deliveries: &[Delivery]) {
        let ack_ids = deliveries.iter().map(|delivery| delivery.ack_id.clone()).collect();
        let results = self.rpc.ack(AckRequest { ack_ids }).await.expect("ack").into_inner().results;
        assert!(results.iter().all(|result| result.error.is_none()), "{results:?}");
    }

    /// Removes the ready messages of a queue; how many.
    pub async fn purge(&mut self, queue: &str) -> u64 {
        let request = PurgeQueueRequest { name: queue.into(), ..Default::default() };
        self.rpc.purge_queue(request).await.expect("purge").into_inner().messages
    }

    /// Deletes a queue; how many messages went with it.
    pub async fn delete_queue(&mut self, queue: &str) -> u64 {
        let request = DeleteQueueRequest { name: queue.into(), ..Default::default() };
        self.rpc.delete_queue(request).await.expect("delete a queue").into_inner().messages
    }

    /// One queue's line in the listing.
    pub async fn queue_info(&mut self, name: &str) -> QueueInfo {
        let request = ListQueuesRequest { name: name.into(), ..Default::default() };
        let mut queues = self.rpc.list_queues(request).await.expect("list queues").into_inner().queues;
        assert_eq!(queues.len(), 1, "one queue named {name}");
        queues.remove(0)
    }

    /// The names of all queues.
    pub async fn queue_names(&mut self) -> Vec<String> {
        let queues = self
            .rpc
            .list_queues(ListQueuesRequest::default())
            .await
            .expect("list queues")
            .into_inner()
            .queues;
        queues.into_iter().map(|queue| queue.name).collect()
    }

    /// Waits until a queue's listing satisfies a condition.
    pub async fn wait_queue(
        &mut self,
        name: &str,
        what: &str,
        condition: impl Fn(&QueueInfo) -> bool,
    ) -> QueueInfo {
        let mut last = QueueInfo::default();
        for _ in 0..1000 {
            last = self.queue_info(name).await;
            if condition(&last) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("queue {name} never had {what}: {last:?}");
    }
}

/// A durable queue's declaration.
pub fn queue(name: &str) -> DeclareQueueRequest {
    DeclareQueueRequest { name: name.into(), ..Default::default() }
}

/// A binding of a queue.
pub fn bind(exchange: &str, queue: &str, key: &str) -> BindRequest {
    let binding = Binding {
        source: exchange.into(),
        destination: queue.into(),
        destination_kind: DestinationKind::Queue.into(),
        routing_key: key.into(),
        arguments: None,
    };
    BindRequest { vhost: String::new(), binding: Some(binding) }
}

/// A message to an exchange.
pub fn to_exchange(exchange: &str, key: &str, body: impl Into<Bytes>) -> PublishMessage {
    PublishMessage {
        exchange: exchange.into(),
        routing_key: key.into(),
        message: Some(message(body)),
        mandatory: false,
    }
}

/// A message to a queue, by the default exchange.
pub fn to_queue(queue: &str, body: impl Into<Bytes>) -> PublishMessage {
    to_exchange("", queue, body)
}

/// A message that asks to be persistent by saying nothing.
pub fn message(body: impl Into<Bytes>) -> Message {
    Message { body: Some(message::Body::Bytes(body.into())), persistent: None, properties: None }
}

/// The body of a delivery.
pub fn body(delivery: &Delivery) -> Bytes {
    match delivery.message.as_ref().and_then(|message| message.body.as_ref()) {
        Some(message::Body::Bytes(bytes)) => bytes.clone(),
        Some(message::Body::Text(text)) => Bytes::from(text.clone()),
        None => Bytes::new(),
    }
}

/// The reason in a status's ErrorInfo.
pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Asserts that a call failed with this code, one of these reasons in its ErrorInfo, and a sentence; gives the
/// status back for more.
pub fn assert_refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, reasons: &[&str]) -> Status {
    let status = result.expect_err("a refusal");
    assert_eq!(status.code(), code, "{status:?}");
    let said = reason(&status);
    assert!(reasons.contains(&said.as_str()), "reason {said:?}, expected one of {reasons:?}: {status:?}");
    assert!(!status.message().is_empty(), "a sentence goes with {status:?}");
    status
}

/// Whether the health service on this port says SERVING.
pub async fn serving(port: u16) -> bool {
    health(port, "").await == Some(ServingStatus::Serving)
}

/// What the health service says of a service; None when it cannot be asked.
pub async fn health(port: u16, service: &str) -> Option<ServingStatus> {
    let channel = endpoint(port).connect().await.ok()?;
    let request = HealthCheckRequest { service: service.into() };
    let response = HealthClient::new(channel).check(request).await.ok()?;
    Some(response.into_inner().status())
}

fn endpoint(port: u16) -> Endpoint {
    Endpoint::from_shared(format!("http://127.0.0.1:{port}"))
        .expect("a valid address")
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
}

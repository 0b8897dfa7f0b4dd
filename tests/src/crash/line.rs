//! The calls of the workers that do one thing after another, over either protocol.

use std::fmt;

use leveret_proto::v1::{
    AckRequest, DeclareExchangeRequest, DeclareQueueRequest, DeleteQueueRequest, GetRequest, PublishOutcome,
    PublishRequest, PurgeQueueRequest, Table, TableEntry, UnbindRequest, Value, value::Kind,
};
use tonic::{Code, Status};

use super::message::Outgoing;
use super::world::binding;
use crate::amqp::{self, Connection, Error, Settle, calls, method};
use crate::client::{self, Client};

/// The channel that everything happens on.
const CHANNEL: u16 = 1;
/// The channel of questions that may end it.
const ASIDE: u16 = 2;

/// Which front end a worker uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Grpc,
    Amqp,
}

/// Why a step did not end well.
#[derive(Debug)]
pub(super) enum Why {
    /// The call failed: fine while the server is being killed.
    Call(String),
    /// It was answered, and by what no client should see.
    Wrong(String),
}

impl From<Status> for Why {
    fn from(status: Status) -> Self {
        Self::Call(format!("{status:?}"))
    }
}

impl From<Error> for Why {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(_) | Error::Ended => Self::Call(error.to_string()),
            // The server ends, and says so.
            Error::Closed { channel: 0, code: 320, .. } => Self::Call(error.to_string()),
            _ => Self::Wrong(error.to_string()),
        }
    }
}

/// A connection of a worker.
pub(super) enum Line {
    Grpc(Client),
    Amqp {
        connection: Connection,
        /// Publishes on it so far, all confirmed.
        published: u64,
    },
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc(_) => "gRPC",
            Self::Amqp { .. } => "AMQP",
        })
    }
}

/// A message that was got and must be settled.
#[derive(Debug, Clone)]
pub(super) struct Got {
    pub(super) body: bytes::Bytes,
    pub(super) redelivered: bool,
    pub(super) name: Name,
}

/// How a delivery is named when it is settled.
#[derive(Debug, Clone)]
pub(super) enum Name {
    AckId(String),
    Tag(u64),
}

/// What an ack's end says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Acked {
    /// It is durable.
    Durable,
    /// Nothing: it is on its way.
    Unanswered,
}

impl Line {
    pub(super) async fn open(over: Over, port: u16) -> Result<Self, Why> {
        match over {
            Over::Grpc => {
                let client = Client::try_connect(port).await;
                client.map(Self::Grpc).map_err(|error| Why::Call(error.to_string()))
            }
            Over::Amqp => {
                let mut connection = Connection::open(port).await?;
                connection.channel(CHANNEL).await?;
                connection.confirm_select(CHANNEL).await?;
                Ok(Self::Amqp { connection, published: 0 })
            }
        }
    }

    /// Declares a durable queue; how many ready messages it has.
    pub(super) async fn declare_queue(&mut self, name: &str) -> Result<u64, Why> {
        self.declare_queue_with(name, None).await
    }

    /// The same, perhaps with another queue for its dead letters.
    pub(super) async fn declare_queue_with(&mut self, name: &str, dead: Option<&str>) -> Result<u64, Why> {
        let arguments = dead.map_or_else(Vec::new, |dead| {
            vec![("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", dead)]
        });
        match self {
            Self::Grpc(client) => {
                let entry = |&(name, text): &(&str, &str)| TableEntry {
                    name: name.into(),
                    value: Some(Value { kind: Some(Kind::Text(text.into())) }),
                };
                let entries = arguments.iter().map(entry).collect();
                let request =
                    DeclareQueueRequest { arguments: Some(Table { entries }), ..client::queue(name) };
                Ok(client.rpc.declare_queue(request).await?.into_inner().messages_ready)
            }
            Self::Amqp { connection, .. } => {
                let text =
                    |&(name, text): &(&str, &str)| (name.into(), amqp::codec::Value::Text(text.into()));
                let arguments: Vec<_> = arguments.iter().map(text).collect();
                Ok(connection.declare_queue(CHANNEL, name, &arguments).await?.into())
            }
        }
    }

    /// Whether a queue of this name exists.
    pub(super) async fn exists(&mut self, name: &str) -> Result<bool, Why> {
        match self {
            Self::Grpc(client) => {
                let passive = DeclareQueueRequest { name: name.into(), passive: true, ..Default::default() };
                match client.rpc.declare_queue(passive).await {
                    Ok(_) => Ok(true),
                    Err(status) if status.code() == Code::NotFound => Ok(false),
                    Err(status) => Err(status.into()),
                }
            }
            Self::Amqp { connection, .. } => {
                let passive = calls::queue(name, 1, &[]);
                connection.channel(ASIDE).await?;
                match connection.call(ASIDE, method::QUEUE_DECLARE, &passive, method::QUEUE_DECLARE_OK).await
                {
                    Ok(_) => Ok(true),
                    Err(Error::Closed { channel: ASIDE, code: 404, .. }) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// Declares a durable exchange.
    pub(super) async fn declare_exchange(&mut self, name: &str, kind: &str) -> Result<(), Why> {
        match self {
            Self::Grpc(client) => {
                let (name, kind) = (name.to_string(), kind.to_string());
                let request = DeclareExchangeRequest { name, r#type: kind, ..Default::default() };
                client.rpc.declare_exchange(request).await?;
            }
            Self::Amqp { connection, .. } => connection.declare_exchange(CHANNEL, name, kind).await?,
        }
        Ok(())
    }

    pub(super) async fn bind(&mut self, exchange: &str, queue: &str, key: &str) -> Result<(), Why> {
        match self {
            Self::Grpc(client) => drop(client.rpc.bind(client::bind(exchange, queue, key)).await?),
            Self::Amqp { connection, .. } => connection.bind(CHANNEL, exchange, queue, key).await?,
        }
        Ok(())
    }

    pub(super) async fn unbind(&mut self, exchange: &str, queue: &str, key: &str) -> Result<(), Why> {
        match self {
            Self::Grpc(client) => {
                let (_, request) = binding(exchange, queue, key);
                let request = UnbindRequest { vhost: request.vhost, binding: request.binding };
                client.rpc.unbind(request).await?;
            }
            Self::Amqp { connection, .. } => connection.unbind(CHANNEL, exchange, queue, key).await?,
        }
        Ok(())
    }

    pub(super) async fn purge(&mut self, name: &str) -> Result<(), Why> {
        match self {
            Self::Grpc(client) => {
                let request = PurgeQueueRequest { name: name.into(), ..Default::default() };
                client.rpc.purge_queue(request).await?;
            }
            Self::Amqp { connection, .. } => drop(connection.purge(CHANNEL, name).await?),
        }
        Ok(())
    }

    pub(super) async fn delete_queue(&mut self, name: &str) -> Result<(), Why> {
        match self {
            Self::Grpc(client) => {
                let request = DeleteQueueRequest { name: name.into(), ..Default::default() };
                client.rpc.delete_queue(request).await?;
            }
            Self::Amqp { connection, .. } => drop(connection.delete_queue(CHANNEL, name).await?),
        }
        Ok(())
    }

    /// Whether what is published in one go shares its fate.
    pub(super) fn is_atomic(&self) -> bool {
        matches!(self, Self::Grpc(_))
    }

    /// Publishes, waits for the confirms; how many reached no queue.
    pub(super) async fn publish(&mut self, messages: Vec<Outgoing>) -> Result<usize, Why> {
        match self {
            Self::Grpc(client) => {
                let count = messages.len();
                let messages = messages.into_iter().map(Outgoing::into_grpc).collect();
                let request = PublishRequest { vhost: String::new(), messages };
                let results = client.rpc.publish(request).await?.into_inner().results;
                let outcome = |outcome| results.iter().filter(|result| result.outcome() == outcome).count();
                let (routed, unrouted) = (outcome(PublishOutcome::Routed), outcome(PublishOutcome::Unrouted));
                match routed + unrouted == count && results.len() == count {
                    true => Ok(unrouted),
                    false => Err(Why::Wrong(format!("publishes were answered by {results:?}"))),
                }
            }
            Self::Amqp { connection, published } => {
                let bytes: Vec<u8> =
                    messages.iter().flat_map(|message| message.amqp_bytes(CHANNEL, true)).collect();
                connection.send(&bytes).await?;
                *published += messages.len() as u64;
                confirmed(connection, *published).await
            }
        }
    }

    /// Takes up to `count` messages that have to be settled.
    pub(super) async fn get(&mut self, name: &str, count: u32) -> Result<Vec<Got>, Why> {
        match self {
            Self::Grpc(client) => {
                let request = GetRequest { queue: name.into(), count, ..Default::default() };
                let deliveries = client.rpc.get(request).await?.into_inner().deliveries;
                let got = |delivery: leveret_proto::v1::Delivery| Got {
                    body: client::body(&delivery),
                    redelivered: delivery.redelivered,
                    name: Name::AckId(delivery.ack_id),
                };
                Ok(deliveries.into_iter().map(got).collect())
            }
            Self::Amqp { connection, .. } => {
                let mut all = Vec::new();
                for _ in 0..count {
                    let Some(content) = connection.get(CHANNEL, name).await? else { break };
                    let (tag, redelivered) = content.delivery();
                    all.push(Got { body: content.body, redelivered, name: Name::Tag(tag) });
                }
                Ok(all)
            }
        }
    }

    /// Acks.
    pub(super) async fn ack(&mut self, got: &[Got]) -> Result<Acked, Why> {
        match self {
            Self::Grpc(client) => {
                let ids = got.iter().filter_map(|got| match &got.name {
                    Name::AckId(id) => Some(id.clone()),
                    Name::Tag(_) => None,
                });
                let request = AckRequest { ack_ids: ids.collect() };
                let results = client.rpc.ack(request).await?.into_inner().results;
                match results.len() == got.len() && results.iter().all(|result| result.error.is_none()) {
                    true => Ok(Acked::Durable),
                    false => Err(Why::Wrong(format!("acks were answered by {results:?}"))),
                }
            }
            Self::Amqp { connection, .. } => {
                for got in got {
                    if let Name::Tag(tag) = got.name {
                        connection.settle(CHANNEL, Settle::Ack, tag, false).await?;
                    }
                }
                Ok(Acked::Unanswered)
            }
        }
    }
}

/// Waits until everything up to `upto` is confirmed; how many were returned.
async fn confirmed(connection: &mut Connection, upto: u64) -> Result<usize, Why> {
    let (mut confirmed, mut returned) = (0, 0);
    while confirmed < upto {
        let frame = connection.next().await?;
        match frame.method() {
            Some(method::BASIC_ACK) => confirmed = frame.arguments().longlong(),
            Some(method::BASIC_RETURN) => {
                let _: amqp::Content = connection.content_of(frame).await?;
                returned += 1;
            }
            _ => return Err(Why::Wrong(format!("a confirm was to come, not {frame:?}"))),
        }
    }
    Ok(returned)
}

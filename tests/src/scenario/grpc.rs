//! Does the steps of a scenario over gRPC. A connection of the scenario is a connection with a session, a channel of it
//! a set of streams; delivery tags are counted here, as AMQP counts them.

mod call;
mod convert;
mod deliver;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use leveret_proto::v1::{SessionRequest, SessionResponse};
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status, Streaming};

use super::access::{Access, Admin};
use super::came::{Came, Names};
use super::step::{At, Connect, Fault, Step};
use crate::client::{Client, reason};
use crate::streams::{ConsumeLane, PublishLane};

/// How long nothing must come for a scenario to believe that nothing comes.
const QUIET: Duration = Duration::from_millis(250);

/// One scenario over gRPC.
pub(super) struct Run {
    port: u16,
    access: Access,
    connections: BTreeMap<String, Open>,
    names: Names,
}

struct Open {
    client: Client,
    /// The session lives as long as this stream.
    _session: Streaming<SessionResponse>,
    token: String,
    channels: BTreeMap<u16, Channel>,
}

#[derive(Default)]
struct Channel {
    /// For consumers that begin.
    prefetch: u32,
    consumers: BTreeMap<String, ConsumeLane>,
    /// For mandatory messages.
    publishes: Option<(PublishLane, u64)>,
    /// Messages that were returned.
    returned: VecDeque<Came>,
    /// The newest delivery tag.
    delivered: u64,
    /// Deliveries that are not settled.
    out: BTreeMap<u64, Out>,
}

/// How a delivery is settled.
#[derive(Debug, Clone)]
enum Out {
    /// By its ack id.
    Id(String),
    /// On the stream of the consumer; by its ack id once that is closed.
    Stream { consumer: String, tag: u64, id: String },
}

impl Run {
    pub(super) fn new(port: u16) -> Self {
        Self {
            port,
            access: Access::new(Admin::Leveret(port), "/"),
            connections: BTreeMap::new(),
            names: Names::default(),
        }
    }

    /// The broker is another process now.
    pub(super) fn restarted(&mut self, port: u16) {
        self.port = port;
        self.access.restarted(Admin::Leveret(port));
        self.connections.clear();
    }

    /// The broker stops now: it waits for streams that have something out.
    pub(super) fn left(&mut self) {
        self.connections.clear();
    }

    pub(super) async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Connect(step) => self.connect(step).await,
            Step::UserAdd(_) | Step::VhostAdd(_) | Step::Permissions(_) | Step::TopicPermissions(_) => {
                self.access.step(step).await
            }
            Step::Disconnect(step) => {
                let open = self.connections.remove(&step.at.connection);
                open.map(drop).ok_or_else(|| format!("there is no connection {}", step.at.connection))
            }
            Step::ChannelClose(step) => {
                self.channel(&step.at).await?;
                if let Some(open) = self.connections.get_mut(&step.at.connection) {
                    open.channels.remove(&step.at.channel);
                }
                Ok(())
            }
            // Every call is on a channel that is open, and every publish is confirmed.
            Step::ChannelOpen(_) | Step::ConfirmSelect(_) => Ok(()),
            Step::Qos(step) => {
                self.channel(&step.at).await?.prefetch = step.count.into();
                Ok(())
            }
            Step::Wait(step) => {
                tokio::time::sleep(Duration::from_millis(step.ms)).await;
                Ok(())
            }
            Step::Publish(step) => self.publish(step).await,
            Step::Get(step) => self.get(step).await,
            Step::Consume(step) => self.consume(step).await,
            Step::Cancel(step) => self.cancel(step).await,
            Step::Ack(step) => self.settle(&step.at, step.tag, step.multiple, deliver::Settle::Ack).await,
            Step::Nack(step) => {
                let how = deliver::Settle::of(step.requeue.unwrap_or(true));
                self.settle(&step.at, step.tag, step.multiple, how).await
            }
            Step::Reject(step) => {
                let how = deliver::Settle::of(step.requeue.unwrap_or(false));
                self.settle(&step.at, step.tag, false, how).await
            }
            Step::ExpectDeliver(step) => self.expect_deliver(step).await,
            Step::ExpectReturn(step) => {
                let returned = self.channel(&step.at).await?.returned.pop_front();
                returned.ok_or("nothing was returned")?.is(&step.content, &mut self.names)
            }
            // The unary call and the stream have said it.
            Step::ExpectConfirm(_) | Step::ExpectConfirms(_) => Ok(()),
            Step::ExpectQueue(step) => self.expect_queue(step).await,
            Step::ExpectExchange(step) => self.expect_exchange(step).await,
            Step::Quiet(step) => self.quiet(&step.at, step.ms.map_or(QUIET, Duration::from_millis)).await,
            other => self.call(other).await,
        }
    }

    /// At the end nothing may have come that nobody expected.
    pub(super) async fn finish(&mut self) -> Result<(), String> {
        let names: Vec<String> = self.connections.keys().cloned().collect();
        for connection in names {
            let at = At { connection, channel: 1 };
            self.quiet(&at, Duration::from_millis(1)).await?;
        }
        Ok(())
    }

    /// A connection of the user that the step names.
    async fn connect(&mut self, step: &Connect) -> Result<(), String> {
        if step.error.is_some() || step.vhost.is_some() {
            return Err("over gRPC a virtual host and refusals are those of each call".into());
        }
        let user = step.user.as_deref().unwrap_or("guest");
        let password = step.password.as_deref().unwrap_or_else(|| self.access.password(user));
        let client = self.client().await?.with_login(user, password);
        self.connections.insert(step.at.connection.clone(), Open::new(client).await?);
        Ok(())
    }

    async fn client(&self) -> Result<Client, String> {
        Client::try_connect(self.port).await.map_err(|error| error.to_string())
    }

    /// The connection with its session, made when it is used for the first time.
    async fn open(&mut self, at: &At) -> Result<&mut Open, String> {
        if !self.connections.contains_key(&at.connection) {
            let open = Open::new(self.client().await?).await?;
            self.connections.insert(at.connection.clone(), open);
        }
        self.connections.get_mut(&at.connection).ok_or_else(|| "no connection".into())
    }

    async fn channel(&mut self, at: &At) -> Result<&mut Channel, String> {
        Ok(self.open(at).await?.channels.entry(at.channel).or_default())
    }
}

impl Open {
    /// Begins a session.
    async fn new(client: Client) -> Result<Self, String> {
        let mut rpc = client.rpc.clone();
        let request = SessionRequest { client: "scenario".into() };
        let mut session = rpc.session(request).await.map_err(|status| status.to_string())?.into_inner();
        let first = session.message().await.map_err(|status| status.to_string())?;
        let token = first.ok_or("the session has no first response")?.token;
        Ok(Self { client, _session: session, token, channels: BTreeMap::new() })
    }

    /// A request of the session.
    fn request<T>(&self, message: T) -> Result<Request<T>, String> {
        let mut request = Request::new(message);
        let token = MetadataValue::try_from(&self.token).map_err(|_| "a token that is no metadata")?;
        request.metadata_mut().insert("leveret-session", token);
        Ok(request)
    }
}

/// The answer, or None when it was to be refused and was.
fn answered<T>(
    result: Result<tonic::Response<T>, Status>,
    fault: Option<&Fault>,
) -> Result<Option<T>, String> {
    match (result, fault) {
        (Ok(answer), None) => Ok(Some(answer.into_inner())),
        (Ok(_), Some(fault)) => Err(format!("it was to be refused with {} {}", fault.code, fault.text)),
        (Err(status), None) => Err(format!("it was to be done: {status}")),
        (Err(status), Some(fault)) => {
            refused(status.code(), &reason(&status), status.message(), fault).map(|()| None)
        }
    }
}

/// Whether a refusal is what AMQP says by a reply code.
fn refused(code: Code, reason: &str, message: &str, fault: &Fault) -> Result<(), String> {
    let right = match fault.code {
        403 => (code, reason) == (Code::PermissionDenied, "ACCESS_REFUSED"),
        404 => code == Code::NotFound,
        405 => (code, reason) == (Code::FailedPrecondition, "RESOURCE_LOCKED"),
        406 => matches!(
            (code, reason),
            (Code::FailedPrecondition, "PRECONDITION_FAILED")
                | (Code::InvalidArgument, "INVALID_ARGUMENT" | "MESSAGE_TOO_LARGE")
        ),
        530 => (code, reason) == (Code::FailedPrecondition, "NOT_ALLOWED"),
        540 => (code, reason) == (Code::Unimplemented, "NOT_IMPLEMENTED"),
        _ => false,
    };
    if right && fault.matches(message) {
        return Ok(());
    }
    Err(format!("refused with {code:?} {reason} '{message}', not as {} '{}'", fault.code, fault.text))
}

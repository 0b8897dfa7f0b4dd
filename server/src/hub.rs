//! The handle by which front ends talk to the core: requests in, answers and channel outputs back. Cheap to clone.
//!
//! Publishes take byte permits before they enter, which come back when the message is as durable as it asked to
//! be. Everything else enters without waiting, so that nothing can wait in a circle.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leveret_broker::{
    ChanId, ConnId, ConnectionInfo, Deliver, Input, Message, Op, Outcome, Publish, Refusal, RefusalKind,
    Reply, ReqId, Settle,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::inbox::{Envelope, Inbox};

/// What a channel's writer has to pass on, in order.
#[derive(Debug)]
pub enum Output {
    /// Outcomes of publishes: everything up to `upto`, routed unless listed.
    Confirms {
        /// Newest publish with an outcome.
        upto: u64,
        /// Those that were not plainly routed.
        others: Vec<(u64, Outcome)>,
    },
    /// A mandatory message that reached no queue; before its confirm.
    Return {
        /// Number of the publish.
        tag: u64,
        /// The message.
        message: Arc<Message>,
    },
    /// A message for a consumer of this channel. Give its `cost_bytes` back with [`Channel::writable`] once it is
    /// on its way.
    Deliver(Deliver),
    /// Settles that are durable.
    Settled {
        /// Every settle up to this number (from 1) is done.
        upto: u64,
        /// Number and delivery tag of those that named nothing.
        unknown: Vec<(u64, u64)>,
    },
    /// The queue of this consumer is gone.
    ConsumerCancelled {
        /// Its tag.
        consumer_tag: Arc<str>,
    },
}

/// Outputs of a channel, a batch per turn of the core. Ends when the channel or the core is gone.
pub type Outputs = mpsc::UnboundedReceiver<Vec<Output>>;

/// The handle. See the module.
#[derive(Debug, Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    inbox: Arc<Inbox>,
    next_id: AtomicU64,
    publish_permits: Arc<Semaphore>,
    publish_permits_bytes: u32,
    channel_credit_bytes: u64,
}

/// A connection or session. Dropping it ends it in the core.
#[derive(Debug)]
pub struct Connection {
    hub: Hub,
    id: ConnId,
}

/// An ordered lane. Dropping it ends it in the core: what it had out is requeued.
#[derive(Debug)]
pub struct Channel {
    hub: Hub,
    id: ChanId,
}

/// Room for a publish. Goes in with it and comes back when the publish has its outcome.
#[derive(Debug)]
pub struct Permit(OwnedSemaphorePermit);

impl Permit {
    /// Takes `bytes` out of this one; None when it has less.
    pub fn split(&mut self, bytes: usize) -> Option<Permit> {
        self.0.split(bytes).map(Permit)
    }

    /// Puts another one into this one.
    pub(crate) fn merge(&mut self, other: Permit) {
        self.0.merge(other.0);
    }
}

impl Hub {
    /// A hub over an inbox. `publish_bytes`: bodies that may be on their way to the disk. `channel_credit_bytes`:
    /// deliveries that each channel's writer may hold.
    pub fn new(inbox: Arc<Inbox>, publish_bytes: u32, channel_credit_bytes: u64) -> Self {
        Self {
            inner: Arc::new(Inner {
                inbox,
                next_id: AtomicU64::new(1),
                publish_permits: Arc::new(Semaphore::new(publish_bytes as usize)),
                publish_permits_bytes: publish_bytes,
                channel_credit_bytes,
            }),
        }
    }

    /// Makes a request and waits for its answer, for as long as the disk takes. An `Op::Publish` must bring a
    /// permit (see [`Hub::publish`]).
    pub async fn request(&self, conn: Option<ConnId>, vhost: Arc<str>, op: Op) -> Result<Reply, Refusal> {
        self.request_with(conn, vhost, op, None).await
    }

    /// Publishes a batch atomically; answers with [`Reply::Published`] when it is durable.
    pub async fn publish(
        &self,
        vhost: Arc<str>,
        batch: Vec<Publish>,
        permit: Permit,
    ) -> Result<Reply, Refusal> {
        self.request_with(None, vhost, Op::Publish(batch), Some(permit)).await
    }

    /// Waits until `bytes` more may be on their way to the disk. More than all there is counts as all.
    pub async fn permit(&self, bytes: usize) -> Result<Permit, Refusal> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.inner.publish_permits_bytes);
        match Arc::clone(&self.inner.publish_permits).acquire_many_owned(bytes).await {
            Ok(permit) => Ok(Permit(permit)),
            Err(_) => Err(gone()),
        }
    }

    /// The same if it can be had at once.
    pub fn try_permit(&self, bytes: usize) -> Option<Permit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.inner.publish_permits).try_acquire_many_owned(bytes).ok().map(Permit)
    }

    /// Ready when everything that entered before is as durable as it asked to be, and its outcomes have gone out.
    pub async fn barrier(&self) {
        // An empty batch is answered like any other: behind all that was appended before it. That it is refused means
        // that the core is gone, and with it everybody who could wait.
        drop(self.request_with(None, "/".into(), Op::Publish(Vec::new()), None).await);
    }

    /// Registers a connection or a session.
    pub fn open_connection(&self, info: ConnectionInfo) -> Connection {
        let id = ConnId(self.next_id());
        self.send(Input::ConnectionOpened { conn: id, info });
        Connection { hub: self.clone(), id }
    }

    /// No new deliveries from now on; everything else goes on.
    pub fn stop_deliveries(&self) {
        self.send(Input::StopDeliveries);
    }

    async fn request_with(
        &self,
        conn: Option<ConnId>,
        vhost: Arc<str>,
        op: Op,
        permit: Option<Permit>,
    ) -> Result<Reply, Refusal> {
        let (reply, answer) = oneshot::channel();
        let req = ReqId(self.next_id());
        self.inner.inbox.push(Envelope::Request {
            input: Input::Request { req, conn, vhost, op },
            req,
            reply,
            permit,
        });
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    fn send(&self, input: Input) {
        self.inner.inbox.push(Envelope::Input(input));
    }

    fn next_id(&self) -> u64 {
        self.inner.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

impl Connection {
    /// Its id.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Opens a channel on it.
    pub fn open_channel(&self) -> (Channel, Outputs) {
        let (sender, outputs) = mpsc::unbounded_channel();
        let id = ChanId(self.hub.next_id());
        let credit_bytes = self.hub.inner.channel_credit_bytes;
        let input = Input::ChannelOpened { conn: self.id, chan: id, credit_bytes };
        self.hub.inner.inbox.push(Envelope::OpenChannel { input, chan: id, sender });
        (Channel { hub: self.hub.clone(), id }, outputs)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hub.send(Input::ConnectionClosed { conn: self.id });
    }
}

impl Channel {
    /// Its id.
    pub fn id(&self) -> ChanId {
        self.id
    }

    /// Publishes; the outcome comes as [`Output::Confirms`]. `tag` counts this channel's publishes from 1.
    pub fn publish(&self, vhost: Arc<str>, tag: u64, publish: Publish, permit: Permit) {
        let input = Input::Publish { chan: self.id, tag, vhost, publish };
        self.hub.inner.inbox.push(Envelope::Publish { input, permit });
    }

    /// Settles by delivery tag; comes back, counted, as [`Output::Settled`].
    pub fn settle(&self, tag: u64, multiple: bool, how: Settle) {
        self.hub.send(Input::Settle { chan: self.id, tag, multiple, how });
    }

    /// Gives credit back for deliveries that are on their way.
    pub fn writable(&self, bytes: u64) {
        self.hub.send(Input::Writable { chan: self.id, bytes });
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.hub.send(Input::ChannelClosed { chan: self.id });
    }
}

fn gone() -> Refusal {
    Refusal::new(RefusalKind::ShuttingDown, "the broker is shutting down")
}

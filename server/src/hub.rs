//! The handle by which front ends talk to the core: requests in, answers and channel outputs back. Cheap to clone.
//!
//! Publishes take byte permits before they enter, which come back when the message is as durable as it asked to
//! be. Everything else enters without waiting, so that nothing can wait in a circle.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use leveret_broker::{
    Cause, ChanId, ConnId, ConnectionInfo, Deliver, Input, Message, Op, Outcome, Publish, Refusal,
    RefusalKind, Reply, ReqId, Settle,
};
use leveret_engine::{Blobs, Pressure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::bodies::LargeBodies;
use crate::inbox::{Envelope, Inbox};

/// The largest body that its sender may write to the log itself.
const TURN_HERE_BYTES_MAX: usize = 64 << 10;

/// What goes back on a lane, in the order in which the core decided it.
#[derive(Debug)]
pub enum Output {
    /// Answer to a request that came in a batch of this lane.
    Reply {
        /// The request.
        req: ReqId,
        /// Its outcome.
        result: Result<Reply, Refusal>,
    },
    /// Outcomes of publishes: everything up to `upto`, routed unless listed.
    Confirms {
        /// The channel.
        chan: ChanId,
        /// Newest publish with an outcome.
        upto: u64,
        /// Those that were not plainly routed.
        others: Vec<(u64, Outcome)>,
    },
    /// A mandatory message that reached no queue; before its confirm.
    Return {
        /// The channel.
        chan: ChanId,
        /// Number of the publish.
        tag: u64,
        /// The message.
        message: Arc<Message>,
    },
    /// A message for a consumer of the channel. Give its `cost_bytes` back with [`Input::Writable`] once it is on its
    /// way.
    Deliver(Deliver),
    /// Settles that are durable.
    Settled {
        /// The channel.
        chan: ChanId,
        /// Every settle up to this number (from 1) is done.
        upto: u64,
        /// Number and delivery tag of those that named nothing.
        unknown: Vec<(u64, u64)>,
    },
    /// The queue of this consumer is gone.
    ConsumerCancelled {
        /// The channel.
        chan: ChanId,
        /// Its tag.
        consumer_tag: Arc<str>,
    },
    /// A strict channel has failed; nothing more happens on it.
    ChannelFailed {
        /// The channel.
        chan: ChanId,
        /// What was refused.
        cause: Cause,
        /// Why.
        refusal: Refusal,
    },
    /// The core has ended the lane's connection with all its channels; nothing more happens on them.
    ConnectionForced {
        /// Why.
        refusal: Refusal,
    },
}

/// On whose behalf a request is made. The default is the broker's own: nothing is checked then.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The user whose permissions count.
    pub user: Option<Arc<str>>,
    /// The connection or session.
    pub conn: Option<ConnId>,
}

/// One way back from the core to a front end: of one gRPC stream, or of one AMQP connection with all its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneId(pub u64);

/// Outputs of a lane, a batch per turn of the core. Ends when the lane is closed or the core is gone.
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
    /// Why publishers are held, if they are.
    hold: watch::Sender<Option<Pressure>>,
    /// What front ends hold of messages that have come in part.
    half_sent_bytes: Arc<AtomicU64>,
    /// Where large bodies go; not before the store is open.
    blobs: OnceLock<Blobs>,
}

/// A connection or session. Dropping it ends it in the core.
#[derive(Debug)]
pub struct Connection {
    hub: Hub,
    id: ConnId,
}

/// A lane with one channel. Dropping it ends both in the core: what was out is requeued.
#[derive(Debug)]
pub struct Channel {
    lane: Lane,
    id: ChanId,
}

/// A lane. Dropping it closes it; channels on it must be closed by an input, or with their connection.
#[derive(Debug)]
pub struct Lane {
    hub: Hub,
    id: LaneId,
}

/// Room for a publish. Goes in with it and comes back when the publish has its outcome.
#[derive(Debug)]
pub struct Permit(OwnedSemaphorePermit);

impl Permit {
    /// Puts another one into this one.
    pub(crate) fn merge(&mut self, other: Permit) {
        self.0.merge(other.0);
    }

    /// Takes room for so many bytes out of it, or what there is.
    pub(crate) fn split(&mut self, bytes: usize) -> Permit {
        let bytes = bytes.min(self.0.num_permits());
        Permit(self.0.split(bytes).expect("not more than there is"))
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
                hold: watch::Sender::new(None),
                half_sent_bytes: Arc::default(),
                blobs: OnceLock::new(),
            }),
        }
    }

    /// Has ids begin with this one: for whoever names connections, channels and requests of the same core, too.
    #[cfg(feature = "sim")]
    pub(crate) fn begin_ids_at(&self, first: u64) {
        self.inner.next_id.store(first, Ordering::Relaxed);
    }

    /// Tells where large bodies are to be written. The first word counts.
    pub fn write_bodies_to(&self, blobs: Blobs) {
        drop(self.inner.blobs.set(blobs));
    }

    /// The bodies among these publishes that are to be written before these enter.
    pub(crate) fn large_bodies<'a>(&self, publishes: impl Iterator<Item = &'a Publish>) -> LargeBodies {
        LargeBodies::of(self.inner.blobs.get(), publishes)
    }

    /// Makes a request and waits for its answer, for as long as the disk takes. An `Op::Publish` must bring a
    /// permit (see [`Hub::publish`]).
    pub async fn request(&self, caller: Caller, vhost: Arc<str>, op: Op) -> Result<Reply, Refusal> {
        self.request_with(caller, vhost, op, None).await
    }

    /// Publishes a batch atomically; answers with [`Reply::Published`] when it is durable.
    pub async fn publish(
        &self,
        caller: Caller,
        vhost: Arc<str>,
        batch: Vec<Publish>,
        permit: Permit,
    ) -> Result<Reply, Refusal> {
        self.request_with(caller, vhost, Op::Publish(batch), Some(permit)).await
    }

    /// Holds publishers, or lets them go on. Everything else goes on in any case.
    pub fn hold_publishers(&self, why: Option<Pressure>) {
        self.inner.hold.send_if_modified(|held| std::mem::replace(held, why) != why);
    }

    /// Bytes of publishes on their way to the disk.
    pub fn publishing_bytes(&self) -> u64 {
        let free = self.inner.publish_permits.available_permits() as u64;
        u64::from(self.inner.publish_permits_bytes).saturating_sub(free)
    }

    /// What front ends hold of messages that have come in part: they count it here.
    pub fn half_sent_bytes(&self) -> &Arc<AtomicU64> {
        &self.inner.half_sent_bytes
    }

    /// Why publishers are held, if they are.
    pub fn publishers_held(&self) -> Option<Pressure> {
        *self.inner.hold.borrow()
    }

    /// Ready once the disk has been low for so long.
    pub async fn disk_low_for(&self, time: Duration) {
        let mut hold = self.inner.hold.subscribe();
        loop {
            // The sender lives as long as this does.
            drop(hold.wait_for(|why| *why == Some(Pressure::DiskLow)).await);
            let over = hold.wait_for(|why| *why != Some(Pressure::DiskLow));
            if tokio::time::timeout(time, over).await.is_err() {
                return;
            }
        }
    }

    /// Waits until publishers are not held and `bytes` more may be on their way to the disk. More than all there is counts
    /// as all.
    pub async fn permit(&self, bytes: usize) -> Result<Permit, Refusal> {
        let mut hold = self.inner.hold.subscribe();
        drop(hold.wait_for(Option::is_none).await);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.inner.publish_permits_bytes);
        match Arc::clone(&self.inner.publish_permits).acquire_many_owned(bytes).await {
            Ok(permit) => Ok(Permit(permit)),
            Err(_) => Err(gone()),
        }
    }

    /// The same without waiting; None when it would have to wait.
    pub fn try_permit(&self, bytes: usize) -> Option<Permit> {
        if self.publishers_held().is_some() {
            return None;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).clamp(1, self.inner.publish_permits_bytes);
        Arc::clone(&self.inner.publish_permits).try_acquire_many_owned(bytes).ok().map(Permit)
    }

    /// Ready when everything that entered before is as durable as it asked to be, and its outcomes have gone out.
    pub async fn barrier(&self) {
        // An empty batch is answered like any other: behind all that was appended before it. That it is refused means
        // that the core is gone, and with it everybody who could wait.
        drop(self.request_with(Caller::default(), "/".into(), Op::Publish(Vec::new()), None).await);
    }

    /// Registers a connection or a session, with a lane, so that there is a way to say that it was not taken in.
    pub fn open_connection(&self, info: ConnectionInfo) -> (Connection, Lane, Outputs) {
        let connection = Connection { hub: self.clone(), id: ConnId(self.next_id()) };
        let (lane, outputs) = connection.open_lane();
        self.send(Input::ConnectionOpened { conn: connection.id, info });
        (connection, lane, outputs)
    }

    /// A name for a channel that is about to be opened.
    pub fn new_channel_id(&self) -> ChanId {
        ChanId(self.next_id())
    }

    /// A name for a request that is about to be made.
    pub fn new_request_id(&self) -> ReqId {
        ReqId(self.next_id())
    }

    /// Bytes of deliveries that each channel's writer may hold: the credit to open a channel with.
    pub fn channel_credit_bytes(&self) -> u64 {
        self.inner.channel_credit_bytes
    }

    /// See [`Inbox::access_generation`].
    pub fn access_generation(&self) -> u64 {
        self.inner.inbox.access_generation()
    }

    /// No new deliveries from now on; everything else goes on.
    pub fn stop_deliveries(&self) {
        self.send(Input::StopDeliveries);
    }

    async fn request_with(
        &self,
        Caller { user, conn }: Caller,
        vhost: Arc<str>,
        op: Op,
        permit: Option<Permit>,
    ) -> Result<Reply, Refusal> {
        let (reply, answer) = oneshot::channel();
        let req = ReqId(self.next_id());
        let turn_here = is_small(&op);
        let input = Input::Request { req, conn, chan: None, user, vhost, op };
        let envelope = Envelope::Request { input, req, reply, permit };
        match turn_here {
            true => self.inner.inbox.push_or_turn(envelope),
            false => self.inner.inbox.push(envelope),
        }
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

    /// Opens a channel on it, on a lane of its own.
    pub fn open_channel(&self) -> (Channel, Outputs) {
        let (lane, outputs) = self.open_lane();
        let id = self.hub.new_channel_id();
        let credit_bytes = self.hub.inner.channel_credit_bytes;
        lane.send(vec![Input::ChannelOpened { conn: self.id, chan: id, credit_bytes, strict: false }], None);
        (Channel { lane, id }, outputs)
    }

    /// Opens a lane.
    fn open_lane(&self) -> (Lane, Outputs) {
        let (sender, outputs) = mpsc::unbounded_channel();
        let id = LaneId(self.hub.next_id());
        self.hub.inner.inbox.push(Envelope::OpenLane { lane: id, conn: self.id, sender });
        (Lane { hub: self.hub.clone(), id }, outputs)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.hub.send(Input::ConnectionClosed { conn: self.id });
    }
}

impl Lane {
    /// The hub behind it.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Sends inputs in, in order. Requests among them are answered by [`Output::Reply`] on this lane, channels opened
    /// among them belong to it. `permit`: room for the publishes among them.
    pub fn send(&self, inputs: Vec<Input>, permit: Option<Permit>) {
        let turn_here = match &inputs[..] {
            [Input::Publish { publish, .. }] => publish.body.len() <= TURN_HERE_BYTES_MAX,
            [Input::Settle { .. }] => true,
            _ => false,
        };
        let envelope = Envelope::Batch { lane: self.id, inputs, permit };
        match turn_here {
            true => self.hub.inner.inbox.push_or_turn(envelope),
            false => self.hub.inner.inbox.push(envelope),
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.hub.inner.inbox.push(Envelope::CloseLane { lane: self.id });
    }
}

impl Channel {
    /// Its id.
    pub fn id(&self) -> ChanId {
        self.id
    }

    /// A publish for [`Channel::send`]; the outcome comes as [`Output::Confirms`]. `tag` counts this channel's
    /// publishes from 1.
    pub fn publish(&self, vhost: Arc<str>, tag: u64, publish: Publish) -> Input {
        Input::Publish { chan: self.id, tag, vhost, publish }
    }

    /// Sends inputs of this channel in, in order, with room for the publishes among them.
    pub fn send(&self, inputs: Vec<Input>, permit: Option<Permit>) {
        self.lane.send(inputs, permit);
    }

    /// Settles by delivery tag; comes back, counted, as [`Output::Settled`].
    pub fn settle(&self, tag: u64, multiple: bool, how: Settle) {
        self.lane.hub.send(Input::Settle { chan: self.id, tag, multiple, how });
    }

    /// Gives credit back for deliveries that are on their way.
    pub fn writable(&self, bytes: u64) {
        self.lane.hub.send(Input::Writable { chan: self.id, bytes });
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.lane.hub.send(Input::ChannelClosed { chan: self.id });
    }
}

/// Whether the caller may as well do this itself: little work, and an answer that the caller waits for.
fn is_small(op: &Op) -> bool {
    match op {
        Op::Publish(batch) => matches!(&batch[..], [one] if one.body.len() <= TURN_HERE_BYTES_MAX),
        Op::SettleIds { ids, .. } => ids.len() == 1,
        Op::Get(get) => get.count == 1,
        _ => false,
    }
}

pub(crate) fn gone() -> Refusal {
    Refusal::new(RefusalKind::ShuttingDown, "the broker is shutting down")
}

#[cfg(test)]
mod tests;

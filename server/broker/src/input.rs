//! Everything that can happen to the core, as a closed set.

mod op;

use std::sync::Arc;

use bytes::Bytes;

use crate::blob::Blob;
use crate::ids::{ChanId, ConnId, QueueId, ReqId, Seq, Ticket};
use crate::record::Stored;
use crate::value::Table;
pub use op::Op;

/// One thing that happened. The core sees nothing else: no clock, no socket, no disk.
#[derive(Debug)]
pub enum Input {
    /// Time goes on. Sent at the start of every turn; `now_ms` is milliseconds of wall-clock time since 1970 and
    /// may jump either way.
    Tick {
        /// Milliseconds since 1970.
        now_ms: u64,
    },
    /// A connection (or gRPC session) that may own channels, exclusive queues and leases. Where its user or virtual host
    /// is gone meanwhile, [`crate::Effect::ConnectionForced`] is the answer.
    ConnectionOpened {
        /// The new connection.
        conn: ConnId,
        /// What listings show of it.
        info: ConnectionInfo,
    },
    /// The connection is gone: its channels close, its exclusive queues are deleted.
    ConnectionClosed {
        /// The connection that is gone.
        conn: ConnId,
    },
    /// An ordered lane on a connection.
    ChannelOpened {
        /// The connection it belongs to.
        conn: ConnId,
        /// The new channel.
        chan: ChanId,
        /// Bytes of deliveries its writer is ready to take (see [`Input::Writable`]).
        credit_bytes: u64,
        /// As in AMQP: the first thing on it that is refused ends it. A refused request (that names the channel), publish
        /// or settlement makes it fail: the reply, or [`crate::Effect::ChannelFailed`], is the last that is heard of
        /// it, and everything further on it but its close is ignored. Its settlements are not answered by
        /// [`crate::Effect::Settled`].
        strict: bool,
    },
    /// The channel is gone: consumers end, what they had out is requeued, pending confirms are forgotten.
    ChannelClosed {
        /// The channel that is gone.
        chan: ChanId,
    },
    /// The channel's writer has passed on `bytes` of deliveries and can take as many more. One message may
    /// overdraw the credit.
    Writable {
        /// The channel.
        chan: ChanId,
        /// Bytes to add to its credit.
        bytes: u64,
    },
    /// A request that is answered by exactly one [`crate::Effect::Reply`], or, on a channel that has failed or is closed
    /// meanwhile, by [`crate::Effect::Dropped`].
    Request {
        /// Names the answer.
        req: ReqId,
        /// The connection or session on whose behalf it is made; None for a gRPC call outside any session.
        conn: Option<ConnId>,
        /// The strict channel that it is made on, if any.
        chan: Option<ChanId>,
        /// On whose behalf it is made: it is refused unless this user may do it. None: the broker itself asks, and
        /// nothing is checked. With `conn` it is that connection's user, who counts also when this is None.
        user: Option<Arc<str>>,
        /// Virtual host; never empty ("/" is the default one).
        vhost: Arc<str>,
        /// What is asked for.
        op: Op,
    },
    /// A publish on a channel, confirmed in order by [`crate::Effect::Confirms`].
    Publish {
        /// The channel; its publishes are confirmed in the order in which they came.
        chan: ChanId,
        /// The channel's number of this publish, counted by the shell from 1.
        tag: u64,
        /// Virtual host.
        vhost: Arc<str>,
        /// What to publish.
        publish: Publish,
    },
    /// A settlement on a channel by delivery tag. Counted from 1 per channel; the count of those that are durable
    /// comes back in [`crate::Effect::Settled`].
    Settle {
        /// The channel on which the delivery was made.
        chan: ChanId,
        /// Delivery tag; 0 with `multiple` means all that is out on the channel.
        tag: u64,
        /// Also everything before `tag` on this channel.
        multiple: bool,
        /// What to do with the messages.
        how: Settle,
    },
    /// Every append up to `ticket` is as durable as the fsync policy promises: its confirms may go out.
    Confirmable {
        /// The newest such append.
        ticket: Ticket,
    },
    /// Answer to [`crate::Effect::Fetch`].
    Fetched(Fetched),
    /// These places of [`crate::Effect::Spill`] are written: they can be read back.
    Spilled {
        /// The places.
        places: Vec<(QueueId, Seq)>,
    },
    /// Whether messages that expire or find their queue too long wait in it, instead of moving to where its dead letters
    /// go: while the disk is low (E11). They are neither ready nor out then, and a queue with very many of them waits at
    /// its head. What is not in the log, and what clients reject, moves all the same.
    HoldLetters {
        /// They wait from here on; or those that waited go on.
        wait: bool,
    },
    /// The process is stopping: no new deliveries; publishes, settlements and requests go on.
    StopDeliveries,
}

/// What a listing shows of a connection.
#[derive(Debug, Clone, Default)]
pub struct ConnectionInfo {
    /// Peer address, "127.0.0.1:40312".
    pub peer: String,
    /// "grpc", "amqp 0-9-1".
    pub protocol: &'static str,
    /// User name; its publishes are checked against this user's permissions. Empty: nothing is checked.
    pub user: String,
    /// What the client calls itself.
    pub client: String,
    /// Virtual host, with which the connection ends; empty when it is chosen per request.
    pub vhost: String,
    /// How often users, permissions or virtual hosts had changed ([`crate::Effect::AccessChanged`]) before the login of
    /// the connection was looked at: a user of that name who was added later is another one. None: it does not matter.
    pub login_at: Option<u64>,
}

/// A message and where it is to go.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Exchange name; "" is the default exchange.
    pub exchange: Arc<str>,
    /// Routing key.
    pub routing_key: Arc<str>,
    /// Return the message when it reaches no queue.
    pub mandatory: bool,
    /// Survives a restart in a durable queue. Says the same as delivery mode 2 in `properties`: the front end has
    /// looked, the core does not.
    pub persistent: bool,
    /// Properties as an AMQP 0-9-1 content header's property flags and property list, verbatim (spec 4.2.6.1).
    pub properties: Bytes,
    /// Body.
    pub body: Bytes,
    /// The store's handle to the body, if that was written before.
    pub blob: Option<Blob>,
    /// What else the core has to know of the properties; the front end has looked.
    pub extras: Option<Box<PublishExtras>>,
}

/// Properties of a publish that change what the broker does with it. Most messages have none of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishExtras {
    /// Routing keys beside the first (headers CC and BCC; the front end has taken BCC out of the properties).
    pub routing_keys: Vec<Arc<str>>,
    /// Time to live in milliseconds (property expiration).
    pub expiration_ms: Option<u64>,
    /// Priority (property priority); absent counts as 0.
    pub priority: u8,
    /// Who the message says that sent it (property user-id): refused unless it is the user who publishes it.
    pub user_id: Option<Arc<str>>,
}

/// What becomes of a delivered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// Done: the message is removed.
    Ack,
    /// Back to its old place, redelivered.
    Requeue,
    /// Not wanted: dead-lettered where the queue says so (later), else removed.
    Drop,
}

/// Answer to a fetch: all live messages of the queue in `[from, upto)` that the limits allowed.
#[derive(Debug)]
pub struct Fetched {
    /// The queue asked for.
    pub queue: QueueId,
    /// The generation given with the fetch; an answer of an older one is dropped (E8).
    pub generation: u64,
    /// The first place asked for.
    pub from: Seq,
    /// Exclusive end of what this answer covers.
    pub upto: Seq,
    /// The records found, in order: place and the bytes that were appended. Those in `lost` are not among them.
    pub records: Vec<(Seq, Stored)>,
    /// Places that could not be read because the disk failed or the data is damaged.
    pub lost: Vec<(Seq, String)>,
}

/// Declare an exchange.
#[derive(Debug, Clone)]
pub struct DeclareExchange {
    /// Name.
    pub name: Arc<str>,
    /// "direct", "fanout", "topic", ...; anything else is refused.
    pub kind: Arc<str>,
    /// Survives a restart.
    pub durable: bool,
    /// Deleted when its last binding goes, if it ever had one.
    pub auto_delete: bool,
    /// Cannot be published to by clients.
    pub internal: bool,
    /// Only ask whether it exists.
    pub passive: bool,
    /// Arguments.
    pub arguments: Table,
}

/// Declare a queue.
#[derive(Debug, Clone)]
pub struct DeclareQueue {
    /// Name; empty: the core chooses "amq.gen-...".
    pub name: Arc<str>,
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to the request's connection and dies with it.
    pub exclusive: bool,
    /// Deleted when its last consumer goes, if it ever had one.
    pub auto_delete: bool,
    /// Only ask whether it exists.
    pub passive: bool,
    /// Arguments.
    pub arguments: Table,
}

/// What a binding leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DestinationKind {
    /// A queue.
    Queue,
    /// An exchange.
    Exchange,
}

/// A binding; all its fields together are its identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Source exchange.
    pub source: Arc<str>,
    /// Queue or exchange.
    pub destination_kind: DestinationKind,
    /// Destination name.
    pub destination: Arc<str>,
    /// Binding key.
    pub routing_key: Arc<str>,
    /// Arguments.
    pub arguments: Table,
}

/// Take messages without a consumer.
#[derive(Debug, Clone)]
pub struct Get {
    /// Queue name.
    pub queue: Arc<str>,
    /// At most so many messages (at least 1 is asked for).
    pub count: u32,
    /// Stop after so many bytes of bodies; the first message may go over.
    pub bytes_max: u64,
    /// Who holds what was taken.
    pub hold: Hold,
}

/// Who holds messages taken by [`Get`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Nobody: they are settled at once.
    AutoAck,
    /// Nobody either, but they count among the deliveries of this channel.
    AutoAckOn(ChanId),
    /// A lease of so many milliseconds; settled by ack id, requeued when it ends.
    Lease {
        /// Length in milliseconds.
        lease_ms: u64,
    },
    /// A channel; settled by delivery tag or ack id, requeued when the channel closes.
    Channel(ChanId),
}

/// Start a consumer.
#[derive(Debug, Clone)]
pub struct Consume {
    /// The channel that gets the deliveries.
    pub chan: ChanId,
    /// Queue name.
    pub queue: Arc<str>,
    /// Empty: the core chooses "amq.ctag-...".
    pub consumer_tag: Arc<str>,
    /// Messages that may be out with this consumer; 0: no limit.
    pub prefetch_messages: u32,
    /// Bytes of bodies that may be out with this consumer; 0: no limit. One message may overdraw it.
    pub prefetch_bytes: u64,
    /// Deliveries are settled as they leave.
    pub auto_ack: bool,
    /// Refuse when there is another consumer, and refuse others from now on.
    pub exclusive: bool,
    /// Higher ones are served first.
    pub priority: i32,
    /// Arguments.
    pub arguments: Table,
}

//! Everything the core can ask for, as a closed set.

mod rows;

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::access::words::{Permissions, TopicPermissions, UserRecord, UserRow, VhostRow};
use crate::blob::logged_bytes;
use crate::ids::{AckId, ChanId, ConnId, QueueId, ReqId, Seq, Ticket};
use crate::input::Settle;
use crate::message::Message;
use crate::record;
use crate::refusal::Refusal;
pub use rows::*;

/// One thing asked of the shell. Effects are carried out in order.
#[derive(Debug)]
pub enum Effect {
    /// Put this into the log as one atomic batch. Appends are numbered 1, 2, 3... in the order of these effects.
    Append {
        /// The number that [`crate::Input::Confirmable`] will name.
        ticket: Ticket,
        /// What to append.
        batch: Batch,
        /// Somebody waits for it. What nobody waits for may ride with the next append, or leave within 10 ms.
        urgent: bool,
    },
    /// Read messages back; answered by [`crate::Input::Fetched`], later.
    Fetch(Fetch),
    /// Write a message that is not in the log to where memory may let it go, for these places;
    /// [`crate::Input::Spilled`] names them when that is done. What is spilled is read by [`Effect::Fetch`] like what is
    /// in the log. It need not survive a restart.
    Spill(Put),
    /// Spilled places, or such that are to be, are not wanted any more: inclusive ranges. Other places in them are left
    /// alone.
    Release {
        /// The places.
        places: Vec<(QueueId, Seq, Seq)>,
    },
    /// Answer to a request.
    Reply {
        /// The request.
        req: ReqId,
        /// Its outcome.
        result: Result<Reply, Refusal>,
    },
    /// A request on a channel that has failed, or was closed while it waited, was ignored; there will be no answer.
    Dropped {
        /// The request.
        req: ReqId,
    },
    /// A strict channel has failed by something that has no reply. Only its close will be heard now.
    ChannelFailed {
        /// The channel.
        chan: ChanId,
        /// What was refused.
        cause: Cause,
        /// Why.
        refusal: Refusal,
    },
    /// Outcomes of publishes on a channel, in the order of their tags, without gaps between two such effects.
    Confirms {
        /// The channel.
        chan: ChanId,
        /// Every publish up to this tag now has an outcome...
        upto: u64,
        /// ...which is `Routed` unless it is listed here (in order of tags).
        others: Vec<(u64, Outcome)>,
    },
    /// A mandatory message that reached no queue. Comes before its confirm.
    Return {
        /// The channel.
        chan: ChanId,
        /// The publish.
        tag: u64,
        /// The message as it was published.
        message: Arc<Message>,
    },
    /// A message for a consumer.
    Deliver(Deliver),
    /// Settlements on a channel are durable, counted as [`crate::Input::Settle`] came.
    Settled {
        /// The channel.
        chan: ChanId,
        /// Every settlement up to this number (from 1) is done.
        upto: u64,
        /// Those of them that named a delivery that is not out on this channel: number, delivery tag.
        unknown: Vec<(u64, u64)>,
    },
    /// The core ended a consumer (its queue is gone).
    ConsumerCancelled {
        /// The channel.
        chan: ChanId,
        /// The consumer.
        consumer_tag: Arc<str>,
    },
    /// The core has ended a connection, because its user or its virtual host was deleted, or did not take it in when it
    /// was opened: its channels are closed as by [`crate::Input::ConnectionClosed`], which may still come. The client is
    /// to be told why. Said again for every channel that is opened on a connection that is not there.
    ConnectionForced {
        /// The connection.
        conn: ConnId,
        /// Why.
        refusal: Refusal,
    },
    /// Users, passwords, tags, permissions or virtual hosts are about to change: who remembers what a user was
    /// allowed forgets it now, before the change is answered. [`crate::Broker::access_changes`] counts them.
    AccessChanged,
    /// A loss or an oddity that an operator should read.
    Warn {
        /// One sentence.
        text: String,
    },
}

/// What made a strict channel fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The publish with this tag.
    Publish {
        /// The channel's number of it.
        tag: u64,
    },
    /// A settlement.
    Settle {
        /// Acks, requeues or drops.
        how: Settle,
        /// The delivery tag that it named.
        tag: u64,
    },
}

/// A message on its way to a consumer.
#[derive(Debug, Clone)]
pub struct Deliver {
    /// The channel.
    pub chan: ChanId,
    /// The consumer.
    pub consumer_tag: Arc<str>,
    /// Delivery tag on that channel, from 1.
    pub delivery_tag: u64,
    /// Names this delivery from anywhere.
    pub ack_id: AckId,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// How often it was delivered, in this epoch, with this one.
    pub attempt: u32,
    /// How often it came back before, where its queue counts that (one of type quorum): AMQP's header
    /// x-delivery-count. Counted in this epoch, so a start begins anew.
    pub delivery_count: Option<u32>,
    /// The message.
    pub message: Arc<Message>,
}

/// An atomic append. Facts are opaque key-value pairs for the store.
#[derive(Debug, Default, PartialEq)]
pub struct Batch {
    /// Queues that exist from here on.
    pub queues_created: Vec<QueueId>,
    /// Messages, each once, with every durable queue it goes to.
    pub puts: Vec<Put>,
    /// Places that are dead from here on: inclusive ranges.
    pub acks: Vec<(QueueId, Seq, Seq)>,
    /// Facts set (Some) or removed (None).
    pub facts: Vec<(Bytes, Option<Bytes>)>,
    /// Queues that are gone, with all they hold.
    pub queues_deleted: Vec<QueueId>,
}

/// Upper bounds of what the store writes around and for the parts of a batch, in bytes.
const RECORD_BYTES: u64 = 32;
const TARGET_BYTES: u64 = 16;
pub(crate) const ACK_BYTES: u64 = RECORD_BYTES + 24;

impl Batch {
    /// Upper bound of the bytes that a message to so many queues takes in the log.
    pub fn put_bytes(message_bytes: u64, targets: u64) -> u64 {
        RECORD_BYTES + message_bytes + TARGET_BYTES * targets
    }

    /// Upper bound of the bytes that so many removals of single messages take in the log.
    pub(crate) fn ack_bytes(acks: u64) -> u64 {
        ACK_BYTES * acks
    }

    /// Upper bound of the bytes that all of it but its messages takes in the log.
    pub(crate) fn rest_bytes(&self) -> u64 {
        let queues = (self.queues_created.len() + self.queues_deleted.len()) as u64;
        let facts: u64 = self.facts.iter().map(fact_bytes).sum();
        facts + Self::ack_bytes(self.acks.len() as u64 + queues)
    }

    /// Adds what another one would append next.
    pub(crate) fn merge(&mut self, next: Self) {
        self.queues_created.extend(next.queues_created);
        self.puts.extend(next.puts);
        self.acks.extend(next.acks);
        self.facts.extend(next.facts);
        self.queues_deleted.extend(next.queues_deleted);
    }

    /// The batch, cut into several where it is larger than an append may be. Only removals can be: of very many
    /// places or facts at once. A crash between two pieces leaves some of them removed and the rest, with the thing
    /// that they belong to, in place; nobody was told of the removal then.
    pub(crate) fn pieces(mut self, bytes_max: u64) -> Vec<Self> {
        let facts: u64 = self.facts.iter().map(fact_bytes).sum();
        let mut left = facts + ACK_BYTES * self.acks.len() as u64;
        if left <= bytes_max || !self.puts.is_empty() {
            return vec![self];
        }
        let mut pieces = Vec::new();
        // Half of an append at a time, so that what stays for the last piece always fits as well.
        let piece_bytes = (bytes_max / 2).max(ACK_BYTES);
        while left > piece_bytes {
            let mut piece =
                Self { queues_created: std::mem::take(&mut self.queues_created), ..Self::default() };
            let acks = self.acks.len().min((piece_bytes / ACK_BYTES) as usize);
            piece.acks = self.acks.drain(..acks).collect();
            let mut bytes = ACK_BYTES * acks as u64;
            let fitting = self.facts.iter().take_while(|fact| {
                bytes += fact_bytes(fact);
                bytes <= piece_bytes
            });
            // At least one, so that a fact larger than a piece is no endless loop.
            let facts = fitting.count().max(usize::from(acks == 0));
            piece.facts = self.facts.drain(..facts.min(self.facts.len())).collect();
            left -= ACK_BYTES * acks as u64 + piece.facts.iter().map(fact_bytes).sum::<u64>();
            pieces.push(piece);
        }
        pieces.push(self);
        pieces
    }
}

fn fact_bytes((key, value): &(Bytes, Option<Bytes>)) -> u64 {
    RECORD_BYTES + key.len() as u64 + value.as_ref().map_or(0, |value| value.len() as u64)
}

/// Places of a message. Most have one.
pub type Targets = SmallVec<[(QueueId, Seq); 1]>;

/// One message for the log, as [`Put::write_header`] and its body make it; both come back joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Put {
    /// Where it goes; at least one.
    pub targets: Targets,
    /// The message. Where it has a handle to its body, the body is not for the log.
    pub message: Arc<Message>,
}

impl Put {
    /// Appends what stands before the body, encoded by `record`.
    pub fn write_header(&self, out: &mut Vec<u8>) {
        record::encode_message_header(&self.message, out);
    }

    /// Header and body as they come back.
    #[cfg(test)]
    pub(crate) fn record(&self) -> Bytes {
        let mut out = Vec::new();
        self.write_header(&mut out);
        out.extend_from_slice(&self.message.body);
        out.into()
    }

    /// Upper bound of the bytes that it takes in the log.
    pub fn bytes(&self) -> u64 {
        let Message { exchange, routing_key, properties, body, blob, .. } = &*self.message;
        let header =
            record::HEADER_FIXED_BYTES + (exchange.len() + routing_key.len() + properties.len()) as u64;
        Batch::put_bytes(header + logged_bytes(body.len(), blob.as_ref()), self.targets.len() as u64)
    }
}

/// Read live messages of one queue, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The queue.
    pub queue: QueueId,
    /// Comes back with the answer.
    pub generation: u64,
    /// First place wanted.
    pub from: Seq,
    /// Exclusive end of what is wanted.
    pub upto: Seq,
    /// At most so many messages.
    pub count_max: u32,
    /// Stop after so many bytes; the first message may go over.
    pub bytes_max: u64,
    /// Wait until this append is readable.
    pub after: Ticket,
}

/// What became of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// In so many queues, as durable as it asked to be.
    Routed {
        /// Queues it went to.
        queues: u32,
    },
    /// It reached no queue.
    Unrouted,
    /// The exchange does not exist, is internal, or the message is not valid; or a queue is full and refuses it
    /// ([`crate::RefusalKind::Overflow`]), while the others have it.
    Rejected(crate::refusal::RefusalKind),
}

/// A request's good answer.
#[derive(Debug)]
pub enum Reply {
    /// Done, nothing to tell.
    Done,
    /// A queue that now exists.
    QueueDeclared {
        /// Its name.
        name: Arc<str>,
        /// Ready messages.
        messages_ready: u64,
        /// Consumers.
        consumers: u64,
    },
    /// Ready messages that were removed with a purge or a delete.
    Removed {
        /// How many.
        messages: u64,
    },
    /// One outcome per message of the batch. A rejected one carries its reason in the second place.
    Published(Vec<(Outcome, Option<Refusal>)>),
    /// Messages taken.
    Got(Got),
    /// One result per id.
    SettledIds(Vec<Result<(), Refusal>>),
    /// A consumer that now exists.
    Consuming {
        /// Its tag.
        consumer_tag: Arc<str>,
        /// What reply_to is to say in publishes on the channel, where this consumer waits for direct replies.
        reply_to: Option<Arc<str>>,
    },
    /// Answer to ListExchanges, ordered by name.
    Exchanges(Vec<ExchangeRow>),
    /// Answer to ListQueues, ordered by name.
    Queues(Vec<QueueRow>),
    /// Answer to ListBindings.
    Bindings(Vec<BindingRow>),
    /// Answer to ListConsumers.
    Consumers(Vec<ConsumerRow>),
    /// Answer to ListConnections.
    Connections(Vec<ConnectionRow>),
    /// Answer to ListChannels.
    Channels(Vec<ChannelRow>),
    /// Answer to Stats.
    Stats(CoreStats),
    /// Answer to ListVhosts, ordered by name.
    Vhosts(Vec<VhostRow>),
    /// Answer to ListUsers, ordered by name.
    Users(Vec<UserRow>),
    /// Answer to ListPermissions and ListUserPermissions, ordered by virtual host and user.
    Permissions(Vec<Permissions>),
    /// Answer to ListTopicPermissions, ordered by user and exchange.
    TopicPermissions(Vec<TopicPermissions>),
    /// Answer to LookUpUser: none when there is none of that name.
    User(Option<UserRecord>),
}

/// Messages taken by a get.
#[derive(Debug, Default)]
pub struct Got {
    /// The messages, in order.
    pub messages: Vec<GotMessage>,
    /// Ready messages left in the queue.
    pub messages_ready: u64,
}

/// One message taken by a get.
#[derive(Debug, Clone)]
pub struct GotMessage {
    /// Names this delivery; of no use after an auto-ack get.
    pub ack_id: AckId,
    /// Delivery tag, where a channel holds it; else 0.
    pub delivery_tag: u64,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// How often it was delivered, in this epoch, with this one.
    pub attempt: u32,
    /// How often it came back before, where its queue counts that (one of type quorum): AMQP's header
    /// x-delivery-count. Counted in this epoch, so a start begins anew.
    pub delivery_count: Option<u32>,
    /// The message.
    pub message: Arc<Message>,
}

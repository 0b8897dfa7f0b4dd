//! The order of appends, and the one queue of everything that waits for one to be confirmable.
//!
//! Confirms, settled notices and replies take this one way, in order, whether they have something in the log or not:
//! what has nothing of its own waits for the newest append issued so far. Several ways would overtake each other.

use std::collections::{BTreeSet, VecDeque};

use crate::budget::{Budget, Kept};
use crate::controls::{Control, Switches};
use crate::effect::{ACK_BYTES, Batch, Effect, Outcome, Put, Reply};
use crate::ids::{ChanId, QueueId, ReqId, Seq, Ticket};
use crate::refusal::Refusal;

/// Messages are gathered into appends of up to so many bytes.
const PUTS_BYTES_MAX: u64 = 128 * 1024;

/// What goes out when its append is confirmable.
#[derive(Debug)]
pub(crate) enum Waiter {
    /// Every publish on the channel up to this tag has an outcome: this one's is given, and those of the others since
    /// the waiter before are `Routed`.
    Confirm { chan: ChanId, upto: u64, outcome: Outcome },
    /// An answer.
    Reply { req: ReqId, result: Box<Result<Reply, Refusal>> },
    /// Settlements of a channel.
    Settled { chan: ChanId, upto: u64, unknown: Box<[(u64, u64)]> },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tickets {
    /// Largest append, in bytes of records.
    bytes_max: u64,
    issued: Ticket,
    /// Messages of the newest ticket that are not handed to the store yet.
    puts: Vec<Put>,
    /// Places that some of them were moved from.
    moved: Vec<(QueueId, Seq, Seq)>,
    puts_bytes: u64,
    confirmable: Ticket,
    waiting: VecDeque<(Ticket, Waiter)>,
    /// Waiters for this turn's merged acks.
    turn: Vec<Waiter>,
    /// This turn's plain acks.
    acks: Vec<(QueueId, Seq)>,
    /// What is to be appended as one.
    group: Option<Group>,
    /// Messages that were settled but are still at their place, since they have to be read before they can move.
    dying: BTreeSet<u64>,
    last_dying: u64,
    /// Who was told of settlements may rely on them: these wait until all that were dying are gone.
    held: VecDeque<(u64, Waiter)>,
    pub(crate) switches: Switches,
}

/// A level and a place in it.
type Place = (QueueId, Seq);

/// See [`Tickets::begin_group`].
#[derive(Debug, Default)]
struct Group {
    batch: Batch,
    acks: Vec<(QueueId, Seq)>,
    /// Upper bound of what its messages and acks take.
    bytes: u64,
    /// What follows from it and found no room in it. All that comes later goes the same way: the places of a queue must
    /// be put in their order.
    late: Vec<Late>,
}

#[derive(Debug)]
enum Late {
    Append(Batch),
    Move(Option<Place>, Option<Put>),
}

impl Group {
    fn is_empty(&self) -> bool {
        self.acks.is_empty() && self.batch == Batch::default()
    }
}

impl Tickets {
    /// Nothing appended yet.
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            issued: Ticket::default(),
            puts: Vec::new(),
            moved: Vec::new(),
            puts_bytes: 0,
            confirmable: Ticket::default(),
            waiting: VecDeque::new(),
            turn: Vec::new(),
            acks: Vec::new(),
            group: None,
            dying: BTreeSet::new(),
            last_dying: 0,
            held: VecDeque::new(),
            switches: Switches::default(),
        }
    }

    /// The newest append so far, with the group that is being gathered; 0 when there is none.
    pub(crate) fn issued(&self) -> Ticket {
        match &self.group {
            Some(group) if !group.is_empty() => Ticket(self.issued.0 + 1),
            _ => self.issued,
        }
    }

    /// From here to [`Tickets::end_group`] all messages, acks and other appends become one append, the next one.
    pub(crate) fn begin_group(&mut self, out: &mut Vec<Effect>) {
        self.flush_puts(out);
        self.group = Some(Group::default());
    }

    /// Whether a group is open.
    pub(crate) fn is_grouping(&self) -> bool {
        self.group.is_some()
    }

    /// Appends the group, unless there is nothing in it.
    pub(crate) fn end_group(&mut self, out: &mut Vec<Effect>) {
        let Some(mut group) = self.group.take() else { return };
        if !group.is_empty() {
            group.batch.acks.extend(merged(&mut group.acks));
            if self.switches.has(Control::TxInPieces) {
                for put in std::mem::take(&mut group.batch.puts) {
                    self.issue(Batch { puts: vec![put], ..Batch::default() }, true, out);
                }
            }
            self.issue(group.batch, true, out);
        }
        for late in group.late {
            match late {
                Late::Append(batch) => self.append(batch, out),
                Late::Move(old, put) => self.shift(old, put, out),
            }
        }
    }

    /// Appends what somebody waits for.
    pub(crate) fn append(&mut self, batch: Batch, out: &mut Vec<Effect>) {
        self.issue(batch, true, out);
    }

    /// Appends a message, together with those that directly follow it: as one batch they cost the store far less, and
    /// that they stand or fall together is more than anybody asked for.
    pub(crate) fn put(&mut self, put: Put, out: &mut Vec<Effect>) {
        match &mut self.group {
            Some(group) if group.late.is_empty() => {
                group.bytes += put.bytes();
                group.batch.puts.push(put);
            }
            Some(_) => self.shift(None, Some(put), out),
            None => {
                self.make_room(put.bytes(), out);
                self.puts.push(put);
            }
        }
    }

    /// So many bytes more belong to the newest ticket, or to the next.
    fn make_room(&mut self, bytes: u64, out: &mut Vec<Effect>) {
        if self.puts_bytes + bytes > PUTS_BYTES_MAX.min(self.bytes_max) {
            self.flush_puts(out);
        }
        if self.puts_bytes == 0 {
            self.issued = Ticket(self.issued.0 + 1);
        }
        self.puts_bytes += bytes;
    }

    /// The same for a message that was at another place: never is it at both, and never at neither. One that goes to
    /// transient queues only has nothing to put; but it may go on from there, and must have left by then.
    pub(crate) fn shift(&mut self, old: Option<(QueueId, Seq)>, put: Option<Put>, out: &mut Vec<Effect>) {
        if old.is_none() && put.is_none() {
            return;
        }
        let bytes = put.as_ref().map_or(0, Put::bytes) + old.map_or(0, |_| ACK_BYTES);
        if let Some(group) = &mut self.group {
            // Places rise in the log, which takes those that were passed over for dead: behind one that is late all are.
            if !group.late.is_empty() || group.bytes + bytes > self.bytes_max {
                group.late.push(Late::Move(old, put));
                return;
            }
            group.bytes += bytes;
            group.batch.puts.extend(put);
            group.acks.extend(old);
            return;
        }
        self.make_room(bytes, out);
        self.puts.extend(put);
        self.moved.extend(old.map(|(queue, seq)| (queue, seq, seq)));
    }

    /// Appends the messages gathered so far: before anything else that is appended, or read.
    pub(crate) fn flush_puts(&mut self, out: &mut Vec<Effect>) {
        if self.puts_bytes == 0 {
            return;
        }
        let puts = std::mem::take(&mut self.puts);
        let mut acks = std::mem::take(&mut self.moved);
        self.puts_bytes = 0;
        if self.switches.has(Control::MoveInTwo) && !acks.is_empty() {
            let batch = Batch { acks: std::mem::take(&mut acks), ..Batch::default() };
            out.push(Effect::Append { ticket: self.issued, batch, urgent: true });
            self.issued = Ticket(self.issued.0 + 1);
        }
        out.push(Effect::Append {
            ticket: self.issued,
            batch: Batch { puts, acks, ..Batch::default() },
            urgent: true,
        });
    }

    fn issue(&mut self, batch: Batch, urgent: bool, out: &mut Vec<Effect>) {
        if let Some(group) = &mut self.group {
            let bytes = batch.rest_bytes();
            if !group.late.is_empty() || group.bytes + bytes > self.bytes_max {
                group.late.push(Late::Append(batch));
                return;
            }
            group.bytes += bytes;
            group.batch.merge(batch);
            return;
        }
        self.flush_puts(out);
        for batch in batch.pieces(self.bytes_max) {
            self.issued = Ticket(self.issued.0 + 1);
            out.push(Effect::Append { ticket: self.issued, batch, urgent });
        }
    }

    /// Lets a waiter follow all that was appended so far.
    pub(crate) fn wait(&mut self, waiter: Waiter) {
        let issued = self.issued();
        if let Waiter::Confirm { chan, upto, outcome: Outcome::Routed { .. } } = waiter
            && let Some((ticket, Waiter::Confirm { chan: same, upto: last, outcome: Outcome::Routed { .. } })) =
                self.waiting.back_mut()
            && *ticket == issued
            && *same == chan
        {
            *last = upto;
            return;
        }
        self.waiting.push_back((issued, waiter));
    }

    /// Lets a waiter follow this turn's acks as well.
    pub(crate) fn wait_for_acks(&mut self, waiter: Waiter) {
        self.turn.push(waiter);
    }

    /// Acks one place with all others of this turn, or of the group.
    pub(crate) fn ack(&mut self, queue: QueueId, seq: Seq) {
        match &mut self.group {
            Some(group) => {
                group.bytes += ACK_BYTES;
                group.acks.push((queue, seq));
            }
            None => self.acks.push((queue, seq)),
        }
    }

    /// A place is not wanted any more: acked where it is in the log, and released where it is spilled.
    pub(crate) fn leave(&mut self, queue: QueueId, seq: Seq, kept: Kept, budget: &mut Budget) {
        match kept {
            Kept::Log => self.ack(queue, seq),
            kept => budget.leave(queue, seq, kept),
        }
    }

    /// Forgets this turn's acks of a queue that is about to be deleted: they must not follow its end.
    pub(crate) fn forget_acks(&mut self, queue: QueueId) {
        self.acks.retain(|(q, _)| *q != queue);
        if let Some(group) = &mut self.group {
            group.acks.retain(|(q, _)| *q != queue);
        }
    }

    /// Appends this turn's acks, if any, and queues who waits for them.
    pub(crate) fn flush_acks(&mut self, out: &mut Vec<Effect>) {
        self.flush_puts(out);
        if !self.acks.is_empty() {
            let acks = merged(&mut self.acks);
            // A settled notice may come a little later; who waits for an answer waits now.
            let urgent = self.turn.iter().any(|waiter| matches!(waiter, Waiter::Reply { .. }));
            self.issue(Batch { acks, ..Batch::default() }, urgent, out);
        }
        self.held.extend(self.turn.drain(..).map(|waiter| (self.last_dying, waiter)));
        let oldest = self.dying.first().copied().unwrap_or(u64::MAX);
        let free = self.held.partition_point(|(upto, _)| *upto < oldest);
        self.waiting.extend(self.held.drain(..free).map(|(_, waiter)| (self.issued, waiter)));
    }

    /// The number of the next message that has to be read before it can move.
    pub(crate) fn next_dying(&self) -> u64 {
        self.last_dying + 1
    }

    /// That message has been settled.
    pub(crate) fn begin_dying(&mut self, number: u64) {
        self.last_dying = number;
        self.dying.insert(number);
    }

    /// Those moved in this turn, or will not move.
    pub(crate) fn end_dying(&mut self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.dying.remove(&number);
        }
    }

    /// Every append up to `ticket` is confirmable.
    pub(crate) fn confirmable(&mut self, ticket: Ticket) {
        debug_assert!(ticket <= self.issued, "the shell confirms what was never appended");
        self.confirmable = self.confirmable.max(ticket);
    }

    /// The next waiter whose append is confirmable.
    pub(crate) fn pop(&mut self) -> Option<Waiter> {
        if self.waiting.front()?.0 > self.confirmable {
            return None;
        }
        self.waiting.pop_front().map(|(_, waiter)| waiter)
    }
}

/// Single places, taken out and put together as inclusive ranges.
fn merged(acks: &mut Vec<(QueueId, Seq)>) -> Vec<(QueueId, Seq, Seq)> {
    acks.sort_unstable();
    let mut ranges: Vec<(QueueId, Seq, Seq)> = Vec::new();
    for (queue, seq) in acks.drain(..) {
        match ranges.last_mut() {
            Some((same, _, last)) if *same == queue && last.0 + 1 == seq.0 => *last = seq,
            _ => ranges.push((queue, seq, seq)),
        }
    }
    ranges
}

//! The core: its state, and the one table of what follows from which input.

mod access;
mod bind;
mod connection;
mod consume;
mod dead_letter;
mod declare;
mod enqueue;
mod listing;
mod permit;
mod publish;
mod replies;
mod request;
mod settle;
mod spill;
#[cfg(test)]
pub(crate) mod tests;
mod timers;
mod tx;
mod vhost;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::Settings;
use crate::access::Access;
use crate::budget::Budget;
use crate::channel::{Channel, Connection};
use crate::consumers::{Consumer, ConsumerId};
use crate::controls::Control;
use crate::effect::{CoreStats, Effect, Outcome, Reply};
use crate::ids::{ChanId, ConnId, Epoch, QueueId, ReqId, Seq};
use crate::input::{Fetched, Input};
use crate::names::NameSource;
use crate::queue::{Dead, Loss, Queue};
use crate::recovered::Recovered;
use crate::refusal::{Refusal, RefusalKind};
use crate::replay::{self, RecoverError};
use crate::tickets::{Tickets, Waiter};
use crate::vhosts::Vhosts;
use timers::Timers;
use tx::Commit;

/// The broker core. Give it inputs with [`Broker::step`] and end each turn with [`Broker::finish`].
#[derive(Debug)]
pub struct Broker {
    pub(crate) settings: Settings,
    pub(crate) epoch: Epoch,
    pub(crate) now_ms: u64,
    /// Runs with `now_ms` but never back, so that a clock set back does not stretch leases.
    pub(crate) lease_clock_ms: u64,
    pub(crate) names: NameSource,
    pub(crate) vhosts: Vhosts,
    pub(crate) access: Access,
    /// Only those virtual hosts exist that the log names.
    pub(crate) defaults_made: bool,
    /// Boxed, since a tree leaves every other place of what it holds free.
    pub(crate) queues: BTreeMap<QueueId, Box<Queue>>,
    /// Whose the levels of queues are that have a number of their own.
    pub(crate) levels: BTreeMap<QueueId, QueueId>,
    pub(crate) next_queue_id: QueueId,
    pub(crate) connections: BTreeMap<ConnId, Connection>,
    pub(crate) channels: BTreeMap<ChanId, Channel>,
    /// Strict channels that have failed and are not closed yet.
    pub(crate) failed_channels: BTreeMap<ChanId, ConnId>,
    pub(crate) consumers: BTreeMap<ConsumerId, Consumer>,
    pub(crate) next_consumer_id: ConsumerId,
    /// Commits that wait for bodies of what they reject.
    commits: Vec<Commit>,
    /// Requests that wait until nothing is out on a channel.
    pub(crate) idle: BTreeSet<(ChanId, ReqId)>,
    /// Leases by their end on the lease clock, with the user who got the message.
    pub(crate) leases: BTreeMap<(u64, QueueId, Seq), Option<Arc<str>>>,
    timers: Timers,
    /// Messages that left their queue in this turn to be dead-lettered.
    pub(crate) letters: VecDeque<Dead>,
    /// Those that leave their queues by themselves wait: the disk is low.
    pub(crate) letters_wait: bool,
    pub(crate) budget: Budget,
    pub(crate) tickets: Tickets,
    /// Queues to be dispatched at the end of this turn.
    pub(crate) dirty: Vec<QueueId>,
    /// Channels with confirms to go out at the end of this turn.
    pub(crate) confirming: Vec<ChanId>,
    /// Channels with settlements in this turn.
    pub(crate) settling: Vec<ChanId>,
    pub(crate) stopping: bool,
    pub(crate) counters: CoreStats,
}

impl Broker {
    /// A core with what a start found.
    pub fn new(settings: Settings, recovered: Recovered, now_ms: u64) -> Result<Self, RecoverError> {
        let epoch = recovered.epoch;
        let state = replay::replay(recovered)?;
        let mut broker = Self {
            epoch,
            now_ms,
            lease_clock_ms: 0,
            names: NameSource::new(settings.name_key),
            vhosts: state.vhosts,
            access: state.access,
            defaults_made: state.defaults_made,
            queues: state.queues,
            levels: state.levels,
            next_queue_id: state.next_queue_id,
            connections: BTreeMap::new(),
            channels: BTreeMap::new(),
            failed_channels: BTreeMap::new(),
            consumers: BTreeMap::new(),
            next_consumer_id: ConsumerId(1),
            commits: Vec::new(),
            idle: BTreeSet::new(),
            leases: BTreeMap::new(),
            timers: Timers::default(),
            letters: VecDeque::new(),
            letters_wait: false,
            budget: Budget::new(settings.memory_budget_bytes),
            tickets: Tickets::new(settings.append_bytes_max),
            dirty: Vec::new(),
            confirming: Vec::new(),
            settling: Vec::new(),
            stopping: false,
            counters: CoreStats::default(),
            settings,
        };
        let queues: Vec<QueueId> = broker.queues.keys().copied().collect();
        for id in queues {
            broker.used(id);
            // Its first message may have expired.
            broker.mark_dirty(id);
        }
        Ok(broker)
    }

    /// Switches a deliberate bug on, for tests of the tests.
    #[cfg(feature = "controls")]
    pub fn switch_on(&mut self, control: crate::Control) {
        self.tickets.switches.control = Some(control);
    }

    /// Takes one input and says what is to be done now; more may follow from [`Broker::finish`].
    pub fn step(&mut self, input: Input, out: &mut Vec<Effect>) {
        match input {
            Input::Tick { now_ms } => self.tick(now_ms, out),
            Input::ConnectionOpened { conn, info } => self.connection_opened(conn, info, out),
            Input::ConnectionClosed { conn } => self.connection_closed(conn, out),
            Input::ChannelOpened { conn, chan, credit_bytes, strict } => {
                self.channel_opened(conn, chan, credit_bytes, strict, out)
            }
            Input::ChannelClosed { chan } => self.channel_closed(chan, out),
            Input::Writable { chan, bytes } => self.writable(chan, bytes),
            Input::Request { req, conn, chan, user, vhost, op } => {
                let who = self.who(conn, chan, user, &vhost);
                self.request(req, &who, op, out);
            }
            Input::Publish { chan, tag, vhost, publish } => self.publish(chan, tag, &vhost, publish, out),
            Input::Settle { chan, tag, multiple, how } => self.settle(chan, tag, multiple, how, out),
            Input::Confirmable { ticket } => self.tickets.confirmable(ticket),
            Input::Fetched(answer) => self.fetched(answer, out),
            Input::Spilled { places } => self.spilled(&places),
            Input::HoldLetters { wait } => self.hold_letters(wait),
            Input::StopDeliveries => self.stop_deliveries(out),
        }
    }

    /// Ends a turn: hands out messages, appends the turn's acks as one, and lets go what became confirmable.
    pub fn finish(&mut self, out: &mut Vec<Effect>) {
        self.tickets.flush_puts(out);
        if !self.commits.is_empty() {
            self.resume_commits(out);
        }
        self.dispatch_dirty(out);
        self.queue_settlements();
        self.tickets.flush_acks(out);
        self.hand_spills_on(out);
        while let Some(waiter) = self.tickets.pop() {
            match waiter {
                Waiter::Confirm { chan, upto, outcome } => self.confirm(chan, upto, outcome),
                Waiter::Reply { req, result } => out.push(Effect::Reply { req, result: *result }),
                Waiter::Settled { chan, upto, unknown } => {
                    if self.channels.contains_key(&chan) {
                        out.push(Effect::Settled { chan, upto, unknown: unknown.into_vec() });
                    }
                }
            }
        }
        self.send_confirms(out);
        self.answer_idle(out);
    }

    /// Per durable queue, the places that are known to have been delivered and are still live: inclusive ranges, for
    /// the mark of a clean close (E10).
    pub fn at_close(&self) -> Vec<(QueueId, Vec<(Seq, Seq)>)> {
        let durable = self.queues.values().filter(|q| q.props.durable);
        durable.flat_map(|queue| queue.delivered_before()).filter(|(_, places)| !places.is_empty()).collect()
    }

    /// Whether [`crate::Op::MakeDefaults`] was carried out, once in the life of the store.
    pub fn defaults_made(&self) -> bool {
        self.defaults_made
    }

    /// How many [`Effect::AccessChanged`] there were, to compare with [`crate::ConnectionInfo::login_at`].
    pub fn access_changes(&self) -> u64 {
        self.access.told
    }

    /// Lets an answer follow all that was appended so far, because it speaks of it.
    pub(crate) fn reply_when_durable(&mut self, req: ReqId, result: Result<Reply, Refusal>) {
        self.tickets.wait(Waiter::Reply { req, result: Box::new(result) });
    }

    /// The queue that a number in the store belongs to.
    pub(crate) fn owner(&self, id: QueueId) -> QueueId {
        self.levels.get(&id).copied().unwrap_or(id)
    }

    fn fetched(&mut self, answer: Fetched, out: &mut Vec<Effect>) {
        let id = self.owner(answer.queue);
        let progress = answer.upto > answer.from;
        let Some(queue) = self.queues.get_mut(&id) else { return };
        let name = queue.props.name.clone();
        if self.tickets.switches.has(Control::StaleFetch) {
            queue.take_late(&answer, &mut self.budget);
        }
        let taken = queue.fetched(answer, &mut self.budget);
        self.letters.extend(taken.dead);
        self.tickets.end_dying(taken.ended);
        for loss in taken.losses {
            let text = match loss {
                Loss::Place(seq, reason) => {
                    format!("message {seq} of queue '{name}' could not be read and is passed over: {reason}")
                }
                Loss::Missing(count, from, upto) => format!(
                    "{count} messages of queue '{name}' between places {from} and {upto} are not in the store and \
                     are passed over"
                ),
            };
            out.push(Effect::Warn { text });
        }
        // An empty answer is not asked for again at once, or core and store would turn in a circle.
        if progress {
            self.mark_dirty(id);
        }
    }

    fn stop_deliveries(&mut self, out: &mut Vec<Effect>) {
        self.stopping = true;
        let waiting: Vec<QueueId> =
            self.queues.values().filter(|q| !q.gets.is_empty()).map(|q| q.id).collect();
        for id in waiting {
            self.refuse_gets(id, RefusalKind::ShuttingDown, "the broker is shutting down", out);
        }
    }

    fn confirm(&mut self, chan: ChanId, upto: u64, outcome: Outcome) {
        let Some(channel) = self.channels.get_mut(&chan) else { return };
        let confirms = &mut channel.confirms;
        self.counters.confirmed += upto.saturating_sub(confirms.confirmed);
        confirms.confirmed = upto;
        if !matches!(outcome, Outcome::Routed { .. }) {
            confirms.others.push((upto, outcome));
        }
        if !std::mem::replace(&mut confirms.due, true) {
            self.confirming.push(chan);
        }
    }

    fn send_confirms(&mut self, out: &mut Vec<Effect>) {
        for chan in self.confirming.drain(..) {
            let Some(channel) = self.channels.get_mut(&chan) else { continue };
            let confirms = &mut channel.confirms;
            confirms.due = false;
            let others = std::mem::take(&mut confirms.others);
            out.push(Effect::Confirms { chan, upto: confirms.confirmed, others });
        }
    }

    fn queue_settlements(&mut self) {
        for chan in self.settling.drain(..) {
            let Some(channel) = self.channels.get_mut(&chan) else { continue };
            let settlements = &mut channel.settlements;
            settlements.due = false;
            let unknown = std::mem::take(&mut settlements.unknown).into_boxed_slice();
            self.tickets.wait_for_acks(Waiter::Settled { chan, upto: settlements.count, unknown });
        }
    }
}

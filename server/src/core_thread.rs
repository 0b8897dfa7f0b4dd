//! The core thread: takes what waits in the inbox, lets the host make a turn of it, and passes the outputs on. The
//! one order of events.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use leveret_broker::{ChanId, Effect, Input, Refusal, Reply, ReqId};
use leveret_engine::{Threads, Ticket};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use crate::host::Host;
use crate::hub::{Output, Permit};
use crate::inbox::{Envelope, Inbox};

/// How long the thread sleeps when nothing happens: the resolution of leases and other times.
const TICK: Duration = Duration::from_millis(50);

/// How the core thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Told to, with a clean close of the store.
    Closed,
    /// The store failed; why.
    Failed(String),
}

/// The loop's own state: what the shell ties to the core's ids.
#[derive(Default)]
struct Shell {
    replies: HashMap<ReqId, oneshot::Sender<Result<Reply, Refusal>>>,
    channels: HashMap<ChanId, Lane>,
    /// Channels with outputs of this turn.
    touched: Vec<ChanId>,
    /// Permits of publishes, by the append after which they come back.
    permits: VecDeque<(Ticket, Permit)>,
    /// Permits that came in with this turn.
    entered: Option<Permit>,
}

struct Lane {
    sender: mpsc::UnboundedSender<Vec<Output>>,
    pending: Vec<Output>,
}

/// Runs until it is told to close, or the store fails.
/// `inline_allowed`: confirms wait for a sync, so that it is worth hurrying for one.
pub(crate) fn run(mut host: Host, inbox: &Arc<Inbox>, workers: Threads, inline_allowed: bool) -> Ended {
    let mut shell = Shell::default();
    let mut envelopes = VecDeque::new();
    let mut effects = Vec::new();
    let mut closing = false;
    loop {
        inbox.take(&mut envelopes, TICK);
        let inputs = envelopes.drain(..).filter_map(|envelope| shell.enter(envelope, &mut closing));
        let inputs: Vec<Input> = inputs.collect();
        let (alone, before) = (inputs.len() == 1, host.last_append());
        host.turn(inputs, now_ms(), &mut effects);
        // With a single input and nobody behind it, writing here saves two changes of thread, and nobody waits for it.
        let write = host.last_append() > before;
        let inline = write && alone && inline_allowed && inbox.is_empty();
        if write && !inline {
            host.kick();
        }
        // A failed store confirms nothing, not even what it confirmed a moment before it failed.
        if let Some(failure) = host.failure() {
            error!("{failure}; nothing is confirmed any more, the server ends");
            workers.join();
            return Ended::Failed(failure.to_string());
        }
        for effect in effects.drain(..) {
            shell.perform(effect);
        }
        shell.flush();
        if inline && !workers.write_inline() {
            host.kick();
        }
        shell.give_permits_back(&host);
        if closing {
            host.close();
            workers.join();
            return match host.failure() {
                Some(failure) => Ended::Failed(failure.to_string()),
                None => Ended::Closed,
            };
        }
    }
}

impl Shell {
    /// Keeps what is tied to an input, and gives the input on.
    fn enter(&mut self, envelope: Envelope, closing: &mut bool) -> Option<Input> {
        match envelope {
            Envelope::Input(input) => {
                if let Input::ChannelClosed { chan } = &input {
                    self.channels.remove(chan);
                }
                Some(input)
            }
            Envelope::Publish { input, permit } => {
                self.hold(permit);
                Some(input)
            }
            Envelope::Request { input, req, reply, permit } => {
                self.replies.insert(req, reply);
                permit.into_iter().for_each(|permit| self.hold(permit));
                Some(input)
            }
            Envelope::OpenChannel { input, chan, sender } => {
                self.channels.insert(chan, Lane { sender, pending: Vec::new() });
                Some(input)
            }
            Envelope::Close => {
                *closing = true;
                None
            }
        }
    }

    fn hold(&mut self, permit: Permit) {
        match &mut self.entered {
            Some(entered) => entered.merge(permit),
            None => self.entered = Some(permit),
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { req, result } => {
                if let Some(reply) = self.replies.remove(&req) {
                    // Whoever asked may have gone.
                    drop(reply.send(result));
                }
            }
            Effect::Confirms { chan, upto, others } => self.put(chan, Output::Confirms { upto, others }),
            Effect::Return { chan, tag, message } => self.put(chan, Output::Return { tag, message }),
            Effect::Deliver(deliver) => self.put(deliver.chan, Output::Deliver(deliver)),
            Effect::Settled { chan, upto, unknown } => self.put(chan, Output::Settled { upto, unknown }),
            Effect::ConsumerCancelled { chan, consumer_tag } => {
                self.put(chan, Output::ConsumerCancelled { consumer_tag });
            }
            Effect::Warn { text } => warn!("{text}"),
            Effect::Append { .. } | Effect::Fetch(_) => unreachable!("the host carries these out itself"),
        }
    }

    fn put(&mut self, chan: ChanId, output: Output) {
        if let Some(lane) = self.channels.get_mut(&chan) {
            if lane.pending.is_empty() {
                self.touched.push(chan);
            }
            lane.pending.push(output);
        }
    }

    /// One wake-up per channel and turn.
    fn flush(&mut self) {
        for chan in self.touched.drain(..) {
            if let Some(lane) = self.channels.get_mut(&chan) {
                // A writer that has gone closes its channel by itself.
                drop(lane.sender.send(std::mem::take(&mut lane.pending)));
            }
        }
    }

    /// Publishes that entered in a turn are settled with the newest append of that turn at the latest.
    fn give_permits_back(&mut self, host: &Host) {
        if let Some(entered) = self.entered.take() {
            self.permits.push_back((host.last_append(), entered));
        }
        let confirmable = host.confirmable();
        while self.permits.front().is_some_and(|(ticket, _)| *ticket <= confirmable) {
            self.permits.pop_front();
        }
    }
}

/// Milliseconds since 1970; 0 before it.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

//! The core thread: takes what waits in the inbox, lets the host make a turn of it, and passes the outputs on. The
//! one order of events.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use leveret_broker::{ChanId, ConnId, Effect, Input, Refusal, Reply, ReqId};
use leveret_engine::{Pressure, Threads, Ticket};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::host::Host;
use crate::hub::{Hub, LaneId, Output, Permit};
use crate::inbox::{Envelope, Inbox, Turner};

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
pub(crate) struct Shell {
    replies: HashMap<ReqId, ReplyTo>,
    lanes: HashMap<LaneId, Lane>,
    channels: HashMap<ChanId, LaneId>,
    /// Lanes with outputs of this turn.
    touched: Vec<LaneId>,
    /// Permits of publishes, by the append after which they come back.
    permits: VecDeque<(Ticket, Permit)>,
    /// Permits that came in with this turn.
    entered: Option<Permit>,
}

/// Where the answer to a request goes.
enum ReplyTo {
    Caller(oneshot::Sender<Result<Reply, Refusal>>),
    Lane(LaneId),
}

struct Lane {
    conn: ConnId,
    sender: mpsc::UnboundedSender<Vec<Output>>,
    pending: Vec<Output>,
}

/// The inputs of one envelope: one without an allocation, or a batch.
pub(crate) enum Inputs {
    One(Option<Input>),
    Many(std::vec::IntoIter<Input>),
}

impl Iterator for Inputs {
    type Item = Input;

    fn next(&mut self) -> Option<Input> {
        match self {
            Self::One(input) => input.take(),
            Self::Many(inputs) => inputs.next(),
        }
    }

    fn fold<B, F: FnMut(B, Input) -> B>(self, first: B, with: F) -> B {
        match self {
            Self::One(input) => input.into_iter().fold(first, with),
            Self::Many(inputs) => inputs.fold(first, with),
        }
    }
}

/// What makes the turns: the core thread, or a sender while that sleeps ([`Inbox::push_or_turn`]).
pub(crate) struct Core {
    host: Host,
    inbox: Arc<Inbox>,
    workers: Threads,
    inline_allowed: bool,
    hub: Hub,
    shell: Shell,
    envelopes: VecDeque<Envelope>,
    effects: Vec<Effect>,
    closing: bool,
    ended: Option<Ended>,
}

impl Core {
    /// `inline_allowed`: confirms wait for a sync, so that it is worth hurrying for one.
    /// `hub`: whose publishers are held when the store has no room.
    pub(crate) fn new(
        host: Host,
        inbox: Arc<Inbox>,
        workers: Threads,
        inline_allowed: bool,
        hub: Hub,
    ) -> Self {
        inbox.access_changed_before(host.access_changes());
        let (shell, envelopes, effects) = (Shell::default(), VecDeque::new(), Vec::new());
        let (closing, ended) = (false, None);
        Self { host, inbox, workers, inline_allowed, hub, shell, envelopes, effects, closing, ended }
    }

    /// A turn of the envelopes at hand. Does nothing once there is an end.
    fn turn(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let Self { host, inbox, workers, shell, effects, closing, .. } = self;
        let (mut count, before) = (0, host.last_append());
        let inputs = self.envelopes.drain(..).flat_map(|envelope| shell.enter(envelope, closing));
        host.turn(inputs.inspect(|_| count += 1), now_ms(), effects);
        let alone = count == 1;
        // With a single input and nobody behind it, writing here saves two changes of thread, and nobody waits for it.
        let write = host.last_append() > before;
        let inline = write && alone && self.inline_allowed && inbox.is_empty();
        if write && !inline {
            host.kick();
        }
        for finding in host.store().findings() {
            error!("{finding}");
        }
        // A failed store confirms nothing, not even what it confirmed a moment before it failed.
        if let Some(failure) = host.failure() {
            error!("{failure}; nothing is confirmed any more, the server ends");
            self.ended = Some(Ended::Failed(failure.to_string()));
            return;
        }
        for effect in effects.drain(..) {
            shell.perform(effect, inbox);
        }
        shell.flush();
        if inline && !workers.write_inline() {
            host.kick();
        }
        shell.give_permits_back(host);
        hold_publishers(host, &self.hub);
        if self.closing {
            host.close();
            self.ended = Some(Ended::Closed);
        }
    }

    /// Waits for the workers of the store.
    fn end(self, how: Ended) -> Ended {
        self.workers.join();
        for finding in self.host.store().findings() {
            error!("{finding}");
        }
        match (how, self.host.failure()) {
            (Ended::Closed, Some(failure)) => Ended::Failed(failure.to_string()),
            (how, _) => how,
        }
    }
}

/// The core where its thread and senders find it; None once it has ended.
#[derive(Clone)]
pub(crate) struct SharedCore(Arc<Mutex<Option<Core>>>);

impl SharedCore {
    pub(crate) fn new(core: Core) -> Self {
        Self(Arc::new(Mutex::new(Some(core))))
    }

    /// Nobody waits here: the inbox lets one of them have it at a time.
    #[expect(clippy::expect_used, reason = "half a turn is no state to go on from: the process ends")]
    fn lock(&self) -> MutexGuard<'_, Option<Core>> {
        self.0.lock().expect("no turn panicked")
    }
}

impl Turner for SharedCore {
    fn turn(&self, envelope: Envelope, heard: &dyn Fn() -> bool) {
        let mut core = self.lock();
        let Some(core) = &mut *core else { return };
        core.envelopes.push_back(envelope);
        core.turn();
        while core.ended.is_none() && heard() {
            core.turn();
        }
        // The thread is to find the end, and has none of its own to wake it.
        if core.ended.is_some() {
            core.inbox.wake();
        }
    }
}

/// Runs until it is told to close, or the store fails.
pub(crate) fn run(shared: &SharedCore, inbox: &Inbox) -> Ended {
    let mut envelopes = VecDeque::new();
    loop {
        inbox.take(&mut envelopes, TICK);
        let mut slot = shared.lock();
        let Some(core) = &mut *slot else { return Ended::Closed };
        std::mem::swap(&mut core.envelopes, &mut envelopes);
        core.turn();
        if let Some(how) = core.ended.take() {
            let core = slot.take();
            drop(slot);
            return core.map_or(how.clone(), |core| core.end(how));
        }
    }
}

/// Lets publishers wait when the store says so, and go on when it does not any more.
pub(crate) fn hold_publishers(host: &Host, hub: &Hub) {
    let pressure = host.store().pressure();
    if pressure == hub.publishers_held() {
        return;
    }
    match pressure {
        Some(Pressure::DiskLow) => warn!(
            "too little is free on the disk: publishers wait, all else goes on; consume messages or make room \
             (see --disk-free-limit)"
        ),
        Some(Pressure::SettlingLags) => {
            info!("settling lags behind the log's growth: publishers wait for it")
        }
        Some(Pressure::SpillingLags) => {
            info!("transient messages beyond the memory budget wait to be written: publishers wait for it")
        }
        None => info!("publishers go on"),
    }
    hub.hold_publishers(pressure);
}

impl Shell {
    /// Keeps what is tied to the inputs of an envelope, and gives the inputs on.
    pub(crate) fn enter(&mut self, envelope: Envelope, closing: &mut bool) -> Inputs {
        match envelope {
            Envelope::Input(input) => {
                if let Input::ChannelClosed { chan } = &input {
                    self.channels.remove(chan);
                }
                Inputs::One(Some(input))
            }
            Envelope::Batch { lane, inputs, permit } => {
                permit.into_iter().for_each(|permit| self.hold(permit));
                for input in &inputs {
                    self.tie(lane, input);
                }
                Inputs::Many(inputs.into_iter())
            }
            Envelope::Request { input, req, reply, permit } => {
                self.replies.insert(req, ReplyTo::Caller(reply));
                permit.into_iter().for_each(|permit| self.hold(permit));
                Inputs::One(Some(input))
            }
            Envelope::OpenLane { lane, conn, sender } => {
                self.lanes.insert(lane, Lane { conn, sender, pending: Vec::new() });
                Inputs::One(None)
            }
            Envelope::CloseLane { lane } => {
                self.lanes.remove(&lane);
                Inputs::One(None)
            }
            Envelope::Close => {
                *closing = true;
                Inputs::One(None)
            }
        }
    }

    /// Remembers which lane an input's answers and outputs go to.
    fn tie(&mut self, lane: LaneId, input: &Input) {
        match input {
            Input::Request { req, .. } => drop(self.replies.insert(*req, ReplyTo::Lane(lane))),
            Input::ChannelOpened { chan, .. } => drop(self.channels.insert(*chan, lane)),
            Input::ChannelClosed { chan } => drop(self.channels.remove(chan)),
            _ => {}
        }
    }

    fn hold(&mut self, permit: Permit) {
        match &mut self.entered {
            Some(entered) => entered.merge(permit),
            None => self.entered = Some(permit),
        }
    }

    pub(crate) fn perform(&mut self, effect: Effect, inbox: &Inbox) {
        match effect {
            Effect::Reply { req, result } => match self.replies.remove(&req) {
                // Whoever asked may have gone.
                Some(ReplyTo::Caller(reply)) => drop(reply.send(result)),
                Some(ReplyTo::Lane(lane)) => self.put_on(lane, Output::Reply { req, result }),
                None => {}
            },
            Effect::Dropped { req } => drop(self.replies.remove(&req)),
            Effect::Confirms { chan, upto, others } => {
                self.put(chan, Output::Confirms { chan, upto, others });
            }
            Effect::Return { chan, tag, message } => self.put(chan, Output::Return { chan, tag, message }),
            Effect::Deliver(deliver) => self.put(deliver.chan, Output::Deliver(deliver)),
            Effect::Settled { chan, upto, unknown } => {
                self.put(chan, Output::Settled { chan, upto, unknown });
            }
            Effect::ConsumerCancelled { chan, consumer_tag } => {
                self.put(chan, Output::ConsumerCancelled { chan, consumer_tag });
            }
            Effect::ChannelFailed { chan, cause, refusal } => {
                self.put(chan, Output::ChannelFailed { chan, cause, refusal });
            }
            Effect::ConnectionForced { conn, refusal } => {
                let lanes = self.lanes.iter().filter(|(_, lane)| lane.conn == conn);
                for lane in lanes.map(|(id, _)| *id).collect::<Vec<_>>() {
                    self.put_on(lane, Output::ConnectionForced { refusal: refusal.clone() });
                }
            }
            Effect::AccessChanged => inbox.access_changed(),
            Effect::Warn { text } => warn!("{text}"),
            Effect::Append { .. } | Effect::Fetch(_) | Effect::Spill(_) | Effect::Release { .. } => {
                unreachable!("the host carries these out itself")
            }
        }
    }

    fn put(&mut self, chan: ChanId, output: Output) {
        if let Some(lane) = self.channels.get(&chan) {
            self.put_on(*lane, output);
        }
    }

    fn put_on(&mut self, id: LaneId, output: Output) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            if lane.pending.is_empty() {
                self.touched.push(id);
            }
            lane.pending.push(output);
        }
    }

    /// One wake-up per lane and turn.
    pub(crate) fn flush(&mut self) {
        for lane in self.touched.drain(..) {
            if let Some(lane) = self.lanes.get_mut(&lane) {
                // A writer that has gone closes its lane by itself.
                drop(lane.sender.send(std::mem::take(&mut lane.pending)));
            }
        }
    }

    /// Publishes that entered in a turn are settled with the newest append of that turn at the latest.
    pub(crate) fn give_permits_back(&mut self, host: &Host) {
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

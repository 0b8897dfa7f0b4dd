//! What the workers of a crash run share.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use leveret_proto::v1::{BindRequest, ListBindingsRequest, ListQueuesRequest};
use tonic::Status;

use super::line::{Line, Why};
use crate::client::{self, Client};
use crate::history::{BindingName, Event, Listed, QueueRef, Recorder};
use crate::payload::MsgId;

/// The queues that live through the whole run.
pub(super) const WORK: &str = "work";
pub(super) const FAN_A: &str = "fan.a";
pub(super) const FAN_B: &str = "fan.b";
pub(super) const LEASED: &str = "leased";
/// Transactions move messages from one to the other.
pub(super) const MOVE_FROM: &str = "move.from";
pub(super) const MOVE_TO: &str = "move.to";
/// What is rejected in the first goes to the second.
pub(super) const LETTERS: &str = "letters";
pub(super) const DEAD: &str = "letters.dead";
/// The fan-out exchange of [`FAN_A`] and [`FAN_B`].
pub(super) const FAN: &str = "fan";
/// The direct exchange of the queues that come and go.
pub(super) const CHURN: &str = "churn";

/// Why a worker ended.
pub(super) type Outcome = Result<(), String>;

/// Shared by all workers.
#[derive(Debug)]
pub(super) struct World {
    pub(super) recorder: Recorder,
    pub(super) work: QueueRef,
    pub(super) fan_a: QueueRef,
    pub(super) fan_b: QueueRef,
    pub(super) leased: QueueRef,
    pub(super) move_from: QueueRef,
    pub(super) move_to: QueueRef,
    pub(super) letters: QueueRef,
    pub(super) dead: QueueRef,
    /// Set before the kill: from then on a failing call is no fault.
    killing: AtomicBool,
    seqs: [AtomicU64; 8],
    pub(super) checkpoints: AtomicU64,
    pub(super) recycled: AtomicU64,
    pub(super) settled_bytes: AtomicU64,
    pub(super) merged_bytes: AtomicU64,
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        let recorder = Recorder::default();
        let [work, fan_a, fan_b, leased, move_from, move_to, letters, dead] =
            std::array::from_fn(|_| recorder.new_queue());
        Arc::new(Self {
            recorder,
            work,
            fan_a,
            fan_b,
            leased,
            move_from,
            move_to,
            letters,
            dead,
            killing: AtomicBool::new(false),
            seqs: Default::default(),
            checkpoints: AtomicU64::new(0),
            recycled: AtomicU64::new(0),
            settled_bytes: AtomicU64::new(0),
            merged_bytes: AtomicU64::new(0),
        })
    }

    /// The queues that live through the run, by name.
    pub(super) fn fixed(&self) -> [(&'static str, QueueRef); 8] {
        [
            (WORK, self.work),
            (FAN_A, self.fan_a),
            (FAN_B, self.fan_b),
            (LEASED, self.leased),
            (MOVE_FROM, self.move_from),
            (MOVE_TO, self.move_to),
            (LETTERS, self.letters),
            (DEAD, self.dead),
        ]
    }

    /// The next message of a publisher.
    pub(super) fn next(&self, publisher: u32) -> MsgId {
        MsgId { publisher, seq: self.seqs[publisher as usize].fetch_add(1, Ordering::Relaxed) + 1 }
    }

    pub(super) fn set_killing(&self, killing: bool) {
        self.killing.store(killing, Ordering::SeqCst);
    }

    pub(super) fn killing(&self) -> bool {
        self.killing.load(Ordering::SeqCst)
    }

    /// A failed call ends the worker; it is a fault only while nobody kills the server.
    pub(super) fn failed(&self, what: &str, status: &impl Debug) -> Outcome {
        match self.killing() {
            true => Ok(()),
            false => Err(format!("{what} failed while the server was up: {status:?}")),
        }
    }

    /// The stream ended though nobody killed the server.
    pub(super) fn ended(&self, what: &str) -> Outcome {
        match self.killing() {
            true => Ok(()),
            false => Err(format!("{what} ended while the server was up")),
        }
    }

    /// Declares the fixed queues, their exchange and bindings.
    pub(super) async fn set_up(&self, line: &mut Line) -> Result<(), Why> {
        for (name, queue) in self.fixed() {
            self.recorder.record(Event::DeclareSent { queue, name: name.into() });
            let dead_letters = (name == LETTERS).then_some(DEAD);
            let ready = line.declare_queue_with(name, dead_letters).await?;
            self.recorder.record(Event::Declared { queue, ready });
        }
        line.declare_exchange(FAN, "fanout").await?;
        line.declare_exchange(CHURN, "direct").await?;
        for queue in [FAN_A, FAN_B] {
            self.bind(line, FAN, queue, "").await?;
        }
        Ok(())
    }

    /// Binds and records it.
    pub(super) async fn bind(
        &self,
        line: &mut Line,
        exchange: &str,
        queue: &str,
        key: &str,
    ) -> Result<(), Why> {
        let (binding, _) = binding(exchange, queue, key);
        self.recorder.record(Event::BindSent { binding: binding.clone() });
        line.bind(exchange, queue, key).await?;
        self.recorder.record(Event::Bound { binding });
        Ok(())
    }

    /// Lists queues and bindings for the checker. No worker may be at work.
    pub(super) async fn list(&self, client: &mut Client) -> Result<(), Status> {
        let queues = client.rpc.list_queues(ListQueuesRequest::default()).await?.into_inner().queues;
        let queues =
            queues.into_iter().map(|queue| Listed { name: queue.name, messages: queue.messages }).collect();
        let bindings = client.rpc.list_bindings(ListBindingsRequest::default()).await?.into_inner().bindings;
        let named = bindings.into_iter().filter(|binding| !binding.source.is_empty());
        let bindings = named
            .map(|binding| BindingName {
                exchange: binding.source,
                queue: binding.destination,
                key: binding.routing_key,
            })
            .collect();
        self.recorder.record(Event::Listing { queues, bindings });
        Ok(())
    }
}

/// A binding for the record and for the call.
pub(super) fn binding(exchange: &str, queue: &str, key: &str) -> (BindingName, BindRequest) {
    let name = BindingName { exchange: exchange.into(), queue: queue.into(), key: key.into() };
    (name, client::bind(exchange, queue, key))
}

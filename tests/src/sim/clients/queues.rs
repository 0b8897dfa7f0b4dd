//! Queues that the simulated clients declare: plain ones, and ones with dead letters, which may leave by themselves.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;
use leveret_broker::{Binding, DeclareExchange, DeclareQueue, DestinationKind, Op, Table, Value};

use super::{Asked, Clients, Known, name_of};
use crate::history::{Event, QueueRef};
use crate::payload::MsgId;
use crate::sim::kinds::Kind;
use crate::sim::world::Life;

/// What a queue does with the messages that nobody wants.
#[derive(Debug, Clone, Default)]
pub(super) struct DeadLetters {
    /// Where they go. Empty: nowhere.
    pub(super) to: Arc<[QueueRef]>,
    /// Messages go there by themselves, too.
    pub(super) rule: bool,
}

impl Clients {
    pub(super) fn declare_new(&mut self, life: &mut Life, rng: &mut Rng) {
        if self.queues.iter().filter(|known| !known.ready).count() > 3 && self.queues.len() > 8 {
            return;
        }
        let chain = match rng.u8(..8) {
            0 => 2,
            1..4 => 1,
            _ => 0,
        };
        self.declare_chain(life, rng, chain, false);
    }

    /// Declares a queue whose dead letters go to other new queues, theirs to others, and so on. Those come first: what
    /// is found after a crash has everything that it needs.
    fn declare_chain(&mut self, life: &mut Life, rng: &mut Rng, length: u32, target: bool) -> QueueRef {
        self.names += 1;
        let name: Arc<str> = format!("q{}", self.names).into();
        let mut arguments = Vec::new();
        let mut dead = DeadLetters::default();
        if length > 0 {
            let count = if rng.u8(..3) == 0 { 2 } else { 1 };
            dead.to = (0..count).map(|_| self.declare_chain(life, rng, length - 1, true)).collect();
            arguments = self.dead_letter_to(life, &name, &dead.to);
            let limits = [
                ("x-message-ttl", rng.i64(0..600)),
                ("x-max-length", rng.i64(0..12)),
                ("x-max-length-bytes", rng.i64(100..4_000)),
            ];
            arguments
                .extend(limits.into_iter().filter(|_| rng.u8(..5) == 0).map(|(k, v)| (k, Value::I64(v))));
            dead.rule = arguments.iter().any(|(_, value)| matches!(value, Value::I64(_)));
        }
        let kind = if self.kinds { Kind::any(rng) } else { Kind::Plain };
        arguments.extend(kind.arguments());
        let arguments = Table(arguments.into_iter().map(|(key, value)| (key.to_owned(), value)).collect());
        let queue = self.recorder.new_queue();
        let sole = rng.u8(..3) == 0;
        let known = Known {
            queue,
            name,
            ready: false,
            fanned: false,
            sole,
            taken: false,
            rejected: false,
            arguments,
            kind,
            dead,
            target,
        };
        self.queues.push(known.clone());
        self.declare_known(life, &known);
        queue
    }

    /// The arguments that name where dead letters go; an exchange if these are several queues.
    fn dead_letter_to(
        &mut self,
        life: &mut Life,
        name: &Arc<str>,
        to: &[QueueRef],
    ) -> Vec<(&'static str, Value)> {
        let names: Vec<Arc<str>> =
            to.iter().filter_map(|to| self.known(*to)).map(|known| known.name).collect();
        let text = |text: &str| Value::Bytes(Bytes::copy_from_slice(text.as_bytes()));
        if let [one] = &names[..] {
            return vec![("x-dead-letter-exchange", text("")), ("x-dead-letter-routing-key", text(one))];
        }
        let exchange: Arc<str> = format!("dead-{name}").into();
        self.ask_exchange(life, &exchange, Asked::Nothing);
        for destination in names {
            let binding = Binding {
                source: Arc::clone(&exchange),
                destination_kind: DestinationKind::Queue,
                destination,
                routing_key: "".into(),
                arguments: Table::default(),
            };
            let name = name_of(&binding);
            self.recorder.record(Event::BindSent { binding: name.clone() });
            self.ask(life, Op::Bind(binding), Asked::Bind(name));
        }
        vec![("x-dead-letter-exchange", text(&exchange))]
    }

    pub(super) fn ask_exchange(&mut self, life: &mut Life, name: &Arc<str>, asked: Asked) {
        let op = Op::DeclareExchange(DeclareExchange {
            name: Arc::clone(name),
            kind: "fanout".into(),
            durable: true,
            auto_delete: false,
            internal: false,
            passive: false,
            arguments: Table::default(),
        });
        self.ask(life, op, asked);
    }

    /// Declares a queue that is not there.
    fn declare_known(&mut self, life: &mut Life, known: &Known) {
        let queue = known.queue;
        self.recorder.record(Event::DeclareSent { queue, name: known.name.to_string() });
        self.recorder.record_all(known.kind.recorded(queue, &known.dead.to));
        if known.dead.rule {
            self.recorder.record(Event::DeadLetters { queue, to: Arc::clone(&known.dead.to) });
        }
        self.ask_declare(life, known);
    }

    pub(super) fn ask_declare(&mut self, life: &mut Life, known: &Known) {
        let op = Op::DeclareQueue(DeclareQueue {
            name: Arc::clone(&known.name),
            durable: true,
            exclusive: false,
            auto_delete: false,
            passive: false,
            arguments: known.arguments.clone(),
        });
        self.ask(life, op, Asked::Declare(known.queue));
    }

    pub(super) fn redeclare(&mut self, life: &mut Life, rng: &mut Rng) {
        if let Some(known) = self.pick(rng, |known| known.ready) {
            self.ask_declare(life, &known);
        }
    }

    /// Deletes a queue. Nobody uses it from here on. One that dead letters go to stays: they go there at any time, and
    /// the record must know where they went.
    pub(super) fn delete(&mut self, life: &mut Life, rng: &mut Rng) {
        let unwanted = |known: &Known| known.ready && !known.fanned && !known.target && !known.rejected;
        let Some(known) = self.pick(rng, unwanted) else { return };
        self.recorder.record(Event::DeleteSent { queue: known.queue });
        let op = Op::DeleteQueue { name: Arc::clone(&known.name), if_unused: false, if_empty: false };
        self.ask(life, op, Asked::Delete(known.queue));
        if let Some(known) = self.queues.iter_mut().find(|other| other.queue == known.queue) {
            known.ready = false;
        }
    }

    /// A queue was deleted: its name is declared again, as another queue.
    pub(super) fn deleted(&mut self, life: &mut Life, old: QueueRef) {
        self.recorder.record(Event::Deleted { queue: old });
        let queue = self.recorder.new_queue();
        let Some(known) = self.queues.iter_mut().find(|known| known.queue == old) else { return };
        known.queue = queue;
        let known = known.clone();
        self.declare_known(life, &known);
    }

    pub(super) fn known(&self, queue: QueueRef) -> Option<Known> {
        self.queues.iter().find(|known| known.queue == queue).cloned()
    }

    /// Where the messages of a queue go that are rejected now.
    pub(super) fn reject_from(&mut self, queue: QueueRef) -> Arc<[QueueRef]> {
        let here = |known: &&mut Known| known.queue == queue && known.ready;
        // What is out of a queue that is being deleted goes with it.
        let Some(known) = self.queues.iter_mut().find(here) else { return [].into() };
        known.rejected = true;
        Arc::clone(&known.dead.to)
    }

    /// A message may come to a queue, and from there to where its dead letters go.
    pub(super) fn aim(&mut self, id: MsgId, to: QueueRef, from: Option<QueueRef>) {
        self.aims.entry(id).or_default().push((to, from));
        let next = self.known(to).map(|known| known.dead.to);
        next.iter().flat_map(|next| next.iter()).for_each(|next| self.aim(id, *next, Some(to)));
    }

    /// Whether a message that is out of `from` can move to `to`: it never was there, nor where it may go from there.
    /// An earlier move from the same queue came to nothing, since it is there now.
    pub(super) fn may_move(&self, id: MsgId, from: QueueRef, to: QueueRef) -> bool {
        let aims = self.aims.get(&id);
        let free = aims.is_none_or(|aims| aims.iter().all(|aim| aim.0 != to || aim.1 == Some(from)));
        let next = self.known(to).map(|known| known.dead.to);
        free && to != from
            && next.iter().flat_map(|next| next.iter()).all(|next| self.may_move(id, to, *next))
    }
}

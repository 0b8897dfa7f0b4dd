//! Core and store together, in turns: inputs in, effects out. Sync, without threads, clock or sockets; the core
//! thread and the simulator call the very same code.

use std::sync::Arc;

use bytes::Bytes;
use leveret_broker::record::Stored;
use leveret_broker::{
    Batch, Blob, Broker, CoreStats, Effect, Fetched, Input, Put, RecoverError, Recovered, RecoveredQueue,
};
use leveret_engine as engine;
use leveret_engine::{BlobRef, Store, Urgency};

/// A broker on its store.
#[derive(Debug)]
pub struct Host {
    broker: Broker,
    store: Store,
    told: engine::Ticket,
    last: engine::Ticket,
    /// The core was told that dead letters are to wait.
    letters_wait: bool,
    effects: Vec<Effect>,
}

impl Host {
    /// Builds the core from what the store's open found. `now_ms`: milliseconds since 1970.
    pub fn new(
        mut settings: leveret_broker::Settings,
        store: Store,
        recovered: engine::Recovered,
        now_ms: u64,
    ) -> Result<Self, RecoverError> {
        settings.append_bytes_max = settings.append_bytes_max.min(store.batch_bytes_max());
        let broker = Broker::new(settings, for_core(recovered), now_ms)?;
        let zero = engine::Ticket(0);
        Ok(Self { broker, store, told: zero, last: zero, letters_wait: false, effects: Vec::new() })
    }

    /// Switches a deliberate bug of the core on, for tests of the tests.
    #[cfg(feature = "controls")]
    pub fn switch_on(&mut self, control: leveret_broker::Control) {
        self.broker.switch_on(control);
    }

    /// One turn: tells the core what the store has to say, then the inputs; hands appends and fetches to the store
    /// and the other effects, in order, to `out`. Reads `now_ms` only as a value.
    pub fn turn(&mut self, inputs: impl IntoIterator<Item = Input>, now_ms: u64, out: &mut Vec<Effect>) {
        let mut effects = std::mem::take(&mut self.effects);
        self.broker.step(Input::Tick { now_ms }, &mut effects);
        let confirmable = self.store.confirmable();
        if confirmable > self.told {
            self.told = confirmable;
            let ticket = leveret_broker::Ticket(confirmable.0);
            self.broker.step(Input::Confirmable { ticket }, &mut effects);
        }
        let wait = self.store.pressure() == Some(engine::Pressure::DiskLow);
        if wait != self.letters_wait {
            self.letters_wait = wait;
            self.broker.step(Input::HoldLetters { wait }, &mut effects);
        }
        for answer in self.store.answers() {
            self.broker.step(Input::Fetched(fetched(answer)), &mut effects);
        }
        let places = self.store.spilled();
        if !places.is_empty() {
            let places = places.into_iter().map(|(queue, at)| place(queue, at)).collect();
            self.broker.step(Input::Spilled { places }, &mut effects);
        }
        // By its own loop each iterator hands an input over in place; `for` would copy it at every level.
        inputs.into_iter().for_each(|input| self.broker.step(input, &mut effects));
        self.broker.finish(&mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect, out);
        }
        self.effects = effects;
    }

    /// The newest append so far. What entered in turns up to now is settled once [`Host::confirmable`] reaches it.
    pub fn last_append(&self) -> engine::Ticket {
        self.last
    }

    /// Wakes the store's writer for what was appended in this turn.
    pub fn kick(&self) {
        self.store.kick();
    }

    /// Newest append whose confirms may go out.
    pub fn confirmable(&self) -> engine::Ticket {
        self.store.confirmable()
    }

    /// Why nothing is confirmed any more, if so. The process must end.
    pub fn failure(&self) -> Option<Arc<engine::Error>> {
        self.store.failure()
    }

    /// Whether the store has ever been given its first virtual host and user (`Op::MakeDefaults`).
    pub fn defaults_made(&self) -> bool {
        self.broker.defaults_made()
    }

    /// See [`Broker::access_changes`].
    pub fn access_changes(&self) -> u64 {
        self.broker.access_changes()
    }

    /// Counters of the core.
    pub fn stats(&self) -> CoreStats {
        self.broker.stats()
    }

    /// The store, for its figures.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Begins the clean close of the store: what was accepted is written, then a checkpoint that says what was
    /// delivered.
    pub fn close(&self) {
        let delivered = self.broker.at_close().into_iter().map(|(queue, ranges)| {
            let ranges = ranges.into_iter().map(|(first, last)| (seq(first), seq(last))).collect();
            (queue_id(queue), ranges)
        });
        self.store.close(delivered.collect());
    }

    fn carry_out(&mut self, effect: Effect, out: &mut Vec<Effect>) {
        match effect {
            Effect::Append { ticket, batch, urgent } => {
                let urgency = if urgent { Urgency::Now } else { Urgency::Lazy };
                match self.store.commit(to_engine(batch), urgency) {
                    Ok(given) => {
                        assert_eq!(given.0, ticket.0, "core and store count appends alike");
                        self.last = given;
                    }
                    // The core keeps to what a segment takes: this is a bug, and core and store differ from here on.
                    Err(error) => self.store.fail(error),
                }
            }
            Effect::Fetch(fetch) => self.store.fetch(engine::Fetch {
                queue: queue_id(fetch.queue),
                generation: fetch.generation,
                from: seq(fetch.from),
                upto: seq(fetch.upto),
                count_max: fetch.count_max,
                bytes_max: fetch.bytes_max,
                after: engine::Ticket(fetch.after.0),
            }),
            Effect::Spill(put) => self.store.spill(to_spill(&put)),
            Effect::Release { places } => {
                for (queue, first, last) in places {
                    self.store.release(queue_id(queue), seq(first), seq(last));
                }
            }
            other => out.push(other),
        }
    }
}

fn to_engine(batch: Batch) -> engine::Batch {
    let ack = |(queue, first, last)| (queue_id(queue), seq(first), seq(last));
    let bytes: u64 = batch.puts.iter().map(Put::bytes).sum();
    let mut out = engine::Batch::with_room(bytes as usize);
    out.queues_created = batch.queues_created.into_iter().map(queue_id).collect();
    for put in &batch.puts {
        let blob = put.message.blob.as_ref().and_then(Blob::handle::<BlobRef>);
        let payload = |record: &mut Vec<u8>| {
            put.write_header(record);
            if blob.is_none() {
                record.extend_from_slice(&put.message.body);
            }
        };
        match put.targets[..] {
            [(queue, at)] => out.put(&[(queue_id(queue), seq(at))], blob, payload),
            _ => out.put(&targets(put), blob, payload),
        }
    }
    out.acks = batch.acks.into_iter().map(ack).collect();
    out.facts = batch.facts;
    out.queues_deleted = batch.queues_deleted.into_iter().map(queue_id).collect();
    out
}

/// All of it, also what is in a blob file: what is spilled stands by itself.
fn to_spill(put: &Put) -> engine::Put {
    let mut header = Vec::new();
    put.write_header(&mut header);
    let payload = engine::Payload { head: header.into(), body: put.message.body.clone() };
    engine::Put { targets: targets(put), payload, blob: None }
}

fn targets(put: &Put) -> Vec<(engine::QueueId, engine::Seq)> {
    put.targets.iter().map(|(queue, at)| (queue_id(*queue), seq(*at))).collect()
}

fn place(queue: engine::QueueId, at: engine::Seq) -> (leveret_broker::QueueId, leveret_broker::Seq) {
    (leveret_broker::QueueId(queue.0), leveret_broker::Seq(at.0))
}

fn fetched(answer: engine::Fetched) -> Fetched {
    let mut blobs = answer.blobs.into_iter().peekable();
    let mut stored = |(at, bytes): (engine::Seq, Bytes)| {
        let blob = blobs.next_if(|(with, _)| *with == at).map(|(_, blob)| Blob::new(blob));
        (leveret_broker::Seq(at.0), Stored { bytes, blob })
    };
    Fetched {
        queue: leveret_broker::QueueId(answer.queue.0),
        generation: answer.generation,
        from: leveret_broker::Seq(answer.from.0),
        upto: leveret_broker::Seq(answer.upto.0),
        records: answer.messages.into_iter().map(&mut stored).collect(),
        lost: answer.lost.into_iter().map(|(at, why)| (leveret_broker::Seq(at.0), why)).collect(),
    }
}

fn for_core(recovered: engine::Recovered) -> Recovered {
    let ranges = |ranges: Vec<(engine::Seq, engine::Seq)>| {
        ranges
            .into_iter()
            .map(|(first, last)| (leveret_broker::Seq(first.0), leveret_broker::Seq(last.0)))
            .collect()
    };
    let queue = |queue: engine::RecoveredQueue| RecoveredQueue {
        queue: leveret_broker::QueueId(queue.queue.0),
        next: leveret_broker::Seq(queue.next.0),
        head: leveret_broker::Seq(queue.head.0),
        live: queue.live,
        dead: ranges(queue.dead),
        redelivered_below: leveret_broker::Seq(queue.redelivered_below.0),
        redelivered: ranges(queue.redelivered),
    };
    Recovered {
        epoch: leveret_broker::Epoch(recovered.epoch.0),
        next_queue_id: leveret_broker::QueueId(recovered.next_queue.0),
        facts: recovered.facts,
        queues: recovered.queues.into_iter().map(queue).collect(),
    }
}

fn queue_id(queue: leveret_broker::QueueId) -> engine::QueueId {
    engine::QueueId(queue.0)
}

fn seq(seq: leveret_broker::Seq) -> engine::Seq {
    engine::Seq(seq.0)
}

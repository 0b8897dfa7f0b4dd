//! A client whose queue comes and goes under one name: declares, binds, publishes, gets, purges, unbinds, deletes.
//! What it was doing when the server was killed it finishes after the restart, as a careful client would.

use std::sync::Arc;

use fastrand::Rng;
use tokio::sync::Mutex;

use super::line::{Acked, Line, Over, Why};
use super::message::{Target, new_message};
use super::world::{CHURN, Outcome, World, binding};
use crate::history::{ConsumerRef, Event, Keep, QueueRef, Share};

/// Outlives the runs: what exists, as far as the client was told.
#[derive(Debug)]
pub(super) struct Churn {
    name: &'static str,
    publisher: u32,
    life: Option<Life>,
    rng: Rng,
}

/// One life of the queue's name.
#[derive(Debug, Clone, Copy)]
struct Life {
    queue: QueueRef,
    declared: bool,
    bound: Bound,
    deleting: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    Yes,
    No,
    /// A bind or unbind was not answered.
    Unknown,
}

/// Works until the server is gone.
pub(super) async fn work(world: Arc<World>, port: u16, over: Over, churn: Arc<Mutex<Churn>>) -> Outcome {
    let mut churn = churn.lock().await;
    let ended = async {
        let mut line = Line::open(over, port).await?;
        let mut consumer = None;
        loop {
            churn.round(&world, &mut line, &mut consumer).await?;
        }
    };
    match ended.await {
        Ok(()) => Ok(()),
        Err(Why::Call(status)) => world.failed("a call on a queue that comes and goes", &status),
        Err(Why::Wrong(text)) => Err(text),
    }
}

impl Churn {
    pub(super) fn new(name: &'static str, publisher: u32, seed: u64) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { name, publisher, life: None, rng: Rng::with_seed(seed) }))
    }

    /// Finishes what was under way; the queue, if it exists now, to be drained.
    pub(super) async fn finish(
        &mut self,
        world: &World,
        line: &mut Line,
    ) -> Result<Option<(&'static str, QueueRef)>, String> {
        let outcome = match self.life {
            Some(life) if life.deleting => self.delete(world, line, life).await,
            Some(life) if !life.declared => self.declare(world, line).await.map(|_| ()),
            _ => Ok(()),
        };
        match outcome {
            Ok(()) => Ok(self.life.map(|life| (self.name, life.queue))),
            Err(Why::Call(status)) => Err(format!("finishing on {}: {status:?}", self.name)),
            Err(Why::Wrong(text)) => Err(text),
        }
    }

    async fn round(
        &mut self,
        world: &World,
        line: &mut Line,
        consumer: &mut Option<(QueueRef, ConsumerRef)>,
    ) -> Result<(), Why> {
        let life = self.declare(world, line).await?;
        if life.deleting {
            return self.delete(world, line, life).await;
        }
        if life.bound == Bound::Unknown || (life.bound == Bound::No && self.rng.bool()) {
            self.bind(world, line).await?;
        }
        match self.rng.u32(..20) {
            0..9 => self.publish(world, line, life.queue).await,
            9..15 => self.get(world, line, life.queue, consumer).await,
            15 => self.unbind(world, line).await,
            16 => self.purge(world, line, life.queue).await,
            17 => self.delete(world, line, life).await,
            _ => Ok(()),
        }
    }

    async fn declare(&mut self, world: &World, line: &mut Line) -> Result<Life, Why> {
        let life = *self.life.get_or_insert_with(|| Life {
            queue: world.recorder.new_queue(),
            declared: false,
            bound: Bound::No,
            deleting: false,
        });
        if life.declared {
            return Ok(life);
        }
        world.recorder.record(Event::DeclareSent { queue: life.queue, name: self.name.into() });
        let ready = line.declare_queue(self.name).await?;
        world.recorder.record(Event::Declared { queue: life.queue, ready });
        let life = Life { declared: true, ..life };
        self.life = Some(life);
        Ok(life)
    }

    async fn bind(&mut self, world: &World, line: &mut Line) -> Result<(), Why> {
        self.set_bound(Bound::Unknown);
        world.bind(line, CHURN, self.name, self.name).await?;
        self.set_bound(Bound::Yes);
        Ok(())
    }

    async fn unbind(&mut self, world: &World, line: &mut Line) -> Result<(), Why> {
        self.set_bound(Bound::Unknown);
        let (name, _) = binding(CHURN, self.name, self.name);
        world.recorder.record(Event::UnbindSent { binding: name.clone() });
        line.unbind(CHURN, self.name, self.name).await?;
        world.recorder.record(Event::Unbound { binding: name });
        self.set_bound(Bound::No);
        Ok(())
    }

    async fn publish(&mut self, world: &World, line: &mut Line, queue: QueueRef) -> Result<(), Why> {
        // The state may have changed since the round began.
        let bound = self.life.is_some_and(|life| life.bound == Bound::Yes);
        let queues: Arc<[QueueRef]> = if bound { Arc::from([queue]) } else { Arc::from([]) };
        let target = Target { exchange: CHURN, key: self.name, queues };
        let mut batch = world.recorder.new_batch();
        let (mut ids, mut messages) = (Vec::new(), Vec::new());
        for _ in 0..self.rng.usize(1..8) {
            if !line.is_atomic() {
                batch = world.recorder.new_batch();
            }
            let (id, message) =
                new_message(world, &mut self.rng, self.publisher, &target, Keep::Persistent, batch);
            ids.push(id);
            messages.push(message);
        }
        let unrouted = line.publish(messages).await?;
        if unrouted != if bound { 0 } else { ids.len() } {
            let text = format!(
                "{unrouted} of {} publishes to {} were not routed, bound: {bound}",
                ids.len(),
                self.name
            );
            return Err(Why::Wrong(text));
        }
        world.recorder.record_all(ids.into_iter().map(|id| Event::Confirmed { id }));
        Ok(())
    }

    async fn get(
        &mut self,
        world: &World,
        line: &mut Line,
        queue: QueueRef,
        consumer: &mut Option<(QueueRef, ConsumerRef)>,
    ) -> Result<(), Why> {
        let me = match *consumer {
            Some((of, me)) if of == queue => me,
            _ => {
                let me = world.recorder.new_consumer();
                world.recorder.record(Event::ConsumerStarted { consumer: me, queue, share: Share::Sole });
                *consumer = Some((queue, me));
                me
            }
        };
        let got = line.get(self.name, self.rng.u32(1..10)).await?;
        let mut ids = Vec::new();
        for got in &got {
            ids.extend(world.recorder.delivered(me, queue, &got.body, got.redelivered));
        }
        // Half of them stay out, until a purge or a delete, or for the restart to bring back.
        if ids.len() != got.len() || self.rng.bool() {
            return Ok(());
        }
        world.recorder.record_all(ids.iter().map(|id| Event::AckSent { queue, id: *id }));
        if line.ack(&got).await? == Acked::Durable {
            world.recorder.record_all(ids.iter().map(|id| Event::Acked { queue, id: *id }));
        }
        Ok(())
    }

    async fn purge(&mut self, world: &World, line: &mut Line, queue: QueueRef) -> Result<(), Why> {
        world.recorder.record(Event::PurgeSent { queue });
        line.purge(self.name).await?;
        world.recorder.record(Event::Purged { queue });
        Ok(())
    }

    async fn delete(&mut self, world: &World, line: &mut Line, life: Life) -> Result<(), Why> {
        world.recorder.record(Event::DeleteSent { queue: life.queue });
        self.life = Some(Life { deleting: true, ..life });
        line.delete_queue(self.name).await?;
        world.recorder.record(Event::Deleted { queue: life.queue });
        self.life = None;
        if self.rng.bool() && line.exists(self.name).await? {
            return Err(Why::Wrong(format!("{} exists right after its delete", self.name)));
        }
        Ok(())
    }

    fn set_bound(&mut self, bound: Bound) {
        if let Some(life) = &mut self.life {
            life.bound = bound;
        }
    }
}

//! A client whose queue comes and goes under one name: declares, binds, publishes, gets, purges, unbinds, deletes.
//! What it was doing when the server was killed it finishes after the restart, as a careful client would.

use std::sync::Arc;

use fastrand::Rng;
use leveret_proto::v1::{
    AckRequest, DeclareQueueRequest, DeleteQueueRequest, GetRequest, PublishOutcome, PublishRequest,
    PurgeQueueRequest, UnbindRequest,
};
use tokio::sync::Mutex;
use tonic::{Code, Status};

use super::publishers::{Target, new_message};
use super::world::{CHURN, Outcome, World, binding};
use crate::client::{self, Client};
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

enum Why {
    Call(Status),
    Wrong(String),
}

impl From<Status> for Why {
    fn from(status: Status) -> Self {
        Self::Call(status)
    }
}

/// Works until the server is gone.
pub(super) async fn work(world: Arc<World>, port: u16, churn: Arc<Mutex<Churn>>) -> Outcome {
    let mut churn = churn.lock().await;
    let mut client = Client::connect(port).await;
    let mut consumer = None;
    loop {
        if let Err(why) = churn.round(&world, &mut client, &mut consumer).await {
            return match why {
                Why::Call(status) => world.failed("a call on a queue that comes and goes", &status),
                Why::Wrong(text) => Err(text),
            };
        }
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
        client: &mut Client,
    ) -> Result<Option<(&'static str, QueueRef)>, String> {
        let outcome = match self.life {
            Some(life) if life.deleting => self.delete(world, client, life).await,
            Some(life) if !life.declared => self.declare(world, client).await.map(|_| ()),
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
        client: &mut Client,
        consumer: &mut Option<(QueueRef, ConsumerRef)>,
    ) -> Result<(), Why> {
        let life = self.declare(world, client).await?;
        if life.deleting {
            return self.delete(world, client, life).await;
        }
        if life.bound == Bound::Unknown || (life.bound == Bound::No && self.rng.bool()) {
            self.bind(world, client).await?;
        }
        match self.rng.u32(..20) {
            0..9 => self.publish(world, client, life.queue).await,
            9..15 => self.get(world, client, life.queue, consumer).await,
            15 => self.unbind(world, client).await,
            16 => self.purge(world, client, life.queue).await,
            17 => self.delete(world, client, life).await,
            _ => Ok(()),
        }
    }

    async fn declare(&mut self, world: &World, client: &mut Client) -> Result<Life, Why> {
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
        let declared = client.rpc.declare_queue(client::queue(self.name)).await?.into_inner();
        world.recorder.record(Event::Declared { queue: life.queue, ready: declared.messages_ready });
        let life = Life { declared: true, ..life };
        self.life = Some(life);
        Ok(life)
    }

    async fn bind(&mut self, world: &World, client: &mut Client) -> Result<(), Why> {
        self.set_bound(Bound::Unknown);
        world.bind(client, CHURN, self.name, self.name).await?;
        self.set_bound(Bound::Yes);
        Ok(())
    }

    async fn unbind(&mut self, world: &World, client: &mut Client) -> Result<(), Why> {
        self.set_bound(Bound::Unknown);
        let (name, request) = binding(CHURN, self.name, self.name);
        world.recorder.record(Event::UnbindSent { binding: name.clone() });
        let request = UnbindRequest { vhost: request.vhost, binding: request.binding };
        client.rpc.unbind(request).await?;
        world.recorder.record(Event::Unbound { binding: name });
        self.set_bound(Bound::No);
        Ok(())
    }

    async fn publish(&mut self, world: &World, client: &mut Client, queue: QueueRef) -> Result<(), Why> {
        // The state may have changed since the round began.
        let bound = self.life.is_some_and(|life| life.bound == Bound::Yes);
        let queues: Arc<[QueueRef]> = if bound { Arc::from([queue]) } else { Arc::from([]) };
        let target = Target { exchange: CHURN, key: self.name, queues };
        let batch = world.recorder.new_batch();
        let (mut ids, mut messages) = (Vec::new(), Vec::new());
        for _ in 0..self.rng.usize(1..8) {
            let (id, message) =
                new_message(world, &mut self.rng, self.publisher, &target, Keep::Persistent, batch);
            ids.push(id);
            messages.push(message);
        }
        let results =
            client.rpc.publish(PublishRequest { vhost: String::new(), messages }).await?.into_inner().results;
        let expected = if bound { PublishOutcome::Routed } else { PublishOutcome::Unrouted };
        if results.len() != ids.len() || results.iter().any(|result| result.outcome() != expected) {
            return Err(Why::Wrong(format!("publishes to {} were answered by {results:?}", self.name)));
        }
        world.recorder.record_all(ids.into_iter().map(|id| Event::Confirmed { id }));
        Ok(())
    }

    async fn get(
        &mut self,
        world: &World,
        client: &mut Client,
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
        let request =
            GetRequest { queue: self.name.into(), count: self.rng.u32(1..10), ..Default::default() };
        let deliveries = client.rpc.get(request).await?.into_inner().deliveries;
        let mut ids = Vec::new();
        for delivery in &deliveries {
            let body = client::body(delivery);
            ids.extend(world.recorder.delivered(me, queue, &body, delivery.redelivered));
        }
        // Half of them stay out, until a purge or a delete, or for the restart to bring back.
        if ids.len() != deliveries.len() || self.rng.bool() {
            return Ok(());
        }
        world.recorder.record_all(ids.iter().map(|id| Event::AckSent { queue, id: *id }));
        let ack_ids = deliveries.iter().map(|delivery| delivery.ack_id.clone()).collect();
        let results = client.rpc.ack(AckRequest { ack_ids }).await?.into_inner().results;
        if results.len() != ids.len() || results.iter().any(|result| result.error.is_some()) {
            return Err(Why::Wrong(format!("acks on {} were answered by {results:?}", self.name)));
        }
        world.recorder.record_all(ids.iter().map(|id| Event::Acked { queue, id: *id }));
        Ok(())
    }

    async fn purge(&mut self, world: &World, client: &mut Client, queue: QueueRef) -> Result<(), Why> {
        world.recorder.record(Event::PurgeSent { queue });
        let request = PurgeQueueRequest { name: self.name.into(), ..Default::default() };
        client.rpc.purge_queue(request).await?;
        world.recorder.record(Event::Purged { queue });
        Ok(())
    }

    async fn delete(&mut self, world: &World, client: &mut Client, life: Life) -> Result<(), Why> {
        world.recorder.record(Event::DeleteSent { queue: life.queue });
        self.life = Some(Life { deleting: true, ..life });
        let request = DeleteQueueRequest { name: self.name.into(), ..Default::default() };
        client.rpc.delete_queue(request).await?;
        world.recorder.record(Event::Deleted { queue: life.queue });
        self.life = None;
        if self.rng.bool() {
            let passive = DeclareQueueRequest { name: self.name.into(), passive: true, ..Default::default() };
            return match client.rpc.declare_queue(passive).await {
                Err(status) if status.code() == Code::NotFound => Ok(()),
                Err(status) => Err(status.into()),
                Ok(_) => Err(Why::Wrong(format!("{} exists right after its delete", self.name))),
            };
        }
        Ok(())
    }

    fn set_bound(&mut self, bound: Bound) {
        if let Some(life) = &mut self.life {
            life.bound = bound;
        }
    }
}

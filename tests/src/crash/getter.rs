//! The client that gets with leases and settles by unary calls, and purges now and then.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use leveret_proto::v1::{AckRequest, Delivery, GetRequest, NackRequest, PurgeQueueRequest, SettleResult};
use tonic::Status;

use super::world::{LEASED, Outcome, World};
use crate::client::{self, Client};
use crate::history::{ConsumerRef, Event, QueueRef, Share};
use crate::payload::MsgId;

/// Gets and settles until the server is gone.
pub(super) async fn get_and_settle(world: Arc<World>, port: u16, seed: u64) -> Outcome {
    let consumer = world.recorder.new_consumer();
    let queue = world.leased;
    world.recorder.record(Event::ConsumerStarted { consumer, queue, share: Share::Sole });
    let client = Client::connect(port).await;
    let mut getter = Getter { world: &world, consumer, queue, client, rng: Rng::with_seed(seed) };
    loop {
        if let Err(why) = getter.round().await {
            return match why {
                Why::Call(status) => world.failed("Get, Ack, Nack or Purge", &status),
                Why::Wrong(text) => Err(text),
            };
        }
    }
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

struct Getter<'a> {
    world: &'a World,
    consumer: ConsumerRef,
    queue: QueueRef,
    client: Client,
    rng: Rng,
}

impl Getter<'_> {
    async fn round(&mut self) -> Result<(), Why> {
        if self.rng.u32(..80) == 0 {
            return self.purge().await;
        }
        let short_lease = self.rng.u32(..10) == 0;
        let request = GetRequest {
            queue: LEASED.into(),
            count: self.rng.u32(1..20),
            lease_ms: if short_lease { 15 } else { 0 },
            ..Default::default()
        };
        let deliveries = self.client.rpc.get(request).await?.into_inner().deliveries;
        let mut ids = Vec::new();
        for delivery in &deliveries {
            let body = client::body(delivery);
            let redelivered = delivery.redelivered;
            let Some(id) = self.world.recorder.delivered(self.consumer, self.queue, &body, redelivered)
            else {
                return Ok(());
            };
            ids.push(id);
        }
        if ids.is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            return Ok(());
        }
        if short_lease {
            // From here on they may go back at any time, by themselves.
            self.return_sent(&ids);
            tokio::time::sleep(Duration::from_millis(self.rng.u64(..30))).await;
            return if self.rng.bool() { Ok(()) } else { self.ack(&deliveries, &ids).await };
        }
        match self.rng.u32(..5) {
            0 => self.give_back(&deliveries, &ids).await,
            _ => self.ack(&deliveries, &ids).await,
        }
    }

    async fn ack(&mut self, deliveries: &[Delivery], ids: &[MsgId]) -> Result<(), Why> {
        let recorder = &self.world.recorder;
        recorder.record_all(ids.iter().map(|id| Event::AckSent { queue: self.queue, id: *id }));
        let response = self.client.rpc.ack(AckRequest { ack_ids: ack_ids(deliveries) }).await?.into_inner();
        expect_results(&response.results, ids.len())?;
        for (id, result) in ids.iter().zip(&response.results) {
            let (queue, id) = (self.queue, *id);
            recorder.record(match &result.error {
                None => Event::Acked { queue, id },
                Some(error) if error.reason == "ACK_ID_STALE" => Event::AckRefused { queue, id },
                Some(error) => return Err(Why::Wrong(format!("an ack was answered by {error:?}"))),
            });
        }
        Ok(())
    }

    async fn give_back(&mut self, deliveries: &[Delivery], ids: &[MsgId]) -> Result<(), Why> {
        self.return_sent(ids);
        let request = NackRequest { ack_ids: ack_ids(deliveries), requeue: None };
        let response = self.client.rpc.nack(request).await?.into_inner();
        expect_results(&response.results, ids.len())?;
        if let Some(error) = response.results.iter().find_map(|result| result.error.as_ref()) {
            return Err(Why::Wrong(format!("a nack was answered by {error:?}")));
        }
        let (consumer, queue) = (self.consumer, self.queue);
        let returned = |id: &MsgId| Event::Returned { consumer, queue, id: *id, under_way: 0 };
        self.world.recorder.record_all(ids.iter().map(returned));
        Ok(())
    }

    async fn purge(&mut self) -> Result<(), Why> {
        self.world.recorder.record(Event::PurgeSent { queue: self.queue });
        let request = PurgeQueueRequest { name: LEASED.into(), ..Default::default() };
        self.client.rpc.purge_queue(request).await?;
        self.world.recorder.record(Event::Purged { queue: self.queue });
        Ok(())
    }

    fn return_sent(&self, ids: &[MsgId]) {
        let sent = |id: &MsgId| Event::ReturnSent { consumer: self.consumer, queue: self.queue, id: *id };
        self.world.recorder.record_all(ids.iter().map(sent));
    }
}

fn ack_ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.ack_id.clone()).collect()
}

fn expect_results(results: &[SettleResult], count: usize) -> Result<(), Why> {
    match results.len() == count {
        true => Ok(()),
        false => Err(Why::Wrong(format!("{count} ack ids were answered by {results:?}"))),
    }
}

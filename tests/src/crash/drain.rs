//! Empties every queue and acks everything, so that what was confirmed must have turned up.

use leveret_proto::v1::{AckRequest, GetRequest};
use tonic::Status;

use super::world::World;
use crate::client::{self, Client};
use crate::history::{Event, QueueRef, Share};

/// Drains one queue.
pub(super) async fn queue(
    world: &World,
    client: &mut Client,
    name: &str,
    queue: QueueRef,
) -> Result<(), String> {
    let failed = |status: Status| format!("draining {name}: {status:?}");
    let consumer = world.recorder.new_consumer();
    world.recorder.record(Event::ConsumerStarted { consumer, queue, share: Share::Sole });
    loop {
        let request = GetRequest { queue: name.into(), count: 500, ..Default::default() };
        let deliveries = client.rpc.get(request).await.map_err(failed)?.into_inner().deliveries;
        if deliveries.is_empty() {
            break;
        }
        let mut ids = Vec::new();
        for delivery in &deliveries {
            ids.extend(world.recorder.delivered(
                consumer,
                queue,
                &client::body(delivery),
                delivery.redelivered,
            ));
        }
        world.recorder.record_all(ids.iter().map(|id| Event::AckSent { queue, id: *id }));
        let ack_ids = deliveries.iter().map(|delivery| delivery.ack_id.clone()).collect();
        let results = client.rpc.ack(AckRequest { ack_ids }).await.map_err(failed)?.into_inner().results;
        if let Some(error) = results.iter().find_map(|result| result.error.as_ref()) {
            return Err(format!("draining {name}: an ack was answered by {error:?}"));
        }
        world.recorder.record_all(ids.iter().map(|id| Event::Acked { queue, id: *id }));
    }
    let info = client.queue_info(name).await;
    if info.messages != 0 {
        return Err(format!("{name} is drained and lists {info:?}"));
    }
    world.recorder.record(Event::Drained { queue });
    Ok(())
}

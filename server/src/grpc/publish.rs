//! Publish: a batch, answered when it is durable.

use std::time::Duration;

use leveret_broker::{Outcome, Refusal, Reply};
use leveret_proto::v1::{PublishOutcome, PublishRequest, PublishResponse, PublishResult};
use tonic::Status;

use super::budget::Held;
use super::convert::PublishReader;
use super::errors::{self, invalid};
use super::names;
use crate::hub::{Caller, Hub};
use crate::publish_in::publish_cost_bytes;

/// Messages in one batch.
const BATCH_MESSAGES_MAX: usize = 100_000;
/// How long a publish waits for room on the disk before it is refused.
const DISK_PATIENCE: Duration = Duration::from_secs(1);

/// `held` counts the request as being decoded until there is room for it on the way to the disk.
pub(super) async fn publish(
    hub: &Hub,
    caller: Caller,
    request: PublishRequest,
    held: Option<Held>,
    message_bytes_max: u64,
) -> Result<PublishResponse, Status> {
    let vhost = names::vhost(&request.vhost).map_err(errors::status)?;
    let count = request.messages.len();
    if count > BATCH_MESSAGES_MAX {
        let text = format!("a batch of {count} messages, at most {BATCH_MESSAGES_MAX} are allowed");
        return Err(errors::status(invalid("messages", text)));
    }
    if count == 0 {
        return Ok(PublishResponse::default());
    }
    let mut reader = PublishReader::new(message_bytes_max);
    let messages = request.messages.into_iter();
    let mut batch: Vec<_> = messages
        .map(|message| reader.read(message, count == 1))
        .collect::<Result<_, _>>()
        .map_err(errors::status)?;
    let bytes = batch.iter().map(publish_cost_bytes).sum();
    let permit = tokio::select! {
        biased;
        permit = hub.permit(bytes) => permit.map_err(errors::status)?,
        () = hub.disk_low_for(DISK_PATIENCE) => return Err(errors::disk_low()),
    };
    drop(held);
    let bodies = hub.large_bodies(batch.iter());
    let (permit, written) = tokio::select! {
        biased;
        written = bodies.write(permit) => written.map_err(errors::no_bodies)?,
        () = hub.disk_low_for(DISK_PATIENCE) => return Err(errors::disk_low()),
    };
    written.give_to(batch.iter_mut());
    match hub.publish(caller, vhost, batch, permit).await.map_err(errors::status)? {
        Reply::Published(outcomes) => {
            Ok(PublishResponse { results: outcomes.into_iter().map(result).collect() })
        }
        other => Err(errors::unexpected(&other)),
    }
}

fn result((outcome, refusal): (Outcome, Option<Refusal>)) -> PublishResult {
    let (outcome, queues, error) = match outcome {
        Outcome::Routed { queues } => (PublishOutcome::Routed, queues, None),
        Outcome::Unrouted => (PublishOutcome::Unrouted, 0, None),
        Outcome::Rejected(kind) => {
            let error = refusal.map_or_else(|| errors::publish_entry(kind), errors::entry);
            (PublishOutcome::Rejected, 0, Some(error))
        }
    };
    PublishResult { outcome: outcome.into(), queues, error }
}

//! Get, and the unary settlements: by ack id, from any connection.

use std::sync::Arc;

use leveret_broker::{Get, Hold, Op, Refusal, Reply, Settle};
use leveret_proto::v1::{GetRequest, GetResponse, SettleResult};
use tokio::sync::oneshot;
use tonic::Status;

use super::ack_id;
use super::convert::BodyAs;
use super::deliver::got;
use super::errors::{self, invalid};
use super::names;
use crate::hub::{Caller, Hub};

const COUNT_MAX: u32 = 10_000;
const LEASE_MS_DEFAULT: u64 = 30_000;
const LEASE_MS_MAX: u64 = 3_600_000;
/// Clients take 4 MiB unless told otherwise; the rest is for what the interface puts around the messages.
const BYTES_MAX: u64 = 3 * 1024 * 1024;

pub(super) async fn get(hub: &Hub, caller: Caller, request: GetRequest) -> Result<GetResponse, Status> {
    let vhost = names::vhost(&request.vhost).map_err(errors::status)?;
    let get = get_from(&request).map_err(errors::status)?;
    // A task of its own, so that what is taken for a call that is gone by then goes back at once, not when its lease
    // ends.
    let (sender, answer) = oneshot::channel();
    tokio::spawn({
        let hub = hub.clone();
        async move {
            let answer = hub.request(caller, Arc::clone(&vhost), Op::Get(get)).await;
            if let Err(Ok(Reply::Got(got))) = sender.send(answer)
                && !request.auto_ack
                && !got.messages.is_empty()
            {
                let ids = got.messages.iter().map(|message| message.ack_id).collect();
                // Nobody is left to be told.
                let _ =
                    hub.request(Caller::default(), vhost, Op::SettleIds { ids, how: Settle::Requeue }).await;
            }
        }
    });
    match answer.await.unwrap_or_else(|_| Err(errors::shutting_down())).map_err(errors::status)? {
        Reply::Got(taken) => {
            let body = BodyAs::from_flag(request.text);
            let deliveries =
                taken.messages.iter().map(|message| got(message, request.auto_ack, body)).collect();
            Ok(GetResponse { deliveries, messages_ready: taken.messages_ready })
        }
        other => Err(errors::unexpected(&other)),
    }
}

fn get_from(request: &GetRequest) -> Result<Get, Refusal> {
    let queue = names::some_name("queue", &request.queue)?;
    if request.count > COUNT_MAX {
        let text = format!("count is {}, at most {COUNT_MAX} are allowed", request.count);
        return Err(invalid("count", text).with("limit", COUNT_MAX.to_string()));
    }
    if request.lease_ms > LEASE_MS_MAX {
        let text = format!("lease_ms is {}, at most {LEASE_MS_MAX} are allowed", request.lease_ms);
        return Err(invalid("lease_ms", text).with("limit", LEASE_MS_MAX.to_string()));
    }
    let lease_ms = if request.lease_ms == 0 { LEASE_MS_DEFAULT } else { request.lease_ms };
    let hold = if request.auto_ack { Hold::AutoAck } else { Hold::Lease { lease_ms } };
    Ok(Get { queue, count: request.count.max(1), bytes_max: BYTES_MAX, hold })
}

/// Settles what the texts name, and says for each what came of it.
pub(super) async fn settle(
    hub: &Hub,
    caller: Caller,
    texts: &[String],
    how: Settle,
) -> Result<Vec<SettleResult>, Status> {
    let named: Vec<_> = texts.iter().map(|text| ack_id::decode(text)).collect();
    let ids: Vec<_> = named.iter().flatten().copied().collect();
    let mut outcomes = if ids.is_empty() {
        Vec::new()
    } else {
        let vhost = names::vhost("").map_err(errors::status)?;
        match hub.request(caller, vhost, Op::SettleIds { ids, how }).await.map_err(errors::status)? {
            Reply::SettledIds(outcomes) => outcomes,
            other => return Err(errors::unexpected(&other)),
        }
    }
    .into_iter();
    let results = named.iter().map(|id| SettleResult {
        error: match id {
            None => Some(errors::malformed_ack_id()),
            Some(_) => outcomes.next().unwrap_or(Ok(())).err().map(errors::entry),
        },
    });
    Ok(results.collect())
}

/// How Nack and Reject settle.
pub(super) fn put_back_or_drop(requeue: bool) -> Settle {
    if requeue { Settle::Requeue } else { Settle::Drop }
}

//! A publisher with confirms, on one channel.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::{Instant, sleep_until};

use super::{CHANNEL, end};
use crate::amqp::codec::Frame;
use crate::amqp::{Connection, method};
use crate::crash::line::Why;
use crate::crash::message::{Target, new_message};
use crate::crash::world::{Outcome, World};
use crate::history::{Event, Keep};
use crate::payload::MsgId;

/// Publishes that may be unconfirmed.
const WINDOW: usize = 64;

/// Publishes until the server is gone.
pub(in crate::crash) async fn publish(
    world: Arc<World>,
    port: u16,
    publisher: u32,
    target: Target,
    seed: u64,
) -> Outcome {
    let mut rng = Rng::with_seed(seed);
    match run(&world, port, publisher, &target, &mut rng).await {
        Ok(never) => match never {},
        Err(why) => end(&world, "an AMQP publisher", why),
    }
}

async fn run(
    world: &World,
    port: u16,
    publisher: u32,
    target: &Target,
    rng: &mut Rng,
) -> Result<std::convert::Infallible, Why> {
    let mut connection = Connection::open(port).await?;
    connection.channel(CHANNEL).await?;
    connection.confirm_select(CHANNEL).await?;
    let mut unconfirmed: VecDeque<MsgId> = VecDeque::new();
    let mut confirmed = 0;
    let mut next = Instant::now();
    loop {
        tokio::select! {
            frame = connection.next() => confirm(world, &frame?, &mut confirmed, &mut unconfirmed)?,
            () = sleep_until(next), if unconfirmed.len() < WINDOW => {
                let mut bytes = Vec::new();
                // Several in one write, so that they reach the core in one turn.
                for _ in 0..rng.usize(1..=6).min(WINDOW - unconfirmed.len()) {
                    let keep = if rng.u32(..20) == 0 { Keep::Transient } else { Keep::Persistent };
                    let batch = world.recorder.new_batch();
                    let (id, message) = new_message(world, rng, publisher, target, keep, batch);
                    unconfirmed.push_back(id);
                    bytes.extend(message.amqp_bytes(CHANNEL, true));
                }
                connection.send(&bytes).await?;
                // A pace that lets the consumers follow; the kill is to hit a live system, not a full one.
                next = Instant::now() + Duration::from_micros(rng.u64(..1000));
            }
        }
    }
}

fn confirm(
    world: &World,
    frame: &Frame,
    confirmed: &mut u64,
    unconfirmed: &mut VecDeque<MsgId>,
) -> Result<(), Why> {
    if frame.method() != Some(method::BASIC_ACK) {
        return Err(Why::Wrong(format!("a confirm was to come, not {frame:?}")));
    }
    let mut arguments = frame.arguments();
    let (upto, multiple) = (arguments.longlong(), arguments.octet() & 1 == 1);
    let newly = upto.saturating_sub(*confirmed);
    // In order, and cumulative only where it says so.
    if newly == 0 || newly > unconfirmed.len() as u64 || (newly > 1 && !multiple) {
        let text = format!(
            "{upto} (multiple: {multiple}) confirmed after {confirmed}, {} were in flight",
            unconfirmed.len()
        );
        return Err(Why::Wrong(text));
    }
    *confirmed = upto;
    let ids = unconfirmed.drain(..newly as usize);
    world.recorder.record_all(ids.map(|id| Event::Confirmed { id }));
    Ok(())
}

//! Backlogs put in and taken out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;
use crate::amqp::codec::{self, BODY, DELIVER};
use crate::amqp::link::Link;
use crate::amqp::publisher::Publisher;

const WINDOW: u64 = 2_000;
/// Messages that the publisher of a flow may be ahead of its consumer.
const LEAD: u64 = 4_000;
const PREFETCH: u16 = 2_000;

/// Names of one length.
pub(super) fn names(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("backlog-{index:06}")).collect()
}

/// Puts messages into the queues, in turns, all confirmed.
pub(super) fn fill(addr: SocketAddr, queues: &[String], bytes: usize, count: u64) -> Result<(), Error> {
    let mut link = Link::open(addr)?;
    for queue in queues {
        link.declare(queue, "classic")?;
    }
    let mut publisher = Publisher::over(addr, queues, bytes, WINDOW)?;
    while publisher.confirmed < count {
        publisher.fill(count)?;
        publisher.confirms()?;
    }
    Ok(())
}

/// Takes all messages of a queue and acks each; an error unless they come in order and none is left out.
pub(super) fn drain_in_order(addr: SocketAddr, queue: &str, count: u64) -> Result<(), Error> {
    let mut consumer = Link::open(addr)?;
    consumer.consume(queue, PREFETCH)?;
    let mut next = 0;
    while next < count {
        take(&mut consumer, &mut |number| {
            if number != next {
                return Err(format!("message {number} came where {next} was due").into());
            }
            next += 1;
            Ok(())
        })?;
    }
    Ok(())
}

/// Publishes and consumes; with `pinned`, behind a message that is taken and never acked. Messages per second.
pub(super) fn flow(addr: SocketAddr, bytes: usize, count: u64, pinned: bool) -> Result<f64, Error> {
    let queue = "flow".to_owned();
    let mut control = Link::open(addr)?;
    control.declare(&queue, "classic")?;
    control.declare("pin-", "classic")?;
    let mut holder = Link::open(addr)?;
    if pinned {
        let mut publisher = Publisher::over(addr, &["pin-".to_owned()], bytes, 1)?;
        publisher.fill(1)?;
        while publisher.confirmed < 1 {
            publisher.confirms()?;
        }
        holder.consume("pin-", 1)?;
        // It may have come together with the answer.
        loop {
            match holder.next()? {
                Some(frame) if frame.method() == Some(DELIVER) => break,
                Some(_) => {}
                None => holder.receive()?,
            }
        }
    }
    let (consumed, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let publishing = {
        let (consumed, stop) = (Arc::clone(&consumed), Arc::clone(&stop));
        let mut publisher = Publisher::over(addr, std::slice::from_ref(&queue), bytes, WINDOW)?;
        thread::spawn(move || {
            while publisher.confirmed < count && !stop.load(Ordering::Relaxed) {
                let most = (consumed.load(Ordering::Relaxed) + LEAD).min(count);
                publisher.fill(most).map_err(|error| error.to_string())?;
                if publisher.sent > publisher.confirmed {
                    publisher.confirms().map_err(|error| error.to_string())?;
                } else {
                    thread::sleep(Duration::from_micros(100));
                }
            }
            Ok::<(), String>(())
        })
    };
    let mut consumer = Link::open(addr)?;
    consumer.consume(&queue, PREFETCH)?;
    let begun = Instant::now();
    let mut taken = 0;
    let outcome = (|| {
        while taken < count {
            take(&mut consumer, &mut |_| {
                taken += 1;
                Ok(())
            })?;
            consumed.store(taken, Ordering::Relaxed);
        }
        Ok(count as f64 / begun.elapsed().as_secs_f64())
    })();
    stop.store(true, Ordering::Relaxed);
    publishing.join().map_err(|_| "the publisher panicked")??;
    outcome
}

/// Takes what comes, tells each message's number, and acks each in one write.
pub(super) fn take(consumer: &mut Link, each: &mut dyn FnMut(u64) -> Result<(), Error>) -> Result<(), Error> {
    consumer.receive()?;
    let mut acks = Vec::with_capacity(64 << 10);
    while let Some(frame) = consumer.next()? {
        if frame.kind == BODY {
            each(frame.payload.get(..8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes))?;
        } else if frame.method() == Some(DELIVER) {
            // The tag stands behind the consumer's.
            acks.extend_from_slice(&codec::ack(frame.longlong(1 + usize::from(frame.octet(0))), false));
        }
    }
    Ok(consumer.send(&acks)?)
}

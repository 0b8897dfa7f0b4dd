//! Many queues with large messages, one of which is acked minutes late: what that costs the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::load::{names, take};
use crate::Error;
use crate::amqp::link::Link;
use crate::amqp::publisher::Publisher;

const QUEUES: usize = 100;
const RATE: u64 = 500;
const BODY: usize = 120_000;
/// In flight in the queue that is acked late.
const LATE: u16 = 1_000;

/// What was measured, in milliseconds from the publish to the delivery.
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) worst: f64,
    pub(super) count: u64,
}

/// Publishes for so long. The first queue is not acked before the end; what the others' deliveries took from half of
/// the time on is counted, when the late queue has its share out.
pub(super) fn run(addr: SocketAddr, duration: Duration) -> Result<Latency, Error> {
    let queues = names(QUEUES);
    let mut control = Link::open(addr)?;
    for queue in &queues {
        control.declare(queue, "classic")?;
    }
    let mut late = Link::open(addr)?;
    late.consume(&queues[0], LATE)?;
    let mut consumer = Link::open(addr)?;
    for queue in &queues[1..] {
        consumer.consume(queue, 100)?;
    }
    let total = RATE * duration.as_secs();
    let sent_at: Arc<Vec<AtomicU64>> = Arc::new((0..total).map(|_| AtomicU64::new(0)).collect());
    let (begun, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let publishing = {
        let (sent_at, stop) = (Arc::clone(&sent_at), Arc::clone(&stop));
        let mut publisher = Publisher::over(addr, &queues, BODY, 200)?;
        thread::spawn(move || {
            for number in 0..total {
                // The time is that at which it was due, so that a stall counts for all that wait behind it.
                let due = Duration::from_micros(number * 1_000_000 / RATE);
                if let Some(early) = due.checked_sub(begun.elapsed()) {
                    thread::sleep(early);
                }
                sent_at[number as usize].store(due.as_nanos() as u64, Ordering::Relaxed);
                while publisher.sent <= number {
                    publisher.fill(number + 1).map_err(|error| error.to_string())?;
                    if publisher.sent <= number || publisher.sent - publisher.confirmed >= 100 {
                        publisher.confirms().map_err(|error| error.to_string())?;
                    }
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            while publisher.confirmed < publisher.sent {
                publisher.confirms().map_err(|error| error.to_string())?;
            }
            Ok::<(), String>(())
        })
    };
    // It reads and does not ack.
    let late_reader = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) && late.receive().is_ok() {
                while let Ok(Some(_)) = late.next() {}
            }
            late
        })
    };
    let mut latencies = Histogram::<u64>::new(3)?;
    let others = total - total / QUEUES as u64;
    let (mut taken, half) = (0, duration.as_nanos() as u64 / 2);
    let outcome = (|| {
        while taken < others {
            take(&mut consumer, &mut |number| {
                let sent = sent_at[number as usize].load(Ordering::Relaxed);
                if sent >= half {
                    latencies.record((begun.elapsed().as_nanos() as u64).saturating_sub(sent))?;
                }
                taken += 1;
                Ok(())
            })?;
        }
        Ok::<(), Error>(())
    })();
    stop.store(true, Ordering::Relaxed);
    publishing.join().map_err(|_| "the publisher panicked")??;
    outcome?;
    // One more message wakes it.
    let mut last = Publisher::over(addr, &queues[..1], BODY, 1)?;
    last.fill(1)?;
    drop(late_reader.join());
    let ms = |ns: u64| ns as f64 / 1e6;
    Ok(Latency {
        p50: ms(latencies.value_at_quantile(0.5)),
        p99: ms(latencies.value_at_quantile(0.99)),
        worst: ms(latencies.max()),
        count: latencies.len(),
    })
}

//! The load: publishes in a window of unconfirmed ones, end to end, and the drain of a backlog.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::codec::{self, ACK, DELIVER, NACK};
use super::link::Link;
use super::{Outcome, QUEUE};
use crate::Error;

/// Time before the count begins.
const WARM_UP: Duration = Duration::from_millis(500);
/// Messages of one write at most.
const BATCH: u64 = 256;
/// Unconfirmed publishes where it is not they that are measured.
const WINDOW: u64 = 2000;
/// Messages that a publisher may be ahead of the consumer: never so few that the consumer waits, never a backlog.
const LEAD: u64 = 4000;

/// A publisher with a window of unconfirmed messages: one thread that writes and reads. Each body begins with the
/// message's number, from 0, in 64 bits.
pub(crate) struct Publisher {
    link: Link,
    /// Messages to each queue in turns, at least as many as go into a write.
    batch: Vec<u8>,
    /// How many of them.
    messages: u64,
    message_bytes: usize,
    body_bytes: usize,
    window: u64,
    pub(crate) sent: u64,
    pub(crate) confirmed: u64,
    /// Confirms that came before their turn.
    early: BTreeSet<u64>,
}

impl Publisher {
    fn open(addr: SocketAddr, bytes: usize, window: u64) -> Result<Self, Error> {
        Self::over(addr, &[QUEUE.to_owned()], bytes, window)
    }

    /// Publishes to queues in turns. Their names are of one length.
    pub(crate) fn over(
        addr: SocketAddr,
        queues: &[String],
        bytes: usize,
        window: u64,
    ) -> Result<Self, Error> {
        let mut link = Link::open(addr)?;
        link.confirm_select()?;
        let each: Vec<Vec<u8>> = queues.iter().map(|queue| codec::publish(queue, bytes)).collect();
        let message_bytes = each[0].len();
        assert!(each.iter().all(|message| message.len() == message_bytes), "names of one length");
        let batch = each.concat().repeat(window.min(BATCH).div_ceil(queues.len() as u64) as usize);
        let messages = (batch.len() / message_bytes) as u64;
        let early = BTreeSet::new();
        let (sent, confirmed) = (0, 0);
        Ok(Self { link, batch, messages, message_bytes, body_bytes: bytes, window, sent, confirmed, early })
    }

    /// Sends what the window and `most` allow, unless that is too little to be worth a write.
    pub(crate) fn fill(&mut self, most: u64) -> Result<(), Error> {
        let worth = (self.window / 4).clamp(1, BATCH);
        loop {
            let room = (self.window - (self.sent - self.confirmed)).min(most.saturating_sub(self.sent));
            if room == 0 || (room < worth && self.sent > self.confirmed) {
                return Ok(());
            }
            let first = self.sent % self.messages;
            let count = room.min(BATCH).min(self.messages - first);
            let from = first as usize * self.message_bytes;
            let part = &mut self.batch[from..from + count as usize * self.message_bytes];
            for (number, message) in (self.sent..).zip(part.chunks_exact_mut(self.message_bytes)) {
                let body = self.message_bytes - 1 - self.body_bytes;
                let wide = self.body_bytes.min(8);
                message[body..body + wide].copy_from_slice(&number.to_be_bytes()[8 - wide..]);
            }
            self.link.send(part)?;
            self.sent += count;
        }
    }

    /// Waits for confirms.
    pub(crate) fn confirms(&mut self) -> Result<(), Error> {
        self.link.receive()?;
        while let Some(frame) = self.link.next()? {
            match frame.method() {
                Some(ACK) => {
                    let (tag, multiple) = (frame.longlong(0), frame.octet(8) & 1 == 1);
                    self.confirm(tag, multiple);
                }
                Some(NACK) => return Err("a publish was refused".into()),
                _ => return Err("something came that is no confirm".into()),
            }
        }
        Ok(())
    }

    fn confirm(&mut self, tag: u64, multiple: bool) {
        if multiple {
            self.confirmed = self.confirmed.max(tag);
        } else if tag == self.confirmed + 1 {
            self.confirmed = tag;
        } else {
            self.early.insert(tag);
        }
        while let Some(first) = self.early.first().copied().filter(|first| *first <= self.confirmed + 1) {
            self.early.pop_first();
            self.confirmed = self.confirmed.max(first);
        }
    }
}

/// Confirmed publishes per second.
pub(super) fn publish(
    addr: SocketAddr,
    bytes: usize,
    window: u64,
    duration: Duration,
) -> Result<Outcome, Error> {
    let mut publisher = Publisher::open(addr, bytes, window)?;
    let mut meter = Meter::start();
    let end = Instant::now() + WARM_UP + duration;
    let mut latencies = Histogram::<u64>::new(3)?;
    loop {
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        publisher.fill(u64::MAX)?;
        publisher.confirms()?;
        if window == 1 {
            latencies.record(u64::try_from(begun.elapsed().as_nanos())?)?;
        }
        meter.count(publisher.confirmed);
    }
    let us = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Outcome { rate: meter.rate()?, latency: (window == 1).then(|| (us(0.5), us(0.99))) })
}

/// Messages per second from a publisher through the broker to a consumer that acks each.
pub(super) fn end_to_end(
    addr: SocketAddr,
    bytes: usize,
    prefetch: u16,
    duration: Duration,
) -> Result<Outcome, Error> {
    let mut consumer = Link::open(addr)?;
    consumer.consume(QUEUE, prefetch)?;
    let (consumed, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut publisher = Publisher::open(addr, bytes, WINDOW)?;
    let publishing = {
        let (consumed, stop) = (Arc::clone(&consumed), Arc::clone(&stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                publisher.fill(consumed.load(Ordering::Relaxed) + LEAD).map_err(|error| error.to_string())?;
                if publisher.sent > publisher.confirmed {
                    publisher.confirms().map_err(|error| error.to_string())?;
                } else {
                    thread::sleep(Duration::from_micros(100));
                }
            }
            Ok::<(), String>(())
        })
    };
    let mut meter = Meter::start();
    let end = Instant::now() + WARM_UP + duration;
    let outcome = (|| {
        while Instant::now() < end {
            let total = consumed.load(Ordering::Relaxed) + take(&mut consumer)?;
            consumed.store(total, Ordering::Relaxed);
            meter.count(total);
        }
        meter.rate()
    })();
    stop.store(true, Ordering::Relaxed);
    // What the consumer has to say comes first: the publisher's trouble may follow from it.
    let rate = outcome?;
    drop(consumer);
    publishing.join().map_err(|_| "the publisher panicked")??;
    Ok(Outcome { rate, latency: None })
}

/// Messages per second out of a backlog.
pub(super) fn drain(addr: SocketAddr, bytes: usize, backlog: u64) -> Result<Outcome, Error> {
    let mut publisher = Publisher::open(addr, bytes, WINDOW)?;
    while publisher.confirmed < backlog {
        publisher.fill(backlog)?;
        publisher.confirms()?;
    }
    drop(publisher);
    let begun = Instant::now();
    let mut consumer = Link::open(addr)?;
    consumer.consume(QUEUE, 2000)?;
    let mut taken = 0;
    while taken < backlog {
        taken += take(&mut consumer)?;
    }
    Ok(Outcome { rate: backlog as f64 / begun.elapsed().as_secs_f64(), latency: None })
}

/// Takes what comes, acks each in one write; how many that were.
fn take(consumer: &mut Link) -> Result<u64, Error> {
    consumer.receive()?;
    let (mut acks, mut taken) = (Vec::with_capacity(64 << 10), 0);
    while let Some(frame) = consumer.next()? {
        if frame.method() == Some(DELIVER) {
            // The tag stands behind the consumer's.
            let tag = frame.longlong(1 + usize::from(frame.octet(0)));
            acks.extend_from_slice(&codec::ack(tag));
            taken += 1;
        }
    }
    consumer.send(&acks)?;
    Ok(taken)
}

/// Counts from the end of the warm-up on.
struct Meter {
    begin: Instant,
    first: Option<(Instant, u64)>,
    last: (Instant, u64),
}

impl Meter {
    fn start() -> Self {
        let now = Instant::now();
        Self { begin: now + WARM_UP, first: None, last: (now, 0) }
    }

    fn count(&mut self, total: u64) {
        let now = Instant::now();
        if self.first.is_none() && now >= self.begin {
            self.first = Some((now, total));
        }
        self.last = (now, total);
    }

    fn rate(&self) -> Result<f64, Error> {
        let (begin, before) = self.first.ok_or("the run ended during its warm-up")?;
        Ok((self.last.1 - before) as f64 / (self.last.0 - begin).as_secs_f64())
    }
}

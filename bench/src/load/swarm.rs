//! The connections of a run, and the loop that serves them all.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{ClockId, clock_gettime};

use super::clock::Meter;
use super::input::Input;
use super::{Event, Publisher, Scan};
use crate::Error;
use crate::amqp::codec;

/// How long nothing may move before a run is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// An open loop sleeps so long at least: what is due meanwhile goes out in one write, as from a client that is busy elsewhere.
const TICK: Duration = Duration::from_micros(100);
/// Any loop looks at the clock so often.
const LOOK: Duration = Duration::from_millis(100);
/// What may be outstanding at the end of an open loop for so long.
const TAIL: Duration = Duration::from_secs(20);
const EVENTS: usize = 1024;

/// What a connection is for.
#[derive(Debug)]
pub(crate) enum Role {
    Publish(Box<Publisher>),
    Consume(Consumer),
}

/// How deliveries are acked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    /// Each by itself; all of a read in one write.
    Each,
    /// All of a read by one ack.
    Multiple,
}

/// Takes deliveries and acks them on channel 1.
#[derive(Debug)]
pub(crate) struct Consumer {
    acks: Acks,
    out: Vec<u8>,
    written: usize,
}

impl Consumer {
    pub(crate) fn new(acks: Acks) -> Self {
        Self { acks, out: Vec::with_capacity(256 << 10), written: 0 }
    }

    fn flush(&mut self, stream: &mut TcpStream) -> Result<(), Error> {
        while self.written < self.out.len() {
            match stream.write(&self.out[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }
}

/// When a run ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// After a warm-up that does not count, and this time.
    Time { warm_up: Duration, counted: Duration },
    /// When so many are confirmed, or taken; all of them count.
    Total(u64),
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    Confirmed,
    Taken,
}

/// How a run goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) until: Until,
    pub(crate) count: Count,
    /// Publishers are at most so many messages ahead of the consumers, and a message published is delivered so many times (a
    /// fraction where some queues are not consumed).
    pub(crate) lead: Option<(u64, f64)>,
    /// What latencies are taken of, if of anything: confirms, or deliveries, whose publishers stamp them.
    pub(crate) timed: Option<Count>,
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Sample {
    /// Messages per second.
    pub(crate) rate: f64,
    /// Nanoseconds, of each message.
    pub(crate) latencies: Histogram<u64>,
    /// Share of a core that this generator took.
    pub(crate) client: f64,
}

/// Connections on one epoll.
pub(crate) struct Swarm<S> {
    conns: Vec<Conn<S>>,
    epoll: OwnedFd,
    publishers: Vec<usize>,
}

struct Conn<S> {
    stream: TcpStream,
    scan: S,
    input: Input,
    role: Role,
}

/// The account of a run.
struct Tally {
    plan: Plan,
    start: Instant,
    meter: Meter,
    latencies: Histogram<u64>,
    confirmed: u64,
    taken: u64,
    cpu: Duration,
}

impl<S: Scan + Default> Swarm<S> {
    /// Takes connections on which all is set up, with what has come on them already.
    pub(crate) fn new(links: Vec<(TcpStream, Vec<u8>, Role)>) -> Result<Self, Error> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let (many, mut conns, mut publishers) = (links.len(), Vec::with_capacity(links.len()), Vec::new());
        for (index, (stream, come, role)) in links.into_iter().enumerate() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&epoll, &stream, EventData::new_u64(index as u64), flags)?;
            if matches!(role, Role::Publish(_)) {
                publishers.push(index);
            }
            conns.push(Conn { stream, scan: S::default(), input: Input::new(&come, many), role });
        }
        Ok(Self { conns, epoll, publishers })
    }

    /// Runs to the end of the plan. Connections are closed with it.
    pub(crate) fn run(mut self, plan: Plan) -> Result<Sample, Error> {
        let warm_up = match plan.until {
            Until::Time { warm_up, .. } => warm_up,
            Until::Total(_) => Duration::ZERO,
        };
        let mut tally = Tally {
            plan,
            start: Instant::now(),
            meter: Meter::after(warm_up),
            latencies: Histogram::new_with_bounds(1, 600_000_000_000, 3)?,
            confirmed: 0,
            taken: 0,
            cpu: cpu_time(),
        };
        tally.meter.count(0, 0);
        let due = self.due(plan.until);
        // What has come already, acks and first messages.
        for index in 0..self.conns.len() {
            self.conns[index].take(&mut tally)?;
        }
        let mut events = Vec::with_capacity(EVENTS);
        let mut moved = tally.now();
        loop {
            let now = tally.now();
            if !tally.goes_on(now) && !due.is_some_and(|due| tally.tail(now, due)) {
                break;
            }
            let upto = due.unwrap_or_else(|| self.upto(&tally));
            if due.is_some() || plan.lead.is_some() {
                self.fill(&tally, upto)?;
            }
            let wait = Timespec { tv_sec: 0, tv_nsec: self.wait(&tally).subsec_nanos().into() };
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait))?;
            for event in &events {
                // The structure is packed: no reference into it.
                let (data, flags) = (event.data, event.flags);
                let conn = &mut self.conns[data.u64() as usize];
                if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                    conn.receive(&mut tally)?;
                }
                conn.send(&tally, upto)?;
            }
            if !events.is_empty() {
                moved = tally.now();
            } else if tally.now() - moved > PATIENCE.as_nanos() as u64 {
                return Err("the broker says nothing".into());
            }
            tally.count();
        }
        let missing = due.map_or_else(Vec::new, |due| self.missing(&tally, due));
        tally.sample(missing)
    }

    fn publisher(&self, index: usize) -> &Publisher {
        match &self.conns[index].role {
            Role::Publish(publisher) => publisher,
            Role::Consume(_) => unreachable!("it is in the list of publishers"),
        }
    }

    /// In an open loop, which has one publisher: how many messages are due in all its time, and sent even if it is over.
    fn due(&self, until: Until) -> Option<u64> {
        let Until::Time { warm_up, counted } = until else { return None };
        let schedule = self.publisher(*self.publishers.first()?).schedule()?;
        Some(schedule.due((warm_up + counted).as_nanos() as u64))
    }

    fn wait(&self, tally: &Tally) -> Duration {
        let next = self.publishers.first().and_then(|index| self.publisher(*index).next_due());
        let until = next.map(|next| Duration::from_nanos(next.saturating_sub(tally.now())));
        until.map_or(LOOK, |until| until.clamp(TICK, LOOK))
    }

    /// How many messages the publishers may have sent by now.
    fn upto(&self, tally: &Tally) -> u64 {
        match (tally.plan.lead, tally.plan.until) {
            (Some((lead, copies)), _) => (tally.taken as f64 / copies) as u64 + lead,
            // A backlog of so many, from one publisher.
            (None, Until::Total(total)) => total,
            (None, Until::Time { .. }) => u64::MAX,
        }
    }

    fn fill(&mut self, tally: &Tally, upto: u64) -> Result<(), Error> {
        for index in &self.publishers {
            self.conns[*index].send(tally, upto)?;
        }
        Ok(())
    }

    /// Latencies, at the least, of what an open loop waits for in vain.
    fn missing(&self, tally: &Tally, due: u64) -> Vec<u64> {
        let schedule = self.publishers.first().and_then(|index| self.publisher(*index).schedule());
        let late = |message| schedule.map(|schedule| tally.now().saturating_sub(schedule.intended(message)));
        (tally.total().min(due)..due).filter_map(late).collect()
    }
}

impl<S: Scan> Conn<S> {
    fn receive(&mut self, tally: &mut Tally) -> Result<(), Error> {
        loop {
            let more = self.input.read(&mut self.stream)?;
            self.take(tally)?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Looks at what has come.
    fn take(&mut self, tally: &mut Tally) -> Result<(), Error> {
        let now = tally.now();
        match &mut self.role {
            Role::Publish(publisher) => {
                let mut outcome = Ok(());
                let timed = tally.plan.timed == Some(Count::Confirmed);
                self.input.scan(&mut self.scan, &mut |event| {
                    if let (Event::Confirm { tag, multiple }, Ok(())) = (event, &outcome) {
                        outcome = publisher.confirm(tag, multiple, now, |latency, count| {
                            tally.confirmed += count;
                            if timed {
                                tally.latencies.saturating_record_n(latency, count);
                            }
                        });
                    }
                })?;
                outcome
            }
            Role::Consume(consumer) => {
                let mut last = None;
                let timed = tally.plan.timed == Some(Count::Taken);
                self.input.scan(&mut self.scan, &mut |event| {
                    if let Event::Delivery { tag, stamp } = event {
                        tally.taken += 1;
                        if timed {
                            tally.latencies.saturating_record(now.saturating_sub(stamp));
                        }
                        last = Some(tag);
                        if consumer.acks == Acks::Each {
                            consumer.out.extend_from_slice(&codec::ack(tag, false));
                        }
                    }
                })?;
                if let (Some(tag), Acks::Multiple) = (last, consumer.acks) {
                    consumer.out.extend_from_slice(&codec::ack(tag, true));
                }
                consumer.flush(&mut self.stream)
            }
        }
    }

    fn send(&mut self, tally: &Tally, upto: u64) -> Result<(), Error> {
        match &mut self.role {
            Role::Publish(publisher) => publisher.fill(&mut self.stream, || tally.now(), upto),
            Role::Consume(consumer) => consumer.flush(&mut self.stream),
        }
    }
}

impl Tally {
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn total(&self) -> u64 {
        match self.plan.count {
            Count::Confirmed => self.confirmed,
            Count::Taken => self.taken,
        }
    }

    fn goes_on(&self, now: u64) -> bool {
        match self.plan.until {
            Until::Time { warm_up, counted } => {
                let end = warm_up + counted;
                // Where confirms come in bursts, one at least has to come in the time that counts.
                let end = if self.meter.counted().is_none() { end + TAIL } else { end };
                now < end.as_nanos() as u64
            }
            Until::Total(total) => self.total() < total,
        }
    }

    /// Whether the end of an open loop is waited for: without it, the slowest messages would not count.
    fn tail(&self, now: u64, due: u64) -> bool {
        let Until::Time { warm_up, counted } = self.plan.until else { return false };
        self.total() < due && now < (warm_up + counted + TAIL).as_nanos() as u64
    }

    fn count(&mut self) {
        if self.meter.count(self.now(), self.total()) {
            self.latencies.reset();
            self.cpu = cpu_time();
        }
    }

    fn sample(mut self, missing: Vec<u64>) -> Result<Sample, Error> {
        missing.into_iter().for_each(|latency| self.latencies.saturating_record(latency));
        let (seconds, count) = self.meter.counted().ok_or("nothing moved in the time that counts")?;
        let client = (cpu_time() - self.cpu).as_secs_f64() / seconds;
        Ok(Sample { rate: count as f64 / seconds, latencies: self.latencies, client })
    }
}

/// What this thread has taken.
pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

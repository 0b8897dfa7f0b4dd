//! One run of a scenario against one peer, with what the machine says meanwhile.

use std::fmt;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::amqp::{self, Span};
use super::scenario::{EndToEnd, Grpc, Load, Publish, Scenario, Work};
use crate::load::nats::{self, NatsScan};
use crate::load::redis::{self, RedisScan};
use crate::load::{Batch, Message, Pace, Publisher, Role, Sample, Scan, Swarm, grpc};
use crate::machine::{Disk, Peak, Processors, cpu_time};
use crate::peer::{Kind, Peer, Stage};
use crate::report::thousands;
use crate::{Error, disk};

/// Time before the count begins.
const WARM_UP: Duration = Duration::from_millis(500);

/// Waited for what the run before left to be done, by whomever.
const REST_MAX: Duration = Duration::from_secs(10);

/// What a run gave.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Outcome {
    /// Messages per second; of a bare disk, writes.
    pub(crate) rate: f64,
    /// None where messages wait for each other by design.
    pub(crate) latency: Option<Latency>,
    /// Flushes of the disk's cache per second, by whomever; None where the kernel counts none.
    pub(crate) flushes: Option<f64>,
    /// Cores that the load took.
    pub(crate) client_cores: f64,
    /// Cores that the peer took.
    pub(crate) peer_cores: f64,
    /// The peer's anonymous memory, in bytes, at its peak.
    pub(crate) memory: u64,
    /// The part of the processors' time that the host took for others.
    pub(crate) stolen: f64,
}

/// In microseconds.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latency {
    fn of(nanoseconds: &Histogram<u64>) -> Option<Self> {
        let us = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1000.0;
        let of = || Self { p50: us(0.5), p90: us(0.9), p99: us(0.99), p999: us(0.999), max: us(1.0) };
        (!nanoseconds.is_empty()).then(of)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", thousands(self.rate))?;
        if let Some(latency) = &self.latency {
            write!(f, ", p50 {:.0} us, p99 {:.0} us", latency.p50, latency.p99)?;
        }
        if let Some(flushes) = self.flushes {
            write!(f, ", {flushes:.0} flushes/s")?;
        }
        write!(f, ", cores {:.2} client {:.2} peer", self.client_cores, self.peer_cores)?;
        write!(f, ", {} MB, {:.1}% stolen", self.memory / 1_000_000, self.stolen * 100.0)
    }
}

/// What is looked at beside the load.
pub(super) struct Meters {
    pub(super) disk: Disk,
    pub(super) seconds: f64,
}

/// What a scenario needs once, before its runs.
pub(super) fn declare(peer: &Peer, work: Work) -> Result<(), Error> {
    match (peer.kind, work) {
        (Kind::Disk | Kind::Bare | Kind::BareRequests | Kind::Nats | Kind::Redis, _) => Ok(()),
        (_, Work::Publish(work)) => amqp::declare_publish(peer, work),
        (_, Work::EndToEnd(work)) => amqp::declare_end_to_end(peer, work),
        (_, Work::Drain(_)) => amqp::declare_one(peer),
        (_, Work::Grpc(_)) => amqp::declare_one(peer),
    }
}

/// Where many connections are, it takes longer until each has had its turn.
fn warm_up(scenario: &Scenario) -> Duration {
    match scenario.work {
        Work::Publish(Publish { connections, .. }) => WARM_UP + Duration::from_millis(2 * connections as u64),
        _ => WARM_UP,
    }
}

impl Meters {
    /// One run.
    pub(super) fn run(&self, stage: &mut Stage, kind: Kind, scenario: &Scenario) -> Result<Outcome, Error> {
        if let Work::Drain(work) = scenario.work {
            amqp::fill(stage.peer(kind)?, work, scenario.body())?;
            if work.cold && !stage.restart_cold(kind)? {
                eprintln!("{}: the page cache could not be dropped", scenario.name);
            }
        }
        let peer = stage.peer(kind)?.clone();
        let span = Span { warm_up: warm_up(scenario), counted: Duration::from_secs_f64(self.seconds) };
        let mut work = scenario.work;
        let mut stolen = 0.0;
        if let Work::EndToEnd(through @ EndToEnd { load: Load::Half, .. }) = work {
            self.rest(scenario);
            let then = Processors::now()?;
            work =
                Work::EndToEnd(EndToEnd { load: Load::Rate(amqp::half(&peer, through, span)?), ..through });
            stolen = Processors::now()?.stolen_since(then);
        }
        self.rest(scenario);
        let peak = Peak::watch(peer.pid);
        let then = Processors::now()?;
        let (begun, flushes, cpu) = (Instant::now(), self.disk.flushes(), cpu_time(peer.pid)?);
        let sample = self.sample(stage, &peer, work, span);
        let seconds = begun.elapsed().as_secs_f64();
        let stolen = Processors::now()?.stolen_since(then).max(stolen);
        let cpu = cpu_time(peer.pid)?.saturating_sub(cpu).as_secs_f64();
        let memory = peak.end();
        let sample = sample?;
        tidy(&peer, scenario.work)?;
        let flushes =
            self.disk.flushes().zip(flushes).map(|(after, before)| (after - before) as f64 / seconds);
        Ok(Outcome {
            rate: sample.rate,
            latency: Latency::of(&sample.latencies),
            flushes,
            client_cores: sample.client,
            peer_cores: cpu / seconds,
            memory,
            stolen,
        })
    }

    fn rest(&self, scenario: &Scenario) {
        if !self.disk.wait_for_rest(REST_MAX) {
            eprintln!("{}: the machine did not come to rest", scenario.name);
        }
    }

    fn sample(&self, stage: &Stage, peer: &Peer, work: Work, span: Span) -> Result<Sample, Error> {
        let counted = span.counted;
        match (peer.kind, work) {
            (Kind::Disk, Work::Publish(Publish { window: 1, .. })) => {
                let latencies = disk::fdatasync(&stage.directory(Kind::Disk), counted)?;
                let rate = latencies.len() as f64 / self.seconds;
                Ok(Sample { rate, latencies, client: 0.0 })
            }
            (Kind::Disk, _) => {
                let (rate, latencies) = disk::sequential(&stage.directory(Kind::Disk), counted)?;
                Ok(Sample { rate, latencies, client: 0.0 })
            }
            (Kind::Nats, Work::Publish(work)) => {
                pipeline::<NatsScan>(nats::open(peer.addr)?, &nats::message(work.body), work.window, span)
            }
            (Kind::Redis, Work::Publish(work)) => {
                pipeline::<RedisScan>(redis::open(peer.addr)?, &redis::message(work.body), work.window, span)
            }
            (_, Work::Publish(work)) => amqp::publish(peer, work, span),
            (_, Work::EndToEnd(work)) => amqp::end_to_end(peer, work, span),
            (_, Work::Drain(work)) => amqp::drain(peer, work),
            (kind, Work::Grpc(Grpc { window, body, batch })) => {
                let load = grpc::Load { window, body, batch, warm_up: WARM_UP, counted };
                match kind {
                    Kind::Bare => grpc::bare(peer.grpc, load),
                    Kind::BareRequests => grpc::bare_requests(peer.grpc, load),
                    _ => grpc::publish_stream(peer.grpc, &amqp::emptied(peer)?, load),
                }
            }
        }
    }
}

/// Leaves no backlog that a peer could be busy with while it is another one's turn.
fn tidy(peer: &Peer, work: Work) -> Result<(), Error> {
    match (peer.kind, work) {
        (Kind::Disk | Kind::Bare | Kind::BareRequests, _) => Ok(()),
        // To open them empties their streams.
        (Kind::Nats, _) => nats::open(peer.addr).map(drop),
        (Kind::Redis, _) => redis::open(peer.addr).map(drop),
        (_, Work::Publish(work)) => amqp::empty(peer, work.queues),
        (_, Work::EndToEnd(work)) => amqp::empty(peer, amqp::queues_of(peer, work.shape).len()),
        (_, Work::Drain(_) | Work::Grpc(_)) => amqp::empty(peer, 1),
    }
}

/// Messages on one connection whose replies come in order.
fn pipeline<S: Scan + Default>(
    stream: TcpStream,
    message: &Message,
    window: u64,
    span: Span,
) -> Result<Sample, Error> {
    let batch = Batch::new(std::slice::from_ref(message), window);
    let publisher = Publisher::new(batch, Pace::Window(window), false);
    let links = vec![(stream, Vec::new(), Role::Publish(Box::new(publisher)))];
    Swarm::<S>::new(links)?.run(span.confirmed())
}

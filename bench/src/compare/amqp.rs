//! The scenarios over AMQP: what is declared, which connections there are, how the run goes.

use std::time::Duration;

use super::scenario::{Drain, EndToEnd, Load, Publish, Shape};
use crate::Error;
use crate::amqp::codec;
use crate::amqp::link::Link;
use crate::load::{
    AmqpScan, Batch, Consumer, Count, Message, Pace, Plan, Publisher, Role, Sample, Schedule, Swarm, Until,
};
use crate::peer::Peer;

/// Unconfirmed publishes where it is not they that are measured.
const WINDOW: u64 = 2_000;
/// Messages that a publisher may be ahead of the consumer: never so few that the consumer waits, never a backlog.
const LEAD: u64 = 4_000;
/// Time of the run at full load that half of the load is taken from.
const PROBE: Duration = Duration::from_secs(1);

/// How long a run is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) warm_up: Duration,
    pub(super) counted: Duration,
}

impl Span {
    /// A run that counts and times confirms.
    pub(super) fn confirmed(self) -> Plan {
        Plan { until: self.until(), count: Count::Confirmed, lead: None, timed: Some(Count::Confirmed) }
    }

    fn until(self) -> Until {
        Until::Time { warm_up: self.warm_up, counted: self.counted }
    }
}

/// Queues, of one length. RabbitMQ's two types are on one node.
fn names(peer: &Peer, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("bench-{}-{index:05}", peer.kind.queue_type())).collect()
}

fn exchange(peer: &Peer) -> String {
    format!("bench-{}", peer.kind.queue_type())
}

/// Queues, exchanges and bindings of a scenario; once for all its runs.
pub(super) fn declare_publish(peer: &Peer, work: Publish) -> Result<(), Error> {
    let (mut link, queues) = (Link::open(peer.addr)?, names(peer, work.queues));
    queues.iter().try_for_each(|queue| link.declare(queue, peer.kind.queue_type()))?;
    if let Some(bindings) = work.bindings {
        link.exchange(&exchange(peer), "topic")?;
        let patterns = (0..bindings).map(|index| (queues[index % queues.len()].clone(), pattern(index)));
        link.bind_all(&exchange(peer), &patterns.collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Half of the bindings can be told by their first word, half by their second alone.
fn pattern(index: usize) -> String {
    if index.is_multiple_of(2) { format!("s{index:05}.*.#") } else { format!("*.t{index:05}.#") }
}

/// A key that this pattern matches and no other.
fn key(index: usize) -> String {
    if index.is_multiple_of(2) { format!("s{index:05}.x.y") } else { format!("x.t{index:05}.y") }
}

/// One run of publishes.
pub(super) fn publish(peer: &Peer, work: Publish, span: Span) -> Result<Sample, Error> {
    let queues = names(peer, work.queues);
    purge(peer, &queues)?;
    let to = |queue: &String| codec::publish_to("", queue, work.body, work.persistent);
    let mut links = Vec::with_capacity(work.connections);
    for connection in 0..work.connections {
        let mut link = Link::open(peer.addr)?;
        link.confirm_select()?;
        let messages: Vec<Message> = match (work.bindings, work.connections) {
            // A prime, so that neighbours in the bindings are not neighbours in time.
            (Some(bindings), _) => (0..1_000)
                .map(|number| {
                    codec::publish_to(
                        &exchange(peer),
                        &key(number * 7_919 % bindings),
                        work.body,
                        work.persistent,
                    )
                })
                .collect(),
            (None, 1) => queues.iter().map(to).collect(),
            (None, _) => vec![to(&queues[connection % queues.len()])],
        };
        let publisher = Publisher::new(Batch::new(&messages, work.window), Pace::Window(work.window), false);
        let (stream, come) = link.into_parts();
        links.push((stream, come, Role::Publish(Box::new(publisher))));
    }
    Swarm::<AmqpScan>::new(links)?.run(span.confirmed())
}

/// Queues and exchanges of a scenario; once for all its runs.
pub(super) fn declare_end_to_end(peer: &Peer, work: EndToEnd) -> Result<(), Error> {
    let (mut link, queues) = (Link::open(peer.addr)?, queues_of(peer, work.shape));
    queues.iter().try_for_each(|queue| link.declare(queue, peer.kind.queue_type()))?;
    if let Shape::FanOut(_) = work.shape {
        link.exchange(&exchange(peer), "fanout")?;
        let bindings: Vec<_> = queues.into_iter().map(|queue| (queue, String::new())).collect();
        link.bind_all(&exchange(peer), &bindings)?;
    }
    Ok(())
}

pub(super) fn queues_of(peer: &Peer, shape: Shape) -> Vec<String> {
    match shape {
        Shape::One => names(peer, 1),
        Shape::FanOut(queues) => names(peer, queues),
        Shape::Kept => names(peer, 2),
    }
}

/// Half of the rate that a short run at full load comes to.
pub(super) fn half(peer: &Peer, work: EndToEnd, span: Span) -> Result<f64, Error> {
    let probe = Span { warm_up: span.warm_up, counted: PROBE.min(span.counted) };
    Ok(end_to_end(peer, EndToEnd { load: Load::Full, ..work }, probe)?.rate / 2.0)
}

/// One run from end to end.
pub(super) fn end_to_end(peer: &Peer, work: EndToEnd, span: Span) -> Result<Sample, Error> {
    let rate = match work.load {
        Load::Full => None,
        Load::Rate(rate) => Some(rate),
        // Who measures puts a rest between the two; without one it is the same load.
        Load::Half => Some(half(peer, work, span)?),
    };
    let queues = queues_of(peer, work.shape);
    purge(peer, &queues)?;
    let mut consumer = Link::open(peer.addr)?;
    let consumed = if work.shape == Shape::Kept { &queues[..1] } else { &queues[..] };
    consumer.consume(&consumed[0], work.prefetch)?;
    consumed[1..].iter().try_for_each(|queue| consumer.consume_more(queue))?;
    let mut link = Link::open(peer.addr)?;
    link.confirm_select()?;
    let (messages, copies): (Vec<Message>, f64) = match work.shape {
        Shape::FanOut(queues) => {
            (vec![codec::publish_to(&exchange(peer), "", work.body, true)], queues as f64)
        }
        Shape::One | Shape::Kept => {
            let each = queues.iter().map(|queue| codec::publish_to("", queue, work.body, true));
            (each.collect(), 1.0 / queues.len() as f64)
        }
    };
    let pace = rate.map_or(Pace::Window(WINDOW), |rate| Pace::Rate(Schedule::new(rate)));
    let publisher = Publisher::new(Batch::new(&messages, WINDOW), pace, rate.is_some());
    let parts = |(stream, come), role| (stream, come, role);
    let links = vec![
        parts(consumer.into_parts(), Role::Consume(Consumer::new(work.acks))),
        parts(link.into_parts(), Role::Publish(Box::new(publisher))),
    ];
    let plan = Plan {
        until: span.until(),
        count: if work.shape == Shape::Kept { Count::Confirmed } else { Count::Taken },
        lead: rate.is_none().then(|| ((LEAD as f64 / copies.max(1.0)).max(100.0) as u64, copies)),
        timed: rate.map(|_| Count::Taken),
    };
    Swarm::<AmqpScan>::new(links)?.run(plan)
}

/// One queue; once for all runs.
pub(super) fn declare_one(peer: &Peer) -> Result<(), Error> {
    Link::open(peer.addr)?.declare(&names(peer, 1)[0], peer.kind.queue_type())
}

/// Puts a backlog in, all of it confirmed.
pub(super) fn fill(peer: &Peer, work: Drain, body: usize) -> Result<(), Error> {
    purge(peer, &names(peer, 1))?;
    let mut link = Link::open(peer.addr)?;
    link.confirm_select()?;
    let batch = Batch::new(&[codec::publish_to("", &names(peer, 1)[0], body, true)], WINDOW);
    let publisher = Publisher::new(batch, Pace::Window(WINDOW), false);
    let (stream, come) = link.into_parts();
    let plan = Plan { until: Until::Total(work.messages), count: Count::Confirmed, lead: None, timed: None };
    Swarm::<AmqpScan>::new(vec![(stream, come, Role::Publish(Box::new(publisher)))])?.run(plan)?;
    Ok(())
}

/// Takes it out.
pub(super) fn drain(peer: &Peer, work: Drain) -> Result<Sample, Error> {
    let mut link = Link::open(peer.addr)?;
    link.consume(&names(peer, 1)[0], 2_000)?;
    let (stream, come) = link.into_parts();
    let plan = Plan { until: Until::Total(work.messages), count: Count::Taken, lead: None, timed: None };
    Swarm::<AmqpScan>::new(vec![(stream, come, Role::Consume(Consumer::new(crate::load::Acks::Each)))])?
        .run(plan)
}

/// The one queue, with nothing in it.
pub(super) fn emptied(peer: &Peer) -> Result<String, Error> {
    let mut queues = names(peer, 1);
    purge(peer, &queues)?;
    Ok(queues.remove(0))
}

/// Empties the queues of a scenario.
pub(super) fn empty(peer: &Peer, queues: usize) -> Result<(), Error> {
    purge(peer, &names(peer, queues))
}

fn purge(peer: &Peer, queues: &[String]) -> Result<(), Error> {
    let mut link = Link::open(peer.addr)?;
    queues.iter().try_for_each(|queue| link.purge(queue))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_matched_by_its_own_pattern_alone() {
        let matches = |pattern: &str, key: &str| {
            let words = pattern.trim_end_matches(".#").split('.').zip(key.split('.'));
            words.into_iter().all(|(wanted, word)| wanted == "*" || wanted == word)
        };
        for index in [0, 1, 2, 77, 9_998, 9_999] {
            let by: Vec<usize> = (0..10_000).filter(|other| matches(&pattern(*other), &key(index))).collect();
            assert_eq!(by, [index]);
        }
    }
}

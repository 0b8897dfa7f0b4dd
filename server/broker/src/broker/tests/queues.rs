//! Random histories of queues with arguments, against naive queues that are lists: what expires, overflows, is
//! dead-lettered, worn out and overtaken. Every prefix of what is appended is looked at: a message that moves is at
//! one place and never at two.

mod naive;
mod run;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::arguments::Overflow;
use crate::input::Settle;
use naive::Conf;
use run::{Reached, Run};

/// One thing that happens. Numbers choose among what there is at that moment.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Publish {
        queue: usize,
        persistent: bool,
        size: usize,
        priority: u8,
        expiration_ms: Option<u64>,
    },
    Get {
        queue: usize,
        count: u32,
        lease: bool,
    },
    Settle {
        which: usize,
        how: Settle,
    },
    Tick {
        ms: u64,
    },
    Purge {
        queue: usize,
    },
    Restart,
    /// After so many of the last step's appends.
    Crash {
        part: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..1_000usize;
    let how = prop_oneof![1 => Just(Settle::Ack), 4 => Just(Settle::Requeue), 3 => Just(Settle::Drop)];
    let expiration = prop::sample::select(vec![None, None, None, Some(0), Some(15), Some(40)]);
    prop_oneof![
        24 => (0..3usize, prop::bool::weighted(0.7), 1..12usize, 0..5u8, expiration).prop_map(
            |(queue, persistent, size, priority, expiration_ms)| Step::Publish {
                queue, persistent, size, priority, expiration_ms,
            }
        ),
        10 => (0..3usize, 1..4u32, prop::bool::weighted(0.8))
            .prop_map(|(queue, count, lease)| Step::Get { queue, count, lease }),
        16 => (n.clone(), how).prop_map(|(which, how)| Step::Settle { which, how }),
        6 => (0..25u64).prop_map(|ms| Step::Tick { ms }),
        1 => (0..3usize).prop_map(|queue| Step::Purge { queue }),
        1 => Just(Step::Restart),
        1 => n.prop_map(|part| Step::Crash { part }),
    ]
}

/// What the queue of that number may be. Each has dead letters of one other queue at most, and only the first one, which
/// has none, refuses messages or has priorities: so the order in which things are read back changes nothing.
fn conf(number: usize) -> impl Strategy<Value = Conf> {
    let to = [
        vec![None, Some("b"), Some("b")],
        vec![None, Some("c"), Some("b")],
        vec![None, Some("c"), Some("no")],
    ];
    let overflow = match number {
        0 => vec![Overflow::DropHead, Overflow::RejectPublish, Overflow::RejectPublishDlx],
        _ => vec![Overflow::DropHead],
    };
    (
        prop::sample::select(vec![None, None, Some(0), Some(20), Some(50)]),
        prop::sample::select(vec![None, None, Some(0), Some(1), Some(3)]),
        prop::sample::select(vec![None, None, Some(10), Some(25)]),
        prop::sample::select(overflow),
        prop::sample::select(if number == 0 { vec![0, 0, 1, 3] } else { vec![0] }),
        prop::sample::select(to[number].clone()),
        prop::sample::select(vec![None, None, Some(0), Some(1), Some(2)]),
    )
        .prop_map(|(ttl_ms, length_max, bytes_max, overflow, priority_max, to, limit)| {
            // Only classic queues have priorities, and only quorum ones a delivery limit.
            let priority_max = if limit.is_some() { 0 } else { priority_max };
            let conf = Conf { ttl_ms, length_max, bytes_max, overflow, priority_max, to, limit };
            let behind = conf.is_limited() && priority_max > 0;
            Conf { ttl_ms: ttl_ms.filter(|_| !behind), ..conf }
        })
}

fn history() -> impl Strategy<Value = (u64, [Conf; 3], Vec<Step>)> {
    let budget = prop::sample::select(vec![0u64, 300, 1_000, 1 << 20]);
    (budget, [conf(0), conf(1), conf(2)], prop::collection::vec(step(), 1..200))
}

fn run((budget, confs, steps): (u64, [Conf; 3], Vec<Step>)) -> Run {
    let mut run = Run::new(budget, confs);
    for step in steps {
        run.step(step);
    }
    run.drain();
    run
}

#[test]
fn queues_with_arguments_agree_with_lists() {
    let config = ProptestConfig {
        cases: 1_500,
        max_shrink_iters: 10_000,
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let reached = std::cell::RefCell::new(Reached::default());
    let result = TestRunner::new(config).run(&history(), |history| {
        reached.borrow_mut().add(&run(history).reached);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let reached = reached.into_inner();
    let floors = [
        (reached.deliveries, 10_000),
        (reached.fetches, 10_000),
        (reached.spilled, 2_000),
        (reached.refused, 500),
        (reached.expired, 5_000),
        (reached.dropped, 5_000),
        (reached.worn_out, 300),
        (reached.moved, 3_000),
        (reached.circles, 200),
        (reached.opens, 1_500),
    ];
    assert!(floors.iter().all(|(count, floor)| count >= floor), "an empty run: {reached:?}");
}

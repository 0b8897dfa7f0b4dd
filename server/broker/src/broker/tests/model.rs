//! Random histories against a naive model, with a slow store, a tiny budget, closes and crashes.

mod oracle;
mod run;
mod survival;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::input::Settle;
use run::{Reached, Run};

/// One thing that happens. Numbers choose among what there is at that moment.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Publish {
        chan: usize,
        target: Target,
        persistent: bool,
    },
    Batch {
        count: usize,
        queue: usize,
    },
    Consume {
        chan: usize,
        queue: usize,
        prefetch: u32,
        auto_ack: bool,
        priority: i32,
    },
    Cancel {
        consumer: usize,
    },
    Get {
        queue: usize,
        count: u32,
        hold: Hold,
    },
    Settle {
        chan: usize,
        delivery: usize,
        multiple: bool,
        how: Settle,
    },
    SettleId {
        delivery: usize,
        how: Settle,
    },
    Purge {
        queue: usize,
    },
    DeleteAndDeclare {
        queue: usize,
    },
    CloseChannel {
        chan: usize,
    },
    Credit {
        chan: usize,
    },
    /// Of the transaction: publishes with whether they are persistent.
    Commit {
        targets: Vec<(Target, bool)>,
    },
    Rollback {
        publishes: usize,
    },
    Fail,
    Tick,
    EndTurn,
    Confirm {
        part: usize,
    },
    Answer {
        limit: usize,
    },
    /// The store tells what it has spilled, and spills what waits for it.
    Spill,
    Restart,
    Crash {
        part: usize,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    Queue(usize),
    All,
    Nowhere,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Hold {
    AutoAck,
    Lease,
    Channel(usize),
}

fn how() -> impl Strategy<Value = Settle> {
    prop_oneof![3 => Just(Settle::Ack), 3 => Just(Settle::Requeue), 1 => Just(Settle::Drop)]
}

fn hold() -> impl Strategy<Value = Hold> {
    prop_oneof![Just(Hold::AutoAck), Just(Hold::Lease), (0..3usize).prop_map(Hold::Channel)]
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![6 => (0..3usize).prop_map(Target::Queue), 2 => Just(Target::All), 1 => Just(Target::Nowhere)]
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..1_000usize;
    prop_oneof![
        24 => (0..2usize, target(), any::<bool>())
            .prop_map(|(chan, target, persistent)| Step::Publish { chan, target, persistent }),
        2 => (1..5usize, 0..3usize).prop_map(|(count, queue)| Step::Batch { count, queue }),
        6 => (0..3usize, 0..3usize, 0..4u32, any::<bool>(), 0..2i32).prop_map(
            |(chan, queue, prefetch, auto_ack, priority)| {
                Step::Consume { chan, queue, prefetch, auto_ack, priority }
            }
        ),
        2 => n.clone().prop_map(|consumer| Step::Cancel { consumer }),
        8 => (0..3usize, 1..4u32, hold()).prop_map(|(queue, count, hold)| Step::Get { queue, count, hold }),
        16 => (0..3usize, n.clone(), any::<bool>(), how())
            .prop_map(|(chan, delivery, multiple, how)| Step::Settle { chan, delivery, multiple, how }),
        4 => (n.clone(), any::<bool>(), how())
            .prop_map(|(delivery, multiple, how)| Step::Settle { chan: 2, delivery, multiple, how }),
        6 => (n.clone(), how()).prop_map(|(delivery, how)| Step::SettleId { delivery, how }),
        1 => (0..3usize).prop_map(|queue| Step::Purge { queue }),
        1 => (0..3usize).prop_map(|queue| Step::DeleteAndDeclare { queue }),
        1 => (0..3usize).prop_map(|chan| Step::CloseChannel { chan }),
        8 => (0..3usize).prop_map(|chan| Step::Credit { chan }),
        8 => prop::collection::vec((target(), any::<bool>()), 0..4)
            .prop_map(|targets| Step::Commit { targets }),
        1 => (0..3usize).prop_map(|publishes| Step::Rollback { publishes }),
        1 => Just(Step::Fail),
        2 => Just(Step::Tick),
        20 => Just(Step::EndTurn),
        8 => n.clone().prop_map(|part| Step::Confirm { part }),
        10 => (0..4usize).prop_map(|limit| Step::Answer { limit }),
        8 => Just(Step::Spill),
        1 => Just(Step::Restart),
        1 => n.prop_map(|part| Step::Crash { part }),
    ]
}

fn run(budget: u64, steps: Vec<Step>) -> Run {
    let mut run = Run::new(budget);
    for step in steps {
        run.step(step);
    }
    run.drain();
    run
}

fn budget() -> impl Strategy<Value = u64> {
    prop::sample::select(&[0u64, 300, 1_000, 3_000, 1 << 20][..])
}

#[test]
fn any_history_agrees_with_the_model() {
    let config = ProptestConfig {
        cases: 2_000,
        max_shrink_iters: 10_000,
        source_file: Some(file!()),
        ..ProptestConfig::default()
    };
    let reached = std::cell::RefCell::new(Reached::default());
    let histories = (budget(), prop::collection::vec(step(), 1..400));
    let result = TestRunner::new(config).run(&histories, |(budget, steps)| {
        reached.borrow_mut().add(&run(budget, steps).reached);
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let reached = reached.into_inner();
    let floors = [
        (reached.deliveries, 25_000),
        (reached.redeliveries, 3_500),
        (reached.fetches, 10_000),
        (reached.spilled, 5_000),
        (reached.spilled_in_vain, 500),
        (reached.late, 300),
        (reached.stale, 500),
        (reached.opens, 3_000),
        (reached.commits, 100),
        (reached.takeovers, 200),
    ];
    assert!(floors.iter().all(|(count, floor)| count >= floor), "an empty run: {reached:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(50))]

    #[test]
    fn the_same_inputs_give_the_same_effects(
        budget in budget(),
        steps in prop::collection::vec(step(), 1..400),
    ) {
        prop_assert_eq!(run(budget, steps.clone()).trace, run(budget, steps).trace);
    }
}

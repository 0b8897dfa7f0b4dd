//! Random histories against a naive model, with a slow store, a tiny budget, closes and crashes.

mod oracle;
mod run;

use proptest::prelude::*;

use crate::input::Settle;
use run::Run;

/// One thing that happens. Numbers choose among what there is at that moment.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Publish { chan: usize, target: Target, persistent: bool },
    Batch { count: usize, queue: usize },
    Consume { chan: usize, queue: usize, prefetch: u32, auto_ack: bool },
    Cancel { consumer: usize },
    Get { queue: usize, count: u32, hold: Hold },
    Settle { chan: usize, delivery: usize, multiple: bool, how: Settle },
    SettleId { delivery: usize, how: Settle },
    Purge { queue: usize },
    DeleteAndDeclare { queue: usize },
    CloseChannel { chan: usize },
    Credit { chan: usize },
    Tick,
    EndTurn,
    Confirm { part: usize },
    Answer { limit: usize },
    Restart,
    Crash { part: usize },
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
    prop_oneof![Just(Hold::AutoAck), Just(Hold::Lease), (0..2usize).prop_map(Hold::Channel)]
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
        4 => (0..2usize, 0..3usize, 0..4u32, any::<bool>())
            .prop_map(|(chan, queue, prefetch, auto_ack)| Step::Consume { chan, queue, prefetch, auto_ack }),
        3 => n.clone().prop_map(|consumer| Step::Cancel { consumer }),
        8 => (0..3usize, 1..4u32, hold()).prop_map(|(queue, count, hold)| Step::Get { queue, count, hold }),
        12 => (0..2usize, n.clone(), any::<bool>(), how())
            .prop_map(|(chan, delivery, multiple, how)| Step::Settle { chan, delivery, multiple, how }),
        6 => (n.clone(), how()).prop_map(|(delivery, how)| Step::SettleId { delivery, how }),
        1 => (0..3usize).prop_map(|queue| Step::Purge { queue }),
        1 => (0..3usize).prop_map(|queue| Step::DeleteAndDeclare { queue }),
        1 => (0..2usize).prop_map(|chan| Step::CloseChannel { chan }),
        3 => (0..2usize).prop_map(|chan| Step::Credit { chan }),
        2 => Just(Step::Tick),
        20 => Just(Step::EndTurn),
        8 => n.clone().prop_map(|part| Step::Confirm { part }),
        10 => (0..4usize).prop_map(|limit| Step::Answer { limit }),
        1 => Just(Step::Restart),
        1 => n.prop_map(|part| Step::Crash { part }),
    ]
}

fn run(budget: u64, steps: Vec<Step>) {
    let mut run = Run::new(budget);
    for step in steps {
        run.step(step);
    }
    run.drain();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn any_history_agrees_with_the_model(
        budget in prop::sample::select(&[0u64, 300, 1_000, 3_000, 1 << 20][..]),
        steps in prop::collection::vec(step(), 1..250),
    ) {
        run(budget, steps);
    }
}

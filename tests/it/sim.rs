//! The simulator at CI size. `cargo run -p leveret-tests --features sim --bin sim` runs as many seeds as wanted.

use std::time::{Duration, Instant};

use leveret_tests::sim::{campaign, controls, run};

/// Seconds of new seeds in a run of the tests.
const SECONDS: u64 = 60;

/// Other seeds with every commit: what one run does not find, the next one may. A seed that fails is printed; it is to
/// be kept below.
#[test]
fn new_seeds_break_no_invariant() {
    let from = number("LEVERET_SIM_FROM").unwrap_or(1);
    let until = Instant::now() + Duration::from_secs(number("LEVERET_SIM_SECONDS").unwrap_or(SECONDS));
    let reached =
        campaign(from, 1_000_000, until, 2).unwrap_or_else(|failure| panic!("from {from}: {failure}"));
    assert!(reached.seeds >= 100, "an empty run: {reached}");
    eprintln!("from {from}: {reached}");
}

/// Seeds that failed once.
#[test]
fn old_failures_stay_mended() {
    for seed in OLD_FAILURES {
        let outcome = run(seed, None);
        assert!(outcome.violation.is_none(), "seed {seed}: {:?}", outcome.violation);
    }
}

const OLD_FAILURES: [u64; 11] = [
    1,
    2,
    9,
    122,
    173,
    20_070,
    153_488_499_482_394,
    7_001_962,
    9_000_242,
    224_305_961_717_644,
    70_025_978_533_541,
];

/// A harness that cannot fail proves nothing: each deliberate bug is caught by a named invariant, and the same seed
/// without it passes.
#[test]
fn every_deliberate_bug_is_caught() {
    let lines = controls(1, 8_000).unwrap_or_else(|missed| panic!("{missed}"));
    eprintln!("{}", lines.join("\n"));
}

/// No clock, no map's order, no thread decides anything.
#[test]
fn the_same_seed_makes_the_same_trace() {
    for seed in 1..=50 {
        let (one, other) = (run(seed, None), run(seed, None));
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
    // One run in three of seed 7 differed while a task of the server chose at random which of its events to take first.
    let first = run(7, None).trace;
    for _ in 0..15 {
        assert_eq!(run(7, None).trace, first, "seed 7");
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

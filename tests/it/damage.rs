//! Random damage at CI size. `cargo run -p leveret-tests --features damage --bin damage` tries as many as wanted.

use std::time::{Duration, Instant};

use leveret_tests::damage::{Together, campaign, controls, run};

/// Damages of a run of the tests: each kind at each kind of place about 18 times.
const DAMAGES: u64 = 1_500;

/// Other ones with every commit. One that fails is printed; it is to be kept below.
#[test]
fn random_damage_is_told_and_the_rest_is_served() {
    let from = number("LEVERET_SIM_FROM").unwrap_or(1);
    let until = Instant::now() + Duration::from_secs(300);
    let reached = campaign(from, DAMAGES, Together::OneVital, until, 2)
        .unwrap_or_else(|failure| panic!("from {from}: {failure}"));
    eprintln!("from {from}: {reached}");
}

/// Damages that were not told, not repaired or not survived once.
#[test]
fn old_failures_stay_mended() {
    for number in OLD_FAILURES {
        for together in [Together::OneVital, Together::Anything] {
            let outcome = run(number, together, None);
            assert!(outcome.violation.is_none(), "damage {number}, {together:?}: {:?}", outcome.violation);
        }
    }
}

/// A layer that cannot fail proves nothing: each deliberate bug is caught by a named invariant, and the same damage
/// without it passes.
#[test]
fn every_deliberate_bug_is_caught() {
    let lines = controls(1, DAMAGES).unwrap_or_else(|missed| panic!("{missed}"));
    eprintln!("{}", lines.join("\n"));
}

const OLD_FAILURES: [u64; 36] = [
    212, 214, 373, 418, 487, 536, 571, 603, 706, 791, 904, 971, 1_046, 1_050, 1_269, 1_414, 2_723, 2_977,
    3_731, 4_216, 4_218, 5_049, 7_227, 7_539, 7_574, 9_141, 11_527, 33_604, 38_638, 508_092, 515_440,
    515_442, 515_446, 628_842, 651_090, 747_858,
];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

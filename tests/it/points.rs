//! Every crash point at CI size. `cargo run -p leveret-tests --features sim --bin points` runs as many variants and states
//! as wanted.

use std::time::{Duration, Instant};

use leveret_tests::sim::Bug;
use leveret_tests::sim::points::{Plan, Report, controls, run};

fn plan(variant: u64) -> Plan {
    Plan::ci(variant, Instant::now() + Duration::from_secs(600))
}

/// The script's first variant, and two that change from commit to commit: a crash before and after each call of the disk,
/// and in the starts after it, loses no confirmed message and brings none back.
#[test]
fn every_crash_point_of_the_script() {
    let from = std::env::var("LEVERET_SIM_FROM").ok().and_then(|from| from.parse().ok()).unwrap_or(2);
    let mut sum = Report::default();
    for variant in [1, from, from + 1] {
        match run(&plan(variant)) {
            Ok(report) => sum.add(&report),
            Err(text) => panic!("{text}"),
        }
    }
    sum.floors().unwrap_or_else(|text| panic!("{text}"));
    eprintln!("variants 1, {from}, {}: {sum}", from + 1);
}

/// A harness that cannot fail proves nothing.
#[test]
fn deliberate_bugs_are_caught_at_some_crash_point() {
    let wanted =
        ["SkipFdatasync", "ConfirmBeforeSync", "CutNotRecorded", "SettleBeforeManifest", "BlobBeforeSync"];
    let bugs = Bug::all().filter(|bug| wanted.contains(&format!("{bug:?}").as_str()));
    let (caught, missed) = controls(bugs, &plan(1), 1);
    assert_eq!(caught.len(), wanted.len(), "{missed:?}");
    eprintln!("{}", caught.join("\n"));
}

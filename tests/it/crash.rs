//! The crash harness at CI size.

use leveret_tests::crash::{Settings, run};

/// Cycles of this run; the crash binary runs more.
fn cycles() -> u64 {
    match std::env::var("LEVERET_CRASH_CYCLES") {
        Ok(text) => text.parse().expect("LEVERET_CRASH_CYCLES is a number"),
        Err(_) => 60,
    }
}

/// Seeds change from run to run; a failing one is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_and_in_recovery() {
    let seed = match std::env::var("LEVERET_CRASH_SEED") {
        Ok(text) => text.parse().expect("LEVERET_CRASH_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    match run(&Settings::new(cycles(), seed), |_| ()).await {
        Ok(report) => eprintln!("seed {seed}\n{report}"),
        Err(failure) => panic!("seed {seed}: {failure}"),
    }
}

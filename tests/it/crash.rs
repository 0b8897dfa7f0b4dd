//! The crash harness at CI size.

use leveret_tests::crash::{Protocol, Settings, run};

/// Cycles of this run; the crash binary runs more.
fn cycles(usually: u64) -> u64 {
    match std::env::var("LEVERET_CRASH_CYCLES") {
        Ok(text) => text.parse().expect("LEVERET_CRASH_CYCLES is a number"),
        Err(_) => usually,
    }
}

/// Seeds change from run to run; a failing one is printed.
async fn kill_9(protocol: Protocol, usually: u64) {
    let seed = match std::env::var("LEVERET_CRASH_SEED") {
        Ok(text) => text.parse().expect("LEVERET_CRASH_SEED is a number"),
        Err(_) => fastrand::u64(..),
    };
    let settings = Settings { protocol, ..Settings::new(cycles(usually), seed) };
    match run(&settings, |_| ()).await {
        Ok(report) => eprintln!("seed {seed}\n{report}"),
        Err(failure) => panic!("seed {seed}: {failure}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_and_in_recovery() {
    kill_9(Protocol::Grpc, 60).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_amqp_load() {
    kill_9(Protocol::Amqp, 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_mixed_load() {
    kill_9(Protocol::Mixed, 20).await;
}

//! Every parser is fed its corpus, and inputs like those of it. `cargo run -p leveret-tests --features sim --bin formats`
//! feeds as many as wanted.

use std::time::{Duration, Instant};

use leveret_tests::formats::{TARGETS, campaign, corpus};

/// Inputs of a run of the tests, over all parsers.
const INPUTS: u64 = 60_000;

#[test]
fn the_corpora_are_survived() {
    for (name, run) in TARGETS {
        let inputs = corpus(name);
        let mut accepted = 0;
        for (path, input) in &inputs {
            let survived = std::panic::catch_unwind(|| run(input));
            accepted += u32::from(survived.unwrap_or_else(|_| panic!("{path}")));
        }
        assert!(accepted > 0, "{name}: {accepted} of {} are accepted", inputs.len());
    }
}

#[test]
fn inputs_like_those_of_the_corpora_are_survived() {
    let from = std::env::var("LEVERET_SIM_FROM").ok().and_then(|from| from.parse().ok()).unwrap_or(1);
    let until = Instant::now() + Duration::from_secs(60);
    let reached = campaign(from, INPUTS, until, 2).unwrap_or_else(|failure| panic!("from {from}: {failure}"));
    eprintln!("from {from}: {reached}");
}

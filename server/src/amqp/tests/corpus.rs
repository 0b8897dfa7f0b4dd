//! The inputs that fuzzing starts from and has found, again, and some that are like them. `fuzz/README.md` says how to
//! look for more.

use std::path::Path;

use crate::amqp::fuzz;

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.display().to_string(), std::fs::read(path).unwrap())
        })
        .collect();
    assert!(inputs.len() >= 10, "{} inputs in {}", inputs.len(), directory.display());
    inputs.sort();
    inputs
}

fn replay(target: &str, run: fn(&[u8])) {
    for (name, input) in corpus(target) {
        let survived = std::panic::catch_unwind(|| run(&input));
        assert!(survived.is_ok(), "{name}");
    }
}

/// Inputs made of those of the corpus: LEVERET_MUTATIONS of them, 2,000 unless set.
fn mutate(target: &str, run: fn(&[u8])) {
    let inputs: Vec<_> = corpus(target).into_iter().map(|(_, input)| input).collect();
    let count = std::env::var("LEVERET_MUTATIONS").map_or(2000, |text| text.parse().expect("a number"));
    let first = fastrand::u64(..);
    for seed in (0..count).map(|n: u64| first.wrapping_add(n)) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut input = Vec::new();
        // The start of one, pieces of others, and some damage.
        for _ in 0..rng.usize(1..4) {
            let other = &inputs[rng.usize(..inputs.len())];
            let from = if input.is_empty() { 0 } else { rng.usize(..other.len()) };
            input.extend_from_slice(&other[from..rng.usize(from..=other.len())]);
        }
        for _ in 0..rng.usize(..6) {
            if input.is_empty() {
                break;
            }
            let at = rng.usize(..input.len());
            match rng.u8(..4) {
                0 => input[at] = rng.u8(..),
                1 => input[at] ^= 1 << rng.u8(..8),
                2 => drop(input.remove(at)),
                _ => input.insert(at, rng.u8(..)),
            }
        }
        let survived = std::panic::catch_unwind(|| run(&input));
        assert!(survived.is_ok(), "seed {seed}: {}", input.escape_ascii());
    }
}

#[test]
fn inputs_like_those_of_the_corpus() {
    mutate("amqp_frames", fuzz::frames);
    mutate("amqp_session", fuzz::session);
}

#[test]
fn frames_of_the_corpus() {
    replay("amqp_frames", fuzz::frames);
}

#[test]
fn sessions_of_the_corpus() {
    replay("amqp_session", fuzz::session);
}

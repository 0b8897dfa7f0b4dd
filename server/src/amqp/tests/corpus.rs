//! The inputs that fuzzing starts from and has found, again. `fuzz/README.md` says how to look for more.

use std::path::Path;

use crate::amqp::fuzz;

fn replay(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display())) {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        let survived = std::panic::catch_unwind(|| run(&input));
        assert!(survived.is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 10, "{count} inputs in {}", directory.display());
}

#[test]
fn frames_of_the_corpus() {
    replay("amqp_frames", fuzz::frames);
}

#[test]
fn sessions_of_the_corpus() {
    replay("amqp_session", fuzz::session);
}

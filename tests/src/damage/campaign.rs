//! Many damages, and the controls: a layer that cannot fail proves nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use leveret_engine::Control;

use super::trial::Base;
use super::{PER_STORE, Reached, Together};

/// Failures after which a campaign ends.
const FAILURES_TOLD: usize = 20;

/// Runs damages until they, or the time, are used up. Err: those that failed and what broke, or a floor that was missed.
pub fn campaign(
    from: u64,
    damages: u64,
    together: Together,
    until: Instant,
    threads: usize,
) -> Result<Reached, String> {
    let stores = from / PER_STORE..(from + damages).div_ceil(PER_STORE);
    let next = AtomicU64::new(stores.start);
    let sum = Mutex::new(Reached::default());
    let failures: Mutex<Vec<(u64, String)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let store = next.fetch_add(1, Ordering::Relaxed);
                    let failed = failures.lock().expect("no panic holds it").len() >= FAILURES_TOLD;
                    if store >= stores.end || failed || Instant::now() > until {
                        return;
                    }
                    let base = Base::new(store);
                    let first = (store * PER_STORE).max(from);
                    for number in first..((store + 1) * PER_STORE).min(from + damages) {
                        let outcome = std::panic::catch_unwind(|| base.trial(number, together, None));
                        let broken = match outcome {
                            Ok(outcome) => {
                                sum.lock().expect("no panic holds it").add(&outcome.reached);
                                outcome.violation.map(|violation| violation.to_string())
                            }
                            Err(_) => Some("a panic, see above".to_owned()),
                        };
                        if let Some(text) = broken {
                            failures.lock().expect("no panic holds it").push((number, text));
                        }
                    }
                }
            });
        }
    });
    let reached = sum.into_inner().expect("threads have ended");
    let mut failures = failures.into_inner().expect("threads have ended");
    failures.sort_unstable();
    if failures.is_empty() {
        return reached.floors().map(|()| reached);
    }
    let lines: Vec<String> =
        failures.into_iter().map(|(number, text)| format!("damage {number}: {text}")).collect();
    Err(lines.join("\n"))
}

/// Switches on the deliberate bugs that damage brings to light, one after the other, until an invariant catches each; the
/// same damage without the bug must pass. Err: those that went unnoticed.
pub fn controls(from: u64, damages: u64) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    let mut missed = Vec::new();
    for bug in Control::OF_DAMAGE {
        match caught(bug, from, damages) {
            Some(line) => lines.push(line),
            None => missed.push(format!("{bug:?} went unnoticed over {damages} damages")),
        }
    }
    if missed.is_empty() { Ok(lines) } else { Err(missed.join("\n")) }
}

fn caught(bug: Control, from: u64, damages: u64) -> Option<String> {
    for store in from / PER_STORE..(from + damages).div_ceil(PER_STORE) {
        let base = Base::new(store);
        for number in store * PER_STORE..(store + 1) * PER_STORE {
            // A panic is no catch: only a named invariant counts.
            let outcome = std::panic::catch_unwind(|| base.trial(number, Together::OneVital, Some(bug)));
            let Some(violation) = outcome.ok().and_then(|outcome| outcome.violation) else { continue };
            if base.trial(number, Together::OneVital, None).violation.is_none() {
                let (invariant, text) = (violation.invariant, violation.text);
                return Some(format!("{bug:?}: caught by {invariant:?} at damage {number}: {text}"));
            }
        }
    }
    None
}

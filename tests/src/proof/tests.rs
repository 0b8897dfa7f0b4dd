use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Entry, Layer, Ledger, Sum, bound_percent};

fn git(root: &Path, arguments: &[&str]) -> String {
    let identity = ["-c", "user.name=n", "-c", "user.email=n@example.invalid"];
    let output = Command::new("git").arg("-C").arg(root).args(identity).args(arguments).output();
    let output = output.expect("git is there");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn commit(root: &Path, file: &str, text: &str) -> String {
    let path = root.join(file);
    fs::create_dir_all(path.parent().expect("below the root")).expect("made");
    fs::write(path, text).expect("written");
    git(root, &["add", "-A"]);
    git(root, &["commit", "-qm", text]);
    git(root, &["rev-parse", "--short=12", "HEAD"])
}

#[test]
fn the_ledger_adds_up_what_was_run_of_todays_code() {
    let root = tempfile::tempdir().expect("room");
    let root = root.path();
    git(root, &["init", "-q"]);
    let old = commit(root, "engine/a.rs", "one");
    let ledger = Ledger::of(root);
    assert_eq!(ledger.sums().expect("no file yet"), [].into());
    let entry = |commit: &str, seed, trials| Entry {
        commit: commit.to_owned(),
        layer: Layer::Kill,
        seed,
        trials,
        confirms: trials * 10,
        violations: 0,
        seconds: trials,
        next: None,
    };
    ledger.add(&entry(&old, 1, 5)).expect("written");
    let sum = |ledger: &Ledger| ledger.sums().expect("read")[&Layer::Kill];
    assert_eq!(sum(&ledger), Sum { trials: 5, confirms: 50, violations: 0, seconds: 5, seed_max: 6 });
    // Documents change no result, what is not committed never counts.
    let readme = commit(root, "README.md", "two");
    ledger.add(&entry(&readme, 6, 7)).expect("written");
    ledger.add(&entry(&format!("{readme}+"), 13, 100)).expect("written");
    assert_eq!(sum(&ledger), Sum { trials: 12, confirms: 120, violations: 0, seconds: 12, seed_max: 113 });
    assert_eq!(ledger.commit().expect("git"), readme, "the ledger itself is no change");
    fs::write(root.join("README.md"), "three").expect("written");
    assert_eq!(ledger.commit().expect("git"), format!("{readme}+"));
    // Nor does what they never run: those that do begin anew.
    ledger.add(&Entry { layer: Layer::Damage, ..entry(&readme, 1, 3) }).expect("written");
    let damage = |ledger: &Ledger| ledger.sums().expect("read")[&Layer::Damage].trials;
    assert_eq!(damage(&ledger), 3);
    commit(root, "engine/src/offline/c.rs", "five");
    assert_eq!((sum(&ledger).trials, damage(&ledger)), (12, 0));
    // With other code it begins anew, with seeds that were never used.
    let new = commit(root, "server/broker/b.rs", "four");
    assert_eq!(sum(&ledger), Sum { seed_max: 113, ..Sum::default() });
    ledger.add(&Entry { violations: 1, ..entry(&new, 113, 1) }).expect("written");
    assert_eq!(sum(&ledger).violations, 1);
    assert_eq!(ledger.entries().expect("read").len(), 5);
}

#[test]
fn a_line_that_is_none_is_told_by_its_number() {
    let root = tempfile::tempdir().expect("room");
    fs::create_dir_all(root.path().join("tests/proof")).expect("made");
    fs::write(root.path().join("tests/proof/ledger.jsonl"), "{}\n").expect("written");
    let told = Ledger::of(root.path()).entries().expect_err("no entry");
    assert!(told.contains("ledger.jsonl, line 1: missing field `commit`"), "{told}");
}

#[test]
fn the_rule_of_three() {
    assert!((bound_percent(10_000) - 0.03).abs() < 1e-9);
    assert!((bound_percent(0) - 100.0).abs() < 1e-9 && (bound_percent(1) - 100.0).abs() < 1e-9);
}

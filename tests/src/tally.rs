//! Adds up what `cargo test` printed, group by group, and holds it against tests/expected.toml: no group may shrink
//! unseen, and a skip needs an install that failed.
//!
//! A group is a crate's test binary, and in the integration tests a module of it. Its count is what passed plus what
//! was skipped.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use serde::Deserialize;

/// tests/expected.toml.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The groups.
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
}

/// A group as expected.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// `leveret-engine`, or `it::features`.
    pub name: String,
    /// The tool that it needs beside Rust; "" for none, which can never be skipped.
    #[serde(default)]
    pub tool: String,
    /// Tests in it.
    pub count: usize,
    /// Measurements among its functions: ignored, and run by hand.
    #[serde(default)]
    pub by_hand: usize,
}

/// What happened to a group's tests.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Those that passed, skipped ones not counted.
    pub passed: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those whose tool could not be installed.
    pub skipped: usize,
    /// Those that are ignored: measurements, no tests.
    pub ignored: usize,
}

/// A run, group by group.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// By group.
    pub groups: BTreeMap<String, Outcome>,
}

impl Expected {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Tally {
    /// Adds the output of a `cargo test`, standard error and standard output in one. `skips` holds lines
    /// "SKIPPED module::test: why".
    pub fn add(&mut self, output: &str, skips: &str) {
        let skipped: Vec<&str> = skips
            .lines()
            .filter_map(|line| line.strip_prefix("SKIPPED "))
            .map(|line| line.split(": ").next().unwrap_or(line))
            .collect();
        let mut binary = String::new();
        for line in output.lines() {
            if let Some(name) = binary_name(line) {
                binary = name;
            } else if let Some((test, result)) = result_line(line) {
                let outcome = self.groups.entry(group(&binary, test)).or_default();
                match result {
                    "ok" if skipped.contains(&test) => outcome.skipped += 1,
                    "ok" => outcome.passed += 1,
                    "FAILED" => outcome.failed += 1,
                    _ => outcome.ignored += 1,
                }
            }
        }
    }

    /// Everything added up.
    pub fn total(&self) -> Outcome {
        self.groups.values().fold(Outcome::default(), |sum, outcome| Outcome {
            passed: sum.passed + outcome.passed,
            failed: sum.failed + outcome.failed,
            skipped: sum.skipped + outcome.skipped,
            ignored: sum.ignored + outcome.ignored,
        })
    }

    /// What differs from what is expected.
    pub fn differences(&self, expected: &Expected) -> Vec<String> {
        let mut differences = Vec::new();
        for group in &expected.groups {
            let outcome = self.groups.get(&group.name).copied().unwrap_or_default();
            let ran = outcome.passed + outcome.skipped + outcome.failed;
            if ran != group.count {
                differences.push(format!("{}: {ran} tests, {} are expected", group.name, group.count));
            }
            if outcome.ignored != group.by_hand {
                let (ignored, by_hand) = (outcome.ignored, group.by_hand);
                differences.push(format!("{}: {ignored} ignored, {by_hand} are expected", group.name));
            }
            if outcome.skipped > 0 && group.tool.is_empty() {
                differences
                    .push(format!("{}: {} skipped, and it needs no tool", group.name, outcome.skipped));
            }
        }
        for name in
            self.groups.keys().filter(|name| !expected.groups.iter().any(|group| group.name == **name))
        {
            differences.push(format!("{name}: not in expected.toml"));
        }
        differences
    }

    /// expected.toml as it would be for this run, tools kept.
    pub fn as_expected(&self, before: Option<&Expected>) -> String {
        let mut text = String::from(
            "# Every group of tests, the tool it needs beside Rust, and its count. ./tests/run compares: passed and\n\
             # skipped together must be the count. `./tests/run --write-expected` writes this file anew.\n",
        );
        for (name, outcome) in &self.groups {
            let known = before.and_then(|before| before.groups.iter().find(|group| group.name == *name));
            let tool = known.map_or("", |group| group.tool.as_str());
            let count = outcome.passed + outcome.failed + outcome.skipped;
            text.push_str(&format!("\n[[group]]\nname = \"{name}\"\ntool = \"{tool}\"\ncount = {count}\n"));
            if outcome.ignored > 0 {
                text.push_str(&format!("by_hand = {}\n", outcome.ignored));
            }
        }
        text
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, outcome) in &self.groups {
            let Outcome { passed, failed, skipped, ignored } = outcome;
            write!(f, "{name:<24} {passed:>5} passed {failed:>3} failed {skipped:>3} skipped")?;
            if *ignored > 0 {
                write!(f, " {ignored:>3} by hand")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// From "     Running unittests src/lib.rs (target/debug/deps/leveret_engine-0123456789abcdef)" or
/// "   Doc-tests leveret_engine".
fn binary_name(line: &str) -> Option<String> {
    let line = line.trim_start();
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{} (doc)", name.trim().replace('_', "-")));
    }
    let inner = line.strip_prefix("Running ")?.rsplit_once('(')?.1.strip_suffix(')')?;
    let file = inner.rsplit('/').next()?;
    let name = file.rsplit_once('-').map_or(file, |(name, _)| name);
    Some(name.replace('_', "-"))
}

/// From "test features::get::a_lease_ends ... ok".
fn result_line(line: &str) -> Option<(&str, &str)> {
    let (test, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    // "test name - should panic ... ok", "... ignored, reason"
    let test = test.split(" - should panic").next().unwrap_or(test);
    let result = result.split([',', ' ']).next().unwrap_or(result);
    ["ok", "FAILED", "ignored"].contains(&result).then_some((test, result))
}

fn group(binary: &str, test: &str) -> String {
    match (binary, test.split_once("::")) {
        ("it", Some((module, _))) => format!("it::{module}"),
        _ => binary.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
     Running unittests src/lib.rs (target/debug/deps/leveret_engine-0123456789abcdef)
running 3 tests
test log::tests::rotates ... ok
test log::tests::tears ... FAILED
test log::tests::slow ... ignored, takes long
     Running it/main.rs (/elsewhere/debug/deps/it-00ff)
test features::get::a ... ok
test grpcurl::lists ... ok
test grpcurl::panics - should panic ... ok
   Doc-tests leveret_engine
test engine/src/lib.rs - open (line 3) ... ok
";

    fn outcome(passed: usize, failed: usize, skipped: usize) -> Outcome {
        Outcome { passed, failed, skipped, ignored: 0 }
    }

    fn tally() -> Tally {
        let mut tally = Tally::default();
        tally.add(OUTPUT, "SKIPPED grpcurl::lists: no network | tried three times\n");
        tally
    }

    #[test]
    fn output_is_counted_by_group() {
        let groups = tally().groups;
        assert_eq!(groups["leveret-engine"], Outcome { ignored: 1, ..outcome(1, 1, 0) });
        assert_eq!(groups["it::features"], outcome(1, 0, 0));
        assert_eq!(groups["it::grpcurl"], outcome(1, 0, 1));
        assert_eq!(groups["leveret-engine (doc)"], outcome(1, 0, 0));
        assert_eq!(tally().total(), Outcome { ignored: 1, ..outcome(4, 1, 1) });
    }

    #[test]
    fn differences_are_named() {
        let written = tally().as_expected(None);
        let mut expected: Expected = toml::from_str(&written).expect("TOML");
        // A skip, and no tool named yet.
        assert_eq!(tally().differences(&expected).len(), 1);
        for group in &mut expected.groups {
            group.tool = "something".into();
        }
        assert_eq!(tally().differences(&expected), Vec::<String>::new());
        expected.groups[0].count += 1;
        expected.groups.remove(1);
        assert_eq!(tally().differences(&expected).len(), 2);
    }
}

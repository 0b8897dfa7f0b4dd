//! tests/proof/ledger.jsonl: a line for each round that was run, so that sums go on over many runs and machines.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::Layer;

/// What changes a result: the formats, the engine and the core. A round of before their last change proves nothing of today's.
const UNDER_ATTACK: [&str; 2] = ["engine", "server/broker"];
/// What of it only check and repair run, and thus only layers with damaged or stopped stores reach.
const OFFLINE: &str = ":(exclude)engine/src/offline";

/// One round of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The commit that was run; with changes that were not committed it ends in "+", and never counts.
    pub commit: String,
    /// T1 to T10.
    pub layer: Layer,
    /// The seed that repeats the round.
    pub seed: u64,
    /// Trials: cases, seeds, kills, losses, errors.
    pub trials: u64,
    /// Messages that were confirmed in it, where the layer has any.
    pub confirms: u64,
    /// Violations: a round ends with its first.
    pub violations: u64,
    /// How long it took, with building where that was needed.
    #[serde(default)]
    pub seconds: u64,
    /// Where the next round begins, for layers that do not count on by trials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// What a layer's rounds add up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Trials.
    pub trials: u64,
    /// Confirmed messages.
    pub confirms: u64,
    /// Violations.
    pub violations: u64,
    /// Seconds, of all rounds that say so.
    pub seconds: u64,
    /// The highest seed.
    pub seed_max: u64,
}

/// The ledger's file.
#[derive(Debug)]
pub struct Ledger {
    root: PathBuf,
    path: PathBuf,
}

impl Ledger {
    /// The ledger of the repository at `root`.
    pub fn of(root: &Path) -> Self {
        Self { root: root.to_owned(), path: root.join("tests/proof/ledger.jsonl") }
    }

    /// Adds a round.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn add(&self, entry: &Entry) -> Result<(), String> {
        let fault = |error: std::io::Error| format!("{}: {error}", self.path.display());
        let line = serde_json::to_string(entry).map_err(|error| error.to_string())?;
        fs::create_dir_all(self.path.parent().unwrap_or(&self.root)).map_err(fault)?;
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path).map_err(fault)?;
        writeln!(file, "{line}").map_err(fault)
    }

    /// The sums of the rounds that count: of commits since the code under attack changed last.
    ///
    /// # Errors
    /// When a line cannot be read, or git does not answer.
    pub fn sums(&self) -> Result<BTreeMap<Layer, Sum>, String> {
        let mut valid: BTreeMap<(&String, String), bool> = BTreeMap::new();
        let mut sums: BTreeMap<Layer, Sum> = BTreeMap::new();
        let last_change = |without: &[&str]| {
            let arguments = [&["log", "-1", "--format=%H", "--"][..], &UNDER_ATTACK, without].concat();
            self.git(&arguments)
        };
        let changed = [last_change(&[OFFLINE])?, last_change(&[])?];
        for entry in self.entries()? {
            let changed = &changed[usize::from(entry.layer.reaches_offline())];
            let counts = *valid.entry((changed, entry.commit.clone())).or_insert_with(|| {
                let ancestor = ["merge-base", "--is-ancestor", changed.trim(), &entry.commit];
                !entry.commit.ends_with('+') && self.git(&ancestor).is_ok()
            });
            let sum = sums.entry(entry.layer).or_default();
            // A seed is never used twice, also where its round does not count any more.
            let used = entry.next.map_or(entry.seed.saturating_add(entry.trials), |next| next - 1);
            sum.seed_max = sum.seed_max.max(used);
            if counts {
                sum.trials += entry.trials;
                sum.confirms += entry.confirms;
                sum.violations += entry.violations;
                sum.seconds += entry.seconds;
            }
        }
        Ok(sums)
    }

    /// All rounds, in the order in which they were run.
    ///
    /// # Errors
    /// When a line cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, String> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(format!("{}: {error}", self.path.display())),
        };
        let parse = |(index, line): (usize, &str)| {
            serde_json::from_str(line)
                .map_err(|error| format!("{}, line {}: {error}", self.path.display(), index + 1))
        };
        text.lines().enumerate().map(parse).collect()
    }

    /// The commit that is checked out, with "+" where there are changes that are not committed.
    ///
    /// # Errors
    /// When git does not answer.
    pub fn commit(&self) -> Result<String, String> {
        let head = self.git(&["rev-parse", "--short=12", "HEAD"])?;
        // The ledger itself changes with each round.
        let changes = self.git(&["status", "--porcelain", "--", ".", ":!tests/proof/ledger.jsonl"])?;
        let mark = if changes.trim().is_empty() { "" } else { "+" };
        Ok(format!("{}{mark}", head.trim()))
    }

    fn git(&self, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new("git").arg("-C").arg(&self.root).args(arguments).output();
        let output = output.map_err(|error| format!("git: {error}"))?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            return Err(format!("git {}: {}", arguments.join(" "), error.trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

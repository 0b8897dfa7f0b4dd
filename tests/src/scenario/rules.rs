//! The list of rules, and which of them no case is for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;

use super::case::Case;

/// A rule: section, place of its bullet, and a letter for each statement in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// "3.11b".
    pub id: String,
    /// One sentence.
    pub text: String,
    /// Why no case has to be for it.
    pub state: Option<State>,
    /// The same in words.
    pub reason: Option<String>,
}

/// Why no case has to be for a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The product does not have it yet; none may be left in the end.
    Pending,
    /// The product does not have it, and does not promise it.
    Absent,
    /// No client can see it; the reason names the test that does.
    Elsewhere,
}

/// Which rules are covered.
#[derive(Debug, Clone, Default)]
pub struct Coverage {
    /// Rules with at least one case, and how many.
    pub covered: BTreeMap<String, usize>,
    /// Rules without, that should have one.
    pub uncovered: Vec<Rule>,
    /// Rules that wait for the product.
    pub pending: Vec<Rule>,
    /// Rules that the product does not promise, or that are tested elsewhere.
    pub excused: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rule: Vec<Rule>,
}

/// Reads the list.
///
/// # Errors
/// When it is not as it should be.
pub fn rules(path: &Path) -> Result<Vec<Rule>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file: File = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut ids = BTreeSet::new();
    for rule in &file.rule {
        if !ids.insert(&rule.id) {
            return Err(format!("{}: rule {} stands there twice", path.display(), rule.id));
        }
        if rule.state.is_some() != rule.reason.is_some() {
            return Err(format!("{}: rule {} needs state and reason, or neither", path.display(), rule.id));
        }
    }
    Ok(file.rule)
}

/// Compares the cases with the list.
///
/// # Errors
/// When a case names a rule that does not exist.
pub fn coverage(rules: &[Rule], cases: &[Case]) -> Result<Coverage, String> {
    let known: BTreeSet<&str> = rules.iter().map(|rule| &*rule.id).collect();
    let mut coverage = Coverage::default();
    for case in cases {
        for id in &case.rules {
            if !known.contains(&**id) {
                return Err(format!("{}:{}: there is no rule {id}", case.file.display(), case.line));
            }
            *coverage.covered.entry(id.clone()).or_default() += 1;
        }
    }
    for rule in rules.iter().filter(|rule| !coverage.covered.contains_key(&rule.id)) {
        let list = match rule.state {
            None => &mut coverage.uncovered,
            Some(State::Pending) => &mut coverage.pending,
            Some(State::Absent | State::Elsewhere) => &mut coverage.excused,
        };
        list.push(rule.clone());
    }
    Ok(coverage)
}

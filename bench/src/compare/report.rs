//! Rows, their medians and ratios; as JSON, and as a table in Markdown.

use std::fmt::Write as _;
use std::path::Path;

use super::measure::{Latency, Outcome};
use super::scenario::Scenario;
use crate::Error;
use crate::machine::Machine;
use crate::peer::{Kind, Peer};
use crate::report::{median, thousands};

/// A scenario against a peer, all runs.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) title: String,
    pub(crate) body: usize,
    pub(crate) peer: Kind,
    pub(crate) version: String,
    /// What a confirm means.
    pub(crate) fsync: String,
    pub(crate) machine: Machine,
    pub(crate) runs: Vec<Outcome>,
    pub(crate) failures: Vec<String>,
}

impl Row {
    /// The median of a figure over the runs; not a number without any.
    pub(crate) fn median(&self, figure: impl Fn(&Outcome) -> f64) -> f64 {
        median(self.runs.iter().map(figure))
    }

    pub(crate) fn rate(&self) -> f64 {
        self.median(|run| run.rate)
    }

    /// The median of a figure of the latencies, where there are any.
    pub(crate) fn latency(&self, figure: impl Fn(&Latency) -> f64) -> Option<f64> {
        let each: Vec<f64> = self.runs.iter().filter_map(|run| run.latency.as_ref()).map(figure).collect();
        (!each.is_empty()).then(|| median(each.into_iter()))
    }

    /// Least and most over the runs, as parts of the median.
    fn spread(&self) -> (f64, f64) {
        let rates = || self.runs.iter().map(|run| run.rate);
        let (least, most) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
        (least / self.rate() - 1.0, most / self.rate() - 1.0)
    }
}

/// All rows.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Report {
    machine: Machine,
    runs: usize,
    seconds: f64,
    rows: Vec<Row>,
    left_out: Vec<Kind>,
    failures: Vec<String>,
}

impl Report {
    pub(super) fn new(machine: Machine, runs: usize, seconds: f64) -> Self {
        Self { machine, runs, seconds, rows: Vec::new(), left_out: Vec::new(), failures: Vec::new() }
    }

    /// A row without runs yet.
    pub(super) fn row(&self, scenario: &Scenario, peer: &Peer) -> Row {
        Row {
            scenario: scenario.name.clone(),
            title: scenario.title.clone(),
            body: scenario.body(),
            peer: peer.kind,
            version: peer.version.clone(),
            fsync: peer.fsync.clone(),
            machine: self.machine.clone(),
            runs: Vec::new(),
            failures: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    pub(super) fn leave_out(&mut self, kind: Kind) {
        if !self.left_out.contains(&kind) {
            self.left_out.push(kind);
        }
    }

    pub(super) fn fail(&mut self, scenario: &Scenario, error: &Error) {
        self.failures.push(format!("{}: {error}", scenario.name));
    }

    /// The row of a scenario and a peer, if it has runs.
    pub(super) fn find(&self, scenario: &str, peer: Kind) -> Option<&Row> {
        let is = |row: &&Row| row.scenario == scenario && row.peer == peer && !row.runs.is_empty();
        self.rows.iter().find(is)
    }

    /// compare.json and compare.md.
    pub(super) fn write(&self, directory: &Path) -> Result<(), Error> {
        std::fs::write(directory.join("compare.json"), serde_json::to_vec_pretty(self)?)?;
        std::fs::write(directory.join("compare.md"), self.markdown())?;
        Ok(())
    }

    /// A table for each scenario.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "Medians of {} runs of {} s in turns, client on the same machine: {}.\n",
            self.runs, self.seconds, self.machine
        );
        if !self.left_out.is_empty() {
            let names: Vec<&str> = self.left_out.iter().map(|kind| kind.name()).collect();
            let _ = writeln!(text, "\nNot installed, left out: {}.", names.join(", "));
        }
        for failure in &self.failures {
            let _ = writeln!(text, "\nFailed: {failure}");
        }
        let mut last = "";
        for row in &self.rows {
            if row.scenario != last {
                last = &row.scenario;
                let _ = write!(
                    text,
                    "\n**{}**: {}\n\n{HEAD}\n{}\n",
                    row.scenario,
                    row.title,
                    HEAD.chars().map(|c| if c == '|' { '|' } else { '-' }).collect::<String>()
                );
            }
            text.push_str(&self.line(row));
        }
        text
    }

    fn line(&self, row: &Row) -> String {
        let name = format!("{} {}, {}", row.peer.name(), row.version, row.fsync);
        let Machine { cores, cpu, kernel, file_system } = &row.machine;
        let machine = format!("{cores} x {cpu}, {kernel}, {file_system}");
        if row.runs.is_empty() {
            return format!("| {name} | failed: {} | | | | | | | | | {machine} |\n", row.failures.join("; "));
        }
        let over = |peer: Kind| match self.find(&row.scenario, peer) {
            Some(other) if other.peer != row.peer => format!("{:.3}", row.rate() / other.rate()),
            _ => String::new(),
        };
        let us = |figure: fn(&Latency) -> f64| {
            row.latency(figure).map_or_else(String::new, |us| format!("{us:.0}"))
        };
        let flushes = row.runs.iter().all(|run| run.flushes.is_some());
        let flushes = flushes.then(|| row.median(|run| run.flushes.unwrap_or(0.0)));
        let (least, most) = row.spread();
        format!(
            "| {name} | {} | {:+.0}% {:+.0}% | {} | {} | {} | {} | {} | {} | {} | {:.2} + {:.2} | {:.0} | {machine} |\n",
            thousands(row.rate()),
            least * 100.0,
            most * 100.0,
            us(|latency| latency.p50),
            us(|latency| latency.p99),
            us(|latency| latency.p999),
            over(Kind::Floor),
            over(Kind::Quorum),
            over(Kind::Classic),
            flushes.map_or_else(|| "?".into(), thousands),
            row.median(|run| run.client_cores),
            row.median(|run| run.peer_cores),
            row.median(|run| run.memory as f64 / 1e6),
        )
    }
}

const HEAD: &str = "| peer, version, fsync policy | messages/s | spread | p50 us | p99 us | p99.9 us | x floor | x quorum \
                    | x classic | flushes/s | cores client + peer | MB | machine |";

//! Rows, their medians and ratios; as JSON, and as a table in Markdown.

use std::fmt::Write as _;
use std::path::Path;

use super::bars::{Bar, bars};
use super::measure::{Latency, Outcome};
use super::plot;
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
    /// Flushes of the disk per second before anything was started: what others do to it.
    flushes_at_rest: Option<f64>,
    rows: Vec<Row>,
    left_out: Vec<Kind>,
    failures: Vec<String>,
}

impl Report {
    pub(super) fn new(machine: Machine, runs: usize, seconds: f64, flushes_at_rest: Option<f64>) -> Self {
        Self {
            machine,
            runs,
            seconds,
            flushes_at_rest,
            rows: Vec::new(),
            left_out: Vec::new(),
            failures: Vec::new(),
        }
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

    pub(super) fn fail(&mut self, scenario: &Scenario, error: &str) {
        eprintln!("{}: {error}", scenario.name);
        self.failures.push(format!("{}: {error}", scenario.name));
    }

    /// Whether no bar that was measured is missed.
    pub(super) fn is_met(&self) -> bool {
        bars(self).iter().all(|bar| bar.met != Some(false))
    }

    /// The row of a scenario and a peer, if it has runs.
    pub(super) fn find(&self, scenario: &str, peer: Kind) -> Option<&Row> {
        let is = |row: &&Row| row.scenario == scenario && row.peer == peer && !row.runs.is_empty();
        self.rows.iter().find(is)
    }

    /// Rows that have runs.
    pub(super) fn measured(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.runs.is_empty())
    }

    /// compare.json, compare.md and the plots.
    pub(super) fn write(&self, directory: &Path) -> Result<(), Error> {
        #[derive(serde::Serialize)]
        struct File<'a> {
            #[serde(flatten)]
            report: &'a Report,
            bars: Vec<Bar>,
        }
        let file = File { report: self, bars: bars(self) };
        std::fs::write(directory.join("compare.json"), serde_json::to_vec_pretty(&file)?)?;
        let mut text = self.markdown();
        for file in plot::write(self, directory)? {
            let _ = write!(text, "\n![{}]({file})\n", file.trim_end_matches(".svg"));
        }
        std::fs::write(directory.join("compare.md"), text)?;
        Ok(())
    }

    /// The bars, then a table for each scenario.
    pub(super) fn markdown(&self) -> String {
        let mut text = format!(
            "Medians of {} runs of {} s in turns, client on the same machine: {}. leveret-bench {}.\n",
            self.runs,
            self.seconds,
            self.machine,
            env!("CARGO_PKG_VERSION")
        );
        if let Some(flushes) = self.flushes_at_rest {
            let _ = writeln!(
                text,
                "\nThe disk was told to flush {flushes:.0} times a second before the first run."
            );
        }
        if !self.left_out.is_empty() {
            let names: Vec<&str> = self.left_out.iter().map(|kind| kind.name()).collect();
            let _ = writeln!(text, "\nNot installed, left out: {}.", names.join(", "));
        }
        for failure in &self.failures {
            let _ = writeln!(text, "\nFailed: {failure}");
        }
        text.push_str("\n| wanted of Leveret | | found | |\n|---|---|---|---|\n");
        for Bar { what, wanted, found, met } in bars(self) {
            let found = found.map_or_else(|| "not measured".to_owned(), figure);
            let verdict = met.map_or("", |met| if met { "met" } else { "MISSED" });
            let _ = writeln!(text, "| {what} | {wanted} | {found} | {verdict} |");
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
            return format!(
                "| {name} | failed: {} |{} {machine} |\n",
                row.failures.join("; "),
                " |".repeat(12)
            );
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
            "| {name} | {} | {:+.0}% {:+.0}% | {} | {} | {} | {} | {} | {} | {} | {:.2} + {:.2} | {:.2} | {:.0} | {:.1}% | {machine} |\n",
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
            // What a machine that is busy with other things tells best.
            row.median(|run| run.peer_cores / run.rate * 1e6),
            row.median(|run| run.memory as f64 / 1e6),
            row.runs.iter().map(|run| run.stolen).fold(0.0, f64::max) * 100.0,
        )
    }
}

/// With as many digits as mean something.
fn figure(value: f64) -> String {
    if value >= 1_000.0 { thousands(value) } else { format!("{value:.2}") }
}

const HEAD: &str = "| peer, version, fsync policy | messages/s | spread | p50 us | p99 us | p99.9 us | x floor | x quorum \
                    | x classic | flushes/s | cores client + peer | peer's us of CPU a message | MB | stolen | machine |";

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine { cores: 2, cpu: "CPU".into(), kernel: "Linux 6".into(), file_system: "ext4".into() }
    }

    /// A run while which that part was stolen.
    pub(in crate::compare) fn outcome_stolen(stolen: f64) -> Outcome {
        Outcome { stolen, ..row("", Kind::Leveret, &[1.0]).runs[0].clone() }
    }

    /// A row with runs of these rates.
    pub(in crate::compare) fn row(scenario: &str, peer: Kind, rates: &[f64]) -> Row {
        let latency = Latency { p50: 100.0, p90: 150.0, p99: 200.0, p999: 300.0, max: 400.0 };
        let outcome = |rate: &f64| Outcome {
            rate: *rate,
            latency: Some(latency),
            flushes: Some(1_000.0),
            client_cores: 0.1,
            peer_cores: 0.9,
            memory: 5_000_000,
            stolen: rate / 1e8,
        };
        Row {
            scenario: scenario.into(),
            title: format!("title of {scenario}"),
            body: 100,
            peer,
            version: "1.2".into(),
            fsync: "fsync=always".into(),
            machine: machine(),
            runs: rates.iter().map(outcome).collect(),
            failures: Vec::new(),
        }
    }

    /// A report of these rows.
    pub(in crate::compare) fn report(rows: Vec<Row>) -> Report {
        let mut report = Report::new(machine(), 3, 3.0, Some(7.0));
        report.add(rows);
        report
    }

    #[test]
    fn a_row_tells_median_spread_ratios_policy_and_machine() {
        let rows = vec![
            row("publish-w2000-100b", Kind::Floor, &[4e6]),
            row("publish-w2000-100b", Kind::Leveret, &[1e6, 0.5e6, 1.1e6]),
            row("publish-w2000-100b", Kind::Quorum, &[1e5]),
        ];
        let text = report(rows).markdown();
        let line = text.lines().find(|line| line.starts_with("| Leveret")).unwrap();
        assert_eq!(
            line,
            "| Leveret 1.2, fsync=always | 1,000,000 | -50% +10% | 100 | 200 | 300 | 0.250 | 10.000 |  | 1,000 \
             | 0.10 + 0.90 | 0.90 | 5 | 1.1% | 2 x CPU, Linux 6, ext4 |"
        );
        // As many columns as the head.
        let columns = |line: &str| line.matches('|').count();
        assert!(
            text.lines().filter(|line| line.contains("ext4 |")).all(|line| columns(line) == columns(HEAD))
        );
    }

    #[test]
    fn what_failed_and_what_is_not_there_is_told() {
        let mut failed = row("drain-hot", Kind::Classic, &[]);
        failed.failures.push("closed".into());
        let mut report = report(vec![failed]);
        report.leave_out(Kind::Nats);
        let text = report.markdown();
        let line = text.lines().find(|line| line.contains("failed: closed")).unwrap();
        assert_eq!(line.matches('|').count(), HEAD.matches('|').count());
        assert!(text.contains("left out: NATS JetStream."));
    }

    #[test]
    fn files_hold_the_rows_and_the_bars() {
        let directory = tempfile::tempdir().unwrap();
        report(vec![row("publish-w1-100b", Kind::Leveret, &[4_000.0])]).write(directory.path()).unwrap();
        let json = std::fs::read(directory.path().join("compare.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["rows"][0]["fsync"], "fsync=always");
        assert_eq!(json["rows"][0]["machine"]["file_system"], "ext4");
        assert_eq!(json["rows"][0]["runs"][0]["rate"], 4_000.0);
        assert!(json["bars"].as_array().unwrap().len() > 10);
        let text = std::fs::read_to_string(directory.path().join("compare.md")).unwrap();
        assert!(text.contains("![windows](windows.svg)"));
    }
}

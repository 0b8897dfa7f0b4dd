//! Rows, medians and who is ahead; as JSON, and as tables in Markdown.

use std::fmt::Write as _;
use std::path::Path;

use crate::Error;
use crate::load::{Load, Outcome};
use crate::machine::Machine;
use crate::peer::Kind;

/// Part of the flushes that a row must have had at least to pass as durable: the count's ends are not sharp.
const DURABLE: f64 = 0.9;

/// A peer under a load, all runs.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) load: Load,
    pub(crate) peer: Kind,
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) setting: &'static str,
    pub(crate) grouping: &'static str,
    pub(crate) runs: Vec<Outcome>,
    pub(crate) failures: Vec<String>,
}

/// Whether the disk was flushed as often as it had to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Durable {
    Yes,
    No,
    /// The kernel does not count.
    Unknown,
}

impl Row {
    pub(crate) fn new(peer: Kind, load: Load) -> Self {
        let (name, setting, grouping) = (peer.name(), peer.setting(), peer.grouping());
        let (version, runs, failures) = (String::new(), Vec::new(), Vec::new());
        Self { load, peer, name, version, setting, grouping, runs, failures }
    }

    pub(crate) fn median(&self, figure: impl Fn(&Outcome) -> f64) -> f64 {
        median(self.runs.iter().map(figure))
    }

    pub(crate) fn rate(&self) -> f64 {
        self.median(|run| run.rate)
    }

    /// Appends to a flush that it caused.
    fn appends_per_flush(&self, at_rest: f64) -> Option<f64> {
        let all = !self.runs.is_empty() && self.runs.iter().all(|run| run.flushes.is_some());
        let own = |run: &Outcome| run.rate / (run.flushes.unwrap_or(0.0) - at_rest).max(0.0);
        all.then(|| self.median(own))
    }

    /// A flush can cover at most one append of each writer: who waits for it has nothing else under way.
    pub(crate) fn durable(&self, at_rest: f64) -> Durable {
        let most = self.peer.writers(self.load.writers) as f64 / DURABLE;
        match self.appends_per_flush(at_rest) {
            None => Durable::Unknown,
            Some(appends) if appends <= most => Durable::Yes,
            Some(_) => Durable::No,
        }
    }

    /// Least and most over the runs, as parts of the median.
    fn spread(&self) -> (f64, f64) {
        let rates = || self.runs.iter().map(|run| run.rate);
        let (least, most) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
        (least / self.rate() - 1.0, most / self.rate() - 1.0)
    }
}

/// Leveret beside the best of the others, under one load.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(crate) struct Standing {
    #[serde(flatten)]
    pub(crate) load: Load,
    /// The fastest engine that is durable.
    pub(crate) first: &'static str,
    /// The fastest one but Leveret.
    pub(crate) best_peer: Option<&'static str>,
    /// Leveret's rate over that one's.
    pub(crate) ratio: Option<f64>,
}

/// All rows.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) runs: usize,
    pub(crate) seconds: f64,
    /// Flushes of the disk per second before anything was started: what others do to it.
    pub(crate) flushes_at_rest: Option<f64>,
    pub(crate) rows: Vec<Row>,
    pub(crate) left_out: Vec<String>,
}

impl Report {
    /// Each load that has rows, in their order.
    fn loads(&self) -> Vec<Load> {
        let mut loads: Vec<Load> = self.rows.iter().map(|row| row.load).collect();
        loads.dedup();
        loads
    }

    fn durable(&self, row: &Row) -> Durable {
        row.durable(self.flushes_at_rest.unwrap_or(0.0))
    }

    fn standing(&self, load: Load) -> Option<Standing> {
        let measured = |row: &&Row| row.load == load && !row.runs.is_empty() && !row.peer.is_floor();
        let durable = || self.rows.iter().filter(measured).filter(|row| self.durable(row) != Durable::No);
        let best = |rows: &mut dyn Iterator<Item = &'_ Row>| {
            rows.max_by(|one, other| one.rate().total_cmp(&other.rate())).map(|row| (row.name, row.rate()))
        };
        let (first, _) = best(&mut durable())?;
        let peer = best(&mut durable().filter(|row| row.peer != Kind::Leveret));
        let own = best(&mut durable().filter(|row| row.peer == Kind::Leveret));
        let ratio = own.zip(peer).map(|((_, own), (_, peer))| own / peer);
        Some(Standing { load, first, best_peer: peer.map(|(name, _)| name), ratio })
    }

    pub(crate) fn standings(&self) -> Vec<Standing> {
        self.loads().into_iter().filter_map(|load| self.standing(load)).collect()
    }

    /// Leveret is ahead of every peer that is durable, under every load; false also where there is nobody to compare with,
    /// or somebody failed.
    pub(crate) fn is_ahead(&self) -> bool {
        let standings = self.standings();
        let failed = self.rows.iter().any(|row| !row.failures.is_empty());
        let ahead = |standing: &Standing| standing.ratio.is_some_and(|ratio| ratio > 1.0);
        !failed && !standings.is_empty() && standings.iter().all(ahead)
    }

    /// peers.json and peers.md.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), Error> {
        #[derive(serde::Serialize)]
        struct File<'a> {
            #[serde(flatten)]
            report: &'a Report,
            standings: Vec<Standing>,
        }
        let file = File { report: self, standings: self.standings() };
        std::fs::write(directory.join("peers.json"), serde_json::to_vec_pretty(&file)?)?;
        Ok(std::fs::write(directory.join("peers.md"), self.markdown())?)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "Durable appends: medians of {} runs of {} s in turns, on {}. Each writer has one append under way.\n",
            self.runs, self.seconds, self.machine
        );
        if let Some(flushes) = self.flushes_at_rest {
            let _ = writeln!(
                text,
                "\nThe disk was told to flush {flushes:.0} times a second before the first run."
            );
        }
        if !self.left_out.is_empty() {
            let _ = writeln!(text, "\nLeft out: {}.", self.left_out.join("; "));
        }
        for load in self.loads() {
            let Load { writers, bytes } = load;
            let plural = if writers == 1 { "" } else { "s" };
            let _ = write!(text, "\n**{writers} writer{plural}, records of {bytes} bytes**");
            if let Some(Standing { first, best_peer, ratio, .. }) = self.standing(load) {
                let _ = write!(text, ": {first} is ahead");
                if let Some((peer, ratio)) = best_peer.zip(ratio) {
                    let _ = write!(text, "; Leveret is at {ratio:.2} x {peer}");
                }
            }
            let line: String = HEAD.chars().map(|c| if c == '|' { '|' } else { '-' }).collect();
            let _ = write!(text, ".\n\n{HEAD}\n{line}\n");
            self.rows.iter().filter(|row| row.load == load).for_each(|row| text.push_str(&self.line(row)));
        }
        text
    }

    fn line(&self, row: &Row) -> String {
        let what = format!("{} {}", row.name, row.version).trim_end().to_owned();
        let head = format!("| {what} | {} | {} |", row.setting, row.grouping);
        if row.runs.is_empty() {
            return format!("{head} failed: {} |{}\n", row.failures.join("; "), " |".repeat(8));
        }
        let bare = self.rows.iter().find(|other| other.load == row.load && other.peer == Kind::Bare);
        let bare = bare.filter(|bare| !bare.runs.is_empty());
        let of_bare = bare.map_or_else(String::new, |bare| format!("{:.2}", row.rate() / bare.rate()));
        let appends = row.appends_per_flush(self.flushes_at_rest.unwrap_or(0.0));
        let flushes = match self.durable(row) {
            Durable::Unknown => "not counted".to_owned(),
            Durable::Yes => format!("{:.1}", appends.unwrap_or(f64::NAN)),
            Durable::No => "NOT DURABLE".to_owned(),
        };
        let (least, most) = row.spread();
        format!(
            "{head} {} | {:+.0}% {:+.0}% | {of_bare} | {:.0} | {:.0} | {:.0} | {flushes} | {:.2} | {:.1} |\n",
            thousands(row.rate()),
            least * 100.0,
            most * 100.0,
            row.median(|run| run.p50),
            row.median(|run| run.p99),
            row.median(|run| run.max),
            row.median(|run| run.cores),
            row.median(|run| run.cores / run.rate * 1e6),
        )
    }
}

const HEAD: &str = "| engine, version | durable by | grouped by | appends/s | spread | of the bare loop | p50 us | p99 us \
                    | max us | appends per flush | cores | us of CPU an append |";

/// The middle one, or the mean of the middle two.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    }
}

/// 1234567.8 as "1,234,568".
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;

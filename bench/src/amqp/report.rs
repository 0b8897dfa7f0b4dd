//! Medians, side by side.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

use super::{Arguments, FIGURES, Figure, Outcome, Target};
use crate::report::{median, thousands};

/// All runs.
pub(super) struct Report {
    arguments: Arguments,
    targets: Vec<Target>,
    outcomes: BTreeMap<(usize, Figure), Vec<Outcome>>,
}

impl Report {
    pub(super) fn new(targets: &[Target], arguments: &Arguments) -> Self {
        Self { arguments: arguments.clone(), targets: targets.to_vec(), outcomes: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, target: usize, figure: Figure, outcome: Outcome) {
        self.outcomes.entry((target, figure)).or_default().push(outcome);
    }

    /// A block for each figure, a row for each target.
    pub(super) fn print(&self) {
        let Arguments { bytes, runs, backlog, .. } = &self.arguments;
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let mut text = format!(
            "\n{bytes}-byte persistent messages, durable queue, medians of {runs} alternating runs,\n\
             one light client for all, client and brokers on the same {cores} cores; a backlog is {backlog} messages\n"
        );
        for figure in FIGURES {
            let _ = writeln!(
                text,
                "\n{:<60} {:>12} {:>9} {:>9}",
                title(figure),
                "messages/s",
                "p50 us",
                "p99 us"
            );
            for (index, target) in self.targets.iter().enumerate() {
                let Some(outcomes) = self.outcomes.get(&(index, figure)) else { continue };
                let rate = median(outcomes.iter().map(|outcome| outcome.rate));
                let _ = write!(text, "  {:<58} {:>12}", target.name, thousands(rate));
                if outcomes.iter().all(|outcome| outcome.latency.is_some()) {
                    let p50 = median(outcomes.iter().filter_map(|outcome| outcome.latency).map(|l| l.0));
                    let p99 = median(outcomes.iter().filter_map(|outcome| outcome.latency).map(|l| l.1));
                    let _ = write!(text, " {p50:>9.0} {p99:>9.0}");
                }
                text.push('\n');
            }
        }
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

/// A measurement in one line.
pub(super) fn line(figure: Figure, outcome: Outcome) -> String {
    let latency = outcome.latency.map_or_else(String::new, |(p50, _)| format!(", p50 {p50:.0} us"));
    format!("{}: {}/s{latency}", title(figure), thousands(outcome.rate))
}

fn title(figure: Figure) -> String {
    match figure {
        Figure::Publish { window } => format!("confirmed publish, at most {window} unconfirmed"),
        Figure::EndToEnd { prefetch } => format!("publish, deliver, ack; prefetch {prefetch}"),
        Figure::Drain => "backlog delivered and acked, prefetch 2000".to_string(),
    }
}

//! Medians, ratios and targets, side by side.

use std::fmt;
use std::io::Write;

use hdrhistogram::Histogram;

use crate::GrpcArguments;

/// The stream must reach this part of the bare stream.
const STREAM_TARGET: f64 = 0.23;
/// A unary publish may take so many times a bare call and a bare fdatasync together.
const UNARY_TARGET: f64 = 1.5;

/// The figures of one run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    streams: Streams,
    unary_broker: Latency,
    unary_bare: Latency,
    fdatasync: Latency,
}

/// Messages per second.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streams {
    pub(crate) broker: f64,
    pub(crate) bare: f64,
    pub(crate) lean: f64,
}

/// Microseconds.
#[derive(Debug, Clone, Copy)]
struct Latency {
    p50: f64,
    p99: f64,
}

impl Latency {
    fn of(nanoseconds: &Histogram<u64>) -> Self {
        let us = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1000.0;
        Self { p50: us(0.5), p99: us(0.99) }
    }
}

impl Figures {
    pub(crate) fn new(
        streams: Streams,
        unary_broker: &Histogram<u64>,
        unary_bare: &Histogram<u64>,
        fdatasync: &Histogram<u64>,
    ) -> Self {
        Self {
            streams,
            unary_broker: Latency::of(unary_broker),
            unary_bare: Latency::of(unary_bare),
            fdatasync: Latency::of(fdatasync),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "stream {:.0}/s, bare {:.0}/s, lean {:.0}/s; unary p50 {:.0} us, bare {:.0} us, fdatasync {:.0} us",
            self.streams.broker,
            self.streams.bare,
            self.streams.lean,
            self.unary_broker.p50,
            self.unary_bare.p50,
            self.fdatasync.p50
        )
    }
}

/// All runs.
#[derive(Debug)]
pub(crate) struct Report {
    arguments: GrpcArguments,
    runs: Vec<Figures>,
}

impl Report {
    pub(crate) fn new(arguments: &GrpcArguments) -> Self {
        Self { arguments: arguments.clone(), runs: Vec::new() }
    }

    pub(crate) fn add(&mut self, figures: Figures) {
        self.runs.push(figures);
    }

    fn median(&self, figure: impl Fn(&Figures) -> f64) -> f64 {
        median(self.runs.iter().map(figure))
    }

    /// Prints the table; whether all targets are met.
    pub(crate) fn print(&self) -> bool {
        let stream = (self.median(|f| f.streams.broker), self.median(|f| f.streams.bare));
        let lean = self.median(|f| f.streams.lean);
        let unary = (self.median(|f| f.unary_broker.p50), self.median(|f| f.unary_broker.p99));
        let bare = (self.median(|f| f.unary_bare.p50), self.median(|f| f.unary_bare.p99));
        let sync = (self.median(|f| f.fdatasync.p50), self.median(|f| f.fdatasync.p99));
        let sum = bare.0 + sync.0;
        let (stream_ratio, unary_ratio) = (stream.0 / stream.1, unary.0 / sum);
        let (stream_ok, unary_ok) = (stream_ratio >= STREAM_TARGET, unary_ratio <= UNARY_TARGET);
        let verdict = |met: bool| if met { "met" } else { "MISSED" };
        let GrpcArguments { fsync, bytes, window, runs, .. } = &self.arguments;
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let text = format!(
            "\nfsync={fsync}, {bytes}-byte persistent messages, medians of {runs} alternating runs,\n\
             client and server on the same {cores} cores\n\n\
             {:<52} {:>14} {:>9} {:>9}\n\
             {:<52} {:>14}\n\
             {:<52} {:>14}\n\
             {:<52} {:>14.3} {:>9} {:>9}\n\
             {:<52} {:>14}\n\n\
             {:<52} {:>14} {:>9}\n\
             {:<52} {:>14.1} {:>9.1}\n\
             {:<52} {:>14.1} {:>9.1}\n\
             {:<52} {:>14.1} {:>9.1}\n\
             {:<52} {:>14.2} {:>9} {:>9}\n",
            format!("one stream, one message per request, window {window}"),
            "messages/s",
            "target",
            "",
            format!("  leveret PublishStream, fsync={fsync}"),
            thousands(stream.0),
            "  bare tonic stream",
            thousands(stream.1),
            "  ratio",
            stream_ratio,
            format!(">= {STREAM_TARGET}"),
            verdict(stream_ok),
            "  (the leanest bare stream that tonic allows)",
            thousands(lean),
            "one unary call at a time",
            "p50 us",
            "p99 us",
            format!("  leveret Publish, fsync={fsync}"),
            unary.0,
            unary.1,
            "  bare tonic unary call",
            bare.0,
            bare.1,
            "  bare fdatasync of a 4 KiB overwrite",
            sync.0,
            sync.1,
            "  Publish p50 / (bare p50 + fdatasync p50)",
            unary_ratio,
            format!("<= {UNARY_TARGET}"),
            verdict(unary_ok),
        );
        let _ = std::io::stdout().write_all(text.as_bytes());
        stream_ok && unary_ok
    }
}

/// The middle one, or the mean of the middle two.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
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
mod tests {
    use super::thousands;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(thousands(7.0), "7");
        assert_eq!(thousands(999.6), "1,000");
        assert_eq!(thousands(1_234_567.8), "1,234,568");
    }
}

//! What is wanted of Leveret, and whether a comparison shows it.

use super::report::Report;
use crate::peer::Kind;

/// Scenarios that the bars need.
pub(super) const NEEDED: [&str; 9] = [
    "publish-w1-100b",
    "publish-w2000-100b",
    "publish-w2000-1k",
    "publish-w2000-1m",
    "publish-connections-1000",
    "end-to-end-p2000",
    "latency-half",
    "grpc-1",
    "grpc-100",
];

/// Whether a bar needs this scenario.
pub(super) fn needs(scenario: &str) -> bool {
    NEEDED.contains(&scenario)
}

/// One thing that is wanted.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(super) struct Bar {
    pub(super) what: &'static str,
    /// In words.
    pub(super) wanted: String,
    /// None where a part of it was not measured.
    pub(super) found: Option<f64>,
    pub(super) met: Option<bool>,
}

/// Which way is better.
#[derive(Debug, Clone, Copy)]
enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// All of them.
pub(super) fn bars(report: &Report) -> Vec<Bar> {
    use Kind::{Bare, BareRequests, Classic, Disk, Floor, Leveret, Quorum};
    use Limit::{AtLeast, AtMost};
    let rate = |scenario: &str, peer| report.find(scenario, peer).map(|row| row.rate());
    let over = |scenario: &str, peer| Some(rate(scenario, Leveret)? / rate(scenario, peer)?);
    let latency = |scenario: &str, peer, quantile: fn(&super::measure::Latency) -> f64| {
        report.find(scenario, peer).and_then(|row| row.latency(quantile))
    };
    let latency_over = |quantile: fn(&super::measure::Latency) -> f64| {
        let scenario = "publish-w1-100b";
        Some(latency(scenario, Leveret, quantile)? / latency(scenario, Floor, quantile)?)
    };
    // The better of its two kinds of queue.
    let rabbitmq = |scenario: &str| match (rate(scenario, Classic), rate(scenario, Quorum)) {
        (Some(classic), Some(quorum)) => Some(classic.max(quorum)),
        (one, other) => one.or(other),
    };
    let many = report.find("publish-connections-1000", Leveret);
    let (publish, through) = ("publish-w2000-100b", "end-to-end-p2000");
    vec![
        bar("confirmed publish, window 2,000: of the floor", AtLeast(0.2), over(publish, Floor)),
        bar("the same: of RabbitMQ's quorum queues", AtLeast(12.0), over(publish, Quorum)),
        bar("the same: of RabbitMQ's classic queues", AtLeast(40.0), over(publish, Classic)),
        bar("confirmed publish, window 1: p50, of the floor's", AtMost(1.3), latency_over(|l| l.p50)),
        bar("the same: p99, of the floor's", AtMost(2.0), latency_over(|l| l.p99)),
        bar("end to end with manual acks: messages/s", AtLeast(400_000.0), rate(through, Leveret)),
        bar(
            "the same: of RabbitMQ's better kind of queue",
            AtLeast(8.0),
            rate(through, Leveret).zip(rabbitmq(through)).map(|(leveret, rabbitmq)| leveret / rabbitmq),
        ),
        bar(
            "the same at half the load: p99 in milliseconds",
            AtMost(5.0),
            latency("latency-half", Leveret, |l| l.p99).map(|us| us / 1000.0),
        ),
        bar("PublishStream, single messages: of a bare tonic stream", AtLeast(0.5), over("grpc-1", Bare)),
        bar("PublishStream, batches of 100: of a bare tonic stream", AtLeast(0.3), over("grpc-100", Bare)),
        // The bare stream's requests are bodies and no more, which the library takes apart in a moment; to tell what is
        // the library's part and what the broker's, there is one with the broker's requests beside it.
        bar(
            "single messages: of a bare tonic stream of the same requests",
            AtLeast(0.5),
            over("grpc-1", BareRequests),
        ),
        bar(
            "batches of 100: of a bare tonic stream of the same requests",
            AtLeast(0.3),
            over("grpc-100", BareRequests),
        ),
        bar(
            "1,000 connections and queues: of the one-queue figure",
            AtLeast(0.7),
            many.map(|row| row.rate()).zip(rate(publish, Leveret)).map(|(many, one)| many / one),
        ),
        bar(
            "the same: anonymous memory in MB",
            AtMost(400.0),
            many.map(|row| row.median(|run| run.memory as f64 / 1e6)),
        ),
        bar(
            "1 KiB bodies, window 2,000: of the floor's bytes/s",
            AtLeast(0.5),
            over("publish-w2000-1k", Floor),
        ),
        bar("1 MiB bodies: of the disk's sequential writes", AtLeast(0.6), over("publish-w2000-1m", Disk)),
    ]
}

fn bar(what: &'static str, limit: Limit, found: Option<f64>) -> Bar {
    let (wanted, is_met): (String, Box<dyn Fn(f64) -> bool>) = match limit {
        Limit::AtLeast(least) => (format!(">= {least}"), Box::new(move |found| found >= least)),
        Limit::AtMost(most) => (format!("<= {most}"), Box::new(move |found| found <= most)),
    };
    Bar { what, wanted, found, met: found.map(is_met) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::tests::{report, row};

    #[test]
    fn a_bar_is_met_missed_or_not_measured() {
        let report = report(vec![
            row("publish-w2000-100b", Kind::Floor, &[5e6, 4e6, 6e6]),
            row("publish-w2000-100b", Kind::Leveret, &[1e6, 0.9e6, 1.1e6]),
            row("publish-w2000-100b", Kind::Quorum, &[1e5]),
        ]);
        let bars = bars(&report);
        assert_eq!((bars[0].found, bars[0].met), (Some(0.2), Some(true)));
        assert_eq!((bars[1].found, bars[1].met), (Some(10.0), Some(false)));
        assert_eq!((bars[2].found, bars[2].met), (None, None));
        assert!(!report.is_met());
    }

    #[test]
    fn rabbitmqs_better_kind_counts() {
        let report = report(vec![
            row("end-to-end-p2000", Kind::Leveret, &[400_000.0]),
            row("end-to-end-p2000", Kind::Classic, &[40_000.0]),
            row("end-to-end-p2000", Kind::Quorum, &[80_000.0]),
        ]);
        let bars = bars(&report);
        let found: Vec<_> = bars.iter().filter_map(|bar| bar.found.zip(bar.met)).collect();
        assert_eq!(found, [(400_000.0, true), (5.0, false)]);
    }
}

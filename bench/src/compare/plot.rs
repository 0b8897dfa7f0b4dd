//! Plots as SVG: rates as bars, latencies as lines.

use std::path::Path;

use plotters::coord::combinators::{BindKeyPoints, IntoLogRange};
use plotters::prelude::*;

use super::measure::Latency;
use super::report::{Report, Row};
use crate::Error;
use crate::peer::Kind;

const SIZE: (u32, u32) = (960, 480);
const FONT: &str = "sans-serif";
/// Parts of the width that a group of bars, or a step of a line, takes: the axis has whole numbers.
const STEP: i32 = 1_000;
/// Names of latencies, from left to right.
const QUANTILES: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

/// A picture, the begins of the names of scenarios that go into it, and what it says above.
const RATES: [(&str, &[&str], &str); 8] = [
    (
        "windows",
        &["publish-w1-100b", "publish-w100-100b", "publish-w2000-100b"],
        "confirmed publish, 100 B, by window",
    ),
    ("bodies", &["publish-w2000-"], "confirmed publish, window 2,000, by body"),
    ("queues", &["publish-queues-"], "confirmed publish on one connection, by queues"),
    ("connections", &["publish-connections-"], "confirmed publish, by connections"),
    (
        "kinds",
        &["publish-topic", "publish-transient"],
        "confirmed publish through a topic exchange, and transient",
    ),
    ("end-to-end", &["end-to-end-", "settling"], "publish, deliver, ack"),
    ("fan-out", &["fan-out-"], "deliveries of a fanout exchange, by queues"),
    ("drain", &["drain-", "grpc-"], "backlogs, and gRPC"),
];
/// Scenarios whose latencies are drawn.
const LATENCIES: [&str; 3] = ["publish-w1-100b", "latency-half", "latency-5000"];

/// Draws what has been measured; names of the files.
pub(super) fn write(report: &Report, directory: &Path) -> Result<Vec<String>, Error> {
    let mut files = Vec::new();
    let mut put = |name: &str, picture: String| {
        let file = format!("{name}.svg");
        std::fs::write(directory.join(&file), picture)?;
        files.push(file);
        Ok::<(), Error>(())
    };
    for (name, begins, title) in RATES {
        let belongs = |row: &&Row| begins.iter().any(|begin| row.scenario.starts_with(begin));
        let rows: Vec<&Row> = report.measured().filter(belongs).collect();
        if !rows.is_empty() {
            put(name, bars(&format!("{title}: messages/s"), &rows)?)?;
        }
    }
    for name in LATENCIES {
        let timed = |row: &Row| Some((row.peer, quantiles(row)?));
        let lines: Vec<_> = report.measured().filter(|row| row.scenario == name).filter_map(timed).collect();
        if !lines.is_empty() {
            put(&format!("latency-{}", name.trim_start_matches("latency-")), self::lines(name, &lines)?)?;
        }
    }
    Ok(files)
}

fn quantiles(row: &Row) -> Option<[f64; 5]> {
    let each: [fn(&Latency) -> f64; 5] = [|l| l.p50, |l| l.p90, |l| l.p99, |l| l.p999, |l| l.max];
    let mut found = [0.0; 5];
    for (place, quantile) in found.iter_mut().zip(each) {
        *place = row.latency(quantile)?;
    }
    Some(found)
}

/// A group of bars for each scenario, on a logarithmic scale; to the right of them a fifth of the width for their legend.
fn bars(title: &str, rows: &[&Row]) -> Result<String, Error> {
    let mut names: Vec<&str> = rows.iter().map(|row| row.scenario.as_str()).collect();
    names.dedup();
    let mut peers: Vec<Kind> = rows.iter().map(|row| row.peer).collect();
    peers.sort();
    peers.dedup();
    let (least, most) = range(rows.iter().map(|row| row.rate()));
    let groups = names.len() as i32;
    let middles: Vec<i32> = (0..groups).map(|group| group * STEP + STEP / 2).collect();
    let label = |x: &i32| names.get((x / STEP) as usize).map_or_else(String::new, |name| (*name).to_owned());
    let mut picture = String::new();
    {
        let root = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(text)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, (FONT, 20))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(80)
            .build_cartesian_2d(
                (0..groups * STEP * 5 / 4).with_key_points(middles),
                (least..most).log_scale(),
            )
            .map_err(text)?;
        let (x_label, y_label) = (label, |y: &f64| crate::report::thousands(*y));
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_label_formatter(&x_label)
            .y_label_formatter(&y_label)
            .draw()
            .map_err(text)?;
        let width = STEP * 9 / 10 / peers.len() as i32;
        for (place, peer) in peers.iter().enumerate() {
            let color = color(*peer);
            let of_peer = rows.iter().filter(|row| row.peer == *peer).filter_map(|row| {
                let group = names.iter().position(|name| *name == row.scenario)? as i32;
                let left = group * STEP + STEP / 20 + place as i32 * width;
                Some(Rectangle::new([(left, least), (left + width * 9 / 10, row.rate())], color.filled()))
            });
            chart
                .draw_series(of_peer)
                .map_err(text)?
                .label(peer.name())
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 10, y + 5)], color.filled()));
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()
            .map_err(text)?;
        root.present().map_err(text)?;
    }
    Ok(picture)
}

/// A line for each peer, microseconds on a logarithmic scale.
fn lines(name: &str, each: &[(Kind, [f64; 5])]) -> Result<String, Error> {
    let (least, most) = range(each.iter().flat_map(|(_, values)| *values));
    let label =
        |x: &i32| QUANTILES.get((x / STEP) as usize).map_or_else(String::new, |name| (*name).to_owned());
    let mut picture = String::new();
    {
        let root = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(text)?;
        let most_place = (QUANTILES.len() as i32 - 1) * STEP;
        let places = (0..=most_place).step_by(STEP as usize).collect::<Vec<i32>>();
        let mut chart = ChartBuilder::on(&root)
            .caption(format!("{name}: latency in microseconds"), (FONT, 20))
            .margin(10)
            .x_label_area_size(30)
            .y_label_area_size(80)
            .build_cartesian_2d(
                (-STEP / 5..most_place + STEP / 5).with_key_points(places),
                (least..most).log_scale(),
            )
            .map_err(text)?;
        let (x_label, y_label) = (label, |y: &f64| crate::report::thousands(*y));
        chart
            .configure_mesh()
            .x_label_formatter(&x_label)
            .y_label_formatter(&y_label)
            .draw()
            .map_err(text)?;
        for (peer, values) in each {
            let color = color(*peer);
            let points = values.iter().enumerate().map(|(place, value)| (place as i32 * STEP, *value));
            chart
                .draw_series(LineSeries::new(points, color.stroke_width(2)))
                .map_err(text)?
                .label(peer.name())
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 15, y)], color.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()
            .map_err(text)?;
        root.present().map_err(text)?;
    }
    Ok(picture)
}

/// Powers of ten around all of them.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let sound = values.filter(|value| value.is_finite() && *value > 0.0);
    let (least, most) = sound.fold((f64::INFINITY, 1.0), |(l, m): (f64, f64), v| (l.min(v), m.max(v)));
    (10f64.powf(least.min(most).log10().floor() - 0.001), 10f64.powf(most.log10().ceil().max(1.0)))
}

fn color(peer: Kind) -> RGBColor {
    match peer {
        Kind::Disk => RGBColor(60, 60, 60),
        Kind::Floor | Kind::Bare => RGBColor(150, 150, 150),
        Kind::BareRequests => RGBColor(190, 190, 190),
        Kind::Leveret => RGBColor(30, 100, 200),
        Kind::Classic => RGBColor(255, 150, 60),
        Kind::Quorum => RGBColor(210, 80, 20),
        Kind::Nats => RGBColor(60, 160, 90),
        Kind::Redis => RGBColor(180, 40, 60),
    }
}

/// The library's errors borrow what they are about.
fn text(error: impl std::fmt::Display) -> Error {
    error.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::report::tests::{report, row};

    #[test]
    fn a_picture_has_a_bar_for_each_row_and_a_name_for_each_group() {
        let rows = [
            row("publish-w1-100b", Kind::Leveret, &[4_000.0]),
            row("publish-w2000-100b", Kind::Leveret, &[1e6]),
            row("publish-w2000-100b", Kind::Classic, &[2e4]),
        ];
        let picture = bars("rates", &rows.iter().collect::<Vec<_>>()).unwrap();
        let count = |what: &str| picture.matches(what).count();
        // Two bars and one square of the legend; one and one.
        assert_eq!((count("#1E64C8"), count("#FF963C")), (3, 2));
        for name in ["publish-w1-100b", "publish-w2000-100b", "RabbitMQ classic", "1,000,000"] {
            assert!(picture.contains(name), "{name} is not in {picture}");
        }
    }

    #[test]
    fn only_what_was_measured_is_drawn() {
        let directory = tempfile::tempdir().unwrap();
        let files = |rows| write(&report(rows), directory.path()).unwrap();
        assert!(files(vec![row("publish-w1-100b", Kind::Leveret, &[])]).is_empty());
        let found = files(vec![row("publish-w1-100b", Kind::Leveret, &[4_000.0])]);
        assert_eq!(found, ["windows.svg", "latency-publish-w1-100b.svg"]);
        let picture = std::fs::read_to_string(directory.path().join(&found[1])).unwrap();
        assert!(picture.contains("p99.9") && picture.contains("polyline"));
    }
}

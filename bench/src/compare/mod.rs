//! `compare`: Leveret beside the floor and beside other brokers, in turns, in one go.

mod amqp;
mod bars;
mod measure;
mod plot;
mod report;
mod scenario;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::Error;
use crate::child;
use crate::machine::{Disk, Machine};
use crate::peer::{Kind, Setup, Stage};
use measure::{Meters, Outcome};
use report::{Report, Row};
use scenario::Scenario;

/// How long the disk is looked at before anything is started.
const REST: Duration = Duration::from_secs(1);

/// A signal has come.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// How the comparison runs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// What to measure: names, or begins of names; all of it where nothing is named.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    scenario: Vec<String>,
    /// Only what the bars are about.
    #[arg(long)]
    bars: bool,
    /// Fail when a bar is missed.
    #[arg(long)]
    check: bool,
    /// Print the names of the scenarios and end.
    #[arg(long)]
    list: bool,
    /// Only these peers.
    #[arg(long, value_enum, num_args = 1..)]
    peer: Vec<Kind>,
    /// Runs of each scenario; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds of each run that count, behind a warm-up of half a second.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// A run while which the host took more than this part of the processors' time is made again.
    #[arg(long, default_value_t = 0.015)]
    stolen_max: f64,
    /// So often at most; the run of which least was taken counts.
    #[arg(long, default_value_t = 3)]
    again: usize,
    /// Messages of the backlog that is drained.
    #[arg(long, default_value_t = 200_000)]
    backlog: u64,
    /// Leveret's fsync policy.
    #[arg(long, default_value = "always")]
    fsync: String,
    /// Directory on the disk to be measured; new ones below it are used and removed. Default: the build directory.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Directory for compare.md, compare.json and the plots. Default: compare in the build directory.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Measures, writes and prints; false when `--check` is given and a bar is missed.
pub(crate) async fn run(arguments: Arguments) -> Result<bool, Error> {
    // The load is one thread that blocks.
    let mut compared =
        tokio::task::spawn_blocking(move || compare(&arguments).map_err(|error| error.to_string()));
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        outcome = &mut compared => return Ok(outcome??),
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    // What was started ends, and its files go, with the values on that thread.
    INTERRUPTED.store(true, Ordering::Relaxed);
    Ok(compared.await??)
}

#[expect(clippy::print_stdout, reason = "the report is what the program is for")]
fn compare(arguments: &Arguments) -> Result<bool, Error> {
    let scenarios = chosen(arguments)?;
    if arguments.list {
        scenarios.iter().for_each(|Scenario { name, title, .. }| println!("{name:26} {title}"));
        return Ok(true);
    }
    raise_limits();
    let parent = arguments.data_dir.clone().unwrap_or_else(child::target);
    std::fs::create_dir_all(&parent)?;
    let out = arguments.out.clone().unwrap_or_else(|| child::target().join("compare"));
    std::fs::create_dir_all(&out)?;
    let rest = Disk::of(&parent)?.flushes_at_rest(REST);
    let mut report = Report::new(Machine::of(&parent)?, arguments.runs, arguments.seconds, rest);
    for scenario in &scenarios {
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        // What fails takes no other scenario with it, and is told.
        if let Err(error) = one(scenario, arguments, &parent, &mut report) {
            report.fail(scenario, &error.to_string());
        }
        // After each of them: a comparison takes long, and may be cut off.
        report.write(&out)?;
    }
    println!("{}", report.markdown());
    eprintln!("written to {}", out.display());
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Err("interrupted".into());
    }
    Ok(!arguments.check || report.is_met())
}

/// Runs a scenario: its peers in turns, again and again.
fn one(scenario: &Scenario, arguments: &Arguments, parent: &Path, report: &mut Report) -> Result<(), Error> {
    let directory = tempfile::Builder::new().prefix("leveret-bench-").tempdir_in(parent)?;
    let setup = Setup {
        directory: directory.path().to_owned(),
        fsync: arguments.fsync.clone(),
        settings: scenario.settings(),
    };
    let wanted = |kind: &Kind| arguments.peer.is_empty() || arguments.peer.contains(kind);
    let kinds: Vec<Kind> = scenario.kinds().into_iter().filter(wanted).collect();
    let mut stage = Stage::start(setup, &kinds);
    stage.left_out.iter().for_each(|kind| report.leave_out(*kind));
    // Who fails takes nobody with it.
    stage.failed.iter().for_each(|(kind, error)| report.fail(scenario, &format!("{}: {error}", kind.name())));
    let mut peers = stage.peers.clone();
    peers.retain(|peer| match measure::declare(peer, scenario.work) {
        Ok(()) => true,
        Err(error) => {
            report.fail(scenario, &format!("{}: {error}", peer.kind.name()));
            false
        }
    });
    let meters = Meters { disk: Disk::of(directory.path())?, seconds: arguments.seconds };
    let mut rows: Vec<Row> = peers.iter().map(|peer| report.row(scenario, peer)).collect();
    for run in 1..=arguments.runs {
        for (peer, row) in peers.iter().zip(&mut rows) {
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Err("interrupted".into());
            }
            match quietest(arguments, || meters.run(&mut stage, peer.kind, scenario)) {
                Ok(outcome) => {
                    eprintln!(
                        "{} run {run} of {}: {}: {outcome}",
                        scenario.name,
                        arguments.runs,
                        peer.kind.name()
                    );
                    row.runs.push(outcome);
                }
                Err(error) => {
                    eprintln!("{} run {run}: {}: {error}", scenario.name, peer.kind.name());
                    row.failures.push(error.to_string());
                }
            }
        }
    }
    report.add(rows);
    Ok(())
}

/// The first run that the host left alone, or the one that it disturbed least: what it takes is in no peer's hands.
fn quietest(
    arguments: &Arguments,
    mut run: impl FnMut() -> Result<Outcome, Error>,
) -> Result<Outcome, Error> {
    let mut best = run()?;
    for _ in 0..arguments.again {
        if best.stolen <= arguments.stolen_max || INTERRUPTED.load(Ordering::Relaxed) {
            break;
        }
        eprintln!("made again: {best}");
        let next = run()?;
        if next.stolen < best.stolen {
            best = next;
        }
    }
    Ok(best)
}

/// Those that were asked for.
fn chosen(arguments: &Arguments) -> Result<Vec<Scenario>, Error> {
    let mut all = named(scenario::all(arguments.backlog), &arguments.scenario)?;
    all.retain(|scenario| !arguments.bars || bars::needs(&scenario.name));
    Ok(all)
}

/// Those of these names; a name that is no scenario's means all that begin so. Without names, all.
fn named(all: Vec<Scenario>, names: &[String]) -> Result<Vec<Scenario>, Error> {
    let means = |name: &str, scenario: &str| match all.iter().any(|one| one.name == name) {
        true => scenario == name,
        false => scenario.starts_with(name),
    };
    if let Some(name) = names.iter().find(|name| !all.iter().any(|one| means(name, &one.name))) {
        return Err(format!("there is no scenario {name:?}; --list tells which there are").into());
    }
    let wanted = |one: &Scenario| names.is_empty() || names.iter().any(|name| means(name, &one.name));
    Ok(all.iter().filter(|one| wanted(one)).cloned().collect())
}

/// A thousand connections need more files than a process has by default; what it starts inherits the limit.
fn raise_limits() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Where it is refused, the scenario says so.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_name_means_itself_and_a_part_all_that_begin_so() {
        let names = |asked: &[&str]| -> Vec<String> {
            let asked: Vec<String> = asked.iter().map(|name| (*name).to_owned()).collect();
            named(scenario::all(1), &asked).unwrap().into_iter().map(|one| one.name).collect()
        };
        assert_eq!(names(&["fan-out-1"]), ["fan-out-1"]);
        assert_eq!(names(&["fan-out", "grpc-1"]), ["fan-out-1", "fan-out-10", "fan-out-100", "grpc-1"]);
        assert_eq!(names(&[]).len(), scenario::all(1).len());
        assert!(named(scenario::all(1), &["nothing".into()]).is_err());
    }

    #[test]
    fn a_run_that_the_host_disturbed_is_made_again_and_the_quietest_counts() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: Arguments,
        }
        let line = |again| {
            let line = ["x", "--stolen-max", "0.02", "--again", again];
            <Line as clap::Parser>::parse_from(line).arguments
        };
        let quietest_of = |again, stolen: &[f64]| {
            let mut left = stolen.iter().copied();
            let run = || left.next().map(report::tests::outcome_stolen).ok_or_else(|| "none left".into());
            let outcome = quietest(&line(again), run).unwrap();
            (outcome.stolen, left.count())
        };
        assert_eq!(quietest_of("3", &[0.01, 0.0]), (0.01, 1), "nobody disturbed it");
        assert_eq!(quietest_of("3", &[0.09, 0.2, 0.02, 0.0]), (0.02, 1));
        assert_eq!(quietest_of("2", &[0.09, 0.05, 0.07, 0.0]), (0.05, 1), "the least of them");
        assert_eq!(quietest_of("0", &[0.09, 0.0]), (0.09, 1));
    }

    #[test]
    fn each_scenario_has_its_own_name_and_the_bars_name_scenarios() {
        let mut names: Vec<String> = scenario::all(1).into_iter().map(|one| one.name).collect();
        assert!(bars::NEEDED.iter().all(|name| names.iter().any(|one| one == name)));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

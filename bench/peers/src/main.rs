//! Durable appends of Leveret's engine beside those of other storage engines, through the public API of each, in turns, in
//! one go.

mod desk;
mod load;
#[allow(dead_code, reason = "the benchmarks' own, of which not all is needed here")]
#[path = "../../src/machine.rs"]
mod machine;
mod peer;
mod report;
mod sync;
mod versions;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use load::{Load, Place};
use machine::{Disk, Machine};
use peer::Kind;
use report::{Report, Row, thousands};

/// What ends the benchmark early.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long the disk is looked at before anything is started.
const REST: Duration = Duration::from_secs(1);

/// Durable appends of Leveret's engine beside those of other storage engines.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only these; the bare loop is always measured.
    #[arg(long, value_enum, num_args = 1..)]
    peer: Vec<Kind>,
    /// Threads that append.
    #[arg(long, num_args = 1.., default_values_t = [1, 16, 64])]
    writers: Vec<usize>,
    /// Bytes of a record.
    #[arg(long, num_args = 1.., default_values_t = [100, 1024])]
    bytes: Vec<usize>,
    /// Runs of each row; the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds of each run that count.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Directory on the disk to be measured; new ones below it are used and removed.
    #[arg(long, default_value = "target")]
    data_dir: PathBuf,
    /// Directory for peers.md and peers.json.
    #[arg(long, default_value = "target/peers")]
    out: PathBuf,
    /// Processor on which a writer that is alone runs.
    #[arg(long)]
    cpu: Option<usize>,
    /// Fail unless Leveret is ahead of every peer under every load.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    match compare(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, writes and prints; false when `--check` is given and Leveret is not ahead.
#[expect(clippy::print_stdout, reason = "the report is what the program is for")]
fn compare(arguments: &Arguments) -> Result<bool, Error> {
    std::fs::create_dir_all(&arguments.data_dir)?;
    std::fs::create_dir_all(&arguments.out)?;
    let at_rest = Disk::of(&arguments.data_dir)?.flushes_at_rest(REST);
    let mut report = Report {
        machine: Machine::of(&arguments.data_dir)?,
        runs: arguments.runs,
        seconds: arguments.seconds,
        flushes_at_rest: at_rest,
        rows: Vec::new(),
        left_out: Vec::new(),
    };
    for &bytes in &arguments.bytes {
        for &writers in &arguments.writers {
            one(Load { writers, bytes }, arguments, &mut report);
            // After each of them: a comparison takes long, and may be cut off.
            report.write(&arguments.out)?;
        }
    }
    println!("{}", report.markdown());
    eprintln!("written to {}", arguments.out.display());
    Ok(!arguments.check || report.is_ahead())
}

/// One load: the peers in turns, again and again.
fn one(load: Load, arguments: &Arguments, report: &mut Report) {
    let wanted =
        |kind: &Kind| arguments.peer.is_empty() || arguments.peer.contains(kind) || *kind == Kind::Bare;
    let mut rows = Vec::new();
    for kind in peer::ALL.into_iter().filter(wanted) {
        match kind.left_out(load.writers) {
            None => rows.push(Row::new(kind, load)),
            Some(why) => {
                let told = format!("{} ({why})", kind.name());
                if !report.left_out.contains(&told) {
                    report.left_out.push(told);
                }
            }
        }
    }
    for run in 1..=arguments.runs {
        for row in &mut rows {
            let told = format!("{} x {} bytes, run {run}, {}", load.writers, load.bytes, row.name);
            // Who fails takes nobody with it, and is told.
            match in_new_directory(row.peer, load, arguments) {
                Ok(outcome) => {
                    eprintln!("{told}: {}/s, p50 {:.0} us", thousands(outcome.rate), outcome.p50);
                    row.runs.push(outcome);
                }
                Err(error) => {
                    eprintln!("{told}: {error}");
                    row.failures.push(error.to_string());
                }
            }
            row.version = row.peer.version();
        }
    }
    report.rows.extend(rows);
}

fn in_new_directory(kind: Kind, load: Load, arguments: &Arguments) -> Result<load::Outcome, Error> {
    let directory = tempfile::Builder::new().prefix("peers-").tempdir_in(&arguments.data_dir)?;
    let Arguments { seconds, cpu, .. } = *arguments;
    load::run(kind, load, Place { seconds, directory: directory.path(), cpu })
}

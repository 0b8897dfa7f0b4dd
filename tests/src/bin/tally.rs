//! `tally`: adds up the output of `cargo test` and holds it against tests/expected.toml.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use leveret_tests::binary::workspace;
use leveret_tests::tally::{Expected, Outcome, Tally};

/// Adds up test output; the last line is "N passed, N failed, N skipped".
#[derive(Debug, Parser)]
struct Arguments {
    /// Files with the output of `cargo test`.
    logs: Vec<PathBuf>,
    /// File with the skips that tests reported.
    #[arg(long)]
    skips: Option<PathBuf>,
    /// Do not compare with expected.toml: part of the tests was left out on purpose.
    #[arg(long)]
    partial: bool,
    /// Write expected.toml from this run.
    #[arg(long)]
    write_expected: bool,
    /// Things that failed outside the tests, as a broken build.
    #[arg(long, default_value_t = 0)]
    failures: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let skips = arguments.skips.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    let mut tally = Tally::default();
    for log in &arguments.logs {
        match fs::read(log) {
            Ok(output) => tally.add(&String::from_utf8_lossy(&output), &skips),
            Err(error) => {
                eprintln!("{}: {error}", log.display());
                return ExitCode::FAILURE;
            }
        }
    }
    let path = workspace().join("tests/expected.toml");
    let expected = Expected::read(&path);
    if arguments.write_expected
        && let Err(error) = fs::write(&path, tally.as_expected(expected.as_ref().ok()))
    {
        eprintln!("{}: {error}", path.display());
    }
    let differences = match &expected {
        _ if arguments.partial || arguments.write_expected => Vec::new(),
        Ok(expected) => tally.differences(expected),
        Err(error) => vec![error.clone()],
    };
    let mut out = std::io::stdout();
    let _ = write!(out, "\n{tally}{skips}");
    for difference in &differences {
        let _ = writeln!(out, "DIFFERENT {difference}");
    }
    let Outcome { passed, failed, skipped, .. } = tally.total();
    let failed = failed + arguments.failures + differences.len();
    let _ = writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

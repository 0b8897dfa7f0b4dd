//! `power`: cuts the power below the real server again and again under load and checks what comes back.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use leveret_tests::crash::{Death, Protocol, Settings, run};
use leveret_tests::faultfs::{Lie, missing};

/// Power losses of the real server under load, on a file system of our own, checked against I1 to I7. Needs /dev/fuse and
/// the right to mount.
#[derive(Debug, Parser)]
struct Arguments {
    /// Power losses under load.
    #[arg(long, default_value_t = 20)]
    losses: u64,
    /// Seed of moments, sizes, habits and of what is left; chosen anew when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Confirms before each loss.
    #[arg(long, default_value_t = 500)]
    confirms: u64,
    /// Losses between two complete drains.
    #[arg(long, default_value_t = 5)]
    drain_every: u64,
    /// Which front ends the clients use.
    #[arg(long, value_enum, default_value = "mixed")]
    protocol: Protocol,
    /// Syncs that are answered and do nothing: a control, which must end in a violation.
    #[arg(long, value_enum)]
    lie: Option<Lie>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(why) = missing() {
        eprintln!("cannot mount: {why}");
        return ExitCode::FAILURE;
    }
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let lie = arguments.lie.unwrap_or_default();
    let settings = Settings {
        confirms_min: arguments.confirms,
        drain_every: arguments.drain_every,
        protocol: arguments.protocol,
        death: Death::PowerLoss { lie },
        ..Settings::new(arguments.losses, seed)
    };
    let mut out = std::io::stdout();
    let _ = writeln!(out, "seed {seed}, {:?}", settings.protocol);
    let started = Instant::now();
    let outcome = run(&settings, |report| {
        if report.cycles % 10 == 0 {
            let confirmed = report.checked.confirmed;
            eprintln!(
                "{} losses under load, {confirmed} confirms, {} in recovery",
                report.cycles, report.kills_in_recovery
            );
        }
    })
    .await;
    match outcome {
        Ok(report) => {
            let trials = report.losses.map_or(0, |losses| losses.losses);
            // Rule of three: no failure in n trials bounds the rate at 3/n with 95% confidence.
            let bound = 300.0 / trials as f64;
            let seconds = started.elapsed().as_secs_f64();
            let _ = writeln!(
                out,
                "{report}\nno violation in {trials} power losses (rate below {bound:.2}% at 95%), {seconds:.0} s"
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(out, "FAILED with seed {seed}: {failure}");
            ExitCode::FAILURE
        }
    }
}

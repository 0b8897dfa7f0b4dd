//! `crash`: kills the real server again and again under load and checks what comes back.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use leveret_tests::crash::{Death, Protocol, Settings, run};
use leveret_tests::faultfs::missing;
use leveret_tests::server::Options;

/// kill -9 of the real server under load, checked against I1 to I7.
#[derive(Debug, Parser)]
struct Arguments {
    /// Kills under load.
    #[arg(long, default_value_t = 60)]
    cycles: u64,
    /// Seed of delays, sizes and habits; chosen anew when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Confirms before each kill.
    #[arg(long, default_value_t = 500)]
    confirms: u64,
    /// Cycles between two complete drains.
    #[arg(long, default_value_t = 5)]
    drain_every: u64,
    /// Which front ends the clients use.
    #[arg(long, value_enum, default_value = "grpc")]
    protocol: Protocol,
    /// Kills at named points: before and after the calls that decide what the next start finds. Needs /dev/fuse and the
    /// right to mount.
    #[arg(long)]
    points: bool,
    /// The server's fsync policy.
    #[arg(long, default_value = "always")]
    fsync: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let (true, Some(why)) = (arguments.points, missing()) {
        eprintln!("cannot mount: {why}");
        return ExitCode::FAILURE;
    }
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let options = Options { fsync: arguments.fsync, ..Options::default() };
    let settings = Settings {
        confirms_min: arguments.confirms,
        drain_every: arguments.drain_every,
        protocol: arguments.protocol,
        death: if arguments.points { Death::KillAtPoints } else { Death::Kill },
        options,
        ..Settings::new(arguments.cycles, seed)
    };
    let mut out = std::io::stdout();
    let _ = writeln!(out, "seed {seed}, {:?}, fsync {}", settings.protocol, settings.options.fsync);
    let started = Instant::now();
    let outcome = run(&settings, |report| {
        if report.cycles % 10 == 0 {
            let checked = &report.checked;
            eprintln!(
                "{} cycles, {} confirms, {} in recovery",
                report.cycles, checked.confirmed, report.kills_in_recovery
            );
        }
    })
    .await;
    match outcome {
        Ok(report) => {
            let trials = report.kills_under_load + report.kills_in_recovery + report.kills_after_recovery;
            // Rule of three: no failure in n trials bounds the rate at 3/n with 95% confidence.
            let bound = 300.0 / trials as f64;
            let seconds = started.elapsed().as_secs_f64();
            let _ = writeln!(
                out,
                "{report}\nno violation in {trials} kills (rate below {bound:.2}% at 95%), {seconds:.0} s"
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(out, "FAILED with seed {seed}: {failure}");
            ExitCode::FAILURE
        }
    }
}

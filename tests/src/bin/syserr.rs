//! `syserr`: makes system calls of the real server fail under load and checks what comes of it.

use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use leveret_tests::crash::{Death, Protocol, Settings, run};
use leveret_tests::faultfs::missing;

/// Errors of system calls (EIO, ENOSPC, EDQUOT, short writes, a full disk) of the real server under load, on a file system of
/// our own, checked against I1 to I7. Needs /dev/fuse and the right to mount.
#[derive(Debug, Parser)]
struct Arguments {
    /// Lives with an error.
    #[arg(long, default_value_t = 10)]
    errors: u64,
    /// Seed of errors, sizes and habits; chosen anew when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Confirms before each error.
    #[arg(long, default_value_t = 500)]
    confirms: u64,
    /// A control: syncs of the log fail and say that they went well.
    #[arg(long)]
    unsaid: bool,
    /// Which front ends the clients use.
    #[arg(long, value_enum, default_value = "mixed")]
    protocol: Protocol,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(why) = missing() {
        eprintln!("cannot mount: {why}");
        return ExitCode::FAILURE;
    }
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let settings = Settings {
        confirms_min: arguments.confirms,
        protocol: arguments.protocol,
        death: Death::Errors { unsaid: arguments.unsaid },
        ..Settings::new(arguments.errors, seed)
    };
    let mut out = std::io::stdout();
    let _ = writeln!(out, "seed {seed}, {:?}", settings.protocol);
    let started = Instant::now();
    match run(&settings, |_| ()).await {
        Ok(report) => {
            let trials = report.errors.map_or(0, |errors| errors.met);
            // Rule of three: no failure in n trials bounds the rate at 3/n with 95% confidence.
            let bound = 300.0 / trials as f64;
            let seconds = started.elapsed().as_secs_f64();
            let _ = writeln!(
                out,
                "{report}\nno violation in {trials} lives with errors (rate below {bound:.2}% at 95%), {seconds:.0} s"
            );
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(out, "FAILED with seed {seed}: {failure}");
            ExitCode::FAILURE
        }
    }
}

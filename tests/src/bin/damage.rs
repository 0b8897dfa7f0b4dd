//! Damages stores at random: `cargo run --release -p leveret-tests --features damage --bin damage -- --damages 5000`.
//! A damage that breaks an invariant is printed; `--from NUMBER --damages 1` repeats it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use leveret_tests::damage::{Reached, Together, campaign, controls, show};

#[derive(Parser)]
struct Args {
    /// First damage.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Damages to try; for each deliberate bug at most so many.
    #[arg(long, default_value_t = 1_000)]
    damages: u64,
    /// Stop after so many seconds.
    #[arg(long, default_value_t = 86_400)]
    seconds: u64,
    /// Threads that try them.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Switch every deliberate bug on that damage brings to light; each must be caught.
    #[arg(long)]
    controls: bool,
    /// Also several damages at once to what a start needs. Not everything is told exactly then.
    #[arg(long)]
    anything: bool,
    /// Only say what the first damage does, and what a check says of it.
    #[arg(long)]
    show: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let together = if args.anything { Together::Anything } else { Together::OneVital };
    let result = if args.show {
        Ok(show(args.from, together))
    } else if args.controls {
        controls(args.from, args.damages).map(|lines| lines.join("\n"))
    } else {
        let reached = campaign(args.from, args.damages, together, until, args.threads);
        reached.map(|reached: Reached| reached.to_string())
    };
    match result {
        Ok(text) => {
            eprintln!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

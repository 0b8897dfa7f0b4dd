//! Runs the simulator over many seeds: `cargo run --release -p leveret-tests --features sim --bin sim -- --seeds 1000`.
//! A seed that breaks an invariant is printed; `--from SEED --seeds 1` replays it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use leveret_tests::sim::{Reached, campaign, controls};

#[derive(Parser)]
struct Args {
    /// First seed.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Seeds to run: 1,000 unless given; for each deliberate bug at most 8,000, which the rarest needs.
    #[arg(long)]
    seeds: Option<u64>,
    /// Stop after so many seconds.
    #[arg(long, default_value_t = 86_400)]
    seconds: u64,
    /// Switch every deliberate bug on, one after the other; each must be caught.
    #[arg(long)]
    controls: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let result = if args.controls {
        controls(args.from, args.seeds.unwrap_or(8_000)).map(|lines| lines.join("\n"))
    } else {
        campaign(args.from, args.seeds.unwrap_or(1_000), until, 2).map(|reached: Reached| reached.to_string())
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

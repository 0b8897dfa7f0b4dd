//! Feeds every parser inputs like those of its corpus: `cargo run --release -p leveret-tests --features sim --bin formats --
//! --inputs 10000000`. One that falls is printed; `--from NUMBER --inputs 1` repeats it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use leveret_tests::formats::{Reached, Watched, campaign};

#[global_allocator]
static ALLOCATOR: Watched = Watched;

#[derive(Parser)]
struct Args {
    /// First input.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Inputs, over all parsers.
    #[arg(long, default_value_t = 100_000)]
    inputs: u64,
    /// Stop after so many seconds.
    #[arg(long, default_value_t = 86_400)]
    seconds: u64,
    /// Threads that feed them.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let until = Instant::now() + Duration::from_secs(args.seconds);
    match campaign(args.from, args.inputs, until, args.threads).map(|reached: Reached| reached.to_string()) {
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

//! Every crash point: `cargo run --release -p leveret-tests --features sim --bin points`. A script of some 60 operations,
//! crashed before and after every call of the disk, with the states that each crash may leave, and again while the server
//! starts on them. What fails is printed; `--variant V --from POINT --points 1` with the same size repeats it.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use leveret_tests::sim::Bug;
use leveret_tests::sim::points::{Plan, Report, controls, run};

#[derive(Parser)]
struct Args {
    /// First variant: it decides sizes, names, and how far the workers get between two operations.
    #[arg(long, default_value_t = 1)]
    variant: u64,
    /// Variants to run.
    #[arg(long, default_value_t = 1)]
    variants: u64,
    /// First point, in the first variant.
    #[arg(long, default_value_t = 0)]
    from: usize,
    /// Points of each variant, at most.
    #[arg(long)]
    points: Option<usize>,
    /// States of each point, at most: 8 unless given, or 4,096 with --full.
    #[arg(long)]
    states: Option<usize>,
    /// 4,096 states of every point, and more of those that crashes in the next starts leave.
    #[arg(long)]
    full: bool,
    /// Begin no other point after so many states.
    #[arg(long, default_value_t = u64::MAX)]
    trials: u64,
    /// Begin no other point after so many seconds.
    #[arg(long, default_value_t = 86_400)]
    seconds: u64,
    /// Switch every deliberate bug on, one after the other, for so many variants at most; says which are caught.
    #[arg(long)]
    controls: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let begun = Instant::now();
    let until = begun + Duration::from_secs(args.seconds);
    let mut plan = if args.full { Plan::full(args.variant, until) } else { Plan::ci(args.variant, until) };
    plan.from = args.from;
    plan.points = args.points.unwrap_or(plan.points);
    plan.states = args.states.unwrap_or(plan.states);
    plan.trials = args.trials;
    if args.controls {
        return controlled(&plan, args.variants);
    }
    let mut sum = Report::default();
    let mut whole = true;
    for variant in args.variant..args.variant + args.variants {
        match run(&Plan { variant, ..plan }) {
            Ok(report) => {
                whole &= plan.from == 0 && report.next.is_none();
                sum.add(&report);
                let next = report.next.map_or_else(|| "none".to_owned(), |point| point.to_string());
                eprintln!("variant {variant}: {} states, next point: {next}", report.trials());
            }
            Err(text) => {
                eprintln!("{text}");
                return ExitCode::FAILURE;
            }
        }
        plan.from = 0;
    }
    eprintln!("in {:.0} s: {sum}", begun.elapsed().as_secs_f64());
    if let (true, Err(text)) = (whole, sum.floors()) {
        eprintln!("{text}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Not every bug is one that a crash shows: this fails only when none is caught.
fn controlled(plan: &Plan, variants: u64) -> ExitCode {
    let (caught, missed) = controls(Bug::all(), plan, variants);
    eprintln!("{}\n{}", caught.join("\n"), missed.join("\n"));
    if caught.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

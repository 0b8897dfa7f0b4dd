//! `prove`: runs the layers of tests that attack the durability claim, in rounds, and adds them up in a ledger.

use std::fs;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use leveret_tests::binary::workspace;
use leveret_tests::proof::{Entry, Layer, Ledger, Scale, bound_percent};

/// Attacks the durability claim: model, simulator, crash points, kill -9, power losses, failing system calls and scenarios. Every round goes
/// into tests/proof/ledger.jsonl, and what is there already for today's code is not run again: the same command continues.
#[derive(Debug, Parser)]
struct Arguments {
    /// Layers to run; all of them unless given.
    layers: Vec<Layer>,
    /// How much of each: as much as CI runs, or as is published.
    #[arg(long, value_enum, default_value = "ci")]
    scale: Scale,
    /// First seed; one that the ledger has not seen unless given. With it, a round is run whatever the ledger says.
    #[arg(long)]
    seed: Option<u64>,
    /// Stop after so many minutes, which the layers share.
    #[arg(long)]
    minutes: Option<u64>,
    /// Only says what the ledger adds up to.
    #[arg(long)]
    summary: bool,
}

/// Rounds in a row that may reach too little.
const VOID_MAX: u32 = 5;

#[tokio::main]
async fn main() -> ExitCode {
    match go(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

async fn go(arguments: &Arguments) -> Result<bool, String> {
    let ledger = Ledger::of(&workspace());
    let layers = if arguments.layers.is_empty() { Layer::ALL.to_vec() } else { arguments.layers.clone() };
    let mut whole = true;
    if !arguments.summary {
        let commit = ledger.commit()?;
        if commit.ends_with('+') {
            eprintln!(
                "there are changes that are not committed: what is run now does not count in the ledger's sums"
            );
        }
        let begun = Instant::now();
        for (index, layer) in layers.iter().enumerate() {
            // What one layer leaves of its share, the next ones have.
            let until = arguments.minutes.map(|minutes| {
                let left = Duration::from_secs(minutes * 60).saturating_sub(begun.elapsed());
                Instant::now() + left / (layers.len() - index) as u32
            });
            whole &= attack(&ledger, &commit, *layer, arguments, until).await?;
        }
    }
    whole &= summary(&ledger, &layers, arguments.scale)?;
    Ok(whole)
}

/// Runs rounds of a layer until there are enough, or its time is over. False after a violation.
async fn attack(
    ledger: &Ledger,
    commit: &str,
    layer: Layer,
    arguments: &Arguments,
    until: Option<Instant>,
) -> Result<bool, String> {
    if let Some(why) = layer.missing() {
        eprintln!("{}: left out: {why}", layer.name());
        return Ok(false);
    }
    let sum = ledger.sums()?.get(&layer).copied().unwrap_or_default();
    let mut seed = arguments.seed.unwrap_or(sum.seed_max + 1);
    let (mut trials, mut confirms, mut void) = (sum.trials, sum.confirms, 0);
    if arguments.seed.is_some() {
        (trials, confirms) = (0, 0);
    }
    let (wanted, confirms_wanted) = (layer.wanted(arguments.scale), layer.confirms_wanted(arguments.scale));
    while trials < wanted || confirms < confirms_wanted {
        if until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
        let count = layer.round().min(wanted.saturating_sub(trials).max(1));
        let begun = Instant::now();
        let round = layer.run(seed, count, !cfg!(debug_assertions)).await?;
        if let Some(text) = round.void {
            eprintln!("{}: a round that does not count: {text}", layer.name());
            void += 1;
            if void == VOID_MAX {
                return Err(format!("{}: {void} rounds in a row reached too little to count", layer.name()));
            }
            seed += count;
            continue;
        }
        void = 0;
        let violations = u64::from(round.violation.is_some());
        let (commit, trials_made) = (commit.to_owned(), round.trials);
        ledger.add(&Entry {
            commit,
            layer,
            seed,
            trials: trials_made,
            confirms: round.confirms,
            violations,
            seconds: begun.elapsed().as_secs(),
            next: round.next,
        })?;
        trials += trials_made;
        confirms += round.confirms;
        eprintln!(
            "{}: {trials} of {wanted} {}, {confirms} confirms, the last round in {:.0} s",
            layer.name(),
            layer.trial(),
            begun.elapsed().as_secs_f64()
        );
        if let Some(text) = round.violation {
            eprintln!("{}: VIOLATION: {text}", layer.name());
            keep(&format!("{layer:?}-{seed}.txt"), &text)?;
            return Ok(false);
        }
        seed = round.next.unwrap_or(seed + count.max(trials_made));
    }
    Ok(true)
}

/// Writes a failure's whole text where it stays: seeds do not decide the timing, so that it may not come again soon.
fn keep(name: &str, text: &str) -> Result<(), String> {
    let path = workspace().join("target/proof").join(name);
    let fault = |error: std::io::Error| format!("{}: {error}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(fault)?;
    fs::write(&path, text).map_err(fault)?;
    eprintln!("that is in {}, too", path.display());
    Ok(())
}

/// The table; false where a layer lacks trials or has violations.
fn summary(ledger: &Ledger, layers: &[Layer], scale: Scale) -> Result<bool, String> {
    let sums = ledger.sums()?;
    let mut out = std::io::stdout().lock();
    let _ = writeln!(
        out,
        "\n| layer | trials | of | confirms | hours | violations | rate below (95%) |\n|---|---|---|---|---|---|---|"
    );
    let mut whole = true;
    for layer in layers {
        let sum = sums.get(layer).copied().unwrap_or_default();
        let wanted = layer.wanted(scale);
        whole &= sum.violations == 0 && sum.trials >= wanted && sum.confirms >= layer.confirms_wanted(scale);
        let bound =
            if sum.violations == 0 { format!("{:.4}%", bound_percent(sum.trials)) } else { "-".into() };
        let _ = writeln!(
            out,
            "| {} | {} {} | {wanted} | {} | {:.1} | {} | {bound} |",
            layer.name(),
            sum.trials,
            layer.trial(),
            sum.confirms,
            sum.seconds as f64 / 3600.0,
            sum.violations
        );
    }
    Ok(whole)
}

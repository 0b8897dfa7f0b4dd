//! The layers that are run in rounds, and what a round of each is.

use std::path::Path;
use std::process::{Command, Output};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::binary::workspace;
use crate::crash::{self, Death, Failure, Protocol, Settings};
use crate::faultfs::{Lie, missing};
use crate::scenario::{self, Target, Verdict};

/// A layer of tests that a round of any length can be run of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
pub enum Layer {
    /// The engine against an obvious model, with crashes.
    #[serde(rename = "T1")]
    #[value(name = "t1")]
    Model,
    /// The simulator: core and engine on a simulated disk.
    #[serde(rename = "T2")]
    #[value(name = "t2")]
    Simulator,
    /// Every crash point of a script.
    #[serde(rename = "T3")]
    #[value(name = "t3")]
    Points,
    /// kill -9 of the real server under load.
    #[serde(rename = "T4")]
    #[value(name = "t4")]
    Kill,
    /// Power losses of the real server.
    #[serde(rename = "T5")]
    #[value(name = "t5")]
    Power,
    /// Random damage to the files of stores.
    #[serde(rename = "T6")]
    #[value(name = "t6")]
    Damage,
    /// Errors of system calls of the real server.
    #[serde(rename = "T7")]
    #[value(name = "t7")]
    Errors,
    /// Interleavings of the shared pieces.
    #[serde(rename = "T8")]
    #[value(name = "t8")]
    Schedules,
    /// Inputs like those of a corpus, for every parser.
    #[serde(rename = "T9")]
    #[value(name = "t9")]
    Formats,
    /// The scenarios of every rule, on both front ends.
    #[serde(rename = "T10")]
    #[value(name = "t10")]
    Scenarios,
}

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scale {
    /// What every run of CI has.
    Ci,
    /// What is published.
    Full,
}

/// States of crashes that CI judges.
const POINTS_CI: u64 = 10_000;

/// What came of a round.
#[derive(Debug, Default)]
pub struct Round {
    /// Trials that were made.
    pub trials: u64,
    /// Confirmed messages.
    pub confirms: u64,
    /// What broke, and how to repeat it.
    pub violation: Option<String>,
    /// It reached too little to prove anything, for or against: what.
    pub void: Option<String>,
    /// Where the next round begins; behind this one's trials unless given.
    pub next: Option<u64>,
}

impl Layer {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Model,
        Self::Simulator,
        Self::Points,
        Self::Kill,
        Self::Power,
        Self::Damage,
        Self::Errors,
        Self::Schedules,
        Self::Formats,
        Self::Scenarios,
    ];

    /// Number and name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "T1 model of the engine",
            Self::Simulator => "T2 simulator",
            Self::Points => "T3 every crash point",
            Self::Kill => "T4 kill -9",
            Self::Power => "T5 power loss",
            Self::Damage => "T6 random damage",
            Self::Errors => "T7 failing system calls",
            Self::Schedules => "T8 interleavings",
            Self::Formats => "T9 fuzzed parsers",
            Self::Scenarios => "T10 scenarios",
        }
    }

    /// What a trial is.
    pub fn trial(self) -> &'static str {
        match self {
            Self::Model => "histories",
            Self::Simulator => "seeds",
            Self::Points => "states",
            Self::Kill => "kill -9 cycles",
            Self::Power => "losses",
            Self::Damage => "damages",
            Self::Errors => "lives with an error",
            Self::Schedules => "schedules",
            Self::Formats => "inputs",
            Self::Scenarios => "cases",
        }
    }

    /// Trials that make a run of that size. Scenarios are run once, whatever they are.
    pub fn wanted(self, scale: Scale) -> u64 {
        match (self, scale) {
            (Self::Model, Scale::Ci) => 1_000,
            (Self::Model, Scale::Full) => 200_000,
            (Self::Simulator, Scale::Ci) => 10_000,
            (Self::Simulator, Scale::Full) => 1_000_000,
            (Self::Points, Scale::Ci) => POINTS_CI,
            (Self::Points, Scale::Full) => 5_000_000,
            (Self::Kill, Scale::Ci) => 60,
            (Self::Kill, Scale::Full) => 10_000,
            (Self::Power, Scale::Ci) => 20,
            (Self::Power, Scale::Full) => 2_000,
            (Self::Damage, Scale::Ci) => 1_500,
            (Self::Damage, Scale::Full) => 5_000,
            (Self::Errors, Scale::Ci) => 10,
            (Self::Errors, Scale::Full) => 500,
            (Self::Schedules, Scale::Ci) => 3_000,
            (Self::Schedules, Scale::Full) => 1_000_000,
            (Self::Formats, Scale::Ci) => 60_000,
            (Self::Formats, Scale::Full) => 100_000_000,
            (Self::Scenarios, _) => 1,
        }
    }

    /// Confirmed messages that a run of that size has beside its trials.
    pub fn confirms_wanted(self, scale: Scale) -> u64 {
        if self == Self::Kill && scale == Scale::Full { 10_000_000 } else { 0 }
    }

    /// What a round is told to run, at most: it takes a minute or two.
    pub fn round(self) -> u64 {
        match self {
            Self::Model => 2_000,
            Self::Simulator => 10_000,
            Self::Points => 100_000,
            Self::Kill => 50,
            Self::Power => 20,
            Self::Damage => 2_500,
            Self::Errors => 10,
            Self::Schedules => 15_000,
            Self::Formats => 2_000_000,
            Self::Scenarios => 1,
        }
    }

    /// It runs check and repair as well, or what they are made of.
    pub fn reaches_offline(self) -> bool {
        matches!(self, Self::Damage | Self::Formats | Self::Scenarios)
    }

    /// Why it cannot be run here, if it cannot.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Power | Self::Errors => missing(),
            _ => None,
        }
    }

    /// Runs a round. `release`: as this program was built, what is built for it is, too.
    ///
    /// # Errors
    /// When it could not be run, which says nothing of the product.
    pub async fn run(self, seed: u64, count: u64, release: bool) -> Result<Round, String> {
        match self {
            Self::Model => model(seed, count, release),
            Self::Simulator => simulator(seed, count, release),
            Self::Points => points(seed, count, release),
            // Rounds in turn at random moments and, where that can be had, at named points.
            Self::Kill if seed.is_multiple_of(2) || missing().is_some() => {
                kills(seed, count, Death::Kill).await
            }
            Self::Kill => kills(seed, count, Death::KillAtPoints).await,
            Self::Power => kills(seed, count, Death::PowerLoss { lie: Lie::default() }).await,
            Self::Damage => damages(seed, count, release),
            Self::Errors => kills(seed, count, Death::Errors { unsaid: false }).await,
            Self::Schedules => schedules(seed, count, release),
            Self::Formats => formats(seed, count, release),
            Self::Scenarios => scenarios().await,
        }
    }
}

/// The engine's own test, told which seeds to run: the model is not to be had outside the crate.
fn model(seed: u64, count: u64, release: bool) -> Result<Round, String> {
    let test = "store::tests::what_survives_is_a_prefix_at_least_as_long_as_what_was_confirmed";
    let mut command = cargo("test", release);
    command.args(["-p", "leveret-engine", "--features", "sim,controls", "--lib", "--", "--exact", test]);
    command.env("LEVERET_ENGINE_FROM", seed.to_string()).env("LEVERET_ENGINE_SEEDS", count.to_string());
    let output = command.output().map_err(|error| format!("cargo: {error}"))?;
    let text = said(&output);
    if output.status.success() && text.contains("1 passed") {
        return Ok(Round { trials: count, ..Round::default() });
    }
    if !text.contains("FAILED") {
        return Err(text);
    }
    let repeat = format!("LEVERET_ENGINE_FROM={seed} LEVERET_ENGINE_SEEDS={count}");
    Ok(Round { trials: count, violation: Some(format!("{repeat}: {}", tail(&text))), ..Round::default() })
}

/// The engine's own tests under a scheduler; each of the three scenes has its share.
fn schedules(seed: u64, count: u64, release: bool) -> Result<Round, String> {
    let share = count.div_ceil(3);
    let mut command = cargo("test", release);
    command.args(["-p", "leveret-engine", "--features", "controls,interleave", "--lib", "--"]);
    command.args(["--nocapture", "threads::interleavings"]);
    command.env("LEVERET_ENGINE_FROM", seed.to_string());
    command.env("LEVERET_ENGINE_SCHEDULES", share.to_string());
    let output = command.output().map_err(|error| format!("cargo: {error}"))?;
    let text = said(&output);
    let done = text.matches(&format!(": {share} schedules, ")).count() as u64;
    match output.status.success() {
        true if done == 3 => Ok(Round { trials: done * share, ..Round::default() }),
        true => Err(format!("it did not run every scene: {}", tail(&text))),
        false if text.contains("could not compile") => Err(text),
        false if text.contains("an empty run") => Ok(Round { void: Some(tail(&text)), ..Round::default() }),
        false => {
            let repeat = format!("LEVERET_ENGINE_FROM={seed} LEVERET_ENGINE_SCHEDULES={share}");
            let violation = Some(format!("{repeat}: {}", tail(&text)));
            Ok(Round { trials: count, violation, ..Round::default() })
        }
    }
}

/// The simulator's own program: deliberate bugs and the simulated disk must never get into a program that drives the real
/// server, so that is built with other features.
fn simulator(seed: u64, count: u64, release: bool) -> Result<Round, String> {
    let mut command = cargo("run", release);
    command.args(["-p", "leveret-tests", "--features", "sim", "--bin", "sim", "--"]);
    command.args(["--from", &seed.to_string(), "--seeds", &count.to_string()]);
    let output = command.output().map_err(|error| format!("cargo: {error}"))?;
    let text = said(&output);
    let done = text.lines().rev().find_map(|line| line.split_once(" seeds: ")?.0.parse().ok());
    match (output.status.success(), done) {
        (true, Some(trials)) => Ok(Round { trials, ..Round::default() }),
        (true, None) => Err(format!("the simulator did not say how many seeds it ran: {}", tail(&text))),
        (false, _) if text.contains("could not compile") => Err(text),
        (false, _) => Ok(Round { trials: count, violation: Some(tail(&text)), ..Round::default() }),
    }
}

/// The program of the crash points, which has deliberate bugs as well. A seed is a point of a variant: what 4,096 states of
/// each point take, no round does at once.
fn points(seed: u64, count: u64, release: bool) -> Result<Round, String> {
    let (variant, from) = ((seed - 1) >> 16, (seed - 1) & 0xffff);
    let mut command = cargo("run", release);
    command.args(["-p", "leveret-tests", "--features", "sim", "--bin", "points", "--"]);
    command.args(["--variant", &variant.to_string(), "--from", &from.to_string()]);
    command.args(["--trials", &count.to_string()]);
    if count > POINTS_CI {
        command.arg("--full");
    }
    let output = command.output().map_err(|error| format!("cargo: {error}"))?;
    let text = said(&output);
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("variant {variant}: ")));
    let parts = line.and_then(|line| line.split_once(" states, next point: "));
    let trials = parts.and_then(|(trials, _)| trials.parse().ok());
    match (output.status.success(), parts, trials) {
        (true, Some((_, point)), Some(trials)) => {
            let at = |point: u64| ((variant << 16) | point) + 1;
            let next = point.parse().map_or(((variant + 1) << 16) + 1, at);
            Ok(Round { trials, next: Some(next), ..Round::default() })
        }
        (true, ..) => Err(format!("it did not say how many states it judged: {}", tail(&text))),
        (false, ..) if text.contains("could not compile") => Err(text),
        (false, ..) if text.contains("an empty run") => {
            Ok(Round { void: Some(tail(&text)), ..Round::default() })
        }
        (false, ..) => Ok(Round { trials: count, violation: Some(tail(&text)), ..Round::default() }),
    }
}

/// Likewise a program of its own, with the engine alone.
fn damages(seed: u64, count: u64, release: bool) -> Result<Round, String> {
    let arguments = ["--features", "damage", "--bin", "damage", "--", "--damages", &count.to_string()];
    let broken = |line: &str| line.starts_with("damage ");
    program(&arguments, seed, count, release, " damages: ", broken)
}

/// Likewise.
fn formats(seed: u64, count: u64, release: bool) -> Result<Round, String> {
    let arguments = ["--features", "sim", "--bin", "formats", "--", "--inputs", &count.to_string()];
    program(&arguments, seed, count, release, " inputs: ", |line| line.starts_with("input "))
}

/// A program that says how many trials it made before `unit`, or tells of what broke in lines of its own.
fn program(
    arguments: &[&str],
    seed: u64,
    count: u64,
    release: bool,
    unit: &str,
    broken: impl Fn(&str) -> bool,
) -> Result<Round, String> {
    let mut command = cargo("run", release);
    command.args(["-p", "leveret-tests"]).args(arguments).args(["--from", &seed.to_string()]);
    let output = command.output().map_err(|error| format!("cargo: {error}"))?;
    let text = said(&output);
    let done = text.lines().rev().find_map(|line| line.split_once(unit)?.0.parse().ok());
    match (output.status.success(), done) {
        (true, Some(trials)) => Ok(Round { trials, ..Round::default() }),
        // It did not compile, or fell below its floors, which proves nothing, for or against.
        _ if !text.lines().any(broken) => Err(tail(&text)),
        _ => Ok(Round { trials: count, violation: Some(tail(&text)), ..Round::default() }),
    }
}

async fn kills(seed: u64, cycles: u64, death: Death) -> Result<Round, String> {
    let settings = Settings { protocol: Protocol::Mixed, death, ..Settings::new(cycles, seed) };
    Ok(match crash::run(&settings, |_| ()).await {
        Ok(report) => {
            let losses = report.losses.map(|losses| losses.losses);
            let errors = report.errors.map(|errors| errors.met);
            let trials = errors.or(losses).unwrap_or(report.cycles);
            Round { trials, confirms: report.checked.confirmed, ..Round::default() }
        }
        Err(failure) => {
            let text = Some(format!("seed {seed}, {cycles} cycles: {failure}"));
            match failure {
                Failure::BelowFloor(_) => Round { void: text, ..Round::default() },
                _ => Round { trials: cycles, violation: text, ..Round::default() },
            }
        }
    })
}

async fn scenarios() -> Result<Round, String> {
    let cases = scenario::load(&workspace().join("tests/scenarios"))?;
    let mut round = Round::default();
    let mut failed = Vec::new();
    for target in [Target::Amqp, Target::Grpc] {
        for outcome in scenario::run(target, &cases).await? {
            round.trials += u64::from(!matches!(outcome.verdict, Verdict::Skipped(_)));
            if matches!(outcome.verdict, Verdict::Failed(_)) {
                failed.push(outcome.to_string());
            }
        }
    }
    round.violation = (!failed.is_empty()).then(|| failed.join("; "));
    Ok(round)
}

fn cargo(verb: &str, release: bool) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(Path::new(&workspace())).arg(verb).arg("--quiet");
    if release {
        command.arg("--release");
    }
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..].join("\n")
}

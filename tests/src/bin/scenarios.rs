//! Runs scenarios and says what became of each, and which rules no case is for.
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::process::ExitCode;

use clap::Parser;
use leveret_tests::binary::workspace;
use leveret_tests::scenario::{Outcome, Rule, Target, Verdict, coverage, load, rules, run};

/// Runs the scenarios of tests/scenarios.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only cases whose file, name or rules contain this.
    filter: Option<String>,
    /// amqp, grpc, rabbitmq; all of them unless given.
    #[arg(long)]
    target: Vec<String>,
    /// Only says how many cases each rule has.
    #[arg(long)]
    rules: bool,
}

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
    let directory = workspace().join("tests/scenarios");
    let cases = load(&directory)?;
    let rules = rules(&directory.join("rules.toml"))?;
    let coverage = coverage(&rules, &cases)?;
    let mut passed = true;
    if !arguments.rules {
        let wanted = |text: &str| arguments.filter.as_ref().is_none_or(|filter| text.contains(filter));
        let cases: Vec<_> = cases
            .into_iter()
            .filter(|case| {
                let names = format!("{} {} {}", case.file.display(), case.name, case.rules.join(" "));
                wanted(&names)
            })
            .collect();
        for target in [Target::Amqp, Target::Grpc, Target::RabbitMq] {
            if !arguments.target.is_empty() && !arguments.target.iter().any(|name| name == target.name()) {
                continue;
            }
            let begun = std::time::Instant::now();
            let outcomes = run(target, &cases).await?;
            outcomes.iter().for_each(|outcome| println!("{outcome}"));
            let count =
                |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count();
            let failed = count(|outcome| matches!(outcome.verdict, Verdict::Failed(_)));
            println!(
                "{}: {} passed, {failed} failed, {} not asked, in {:.1} s\n",
                target.name(),
                count(|outcome| outcome.verdict == Verdict::Passed),
                count(|outcome| matches!(outcome.verdict, Verdict::Skipped(_))),
                begun.elapsed().as_secs_f64()
            );
            passed &= failed == 0;
        }
    }
    if arguments.rules {
        for rule in &rules {
            let cases = coverage.covered.get(&rule.id).copied().unwrap_or(0);
            println!("{:6} {cases:3}  {}", rule.id, rule.text);
        }
    }
    let list = |title: &str, rules: &[Rule]| {
        println!("{}: {}", title, rules.len());
        rules.iter().for_each(|rule| println!("    {} {}", rule.id, rule.text));
    };
    println!("rules with a case: {}", coverage.covered.len());
    list("rules that wait for the product", &coverage.pending);
    list("rules without a case", &coverage.uncovered);
    Ok(passed && coverage.uncovered.is_empty())
}

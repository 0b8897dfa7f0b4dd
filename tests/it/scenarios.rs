//! Scenarios: every case of tests/scenarios, over AMQP, over gRPC, and against RabbitMQ where it is installed. Each has
//! a line of its own in the output; `cargo run -p leveret-tests --bin scenarios` runs some of them.

use std::io::Write;

use leveret_tests::binary::workspace;
use leveret_tests::scenario::{Case, Rule, Target, Verdict, coverage, load, parse, rules, run};

use super::skip::tool;

fn cases() -> Vec<Case> {
    load(&workspace().join("tests/scenarios")).expect("scenarios")
}

/// Past libtest's capture: every case is to be seen.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

async fn all_pass(target: Target, cases: &[Case]) {
    let outcomes = run(target, cases).await.expect("a broker");
    assert!(!outcomes.is_empty(), "no scenario is for {}", target.name());
    outcomes.iter().for_each(|outcome| say(&format!("scenario {outcome}")));
    let failed: Vec<String> = outcomes
        .iter()
        .filter(|outcome| matches!(outcome.verdict, Verdict::Failed(_)))
        .map(ToString::to_string)
        .collect();
    assert!(
        failed.is_empty(),
        "{} of {} scenarios failed:\n{}",
        failed.len(),
        outcomes.len(),
        failed.join("\n")
    );
}

async fn section(name: &str, target: Target) {
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.section == name).collect();
    all_pass(target, &cases).await;
}

macro_rules! sections {
    ($( $name:ident $section:literal )+) => { $(
        mod $name {
            use super::{Target, section};

            #[tokio::test(flavor = "multi_thread")]
            async fn over_amqp() {
                section($section, Target::Amqp).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn over_grpc() {
                section($section, Target::Grpc).await;
            }
        }
    )+

    const SECTIONS: &[&str] = &[$($section),+]; };
}

sections! {
    errors "1-errors"
    declare "3-declare"
    publish "4-publish"
    consume "5-consume"
    expiry "6-expiry"
    restart "7-restart"
}

#[tokio::test(flavor = "multi_thread")]
async fn handshake_over_amqp() {
    section("2-handshake", Target::Amqp).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_does_the_same() {
    if tool("rabbitmq", "scenarios::rabbitmq_does_the_same").is_none() {
        return;
    }
    // Between two of its processes RabbitMQ has races of its own, which show on a busy machine; what it does is what it
    // does in one of three attempts. Leveret has one.
    let mut left: Vec<Case> = cases().into_iter().filter(|case| Target::RabbitMq.takes(case)).collect();
    for _ in 0..2 {
        let outcomes = run(Target::RabbitMq, &left).await.expect("a broker");
        assert_eq!(outcomes.len(), left.len());
        outcomes.iter().for_each(|outcome| say(&format!("scenario {outcome}")));
        let mut verdicts = outcomes.into_iter().map(|outcome| outcome.verdict);
        left.retain(|_| matches!(verdicts.next(), Some(Verdict::Failed(_))));
        if left.is_empty() {
            return;
        }
    }
    all_pass(Target::RabbitMq, &left).await;
}

/// A harness that cannot fail proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_fails_where_it_is_wrong() {
    let path = workspace().join("tests/scenarios/controls.toml");
    let controls = parse(&path, &std::fs::read_to_string(&path).expect("controls.toml")).expect("controls");
    for target in [Target::Amqp, Target::Grpc] {
        let asked: Vec<&Case> = controls.iter().filter(|case| target.takes(case)).collect();
        let outcomes = run(target, &controls).await.expect("a broker");
        assert_eq!(outcomes.len(), asked.len());
        for (case, outcome) in asked.into_iter().zip(outcomes) {
            let Verdict::Failed(why) = &outcome.verdict else { panic!("{outcome}") };
            assert!(
                why.starts_with(&case.last_line()),
                "{} was to fail at {}: {why}",
                case.name,
                case.last_line()
            );
        }
    }
}

#[test]
fn every_section_is_run() {
    for case in cases() {
        let known = case.section == "2-handshake" || SECTIONS.contains(&&*case.section);
        assert!(known, "nothing runs section {}", case.section);
    }
}

#[test]
fn every_rule_has_a_scenario() {
    let rules = rules(&workspace().join("tests/scenarios/rules.toml")).expect("rules");
    let coverage = coverage(&rules, &cases()).expect("rules that exist");
    let list = |rules: &[Rule]| {
        rules.iter().map(|rule| format!("\n    {} {}", rule.id, rule.text)).collect::<String>()
    };
    say(&format!("rules with a scenario: {} of {}", coverage.covered.len(), rules.len()));
    say(&format!("rules without a scenario, for a reason:{}", list(&coverage.excused)));
    assert!(coverage.uncovered.is_empty(), "rules without a scenario:{}", list(&coverage.uncovered));
    assert!(coverage.pending.is_empty(), "rules that wait for the product:{}", list(&coverage.pending));
}

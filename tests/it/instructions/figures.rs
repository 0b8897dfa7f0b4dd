//! The checked-in figures, and the comparison with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use leveret_tests::binary::workspace;
use serde::Deserialize;

/// Writes the figures anew.
const WRITE: &str = "LEVERET_WRITE_INSTRUCTIONS";
/// How much more may be taken where another compiler built the server: its code may be worse, and that is not ours. What
/// this still stops is a change of ours that costs a fifth.
const OTHER_COMPILER: f64 = 0.2;
/// Of a scenario that the file does not have yet.
const TOLERANCE: f64 = 0.05;

/// tests/instructions.toml.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Figures {
    /// The processor's architecture.
    pub(super) machine: String,
    /// The compiler of the measured server.
    pub(super) rustc: String,
    /// By scenario.
    #[serde(flatten)]
    scenarios: BTreeMap<String, Figure>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Figure {
    /// For one message.
    instructions: f64,
    /// The share of it by which a measurement may differ.
    tolerance: f64,
}

fn path() -> PathBuf {
    workspace().join("tests/instructions.toml")
}

/// Whether this run is to write down what it measures.
pub(super) fn writing() -> bool {
    std::env::var_os(WRITE).is_some()
}

/// Puts what was measured into the file, tolerances kept.
pub(super) fn write(scenario: &str, measured: f64, rustc: &str) {
    /// The scenarios run at the same time.
    static FILE: Mutex<()> = Mutex::new(());
    let _alone = FILE.lock().expect("no writer has failed");
    let text = Figures::read().with(scenario, measured, rustc).as_text();
    fs::write(path(), text).expect("tests/instructions.toml");
}

impl Figures {
    pub(super) fn read() -> Self {
        let text = fs::read_to_string(path()).expect("tests/instructions.toml");
        Self::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path().display()))
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    fn with(mut self, scenario: &str, measured: f64, rustc: &str) -> Self {
        let before = self.scenarios.get(scenario).map_or(TOLERANCE, |figure| figure.tolerance);
        let figure = Figure { instructions: measured.round(), tolerance: before };
        self.scenarios.insert(scenario.into(), figure);
        Self { machine: std::env::consts::ARCH.into(), rustc: rustc.into(), ..self }
    }

    fn as_text(&self) -> String {
        let mut text = format!(
            "# Instructions of the server for a persistent message of 100 bytes, user code of all its threads, counted by\n\
             # callgrind (tests/it/instructions.rs). A run that differs by more than the tolerance fails, whether it takes\n\
             # more or less: what has been gained is to be written down. To write the file anew, tolerances kept:\n\
             #\n\
             #     {WRITE}=1 cargo test -p leveret-tests --features sim --test it instructions::\n\
             #\n\
             # Counts depend on the compiler. A server that another one built is held to the upper bound alone, with {:.0} %\n\
             # instead of the tolerance, until the file is written anew with it.\n\
             #\n\
             # The tolerances are some times what the same binary differs by from run to run (1 % end to end, else 0.4 %), which is\n\
             # timing: what is read, written and synced together. Another disk and other processors may move that more.\n\
             \n\
             machine = \"{}\"\n\
             rustc = \"{}\"\n",
            OTHER_COMPILER * 100.0,
            self.machine,
            self.rustc,
        );
        for (name, Figure { instructions, tolerance }) in &self.scenarios {
            text.push_str(&format!(
                "\n[{name}]\ninstructions = {instructions:.1}\ntolerance = {tolerance}\n"
            ));
        }
        text
    }

    /// What is said of a server that another compiler built.
    pub(super) fn of_another(&self, rustc: &str) -> String {
        format!(
            "rustc {rustc} built the server, the figures are of {}: only {:.0} % more is too much ({WRITE}=1 writes \
             the figures anew)",
            self.rustc,
            OTHER_COMPILER * 100.0,
        )
    }

    /// Holds what was measured of a scenario against its figure.
    ///
    /// # Errors
    /// What to do about it, where it is too far off.
    pub(super) fn judge(&self, scenario: &str, measured: f64, rustc: &str) -> Result<(), String> {
        let renew =
            format!("`{WRITE}=1 cargo test -p leveret-tests --features sim --test it instructions::`");
        let Some(Figure { instructions, tolerance }) = self.scenarios.get(scenario).copied() else {
            return Err(format!("tests/instructions.toml has no figure of {scenario}; {renew} writes it"));
        };
        let same = rustc == self.rustc;
        let above = if same { tolerance } else { OTHER_COMPILER.max(tolerance) };
        let change = measured / instructions - 1.0;
        let numbers = format!(
            "{scenario}: {measured:.0} instructions a message where tests/instructions.toml has {instructions:.0} \
             ({:+.1} %)",
            change * 100.0,
        );
        if change > above {
            let why = if same { String::new() } else { format!(" {}.", self.of_another(rustc)) };
            return Err(format!(
                "{numbers}; {:.1} % more is allowed.{why} LEVERET_KEEP=1 keeps callgrind.out, for callgrind_annotate. If it \
                 is worth it, {renew} writes the new figure down.",
                above * 100.0,
            ));
        }
        if same && change < -tolerance {
            return Err(format!("{numbers}. That is a gain to keep: {renew} writes it down."));
        }
        Ok(())
    }
}

/// The total in callgrind's file.
///
/// # Panics
/// When there is none.
pub(super) fn total(out: &str) -> u64 {
    let line = out.lines().find_map(|line| line.strip_prefix("totals: "));
    line.and_then(|total| total.trim().parse().ok()).expect("a line \"totals: N\" of callgrind")
}

/// The compiler that a binary names: what follows "rustc version ".
pub(super) fn rustc_of(binary: &[u8]) -> String {
    const BEFORE: &[u8] = b"rustc version ";
    let Some(at) = binary.windows(BEFORE.len()).position(|window| window == BEFORE) else {
        return "unknown".into();
    };
    let version =
        binary[at + BEFORE.len()..].split_inclusive(|byte| *byte == b')').next().unwrap_or_default();
    String::from_utf8_lossy(version).into_owned()
}

fn example() -> Figures {
    let text = "machine = \"x86_64\"\nrustc = \"1.95.0 (a b)\"\n[publish]\ninstructions = 1000.0\ntolerance = 0.05\n";
    Figures::parse(text).expect("TOML")
}

#[test]
fn more_and_less_are_told_with_both_numbers() {
    let figures = example();
    for within in [951.0, 1_000.0, 1_049.0] {
        assert_eq!(figures.judge("publish", within, "1.95.0 (a b)"), Ok(()));
    }
    let above = figures.judge("publish", 1_051.0, "1.95.0 (a b)").expect_err("more");
    let below = figures.judge("publish", 949.0, "1.95.0 (a b)").expect_err("less");
    for (why, measured) in [(&above, "1051"), (&below, "949")] {
        for part in ["publish: ", measured, " 1000 ", WRITE] {
            assert!(why.contains(part), "{part:?} in {why:?}");
        }
    }
    assert!(above.contains("5.0 % more is allowed") && below.contains("a gain to keep"), "{above} {below}");
    let missing = figures.judge("nothing", 1_000.0, "1.95.0 (a b)").expect_err("no figure");
    assert!(missing.contains("no figure of nothing") && missing.contains(WRITE), "{missing}");
}

#[test]
fn another_compiler_has_an_upper_bound_alone() {
    let figures = example();
    for within in [500.0, 1_000.0, 1_199.0] {
        assert_eq!(figures.judge("publish", within, "1.96.0 (c d)"), Ok(()));
    }
    let above = figures.judge("publish", 1_201.0, "1.96.0 (c d)").expect_err("more");
    assert!(above.contains("1.96.0 (c d)") && above.contains("1.95.0 (a b)"), "{above}");
}

#[test]
fn what_is_written_is_read_again() {
    let figures = example().with("publish", 1_234.4, "1.96.0 (c d)").with("end_to_end", 99.6, "1.96.0 (c d)");
    let again = Figures::parse(&figures.as_text()).expect("TOML");
    assert_eq!(again.scenarios, figures.scenarios);
    assert_eq!(again.scenarios["publish"], Figure { instructions: 1_234.0, tolerance: 0.05 });
    assert_eq!(again.scenarios["end_to_end"], Figure { instructions: 100.0, tolerance: TOLERANCE });
    assert_eq!((again.machine.as_str(), again.rustc.as_str()), (std::env::consts::ARCH, "1.96.0 (c d)"));
}

#[test]
fn totals_and_compilers_are_found() {
    assert_eq!(total("events: Ir\nfn=(1) x\n1 2\ntotals: 278747552\n"), 278_747_552);
    assert_eq!(
        rustc_of(b"..\0rustc version 1.95.0 (59807616e 2026-04-14)\0GCC: (Debian)"),
        "1.95.0 (59807616e 2026-04-14)"
    );
    assert_eq!(rustc_of(b"no such thing"), "unknown");
}

//! What must not depend on what, read from the manifests and the sources; and that no file grows without end.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use leveret_tests::binary::workspace;

/// Longest source file, in lines.
const LINES_MAX: usize = 500;
/// Files that are longer, with the length that they may not pass. Only ever shrinks.
const RATCHET: &[(&str, usize)] = &[];

/// A crate's directory, and the crates of ours that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("engine", &[]),
    ("proto", &[]),
    ("server/broker", &[]),
    ("server", &["leveret-broker", "leveret-engine", "leveret-proto"]),
];

/// What the core must not see: I/O, clocks, chance, threads, async. And order by chance: maps of the standard hasher.
const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "std::fs",
    "std::io",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "Instant",
    "SystemTime",
    "rand::",
    "fastrand",
    "RandomState",
    "HashSet",
    "async fn",
];

struct Source {
    /// Path from the workspace's root.
    path: String,
    /// Without comments.
    code: String,
    lines: usize,
}

impl Source {
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }
}

/// All .rs files below a directory of the workspace.
fn sources(below: &str) -> Vec<Source> {
    let root = workspace();
    let mut found = Vec::new();
    let mut open = vec![root.join(below)];
    while let Some(directory) = open.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "target" && name != ".tools" && name != ".git" {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(read(&root, &path));
            }
        }
    }
    assert!(!found.is_empty(), "sources below {below}");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn read(root: &Path, path: &PathBuf) -> Source {
    let text = fs::read_to_string(path).expect("a source file");
    let code =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let path = path.strip_prefix(root).expect("below the root").display().to_string();
    Source { path, code, lines: text.lines().count() }
}

fn manifest(directory: &str) -> toml::Table {
    let path = workspace().join(directory).join("Cargo.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().expect("TOML")
}

/// Names under [dependencies], for every kind and target.
fn dependencies(directory: &str) -> BTreeSet<String> {
    fn collect(table: &toml::Table, into: &mut BTreeSet<String>) {
        for (key, value) in table {
            let Some(inner) = value.as_table() else { continue };
            match key.as_str() {
                "dependencies" | "dev-dependencies" | "build-dependencies" => {
                    into.extend(inner.keys().cloned())
                }
                _ => collect(inner, into),
            }
        }
    }
    let mut names = BTreeSet::new();
    collect(&manifest(directory), &mut names);
    names
}

#[test]
fn manifests_have_no_other_arrows() {
    for (directory, allowed) in ARROWS {
        for name in dependencies(directory).iter().filter(|name| name.starts_with("leveret")) {
            assert!(
                allowed.contains(&name.as_str()),
                "{directory}/Cargo.toml uses {name}; allowed: {allowed:?}"
            );
        }
    }
}

#[test]
fn sources_have_no_other_arrows() {
    let crates = ["leveret_broker", "leveret_engine", "leveret_proto", "leveret_server"];
    for (directory, allowed) in ARROWS {
        // The server's directory holds the core's too.
        let below = format!("{directory}/src");
        for source in sources(&below) {
            for name in crates.iter().filter(|name| source.code.contains(**name)) {
                let own = manifest(directory)["package"]["name"].as_str().expect("a name").replace('-', "_");
                let allowed = *name == own || allowed.iter().any(|other| other.replace('-', "_") == **name);
                assert!(allowed, "{} uses {name}", source.path);
            }
        }
    }
}

#[test]
fn the_core_is_pure() {
    for source in sources("server/broker/src").iter().filter(|source| !source.is_test()) {
        for word in IMPURE {
            assert!(!has_word(&source.code, word), "{} uses {word}", source.path);
        }
        let is_hasher = source.path.ends_with("/hash.rs");
        assert!(is_hasher || !has_word(&source.code, "HashMap"), "{} uses HashMap; see hash.rs", source.path);
    }
    let impure: Vec<_> = ["tokio", "tonic", "fastrand", "rand", "rustix", "axum"]
        .into_iter()
        .filter(|name| dependencies("server/broker").contains(*name))
        .collect();
    assert!(impure.is_empty(), "server/broker depends on {impure:?}");
}

#[test]
fn the_amqp_session_is_pure() {
    let below = "server/src/amqp";
    let outside = ["connection.rs", "half_sent.rs", "listener.rs"].map(|name| format!("{below}/{name}"));
    for source in sources(below).iter().filter(|source| !source.is_test() && !outside.contains(&source.path))
    {
        for word in IMPURE.iter().filter(|word| **word != "std::io") {
            assert!(!has_word(&source.code, word), "{} uses {word}", source.path);
        }
    }
}

#[test]
fn the_core_iterates_no_hash_map() {
    for source in sources("server/broker/src").iter().filter(|source| !source.is_test()) {
        let fields = source.code.lines().filter_map(|line| {
            let (name, kind) = line.split_once(':')?;
            kind.trim_start()
                .starts_with("LookupMap<")
                .then(|| name.trim().rsplit(' ').next().unwrap_or_default())
        });
        for field in fields {
            for way in
                [".iter()", ".iter_mut()", ".keys()", ".values()", ".values_mut()", ".drain()", ".retain("]
            {
                let iterated = source.code.contains(&format!("{field}{way}"));
                assert!(!iterated, "{} iterates the map {field}: its order is nobody's", source.path);
            }
        }
    }
}

#[test]
fn the_engine_knows_no_network_and_no_async() {
    let names = dependencies("engine");
    for name in ["tokio", "tonic", "prost", "axum", "leveret-proto"] {
        assert!(!names.contains(name), "engine depends on {name}");
    }
    for source in sources("engine/src") {
        for word in ["tokio", "tonic", "async fn", "std::net"] {
            assert!(!has_word(&source.code, word), "{} uses {word}", source.path);
        }
    }
}

#[test]
fn generated_types_stay_at_the_edge() {
    for source in sources("server/src") {
        let edge = ["server/src/grpc", "server/src/cli"].iter().any(|edge| source.path.starts_with(edge));
        assert!(edge || !source.code.contains("leveret_proto"), "{} uses leveret_proto", source.path);
    }
}

#[test]
fn front_ends_do_not_see_each_other() {
    for source in sources("server/src") {
        for (one, other) in [("grpc", "amqp"), ("amqp", "grpc")] {
            let inside = source.path.starts_with(&format!("server/src/{one}"));
            let sees = has_word(&source.code, &format!("crate::{other}"));
            assert!(!(inside && sees), "{} sees {other}", source.path);
        }
    }
}

#[test]
fn no_file_grows() {
    let mut over = Vec::new();
    for source in ["engine", "proto", "server", "tests", "bench"].into_iter().flat_map(sources) {
        let ratchet = RATCHET.iter().find(|(path, _)| *path == source.path);
        let limit = ratchet.map_or(LINES_MAX, |(_, lines)| *lines);
        if source.lines > limit {
            over.push(format!("{}: {} lines, at most {limit}", source.path, source.lines));
        }
    }
    assert!(over.is_empty(), "split these by subject:\n{}", over.join("\n"));
    for (path, lines) in RATCHET {
        assert!(workspace().join(path).exists() && *lines > LINES_MAX, "{path} needs no exception any more");
    }
}

/// The word itself, not a part of a longer one.
fn has_word(code: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let starts = !before.is_some_and(part_of_name);
        let ends = !word.ends_with(part_of_name) || !after.is_some_and(part_of_name);
        starts && ends
    })
}

#[test]
fn words_are_found_whole() {
    assert!(has_word("use std::time::Instant;", "Instant"));
    assert!(!has_word("struct Instantly;", "Instant"));
    assert!(!has_word("operand::x", "rand::"));
    assert!(has_word("rand::random()", "rand::"));
}

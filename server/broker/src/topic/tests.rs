use std::collections::BTreeSet;

use proptest::prelude::*;

use super::Trie;

fn found(trie: &Trie<u32>, key: &str) -> BTreeSet<u32> {
    let mut targets = BTreeSet::new();
    trie.matches(key, |target| {
        targets.insert(*target);
    });
    targets
}

fn matches(pattern: &str, key: &str) -> bool {
    let mut trie = Trie::default();
    trie.insert(pattern, 1);
    !found(&trie, key).is_empty()
}

/// The definition, straight and slow.
fn naive(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern.split_first(), key.split_first()) {
        (None, None) => true,
        (Some((&"#", rest)), _) => naive(rest, key) || (!key.is_empty() && naive(pattern, &key[1..])),
        (Some((&"*", rest)), Some((_, key))) => naive(rest, key),
        (Some((word, rest)), Some((first, key))) => word == first && naive(rest, key),
        _ => false,
    }
}

fn split(key: &str) -> Vec<&str> {
    if key.is_empty() { Vec::new() } else { key.split('.').collect() }
}

#[test]
fn rules() {
    let cases = [
        ("a.b", "a.b", true),
        ("a.b", "a", false),
        ("a.b", "a.b.c", false),
        ("*", "a", true),
        ("*", "", false),
        ("*", "a.b", false),
        ("*.*", "a.b", true),
        ("a.*.c", "a..c", true),
        ("#", "", true),
        ("#", "a.b.c", true),
        ("a.#", "a", true),
        ("a.#", "a.b.c", true),
        ("a.#", "b.a", false),
        ("#.a", "a", true),
        ("#.a", "b.c.a", true),
        ("#.#", "", true),
        ("#.#", "a.b", true),
        ("#.*", "", false),
        ("#.*", "a", true),
        ("a.#.b", "a.b", true),
        ("a.#.b", "a.x.y.b", true),
        ("a.#.b", "a.x.y", false),
        ("", "", true),
        ("", "a", false),
        ("a..b", "a..b", true),
        ("a..b", "a.b", false),
        (".", ".", true),
        ("*.*", ".", true),
        ("a", "*", false),
        ("*", "#", true),
    ];
    for (pattern, key, expected) in cases {
        assert_eq!(matches(pattern, key), expected, "{pattern:?} and {key:?}");
        assert_eq!(naive(&split(pattern), &split(key)), expected, "{pattern:?} and {key:?}, naive");
    }
}

#[test]
fn a_target_stands_as_often_as_it_was_added() {
    let mut trie = Trie::default();
    trie.insert("a.*", 1);
    trie.insert("a.*", 1);
    trie.remove("a.*", &1);
    trie.remove("a.*", &9);
    trie.remove("a.b", &1);
    assert_eq!(found(&trie, "a.b"), [1].into());
    trie.remove("a.*", &1);
    assert!(found(&trie, "a.b").is_empty());
}

#[test]
fn nodes_are_freed_and_used_again() {
    let mut trie = Trie::default();
    for round in 0..100 {
        for pattern in ["a.b.c", "a.*.#", "#.x"] {
            trie.insert(&format!("{pattern}.{round}"), round);
        }
        for pattern in ["a.b.c", "a.*.#", "#.x"] {
            trie.remove(&format!("{pattern}.{round}"), &round);
        }
    }
    assert_eq!(trie.nodes.len() - trie.free.len(), 1, "only the root");
    assert!(trie.nodes.len() < 12);
}

/// Guards against the exponential walk that naive matching of several '#' is.
#[test]
fn many_hashes_are_bounded() {
    let mut trie = Trie::default();
    trie.insert(&["#.a"; 60].join("."), 1);
    trie.insert(&["#.a"; 60].join(".").replace("a.#.a", "a.#.b"), 2);
    let key = ["a"; 127].join(".");
    assert_eq!(found(&trie, &key), [1].into());
}

fn pattern() -> impl Strategy<Value = String> {
    words(&["a", "b", "", "*", "#"])
}

fn words(alphabet: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(alphabet), 0..6).prop_map(|words| words.join("."))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn agrees_with_the_definition(
        patterns in prop::collection::vec(pattern(), 1..12),
        removed in prop::collection::vec(any::<bool>(), 12),
        keys in prop::collection::vec(words(&["a", "b", ""]), 1..12),
    ) {
        let mut trie = Trie::default();
        for (n, pattern) in patterns.iter().enumerate() {
            trie.insert(pattern, n as u32);
        }
        let mut kept = Vec::new();
        for (n, pattern) in patterns.iter().enumerate() {
            if removed[n] {
                trie.remove(pattern, &(n as u32));
            } else {
                kept.push((n as u32, pattern));
            }
        }
        for key in &keys {
            let expected: BTreeSet<u32> =
                kept.iter().filter(|(_, p)| naive(&split(p), &split(key))).map(|(n, _)| *n).collect();
            prop_assert_eq!(found(&trie, key), expected, "key {:?}", key);
        }
    }
}

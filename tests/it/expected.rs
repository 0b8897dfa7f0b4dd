//! tests/expected.toml is a complete list: every module of this binary has its line.

use std::fs;

use leveret_tests::binary::workspace;
use leveret_tests::tally::Expected;

#[test]
fn every_module_is_a_group() {
    let main = fs::read_to_string(workspace().join("tests/it/main.rs")).expect("main.rs");
    let expected = Expected::read(&workspace().join("tests/expected.toml")).expect("expected.toml");
    for line in main.lines().filter_map(|line| line.strip_prefix("mod ")) {
        let module = line.trim_end_matches(';');
        if module == "skip" {
            continue;
        }
        let name = format!("it::{module}");
        assert!(
            expected.groups.iter().any(|group| group.name == name),
            "{name} has no line in expected.toml"
        );
    }
}

//! Skips: a tool whose install failed three times, on the record. Everything else fails.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use leveret_tests::binary::workspace;

/// Where tests/tools/install.sh puts tools and the reasons of failed installs.
pub(crate) fn tools() -> PathBuf {
    workspace().join("tests/.tools")
}

/// The tool's path; or None when its install failed, which is told by the test's name.
///
/// # Panics
/// When the tool is not there and no failed install is on the record.
pub(crate) fn tool(name: &str, test: &str) -> Option<PathBuf> {
    let path = tools().join("bin").join(name);
    if path.exists() {
        return Some(path);
    }
    let record = tools().join(format!("{name}.skip"));
    match std::fs::read_to_string(&record) {
        Ok(why) => {
            say(&format!("SKIPPED {test}: {}", why.trim().replace('\n', " | ")));
            None
        }
        Err(_) => panic!("no {name} in {}: run tests/tools/install.sh", path.display()),
    }
}

/// Past libtest's capture, so that a skip always shows, and into the file that the tally reads.
fn say(line: &str) {
    let mut stderr = std::io::stderr();
    let _ = writeln!(stderr, "{line}");
    if let Some(log) = std::env::var_os("LEVERET_SKIP_LOG") {
        let file = OpenOptions::new().create(true).append(true).open(log);
        writeln!(file.expect("the log of skips"), "{line}").expect("the log of skips");
    }
}

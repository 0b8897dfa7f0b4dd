//! Skips: a tool whose install failed three times, on the record, or a machine where nothing can be mounted. Everything
//! else fails.

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
    if std::env::var_os("LEVERET_NO_TOOLS").is_some() {
        say(&format!("SKIPPED {test}: this run was to go without tools"));
        return None;
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

/// True where no file system of ours can be mounted, which is told by the test's name: there is nothing to install.
pub(crate) fn without_fuse(test: &str) -> bool {
    let why = leveret_tests::faultfs::missing();
    if let Some(why) = &why {
        say(&format!("SKIPPED {test}: {why}"));
    }
    why.is_some()
}

/// Into the file that the tally reads and prints; or, where there is none, past libtest's capture.
pub(crate) fn say(line: &str) {
    match std::env::var_os("LEVERET_SKIP_LOG") {
        Some(log) => {
            let file = OpenOptions::new().create(true).append(true).open(log).expect("the log of skips");
            // One write, so that lines of two tests do not mix.
            (&file).write_all(format!("{line}\n").as_bytes()).expect("the log of skips");
        }
        None => {
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

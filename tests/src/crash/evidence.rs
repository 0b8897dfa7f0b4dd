//! What a failed run leaves behind. The seed decides what is tried but not the threads' timing, so that a failure may
//! take hours to come again: whoever looks into it needs what is there now.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::history::Event;
use crate::server::Home;

/// Copies what the servers wrote, the data directory and the events since the last verdict to where they stay; says
/// where, or why not.
pub(super) fn keep(home: &Home, seed: u64, events: &[Event]) -> String {
    let kept = std::env::temp_dir().join(format!("leveret-crash-{seed}-{}", std::process::id()));
    match copy_all(home, &kept, events) {
        Ok(()) => format!("the data directory, the servers' log and the events are in {}", kept.display()),
        Err(error) => format!("the data directory could not be kept in {}: {error}", kept.display()),
    }
}

fn copy_all(home: &Home, kept: &Path, events: &[Event]) -> io::Result<()> {
    fs::create_dir_all(kept)?;
    fs::write(kept.join("server.log"), home.stderr())?;
    let events: String = events.iter().map(|event| format!("{event:?}\n")).collect();
    fs::write(kept.join("events"), events)?;
    copy_dir(&home.data(), &kept.join("data"))
}

fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, place): (_, PathBuf) = entry.map(|entry| (entry.path(), to.join(entry.file_name())))?;
        if entry.is_dir() {
            copy_dir(&entry, &place)?;
        } else {
            fs::copy(&entry, &place)?;
        }
    }
    Ok(())
}

//! Calls that are to fail, or to panic, while the rest of the disk works: what a medium that goes bad, a quota or a bug
//! looks like from within.

use std::io::{self, ErrorKind};

use super::{SimDisk, World, lock};

/// What comes of a call that does not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fails {
    /// An error of that kind, and nothing happens.
    With(ErrorKind),
    /// A panic, as if the caller had a bug.
    Panics,
}

#[derive(Debug)]
pub(super) struct Fault {
    call: &'static str,
    name: String,
    fails: Fails,
    times: u32,
}

impl SimDisk {
    /// The next `times` calls of that name ("write", "sync", "create", "rename", "sync_dir"...) on files whose names
    /// contain `name` do not work.
    pub fn fail(&self, call: &'static str, name: &str, fails: Fails, times: u32) {
        lock(&self.world).faults.push(Fault { call, name: name.to_owned(), fails, times });
    }

    /// Where there is no room this is said: the disk is full, or a quota is used up.
    pub fn full_says(&self, kind: ErrorKind) {
        lock(&self.world).full = kind;
    }

    /// No call is to fail any more; says how many of them still were.
    pub fn mend(&self) -> u32 {
        lock(&self.world).faults.drain(..).map(|fault| fault.times).sum()
    }
}

impl World {
    /// What is to become of that call. `name`: of the file, for calls on the directory.
    pub(super) fn fault(&mut self, what: &str, name: &[u8]) -> io::Result<()> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let name = String::from_utf8_lossy(name);
        let hit = |fault: &&mut Fault| fault.times > 0 && fault.call == what && name.contains(&fault.name);
        let Some(fault) = self.faults.iter_mut().find(hit) else { return Ok(()) };
        fault.times -= 1;
        match fault.fails {
            Fails::With(kind) => Err(io::Error::new(kind, "it was to fail")),
            Fails::Panics => panic!("{what} of {name} was to panic"),
        }
    }

    pub(super) fn no_room(&self) -> io::Error {
        io::Error::new(self.full, "no space left on the simulated disk")
    }

    /// The name that a file has now.
    pub(super) fn name_of(&self, file: u64) -> String {
        let name = self.names.iter().find(|(_, has)| **has == file);
        name.map(|(name, _)| name.clone()).unwrap_or_default()
    }
}

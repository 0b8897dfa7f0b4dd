//! What the file system is told to do wrong: errors at chosen calls, and lies about syncs.

use rustix::io::Errno;

/// The calls that faults and moments are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// What changes nothing: look-ups, attributes, listings.
    Look,
    /// A file is made.
    Create,
    /// A file is read, by a call or through a map.
    Read,
    /// A file is written to, and not only zeros.
    Write,
    /// A file is filled with zeros, as one that is made ahead of need.
    Fill,
    /// fsync or fdatasync of a file that was written to since the last one.
    Sync,
    /// The same of a file that holds nothing new but zeros.
    SyncFill,
    /// fsync of a directory.
    SyncDir,
    /// fallocate, of any kind, or a change of the length.
    Allocate,
    /// A file gets another name.
    Rename,
    /// A file's name is taken away.
    Remove,
}

/// A moment in a process's life: one call of a kind on files whose names begin like this.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Which call.
    pub call: Call,
    /// On files whose names begin like this; of a rename, the new name's.
    pub names: String,
    /// The so-manieth of them from now on; 1 is the next one.
    pub nth: u64,
    /// When it has been done, right before the next call of any kind; else before it is done.
    pub after: bool,
}

impl Moment {
    /// Right before the `nth` call of that kind, on any file.
    pub fn before(call: Call, nth: u64) -> Self {
        Self { call, names: String::new(), nth, after: false }
    }

    /// Whether that call is the last one waited for.
    pub(super) fn comes_with(&mut self, call: Call, name: &str) -> bool {
        if call != self.call || !name.starts_with(&self.names) {
            return false;
        }
        self.nth = self.nth.saturating_sub(1);
        self.nth == 0
    }
}

/// What a call that is hit comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It fails and does nothing.
    Error(Errno),
    /// A write takes half of what it was given.
    Short,
    /// A sync fails and says that it went well: what a program hears that asks again after a failed one. A control.
    Unsaid,
}

/// Calls that are to go wrong.
#[derive(Debug, Clone)]
pub struct Fault {
    /// Which call.
    pub call: Call,
    /// On files whose names begin like this.
    pub names: String,
    /// So many of those go well first.
    pub skip: u64,
    /// So many go wrong then.
    pub times: u64,
    /// How they go wrong.
    pub how: How,
}

impl Fault {
    /// One call on such a file fails.
    pub fn once(call: Call, names: &str, error: Errno) -> Self {
        Self { call, names: names.into(), skip: 0, times: 1, how: How::Error(error) }
    }

    /// Every call on such a file fails.
    pub fn always(call: Call, names: &str, error: Errno) -> Self {
        Self { times: u64::MAX, ..Self::once(call, names, error) }
    }

    /// The same after some calls that go well.
    #[must_use]
    pub fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    pub(super) fn strikes(&mut self, call: Call, name: &str) -> Option<How> {
        if call != self.call || !name.starts_with(&self.names) || self.times == 0 {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.how)
    }
}

/// Syncs that are answered well and do nothing: the controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Lie {
    /// None.
    #[default]
    #[value(skip)]
    Never,
    /// All syncs, of files and of directories.
    Fsync,
    /// Those of directories.
    Dirsync,
}

//! What can go wrong, and what to do about it.

use std::io;

use crate::manifest::MANIFEST_NAME;

/// What errors of the data directory as a whole are said to be of.
pub(crate) const DIRECTORY: &str = "the data directory";

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A read, write or sync failed. From [`crate::Store::failure`]: fatal, the process must end; the log is the truth.
    #[error("cannot {op} {file}: {source}")]
    Io {
        /// What was tried.
        op: &'static str,
        /// On which file.
        file: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The data is not what was written: not a torn tail but damage. Nothing was changed.
    #[error(
        "{file} is damaged at offset {offset}: {what}. Nothing was changed. `leveret check --data-dir DIR` says more, `leveret repair --data-dir DIR` sets the damaged part aside"
    )]
    Damage {
        /// The file.
        file: String,
        /// Byte offset of the first bad byte, as far as known.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The file was written by a newer program.
    #[error(
        "{file} has format version {found}, this program knows versions up to {known}: use a newer leveret"
    )]
    NewerFormat {
        /// The file.
        file: String,
        /// Its version.
        found: u16,
        /// The newest known version.
        known: u16,
    },
    /// Another process has the store open.
    #[error("the data directory {dir} is in use by another process; stop it or choose another --data-dir")]
    Locked {
        /// The directory.
        dir: String,
    },
    /// A batch does not fit into a log segment.
    #[error(
        "a batch of {bytes} bytes does not fit into a log segment, which holds {bytes_max}; make it smaller or raise --segment-size"
    )]
    BatchTooLarge {
        /// Size of the batch.
        bytes: u64,
        /// Room in a segment.
        bytes_max: u64,
    },
    /// The store was closed while the disk had no room for what was committed last. None of that was confirmable, and none
    /// of it is stored.
    #[error(
        "the disk has no room for what came last ({source}); that was never confirmed and is not stored, all else is"
    )]
    NoRoomToClose {
        /// Where the room was missing.
        source: Box<Error>,
    },
    /// A worker of the store panicked: a bug. What it had under way is not known.
    #[error("{thread} panicked, which is a bug")]
    Panicked {
        /// The worker's thread.
        thread: &'static str,
    },
    /// A setting makes no sense.
    #[error("{0}")]
    Settings(String),
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// There is no room left on the disk, or in somebody's quota of it.
pub(crate) fn is_full(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Error {
    pub(crate) fn io(op: &'static str, file: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let file = file.into();
        move |source| Self::Io { op, file, source }
    }

    /// There was no room, and trying again is sound. A failed sync of the manifest or of the directory is something else,
    /// whatever it says: nothing is known of them after it.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Io { op: "sync", file, .. } if file == MANIFEST_NAME || file == DIRECTORY => false,
            Self::Io { source, .. } => is_full(source.kind()),
            _ => false,
        }
    }

    /// A sync failed, and not for want of room: what it was to make durable may be gone, whatever is tried next.
    pub(crate) fn is_failed_sync(&self) -> bool {
        matches!(self, Self::Io { op: "sync", .. }) && !self.is_full()
    }

    pub(crate) fn damage(file: impl Into<String>, offset: u64, what: impl Into<String>) -> Self {
        Self::Damage { file: file.into(), offset, what: what.into() }
    }
}

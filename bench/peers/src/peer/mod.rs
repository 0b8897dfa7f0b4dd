//! What is compared: each opened in a directory of its own, and written to by as many writers as are asked for.

mod bare;
mod fjall;
mod leveret;
#[cfg(feature = "mrecordlog")]
mod mrecordlog;
mod raft;
#[cfg(feature = "rocksdb")]
mod rocks;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::desk::{Desk, Group};
use crate::{Error, versions};

/// One writer's way in.
pub(crate) trait Append: Send {
    /// Returns when the record is on the disk.
    fn append(&mut self, record: &[u8]) -> Result<(), Error>;
}

/// A store that one thread drives.
pub(crate) trait Log: Send {
    /// Returns when all records are on the disk.
    fn commit(&mut self, group: &Group) -> Result<(), Error>;
}

/// A store that any thread writes to.
pub(crate) trait Engine: Send {
    /// The way in for a writer.
    fn writer(&self, index: usize) -> Result<Box<dyn Append>, Error>;
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Write 4 KiB, fdatasync, over and over, by one thread.
    Bare,
    /// The same with all records that wait in one write.
    BareDesk,
    Leveret,
    RaftEngine,
    /// With log files that were written before.
    RaftEnginePrefilled,
    Mrecordlog,
    MrecordlogDesk,
    Fjall,
    FjallDesk,
    Rocksdb,
    /// With log files that are used again.
    RocksdbRecycled,
}

/// All of them, in the order of the report.
pub(crate) const ALL: [Kind; 11] = [
    Kind::Bare,
    Kind::BareDesk,
    Kind::Leveret,
    Kind::RaftEngine,
    Kind::RaftEnginePrefilled,
    Kind::Rocksdb,
    Kind::RocksdbRecycled,
    Kind::Fjall,
    Kind::FjallDesk,
    Kind::Mrecordlog,
    Kind::MrecordlogDesk,
];

/// Who brings the records of several writers together.
const DESK: &str = "owner's thread";
const OWN: &str = "by itself";
const LOCK: &str = "none: each append by itself, in turns";

impl Kind {
    /// Whose name it is told by.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare loop",
            Self::BareDesk => "bare loop, grouped",
            Self::Leveret => "Leveret",
            Self::RaftEngine => "raft-engine",
            Self::RaftEnginePrefilled => "raft-engine, prefilled",
            Self::Mrecordlog => "mrecordlog",
            Self::MrecordlogDesk => "mrecordlog, grouped",
            Self::Fjall => "fjall",
            Self::FjallDesk => "fjall, grouped",
            Self::Rocksdb => "RocksDB",
            Self::RocksdbRecycled => "RocksDB, recycled logs",
        }
    }

    /// How it is made durable.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Bare | Self::BareDesk => "pwrite, fdatasync; the file written before",
            Self::Leveret => "Fsync::Always",
            Self::RaftEngine => "write(sync = true)",
            Self::RaftEnginePrefilled => "write(sync = true), prefill_for_recycle",
            Self::Mrecordlog => "PersistPolicy::Always(FlushAndFsync)",
            Self::MrecordlogDesk => "persist(FlushAndFsync)",
            Self::Fjall | Self::FjallDesk => "durability(PersistMode::SyncData)",
            Self::Rocksdb => "WriteOptions sync = true",
            Self::RocksdbRecycled => "WriteOptions sync = true, recycle_log_file_num = 4",
        }
    }

    /// Who brings the records of several writers together.
    pub(crate) fn grouping(self) -> &'static str {
        match self {
            Self::Bare => "one writer only",
            Self::BareDesk | Self::Leveret | Self::MrecordlogDesk | Self::FjallDesk => DESK,
            Self::RaftEngine | Self::RaftEnginePrefilled | Self::Rocksdb | Self::RocksdbRecycled => OWN,
            Self::Mrecordlog | Self::Fjall => LOCK,
        }
    }

    /// From what it is built, as the lock file has it.
    pub(crate) fn version(self) -> String {
        match self {
            Self::Bare | Self::BareDesk => String::new(),
            Self::Leveret => versions::locked("leveret-engine"),
            Self::RaftEngine | Self::RaftEnginePrefilled => versions::locked("raft-engine"),
            Self::Mrecordlog | Self::MrecordlogDesk => versions::locked("mrecordlog"),
            Self::Fjall | Self::FjallDesk => versions::locked("fjall"),
            Self::Rocksdb | Self::RocksdbRecycled => {
                let library = versions::mapped("librocksdb.so.").unwrap_or_else(|| "not loaded".into());
                format!("{library} (crate {})", versions::locked("rocksdb"))
            }
        }
    }

    /// Whether it is no engine but a measure for them.
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Self::Bare | Self::BareDesk)
    }

    /// How many threads write where so many are asked for.
    pub(crate) fn writers(self, asked: usize) -> usize {
        if self == Self::Bare { 1 } else { asked }
    }

    /// Why it has no row with so many writers, if so.
    pub(crate) fn left_out(self, writers: usize) -> Option<&'static str> {
        let desk = matches!(self, Self::BareDesk | Self::MrecordlogDesk | Self::FjallDesk);
        if desk && writers == 1 {
            return Some("with one writer there is nothing to group");
        }
        match self {
            #[cfg(not(feature = "mrecordlog"))]
            Self::Mrecordlog | Self::MrecordlogDesk => Some("built without it"),
            #[cfg(not(feature = "rocksdb"))]
            Self::Rocksdb | Self::RocksdbRecycled => Some("built without it"),
            _ => None,
        }
    }

    /// What is written before the run, so that the log stands in a file like those that it goes on in: an engine that makes
    /// its files ready before, or uses them again, has none such at its very first record.
    pub(crate) fn fill_bytes(self) -> usize {
        match self {
            Self::Leveret => 72 << 20,
            Self::RaftEnginePrefilled => 136 << 20,
            Self::RocksdbRecycled => 256 << 20,
            _ => 0,
        }
    }

    /// Opens it in an empty directory.
    pub(crate) fn open(self, directory: &Path, writers: usize) -> Result<Open, Error> {
        Ok(match self {
            Self::Bare => Open::locked(bare::Bare::create(directory)?),
            Self::BareDesk => Open::desk(bare::Bare::create(directory)?)?,
            // Without others there is nobody to hand anything to.
            Self::Leveret if writers == 1 => Open::locked(leveret::Leveret::open(directory, writers)?),
            Self::Leveret => Open::desk(leveret::Leveret::open(directory, writers)?)?,
            Self::RaftEngine => Open::Engine(Box::new(raft::Raft::open(directory, false)?)),
            Self::RaftEnginePrefilled => Open::Engine(Box::new(raft::Raft::open(directory, true)?)),
            Self::Fjall => Open::Engine(Box::new(fjall::Fjall::open(directory)?)),
            Self::FjallDesk => Open::desk(fjall::Fjall::open(directory)?)?,
            #[cfg(feature = "mrecordlog")]
            Self::Mrecordlog => Open::locked(mrecordlog::Records::open(directory, writers)?),
            #[cfg(feature = "mrecordlog")]
            Self::MrecordlogDesk => Open::desk(mrecordlog::Records::open_grouped(directory, writers)?)?,
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => Open::Engine(Box::new(rocks::Rocks::open(directory, false)?)),
            #[cfg(feature = "rocksdb")]
            Self::RocksdbRecycled => Open::Engine(Box::new(rocks::Rocks::open(directory, true)?)),
            #[allow(unreachable_patterns, reason = "by the features")]
            other => return Err(format!("built without {}", other.name()).into()),
        })
    }
}

/// An open store.
pub(crate) enum Open {
    /// Writers write to it themselves.
    Engine(Box<dyn Engine>),
    /// Writers take turns at it.
    Locked(Arc<Mutex<Box<dyn Log>>>),
    /// It has an owner who groups.
    Desk(Desk),
}

impl Open {
    fn locked(log: impl Log + 'static) -> Self {
        Self::Locked(Arc::new(Mutex::new(Box::new(log))))
    }

    fn desk(log: impl Log + 'static) -> Result<Self, Error> {
        Ok(Self::Desk(Desk::new(Box::new(log))?))
    }

    /// The way in for a writer.
    pub(crate) fn writer(&self, index: usize) -> Result<Box<dyn Append>, Error> {
        match self {
            Self::Engine(engine) => engine.writer(index),
            Self::Locked(log) => Ok(Box::new(Turns { log: Arc::clone(log), index, group: Group::default() })),
            Self::Desk(desk) => Ok(desk.writer(index)),
        }
    }
}

/// A writer that takes turns with others.
struct Turns {
    log: Arc<Mutex<Box<dyn Log>>>,
    index: usize,
    group: Group,
}

impl Append for Turns {
    fn append(&mut self, record: &[u8]) -> Result<(), Error> {
        self.group.clear();
        self.group.push(self.index, record);
        // Where one panicked, the run is lost anyway.
        self.log.lock().unwrap_or_else(PoisonError::into_inner).commit(&self.group)
    }
}

/// A record's key where the store wants one: in the order of each writer's records.
fn key(writer: usize, number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&(writer as u64).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

#[cfg(test)]
mod tests;

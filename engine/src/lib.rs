//! The durable store of the Leveret broker: numbered queues of opaque messages, acks and facts in a segmented
//! write-ahead log. No network, no async; one file knows threads.
//!
//! ```text
//! Store (front, one owner) -> inbox -> Writer -> frames in log segments -> sync -> Ledger, tickets
//!                          -> fetches -> Reader -> answers
//!                             Keeper: checkpoints, recycling, segments ahead of need; all listed in the Manifest
//!                             Spiller: transient messages beyond the memory budget -> volatile segments
//!                             Scrub: reads what is kept for long, to find what went bad
//!                             Settler: old log segments -> settled segments, grouped by queue; merging
//! Blobs (any thread) -> bodies -> BlobWriter: bodies of large messages into blob files, before their commit
//! ```
//!
//! The invariants E1 to E12, which the modules' comments name, stand in ARCHITECTURE.md.

mod batch;
mod blobs;
mod checkpoint;
mod codec;
mod controls;
mod disk;
mod error;
mod fetch;
mod format;
#[cfg(feature = "fuzz")]
pub mod fuzz;
#[cfg(test)]
mod golden;
mod group;
mod ids;
mod keeper;
mod ledger;
mod manifest;
pub mod offline;
mod ranges;
mod reader;
mod record;
mod recovery;
mod reserve;
mod scan;
mod scrub;
mod settings;
mod settled;
mod settler;
mod shared;
mod store;
mod sync;
mod threads;
mod volatile;
mod writer;

pub use batch::{Batch, Payload, Put, Urgency};
pub use blobs::{BlobRef, BlobWriter, Blobs, BodyBuffer, BodyWaiter, NotWritten};
pub use controls::Control;
#[cfg(feature = "sim")]
pub use disk::{CrashPlan, Fails, Moment, SimDisk, SimStats};
pub use disk::{Disk, DiskFile, DiskMap, RealDisk, SyncTimes};
pub use error::{Error, Result};
pub use fetch::{Fetch, Fetched};
pub use format::FORMAT_VERSION;
pub use ids::{EditNo, Epoch, FileId, FrameNo, QueueId, SegmentNo, Seq, Ticket};
pub use keeper::Keeper;
pub use ledger::LedgerMemory;
pub use reader::Reader;
pub use recovery::{Cut, Report};
pub use scrub::Scrub;
pub use settings::{Fsync, Settings};
pub use settler::Settler;
pub use shared::{Delivered, Pressure, Step};
pub use store::{Gauge, Recovered, RecoveredQueue, Stats, Store, Workers};
pub use threads::{Threads, start_threads};
pub use volatile::Spiller;
pub use writer::Writer;

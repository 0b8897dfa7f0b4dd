//! A file system whose power can be cut, whose syncs can lie and whose calls can fail, for the real binary.
//!
//! It is mounted by FUSE, so the kernel stands between it and the process as it does for any other: page cache, maps, direct
//! writes, locks. All of it is in memory. Each file and each directory is in two states: what the process sees, and what is
//! durable. fsync or fdatasync of a file makes its data and its length durable, fsync of a directory its names; neither does
//! the other's. A lost power leaves one of the states that lie between, which a seed chooses.

mod contents;
mod fault;
mod fuse;
mod loss;
mod mount;
mod names;
mod state;
#[cfg(test)]
mod tests;

pub use fault::{Call, Fault, How, Lie, Moment};
pub use loss::Lost;
pub use mount::{Disk, missing};

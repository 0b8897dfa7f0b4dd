//! Random damage to a store's files: the real engine makes a store with a past on a simulated disk, something happens to
//! one of its files (sometimes to two or three), and what an open, a scrub, a check and a repair make of it is judged.
//!
//! ```text
//! history   lives of a store, and what is known of every message: when it was put, and when it went
//! layout    what stands where in the files, to aim at
//! inflict   what happens to them
//! trial     open, read, scrub, write on; or refuse; check and repair
//! judge     nothing lost unsaid, nothing back that was gone, nothing that was never put
//! campaign  many of them, their floors, and the deliberate bugs
//! ```
//!
//! A *damage* is a number: every [`PER_STORE`] of them share a store.

mod campaign;
mod history;
mod inflict;
mod judge;
mod layout;
mod reached;
#[cfg(test)]
mod tests;
mod trial;

pub use campaign::{campaign, controls};
pub use inflict::Together;
pub use reached::Reached;
pub use trial::{Outcome, run, show};

/// Damages that begin with the same store.
pub const PER_STORE: u64 = 20;

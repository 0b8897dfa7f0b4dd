//! Judges a record of events against the invariants. It knows three sets: confirmed, uncertain (sent, and not
//! confirmed when the crash came) and acked, and allows exactly what they allow.

mod apply;
mod invariant;
mod moves;
mod order;
mod quorum;
mod state;
#[cfg(test)]
mod tests;
mod topology;

pub use invariant::{Invariant, Violation};
pub use state::{Checker, Counts};

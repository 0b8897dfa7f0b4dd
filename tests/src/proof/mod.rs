//! The proof: the layers of tests that attack the durability claim, run for as long as one likes, and a ledger that adds
//! up what was run since the code that is under attack changed last.

mod layer;
mod ledger;
#[cfg(test)]
mod tests;

pub use layer::{Layer, Round, Scale};
pub use ledger::{Entry, Ledger, Sum};

/// The highest rate of failures that so many trials without one leave open, at 95% confidence, in percent: the rule of
/// three.
pub fn bound_percent(trials: u64) -> f64 {
    if trials == 0 { 100.0 } else { (300.0 / trials as f64).min(100.0) }
}

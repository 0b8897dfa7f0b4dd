//! Bugs of the core that tests switch on, to prove that the harness would catch them. Without the feature `controls`
//! there is nothing to switch: [`Switches::has`] is false, and the compiler drops the branches.

/// One deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Control {
    /// A transaction is appended in pieces: each of its messages, then what it settles.
    TxInPieces,
    /// A dead letter's move is two appends: it leaves its old queue, then it comes to the new ones.
    MoveInTwo,
    /// A late answer to a fetch is taken in although its queue was purged meanwhile.
    StaleFetch,
}

impl Control {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TxInPieces, Self::MoveInTwo, Self::StaleFetch];
}

/// Which bug is switched on.
#[derive(Debug, Default)]
pub(crate) struct Switches {
    #[cfg(feature = "controls")]
    pub(crate) control: Option<Control>,
}

impl Switches {
    /// Whether a deliberate bug is switched on. Always false in a shipped binary.
    pub(crate) fn has(&self, control: Control) -> bool {
        #[cfg(feature = "controls")]
        {
            self.control == Some(control)
        }
        #[cfg(not(feature = "controls"))]
        {
            let _ = control;
            false
        }
    }
}

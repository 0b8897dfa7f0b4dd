//! Exit codes of the binary, for every command.

use std::process::ExitCode;

/// Why the process ends. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All done.
    Done = 0,
    /// The server, the store or the operating system said no.
    Refused = 1,
    /// The command line or a setting is wrong.
    Usage = 2,
    /// There is no server to talk to.
    NoConnection = 3,
    /// The store needs `leveret repair`.
    NeedsRepair = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

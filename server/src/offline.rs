//! The offline commands: check, repair, inspect.

use std::process::ExitCode;

use crate::cli::{OfflineCommand, complain};
use crate::exit::Exit;

/// Runs one.
pub fn run(command: &OfflineCommand, _json: bool) -> ExitCode {
    let name = match command {
        OfflineCommand::Check(_) => "check",
        OfflineCommand::Repair(_) => "repair",
        OfflineCommand::Inspect(_) => "inspect",
    };
    complain(&format!("`leveret {name}` is not available yet"));
    Exit::Refused.into()
}

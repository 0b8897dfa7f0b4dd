//! Why a client command failed, and the one table from gRPC errors to it.

use std::error::Error;
use std::io;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::exit::Exit;

/// Why a client command failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server said no, or something local did not work.
    Refused(String),
    /// The command line is wrong.
    Usage(String),
    /// No server answers, or the connection broke.
    NoConnection(String),
    /// Whoever read our output has left: no failure of ours, and nobody to tell.
    OutputClosed,
}

impl Failure {
    /// What to tell, if anything.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Refused(text) | Self::Usage(text) | Self::NoConnection(text) => Some(text),
            Self::OutputClosed => None,
        }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Refused(_) => Exit::Refused,
            Self::Usage(_) => Exit::Usage,
            Self::NoConnection(_) => Exit::NoConnection,
            Self::OutputClosed => Exit::Done,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let reason = status.get_details_error_info().map(|info| info.reason);
        match (reason, status.source()) {
            (Some(reason), _) => Self::Refused(format!("{} ({reason})", status.message())),
            // Without a reason and with a cause it was made on this side, from a broken connection.
            (None, Some(source)) if broken(status.code()) => {
                Self::NoConnection(format!("the connection to the server broke: {}", deepest(source)))
            }
            (None, _) => Self::Refused(format!("{} ({:?})", status.message(), status.code())),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Refused(e.to_string()),
        }
    }
}

/// The innermost cause: the one that says what happened.
pub(super) fn deepest<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error
}

fn broken(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled)
}

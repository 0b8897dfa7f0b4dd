//! Reply codes, their scope, and the one table from the core's refusals to them: AMQP 0-9-1, reference, section 1.2.

use leveret_broker::{Refusal, RefusalKind};

use super::wire::cut;

/// A reply code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the specification's names say it")]
pub enum ReplyCode {
    NoRoute,
    ConnectionForced,
    AccessRefused,
    NotFound,
    ResourceLocked,
    PreconditionFailed,
    FrameError,
    SyntaxError,
    CommandInvalid,
    ChannelError,
    UnexpectedFrame,
    ResourceError,
    NotAllowed,
    NotImplemented,
    InternalError,
}

impl ReplyCode {
    /// The number.
    pub fn number(self) -> u16 {
        self.entry().0
    }

    /// "NOT_FOUND".
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// Ends the connection, not only the channel.
    pub fn ends_connection(self) -> bool {
        self.entry().2
    }

    fn entry(self) -> (u16, &'static str, bool) {
        match self {
            Self::NoRoute => (312, "NO_ROUTE", false),
            Self::ConnectionForced => (320, "CONNECTION_FORCED", true),
            Self::AccessRefused => (403, "ACCESS_REFUSED", false),
            Self::NotFound => (404, "NOT_FOUND", false),
            Self::ResourceLocked => (405, "RESOURCE_LOCKED", false),
            Self::PreconditionFailed => (406, "PRECONDITION_FAILED", false),
            Self::FrameError => (501, "FRAME_ERROR", true),
            Self::SyntaxError => (502, "SYNTAX_ERROR", true),
            Self::CommandInvalid => (503, "COMMAND_INVALID", true),
            Self::ChannelError => (504, "CHANNEL_ERROR", true),
            Self::UnexpectedFrame => (505, "UNEXPECTED_FRAME", true),
            Self::ResourceError => (506, "RESOURCE_ERROR", true),
            Self::NotAllowed => (530, "NOT_ALLOWED", true),
            Self::NotImplemented => (540, "NOT_IMPLEMENTED", true),
            Self::InternalError => (541, "INTERNAL_ERROR", true),
        }
    }
}

impl From<RefusalKind> for ReplyCode {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::NotFound => Self::NotFound,
            RefusalKind::ResourceLocked => Self::ResourceLocked,
            RefusalKind::AccessRefused => Self::AccessRefused,
            RefusalKind::PreconditionFailed
            | RefusalKind::InvalidArgument
            | RefusalKind::AckIdStale
            | RefusalKind::SessionRequired
            | RefusalKind::AlreadyExists
            | RefusalKind::Overflow
            | RefusalKind::TooLarge => Self::PreconditionFailed,
            RefusalKind::NotAllowed => Self::NotAllowed,
            RefusalKind::NotImplemented => Self::NotImplemented,
            RefusalKind::ShuttingDown | RefusalKind::ConnectionForced => Self::ConnectionForced,
            RefusalKind::DataLoss => Self::InternalError,
        }
    }
}

/// Why a channel or a connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code; it says what ends.
    pub code: ReplyCode,
    /// The explanation, without the code's name before it.
    pub text: String,
    /// Class and method that failed; zeros where it was none.
    pub ids: (u16, u16),
}

impl Failure {
    pub(super) fn new(code: ReplyCode, text: impl Into<String>, ids: (u16, u16)) -> Self {
        Self { code, text: text.into(), ids }
    }

    pub(super) fn refused(refusal: Refusal, ids: (u16, u16)) -> Self {
        Self::new(refusal.kind.into(), refusal.text, ids)
    }

    /// "NOT_FOUND - no queue 'q' in vhost '/'", cut to what a short string takes.
    pub(super) fn reply_text(&self) -> String {
        let mut text = format!("{} - {}", self.code.name(), self.text);
        text.truncate(cut(&text, u8::MAX.into()).len());
        text
    }
}

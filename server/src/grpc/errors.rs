//! Refusals as gRPC says them: a canonical code and google.rpc.ErrorInfo. The one table from kind to code.

use std::collections::HashMap;
use std::time::Duration;

use leveret_broker::{Refusal, RefusalKind};
use leveret_proto::v1::ErrorEntry;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::auth::Refused;
use crate::bodies::NoBodies;

/// When to try again after the disk was low.
const DISK_RETRY: Duration = Duration::from_secs(5);

/// ErrorInfo.domain of every error.
pub(super) const DOMAIN: &str = "leveret";

/// The status of a call that was refused.
pub(super) fn status(refusal: Refusal) -> Status {
    let (code, reason) = code_and_reason(&refusal);
    let metadata: HashMap<String, String> =
        refusal.details.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Status::with_error_details(code, refusal.text, ErrorDetails::with_error_info(reason, DOMAIN, metadata))
}

/// The error of one entry of a call that goes on.
pub(super) fn entry(refusal: Refusal) -> ErrorEntry {
    let (code, reason) = code_and_reason(&refusal);
    ErrorEntry { code: code.into(), reason: reason.to_owned(), message: refusal.text }
}

/// The error of a publish on a stream, of which only the kind is known.
pub(super) fn publish_entry(kind: RefusalKind) -> ErrorEntry {
    let refusal = match kind {
        RefusalKind::NotFound => Refusal::new(kind, "the exchange does not exist").with("exchange", ""),
        RefusalKind::AccessRefused => {
            Refusal::new(kind, "the user may not publish to the exchange, or it is internal")
        }
        RefusalKind::PreconditionFailed => Refusal::new(kind, "a queue refused the message"),
        RefusalKind::Overflow => Refusal::new(kind, "a queue is full and takes no more messages"),
        RefusalKind::TooLarge => Refusal::new(kind, "the message is too large"),
        RefusalKind::ShuttingDown => shutting_down(),
        _ => Refusal::new(kind, "the message was refused"),
    };
    entry(refusal)
}

/// A settle that named a delivery that is not out.
pub(super) fn unknown_delivery_tag(tag: u64) -> ErrorEntry {
    ErrorEntry {
        code: Code::FailedPrecondition.into(),
        reason: "DELIVERY_TAG_UNKNOWN".to_owned(),
        message: format!("delivery tag {tag} is not out on this stream"),
    }
}

/// An ack id that this server never gave.
pub(super) fn malformed_ack_id() -> ErrorEntry {
    ErrorEntry {
        code: Code::InvalidArgument.into(),
        reason: "ACK_ID_MALFORMED".to_owned(),
        message: "this is not an ack id of a delivery".to_owned(),
    }
}

/// A field of a request that can never be right.
pub(super) fn invalid(field: &'static str, text: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::InvalidArgument, text).with("field", field)
}

/// A login that is refused.
pub(super) fn unauthenticated(refused: Refused) -> Status {
    let (code, reason, text) = match refused {
        // What of it is wrong is nobody's business who does not know it.
        Refused::Wrong | Refused::NotFromThere => (Code::Unauthenticated, "UNAUTHENTICATED", "login refused"),
        Refused::Missing => (
            Code::Unauthenticated,
            "UNAUTHENTICATED",
            "this call needs a login: metadata authorization with Basic BASE64(USER:PASSWORD)",
        ),
        Refused::Busy => {
            (Code::ResourceExhausted, "LOGINS_BUSY", "too many logins wait to be checked; try again later")
        }
        Refused::Gone => return status(shutting_down()),
    };
    with_reason(code, reason, text)
}

/// A login that cannot be read.
pub(super) fn malformed_login(text: &'static str) -> Status {
    with_reason(Code::Unauthenticated, "LOGIN_MALFORMED", text)
}

fn with_reason(code: Code, reason: &str, text: &str) -> Status {
    Status::with_error_details(code, text, ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new()))
}

/// There is too little room on the disk for new messages.
pub(super) fn disk_low() -> Status {
    let text = "too little is free on the server's disk: nothing new is published until messages are consumed or room is made";
    let mut details = ErrorDetails::with_error_info("DISK_LOW", DOMAIN, HashMap::new());
    details.set_retry_info(Some(DISK_RETRY));
    Status::with_error_details(Code::ResourceExhausted, text, details)
}

/// Large bodies did not get to the disk.
pub(super) fn no_bodies(why: NoBodies) -> Status {
    match why {
        NoBodies::Gone => status(shutting_down()),
        NoBodies::NotWritten(why) => with_reason(Code::Unavailable, "NOT_WRITTEN", &why.to_string()),
    }
}

/// The process is stopping.
pub(super) fn shutting_down() -> Refusal {
    Refusal::new(RefusalKind::ShuttingDown, "shutting down")
}

/// An answer of the core that does not belong to the request: a mistake of ours, not of the client's.
pub(super) fn unexpected(reply: &leveret_broker::Reply) -> Status {
    tracing::error!(?reply, "answer that does not belong to the request");
    Status::internal("the broker gave an answer that does not belong to the request")
}

fn code_and_reason(refusal: &Refusal) -> (Code, &'static str) {
    let names = |key| refusal.details.iter().any(|(name, _)| *name == key);
    match refusal.kind {
        RefusalKind::NotFound if names("session") => (Code::NotFound, "SESSION_NOT_FOUND"),
        RefusalKind::NotFound if names("queue") => (Code::NotFound, "QUEUE_NOT_FOUND"),
        RefusalKind::NotFound if names("exchange") => (Code::NotFound, "EXCHANGE_NOT_FOUND"),
        RefusalKind::NotFound if names("user") => (Code::NotFound, "USER_NOT_FOUND"),
        RefusalKind::NotFound => (Code::NotFound, "NOT_FOUND"),
        RefusalKind::ResourceLocked => (Code::FailedPrecondition, "RESOURCE_LOCKED"),
        RefusalKind::PreconditionFailed => (Code::FailedPrecondition, "PRECONDITION_FAILED"),
        RefusalKind::AccessRefused => (Code::PermissionDenied, "ACCESS_REFUSED"),
        RefusalKind::AlreadyExists => (Code::AlreadyExists, "ALREADY_EXISTS"),
        RefusalKind::ConnectionForced => (Code::Aborted, "CONNECTION_FORCED"),
        RefusalKind::NotAllowed => (Code::FailedPrecondition, "NOT_ALLOWED"),
        RefusalKind::NotImplemented => (Code::Unimplemented, "NOT_IMPLEMENTED"),
        RefusalKind::InvalidArgument => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        RefusalKind::AckIdStale => (Code::FailedPrecondition, "ACK_ID_STALE"),
        RefusalKind::SessionRequired => (Code::InvalidArgument, "SESSION_REQUIRED"),
        RefusalKind::TooLarge => (Code::InvalidArgument, "MESSAGE_TOO_LARGE"),
        RefusalKind::Overflow => (Code::ResourceExhausted, "QUEUE_FULL"),
        RefusalKind::ShuttingDown => (Code::Unavailable, "SHUTTING_DOWN"),
        RefusalKind::DataLoss => (Code::DataLoss, "DATA_LOSS"),
    }
}

#[cfg(test)]
mod tests;

//! Guards against refusals that lose their reason on the way to the client.

use tonic_types::StatusExt as _;

use super::*;

#[test]
fn every_kind_has_its_code_and_reason() {
    use RefusalKind::*;
    let table = [
        (NotFound, "queue", Code::NotFound, "QUEUE_NOT_FOUND"),
        (NotFound, "exchange", Code::NotFound, "EXCHANGE_NOT_FOUND"),
        (NotFound, "session", Code::NotFound, "SESSION_NOT_FOUND"),
        (NotFound, "vhost", Code::NotFound, "NOT_FOUND"),
        (ResourceLocked, "queue", Code::FailedPrecondition, "RESOURCE_LOCKED"),
        (PreconditionFailed, "queue", Code::FailedPrecondition, "PRECONDITION_FAILED"),
        (AccessRefused, "queue", Code::PermissionDenied, "ACCESS_REFUSED"),
        (NotAllowed, "queue", Code::FailedPrecondition, "NOT_ALLOWED"),
        (NotImplemented, "queue", Code::Unimplemented, "NOT_IMPLEMENTED"),
        (InvalidArgument, "field", Code::InvalidArgument, "INVALID_ARGUMENT"),
        (AckIdStale, "queue", Code::FailedPrecondition, "ACK_ID_STALE"),
        (SessionRequired, "queue", Code::InvalidArgument, "SESSION_REQUIRED"),
        (TooLarge, "queue", Code::InvalidArgument, "MESSAGE_TOO_LARGE"),
        (Overflow, "queue", Code::ResourceExhausted, "QUEUE_FULL"),
        (ShuttingDown, "queue", Code::Unavailable, "SHUTTING_DOWN"),
        (DataLoss, "queue", Code::DataLoss, "DATA_LOSS"),
    ];
    for (kind, key, code, reason) in table {
        let refusal = || Refusal::new(kind, "a sentence").with(key, "value").with("expected", "true");
        let status = status(refusal());
        assert_eq!((status.code(), status.message()), (code, "a sentence"));
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, DOMAIN));
        assert_eq!(info.metadata[key], "value");
        assert_eq!(info.metadata["expected"], "true");
        let entry = entry(refusal());
        assert_eq!((entry.code, entry.reason.as_str()), (code as i32, reason));
        assert!(!publish_entry(kind).message.is_empty());
    }
}

//! Names in requests: checked once at the edge.

use std::sync::Arc;

use leveret_broker::Refusal;

use super::errors::invalid;
use crate::recent::Recent;

/// Longest name, in bytes: AMQP gives its length one byte.
pub(super) const NAME_BYTES_MAX: usize = 255;

/// A name that may be empty.
pub(super) fn name(field: &'static str, value: &str) -> Result<Arc<str>, Refusal> {
    check(field, value)?;
    Ok(Arc::from(value))
}

/// A name that must be there.
pub(super) fn some_name(field: &'static str, value: &str) -> Result<Arc<str>, Refusal> {
    if value.is_empty() {
        return Err(invalid(field, format!("{field} must not be empty")));
    }
    name(field, value)
}

/// A virtual host; "" is "/".
pub(super) fn vhost(value: &str) -> Result<Arc<str>, Refusal> {
    name("vhost", if value.is_empty() { "/" } else { value })
}

pub(super) fn check(field: &'static str, value: &str) -> Result<(), Refusal> {
    if value.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    let text = format!("{field} has {} bytes, at most {NAME_BYTES_MAX} are allowed", value.len());
    Err(invalid(field, text).with("limit", NAME_BYTES_MAX.to_string()))
}

/// The shared form of a name that may be empty.
pub(super) fn shared(recent: &mut Recent, field: &'static str, value: &str) -> Result<Arc<str>, Refusal> {
    check(field, value)?;
    Ok(recent.share(value))
}

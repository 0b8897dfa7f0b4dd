//! Arguments of exchanges.

use std::sync::Arc;

use super::{differs, equivalent, invalid};
use crate::refusal::Refusal;
use crate::value::{Table, Value};

/// Names the exchange for messages that no binding takes.
const ALTERNATE: &str = "alternate-exchange";

/// Checks the arguments of a new exchange; `what` names it in sentences.
pub(crate) fn check(what: &str, arguments: &Table) -> Result<(), Refusal> {
    match arguments.get(ALTERNATE) {
        None => Ok(()),
        Some(Value::Bytes(name)) if std::str::from_utf8(name).is_ok() => Ok(()),
        Some(value) => Err(invalid(ALTERNATE, what, "must be the name of an exchange", value)),
    }
}

/// The alternate exchange that arguments name.
pub(crate) fn alternate(arguments: &Table) -> Option<Arc<str>> {
    match arguments.get(ALTERNATE)? {
        Value::Bytes(name) => std::str::from_utf8(name).ok().map(Arc::from),
        _ => None,
    }
}

/// Whether two declarations agree in the one argument that counts.
pub(crate) fn same(what: &str, received: &Table, current: &Table) -> Result<(), Refusal> {
    match (received.get(ALTERNATE), current.get(ALTERNATE)) {
        (None, None) => Ok(()),
        (Some(a), Some(b)) if equivalent(a, b) => Ok(()),
        (received, current) => Err(differs(ALTERNATE, what, received, current)),
    }
}

//! What a client says of itself.

use leveret_broker::{Table, Value};

/// The client's properties, as far as they matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Client {
    /// Product and version, for listings.
    pub(super) name: String,
    /// Wants to hear when the broker ends a consumer.
    pub(super) consumer_cancel_notify: bool,
    /// Wants to hear when its publishes wait.
    pub(super) connection_blocked: bool,
    /// Wants to be told why a login was refused.
    pub(super) authentication_failure_close: bool,
}

/// Longest name kept of a client.
const NAME_CHARS_MAX: usize = 200;

impl Client {
    pub(super) fn from_properties(properties: &Table) -> Self {
        let capable = |name| match properties.get("capabilities") {
            Some(Value::Table(capabilities)) => capabilities.get(name) == Some(&Value::Bool(true)),
            _ => false,
        };
        let words = ["product", "version"].into_iter().filter_map(|name| text(properties.get(name)?));
        let name = words.collect::<Vec<_>>().join(" ");
        Self {
            name: name.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect(),
            consumer_cancel_notify: capable("consumer_cancel_notify"),
            connection_blocked: capable("connection.blocked"),
            authentication_failure_close: capable("authentication_failure_close"),
        }
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    }
}

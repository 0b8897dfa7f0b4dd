//! How a step is refused.

use serde::Deserialize;

/// A reply code and its explanation: "404 no queue 'q' in vhost '/'". With "…" at its end only the start is compared.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Fault {
    pub(super) code: u16,
    pub(super) text: String,
}

impl TryFrom<String> for Fault {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (code, rest) = text.split_once(' ').unwrap_or((&text, "…"));
        let code = code.parse().map_err(|_| format!("'{text}' does not begin with a reply code"))?;
        let fault = Self { code, text: rest.into() };
        fault.name().ok_or_else(|| format!("there is no reply code {code}"))?;
        Ok(fault)
    }
}

impl Fault {
    /// "NOT_FOUND".
    pub(super) fn name(&self) -> Option<&'static str> {
        Some(match self.code {
            311 => "CONTENT_TOO_LARGE",
            312 => "NO_ROUTE",
            313 => "NO_CONSUMERS",
            320 => "CONNECTION_FORCED",
            402 => "INVALID_PATH",
            403 => "ACCESS_REFUSED",
            404 => "NOT_FOUND",
            405 => "RESOURCE_LOCKED",
            406 => "PRECONDITION_FAILED",
            501 => "FRAME_ERROR",
            502 => "SYNTAX_ERROR",
            503 => "COMMAND_INVALID",
            504 => "CHANNEL_ERROR",
            505 => "UNEXPECTED_FRAME",
            506 => "RESOURCE_ERROR",
            530 => "NOT_ALLOWED",
            540 => "NOT_IMPLEMENTED",
            541 => "INTERNAL_ERROR",
            _ => return None,
        })
    }

    /// What the code ends: the connection, or the channel alone.
    pub(super) fn ends_connection(&self) -> bool {
        self.code == 320 || self.code == 402 || self.code >= 501
    }

    /// Whether an explanation is the one that is expected.
    pub(super) fn matches(&self, explanation: &str) -> bool {
        match self.text.strip_suffix('…') {
            Some(start) => explanation.starts_with(start),
            None => explanation == self.text,
        }
    }

    /// The same as RabbitMQ 3.10 says it: without the kind of access that is refused.
    pub(super) fn without_kind(&self) -> Self {
        let kinds = ["configure ", "write ", "read "];
        let rest = kinds.iter().find_map(|kind| self.text.strip_prefix(kind));
        Self { code: self.code, text: rest.unwrap_or(&self.text).into() }
    }
}

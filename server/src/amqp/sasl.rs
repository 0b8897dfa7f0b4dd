//! Logins: SASL PLAIN (RFC 4616) and AMQPLAIN, which is a table without its length.

use std::fmt;

use leveret_broker::{Table, Value, table_codec};

/// A name and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Vec<u8>,
}

impl fmt::Debug for Credentials {
    /// The password is never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// `[authzid] NUL user NUL password`; None when it is not that.
pub(super) fn plain(response: &[u8]) -> Option<Credentials> {
    let mut parts = response.splitn(3, |byte| *byte == 0);
    let (_, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Credentials { user: String::from_utf8(user.to_vec()).ok()?, password: password.to_vec() })
}

/// Entries LOGIN and PASSWORD; None when it is not that.
pub(super) fn amqplain(response: &[u8]) -> Option<Credentials> {
    let mut table = u32::try_from(response.len()).ok()?.to_be_bytes().to_vec();
    table.extend_from_slice(response);
    let table: Table = table_codec::decode_table(&table).ok()?;
    let entry = |name| match table.get(name) {
        Some(Value::Bytes(bytes)) => Some(bytes.to_vec()),
        _ => None,
    };
    Some(Credentials { user: String::from_utf8(entry("LOGIN")?).ok()?, password: entry("PASSWORD")? })
}

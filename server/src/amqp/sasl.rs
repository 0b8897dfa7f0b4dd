//! Logins: SASL PLAIN (RFC 4616) and AMQPLAIN, which is a table without its length.

use leveret_broker::{Table, Value, table_codec};

/// A name and a password.
#[derive(PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    password: Vec<u8>,
}

impl Credentials {
    /// These very ones. How long the comparison takes tells nothing of the password.
    pub(super) fn are(&self, user: &str, password: &str) -> bool {
        let password = password.as_bytes();
        let same_length = self.password.len() == password.len();
        let differing = self.password.iter().zip(password).fold(0, |sum, (a, b)| sum | (a ^ b));
        self.user == user && same_length && differing == 0
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

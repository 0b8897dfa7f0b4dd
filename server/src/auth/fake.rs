//! Users for tests of what is built on logins: guest with its password, and `other` with the password "secret".

use std::sync::OnceLock;

use leveret_broker::{Op, PasswordHash, Refusal, RefusalKind, Reply, UserRecord};

use super::{GUEST, Password, hasher};

/// What a core with these users answers to the questions of logins; None for every other question.
pub(crate) fn answer(op: &Op) -> Option<Result<Reply, Refusal>> {
    match op {
        Op::LookUpUser { name } => {
            let password_hash = hash_of(name);
            let record = password_hash.map(|hash| UserRecord {
                name: name.clone(),
                password_hash: PasswordHash(hash.into()),
                tags: Vec::new(),
            });
            Some(Ok(Reply::User(record)))
        }
        Op::EnterVhost { vhost, .. } if &**vhost == "/" => Some(Ok(Reply::Done)),
        Op::EnterVhost { .. } => Some(Err(Refusal::new(RefusalKind::NotFound, "no such vhost"))),
        _ => None,
    }
}

fn hash_of(user: &str) -> Option<&'static str> {
    static GUESTS: OnceLock<String> = OnceLock::new();
    static OTHERS: OnceLock<String> = OnceLock::new();
    let hashed = |password: &str| hasher::hash(&Password::new(password)).expect("a hash");
    match user {
        GUEST => Some(GUESTS.get_or_init(|| hashed("guest"))),
        "other" => Some(OTHERS.get_or_init(|| hashed("secret"))),
        _ => None,
    }
}

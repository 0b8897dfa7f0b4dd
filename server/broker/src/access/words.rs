//! Users, virtual hosts and permissions as requests and answers speak of them.

use std::sync::Arc;

/// A virtual host to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddVhost {
    /// Name.
    pub name: Arc<str>,
    /// What it is for.
    pub description: Arc<str>,
    /// Words for the operator's own use.
    pub tags: Vec<Arc<str>>,
}

/// A user to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddUser {
    /// Name.
    pub name: Arc<str>,
    /// Password, hashed.
    pub password_hash: PasswordHash,
    /// See [`crate::Op::SetUserTags`].
    pub tags: Vec<Arc<str>>,
}

/// What a user may do in a virtual host: three regular expressions over names of queues and exchanges. One that is not
/// anchored fits anywhere in a name; an empty one fits no name but the empty one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permissions {
    /// Virtual host.
    pub vhost: Arc<str>,
    /// User.
    pub user: Arc<str>,
    /// What may be declared and deleted.
    pub configure: Arc<str>,
    /// What may be published to, and bound to something.
    pub write: Arc<str>,
    /// What may be consumed from, and have something bound to it.
    pub read: Arc<str>,
}

/// With which routing keys a user may use a topic exchange. A user without any for an exchange may use all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPermissions {
    /// Virtual host.
    pub vhost: Arc<str>,
    /// User.
    pub user: Arc<str>,
    /// Exchange.
    pub exchange: Arc<str>,
    /// Routing keys of publishes, a regular expression.
    pub write: Arc<str>,
    /// Routing keys of bindings, a regular expression.
    pub read: Arc<str>,
}

/// A user, for who checks passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Name.
    pub name: Arc<str>,
    /// Password, hashed.
    pub password_hash: PasswordHash,
    /// Tags.
    pub tags: Vec<Arc<str>>,
}

/// A line of ListUsers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// Name.
    pub name: Arc<str>,
    /// Tags.
    pub tags: Vec<Arc<str>>,
}

/// A line of ListVhosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VhostRow {
    /// Name.
    pub name: Arc<str>,
    /// What it is for.
    pub description: Arc<str>,
    /// Words for the operator's own use.
    pub tags: Vec<Arc<str>>,
}

/// A hashed password as a PHC string, in which the core does not look. Empty: no password fits.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PasswordHash(pub Arc<str>);

impl std::fmt::Debug for PasswordHash {
    /// Says no more than is needed, as it may go to a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "hashed" })
    }
}

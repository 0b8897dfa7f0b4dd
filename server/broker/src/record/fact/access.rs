//! Virtual hosts, users and permissions as facts.

/// A virtual host.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VhostFact {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What it is for.
    #[prost(string, tag = "2")]
    pub description: String,
    /// Words for the operator's own use.
    #[prost(string, repeated, tag = "3")]
    pub tags: Vec<String>,
}

/// A user. Its secret is only ever the hash of one, and even that no one prints.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub struct UserFact {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Password, hashed, as a PHC string; empty when no password fits.
    #[prost(string, tag = "2")]
    pub password_hash: String,
    /// Tags.
    #[prost(string, repeated, tag = "3")]
    pub tags: Vec<String>,
}

impl std::fmt::Debug for UserFact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserFact").field("name", &self.name).field("tags", &self.tags).finish_non_exhaustive()
    }
}

/// What a user may do in a virtual host.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PermissionFact {
    /// Virtual host.
    #[prost(string, tag = "1")]
    pub vhost: String,
    /// User.
    #[prost(string, tag = "2")]
    pub user: String,
    /// What may be declared and deleted, a regular expression like the others.
    #[prost(string, tag = "3")]
    pub configure: String,
    /// What may be published to, and bound to something.
    #[prost(string, tag = "4")]
    pub write: String,
    /// What may be consumed from, and have something bound to it.
    #[prost(string, tag = "5")]
    pub read: String,
}

/// With which routing keys a user may use a topic exchange.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TopicPermissionFact {
    /// Virtual host.
    #[prost(string, tag = "1")]
    pub vhost: String,
    /// User.
    #[prost(string, tag = "2")]
    pub user: String,
    /// Exchange, which need not exist.
    #[prost(string, tag = "3")]
    pub exchange: String,
    /// Routing keys of publishes, a regular expression.
    #[prost(string, tag = "4")]
    pub write: String,
    /// Routing keys of bindings, a regular expression.
    #[prost(string, tag = "5")]
    pub read: String,
}

/// The store was given its first virtual host and user. From here on only what facts name exists.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DefaultsFact {}

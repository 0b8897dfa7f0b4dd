//! What can be asked for.

use std::sync::Arc;

use super::{Binding, Consume, DeclareExchange, DeclareQueue, Get, Publish, Settle};
use crate::access::words::{AddUser, AddVhost, PasswordHash, Permissions, TopicPermissions};
use crate::ids::{AckId, ChanId};

/// A request's verb.
#[derive(Debug)]
pub enum Op {
    /// Declare an exchange.
    DeclareExchange(DeclareExchange),
    /// Delete an exchange; one that does not exist is fine.
    DeleteExchange {
        /// Name.
        name: Arc<str>,
        /// Refuse when it has bindings.
        if_unused: bool,
    },
    /// Declare a queue.
    DeclareQueue(DeclareQueue),
    /// Delete a queue; one that does not exist is fine.
    DeleteQueue {
        /// Name.
        name: Arc<str>,
        /// Refuse when it has consumers.
        if_unused: bool,
        /// Refuse when it has ready messages.
        if_empty: bool,
    },
    /// Remove all ready messages of a queue.
    PurgeQueue {
        /// Name.
        name: Arc<str>,
    },
    /// Add a binding; one that exists is fine.
    Bind(Binding),
    /// Remove a binding; one that does not exist is fine.
    Unbind(Binding),
    /// Publish a batch: all of it or none of it survives a crash. Answered when it is durable.
    Publish(Vec<Publish>),
    /// Take up to `count` messages.
    Get(Get),
    /// Settle deliveries by ack id, from any connection. Answered when durable, one result per id.
    SettleIds {
        /// The deliveries.
        ids: Vec<AckId>,
        /// What to do with them.
        how: Settle,
    },
    /// Start a consumer.
    Consume(Consume),
    /// End a consumer. What it has out stays out on the channel.
    Cancel {
        /// Its channel.
        chan: ChanId,
        /// Its tag.
        consumer_tag: Arc<str>,
    },
    /// Change the shared prefetch of a channel (AMQP basic.qos global=true). 0: no limit.
    ChannelPrefetch {
        /// The channel.
        chan: ChanId,
        /// Messages that may be out on the whole channel.
        messages: u32,
    },
    /// Make a strict channel transactional: its publishes and settlements wait for a commit. Its publishes have no
    /// confirms from here on.
    TxSelect {
        /// The channel.
        chan: ChanId,
    },
    /// Carry out all publishes and settlements since the last commit or rollback as one atomic append, or refuse all of
    /// them. Answered when durable.
    TxCommit {
        /// The channel.
        chan: ChanId,
    },
    /// Forget the publishes and settlements since the last commit or rollback: what they settled is out again.
    TxRollback {
        /// The channel.
        chan: ChanId,
    },
    /// Requeue all that is out on a channel (AMQP basic.recover with requeue).
    Recover {
        /// The channel.
        chan: ChanId,
    },
    /// Answered when nothing is out on a channel any more, or it is closed. Deliveries of queues that are gone do not
    /// count: nobody can settle them.
    WhenIdle {
        /// The channel.
        chan: ChanId,
    },
    /// Close a channel; answered when what it had out is requeued. Works on one that has failed.
    CloseChannel {
        /// The channel.
        chan: ChanId,
    },
    /// Close the request's connection; answered when its exclusive queues are gone and what it had out is requeued.
    CloseConnection,
    /// Nothing: answered at once, behind the effects of all that came before.
    Barrier,
    /// List exchanges of the vhost.
    ListExchanges,
    /// List queues of the vhost.
    ListQueues {
        /// Only this one; it is an error when it does not exist.
        name: Option<Arc<str>>,
    },
    /// List bindings of the vhost.
    ListBindings,
    /// List consumers of the vhost.
    ListConsumers,
    /// List connections: all of them for administrators and users who monitor, else those of the user.
    ListConnections,
    /// List channels, with the same restriction.
    ListChannels,
    /// Counters of the core.
    Stats,

    /// Once in a store's life: the virtual host "/", a user with the tag administrator and all permissions on it, and
    /// a mark that this was done. With the mark there it changes nothing.
    MakeDefaults {
        /// The user's name.
        user: Arc<str>,
        /// The user's password, hashed.
        password_hash: PasswordHash,
    },
    /// Add a virtual host; one that exists is fine and stays as it is.
    AddVhost(AddVhost),
    /// Delete a virtual host with its exchanges, queues, bindings and permissions; its connections end.
    DeleteVhost {
        /// Name.
        name: Arc<str>,
    },
    /// List virtual hosts: those that the user may enter, or all of them for administrators and users who monitor.
    ListVhosts,
    /// Add a user, who may do nothing yet; refused when there is one of that name.
    AddUser(AddUser),
    /// Give a user another password.
    ChangePassword {
        /// Name.
        name: Arc<str>,
        /// The new one.
        password_hash: PasswordHash,
    },
    /// Delete a user with all permissions; the user's connections end.
    DeleteUser {
        /// Name.
        name: Arc<str>,
    },
    /// Replace a user's tags.
    SetUserTags {
        /// Name.
        name: Arc<str>,
        /// "administrator", "monitoring", "impersonator"; others are kept and mean nothing.
        tags: Vec<Arc<str>>,
    },
    /// List users.
    ListUsers,
    /// Set what a user may do in a virtual host, in place of what was set before.
    SetPermissions(Permissions),
    /// Take a user's permissions in a virtual host away; none is fine.
    ClearPermissions {
        /// User.
        user: Arc<str>,
        /// Virtual host.
        vhost: Arc<str>,
    },
    /// List the permissions in a virtual host.
    ListPermissions {
        /// Virtual host.
        vhost: Arc<str>,
    },
    /// List a user's permissions.
    ListUserPermissions {
        /// User.
        user: Arc<str>,
    },
    /// Set with which routing keys a user may use a topic exchange, in place of what was set before.
    SetTopicPermissions(TopicPermissions),
    /// Take a user's topic permissions in a virtual host away; none is fine.
    ClearTopicPermissions {
        /// User.
        user: Arc<str>,
        /// Virtual host.
        vhost: Arc<str>,
        /// Only those for this exchange.
        exchange: Option<Arc<str>>,
    },
    /// List the topic permissions in a virtual host.
    ListTopicPermissions {
        /// Virtual host.
        vhost: Arc<str>,
    },
    /// Look a user up, to check a password. Answered at once, like everything that only asks.
    LookUpUser {
        /// Name.
        name: Arc<str>,
    },
    /// Ask whether a user may use a virtual host at all: has permissions there, whatever they are. Refused with
    /// [`crate::RefusalKind::NotFound`] or [`crate::RefusalKind::AccessRefused`].
    EnterVhost {
        /// User.
        user: Arc<str>,
        /// Virtual host.
        vhost: Arc<str>,
    },
}

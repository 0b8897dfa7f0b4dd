//! The commands about users, virtual hosts and permissions, with rabbitmqctl's names and order of arguments. The virtual
//! host is the global option --vhost, for short -p. No argument is called `user`: that is the global option of the login.

use clap::{Args, Subcommand};

use crate::cli::commands::ListArgs;

/// Commands about users, virtual hosts and permissions.
#[derive(Debug, Subcommand)]
pub enum AccessCommand {
    /// Add a user, who may do nothing yet.
    #[command(name = "add_user", visible_alias = "add-user")]
    AddUser(PasswordArgs),
    /// Delete a user with all permissions; the user's connections end.
    #[command(name = "delete_user", visible_alias = "delete-user")]
    DeleteUser(NameArgs),
    /// Give a user another password.
    #[command(name = "change_password", visible_alias = "change-password")]
    ChangePassword(PasswordArgs),
    /// Replace the tags of a user: administrator, monitoring, impersonator, or others that mean nothing to the broker.
    #[command(name = "set_user_tags", visible_alias = "set-user-tags")]
    SetUserTags(TagsArgs),
    /// List users.
    #[command(name = "list_users", visible_alias = "list-users")]
    ListUsers(ListArgs),
    /// Add a virtual host.
    #[command(name = "add_vhost", visible_alias = "add-vhost")]
    AddVhost(VhostArgs),
    /// Delete a virtual host with all that is in it; its connections end.
    #[command(name = "delete_vhost", visible_alias = "delete-vhost")]
    DeleteVhost(NameArgs),
    /// List virtual hosts.
    #[command(name = "list_vhosts", visible_alias = "list-vhosts")]
    ListVhosts(ListArgs),
    /// Say what a user may do in a virtual host: regular expressions over names of queues and exchanges.
    #[command(name = "set_permissions", visible_alias = "set-permissions")]
    SetPermissions(PermissionArgs),
    /// Take all permissions in a virtual host from a user.
    #[command(name = "clear_permissions", visible_alias = "clear-permissions")]
    ClearPermissions(NameArgs),
    /// List the permissions in a virtual host.
    #[command(name = "list_permissions", visible_alias = "list-permissions")]
    ListPermissions(ListArgs),
    /// List the permissions of a user in all virtual hosts.
    #[command(name = "list_user_permissions", visible_alias = "list-user-permissions")]
    ListUserPermissions(UserListArgs),
    /// Say with which routing keys a user may use a topic exchange: regular expressions.
    #[command(name = "set_topic_permissions", visible_alias = "set-topic-permissions")]
    SetTopicPermissions(TopicPermissionArgs),
    /// Take topic permissions in a virtual host from a user: of one exchange or of all.
    #[command(name = "clear_topic_permissions", visible_alias = "clear-topic-permissions")]
    ClearTopicPermissions(ClearTopicArgs),
    /// List the topic permissions in a virtual host.
    #[command(name = "list_topic_permissions", visible_alias = "list-topic-permissions")]
    ListTopicPermissions(ListArgs),
}

/// A name.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// Its name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Print nothing.
    #[arg(long, short)]
    pub quiet: bool,
}

/// A user and a password.
#[derive(Debug, Args)]
pub struct PasswordArgs {
    /// The user.
    #[arg(value_name = "USER")]
    pub name: String,
    /// The password; without it, a line of standard input, or a prompt.
    #[arg(value_name = "PASSWORD")]
    pub password: Option<String>,
    /// Print nothing.
    #[arg(long, short)]
    pub quiet: bool,
}

/// A user and tags.
#[derive(Debug, Args)]
pub struct TagsArgs {
    /// The user.
    #[arg(value_name = "USER")]
    pub name: String,
    /// All tags that the user is to have; none takes them away.
    #[arg(value_name = "TAG", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// Print nothing.
    #[arg(long, short)]
    pub quiet: bool,
}

/// A virtual host.
#[derive(Debug, Args)]
pub struct VhostArgs {
    /// Its name.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What it is for.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub description: String,
    /// Tags, for people.
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub tags: Vec<String>,
    /// Print nothing.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Permissions of a user.
#[derive(Debug, Args)]
pub struct PermissionArgs {
    /// The user.
    #[arg(value_name = "USER")]
    pub name: String,
    /// What it may declare and delete.
    #[arg(value_name = "CONFIGURE")]
    pub configure: String,
    /// What it may publish to, and bind to something.
    #[arg(value_name = "WRITE")]
    pub write: String,
    /// What it may consume from, get from and purge, and bind something to.
    #[arg(value_name = "READ")]
    pub read: String,
    /// Print nothing.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Topic permissions of a user.
#[derive(Debug, Args)]
pub struct TopicPermissionArgs {
    /// The user.
    #[arg(value_name = "USER")]
    pub name: String,
    /// The topic exchange.
    #[arg(value_name = "EXCHANGE")]
    pub exchange: String,
    /// Routing keys that it may publish with.
    #[arg(value_name = "WRITE")]
    pub write: String,
    /// Routing keys that it may bind with.
    #[arg(value_name = "READ")]
    pub read: String,
    /// Print nothing.
    #[arg(long, short)]
    pub quiet: bool,
}

/// Topic permissions to be taken away.
#[derive(Debug, Args)]
pub struct ClearTopicArgs {
    /// The user.
    #[arg(value_name = "USER")]
    pub name: String,
    /// Only those of this exchange.
    #[arg(value_name = "EXCHANGE")]
    pub exchange: Option<String>,
    /// Print nothing.
    #[arg(long, short)]
    pub quiet: bool,
}

/// A listing about a user.
#[derive(Debug, Args)]
pub struct UserListArgs {
    /// The user.
    #[arg(value_name = "USER")]
    pub name: String,
    /// What to print.
    #[command(flatten)]
    pub list: ListArgs,
}

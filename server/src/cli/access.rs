//! Users, virtual hosts and permissions: what rabbitmqctl says, and when it says it.

mod words;

use leveret_proto::v1::*;
use serde_json::{Value, json};

pub use words::*;

use super::columns::{Column, Listing, columns, print};
use super::connect;
use super::declare::tell;
use super::out::Out;
use super::{ClientOptions, Failure, password};

/// Behind a user that was added.
const NO_PERMISSIONS_YET: &str = "Done. Don't forget to grant the user permissions to some virtual hosts! See 'leveret help \
                                  set_permissions' to learn more.";

const USERS: Listing<UserInfo> = Listing {
    command: "list_users",
    usual: &["user", "tags"],
    columns: columns! { u:
        "user" => u.name,
        "tags" => u.tags,
    },
};

const VHOSTS: Listing<VhostInfo> = Listing {
    command: "list_vhosts",
    usual: &["name"],
    columns: columns! { v:
        "name" => v.name,
        "description" => v.description,
        "tags" => v.tags,
    },
};

const PERMISSION_COLUMNS: &[Column<PermissionInfo>] = columns! { p:
    "user" => p.user,
    "vhost" => p.vhost,
    "configure" => p.configure,
    "write" => p.write,
    "read" => p.read,
};

const PERMISSIONS: Listing<PermissionInfo> = Listing {
    command: "list_permissions",
    usual: &["user", "configure", "write", "read"],
    columns: PERMISSION_COLUMNS,
};

const USER_PERMISSIONS: Listing<PermissionInfo> = Listing {
    command: "list_user_permissions",
    usual: &["vhost", "configure", "write", "read"],
    columns: PERMISSION_COLUMNS,
};

const TOPIC_PERMISSIONS: Listing<TopicPermissionInfo> = Listing {
    command: "list_topic_permissions",
    usual: &["user", "exchange", "write", "read"],
    columns: columns! { p:
        "user" => p.user,
        "vhost" => p.vhost,
        "exchange" => p.exchange,
        "write" => p.write,
        "read" => p.read,
    },
};

/// What a command that changes something tells, before and after it.
struct Teller<'a> {
    options: &'a ClientOptions,
    out: &'a mut Out,
    quiet: bool,
}

impl<'a> Teller<'a> {
    /// Says what is about to be done.
    fn begin(options: &'a ClientOptions, out: &'a mut Out, quiet: bool, text: &str) -> Result<Self, Failure> {
        if !quiet && !options.json {
            out.line(text)?;
            out.flush()?;
        }
        Ok(Self { options, out, quiet })
    }

    /// Says that it is done: with words only where there are any.
    fn done(self, text: Option<&str>, value: &Value) -> Result<(), Failure> {
        match text {
            _ if self.quiet => Ok(()),
            None if !self.options.json => Ok(()),
            text => tell(self.options, self.out, text.unwrap_or_default(), value),
        }
    }
}

pub(super) async fn run(
    options: &ClientOptions,
    command: AccessCommand,
    out: &mut Out,
) -> Result<(), Failure> {
    match command {
        AccessCommand::AddUser(args) => add_user(options, args, out).await,
        AccessCommand::DeleteUser(args) => delete_user(options, args, out).await,
        AccessCommand::ChangePassword(args) => change_password(options, args, out).await,
        AccessCommand::SetUserTags(args) => set_user_tags(options, args, out).await,
        AccessCommand::AddVhost(args) => add_vhost(options, args, out).await,
        AccessCommand::DeleteVhost(args) => delete_vhost(options, args, out).await,
        AccessCommand::SetPermissions(args) => set_permissions(options, args, out).await,
        AccessCommand::ClearPermissions(args) => clear_permissions(options, args, out).await,
        AccessCommand::SetTopicPermissions(args) => set_topic_permissions(options, args, out).await,
        AccessCommand::ClearTopicPermissions(args) => clear_topic_permissions(options, args, out).await,
        AccessCommand::ListUsers(args) => {
            let columns = USERS.choose(&args, options.json)?;
            let rows =
                connect::admin(options).await?.list_users(ListUsersRequest {}).await?.into_inner().users;
            print(&rows, &columns, &args, options.json, out)
        }
        AccessCommand::ListVhosts(args) => {
            let columns = VHOSTS.choose(&args, options.json)?;
            let request = ListVhostsRequest {};
            let rows = connect::admin(options).await?.list_vhosts(request).await?.into_inner().vhosts;
            print(&rows, &columns, &args, options.json, out)
        }
        AccessCommand::ListPermissions(args) => {
            let columns = PERMISSIONS.choose(&args, options.json)?;
            let request = ListPermissionsRequest { vhost: options.vhost.clone() };
            let rows =
                connect::admin(options).await?.list_permissions(request).await?.into_inner().permissions;
            print(&rows, &columns, &args, options.json, out)
        }
        AccessCommand::ListUserPermissions(UserListArgs { name: user, list: args }) => {
            let columns = USER_PERMISSIONS.choose(&args, options.json)?;
            let request = ListUserPermissionsRequest { user };
            let rows = connect::admin(options).await?.list_user_permissions(request).await?;
            print(&rows.into_inner().permissions, &columns, &args, options.json, out)
        }
        AccessCommand::ListTopicPermissions(args) => {
            let columns = TOPIC_PERMISSIONS.choose(&args, options.json)?;
            let request = ListTopicPermissionsRequest { vhost: options.vhost.clone() };
            let rows = connect::admin(options).await?.list_topic_permissions(request).await?;
            print(&rows.into_inner().permissions, &columns, &args, options.json, out)
        }
    }
}

async fn add_user(options: &ClientOptions, args: PasswordArgs, out: &mut Out) -> Result<(), Failure> {
    let PasswordArgs { name, password, quiet } = args;
    let teller = Teller::begin(options, out, quiet, &format!("Adding user \"{name}\" ..."))?;
    let password = password::new(password)?;
    let request = AddUserRequest { name: name.clone(), password, tags: Vec::new() };
    connect::admin(options).await?.add_user(request).await?;
    teller.done(Some(NO_PERMISSIONS_YET), &json!({ "user": name }))
}

async fn delete_user(options: &ClientOptions, args: NameArgs, out: &mut Out) -> Result<(), Failure> {
    let NameArgs { name, quiet } = args;
    let teller = Teller::begin(options, out, quiet, &format!("Deleting user \"{name}\" ..."))?;
    connect::admin(options).await?.delete_user(DeleteUserRequest { name: name.clone() }).await?;
    teller.done(None, &json!({ "user": name }))
}

async fn change_password(options: &ClientOptions, args: PasswordArgs, out: &mut Out) -> Result<(), Failure> {
    let PasswordArgs { name, password, quiet } = args;
    let teller = Teller::begin(options, out, quiet, &format!("Changing password for user \"{name}\" ..."))?;
    let password = password::new(password)?;
    let request = ChangePasswordRequest { name: name.clone(), password };
    connect::admin(options).await?.change_password(request).await?;
    teller.done(None, &json!({ "user": name }))
}

async fn set_user_tags(options: &ClientOptions, args: TagsArgs, out: &mut Out) -> Result<(), Failure> {
    let TagsArgs { name, tags, quiet } = args;
    let text = format!("Setting tags for user \"{name}\" to [{}] ...", tags.join(", "));
    let teller = Teller::begin(options, out, quiet, &text)?;
    let request = SetUserTagsRequest { name: name.clone(), tags: tags.clone() };
    connect::admin(options).await?.set_user_tags(request).await?;
    teller.done(None, &json!({ "user": name, "tags": tags }))
}

async fn add_vhost(options: &ClientOptions, args: VhostArgs, out: &mut Out) -> Result<(), Failure> {
    let VhostArgs { name, description, tags, quiet } = args;
    let teller = Teller::begin(options, out, quiet, &format!("Adding vhost \"{name}\" ..."))?;
    let request = AddVhostRequest { name: name.clone(), description, tags };
    connect::admin(options).await?.add_vhost(request).await?;
    teller.done(None, &json!({ "vhost": name }))
}

async fn delete_vhost(options: &ClientOptions, args: NameArgs, out: &mut Out) -> Result<(), Failure> {
    let NameArgs { name, quiet } = args;
    let teller = Teller::begin(options, out, quiet, &format!("Deleting vhost \"{name}\" ..."))?;
    connect::admin(options).await?.delete_vhost(DeleteVhostRequest { name: name.clone() }).await?;
    teller.done(None, &json!({ "vhost": name }))
}

async fn set_permissions(
    options: &ClientOptions,
    args: PermissionArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let PermissionArgs { name: user, configure, write, read, quiet } = args;
    let vhost = options.vhost.clone();
    let text = format!("Setting permissions for user \"{user}\" in vhost \"{vhost}\" ...");
    let teller = Teller::begin(options, out, quiet, &text)?;
    let value = json!({ "user": user, "vhost": vhost, "configure": configure, "write": write, "read": read });
    let request = SetPermissionsRequest { user, vhost, configure, write, read };
    connect::admin(options).await?.set_permissions(request).await?;
    teller.done(None, &value)
}

async fn clear_permissions(options: &ClientOptions, args: NameArgs, out: &mut Out) -> Result<(), Failure> {
    let NameArgs { name: user, quiet } = args;
    let vhost = options.vhost.clone();
    let text = format!("Clearing permissions for user \"{user}\" in vhost \"{vhost}\" ...");
    let teller = Teller::begin(options, out, quiet, &text)?;
    let value = json!({ "user": user, "vhost": vhost });
    connect::admin(options).await?.clear_permissions(ClearPermissionsRequest { user, vhost }).await?;
    teller.done(None, &value)
}

async fn set_topic_permissions(
    options: &ClientOptions,
    args: TopicPermissionArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let TopicPermissionArgs { name: user, exchange, write, read, quiet } = args;
    let vhost = options.vhost.clone();
    let text =
        format!("Setting topic permissions on \"{exchange}\" for user \"{user}\" in vhost \"{vhost}\" ...");
    let teller = Teller::begin(options, out, quiet, &text)?;
    let value = json!({ "user": user, "vhost": vhost, "exchange": exchange, "write": write, "read": read });
    let request = SetTopicPermissionsRequest { user, vhost, exchange, write, read };
    connect::admin(options).await?.set_topic_permissions(request).await?;
    teller.done(None, &value)
}

async fn clear_topic_permissions(
    options: &ClientOptions,
    args: ClearTopicArgs,
    out: &mut Out,
) -> Result<(), Failure> {
    let ClearTopicArgs { name: user, exchange, quiet } = args;
    let vhost = options.vhost.clone();
    let on = exchange.as_ref().map_or_else(String::new, |exchange| format!("on \"{exchange}\" "));
    let text = format!("Clearing topic permissions {on}for user \"{user}\" in vhost \"{vhost}\" ...");
    let teller = Teller::begin(options, out, quiet, &text)?;
    let value = json!({ "user": user, "vhost": vhost, "exchange": exchange });
    let request = ClearTopicPermissionsRequest { user, vhost, exchange };
    connect::admin(options).await?.clear_topic_permissions(request).await?;
    teller.done(None, &value)
}

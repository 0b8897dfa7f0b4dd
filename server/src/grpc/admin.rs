//! Service leveret.v1.Admin: users, virtual hosts, permissions. The core decides who may call it.

use std::sync::Arc;

use leveret_broker::{AddUser, AddVhost, Op, PasswordHash, Permissions, Refusal, Reply, TopicPermissions};
use leveret_proto::v1::admin_server::Admin as AdminService;
use leveret_proto::v1::*;
use tonic::{Request, Response, Status};

use super::errors::{self, invalid};
use super::gate::{Gate, Passed, of};
use super::names;
use super::rows;
use crate::auth::Password;

/// Longest password, in bytes.
const PASSWORD_BYTES_MAX: usize = 1024;
/// Tags that one user or virtual host may have.
const TAGS_MAX: usize = 64;

/// The service.
pub(super) struct Admin {
    pub(super) gate: Gate,
}

impl Admin {
    /// Asks the core for what has no answer but that it is done.
    async fn done(&self, passed: Passed, op: Result<Op, Refusal>) -> Result<(), Status> {
        match self.ask(&passed, op).await? {
            Reply::Done => Ok(()),
            other => Err(errors::unexpected(&other)),
        }
    }

    async fn ask(&self, passed: &Passed, op: Result<Op, Refusal>) -> Result<Reply, Status> {
        let op = op.map_err(errors::status)?;
        let vhost = names::vhost("").map_err(errors::status)?;
        self.gate.hub.request(passed.caller(), vhost, op).await.map_err(errors::status)
    }

    /// The hash of a new password of a user. It takes a processor a while, so the core says first whether the caller
    /// administers users at all; whether what is asked for can be done, it says afterwards.
    async fn hash(&self, passed: &Passed, name: &Arc<str>, password: String) -> Result<PasswordHash, Status> {
        if password.is_empty() {
            return Err(errors::status(invalid("password", "password must not be empty")));
        }
        if password.len() > PASSWORD_BYTES_MAX {
            let text =
                format!("password has {} bytes, at most {PASSWORD_BYTES_MAX} are allowed", password.len());
            return Err(errors::status(invalid("password", text)));
        }
        self.ask(passed, Ok(Op::LookUpUser { name: Arc::clone(name) })).await?;
        let hash = self.gate.auth.hash(Password::new(password), &passed.user, passed.peer.addr.ip()).await;
        hash.map(|hash| PasswordHash(hash.into())).map_err(errors::unauthenticated)
    }
}

/// A user's name: what Basic credentials can carry.
fn user(field: &'static str, name: &str) -> Result<Arc<str>, Refusal> {
    if name.contains(|c: char| c == ':' || c.is_control()) {
        return Err(invalid(field, format!("{field} must have no ':' and no control characters")));
    }
    names::some_name(field, name)
}

fn tags(tags: &[String]) -> Result<Vec<Arc<str>>, Refusal> {
    if tags.len() > TAGS_MAX {
        return Err(invalid("tags", format!("{} tags, at most {TAGS_MAX} are allowed", tags.len())));
    }
    tags.iter().map(|tag| names::some_name("tags", tag)).collect()
}

/// The answer to a listing as a response: its rows, turned one by one.
macro_rules! rows {
    ($reply:expr, $variant:ident, $row:path, $response:ident { $field:ident }) => {
        match $reply {
            Reply::$variant(found) => {
                Ok(Response::new($response { $field: found.into_iter().map($row).collect() }))
            }
            other => Err(errors::unexpected(&other)),
        }
    };
}

#[tonic::async_trait]
impl AdminService for Admin {
    async fn add_user(&self, request: Request<AddUserRequest>) -> Result<Response<AddUserResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let AddUserRequest { name, password, tags: given } = request.into_inner();
        let name = user("name", &name).map_err(errors::status)?;
        let tags = tags(&given).map_err(errors::status)?;
        let password_hash = self.hash(&passed, &name, password).await?;
        self.done(passed, Ok(Op::AddUser(AddUser { name, password_hash, tags }))).await?;
        Ok(Response::new(AddUserResponse {}))
    }

    async fn delete_user(
        &self,
        request: Request<DeleteUserRequest>,
    ) -> Result<Response<DeleteUserResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let name = names::some_name("name", &request.into_inner().name);
        self.done(passed, name.map(|name| Op::DeleteUser { name })).await?;
        Ok(Response::new(DeleteUserResponse {}))
    }

    async fn change_password(
        &self,
        request: Request<ChangePasswordRequest>,
    ) -> Result<Response<ChangePasswordResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let ChangePasswordRequest { name, password } = request.into_inner();
        let name = names::some_name("name", &name).map_err(errors::status)?;
        let password_hash = self.hash(&passed, &name, password).await?;
        self.done(passed, Ok(Op::ChangePassword { name, password_hash })).await?;
        Ok(Response::new(ChangePasswordResponse {}))
    }

    async fn set_user_tags(
        &self,
        request: Request<SetUserTagsRequest>,
    ) -> Result<Response<SetUserTagsResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let SetUserTagsRequest { name, tags: given } = request.into_inner();
        let op = || Ok(Op::SetUserTags { name: names::some_name("name", &name)?, tags: tags(&given)? });
        self.done(passed, op()).await?;
        Ok(Response::new(SetUserTagsResponse {}))
    }

    async fn list_users(
        &self,
        request: Request<ListUsersRequest>,
    ) -> Result<Response<ListUsersResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        rows!(self.ask(&passed, Ok(Op::ListUsers)).await?, Users, rows::user, ListUsersResponse { users })
    }

    async fn add_vhost(
        &self,
        request: Request<AddVhostRequest>,
    ) -> Result<Response<AddVhostResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let AddVhostRequest { name, description, tags: given } = request.into_inner();
        let op = || {
            let name = names::some_name("name", &name)?;
            let description = names::name("description", &description)?;
            Ok(Op::AddVhost(AddVhost { name, description, tags: tags(&given)? }))
        };
        self.done(passed, op()).await?;
        Ok(Response::new(AddVhostResponse {}))
    }

    async fn delete_vhost(
        &self,
        request: Request<DeleteVhostRequest>,
    ) -> Result<Response<DeleteVhostResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let name = names::some_name("name", &request.into_inner().name);
        self.done(passed, name.map(|name| Op::DeleteVhost { name })).await?;
        Ok(Response::new(DeleteVhostResponse {}))
    }

    async fn list_vhosts(
        &self,
        request: Request<ListVhostsRequest>,
    ) -> Result<Response<ListVhostsResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let reply = self.ask(&passed, Ok(Op::ListVhosts)).await?;
        rows!(reply, Vhosts, rows::vhost, ListVhostsResponse { vhosts })
    }

    async fn set_permissions(
        &self,
        request: Request<SetPermissionsRequest>,
    ) -> Result<Response<SetPermissionsResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let SetPermissionsRequest { user, vhost, configure, write, read } = request.into_inner();
        let op = || {
            Ok(Op::SetPermissions(Permissions {
                user: names::some_name("user", &user)?,
                vhost: names::vhost(&vhost)?,
                configure: configure.into(),
                write: write.into(),
                read: read.into(),
            }))
        };
        self.done(passed, op()).await?;
        Ok(Response::new(SetPermissionsResponse {}))
    }

    async fn clear_permissions(
        &self,
        request: Request<ClearPermissionsRequest>,
    ) -> Result<Response<ClearPermissionsResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let ClearPermissionsRequest { user, vhost } = request.into_inner();
        let op = || {
            Ok(Op::ClearPermissions { user: names::some_name("user", &user)?, vhost: names::vhost(&vhost)? })
        };
        self.done(passed, op()).await?;
        Ok(Response::new(ClearPermissionsResponse {}))
    }

    async fn list_permissions(
        &self,
        request: Request<ListPermissionsRequest>,
    ) -> Result<Response<ListPermissionsResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let vhost = names::vhost(&request.into_inner().vhost);
        let reply = self.ask(&passed, vhost.map(|vhost| Op::ListPermissions { vhost })).await?;
        rows!(reply, Permissions, rows::permission, ListPermissionsResponse { permissions })
    }

    async fn list_user_permissions(
        &self,
        request: Request<ListUserPermissionsRequest>,
    ) -> Result<Response<ListUserPermissionsResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let user = names::some_name("user", &request.into_inner().user);
        let reply = self.ask(&passed, user.map(|user| Op::ListUserPermissions { user })).await?;
        rows!(reply, Permissions, rows::permission, ListUserPermissionsResponse { permissions })
    }

    async fn set_topic_permissions(
        &self,
        request: Request<SetTopicPermissionsRequest>,
    ) -> Result<Response<SetTopicPermissionsResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let SetTopicPermissionsRequest { user, vhost, exchange, write, read } = request.into_inner();
        let op = || {
            Ok(Op::SetTopicPermissions(TopicPermissions {
                user: names::some_name("user", &user)?,
                vhost: names::vhost(&vhost)?,
                exchange: names::some_name("exchange", &exchange)?,
                write: write.into(),
                read: read.into(),
            }))
        };
        self.done(passed, op()).await?;
        Ok(Response::new(SetTopicPermissionsResponse {}))
    }

    async fn clear_topic_permissions(
        &self,
        request: Request<ClearTopicPermissionsRequest>,
    ) -> Result<Response<ClearTopicPermissionsResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let ClearTopicPermissionsRequest { user, vhost, exchange } = request.into_inner();
        let op = || {
            Ok(Op::ClearTopicPermissions {
                user: names::some_name("user", &user)?,
                vhost: names::vhost(&vhost)?,
                exchange: exchange.map(|exchange| names::some_name("exchange", &exchange)).transpose()?,
            })
        };
        self.done(passed, op()).await?;
        Ok(Response::new(ClearTopicPermissionsResponse {}))
    }

    async fn list_topic_permissions(
        &self,
        request: Request<ListTopicPermissionsRequest>,
    ) -> Result<Response<ListTopicPermissionsResponse>, Status> {
        let passed = self.gate.pass(of(&request)).await?;
        let vhost = names::vhost(&request.into_inner().vhost);
        let reply = self.ask(&passed, vhost.map(|vhost| Op::ListTopicPermissions { vhost })).await?;
        rows!(reply, TopicPermissions, rows::topic_permission, ListTopicPermissionsResponse { permissions })
    }
}

//! Users, virtual hosts and permissions, over AMQP and gRPC alike.

use leveret_proto::v1::{
    AddUserRequest, AddVhostRequest, DeleteUserRequest, DeleteVhostRequest, SetPermissionsRequest,
    SetUserTagsRequest,
};
use leveret_tests::amqp::{Connection, Error};
use leveret_tests::client::Client;
use leveret_tests::server::Server;

mod commands;
mod logins;
mod permissions;
mod storm;
mod topics;
mod vhosts;

/// The password of every user of these tests but guest.
const PASSWORD: &str = "secret";

/// A server, and guest, who may do everything there.
struct Scene {
    server: Server,
    root: Client,
}

impl Scene {
    async fn set() -> Self {
        let server = Server::start().await;
        let root = server.client().await;
        Self { server, root }
    }

    async fn kill_and_restart(self) -> Self {
        let server = self.server.kill_and_restart().await;
        let root = server.client().await;
        Self { server, root }
    }

    async fn add_user(&mut self, name: &str) {
        let request =
            AddUserRequest { name: name.into(), password: PASSWORD.into(), ..AddUserRequest::default() };
        self.root.admin().add_user(request).await.expect("add a user");
    }

    async fn delete_user(&mut self, name: &str) {
        self.root.admin().delete_user(DeleteUserRequest { name: name.into() }).await.expect("delete a user");
    }

    async fn set_tags(&mut self, name: &str, tags: &[&str]) {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let request = SetUserTagsRequest { name: name.into(), tags };
        self.root.admin().set_user_tags(request).await.expect("set tags");
    }

    async fn add_vhost(&mut self, name: &str) {
        let request = AddVhostRequest { name: name.into(), ..AddVhostRequest::default() };
        self.root.admin().add_vhost(request).await.expect("add a virtual host");
    }

    async fn delete_vhost(&mut self, name: &str) {
        let request = DeleteVhostRequest { name: name.into() };
        self.root.admin().delete_vhost(request).await.expect("delete a virtual host");
    }

    /// Says what a user may configure, write and read in a virtual host.
    async fn allow(&mut self, user: &str, vhost: &str, [configure, write, read]: [&str; 3]) {
        let request = SetPermissionsRequest {
            user: user.into(),
            vhost: vhost.into(),
            configure: configure.into(),
            write: write.into(),
            read: read.into(),
        };
        self.root.admin().set_permissions(request).await.expect("set permissions");
    }

    /// A user who may do everything in "/".
    async fn add_worker(&mut self, name: &str) {
        self.add_user(name).await;
        self.allow(name, "/", [".*"; 3]).await;
    }

    /// Over gRPC as a user.
    async fn grpc(&self, user: &str) -> Client {
        self.server.client_as(user, PASSWORD).await
    }

    /// Over AMQP as a user.
    async fn try_amqp(&self, user: &str, vhost: &str) -> Result<Connection, Error> {
        let password = if user == "guest" { "guest" } else { PASSWORD };
        Connection::open_as(self.server.amqp_port(), (user, password), vhost).await
    }

    /// The same, with channel 1 open.
    async fn amqp(&self, user: &str, vhost: &str) -> Connection {
        let mut connection = self.try_amqp(user, vhost).await.expect("a connection");
        connection.channel(1).await.expect("a channel");
        connection
    }
}

/// Code and text with which the broker closed a channel or the connection (0).
fn closed<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, u16, String) {
    match result {
        Err(Error::Closed { channel, code, text, .. }) => (channel, code, text),
        other => panic!("a close was to come: {other:?}"),
    }
}

/// What comes next on a connection must be its close, with this code; what comes before it is passed over. The text.
async fn connection_closed(connection: &mut Connection, expected: u16) -> String {
    loop {
        match connection.next().await {
            Ok(_) => {}
            Err(Error::Closed { channel: 0, code, text, .. }) if code == expected => {
                connection.ended().await.expect("the end of the socket");
                return text;
            }
            Err(error) => panic!("the connection was to be closed with {expected}: {error:?}"),
        }
    }
}

//! Users, virtual hosts and permissions that a scenario makes, through the broker's own interface for that; removed in
//! the end. On a RabbitMQ that other scenarios use meanwhile their names end with the scenario's virtual host.

use std::collections::BTreeSet;
use std::time::Duration;

use leveret_proto::v1::{
    AddUserRequest, AddVhostRequest, DeleteUserRequest, DeleteVhostRequest, SetPermissionsRequest,
    SetTopicPermissionsRequest,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::step::{Fault, Step};
use super::wire::PATIENCE;
use crate::client::Client;

/// The password of every user that a scenario adds.
const PASSWORD: &str = "secret";
/// How often a port is tried that is to listen soon.
const POLL: Duration = Duration::from_millis(50);

/// Who makes them, by port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admin {
    /// Service leveret.v1.Admin.
    Leveret(u16),
    /// The HTTP interface of the management plugin.
    RabbitMq(u16),
}

/// What a scenario has made.
#[derive(Debug)]
pub(super) struct Access {
    admin: Admin,
    /// Where the scenario runs.
    home: String,
    users: BTreeSet<String>,
    vhosts: BTreeSet<String>,
}

impl Access {
    pub(super) fn new(admin: Admin, home: &str) -> Self {
        Self { admin, home: home.into(), users: BTreeSet::new(), vhosts: BTreeSet::new() }
    }

    /// The broker is another process now.
    pub(super) fn restarted(&mut self, admin: Admin) {
        self.admin = admin;
    }

    /// A user's name on the broker.
    pub(super) fn user(&self, name: &str) -> String {
        if self.users.contains(name) { self.own(name) } else { name.into() }
    }

    /// The password of a user.
    pub(super) fn password(&self, user: &str) -> &'static str {
        if self.users.contains(user) { PASSWORD } else { "guest" }
    }

    /// A virtual host's name on the broker; of "/" unless one is named.
    pub(super) fn vhost(&self, name: Option<&str>) -> String {
        match name {
            None | Some("/") => self.home.clone(),
            Some(name) if self.vhosts.contains(name) => self.own(name),
            Some(name) => name.into(),
        }
    }

    fn own(&self, name: &str) -> String {
        match self.admin {
            Admin::Leveret(_) => name.into(),
            Admin::RabbitMq(_) => format!("{name}.{}", self.home),
        }
    }

    /// A text of the broker, with the names of the scenario.
    pub(super) fn as_said(&self, text: &str) -> String {
        let made = self.users.iter().chain(&self.vhosts);
        made.fold(text.into(), |text: String, name| {
            text.replace(&format!("'{}'", self.own(name)), &format!("'{name}'"))
        })
    }

    /// Whether an explanation is the expected one.
    pub(super) fn explains(&self, fault: &Fault, explanation: &str) -> bool {
        fault.matches(explanation)
            || matches!(self.admin, Admin::RabbitMq(_)) && fault.without_kind().matches(explanation)
    }

    pub(super) async fn step(&mut self, step: &Step) -> Result<(), String> {
        if step.error().is_some() {
            return Err(format!("{} is never refused", step.name()));
        }
        match step {
            Step::UserAdd(step) => drop(self.users.insert(step.user.clone())),
            Step::VhostAdd(step) => drop(self.vhosts.insert(step.vhost.clone())),
            _ => {}
        }
        match self.admin {
            Admin::Leveret(port) => self.on_leveret(port, step).await,
            Admin::RabbitMq(port) => self.on_rabbitmq(port, step).await,
        }
    }

    async fn on_leveret(&self, port: u16, step: &Step) -> Result<(), String> {
        let mut admin = Client::try_connect(port).await.map_err(|error| error.to_string())?.admin();
        let done = match step {
            Step::UserAdd(step) => {
                let (name, password) = (step.user.clone(), PASSWORD.into());
                admin.add_user(AddUserRequest { name, password, tags: Vec::new() }).await.map(drop)
            }
            Step::VhostAdd(step) => {
                let request = AddVhostRequest { name: step.vhost.clone(), ..Default::default() };
                admin.add_vhost(request).await.map(drop)
            }
            Step::Permissions(step) => {
                let request = SetPermissionsRequest {
                    user: step.user.clone(),
                    vhost: self.vhost(step.vhost.as_deref()),
                    configure: step.configure.clone(),
                    write: step.write.clone(),
                    read: step.read.clone(),
                };
                admin.set_permissions(request).await.map(drop)
            }
            Step::TopicPermissions(step) => {
                let request = SetTopicPermissionsRequest {
                    user: step.user.clone(),
                    vhost: self.vhost(step.vhost.as_deref()),
                    exchange: step.exchange.clone(),
                    write: step.write.clone(),
                    read: step.read.clone(),
                };
                admin.set_topic_permissions(request).await.map(drop)
            }
            other => return Err(format!("{} is not about access", other.name())),
        };
        done.map_err(|status| status.to_string())
    }

    async fn on_rabbitmq(&self, port: u16, step: &Step) -> Result<(), String> {
        let (path, body) = match step {
            Step::UserAdd(step) => {
                (format!("users/{}", self.own(&step.user)), json!({ "password": PASSWORD, "tags": "" }))
            }
            Step::VhostAdd(step) => (format!("vhosts/{}", self.own(&step.vhost)), json!({})),
            Step::Permissions(step) => {
                let (vhost, user) = (self.vhost(step.vhost.as_deref()), self.user(&step.user));
                let body = json!({ "configure": step.configure, "write": step.write, "read": step.read });
                (format!("permissions/{vhost}/{user}"), body)
            }
            Step::TopicPermissions(step) => {
                let (vhost, user) = (self.vhost(step.vhost.as_deref()), self.user(&step.user));
                let body = json!({ "exchange": step.exchange, "write": step.write, "read": step.read });
                (format!("topic-permissions/{vhost}/{user}"), body)
            }
            other => return Err(format!("{} is not about access", other.name())),
        };
        request(port, "PUT", &path, &body.to_string()).await
    }

    /// Removes all that was made.
    pub(super) async fn clean_up(&mut self) -> Result<(), String> {
        for name in std::mem::take(&mut self.users) {
            match self.admin {
                Admin::RabbitMq(port) => {
                    request(port, "DELETE", &format!("users/{}", self.own(&name)), "").await?;
                }
                Admin::Leveret(port) => {
                    let client = Client::try_connect(port).await.map_err(|error| error.to_string())?;
                    let done = client.admin().delete_user(DeleteUserRequest { name }).await;
                    done.map_err(|status| status.to_string())?;
                }
            }
        }
        for name in std::mem::take(&mut self.vhosts) {
            match self.admin {
                Admin::RabbitMq(port) => {
                    request(port, "DELETE", &format!("vhosts/{}", self.own(&name)), "").await?;
                }
                Admin::Leveret(port) => {
                    let client = Client::try_connect(port).await.map_err(|error| error.to_string())?;
                    let done = client.admin().delete_vhost(DeleteVhostRequest { name }).await;
                    done.map_err(|status| status.to_string())?;
                }
            }
        }
        Ok(())
    }
}

/// One request of guest's to RabbitMQ's HTTP interface, that must be done.
async fn request(port: u16, method: &str, path: &str, body: &str) -> Result<(), String> {
    let until = Instant::now() + PATIENCE;
    let mut socket = loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(socket) => break socket,
            // It may listen a little later than AMQP.
            Err(_) if Instant::now() < until => sleep(POLL).await,
            Err(error) => return Err(format!("RabbitMQ's HTTP port: {error}")),
        }
    };
    let request = format!(
        "{method} /api/{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    let exchange = async {
        socket.write_all(request.as_bytes()).await?;
        socket.read_to_end(&mut answer).await
    };
    let exchanged = timeout(PATIENCE, exchange).await.map_err(|_| "RabbitMQ does not answer over HTTP")?;
    exchanged.map_err(|error| format!("RabbitMQ's HTTP interface: {error}"))?;
    if answer.starts_with(b"HTTP/1.1 20") {
        return Ok(());
    }
    Err(format!("{method} {path}: {}", String::from_utf8_lossy(&answer)))
}

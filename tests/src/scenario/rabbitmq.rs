//! RabbitMQ as a private node: its own name, ports, directory and port mapper; nothing of it is left behind.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::amqp::{Connection, codec, method};

const START_TIMEOUT: Duration = Duration::from_secs(120);
/// guest's password as RabbitMQ stores it: salt and SHA-256.
const GUEST: &str = "AAECAyNg/zJUtKzc71d2sm2DauJx8NMaF6gqGHg3PE7hf4Tt";

/// A node. Killed when dropped.
#[derive(Debug)]
pub(super) struct Node {
    directory: TempDir,
    server: Option<Child>,
    mapper: Child,
    mapper_port: u16,
    distribution_port: u16,
    pub(super) port: u16,
    /// Of the management plugin: users, virtual hosts and permissions.
    pub(super) http_port: u16,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end(Signal::KILL);
        let _ = self.mapper.kill();
        let _ = self.mapper.wait();
    }
}

impl Node {
    /// Starts a node with these virtual hosts, where RabbitMQ is installed.
    pub(super) async fn start(vhosts: &[String]) -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("leveret-rabbitmq-").tempdir();
        let directory = directory.map_err(|error| format!("no directory: {error}"))?;
        for part in ["mnesia", "log", "home"] {
            fs::create_dir_all(directory.path().join(part)).map_err(|error| error.to_string())?;
        }
        let definitions = directory.path().join("definitions.json");
        let (mapper_port, distribution_port) = (free_port()?, free_port()?);
        let (port, http_port) = (free_port()?, free_port()?);
        let files = [
            ("plugins", "[rabbitmq_management].".to_string()),
            ("rabbitmq.conf", configuration(&definitions, http_port)),
            ("definitions.json", definitions_of(vhosts)),
        ];
        for (name, text) in files {
            fs::write(directory.path().join(name), text).map_err(|error| error.to_string())?;
        }
        let mapper = Command::new("epmd")
            .args(["-port", &mapper_port.to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("epmd: {error}"))?;
        let mut node =
            Self { directory, server: None, mapper, mapper_port, distribution_port, port, http_port };
        node.begin().await?;
        Ok(node)
    }

    /// Stops it by a signal and starts it on what it left.
    pub(super) async fn restart(&mut self, signal: Signal) -> Result<(), String> {
        self.end(signal);
        self.begin().await
    }

    async fn begin(&mut self) -> Result<(), String> {
        let path = self.directory.path();
        let server = Command::new(server())
            .env("HOME", path.join("home"))
            .env("ERL_EPMD_PORT", self.mapper_port.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", format!("leveret-tests-{}@localhost", self.port))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution_port.to_string())
            .env("RABBITMQ_MNESIA_BASE", path.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", path.join("log"))
            .env("RABBITMQ_LOGS", path.join("log/rabbitmq.log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path.join("plugins"))
            .env("RABBITMQ_CONFIG_FILE", path.join("rabbitmq"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            // Its threads are not to spin while they wait: there are others on the machine.
            .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +sbwtdcpu none +sbwtdio none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("rabbitmq-server: {error}"))?;
        self.server = Some(server);
        let begun = Instant::now();
        while !serves(self.port).await {
            if let Some(Ok(Some(status))) = self.server.as_mut().map(Child::try_wait) {
                return Err(format!("rabbitmq-server ended with {status}"));
            }
            if begun.elapsed() > START_TIMEOUT {
                return Err("rabbitmq-server does not serve".into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut server) = self.server.take() else { return };
        // The script and the virtual machine that it started are one group.
        if let Some(group) = i32::try_from(server.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, signal);
        }
        let _ = server.wait();
    }
}

/// RABBITMQ_SERVER, or where packages put the script itself.
fn server() -> PathBuf {
    env::var_os("RABBITMQ_SERVER")
        .map_or_else(|| "/usr/lib/rabbitmq/bin/rabbitmq-server".into(), PathBuf::from)
}

/// It has all its virtual hosts before it listens.
async fn serves(port: u16) -> bool {
    let Ok(mut connection) = Connection::raw(port).await else { return false };
    let greeted = connection.send(&codec::PROTOCOL_HEADER).await.is_ok();
    greeted && connection.expect(0, method::CONNECTION_START).await.is_ok()
}

fn configuration(definitions: &Path, http_port: u16) -> String {
    [
        format!("load_definitions = {}\n", definitions.display()),
        "management.tcp.ip = 127.0.0.1\n".into(),
        format!("management.tcp.port = {http_port}\n"),
        "management_agent.disable_metrics_collector = true\n".into(),
    ]
    .concat()
}

fn definitions_of(vhosts: &[String]) -> String {
    let list = |entry: &dyn Fn(&String) -> String| vhosts.iter().map(entry).collect::<Vec<_>>().join(",");
    let names = list(&|vhost| format!(r#"{{"name":"{vhost}"}}"#));
    let permissions = list(&|vhost| {
        format!(r#"{{"user":"guest","vhost":"{vhost}","configure":".*","write":".*","read":".*"}}"#)
    });
    let user = format!(
        r#"{{"name":"guest","password_hash":"{GUEST}","hashing_algorithm":"rabbit_password_hashing_sha256","tags":["administrator"]}}"#
    );
    format!(r#"{{"users":[{user}],"vhosts":[{names}],"permissions":[{permissions}]}}"#)
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    Ok(listener.local_addr().map_err(|error| error.to_string())?.port())
}

//! RabbitMQ as a private node: its own name, ports, directory and port mapper; nothing of it is left behind.

use std::env;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use super::on_path;
use crate::Error;
use crate::amqp::link::Link;
use crate::child::free_addr;
use crate::machine::descendant;

const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running node. Killed when dropped.
pub(super) struct RabbitMq {
    server: Child,
    epmd: Child,
    addr: SocketAddr,
    version: String,
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        // The script and the virtual machine that it started are one group.
        if let Some(group) = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.server.wait();
        let _ = self.epmd.kill();
        let _ = self.epmd.wait();
    }
}

impl RabbitMq {
    /// Starts a node; None where RabbitMQ is not installed.
    pub(super) fn start(directory: &Path) -> Result<Option<Self>, Error> {
        let (Some(binary), Some(epmd)) = (server(), on_path("epmd")) else { return Ok(None) };
        for part in ["mnesia", "log", "home"] {
            std::fs::create_dir_all(directory.join(part))?;
        }
        std::fs::write(directory.join("plugins"), "[].")?;
        let (addr, dist, mapper) = (free_addr()?, free_addr()?, free_addr()?);
        let epmd = Command::new(epmd)
            .args(["-port", &mapper.port().to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Command::new(binary)
            .env("HOME", directory.join("home"))
            .env("ERL_EPMD_PORT", mapper.port().to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODENAME", "leveret-bench@localhost")
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", addr.port().to_string())
            .env("RABBITMQ_DIST_PORT", dist.port().to_string())
            .env("RABBITMQ_MNESIA_BASE", directory.join("mnesia"))
            .env("RABBITMQ_LOG_BASE", directory.join("log"))
            .env("RABBITMQ_LOGS", directory.join("log/rabbitmq.log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", directory.join("plugins"))
            .env("RABBITMQ_CONFIG_FILE", directory.join("none"))
            .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let mut node = Self { server, epmd, addr, version: String::new() };
        node.wait()?;
        node.version = version(directory);
        Ok(Some(node))
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// The process that does the work, the virtual machine.
    pub(super) fn pid(&self) -> u32 {
        descendant(self.server.id(), "beam.smp").unwrap_or_else(|| self.server.id())
    }

    /// Stops it in order. Its directory can be started again.
    pub(super) fn stop(mut self) -> Result<(), Error> {
        let group = i32::try_from(self.server.id()).ok().and_then(Pid::from_raw).ok_or("no process")?;
        kill_process_group(group, Signal::TERM)?;
        let begun = Instant::now();
        while self.server.try_wait()?.is_none() && begun.elapsed() < START_TIMEOUT {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<(), Error> {
        let begun = Instant::now();
        while Link::open(self.addr).is_err() {
            if let Some(status) = self.server.try_wait()? {
                return Err(format!("rabbitmq-server ended with {status}").into());
            }
            if begun.elapsed() > START_TIMEOUT {
                return Err("rabbitmq-server does not serve".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }
}

/// RABBITMQ_SERVER, or where packages put the script itself, or the one on the path.
fn server() -> Option<PathBuf> {
    let named = env::var_os("RABBITMQ_SERVER").map(PathBuf::from);
    let packaged = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
    named.or_else(|| Some(packaged).filter(|path| path.is_file())).or_else(|| on_path("rabbitmq-server"))
}

/// As the log says it: "Starting RabbitMQ 3.10.8 on Erlang 25.2.3".
fn version(directory: &Path) -> String {
    let log = std::fs::read_to_string(directory.join("log/rabbitmq.log")).unwrap_or_default();
    let after = log.split_once("Starting RabbitMQ ").map_or("", |(_, after)| after);
    after.split_whitespace().next().unwrap_or("?").to_string()
}

//! Who is compared: each in a new directory on one file system, on free loopback ports, with the fsync policy said.

mod process;
mod rabbitmq;

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::runtime::Handle;

use crate::Error;
use crate::child::{Running, binary, free_addr};
use crate::machine::drop_caches;
use process::Process;
use rabbitmq::RabbitMq;

/// A kind of peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// The disk with nothing before it.
    Disk,
    /// This program's AMQP stub.
    Floor,
    /// The broker of this project.
    Leveret,
    /// RabbitMQ with classic queues.
    Classic,
    /// RabbitMQ with quorum queues.
    Quorum,
    /// NATS JetStream.
    Nats,
    /// Redis Streams.
    Redis,
    /// tonic with nothing behind it, which takes bodies.
    Bare,
    /// The same, which takes the broker's own requests.
    BareRequests,
}

impl Kind {
    /// As tables have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Leveret => "Leveret",
            Self::Classic => "RabbitMQ classic",
            Self::Quorum => "RabbitMQ quorum",
            Self::Nats => "NATS JetStream",
            Self::Redis => "Redis Streams",
            Self::Bare => "bare tonic",
            Self::BareRequests => "bare tonic, same requests",
            Self::Disk => "bare disk",
        }
    }

    /// Argument x-queue-type of its queues, where it has AMQP.
    pub(crate) fn queue_type(self) -> &'static str {
        if self == Self::Quorum { "quorum" } else { "classic" }
    }
}

/// A peer that runs.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    pub(crate) version: String,
    /// What a confirm means.
    pub(crate) fsync: String,
    /// Where it speaks the protocol that is measured.
    pub(crate) addr: SocketAddr,
    pub(crate) grpc: SocketAddr,
    /// The process that does the work.
    pub(crate) pid: u32,
}

/// How peers are started.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// A new directory, one for each of them below it.
    pub(crate) directory: PathBuf,
    /// Leveret's fsync policy.
    pub(crate) fsync: String,
    /// Leveret's further settings, as on its command line.
    pub(crate) settings: Vec<String>,
}

/// What keeps a peer alive.
enum Life {
    Leveret(Running),
    RabbitMq(RabbitMq),
    Other { _process: Process },
}

/// The peers of a scenario. They end with its value.
pub(crate) struct Stage {
    setup: Setup,
    pub(crate) peers: Vec<Peer>,
    /// Which are not installed.
    pub(crate) left_out: Vec<Kind>,
    /// Which did not start, and why.
    pub(crate) failed: Vec<(Kind, String)>,
    lives: Vec<(Vec<Kind>, Life)>,
}

impl Stage {
    /// Starts these, as far as they are installed.
    pub(crate) fn start(setup: Setup, kinds: &[Kind]) -> Self {
        let (peers, left_out, failed, lives) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut stage = Self { setup, peers, left_out, failed, lives };
        for kind in kinds {
            if stage.peers.iter().any(|peer| peer.kind == *kind) {
                continue;
            }
            match stage.start_one(*kind, kinds) {
                Ok(true) => {}
                Ok(false) => stage.left_out.push(*kind),
                Err(error) => stage.failed.push((*kind, error.to_string())),
            }
        }
        stage.peers.sort_by_key(|peer| kinds.iter().position(|kind| *kind == peer.kind));
        stage
    }

    /// Whether it is there.
    fn start_one(&mut self, kind: Kind, kinds: &[Kind]) -> Result<bool, Error> {
        let directory = self.directory(kind);
        match kind {
            Kind::Floor => self.floor(&directory)?,
            Kind::Leveret => self.leveret(&directory)?,
            Kind::Bare | Kind::BareRequests => self.bare(kind)?,
            Kind::Disk => self.disk(&directory)?,
            Kind::Classic | Kind::Quorum => {
                // One node has queues of both types.
                let directory = self.setup.directory.join("rabbitmq");
                let Some(node) = RabbitMq::start(&directory)? else { return Ok(false) };
                let both = [Kind::Classic, Kind::Quorum].into_iter().filter(|kind| kinds.contains(kind));
                self.rabbitmq(node, both.collect());
            }
            Kind::Nats => return self.nats(&directory),
            Kind::Redis => return self.redis(&directory),
        }
        Ok(true)
    }

    fn floor(&mut self, directory: &Path) -> Result<(), Error> {
        let addr = free_addr()?;
        let mut command = Command::new(env::current_exe()?);
        let process = Process::start(command.args(["floor", &addr.to_string()]).arg(directory), addr)?;
        self.add(Kind::Floor, env!("CARGO_PKG_VERSION"), "fdatasync before a confirm", addr, process);
        Ok(())
    }

    fn bare(&mut self, kind: Kind) -> Result<(), Error> {
        let addr = free_addr()?;
        let mut command = Command::new(env::current_exe()?);
        let process = Process::start(command.args(["echo", &addr.to_string()]), addr)?;
        self.add(kind, env!("CARGO_PKG_VERSION"), "no disk", addr, process);
        Ok(())
    }

    fn nats(&mut self, directory: &Path) -> Result<bool, Error> {
        let Some(binary) = named_or_on_path("NATS_SERVER", "nats-server") else { return Ok(false) };
        std::fs::create_dir_all(directory)?;
        // "nats-server: v2.9.10".
        let said = said(Command::new(&binary).arg("--version"))?;
        let version = said.rsplit('v').next().unwrap_or("?").trim().to_owned();
        let (addr, config) = (free_addr()?, directory.join("nats.conf"));
        let always = knows_sync_always(&version);
        let (sync, fsync) = match always {
            true => ("sync_interval: always", "sync_interval: always"),
            false => ("", "fsync every two minutes (sync always came with 2.10)"),
        };
        let store = directory.join("store");
        std::fs::write(
            &config,
            format!(
                "listen: {addr:?}\nping_interval: \"30m\"\nmax_payload: 8MB\n\
                 jetstream {{ store_dir: {store:?}, max_file: 100G, {sync} }}\n",
                addr = addr.to_string()
            ),
        )?;
        let process = Process::start(Command::new(binary).arg("-c").arg(config), addr)?;
        self.add(Kind::Nats, &version, fsync, addr, process);
        Ok(true)
    }

    fn redis(&mut self, directory: &Path) -> Result<bool, Error> {
        let Some(binary) = named_or_on_path("REDIS_SERVER", "redis-server") else { return Ok(false) };
        std::fs::create_dir_all(directory)?;
        // "Redis server v=7.0.15 sha=00000000:0 ...".
        let said = said(Command::new(&binary).arg("--version"))?;
        let version =
            said.split_once("v=").and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or("?");
        let addr = free_addr()?;
        let mut command = Command::new(binary);
        command.args(["--bind", "127.0.0.1", "--port", &addr.port().to_string(), "--dir"]).arg(directory);
        command.args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""]);
        // Nothing rewrites the file behind a run.
        command.args(["--auto-aof-rewrite-percentage", "0"]);
        let process = Process::start(&mut command, addr)?;
        self.add(Kind::Redis, version, "appendfsync always", addr, process);
        Ok(true)
    }

    /// No process but this one, and no port.
    fn disk(&mut self, directory: &Path) -> Result<(), Error> {
        std::fs::create_dir_all(directory)?;
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let (version, fsync, pid) =
            (env!("CARGO_PKG_VERSION").into(), "fdatasync".into(), std::process::id());
        self.peers.push(Peer { kind: Kind::Disk, version, fsync, addr, grpc: addr, pid });
        Ok(())
    }

    fn leveret(&mut self, directory: &Path) -> Result<(), Error> {
        let (fsync, settings) = (self.setup.fsync.clone(), self.setup.settings.clone());
        let running = Handle::current().block_on(Running::broker_with(directory, &fsync, &settings))?;
        let version = said(Command::new(binary()?).arg("--version"))?;
        let version = version.split_whitespace().nth(1).unwrap_or("?").to_owned();
        let peer = Peer {
            kind: Kind::Leveret,
            version,
            fsync: [format!("fsync={fsync}"), settings.join(" ")].join(" ").trim().to_owned(),
            addr: running.amqp_addr(),
            grpc: running.grpc_addr(),
            pid: running.pid(),
        };
        self.keep(vec![peer], Life::Leveret(running));
        Ok(())
    }

    fn rabbitmq(&mut self, node: RabbitMq, kinds: Vec<Kind>) {
        let peer = |kind| Peer {
            kind,
            version: node.version().to_owned(),
            fsync: match kind {
                Kind::Classic => "no fsync before a confirm".into(),
                _ => "fsync before a confirm".into(),
            },
            addr: node.addr(),
            grpc: node.addr(),
            pid: node.pid(),
        };
        self.keep(kinds.into_iter().map(peer).collect(), Life::RabbitMq(node));
    }

    fn add(&mut self, kind: Kind, version: &str, fsync: &str, addr: SocketAddr, process: Process) {
        let (version, fsync, pid) = (version.to_owned(), fsync.to_owned(), process.pid());
        let peer = Peer { kind, version, fsync, addr, grpc: addr, pid };
        self.keep(vec![peer], Life::Other { _process: process });
    }

    /// In the place of what is there of these kinds.
    fn keep(&mut self, peers: Vec<Peer>, life: Life) {
        let kinds: Vec<Kind> = peers.iter().map(|peer| peer.kind).collect();
        for peer in peers {
            match self.peers.iter_mut().find(|found| found.kind == peer.kind) {
                Some(found) => *found = peer,
                None => self.peers.push(peer),
            }
        }
        self.lives.push((kinds, life));
    }

    /// A peer, as it is now.
    pub(crate) fn peer(&self, kind: Kind) -> Result<&Peer, Error> {
        Ok(self.peers.iter().find(|peer| peer.kind == kind).ok_or("it is not there")?)
    }

    /// Where a peer has its files.
    pub(crate) fn directory(&self, kind: Kind) -> PathBuf {
        self.setup.directory.join(format!("{kind:?}").to_lowercase())
    }

    /// Stops a broker and starts it on its directory with the page cache dropped; whether that was allowed.
    pub(crate) fn restart_cold(&mut self, kind: Kind) -> Result<bool, Error> {
        let place =
            self.lives.iter().position(|(kinds, _)| kinds.contains(&kind)).ok_or("it does not run")?;
        match self.lives.remove(place) {
            (_, Life::Leveret(running)) => {
                drop(running);
                let cold = drop_caches();
                self.leveret(&self.setup.directory.join("leveret"))?;
                Ok(cold)
            }
            (kinds, Life::RabbitMq(node)) => {
                node.stop()?;
                let cold = drop_caches();
                let node = RabbitMq::start(&self.setup.directory.join("rabbitmq"))?;
                self.rabbitmq(node.ok_or("RabbitMQ is gone")?, kinds);
                Ok(cold)
            }
            (_, Life::Other { .. }) => Err("it has no backlog".into()),
        }
    }
}

/// What a program prints.
fn said(command: &mut Command) -> Result<String, Error> {
    Ok(String::from_utf8_lossy(&command.output()?.stdout).into_owned())
}

/// Whether this version of NATS has the setting `sync_interval`.
fn knows_sync_always(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(2), Some(10))
}

/// A program that a variable names, or one on the path.
fn named_or_on_path(variable: &str, name: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from).or_else(|| on_path(name))
}

/// A program on the path.
fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_nats_are_compared_as_numbers() {
        assert!(!knows_sync_always("2.9.10"));
        assert!(knows_sync_always("2.10.29"));
        assert!(knows_sync_always("3.0.0-dev"));
        assert!(!knows_sync_always("?"));
    }
}

//! Processes under measurement: started on free loopback ports, killed when dropped.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::Error;

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A process and its addresses.
pub(crate) struct Running {
    child: Child,
    addr: SocketAddr,
    /// None of its own for the bare service.
    amqp: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// The broker, on default settings but for its addresses and the fsync policy.
    pub(crate) async fn broker(data: &Path, fsync: &str) -> Result<Self, Error> {
        Self::broker_with(data, fsync, &[]).await
    }

    /// The same, with further settings.
    pub(crate) async fn broker_with(data: &Path, fsync: &str, settings: &[String]) -> Result<Self, Error> {
        let (addr, amqp, http) = (free_addr()?, free_addr()?, free_addr()?);
        let binary = binary()?;
        let child = Command::new(binary)
            .env_remove("LEVERET_BIN")
            .args(["serve", "--log-level", "warn", "--fsync", fsync, "--data-dir"])
            .arg(data)
            .args(["--grpc-addr", &addr.to_string(), "--http-addr", &http.to_string()])
            .args(["--amqp-addr", &amqp.to_string()])
            .args(settings)
            .stdin(Stdio::null())
            .spawn()?;
        let mut running = Self { child, addr, amqp };
        running.wait(true).await?;
        Ok(running)
    }

    /// The bare service: this program again.
    pub(crate) async fn echo() -> Result<Self, Error> {
        let addr = free_addr()?;
        let child = Command::new(std::env::current_exe()?)
            .args(["echo", &addr.to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        let mut running = Self { child, addr, amqp: addr };
        running.wait(false).await?;
        Ok(running)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it speaks AMQP.
    pub(crate) fn amqp_addr(&self) -> SocketAddr {
        self.amqp
    }

    /// Where it speaks gRPC.
    pub(crate) fn grpc_addr(&self) -> SocketAddr {
        self.addr
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Channel, Error> {
        Ok(Endpoint::from_shared(format!("http://{}", self.addr))?.tcp_nodelay(true).connect().await?)
    }

    async fn wait(&mut self, health: bool) -> Result<(), Error> {
        let started = Instant::now();
        while started.elapsed() < START_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("a process under measurement ended with {status}").into());
            }
            if let Ok(channel) = self.connect().await
                && (!health || serving(channel).await)
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err("a process under measurement does not serve".into())
    }
}

async fn serving(channel: Channel) -> bool {
    let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    answer.is_ok_and(|answer| answer.into_inner().status() == ServingStatus::Serving)
}

/// LEVERET_BIN, or a release build of the server alone, made once by each run of this program.
pub(crate) fn binary() -> Result<PathBuf, Error> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = std::env::var_os("LEVERET_BIN") {
        return Ok(path.into());
    }
    if let Some(path) = BUILT.get() {
        return Ok(path.clone());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "-p", "leveret-server"])
        .current_dir(workspace())
        .status()?;
    if !built.success() {
        return Err("cargo build --release -p leveret-server failed".into());
    }
    Ok(BUILT.get_or_init(|| target().join("release/leveret")).clone())
}

/// The build directory.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A loopback address that was free a moment ago.
pub(crate) fn free_addr() -> Result<SocketAddr, Error> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

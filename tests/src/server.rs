//! One server process under test: the real binary on free loopback ports over a data directory of its own.
//! A server is killed and reaped when it is dropped; its standard error is shown when the test is failing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::binary;
use crate::client::{self, Client};

/// How long a server may take until it serves.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The same of one that runs in something slow, as valgrind is.
const WRAPPED_START_TIMEOUT: Duration = Duration::from_secs(600);
/// Starts on new ports when another process took ours between choosing and binding.
const PORT_TRIES: usize = 5;

/// How to start a server. Small segments, budgets and intervals, so that rotation, checkpoints, settling and recycling happen
/// in tests too.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--fsync`.
    pub fsync: String,
    /// `--memory-budget`.
    pub memory_budget: String,
    /// `--log-budget`.
    pub log_budget: String,
    /// `--segment-size`.
    pub segment_size: String,
    /// `--checkpoint-interval`.
    pub checkpoint_interval: String,
    /// `--message-max`; at most half a segment.
    pub message_max: String,
    /// More flags, as they are.
    pub flags: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// A program that runs the server in its own process, and its arguments; none as a rule.
    pub wrapper: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            fsync: "always".into(),
            memory_budget: "16MiB".into(),
            log_budget: "4MiB".into(),
            segment_size: "1MiB".into(),
            checkpoint_interval: "2MiB".into(),
            message_max: "512KiB".into(),
            flags: Vec::new(),
            env: Vec::new(),
            wrapper: Vec::new(),
        }
    }
}

impl Options {
    /// Room for bodies of 16 MiB: the segment size of production.
    pub fn large() -> Self {
        Self {
            segment_size: "64MiB".into(),
            checkpoint_interval: "64MiB".into(),
            log_budget: "512MiB".into(),
            message_max: "16MiB".into(),
            ..Self::default()
        }
    }

    /// The same with one flag more.
    #[must_use]
    pub fn flag(mut self, flag: &str, value: &str) -> Self {
        self.flags.extend([flag.to_string(), value.to_string()]);
        self
    }
}

/// A data directory that outlives the servers that are started on it, with their standard error beside it. It is
/// removed with its last handle, unless the environment has LEVERET_KEEP.
#[derive(Debug, Clone)]
pub struct Home {
    dir: Arc<TempDir>,
    data: PathBuf,
}

impl Home {
    /// A new, empty one.
    pub fn new() -> io::Result<Self> {
        Self::with_data("data")
    }

    /// The same with the data directory at that place in it.
    pub fn with_data(place: &str) -> io::Result<Self> {
        let keep = std::env::var_os("LEVERET_KEEP").is_some();
        let dir = tempfile::Builder::new().prefix("leveret-test-").disable_cleanup(keep).tempdir()?;
        let data = dir.path().join(place);
        Ok(Self { dir: Arc::new(dir), data })
    }

    /// The server's data directory; the server makes it.
    pub fn data(&self) -> PathBuf {
        self.data.clone()
    }

    /// The directory around it, for files of the test.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What the servers on this directory wrote to standard error, oldest first.
    pub fn stderr(&self) -> String {
        fs::read(self.stderr_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// How much they have written.
    pub fn stderr_bytes(&self) -> u64 {
        fs::metadata(self.stderr_path()).map_or(0, |data| data.len())
    }

    /// What they wrote after the first `from` bytes.
    pub fn stderr_from(&self, from: u64) -> String {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(self.stderr_path())
            && file.seek(SeekFrom::Start(from)).is_ok()
        {
            // Whatever could be read is what there is to say.
            let _ = file.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Notes between the servers' lines what is being done to them.
    pub fn note(&self, text: &str) {
        if let Ok(mut file) = self.stderr_file() {
            // It helps who reads it, and nothing depends on it.
            let _ = writeln!(file, "--- {text}");
        }
    }

    fn stderr_path(&self) -> PathBuf {
        self.path().join("stderr.log")
    }

    fn stderr_file(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(self.stderr_path())
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    child: Child,
    home: Home,
    options: Options,
    ports: Ports,
    started: Instant,
    recovery: Duration,
}

impl Server {
    /// Starts a server on a new directory with default options and waits until it serves.
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    /// Starts a server on a new directory and waits until it serves.
    pub async fn start_with(options: Options) -> Self {
        let home = Home::new().expect("a temporary directory");
        Self::start_on(&home, options).await
    }

    /// Starts a server on a given directory and waits until it serves.
    pub async fn start_on(home: &Home, options: Options) -> Self {
        Self::try_start_on(home, options).await.unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same; why it does not serve, where it does not.
    pub async fn try_start_on(home: &Home, options: Options) -> Result<Self, String> {
        for _ in 0..PORT_TRIES {
            let mut server = Self::spawn(home, options.clone());
            match server.wait_serving().await {
                Ok(()) => return Ok(server),
                // Another process took the port between our choosing and its binding.
                Err(NotServing::Exited(_)) if home.stderr().contains("in use by another") => {}
                Err(why) => {
                    return Err(format!("the server does not serve: {why}\n{}", tail(&home.stderr())));
                }
            }
        }
        Err(format!("no free port in {PORT_TRIES} tries\n{}", tail(&home.stderr())))
    }

    /// kill -9 and start again on the same directory and the same ports, for clients that reconnect.
    pub async fn restart_in_place(mut self) -> Self {
        self.kill_now();
        let (home, options, ports) = (self.home.clone(), self.options.clone(), self.ports);
        let begun = Instant::now();
        loop {
            let mut server = Self::spawn_at(&home, options.clone(), ports);
            match server.wait_serving().await {
                Ok(()) => return server,
                // For a moment a client's try to connect may hold the port.
                Err(NotServing::Exited(_))
                    if home.stderr().contains("in use by another") && begun.elapsed() < START_TIMEOUT => {}
                Err(why) => panic!("the server does not serve again: {why}\n{}", tail(&home.stderr())),
            }
        }
    }

    /// Starts the process and does not wait.
    pub fn spawn(home: &Home, options: Options) -> Self {
        Self::spawn_at(home, options, Ports::free())
    }

    fn spawn_at(home: &Home, options: Options, ports: Ports) -> Self {
        let stderr = home.stderr_file().expect("a file for standard error");
        let child = command(&home.data(), ports, &options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("the server's process");
        Self { child, home: home.clone(), options, ports, started: Instant::now(), recovery: Duration::ZERO }
    }

    /// Waits until the health service says SERVING.
    pub async fn wait_serving(&mut self) -> Result<(), NotServing> {
        self.wait_listening().await?;
        let listening = Instant::now();
        // Who counts what a server does wants few questions among it.
        let pause = Duration::from_millis(if self.options.wrapper.is_empty() { 1 } else { 200 });
        while !client::serving(self.ports.grpc).await {
            self.still_starting()?;
            tokio::time::sleep(pause).await;
        }
        self.recovery = listening.elapsed();
        Ok(())
    }

    /// Waits until its port is open, which comes before the recovery.
    pub async fn wait_listening(&mut self) -> Result<(), NotServing> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.grpc));
        while TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_err() {
            self.still_starting()?;
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        Ok(())
    }

    fn still_starting(&mut self) -> Result<(), NotServing> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(NotServing::Exited(status));
        }
        let patience = if self.options.wrapper.is_empty() { START_TIMEOUT } else { WRAPPED_START_TIMEOUT };
        if self.started.elapsed() > patience {
            return Err(NotServing::Timeout(patience));
        }
        Ok(())
    }

    /// kill -9, and reaps the process. Gives back its directory and options, for the next one.
    pub fn kill(mut self) -> (Home, Options) {
        self.kill_now();
        (self.home.clone(), self.options.clone())
    }

    /// kill -9 and start again on the same directory.
    pub async fn kill_and_restart(self) -> Self {
        let (home, options) = self.kill();
        Self::start_on(&home, options).await
    }

    /// SIGTERM, waits for the end and asserts that it was a clean one.
    pub async fn stop(mut self) -> (Home, Options) {
        self.signal(Signal::TERM);
        let status = self.wait_exit(Duration::from_secs(30)).await;
        assert!(status.success(), "SIGTERM ends with {status}\n{}", tail(&self.home.stderr()));
        (self.home.clone(), self.options.clone())
    }

    /// Sends a signal to this process alone.
    pub fn signal(&self, signal: Signal) {
        // Not reaped yet, so the number still means this process.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for the process to end by itself.
    pub async fn wait_exit(&mut self, timeout: Duration) -> ExitStatus {
        let end = Instant::now() + timeout;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("wait for the server") {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the server still runs after {timeout:?}\n{}", tail(&self.home.stderr()));
    }

    /// A new connection to it.
    pub async fn client(&self) -> Client {
        Client::connect(self.ports.grpc).await
    }

    /// A new connection to it with a login.
    pub async fn client_as(&self, user: &str, password: &str) -> Client {
        Client::connect_as(self.ports.grpc, user, password).await
    }

    /// Its gRPC port on 127.0.0.1.
    pub fn grpc_port(&self) -> u16 {
        self.ports.grpc
    }

    /// Its AMQP port on 127.0.0.1.
    pub fn amqp_port(&self) -> u16 {
        self.ports.amqp
    }

    /// Its HTTP port on 127.0.0.1.
    pub fn http_port(&self) -> u16 {
        self.ports.http
    }

    /// Memory of the process itself, in bytes; the page cache is the kernel's to give back.
    pub fn anonymous_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).expect("the process's status");
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
        kib << 10
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its directory.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// How long it took from its open port to SERVING.
    pub fn recovery(&self) -> Duration {
        self.recovery
    }

    fn kill_now(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill_now();
        if thread::panicking() {
            eprintln!("--- standard error of the server ---\n{}", tail(&self.home.stderr()));
        }
    }
}

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum NotServing {
    /// It ended.
    #[error("it ended with {0}")]
    Exited(ExitStatus),
    /// It took too long.
    #[error("it took more than {0:?}")]
    Timeout(Duration),
}

/// The command line of a server.
pub fn command(data: &Path, ports: Ports, options: &Options) -> Command {
    let mut command = match options.wrapper.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary::leveret());
            command
        }
        None => Command::new(binary::leveret()),
    };
    // The tests' own variables, and the user's, are not this server's.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LEVERET_")) {
        command.env_remove(name);
    }
    command.arg("serve").arg("--data-dir").arg(data);
    command.args(["--grpc-addr", &format!("127.0.0.1:{}", ports.grpc)]);
    command.args(["--amqp-addr", &format!("127.0.0.1:{}", ports.amqp)]);
    command.args(["--http-addr", &format!("127.0.0.1:{}", ports.http)]);
    command.args(["--fsync", &options.fsync]);
    command.args(["--memory-budget", &options.memory_budget]);
    command.args(["--log-budget", &options.log_budget]);
    command.args(["--segment-size", &options.segment_size]);
    command.args(["--checkpoint-interval", &options.checkpoint_interval]);
    command.args(["--message-max", &options.message_max]);
    command.args(&options.flags);
    command.envs(options.env.iter().map(|(key, value)| (key, value)));
    command
}

/// The loopback ports of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// gRPC.
    pub grpc: u16,
    /// AMQP 0-9-1.
    pub amqp: u16,
    /// HTTP.
    pub http: u16,
}

impl Ports {
    /// Ports that were free a moment ago.
    pub fn free() -> Self {
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [grpc, amqp, http] = listeners.map(|listener| listener.local_addr().expect("its address").port());
        Self { grpc, amqp, http }
    }
}

/// The last lines of a text.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

//! The store benchmark: what a backlog costs in memory, on the disk and at a restart, and how fast it is drained.
//!
//! Restarts are after kill -9, with the page cache dropped where that is allowed (as root); the time is that from the
//! start of the process until it serves.

mod idle;
mod late;
mod load;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use leveret_proto::v1::StatusRequest;
use leveret_proto::v1::StatusResponse;
use leveret_proto::v1::broker_client::BrokerClient;

use crate::Error;
use crate::child::{self, Running};
use crate::machine::{DiskPeak, Peak, anonymous_bytes, disk_bytes, drop_caches, mib};

/// How the store benchmark runs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Arguments {
    /// What to measure; all of it where nothing is named.
    #[arg(value_enum)]
    what: Vec<What>,
    /// Directory on the disk to be measured; a new one below it is used and removed. Default: the build directory.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Messages of a backlog.
    #[arg(long, default_value_t = 10_000_000)]
    backlog: u64,
    /// Queues of the backlog over many queues.
    #[arg(long, default_value_t = 1_000)]
    queues: usize,
    /// Bytes of a body of a backlog.
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Gigabytes (10^9) that flow past one message that is never acked.
    #[arg(long, default_value_t = 10.0)]
    flow: f64,
    /// Minutes that one queue is acked late.
    #[arg(long, default_value_t = 5.0)]
    late: f64,
    /// Queues that nobody uses.
    #[arg(long, default_value_t = 100_000)]
    idle_queues: usize,
    /// The server's fsync policy.
    #[arg(long, default_value = "always")]
    fsync: String,
    /// Further settings of the server, as on its command line.
    #[arg(long, allow_hyphen_values = true)]
    server: Vec<String>,
}

/// A scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum What {
    /// A backlog in one queue: restart, memory; then drained, in order.
    One,
    /// A backlog over many queues: restart, memory.
    Many,
    /// One message never acked while others flow past, beside the same flow without it.
    Unacked,
    /// 100 queues, 500 messages of 120 KB a second, one queue acked minutes late: latency of the others.
    Late,
    /// Many durable queues that nobody uses: memory of each, restart.
    Idle,
}

const EACH: [What; 5] = [What::One, What::Many, What::Unacked, What::Late, What::Idle];

/// A line of the report.
struct Line {
    what: String,
    found: String,
    wanted: &'static str,
    met: bool,
}

/// What all scenarios share.
struct Bench<'a> {
    arguments: &'a Arguments,
    lines: Vec<Line>,
}

/// Runs and prints.
pub(crate) async fn run(arguments: &Arguments) -> Result<bool, Error> {
    let parent = arguments.data_dir.clone().unwrap_or_else(child::target);
    std::fs::create_dir_all(&parent)?;
    let mut bench = Bench { arguments, lines: Vec::new() };
    let chosen = if arguments.what.is_empty() { EACH.to_vec() } else { arguments.what.clone() };
    for what in chosen {
        let directory = tempfile::Builder::new().prefix("leveret-bench-").tempdir_in(&parent)?;
        let data = directory.path().join("data");
        match what {
            What::One => bench.backlog(&data, 1, true).await?,
            What::Many => bench.backlog(&data, arguments.queues, false).await?,
            What::Unacked => bench.unacked(&data).await?,
            What::Late => bench.late(&data).await?,
            What::Idle => bench.idle(&data).await?,
        }
    }
    print(arguments, &bench.lines);
    Ok(true)
}

#[expect(clippy::print_stdout, reason = "the report is what the program is for")]
fn print(arguments: &Arguments, lines: &[Line]) {
    println!(
        "\nfsync={}, {}-byte bodies unless said, client and server on the same machine\n",
        arguments.fsync, arguments.bytes
    );
    for Line { what, found, wanted, met } in lines {
        let verdict = match (wanted.is_empty(), met) {
            (true, _) => "",
            (_, true) => "met",
            (_, false) => "MISSED",
        };
        println!("{what:62} {found:>14}   {wanted:12} {verdict}");
    }
}

impl Bench<'_> {
    fn tell(&mut self, what: impl Into<String>, found: String, wanted: &'static str, met: bool) {
        let line = Line { what: what.into(), found, wanted, met };
        eprintln!("{}: {} ({})", line.what, line.found, line.wanted);
        self.lines.push(line);
    }

    async fn start(&self, data: &Path) -> Result<Running, Error> {
        Running::broker_with(data, &self.arguments.fsync, &self.arguments.server).await
    }

    /// Loads a backlog, kills the server, restarts it on cold files, and drains it if asked to.
    async fn backlog(&mut self, data: &Path, queues: usize, drain: bool) -> Result<(), Error> {
        let Arguments { backlog, bytes, .. } = *self.arguments;
        let title = format!("{backlog} in {queues} queue{}", if queues == 1 { "" } else { "s" });
        let server = self.start(data).await?;
        let names = load::names(queues);
        let (addr, all) = (server.amqp_addr(), names.clone());
        let begun = Instant::now();
        let peak = Peak::watch(server.pid());
        blocking(move || load::fill(addr, &all, bytes, backlog)).await?;
        let rate = backlog as f64 / begun.elapsed().as_secs_f64();
        let peak = peak.end();
        self.tell(format!("{title}: loaded, messages/s"), format!("{rate:.0}"), "", true);
        self.tell(format!("{title}: anonymous memory, peak while loading"), mib(peak), "", true);
        let loaded = anonymous_bytes(server.pid())?;
        self.tell(
            format!("{title}: anonymous memory, loaded"),
            mib(loaded),
            "< 400 MB",
            loaded < 400_000_000,
        );
        let status = status(&server).await?;
        let amplification = status.write_amplification;
        let wanted = amplification <= 2.5;
        self.tell(format!("{title}: write amplification"), format!("{amplification:.2}"), "<= 2.5", wanted);
        let disk = disk_bytes(data)?;
        self.tell(format!("{title}: disk"), mib(disk), "", true);
        // The end of its value is kill -9.
        drop(server);
        let cold = drop_caches();
        let begun = Instant::now();
        let server = self.start(data).await?;
        let took = begun.elapsed();
        let cold = if cold { "cold" } else { "page cache not dropped" };
        let fast = took < Duration::from_secs(2);
        self.tell(format!("{title}: restart, {cold}"), format!("{:.2} s", took.as_secs_f64()), "< 2 s", fast);
        let ready = self::status(&server).await?.messages_ready;
        self.tell(format!("{title}: messages after it"), ready.to_string(), "all", ready == backlog);
        let after = anonymous_bytes(server.pid())?;
        self.tell(format!("{title}: anonymous memory then"), mib(after), "< 400 MB", after < 400_000_000);
        if drain {
            self.drain(&server, data, backlog).await?;
        }
        Ok(())
    }

    async fn drain(&mut self, server: &Running, data: &Path, backlog: u64) -> Result<(), Error> {
        let addr = server.amqp_addr();
        let begun = Instant::now();
        let peak = Peak::watch(server.pid());
        blocking(move || load::drain_in_order(addr, &load::names(1)[0], backlog)).await?;
        let rate = backlog as f64 / begun.elapsed().as_secs_f64();
        let peak = peak.end();
        let fast = rate >= 300_000.0;
        self.tell("the same, drained in order, messages/s", format!("{rate:.0}"), ">= 300,000", fast);
        self.tell("the same, anonymous memory, peak", mib(peak), "< 400 MB", peak < 400_000_000);
        // Log budget, one segment, the reserve.
        let bound = (1 << 30) + (64 << 20) + (256 << 20);
        let begun = Instant::now();
        let mut disk = disk_bytes(data)?;
        while disk > bound && begun.elapsed() < Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_millis(500)).await;
            disk = disk_bytes(data)?;
        }
        let what = format!("disk {:.0} s after the drain", begun.elapsed().as_secs_f64());
        self.tell(what, mib(disk), "<= 1344 MiB", disk <= bound);
        Ok(())
    }

    async fn late(&mut self, data: &Path) -> Result<(), Error> {
        let server = self.start(data).await?;
        let (addr, duration) = (server.amqp_addr(), Duration::from_secs_f64(self.arguments.late * 60.0));
        let watch = DiskPeak::watch(data);
        let latency = blocking(move || late::run(addr, duration)).await?;
        let peak = watch.end();
        let title = format!("one of 100 queues acked {} minutes late", self.arguments.late);
        let told = format!("{:.1} / {:.1} ms", latency.p50, latency.worst);
        self.tell(format!("{title}: p50 / worst of {}", latency.count), told, "", true);
        let p99 = format!("{:.1} ms", latency.p99);
        self.tell(format!("{title}: p99 of the others"), p99, "< 50 ms", latency.p99 < 50.0);
        self.tell(format!("{title}: disk, peak"), mib(peak), "", true);
        Ok(())
    }

    /// The same flow twice: alone, then past a message that nobody acks.
    async fn unacked(&mut self, data: &Path) -> Result<(), Error> {
        const BODY: usize = 1_000;
        let count = (self.arguments.flow * 1e9) as u64 / BODY as u64;
        let mut rates = Vec::new();
        for pinned in [false, true] {
            let data = data.join(if pinned { "pinned" } else { "alone" });
            let server = self.start(&data).await?;
            let addr = server.amqp_addr();
            let watch = DiskPeak::watch(&data);
            let rate = blocking(move || load::flow(addr, BODY, count, pinned)).await?;
            let peak = watch.end();
            rates.push(rate);
            let title = if pinned { "flow past an unacked message" } else { "flow alone" };
            self.tell(format!("{title}, 1 KB bodies, messages/s"), format!("{rate:.0}"), "", true);
            let bound = (1u64 << 30) * 3 / 2 + 1_000_000_000;
            self.tell(format!("{title}: disk, peak"), mib(peak), "< 2490 MiB", peak < bound);
            let amplification = status(&server).await?.write_amplification;
            let met = amplification <= 1.1;
            self.tell(format!("{title}: write amplification"), format!("{amplification:.2}"), "<= 1.1", met);
        }
        let ratio = rates[1] / rates[0];
        self.tell("rate past it over rate alone", format!("{ratio:.2}"), ">= 0.90", ratio >= 0.9);
        Ok(())
    }
}

async fn status(server: &Running) -> Result<StatusResponse, Error> {
    Ok(BrokerClient::new(server.connect().await?).status(StatusRequest {}).await?.into_inner())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(move || work().map_err(|error| error.to_string())).await?.map_err(Into::into)
}

//! Queues that nobody uses: what each costs.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{Bench, blocking, status};
use crate::Error;
use crate::amqp::link::Link;
use crate::machine::{anonymous_bytes, disk_bytes, drop_caches, mib};

/// Connections that declare at a time, so that many wait for one sync.
const LINKS: usize = 64;
const EACH_MAX: f64 = 2_000.0;

impl Bench<'_> {
    /// Declares queues, each with a binding of its own, and restarts on them.
    pub(super) async fn idle(&mut self, data: &Path) -> Result<(), Error> {
        let count = self.arguments.idle_queues;
        let title = format!("{count} idle durable queues with a binding each");
        let server = self.start(data).await?;
        let before = anonymous_bytes(server.pid())?;
        let (addr, begun) = (server.amqp_addr(), Instant::now());
        blocking(move || declare(addr, count)).await?;
        let took = format!("{:.1} s", begun.elapsed().as_secs_f64());
        self.tell(format!("{title}: declared in"), took, "", true);
        // What was allocated for the declaring connections goes back.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = anonymous_bytes(server.pid())?;
        self.each(&format!("{title}: memory of each"), count, after.saturating_sub(before));
        self.tell(format!("{title}: disk"), mib(disk_bytes(data)?), "", true);
        // The end of its value is kill -9.
        drop(server);
        let cold = if drop_caches() { "cold" } else { "page cache not dropped" };
        let begun = Instant::now();
        let server = self.start(data).await?;
        let took = begun.elapsed();
        let fast = took < Duration::from_secs(2);
        self.tell(format!("{title}: restart, {cold}"), format!("{:.2} s", took.as_secs_f64()), "< 2 s", fast);
        let queues = status(&server).await?.queues;
        self.tell(format!("{title}: queues after it"), queues.to_string(), "all", queues == count as u64);
        // What the recovery took goes back.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = anonymous_bytes(server.pid())?;
        self.each(&format!("{title}: memory of each then"), count, after.saturating_sub(before));
        Ok(())
    }

    fn each(&mut self, what: &str, count: usize, bytes: u64) {
        let each = bytes as f64 / count as f64;
        self.tell(what, format!("{each:.0} B"), "< 2,000 B", each < EACH_MAX);
    }
}

fn declare(addr: SocketAddr, count: usize) -> Result<(), Error> {
    let part = |link: usize| {
        move || -> Result<(), String> {
            let mut connection = Link::open(addr).map_err(|error| error.to_string())?;
            for number in (link..count).step_by(LINKS) {
                let queue = format!("idle-{number:07}");
                let done = connection.declare(&queue, "classic").and_then(|()| connection.bind(&queue));
                done.map_err(|error| error.to_string())?;
            }
            Ok(())
        }
    };
    let threads: Vec<_> = (0..LINKS).map(|link| thread::spawn(part(link))).collect();
    for thread in threads {
        thread.join().map_err(|_| "a declaring connection panicked")??;
    }
    Ok(())
}

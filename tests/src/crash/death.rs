//! How the servers' lives end: killed, or by a power loss of the disk below them.

use std::fmt;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use super::errors::{self, Errors};
use crate::faultfs::{Call, Disk, Lie, Lost};
use crate::server::{Home, Options, Server};

/// Room of the disk, far more than a run needs.
const DISK_BYTES: u64 = 1 << 30;
/// Where it is mounted, in the home; the data directory is one in it, so that its own name has to be made durable, too.
const MOUNT: &str = "disk";
const DATA: &str = "disk/data";
/// How long a life under load may go on beyond its confirms until the moment comes that its end waits for.
const MOMENT_PATIENCE: Duration = Duration::from_millis(300);

/// How a run's servers end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Death {
    /// kill -9: what was written stays in the page cache.
    #[default]
    Kill,
    /// The power goes, and with it whatever was not synced; between two losses there are plain kills, too.
    PowerLoss {
        /// What the disk lies about, once the queues are declared: a control.
        lie: Lie,
    },
    /// A system call fails under load, and the power goes after what came of it.
    Errors,
}

/// What the power losses of a run did.
#[derive(Debug, Default, Clone, Copy)]
pub struct Losses {
    /// Losses of power.
    pub losses: u64,
    /// Those of them that came right before a call of a chosen kind.
    pub aimed: u64,
    /// Kills that left the page cache, among the same lives.
    pub kills: u64,
    /// Losses that took something.
    pub effective: u64,
    /// What all of them took and left.
    pub lost: Lost,
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lost { sectors, sectors_kept, torn, lengths, names, names_kept } = self.lost;
        writeln!(
            f,
            "power losses                {} ({} right before a chosen call)",
            self.losses, self.aimed
        )?;
        writeln!(f, "  that took something       {}", self.effective)?;
        writeln!(f, "plain kills between them    {}", self.kills)?;
        writeln!(f, "unsynced sectors lost, kept {sectors}, {sectors_kept} ({torn} files torn)")?;
        writeln!(f, "lengths lost                {lengths}")?;
        write!(f, "unsynced names lost, kept   {names}, {names_kept}")
    }
}

/// Ends lives. The disk goes before the home that it is mounted in.
#[derive(Debug)]
pub(super) struct Reaper {
    disk: Option<Disk>,
    lie: Lie,
    rng: Rng,
    pub(super) losses: Losses,
    /// What failing calls did, where they fail.
    pub(super) errors: Option<Errors>,
}

impl Reaper {
    /// With a home whose servers end that way.
    pub(super) fn new(death: Death, seed: u64) -> Result<(Self, Home), String> {
        let place = if death == Death::Kill { "data" } else { DATA };
        let home = Home::with_data(place).map_err(|error| error.to_string())?;
        let mount = || Disk::mount(&home.path().join(MOUNT), DISK_BYTES);
        let disk = match death {
            Death::Kill => None,
            _ => Some(mount().map_err(|error| format!("mounting the file system: {error}"))?),
        };
        let lie = if let Death::PowerLoss { lie } = death { lie } else { Lie::Never };
        let errors = (death == Death::Errors).then(Errors::default);
        Ok((Self { disk, lie, rng: Rng::with_seed(seed), losses: Losses::default(), errors }, home))
    }

    /// Whether what a server cannot open is to be expected and repaired: the disk lies.
    pub(super) fn lies(&self) -> bool {
        self.lie != Lie::Never
    }

    /// The disk begins to lie, if it is to.
    pub(super) fn begin_lying(&self) {
        if let (Some(disk), true) = (&self.disk, self.lies()) {
            disk.lie(self.lie);
        }
    }

    /// Ends a life under load, at once or right before one of the next calls.
    pub(super) async fn end_under_load(&mut self, mut server: Server, home: &Home) -> Result<(), String> {
        if let (Some(disk), Some(errors)) = (&self.disk, &mut self.errors) {
            errors::make_trouble(disk, home, &mut server, &mut self.rng, errors).await?;
        } else if let (Some(disk), true) = (&self.disk, self.rng.bool()) {
            // Syncs come all the time; what changes a name comes with rotations, checkpoints and settling.
            let calls = [Call::Sync, Call::Write, Call::SyncDir, Call::Create, Call::Rename, Call::Remove];
            let (call, nth) = (calls[self.rng.usize(..calls.len())], self.rng.u64(1..4));
            disk.lose_power_at(call, nth);
            self.losses.aimed += u64::from(moment(disk).await);
        }
        self.lose_power(server)
    }

    /// Makes the end of the next start likely to come within its recovery: true where it waits for one of its calls.
    pub(super) fn aim_at_start(&mut self) -> bool {
        let aimed = self.disk.is_some() && self.rng.bool();
        if let (Some(disk), true) = (&self.disk, aimed) {
            let calls = [Call::Sync, Call::Write, Call::SyncDir, Call::Create, Call::Rename, Call::Remove];
            disk.lose_power_at(calls[self.rng.usize(..calls.len())], self.rng.u64(1..5));
        }
        aimed
    }

    /// Waits for that call.
    pub(super) async fn wait_for_aim(&mut self) {
        if let Some(disk) = &self.disk {
            self.losses.aimed += u64::from(moment(disk).await);
        }
    }

    /// Ends a life, now: a power loss where there is a disk, but now and then a kill.
    pub(super) fn end(&mut self, server: Server) -> Result<(), String> {
        match &self.disk {
            // A kill leaves unsynced what was unsynced, for a later loss to take.
            Some(disk) if self.rng.u8(..4) == 0 && disk.keep_power() => {
                server.kill();
                self.losses.kills += 1;
                Ok(())
            }
            Some(_) => self.lose_power(server),
            None => {
                server.kill();
                Ok(())
            }
        }
    }

    fn lose_power(&mut self, server: Server) -> Result<(), String> {
        let Some(disk) = &mut self.disk else {
            server.kill();
            return Ok(());
        };
        // Frozen first: what the process does until it is gone changes nothing, and is never answered.
        disk.freeze();
        server.signal(Signal::KILL);
        disk.thaw();
        server.kill();
        let lost = disk.lose_power(&mut self.rng).map_err(|error| format!("mounting anew: {error}"))?;
        self.losses.losses += 1;
        self.losses.effective += u64::from(lost.sectors + lost.lengths + lost.names > 0);
        self.losses.lost.add(&lost);
        Ok(())
    }
}

/// Whether the chosen moment came in time.
async fn moment(disk: &Disk) -> bool {
    let end = Instant::now() + MOMENT_PATIENCE;
    while !disk.is_frozen() {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    true
}

/// Repairs what a lying disk left, as a person would whom the server's own message sends there.
pub(super) fn repair(home: &Home) -> Result<(), String> {
    let mut command = std::process::Command::new(crate::binary::leveret());
    command.arg("repair").arg("--data-dir").arg(home.data()).arg("--yes");
    let output = command.output().map_err(|error| format!("leveret repair: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("leveret repair ends with {}:\n{said}", output.status)),
    }
}

/// A server on that home; the options are the run's.
pub(super) async fn start(home: &Home, options: &Options, lies: bool) -> Result<Server, String> {
    match Server::try_start_on(home, options.clone()).await {
        Err(_) if lies => {
            repair(home)?;
            Server::try_start_on(home, options.clone()).await
        }
        started => started,
    }
}

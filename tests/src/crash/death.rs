//! How the servers' lives end: killed, or by a power loss of the disk below them.

use std::fmt;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use super::errors::{self, Errors};
use super::points::{Aim, Points};
use crate::faultfs::{Call, Disk, Lie, Lost, Moment};
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
    /// The same before and after the calls that decide what the next start finds.
    KillAtPoints,
    /// The power goes, and with it whatever was not synced; between two losses there are plain kills, too.
    PowerLoss {
        /// What the disk lies about, once the queues are declared: a control.
        lie: Lie,
    },
    /// A system call fails under load or in a start, and the power goes after what came of it.
    Errors {
        /// Syncs of the log fail, and say that they went well: a control.
        unsaid: bool,
    },
}

impl Death {
    /// Whether the harness breaks what no store can make good: a control.
    fn is_control(self) -> bool {
        match self {
            Self::Kill | Self::KillAtPoints => false,
            Self::PowerLoss { lie } => lie != Lie::Never,
            Self::Errors { unsaid } => unsaid,
        }
    }
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
    death: Death,
    rng: Rng,
    /// For the starts that meet an error, so that a seed's other choices stay the same.
    rng_of_starts: Rng,
    /// The point that is waited for.
    aim: Option<Aim>,
    pub(super) losses: Losses,
    /// What failing calls did, where they fail.
    pub(super) errors: Option<Errors>,
    /// The points that were met, where the server is killed at those.
    pub(super) points: Option<Points>,
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
        let errors = matches!(death, Death::Errors { .. }).then(Errors::default);
        let points = (death == Death::KillAtPoints).then(Points::default);
        let (rng, losses) = (Rng::with_seed(seed), Losses::default());
        let rng_of_starts = Rng::with_seed(!seed);
        Ok((Self { disk, death, rng, rng_of_starts, aim: None, losses, errors, points }, home))
    }

    /// Whether a broken invariant is what the run is to end with. What a server cannot open is repaired then.
    pub(super) fn is_control(&self) -> bool {
        self.death.is_control()
    }

    /// The disk begins to lie, if it is to.
    pub(super) fn begin_lying(&self) {
        if let (Some(disk), Death::PowerLoss { lie }) = (&self.disk, self.death)
            && lie != Lie::Never
        {
            disk.lie(lie);
        }
    }

    /// Ends a life under load, at once or at one of the next calls.
    pub(super) async fn end_under_load(&mut self, mut server: Server, home: &Home) -> Result<(), String> {
        if let (Some(disk), Some(errors)) = (&self.disk, &mut self.errors) {
            let unsaid = self.death == Death::Errors { unsaid: true };
            errors::make_trouble(disk, home, &mut server, &mut self.rng, errors, unsaid).await?;
        } else if self.aim(false) {
            self.wait_for_aim().await;
        }
        self.end_now(server)
    }

    /// Makes the end of the next start likely to come within its recovery: true where it waits for one of its calls.
    pub(super) fn aim_at_start(&mut self) -> bool {
        self.aim(true)
    }

    fn aim(&mut self, in_start: bool) -> bool {
        let Some(disk) = &self.disk else { return false };
        if let Some(points) = &self.points {
            let (aim, moment) = points.draw(&mut self.rng, in_start);
            self.aim = Some(aim);
            disk.freeze_at(moment);
            return true;
        }
        let aimed = self.rng.bool();
        if aimed {
            // Syncs come all the time; what changes a name comes with rotations, checkpoints and settling.
            let calls = [Call::Sync, Call::Write, Call::SyncDir, Call::Create, Call::Rename, Call::Remove];
            let call = calls[self.rng.usize(..calls.len())];
            disk.freeze_at(Moment::before(call, self.rng.u64(1..5)));
        }
        aimed
    }

    /// Waits for that call.
    pub(super) async fn wait_for_aim(&mut self) {
        let Some(disk) = &self.disk else { return };
        let came = moment(disk).await;
        self.losses.aimed += u64::from(came);
        if let (Some(points), Some(aim), true) = (&mut self.points, self.aim.take(), came) {
            points.meet(aim);
        }
    }

    /// Lets the next start meet an error, in half of the cases and where errors are what this is about. It ends as it may.
    pub(super) async fn trouble_a_start(&mut self, home: &Home, options: &Options) -> Result<(), String> {
        if self.is_control() || self.rng_of_starts.bool() {
            return Ok(());
        }
        let (Some(disk), Some(errors)) = (&self.disk, &mut self.errors) else { return Ok(()) };
        let rng = &mut self.rng_of_starts;
        let server = errors::trouble_a_start(disk, home, options, rng, errors).await?;
        std::mem::swap(&mut self.rng, &mut self.rng_of_starts);
        let ended = self.end_now(server);
        std::mem::swap(&mut self.rng, &mut self.rng_of_starts);
        ended
    }

    /// Ends a life, now: a power loss where that is what this is about, but now and then a kill.
    pub(super) fn end(&mut self, server: Server) -> Result<(), String> {
        match &self.disk {
            // A kill leaves unsynced what was unsynced, for a later loss to take.
            Some(disk) if self.points.is_none() && self.rng.u8(..4) == 0 && disk.keep_power() => {
                server.kill();
                self.losses.kills += 1;
                Ok(())
            }
            _ => self.end_now(server),
        }
    }

    fn end_now(&mut self, mut server: Server) -> Result<(), String> {
        let Some(disk) = &mut self.disk else {
            server.kill();
            return Ok(());
        };
        // Frozen first: what the process does until it is gone changes nothing, and is never answered.
        disk.freeze();
        if server.ended().is_none() {
            server.signal(Signal::KILL);
        }
        disk.thaw();
        server.kill();
        if self.points.is_some() {
            return disk.go_on().map_err(|error| format!("mounting anew: {error}"));
        }
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

//! Mounting, and what a harness does to the disk.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use fuser::{BackgroundSession, Config, INodeNo, MountOption};

use super::fault::{Call, Fault, Lie, Moment};
use super::fuse::{Fuse, Inner, Power, Shared};
use super::loss::Lost;
use super::state::State;

/// How long an unmount waits for a process that is ending.
const UNMOUNT_PATIENCE: Duration = Duration::from_secs(10);

/// A disk that is mounted somewhere, and all that is on it. It is unmounted when it is dropped.
#[derive(Debug)]
pub struct Disk {
    shared: Arc<Shared>,
    at: PathBuf,
    session: Option<BackgroundSession>,
}

/// Why nothing can be mounted here; None where it can.
pub fn missing() -> Option<String> {
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        return Some(format!("/dev/fuse: {error}"));
    }
    let tried = tempfile::tempdir().and_then(|dir| Disk::mount(&dir.path().join("disk"), 1 << 20));
    tried.err().map(|error| format!("no right to mount: {error}"))
}

impl Disk {
    /// An empty disk of that size, mounted at a directory that is made for it.
    pub fn mount(at: &Path, capacity_bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(at)?;
        let inner = Inner { state: State::new(capacity_bytes), power: Power::On, moment: None, now: false };
        let shared = Arc::new(Shared { inner: Mutex::new(inner), changed: Condvar::new() });
        let mut disk = Self { shared, at: at.to_path_buf(), session: None };
        disk.mount_again()?;
        Ok(disk)
    }

    /// From now on syncs lie; what is there is durable.
    pub fn lie(&self, lie: Lie) {
        self.shared.lock().state.set_lie(lie);
    }

    /// Makes chosen calls fail from now on, beside those that were chosen before.
    pub fn fault(&self, fault: Fault) {
        self.shared.lock().state.faults.push(fault);
    }

    /// Makes all calls go well again; how many were hit so far.
    pub fn mend(&self) -> u64 {
        let mut inner = self.shared.lock();
        inner.state.faults.clear();
        std::mem::take(&mut inner.state.hits)
    }

    /// Calls that faults have hit since the last [`Disk::mend`].
    pub fn hits(&self) -> u64 {
        self.shared.lock().state.hits
    }

    /// Leaves no more than that much room; calls that need more fail with that error (ENOSPC or EDQUOT).
    pub fn leave_room(&self, bytes: u64, error: rustix::io::Errno) {
        let mut inner = self.shared.lock();
        let state = &mut inner.state;
        state.full = fuser::Errno::from_i32(error.raw_os_error());
        let taken = state.capacity - state.room_left();
        state.capacity = taken + bytes / super::contents::BLOCK_BYTES;
    }

    /// Bytes without an owner.
    pub fn room_left(&self) -> u64 {
        self.shared.lock().state.room_left() * super::contents::BLOCK_BYTES
    }

    /// Calls so far, by kind.
    pub fn calls(&self) -> BTreeMap<Call, u64> {
        self.shared.lock().state.calls.clone()
    }

    /// From that moment on no call changes anything or returns, until [`Disk::thaw`].
    pub fn freeze_at(&self, moment: Moment) {
        let mut inner = self.shared.lock();
        (inner.moment, inner.now) = (Some(moment), false);
    }

    /// Whether that moment has come.
    pub fn is_frozen(&self) -> bool {
        self.shared.lock().power == Power::Held
    }

    /// No moment is waited for any more; false where one has come already.
    pub fn keep_power(&self) -> bool {
        let mut inner = self.shared.lock();
        inner.forget_moment();
        inner.power == Power::On
    }

    /// From now on no call changes anything or returns. The process must be killed before [`Disk::lose_power`].
    pub fn freeze(&self) {
        let mut inner = self.shared.lock();
        inner.forget_moment();
        inner.power = Power::Held;
        self.shared.changed.notify_all();
    }

    /// Lets the calls of a process end that has been killed and will never see their answers.
    pub fn thaw(&self) {
        let mut inner = self.shared.lock();
        inner.forget_moment();
        inner.power = Power::Off;
        self.shared.changed.notify_all();
    }

    /// The power is back: the disk is mounted anew, with what was left of what nobody had synced. No process may use it.
    pub fn lose_power(&mut self, rng: &mut Rng) -> io::Result<Lost> {
        self.unmount()?;
        let mut inner = self.shared.lock();
        let lost = inner.state.lose_power(rng);
        inner.power = Power::On;
        drop(inner);
        self.mount_again()?;
        Ok(lost)
    }

    /// Calls are done again, and all is as the process left it that was killed. No process may use it.
    pub fn go_on(&mut self) -> io::Result<()> {
        self.unmount()?;
        self.shared.lock().power = Power::On;
        self.mount_again()
    }

    /// Makes the kernel forget what it has read, so that maps and reads come here again.
    pub fn forget_pages(&self) {
        let Some(session) = &self.session else { return };
        let notifier = session.notifier();
        let nodes: Vec<u64> = self.shared.lock().state.numbers();
        for node in nodes {
            // What it does not know it need not forget.
            let _ = notifier.inval_inode(INodeNo(node), 0, 0);
        }
    }

    fn mount_again(&mut self) -> io::Result<()> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("leveret-tests".into()), MountOption::NoAtime];
        self.session = Some(fuser::spawn_mount(Fuse(Arc::clone(&self.shared)), &self.at, &config)?);
        Ok(())
    }

    fn unmount(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        let end = Instant::now() + UNMOUNT_PATIENCE;
        // The session's own way gives up where somebody is still closing files.
        loop {
            match rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::empty()) {
                Ok(()) => break,
                Err(rustix::io::Errno::BUSY) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(error) => {
                    self.session = Some(session);
                    return Err(error.into());
                }
            }
        }
        // However its thread ended: there is nothing left for it to do.
        drop(session.join());
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.thaw();
        if self.unmount().is_err() {
            // In use still: out of sight now, and gone with the last user.
            let _ = rustix::mount::unmount(&self.at, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

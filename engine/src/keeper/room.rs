//! Room on the disk: when there is too little of it, what is made ahead of need, and the reserve (E11).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{
    CHECKPOINT_TMP_NAME, Closing, FILL_BYTES, FILL_SYNC_BYTES, Job, Keeper, RETRY_MS, ROOM_MS, spares_kept,
};
use crate::disk::DiskFile;
use crate::error::Error;
use crate::format::segment_name;
use crate::ids::FileId;
use crate::reserve::PIECES;
use crate::settings::Settings;
use crate::shared::{Counters, Pressure, Step, lock};

impl Keeper {
    /// The disk is full: goes on with what the reserve has, or waits.
    pub(super) fn find_full(&mut self, error: &Error, now_ms: u64) -> Step {
        let checkpoint = matches!(error, Error::Io { file, .. } if file == CHECKPOINT_TMP_NAME);
        // All that was committed is in the log, but the close is not a clean one, and must not say so (E10).
        let closes = self.shared.writer_done.load(Ordering::Acquire);
        if !checkpoint && closes {
            return self.close_without_a_mark(error);
        }
        if !checkpoint {
            // An edit of the manifest: its job is still there.
            return Step::Idle { again_ms: Some(RETRY_MS) };
        }
        Counters::add(&self.shared.counters.out_of_space, 1);
        // The next one is made out of the reserve.
        let made = !self.shared.reserve.is_short() && self.shared.reserve.pieces() > 0;
        self.shared.reserve.found_full();
        if self.closing == Closing::No {
            self.checkpoints_from_ms = now_ms + if made { 0 } else { RETRY_MS };
        } else if made {
            self.closing = Closing::Marked;
        } else {
            return self.close_without_a_mark(error);
        }
        self.job = Job::Unlink(CHECKPOINT_TMP_NAME.to_owned());
        Step::Worked
    }

    fn close_without_a_mark(&mut self, error: &Error) -> Step {
        self.shared.find(format!(
            "the disk is full ({error}): all that was confirmed is stored, but not which messages were delivered; \
             after the next start all may be marked as redelivered"
        ));
        self.closing = Closing::Done;
        Step::Done
    }

    /// Decides whether publishers are to be held.
    pub(super) fn look_at_room(&mut self, now_ms: u64) {
        if self.room_at_ms.is_some_and(|then| now_ms < then + ROOM_MS) {
            return;
        }
        self.room_at_ms = Some(now_ms);
        let settings = &self.shared.settings;
        let below = lock(&self.shared.ledger).settled_below;
        let segments = lock(&self.shared.log).segments.range(below..).count() as u64;
        let unsettled = segments * settings.segment_bytes;
        let held = Pressure::from_number(self.shared.pressure.load(Ordering::Acquire));
        // Let go a good way behind where they are held, so that it does not go to and fro.
        let slack = |held: bool, more: u64, less: u64| if held { less } else { more };
        let budget = settings.log_budget_bytes.max(4 * settings.segment_bytes);
        let lag = slack(held == Some(Pressure::SettlingLags), budget / 2, budget / 4);
        let low = settings.disk_low_bytes;
        let wanted = low + slack(held == Some(Pressure::DiskLow), 0, low / 8);
        // Unknown is not low.
        let free = if low == 0 { None } else { self.shared.disk.free_space().ok() };
        let now = if free.is_some_and(|free| free.saturating_sub(unsettled) < wanted) {
            Some(Pressure::DiskLow)
        } else if unsettled > budget + lag {
            Some(Pressure::SettlingLags)
        } else {
            None
        };
        if now != held {
            self.shared.pressure.store(Pressure::number(now), Ordering::Release);
            self.shared.ring(|bells| bells.ring_owner());
        }
    }

    /// Starts a spare segment if one is missing. That a spare cannot be made is no failure: the writer makes do.
    pub(super) fn begin_spare(&mut self, now_ms: u64) -> bool {
        if !self.has_room_for_a_segment()
            || lock(&self.shared.log).spares.len() >= self.shared.settings.spares
        {
            return false;
        }
        let id = self.shared.next_file();
        self.job = match self.shared.disk.create(&segment_name(id), self.shared.settings.segment_bytes) {
            Ok(file) if self.frames_are_large() => Job::FillSync { id, file },
            Ok(file) => Job::Fill { id, file, offset: 0, synced: 0 },
            Err(_) => {
                self.spares_from_ms = now_ms + RETRY_MS;
                Job::None
            }
        };
        true
    }

    /// The frames since the last spare were large ones: zeros ahead of them would cost more than they save.
    fn frames_are_large(&mut self) -> bool {
        let counters = &self.shared.counters;
        let now = (counters.frames.load(Ordering::Relaxed), counters.frame_bytes.load(Ordering::Relaxed));
        let (frames, bytes) = std::mem::replace(&mut self.frames_before, now);
        let frames = now.0 - frames;
        frames > 0 && (now.1 - bytes) / frames >= self.shared.settings.large_frame_bytes
    }

    pub(super) fn disk_is_low(&self) -> bool {
        self.shared.pressure.load(Ordering::Acquire) == Pressure::number(Some(Pressure::DiskLow))
    }

    /// Takes one of the spares that a busy log kept out, where the disk is low (E11). Gives its name.
    pub(super) fn spare_too_many(&self) -> Option<String> {
        if !self.disk_is_low() {
            return None;
        }
        let mut log = lock(&self.shared.log);
        if log.spares.len() <= spares_kept(&self.shared.settings, 0) {
            return None;
        }
        log.spares.pop().map(|spare| segment_name(spare.id))
    }

    /// Below the mark nothing is made ahead of need (E11).
    fn has_room_for_a_segment(&self) -> bool {
        let Settings { disk_low_bytes, segment_bytes, .. } = self.shared.settings;
        let free = || self.shared.disk.free_space().unwrap_or(u64::MAX);
        !self.disk_is_low() && (disk_low_bytes == 0 || free() >= disk_low_bytes + segment_bytes)
    }

    /// Makes a piece of the reserve if one is missing and there is room for it.
    pub(super) fn make_reserve(&mut self, now_ms: u64) -> bool {
        let Settings { segment_bytes, reserve, .. } = self.shared.settings;
        let wanted = PIECES + (self.checkpoint_bytes / segment_bytes) as usize;
        let whole = !reserve || self.shared.reserve.pieces() >= wanted;
        if whole && !self.shared.reserve.is_short() {
            return false;
        }
        let free = self.shared.disk.free_space().unwrap_or(0);
        if whole {
            self.reserve_from_ms = now_ms + RETRY_MS;
            self.shared.reserve.found_room(free >= 2 * segment_bytes);
            return false;
        }
        let made = free >= 2 * segment_bytes
            && self
                .shared
                .reserve
                .make(self.shared.disk.as_ref(), self.shared.store_id, segment_bytes)
                .is_ok();
        if !made {
            self.reserve_from_ms = now_ms + RETRY_MS;
        }
        made
    }

    pub(super) fn fill(
        &self,
        id: FileId,
        file: &Arc<dyn DiskFile>,
        offset: u64,
        synced: u64,
    ) -> std::io::Result<Job> {
        let bytes = self.shared.settings.segment_bytes;
        let file = Arc::clone(file);
        if offset - synced >= FILL_SYNC_BYTES || (offset == bytes && synced < bytes) {
            file.sync()?;
            return Ok(Job::Fill { id, file, offset, synced: offset });
        }
        if offset == bytes {
            return Ok(Job::FillSyncDir { id, file, written: true });
        }
        let part = FILL_BYTES.min(bytes - offset);
        file.write_zeros(offset, part)?;
        Ok(Job::Fill { id, file, offset: offset + part, synced })
    }

    /// A file whose write or sync failed is never used; the next one gets a new name.
    pub(super) fn abandon(&mut self, id: FileId, now_ms: u64) -> Job {
        self.spares_from_ms = now_ms + RETRY_MS;
        Job::Unlink(segment_name(id))
    }
}

//! The writer: takes all that waits, writes one group of frames, syncs, publishes the tickets, repeats. It owns the
//! end of the log and rotates its segments. One waiting call to the disk per step.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::batch::Urgency;
use crate::controls::Control;
use crate::disk::{Blocks, DiskFile};
use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, FRAME_HEADER_BYTES, FrameHeader, frame_bytes, segment_name};
use crate::ids::{FrameNo, SegmentNo, Ticket};
use crate::record::{Changes, Encoded};
use crate::settings::Fsync;
use crate::shared::{Counters, Shared, Spare, Step, lock};

mod ahead;
mod rotate;

/// How long an idle writer sleeps at most.
const LOOK_AGAIN_MS: u64 = 1_000;
/// Syncs wake the keeper at most this often; it looks by itself as well.
const KEEPER_RING_MS: u64 = 50;
/// How long to wait before trying again to find space for a segment.
const SPACE_RETRY_MS: u64 = 100;
/// Memory of frames that is kept for the next one at most.
const BLOCKS_KEPT_BYTES: usize = 4 << 20;
/// How long a close waits for space. Then it ends with an error: the owner has been told to stop.
const CLOSE_PATIENCE_MS: u64 = 5_000;

/// The end of the log, and the work on it.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    end: LogEnd,
    phase: Phase,
    /// Groups written since the last sync, in order.
    unsynced: Vec<Group>,
    /// The newest frame that a sync has covered.
    durable_frame: FrameNo,
    /// The newest frame is not yet proven by a later one that says so.
    unproven: bool,
    /// When a sync woke the keeper last.
    keeper_rung_ms: u64,
    /// When the last sync returned, in the steps' milliseconds.
    synced_at_ms: u64,
    /// When there was work last.
    busy_at_ms: u64,
    /// Since when the close waits for room.
    no_room_since_ms: Option<u64>,
    /// When the oldest waiting lazy batch was first seen.
    lazy_since_ms: Option<u64>,
    /// Memory of the last frame, for the next one.
    blocks: Option<Blocks>,
    #[cfg_attr(not(feature = "controls"), expect(dead_code, reason = "a deliberate bug's state"))]
    half_group: Option<FrameNo>,
}

/// Where the next frame goes.
#[derive(Debug)]
pub(crate) struct LogEnd {
    pub(crate) segment: SegmentNo,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) file_name: String,
    pub(crate) offset: u64,
    /// Up to here its blocks were written before.
    pub(crate) written_upto: u64,
    pub(crate) next_frame: FrameNo,
    /// The frame before it; numbers may be left out between the two.
    pub(crate) last_frame: FrameNo,
    pub(crate) prev_crc: u32,
    /// First frame of a half batch that stands at the end: only with [`Control::CloseHalfBatch`].
    pub(crate) half_group: Option<FrameNo>,
}

/// Batches that stand or fall together in the log.
#[derive(Debug, Default)]
struct Group {
    changes: Vec<Changes>,
    /// The newest ticket in it.
    ticket: Ticket,
    segment: SegmentNo,
    block: u32,
    last_frame: FrameNo,
    /// Its records, behind room for the header of a frame.
    payload: Blocks,
    records: u32,
}

#[derive(Debug)]
enum Phase {
    Idle,
    /// The old segment is full: sync it...
    RotateSync(Group),
    /// ...take a file...
    RotateFile(Group),
    RotateNewFile(Group, Spare),
    RotateNewName(Group, Spare),
    /// ...list it...
    RotateEdit(Group, Spare),
    RotateEditSync(Group, Spare),
    /// ...and write its header.
    RotateHeader(Group, Spare),
    Write {
        group: Group,
        /// Offset and bytes of the frames still to be written, last one first.
        frames: Vec<(u64, Blocks)>,
    },
    Sync,
    Done,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, end: LogEnd, durable_frame: FrameNo) -> Self {
        let half_group = end.half_group;
        Self {
            shared,
            end,
            phase: Phase::Idle,
            unsynced: Vec::new(),
            durable_frame,
            unproven: false,
            keeper_rung_ms: 0,
            synced_at_ms: 0,
            busy_at_ms: 0,
            no_room_since_ms: None,
            lazy_since_ms: None,
            blocks: None,
            half_group,
        }
    }

    /// Does the next bit of work. `now_ms` rises and never jumps.
    pub fn step(&mut self, now_ms: u64) -> Step {
        if self.shared.failure().is_some() {
            return Step::Done;
        }
        match self.advance(now_ms) {
            Ok(step) => step,
            Err(error) => {
                // No fsync is ever retried: what is on the disk now is for the next open to find out.
                self.shared.fail(error);
                Step::Done
            }
        }
    }

    /// Nothing is under way, written or half written.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle) && self.unsynced.is_empty()
    }

    /// A change of segment is under way: several calls to the disk, which nobody should have to wait for.
    pub(crate) fn is_rotating(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Write { .. } | Phase::Sync | Phase::Done)
    }

    fn advance(&mut self, now_ms: u64) -> Result<Step> {
        if matches!(self.phase, Phase::Write { .. }) {
            return self.write();
        }
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        match phase {
            Phase::Idle => return self.next_work(now_ms),
            Phase::RotateSync(group) => {
                self.sync(now_ms)?;
                self.phase = Phase::RotateFile(group);
            }
            Phase::RotateFile(group) => return self.take_file(group, now_ms),
            Phase::RotateNewFile(group, spare) => {
                // Its length must hold before it is listed.
                spare.file.sync().map_err(Error::io("sync", segment_name(spare.id)))?;
                self.phase = Phase::RotateNewName(group, spare);
            }
            Phase::RotateNewName(group, spare) => {
                self.shared.sync_dir()?;
                self.phase = Phase::RotateEdit(group, spare);
            }
            Phase::RotateEdit(group, spare) => match self.list_segment(spare.id) {
                Err(error) if error.is_full() => {
                    self.phase = Phase::RotateEdit(group, spare);
                    return self.wait_for_room(error, now_ms);
                }
                listed => {
                    listed?;
                    self.phase = Phase::RotateEditSync(group, spare);
                }
            },
            Phase::RotateEditSync(group, spare) => {
                self.shared.manifest.sync()?;
                self.phase = Phase::RotateHeader(group, spare);
            }
            Phase::RotateHeader(group, spare) => {
                self.open_segment(spare, now_ms)?;
                self.frame(group);
            }
            Phase::Write { .. } => unreachable!("written in its place above"),
            Phase::Sync => self.sync(now_ms)?,
            Phase::Done => {
                self.phase = Phase::Done;
                return Ok(Step::Done);
            }
        }
        Ok(Step::Worked)
    }

    /// Writes the group's next frame. The group stays in its place meanwhile: where the write fails, or panics, it may stand
    /// in the file all the same, and what it names must stay until nobody frees anything any more, which the failure
    /// sees to.
    fn write(&mut self) -> Result<Step> {
        let Phase::Write { frames, .. } = &mut self.phase else { return Ok(Step::Worked) };
        if let Some((offset, bytes)) = frames.last() {
            self.end
                .write_frame(*offset, bytes, &self.shared.settings)
                .map_err(Error::io("write", &self.end.file_name))?;
            Counters::add(&self.shared.counters.frames, 1);
            Counters::add(&self.shared.counters.frame_bytes, bytes.len() as u64);
            self.blocks =
                frames.pop().map(|(_, bytes)| bytes).filter(|bytes| bytes.room() <= BLOCKS_KEPT_BYTES);
        }
        if frames.is_empty()
            && let Phase::Write { group, .. } = std::mem::replace(&mut self.phase, Phase::Idle)
        {
            self.written(group);
        }
        Ok(Step::Worked)
    }

    /// Decides what to do when nothing is under way.
    fn next_work(&mut self, now_ms: u64) -> Result<Step> {
        // Taken back only when there is something to sync: what is wanted may still wait in the inbox.
        let wanted = !self.unsynced.is_empty() && self.shared.sync_wanted.swap(false, Ordering::AcqRel);
        let due = match self.shared.settings.fsync {
            Fsync::Always => true,
            Fsync::Interval { ms } => now_ms.saturating_sub(self.synced_at_ms) >= ms,
            Fsync::Never => false,
        };
        if !self.unsynced.is_empty() && (due || wanted) {
            self.phase = Phase::Sync;
            return Ok(Step::Worked);
        }
        let (group, closing, lazy) = self.take_group(now_ms);
        if let Some(group) = group {
            self.busy_at_ms = now_ms;
            self.place(group);
            return Ok(Step::Worked);
        }
        let idle = now_ms.saturating_sub(self.busy_at_ms) >= self.shared.settings.idle_ms;
        if !self.unsynced.is_empty() {
            if closing || (idle && self.shared.settings.fsync != Fsync::Never) {
                self.phase = Phase::Sync;
                return Ok(Step::Worked);
            }
        } else if self.unproven && (idle || closing) {
            // An empty frame behind the last one proves it: damage there is then no torn tail.
            self.unproven = false;
            let payload = self.blocks(0);
            self.place(Group { ticket: self.shared.durable(), payload, ..Group::default() });
            return Ok(Step::Worked);
        } else if closing {
            self.phase = Phase::Done;
            self.shared.writer_done.store(true, Ordering::Release);
            self.shared.ring(|bells| {
                bells.ring_keeper();
                bells.ring_reader();
                bells.ring_settler();
                bells.ring_spiller();
                bells.ring_scrub();
                bells.ring_blobs();
            });
            return Ok(Step::Done);
        }
        let settings = &self.shared.settings;
        let again_ms = match (lazy, self.unsynced.is_empty(), settings.fsync) {
            (true, _, _) => Some(settings.lazy_ms),
            (_, false, Fsync::Interval { ms }) => Some(ms.min(settings.idle_ms)),
            (_, false, Fsync::Never) => None,
            (_, true, _) if self.unproven => Some(settings.idle_ms),
            // Somebody else may have stepped the writer (see `Threads::write_inline`) and left a frame to be proven.
            _ => Some(LOOK_AGAIN_MS),
        };
        Ok(Step::Idle { again_ms })
    }

    /// Takes all that fits into one frame, or one larger batch; nothing while only lazy batches wait that can wait
    /// on. Says also whether the store is closing, and whether lazy batches wait.
    fn take_group(&mut self, now_ms: u64) -> (Option<Group>, bool, bool) {
        let mut inbox = lock(&self.shared.inbox);
        let closing = inbox.closing.is_some();
        if inbox.waiting.is_empty() {
            self.lazy_since_ms = None;
            return (None, closing, false);
        }
        let since = *self.lazy_since_ms.get_or_insert(now_ms);
        if inbox.urgent == 0 && !closing && now_ms.saturating_sub(since) < self.shared.settings.lazy_ms {
            return (None, closing, true);
        }
        self.lazy_since_ms = None;
        let room = self.shared.settings.frame_payload_max();
        let mut group = Group::default();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(pending) = inbox.waiting.front() {
            bytes += pending.encoded.records.len();
            if bytes > room && !taken.is_empty() {
                bytes -= pending.encoded.records.len();
                break;
            }
            let pending = inbox.waiting.pop_front().expect("there is a front");
            inbox.urgent -= usize::from(pending.urgency == Urgency::Now);
            group.ticket = pending.ticket;
            taken.push(pending.encoded);
        }
        drop(inbox);
        group.payload = self.blocks(bytes);
        for Encoded { records, count, changes } in taken {
            group.payload.extend(&records);
            group.records += count;
            group.changes.push(changes);
        }
        Counters::add(&self.shared.counters.record_bytes, bytes as u64);
        (Some(group), closing, false)
    }

    /// Room for a frame, the header left free.
    fn blocks(&mut self, payload: usize) -> Blocks {
        let mut blocks = self.blocks.take().unwrap_or_default();
        blocks.clear();
        if blocks.room() < frame_bytes(payload) {
            blocks = Blocks::with_room(frame_bytes(payload));
        }
        blocks.resize(FRAME_HEADER_BYTES);
        blocks
    }

    /// Goes on with a group in this segment, or in the next one when this one has no room.
    fn place(&mut self, group: Group) {
        let payload_max = self.shared.settings.frame_payload_max();
        let mut needed = 0;
        let mut rest = group.payload.len() - FRAME_HEADER_BYTES;
        loop {
            let part = rest.min(payload_max);
            needed += frame_bytes(part) as u64;
            rest -= part;
            if rest == 0 {
                break;
            }
        }
        if self.end.offset + needed > self.shared.settings.segment_bytes {
            self.phase = Phase::RotateSync(group);
        } else {
            self.frame(group);
        }
    }

    /// Makes the group's frames.
    fn frame(&mut self, mut group: Group) {
        let payload = std::mem::take(&mut group.payload);
        let payload_max = self.shared.settings.frame_payload_max();
        let parts = if payload.len() - FRAME_HEADER_BYTES <= payload_max {
            vec![payload]
        } else {
            // A single large batch.
            let part = |part: &[u8]| {
                let mut blocks = Blocks::with_room(frame_bytes(part.len()));
                blocks.resize(FRAME_HEADER_BYTES);
                blocks.extend(part);
                blocks
            };
            payload[FRAME_HEADER_BYTES..].chunks(payload_max).map(part).collect()
        };
        let mut group_first = self.end.next_frame;
        #[cfg(feature = "controls")]
        if let Some(half) = self.half_group.take() {
            group_first = half;
        }
        group_first = group_first.min(self.end.next_frame);
        group.segment = self.end.segment;
        group.block = (self.end.offset / BLOCK_BYTES as u64) as u32;
        let edit = self.shared.manifest.durable();
        let (mut frames, count) = (Vec::with_capacity(parts.len()), parts.len());
        for (index, mut blocks) in parts.into_iter().enumerate() {
            let payload_bytes = blocks.len() - FRAME_HEADER_BYTES;
            let header = FrameHeader {
                store_id: self.shared.store_id,
                epoch: self.shared.epoch,
                number: self.end.next_frame,
                prev_crc: self.end.prev_crc,
                payload_bytes: payload_bytes as u32,
                records: if index == 0 { group.records } else { 0 },
                group_first,
                closes: index + 1 == count,
                durable_upto: self.durable_frame,
                edit,
            };
            blocks.resize(frame_bytes(payload_bytes));
            let crc = header.complete(&mut blocks);
            group.last_frame = self.end.next_frame;
            self.end.last_frame = self.end.next_frame;
            let offset = self.end.offset;
            self.end.offset += blocks.len() as u64;
            self.end.next_frame = self.end.next_frame.next();
            self.end.prev_crc = crc;
            frames.push((offset, blocks));
        }
        frames.reverse();
        self.phase = Phase::Write { group, frames };
    }

    /// The group stands in the file; whether it may be confirmed now is the policy's matter.
    fn written(&mut self, group: Group) {
        let settings = &self.shared.settings;
        if settings.fsync != Fsync::Always || settings.has(Control::ConfirmBeforeSync) {
            self.shared.confirmable.fetch_max(group.ticket.0, Ordering::AcqRel);
            self.shared.ring(|bells| bells.ring_owner());
        }
        self.unproven |= group.records > 0;
        if settings.fsync == Fsync::Always || group.records == 0 {
            self.phase = Phase::Sync;
        }
        if settings.has(Control::SettleBeyondDurable) {
            let mut ledger = lock(&self.shared.ledger);
            group
                .changes
                .iter()
                .for_each(|changes| ledger.apply_changes(group.segment, group.block, changes));
            ledger.cut = group.last_frame;
        }
        if settings.has(Control::BlobFreedEarly) {
            lock(&self.shared.ledger).free_early(&group.changes);
        }
        self.unsynced.push(group);
    }

    /// Makes everything written durable, applies it to the ledger, and publishes the tickets, in this order.
    fn sync(&mut self, now_ms: u64) -> Result<()> {
        if !self.shared.settings.has(Control::SkipFdatasync) {
            self.end.file.sync().map_err(Error::io("sync", &self.end.file_name))?;
            Counters::add(&self.shared.counters.syncs, 1);
        }
        self.synced_at_ms = now_ms;
        let Some(last) = self.unsynced.last() else { return Ok(()) };
        self.durable_frame = last.last_frame;
        let ticket = last.ticket;
        let mut ledger = lock(&self.shared.ledger);
        for group in self.unsynced.drain(..) {
            if self.shared.settings.has(Control::SettleBeyondDurable) {
                continue;
            }
            for changes in &group.changes {
                ledger.apply_changes(group.segment, group.block, changes);
            }
            ledger.cut = group.last_frame;
        }
        let freed = ledger.blobs.has_dead();
        drop(ledger);
        // In this order: what is durable is confirmable, whoever looks in between.
        self.shared.confirmable.fetch_max(ticket.0, Ordering::AcqRel);
        self.shared.durable.fetch_max(ticket.0, Ordering::AcqRel);
        // To wake a thread costs about as much as a tenth of the sync: only who has something to do is woken.
        let fetches = !lock(&self.shared.fetches).is_empty();
        let keeper = now_ms.saturating_sub(self.keeper_rung_ms) >= KEEPER_RING_MS;
        self.shared.ring(|bells| {
            bells.ring_owner();
            if fetches {
                bells.ring_reader();
            }
            if keeper {
                bells.ring_keeper();
            }
            if freed {
                bells.ring_blobs();
            }
        });
        if keeper {
            self.keeper_rung_ms = now_ms;
        }
        Ok(())
    }
}

//! Opening a store: read the manifest, the checkpoint and the log, find the log's end, record it, then serve.
//!
//! Nothing is written before everything was read and found sound. Then, in this order (E1): the frames that are not
//! proven durable are copied into a fresh segment and synced, and a new manifest says where the old segment ended.
//! What is readable after a kill -9 or a failed fsync need not be on the disk; after this it is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::blobs::BlobFiles;
use crate::checkpoint;
use crate::controls::Control;
use crate::disk::Disk;
use crate::error::{DIRECTORY, Error, Result};
use crate::format::{BLOCK_BYTES, FrameHeader, SegmentHeader, checkpoint_name, segment_blocks, segment_name};
use crate::group::{Frame, Gather};
use crate::ids::{EditNo, Epoch, FileId, FrameNo, QueueId, SegmentNo};
use crate::ledger::Ledger;
use crate::manifest::{self, CheckpointEntry, MANIFEST_NAME, Manifest, SegmentEnd, SegmentEntry, State};
use crate::record::{self, Walked};
use crate::reserve::{self, Reserve};
use crate::scan::Scan;
use crate::settings::Settings;
use crate::settled::SettledFile;
use crate::shared::{Files, LogFile, LogFiles, Shared, Spare};
use crate::writer::LogEnd;

mod blobs;
mod files;
mod settled;

pub(crate) use files::{check_manifest_tail, refuse_lost_manifest};

/// Segments that are asked of the medium ahead of the one that is replayed, this one included.
const PREFETCH_SEGMENTS: usize = 4;

/// What an open found and did, beside the state itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// This opening.
    pub epoch: Epoch,
    /// The store was made new.
    pub created: bool,
    /// The last run ended by a clean close.
    pub clean: bool,
    /// Frames read.
    pub frames: u64,
    /// Bytes of log read.
    pub log_bytes: u64,
    /// Frames that were copied because nothing proved them durable.
    pub frames_copied: u64,
    /// The torn tail that was cut, if there was one.
    pub cut: Option<Cut>,
    /// Settled segments and blob files that are listed, but missing or damaged, and what is wrong with them. What else the store holds
    /// is served; they stay listed, in case the file comes back.
    pub damaged: Vec<String>,
    /// Per queue, messages that live but whose records are lost with them.
    pub lost: Vec<(QueueId, u64)>,
    /// Notes for the operator: files that were removed or set aside, a manifest's torn tail.
    pub notes: Vec<String>,
}

/// A torn tail that was cut: what was written last when the process or the machine stopped, and never confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub file: String,
    /// Where the tail began.
    pub offset: u64,
    /// Its length in bytes, as far as it can be told.
    pub bytes: u64,
    /// Why it is no frame.
    pub why: String,
}

/// An opened store, before its parts are put together.
pub(crate) struct Opened {
    pub(crate) shared: Arc<Shared>,
    pub(crate) end: LogEnd,
    pub(crate) durable_frame: FrameNo,
    pub(crate) kept: Vec<CheckpointEntry>,
    pub(crate) report: Report,
}

/// Everything that was read, before anything is written.
#[derive(Debug, Default)]
pub(crate) struct Found {
    state: State,
    last_edit: EditNo,
    pub(crate) ledger: Ledger,
    settled: BTreeMap<FileId, Arc<SettledFile>>,
    pub(crate) blobs: BlobFiles,
    scans: Vec<Scan>,
    /// The frames that must be copied.
    copies: Vec<Frame>,
    /// Where the open segment's proven and closed frames end.
    end: SegmentEnd,
    end_crc: u32,
    next_frame: FrameNo,
    half_group: Option<FrameNo>,
    pub(crate) report: Report,
}

/// Opens the store, or makes one in an empty directory.
pub(crate) fn open(disk: &Arc<dyn Disk>, settings: Settings) -> Result<Opened> {
    settings.check()?;
    settings.switch_controls();
    let found = read(disk.as_ref(), &settings)?;
    write_store(disk, settings, found)
}

/// Everything that an open reads and judges before it writes. Changes nothing, and so it is also what the offline
/// tools ask whether a store would open.
pub(crate) fn read(disk: &dyn Disk, settings: &Settings) -> Result<Found> {
    match manifest::load(disk)? {
        None => {
            refuse_lost_manifest(disk)?;
            Ok(new_store(settings))
        }
        Some(loaded) => read_store(disk, settings, loaded),
    }
}

fn new_store(settings: &Settings) -> Found {
    let state = State {
        store_id: settings.new_store_id,
        next_segment: SegmentNo(1),
        next_file: FileId(1),
        ..State::default()
    };
    let report = Report { created: true, clean: true, ..Report::default() };
    Found { state, ledger: Ledger::new(), next_frame: FrameNo(1), report, ..Found::default() }
}

fn read_store(disk: &dyn Disk, settings: &Settings, loaded: manifest::Loaded) -> Result<Found> {
    let state = loaded.state;
    let mut report = Report { clean: state.clean == state.epoch, ..Report::default() };
    let mut ledger = read_checkpoints(disk, &state)?;
    let checkpoint_cut = ledger.cut;
    ledger.settled_below = state.settled_below;
    let frontier = frontier(&state);

    let mut scans = Vec::with_capacity(state.segments.len());
    let mut tail = VecDeque::new();
    let mut prefetched = SegmentNo(0);
    for (index, entry) in state.segments.iter().enumerate() {
        tail.clear();
        // The medium reads the next ones while this one is looked at.
        for ahead in state.segments.iter().skip(index).take(PREFETCH_SEGMENTS) {
            prefetch(disk, ahead, &mut prefetched);
        }
        let mut scan = Scan::open(disk, state.store_id, *entry)?;
        replay(&mut scan, checkpoint_cut, frontier, &mut ledger, &mut tail)?;
        scans.push(scan);
    }
    check_manifest_tail(disk, &state, &loaded.tail, loaded.last, &scans, &mut report)?;

    // What is proven: the newest frame that any frame, or the manifest, says was durable.
    let said = scans.iter().map(|scan| scan.durable_upto).max().unwrap_or_default();
    let proven = frontier.max(said);
    if !settings.has(Control::DamageIsEnd) {
        for scan in &scans {
            scan.judge(proven)?;
        }
    }
    let settled = settled::read(disk, &state, &mut ledger, &mut report)?;
    let blobs = blobs::read(disk, &state, &ledger, &mut report)?;
    report.cut = scans.last().and_then(Scan::cut);
    report.frames = scans.iter().map(|scan| scan.frames).sum();
    report.log_bytes = scans.iter().map(|scan| scan.offset).sum();
    if !report.clean {
        ledger.mark_all_redelivered();
    }
    settle_end(
        settings,
        Found { state, last_edit: loaded.last, ledger, settled, blobs, scans, report, ..Found::default() },
        tail,
        proven,
    )
}

/// Asks for a segment to be read soon, unless it was asked for before.
fn prefetch(disk: &dyn Disk, entry: &SegmentEntry, done: &mut SegmentNo) {
    if entry.no <= *done {
        return;
    }
    *done = entry.no;
    // Whatever is wrong with it will show when it is read.
    if let Ok(file) = disk.open(&segment_name(entry.file)) {
        file.will_read(0, entry.end.map_or(u64::MAX, |end| end.bytes));
    }
}

/// Applies a segment's closed groups to the ledger. Leaves in `tail` the frames that no frame so far proves.
fn replay(
    scan: &mut Scan,
    checkpoint_cut: FrameNo,
    frontier: FrameNo,
    ledger: &mut Ledger,
    tail: &mut VecDeque<(u64, Frame)>,
) -> Result<()> {
    // A batch stays in one segment: what is open at the end of one is void (E4).
    let mut gather = Gather::default();
    let mut block = 0;
    while let Some((offset, frame)) = scan.next_frame()? {
        if frame.header.group_first == frame.header.number {
            block = (offset / BLOCK_BYTES as u64) as u32;
        }
        let number = frame.header.number;
        let payload = gather.push(&frame);
        tail.push_back((offset, frame));
        let proven = frontier.max(scan.durable_upto);
        // The last proven frame that closes a group stays: it tells where the proven ones end.
        while tail.get(1).is_some_and(|(_, frame)| frame.header.closes && frame.header.number <= proven) {
            tail.pop_front();
        }
        let Some(payload) = payload else { continue };
        let no = scan.entry.no;
        if number <= checkpoint_cut && no < ledger.settled_below {
            continue;
        }
        let walked = record::walk_group(&payload, |walked| match walked {
            Walked::Put(put) if number <= checkpoint_cut => {
                ledger.index_put(no, block, put.targets.iter());
            }
            Walked::Put(put) => ledger.apply_put(no, block, put.targets.iter(), put.stored.blob),
            Walked::Ack { .. } | Walked::Other(_) if number <= checkpoint_cut => {}
            Walked::Ack { queue, first, last } => ledger.ack(queue, first, last),
            Walked::Other(record) => ledger.apply_record(no, block, record),
        });
        walked.map_err(|e| Error::damage(&scan.name, offset, format!("frame {number}: {e}")))?;
        if number > checkpoint_cut {
            ledger.cut = number;
        }
    }
    Ok(())
}

/// Decides which frames of the open segment stay where they are, which are copied, and which numbers come next.
fn settle_end(
    settings: &Settings,
    mut found: Found,
    tail: VecDeque<(u64, Frame)>,
    proven: FrameNo,
) -> Result<Found> {
    let Some(open) = found.scans.last() else {
        return Err(Error::damage(MANIFEST_NAME, 0, "it lists no log segment"));
    };
    let mut frames = Vec::from(tail);
    // The part of a batch that never closed is void for ever: it is neither kept nor copied (E4).
    let closed = frames.iter().rposition(|(_, frame)| frame.header.closes).map_or(0, |index| index + 1);
    if closed < frames.len() {
        if settings.has(Control::CloseHalfBatch) {
            found.half_group = Some(frames[closed].1.header.group_first);
        } else {
            frames.truncate(closed);
        }
    }
    let kept = frames.partition_point(|(_, frame)| frame.header.number <= proven);
    found.copies = frames.drain(kept..).map(|(_, frame)| frame).collect();
    (found.end, found.end_crc) = match frames.last() {
        Some((offset, frame)) => {
            (SegmentEnd { last_frame: frame.header.number, bytes: offset + frame.bytes }, frame.crc)
        }
        None => (nothing_before(open.entry), open.entry.prev_crc),
    };
    // No number that was ever written, whole or torn, is used again.
    found.next_frame = open.number_max.max(proven).next().next();
    found.report.frames_copied = found.copies.len() as u64;
    Ok(found)
}

/// The end of a segment without a frame.
fn nothing_before(entry: SegmentEntry) -> SegmentEnd {
    SegmentEnd { last_frame: FrameNo(entry.first_frame.0 - 1), bytes: BLOCK_BYTES as u64 }
}

/// Writes the copies and the new manifest, and puts the store together.
fn write_store(disk: &Arc<dyn Disk>, settings: Settings, mut found: Found) -> Result<Opened> {
    let last_edit = found.last_edit;
    found.state.epoch = found.state.epoch.next();
    found.report.epoch = found.state.epoch;
    let mut files = BTreeMap::new();
    let same_length = found.scans.last().is_some_and(|scan| scan.file_bytes == settings.segment_bytes);
    for scan in std::mem::take(&mut found.scans) {
        let end = scan.entry.end;
        let file = LogFile {
            file_id: scan.entry.file,
            file: scan.file,
            end,
            pins: 0,
            punched: end.is_some(),
            opened_ms: 0,
        };
        files.insert(scan.entry.no, file);
    }
    if !found.report.created {
        // What was read may be in the page cache alone, its name too; what is written from here on names its last edit.
        let file = disk.open(MANIFEST_NAME).map_err(Error::io("open", MANIFEST_NAME))?;
        file.sync().map_err(Error::io("sync", MANIFEST_NAME))?;
        disk.sync_dir().map_err(Error::io("sync", DIRECTORY))?;
    }
    let files::Tidied { mut spares, mut next_file, mut reserve } =
        files::tidy(disk.as_ref(), &settings, &found.state, &mut found.report)?;
    if settings.has(Control::CutNotRecorded) && !found.report.created {
        return write_on_in_place(disk, settings, found, files, spares, next_file, reserve);
    }

    let Spare { id: file_id, file, written } = match spares.pop() {
        Some(spare) => spare,
        None => {
            let name = segment_name(next_file);
            let create = || disk.create(&name, settings.segment_bytes).map_err(Error::io("create", &name));
            let file = reserve::with_room(disk.as_ref(), &mut reserve, create)?;
            Spare { id: next_file, file, written: false }
        }
    };
    next_file = next_file.max(file_id.next());
    let Found {
        mut state,
        mut ledger,
        settled,
        blobs,
        copies,
        end: old_end,
        end_crc,
        next_frame,
        half_group,
        report,
        ..
    } = found;
    // The old segment ends where the proven frames do; without any it is not part of the store any more.
    if let Some(entry) = state.segments.last().copied() {
        let old = if old_end.last_frame < entry.first_frame {
            state.segments.pop();
            state.next_segment = entry.no;
            // One of another length is removed by the next open.
            let old = files.remove(&entry.no).filter(|_| same_length);
            spares.extend(old.map(|old| Spare { id: old.file_id, file: old.file, written: false }));
            None
        } else {
            files.get_mut(&entry.no)
        };
        if let (Some(old), Some(entry)) = (old, state.segments.last_mut()) {
            entry.end = Some(old_end);
            (old.end, old.punched) = (Some(old_end), !same_length);
        }
    }
    let no = state.next_segment;
    let first_frame = copies.first().map_or(next_frame, |frame| frame.header.number);
    let (store_id, epoch) = (state.store_id, state.epoch);
    let entry = SegmentEntry { no, file: file_id, first_frame, prev_crc: end_crc, end: None };
    let header = SegmentHeader {
        store_id,
        epoch,
        segment: no,
        file: file_id,
        first_frame,
        prev_crc: end_crc,
        blocks: segment_blocks(settings.segment_bytes),
        edit: last_edit,
    };
    let name = segment_name(file_id);
    file.write_at(0, &header.encode()).map_err(Error::io("write", &name))?;
    let mut end = LogEnd {
        segment: no,
        file: Arc::clone(&file),
        file_name: name.clone(),
        offset: BLOCK_BYTES as u64,
        written_upto: 0,
        next_frame,
        last_frame: FrameNo(first_frame.0 - 1),
        prev_crc: end_crc,
        half_group,
    };
    let mut moved = Vec::new();
    for copy in copies {
        let durable_upto = old_end.last_frame;
        let header =
            FrameHeader { epoch, prev_crc: end.prev_crc, durable_upto, edit: last_edit, ..copy.header };
        let (bytes, crc) = header.encode(&copy.payload);
        file.write_at(end.offset, &bytes).map_err(Error::io("write", &name))?;
        moved.push((end.offset, header, copy.payload));
        end.offset += bytes.len() as u64;
        (end.prev_crc, end.last_frame) = (crc, header.number);
    }
    // An open that was cut off may have copied more into this very file than a power loss has left to copy now. What it
    // put behind these frames follows them to the byte, and would be taken for the next one by the next open.
    if end.offset + BLOCK_BYTES as u64 <= settings.segment_bytes {
        file.write_at(end.offset, &[0; BLOCK_BYTES]).map_err(Error::io("write", &name))?;
    }
    end.written_upto = if written { settings.segment_bytes } else { end.offset };
    file.sync().map_err(Error::io("sync", &name))?;
    disk.sync_dir().map_err(Error::io("sync", DIRECTORY))?;

    state.segments.push(entry);
    state.next_segment = no.next();
    state.recovered_upto = state.recovered_upto.max(end.last_frame);
    state.next_file = next_file;
    let manifest =
        reserve::with_room(disk.as_ref(), &mut reserve, || Manifest::write(disk, state.clone(), last_edit))?;

    reindex(&mut ledger, no, moved);
    files.insert(no, LogFile { file_id, file, end: None, pins: 0, punched: false, opened_ms: 0 });
    let kept = manifest.state().checkpoints;
    let durable_frame = end.last_frame;
    let log = LogFiles { segments: files, spares, next_file };
    let files = Files { log, settled, blobs, reserve: Reserve::new(reserve) };
    let shared = Shared::new(Arc::clone(disk), settings, manifest, ledger, files);
    Ok(Opened { shared: Arc::new(shared), end, durable_frame, kept, report })
}

/// The bug of [`Control::CutNotRecorded`]: nothing is copied, no end is recorded, the log goes on where it was cut.
fn write_on_in_place(
    disk: &Arc<dyn Disk>,
    settings: Settings,
    found: Found,
    files: BTreeMap<SegmentNo, LogFile>,
    spares: Vec<Spare>,
    next_file: FileId,
    mut reserve: BTreeSet<u32>,
) -> Result<Opened> {
    let Some(&entry) = found.state.segments.last() else { return Err(Error::Settings("no segment".into())) };
    let mut scan = Scan::open(disk.as_ref(), found.state.store_id, entry)?;
    while scan.next_frame()?.is_some() {}
    let end = LogEnd {
        segment: entry.no,
        file: Arc::clone(&scan.file),
        file_name: scan.name.clone(),
        offset: scan.offset,
        written_upto: settings.segment_bytes,
        next_frame: scan.last.next(),
        last_frame: scan.last,
        prev_crc: scan.last_crc,
        half_group: None,
    };
    let (state, last) = (found.state, found.last_edit);
    let manifest =
        reserve::with_room(disk.as_ref(), &mut reserve, || Manifest::write(disk, state.clone(), last))?;
    let kept = manifest.state().checkpoints;
    let log = LogFiles { segments: files, spares, next_file };
    let Found { ledger, settled, blobs, .. } = found;
    let files = Files { log, settled, blobs, reserve: Reserve::new(reserve) };
    let shared = Shared::new(Arc::clone(disk), settings, manifest, ledger, files);
    Ok(Opened { shared: Arc::new(shared), end, durable_frame: scan.last, kept, report: found.report })
}

/// Copied frames stand elsewhere now.
fn reindex(ledger: &mut Ledger, no: SegmentNo, moved: Vec<(u64, FrameHeader, bytes::Bytes)>) {
    let mut gather = Gather::default();
    let mut block = 0;
    for (offset, header, payload) in moved {
        if header.group_first == header.number {
            block = (offset / BLOCK_BYTES as u64) as u32;
        }
        let frame = Frame { header, crc: 0, payload, bytes: 0 };
        let Some(payload) = gather.push(&frame) else { continue };
        // These very bytes were decoded a moment ago.
        for record in record::decode_group(payload).unwrap_or_default() {
            ledger.move_record(no, block, &record);
        }
    }
}

/// Newest frame that something besides the log's own frames says was durable.
pub(crate) fn frontier(state: &State) -> FrameNo {
    let cuts = state.checkpoints.iter().map(|entry| entry.cut);
    let ends = state.segments.iter().filter_map(|entry| entry.end).map(|end| end.last_frame);
    cuts.chain(ends).chain([state.recovered_upto]).max().unwrap_or_default()
}

/// Reads every kept checkpoint, so that damage in the older one shows before it is needed; gives the newest.
fn read_checkpoints(disk: &dyn Disk, state: &State) -> Result<Ledger> {
    let mut newest = Ledger::new();
    for entry in &state.checkpoints {
        newest = read_checkpoint(disk, state.store_id, *entry)?.ledger;
    }
    Ok(newest)
}

/// Reads a listed checkpoint and verifies that it is the one.
pub(crate) fn read_checkpoint(
    disk: &dyn Disk,
    store_id: u64,
    entry: CheckpointEntry,
) -> Result<checkpoint::Checkpoint> {
    let name = checkpoint_name(entry.file);
    let file = disk.open(&name).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::damage(&name, 0, "it is missing, but the manifest lists it"),
        _ => Error::Io { op: "open", file: name.clone(), source },
    })?;
    let length = file.len().map_err(Error::io("read the length of", &name))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(0, &mut bytes).map_err(Error::io("read", &name))?;
    let checkpoint = checkpoint::decode(&name, bytes.into())?;
    if checkpoint.store_id != store_id || checkpoint.ledger.cut != entry.cut {
        return Err(Error::damage(&name, 16, "it is not the checkpoint that the manifest lists"));
    }
    Ok(checkpoint)
}

//! `inspect`: what stands in the files, as it stands there. Numbers and kinds only, never a message or a fact's value.

use super::walk::Good;
use crate::disk::Disk;
use crate::error::{Error, Result};
use crate::format::segment_name;
use crate::group::Gather;
use crate::ids::{EditNo, Epoch, FrameNo, QueueId, SegmentNo};
use crate::manifest::{self, Edit};
use crate::record::{self, Record};
use crate::recovery;
use crate::scan::Scan;

/// Everything that a store's files say, handed on piece by piece.
pub enum Inspected {
    /// An edit of the manifest: its number and what it says.
    Edit(EditNo, String),
    /// A checkpoint that the manifest lists.
    Checkpoint(InspectedCheckpoint),
    /// A listed segment; its frames follow.
    Segment(InspectedSegment),
    /// A frame.
    Frame(InspectedFrame),
    /// Why the piece that should stand here cannot be shown.
    Trouble(String),
}

/// A checkpoint, summed up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InspectedCheckpoint {
    /// Its file.
    pub file: String,
    /// The opening that wrote it.
    pub epoch: Epoch,
    /// The newest frame whose effects it holds.
    pub cut: FrameNo,
    /// How many facts.
    pub facts: u64,
    /// The next id for a queue.
    pub next_queue: QueueId,
    /// Per queue: next place, first live one, how many live.
    pub queues: Vec<(QueueId, u64, u64, u64)>,
}

/// A log segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InspectedSegment {
    /// Its number.
    pub segment: SegmentNo,
    /// Its file.
    pub file: String,
    /// Its first frame.
    pub first_frame: FrameNo,
    /// Recorded end: the last frame and the offset behind it.
    pub end: Option<(FrameNo, u64)>,
}

/// A frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InspectedFrame {
    /// Where it stands.
    pub offset: u64,
    /// Its number.
    pub number: FrameNo,
    /// The opening that wrote it.
    pub epoch: Epoch,
    /// First frame of its group.
    pub group_first: FrameNo,
    /// It closes its group.
    pub closes: bool,
    /// Its length with padding.
    pub bytes: u64,
    /// Length of its payload.
    pub payload_bytes: u64,
    /// Newest frame known durable when it was written.
    pub durable_upto: FrameNo,
    /// Newest manifest edit known durable then.
    pub edit: EditNo,
    /// Records of the group that it closes, by kind.
    pub kinds: Kinds,
}

/// How many records of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kinds {
    /// Messages.
    pub puts: u64,
    /// Ranges of dead places.
    pub acks: u64,
    /// Facts set.
    pub facts: u64,
    /// Facts removed.
    pub unfacts: u64,
    /// Queues created.
    pub queues_created: u64,
    /// Queues deleted.
    pub queues_deleted: u64,
}

/// Hands on what the manifest, the checkpoints and the log say, in this order, until `tell` says no. Damage is told and
/// what follows is shown as far as it can be read.
///
/// # Errors
/// When a file cannot be read, or was written by a newer program.
pub fn inspect(disk: &dyn Disk, tell: &mut dyn FnMut(Inspected) -> bool) -> Result<()> {
    let loaded = match manifest::load(disk) {
        Ok(Some(loaded)) => loaded,
        Ok(None) => {
            tell(Inspected::Trouble("there is no manifest".into()));
            return Ok(());
        }
        Err(error) => return trouble(error, tell).map(drop),
    };
    for (number, edit) in &loaded.edits {
        if !tell(Inspected::Edit(*number, describe(edit))) {
            return Ok(());
        }
    }
    if let Some(tail) = &loaded.tail
        && !tell(Inspected::Trouble(format!(
            "the manifest goes on for {} bytes at offset {} that are no edit: {}",
            tail.bytes, tail.offset, tail.why
        )))
    {
        return Ok(());
    }
    for entry in &loaded.state.checkpoints {
        let more = match recovery::read_checkpoint(disk, loaded.state.store_id, *entry) {
            Ok(checkpoint) => {
                let ledger = &checkpoint.ledger;
                tell(Inspected::Checkpoint(InspectedCheckpoint {
                    file: crate::format::checkpoint_name(entry.file),
                    epoch: checkpoint.epoch,
                    cut: ledger.cut,
                    facts: ledger.facts.len() as u64,
                    next_queue: ledger.next_queue,
                    queues: ledger
                        .queues
                        .iter()
                        .map(|(id, queue)| (*id, queue.next.0, queue.head.0, queue.live()))
                        .collect(),
                }))
            }
            Err(error) => trouble(error, tell)?,
        };
        if !more {
            return Ok(());
        }
    }
    for entry in &loaded.state.segments {
        let more = tell(Inspected::Segment(InspectedSegment {
            segment: entry.no,
            file: segment_name(entry.file),
            first_frame: entry.first_frame,
            end: entry.end.map(|end| (end.last_frame, end.bytes)),
        }));
        let more = more
            && match Scan::open(disk, loaded.state.store_id, *entry) {
                Ok(scan) => frames(scan, tell)?,
                Err(error) => trouble(error, tell)?,
            };
        if !more {
            return Ok(());
        }
    }
    Ok(())
}

fn frames(mut scan: Scan, tell: &mut dyn FnMut(Inspected) -> bool) -> Result<bool> {
    let mut gather = Gather::default();
    while let Some((offset, frame)) = scan.next_frame()? {
        let good = Good { offset, bytes: frame.bytes, number: frame.header.number, crc: frame.crc };
        let kinds = match gather.push(&frame).map(record::decode_group) {
            None => Kinds::default(),
            Some(Ok(records)) => Kinds::of(&records),
            Some(Err(why)) => {
                if !tell(Inspected::Trouble(format!("the group that ends with frame {}: {why}", good.number)))
                {
                    return Ok(false);
                }
                Kinds::default()
            }
        };
        let header = &frame.header;
        let more = tell(Inspected::Frame(InspectedFrame {
            offset: good.offset,
            number: good.number,
            epoch: header.epoch,
            group_first: header.group_first,
            closes: header.closes,
            bytes: good.bytes,
            payload_bytes: u64::from(header.payload_bytes),
            durable_upto: header.durable_upto,
            edit: header.edit,
            kinds,
        }));
        if !more {
            return Ok(false);
        }
    }
    if let Some(cut) = scan.cut() {
        let what = format!("{} has no frame at offset {}: {}", cut.file, cut.offset, cut.why);
        return Ok(tell(Inspected::Trouble(what)));
    }
    Ok(true)
}

impl Kinds {
    fn of(records: &[Record]) -> Self {
        let mut kinds = Self::default();
        for record in records {
            *match record {
                Record::Put { .. } => &mut kinds.puts,
                Record::Ack { .. } => &mut kinds.acks,
                Record::Fact { .. } => &mut kinds.facts,
                Record::Unfact { .. } => &mut kinds.unfacts,
                Record::QueueCreated { .. } => &mut kinds.queues_created,
                Record::QueueDeleted { .. } => &mut kinds.queues_deleted,
            } += 1;
        }
        kinds
    }
}

fn trouble(error: Error, tell: &mut dyn FnMut(Inspected) -> bool) -> Result<bool> {
    match error {
        Error::Damage { file, offset, what } => {
            Ok(tell(Inspected::Trouble(format!("{file} is damaged at offset {offset}: {what}"))))
        }
        other => Err(other),
    }
}

fn describe(edit: &Edit) -> String {
    match edit {
        Edit::State(state) => format!(
            "state: store {:016x}, epoch {}, clean {}, recovered up to frame {}, next segment {}, next file {}, \
             segments [{}], checkpoints [{}], settled below {}: [{}], blob files [{}]",
            state.store_id,
            state.epoch,
            state.clean,
            state.recovered_upto,
            state.next_segment,
            state.next_file,
            state.segments.iter().map(segment).collect::<Vec<_>>().join("; "),
            state
                .checkpoints
                .iter()
                .map(|entry| format!("file {} up to frame {}", entry.file, entry.cut))
                .collect::<Vec<_>>()
                .join("; "),
            state.settled_below,
            settled(&state.settled),
            files(&state.blobs)
        ),
        Edit::SegmentAdded(entry) => format!("segment added: {}", segment(entry)),
        Edit::SegmentEnded { no, end } => {
            format!("segment {no} ended with frame {} at offset {}", end.last_frame, end.bytes)
        }
        Edit::SegmentRemoved { no } => format!("segment {no} removed"),
        Edit::CheckpointAdded(entry) => {
            format!("checkpoint added: file {} up to frame {}", entry.file, entry.cut)
        }
        Edit::CheckpointRemoved { file } => format!("checkpoint removed: file {file}"),
        Edit::CleanClose { epoch } => format!("clean close of epoch {epoch}"),
        Edit::Settled { below, added, removed } => {
            format!("settled below segment {below}: added [{}], removed [{}]", settled(added), files(removed))
        }
        Edit::Blobs { added, removed } => {
            format!("blob files: added [{}], removed [{}]", files(added), files(removed))
        }
    }
}

fn files(files: &[crate::ids::FileId]) -> String {
    files.iter().map(|file| format!("file {file}")).collect::<Vec<_>>().join("; ")
}

fn settled(entries: &[manifest::SettledEntry]) -> String {
    let entry = |entry: &manifest::SettledEntry| format!("file {} of {} bytes", entry.file, entry.bytes);
    entries.iter().map(entry).collect::<Vec<_>>().join("; ")
}

fn segment(entry: &manifest::SegmentEntry) -> String {
    let end = match entry.end {
        Some(end) => format!("ended with frame {} at offset {}", end.last_frame, end.bytes),
        None => "open".to_owned(),
    };
    format!("{} in file {} from frame {}, {end}", entry.no, entry.file, entry.first_frame)
}

//! Edits and the state that they add up to.

use crate::codec::{Malformed, Parsed, Reader, Writer};
use crate::ids::{Epoch, FileId, FrameNo, SegmentNo};

/// What the store consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) store_id: u64,
    pub(crate) epoch: Epoch,
    /// The epoch that was closed cleanly last; clean only when it is `epoch`.
    pub(crate) clean: Epoch,
    /// The newest frame that a recovery copied: it was durable before that recovery's manifest.
    pub(crate) recovered_upto: FrameNo,
    pub(crate) next_segment: SegmentNo,
    pub(crate) next_file: FileId,
    /// In order of their numbers; only the last one is open.
    pub(crate) segments: Vec<SegmentEntry>,
    /// Oldest first.
    pub(crate) checkpoints: Vec<CheckpointEntry>,
    /// Log segments below it are settled: what lives of their messages stands in settled segments (E2).
    pub(crate) settled_below: SegmentNo,
    /// Settled segments, in the order in which they were listed.
    pub(crate) settled: Vec<SettledEntry>,
    /// Blob files, in the order in which they were listed.
    pub(crate) blobs: Vec<FileId>,
}

/// A log segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SegmentEntry {
    pub(crate) no: SegmentNo,
    pub(crate) file: FileId,
    pub(crate) first_frame: FrameNo,
    /// CRC of the frame before the first one.
    pub(crate) prev_crc: u32,
    pub(crate) end: Option<SegmentEnd>,
}

/// Where a segment ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SegmentEnd {
    /// Its last frame; the one before its first when it has none.
    pub(crate) last_frame: FrameNo,
    /// Offset behind it.
    pub(crate) bytes: u64,
}

/// A checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CheckpointEntry {
    pub(crate) file: FileId,
    /// The newest frame whose effects it holds; closes its group.
    pub(crate) cut: FrameNo,
}

/// A settled segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SettledEntry {
    pub(crate) file: FileId,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Checksum of its footer: no other file will be taken for it.
    pub(crate) footer_crc: u32,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edit {
    State(Box<State>),
    SegmentAdded(SegmentEntry),
    SegmentEnded {
        no: SegmentNo,
        end: SegmentEnd,
    },
    SegmentRemoved {
        no: SegmentNo,
    },
    CheckpointAdded(CheckpointEntry),
    CheckpointRemoved {
        file: FileId,
    },
    CleanClose {
        epoch: Epoch,
    },
    /// Settled segments come and go, and log segments are settled: one edit, since it holds or does not as a whole.
    Settled {
        below: SegmentNo,
        added: Vec<SettledEntry>,
        removed: Vec<FileId>,
    },
    /// Blob files come and go.
    Blobs {
        added: Vec<FileId>,
        removed: Vec<FileId>,
    },
}

// On disk. Never renumber.
const STATE: u8 = 1;
const SEGMENT_ADDED: u8 = 2;
const SEGMENT_ENDED: u8 = 3;
const SEGMENT_REMOVED: u8 = 4;
const CHECKPOINT_ADDED: u8 = 5;
const CHECKPOINT_REMOVED: u8 = 6;
const CLEAN_CLOSE: u8 = 7;
const SETTLED: u8 = 8;
const BLOBS: u8 = 9;

impl State {
    /// Carries out one edit; an error when it does not fit.
    pub(crate) fn apply(&mut self, edit: &Edit) -> Parsed<()> {
        let no_segment =
            |no: SegmentNo| Malformed(format!("an edit names segment {no}, which is not listed"));
        match edit {
            Edit::State(state) => *self = (**state).clone(),
            Edit::SegmentAdded(entry) => {
                if entry.no != self.next_segment
                    || self.segments.last().is_some_and(|last| last.end.is_none())
                {
                    return Err(Malformed(format!("segment {} cannot follow what is listed", entry.no)));
                }
                self.segments.push(*entry);
                self.next_segment = entry.no.next();
                self.next_file = self.next_file.max(entry.file.next());
            }
            Edit::SegmentEnded { no, end } => {
                let entry = self.segments.iter_mut().find(|entry| entry.no == *no).ok_or(no_segment(*no))?;
                entry.end = Some(*end);
            }
            Edit::SegmentRemoved { no } => {
                let before = self.segments.len();
                self.segments.retain(|entry| entry.no != *no);
                if self.segments.len() == before {
                    return Err(no_segment(*no));
                }
            }
            Edit::CheckpointAdded(entry) => {
                self.checkpoints.push(*entry);
                self.next_file = self.next_file.max(entry.file.next());
            }
            Edit::CheckpointRemoved { file } => {
                let before = self.checkpoints.len();
                self.checkpoints.retain(|entry| entry.file != *file);
                if self.checkpoints.len() == before {
                    return Err(Malformed(format!("an edit names checkpoint {file}, which is not listed")));
                }
            }
            Edit::CleanClose { epoch } => self.clean = *epoch,
            Edit::Settled { below, added, removed } => {
                for file in removed {
                    let before = self.settled.len();
                    self.settled.retain(|entry| entry.file != *file);
                    if self.settled.len() == before {
                        return Err(Malformed(format!(
                            "an edit names settled segment {file}, which is not listed"
                        )));
                    }
                }
                for entry in added {
                    self.settled.push(*entry);
                    self.next_file = self.next_file.max(entry.file.next());
                }
                self.settled_below = self.settled_below.max(*below);
            }
            Edit::Blobs { added, removed } => {
                for file in removed {
                    let before = self.blobs.len();
                    self.blobs.retain(|listed| listed != file);
                    if self.blobs.len() == before {
                        return Err(Malformed(format!(
                            "an edit names blob file {file}, which is not listed"
                        )));
                    }
                }
                for file in added {
                    self.blobs.push(*file);
                    self.next_file = self.next_file.max(file.next());
                }
            }
        }
        Ok(())
    }

    fn encode(&self, w: &mut Writer) {
        for field in [
            self.store_id,
            self.epoch.0,
            self.clean.0,
            self.recovered_upto.0,
            self.next_segment.0,
            self.next_file.0,
        ] {
            w.u64(field);
        }
        w.u32(self.segments.len() as u32);
        for entry in &self.segments {
            entry.encode(w);
        }
        w.u32(self.checkpoints.len() as u32);
        for entry in &self.checkpoints {
            w.u64(entry.file.0);
            w.u64(entry.cut.0);
        }
        w.u64(self.settled_below.0);
        encode_settled(&self.settled, w);
        encode_files(&self.blobs, w);
    }

    /// A state of version 1 ends with its checkpoints, one of version 2 with its settled segments.
    fn decode(r: &mut Reader) -> Parsed<Self> {
        let mut state = Self {
            store_id: r.u64()?,
            epoch: Epoch(r.u64()?),
            clean: Epoch(r.u64()?),
            recovered_upto: FrameNo(r.u64()?),
            next_segment: SegmentNo(r.u64()?),
            next_file: FileId(r.u64()?),
            ..Self::default()
        };
        for _ in 0..r.count(29)? {
            state.segments.push(SegmentEntry::decode(r)?);
        }
        for _ in 0..r.count(16)? {
            state.checkpoints.push(CheckpointEntry { file: FileId(r.u64()?), cut: FrameNo(r.u64()?) });
        }
        if r.left() > 0 {
            state.settled_below = SegmentNo(r.u64()?);
            state.settled = decode_settled(r)?;
        }
        if r.left() > 0 {
            state.blobs = decode_files(r)?;
        }
        Ok(state)
    }
}

fn encode_files(files: &[FileId], w: &mut Writer) {
    w.u32(files.len() as u32);
    files.iter().for_each(|file| w.u64(file.0));
}

fn decode_files(r: &mut Reader) -> Parsed<Vec<FileId>> {
    let mut files = Vec::new();
    for _ in 0..r.count(8)? {
        files.push(FileId(r.u64()?));
    }
    Ok(files)
}

fn encode_settled(entries: &[SettledEntry], w: &mut Writer) {
    w.u32(entries.len() as u32);
    for entry in entries {
        w.u64(entry.file.0);
        w.u64(entry.bytes);
        w.u32(entry.footer_crc);
    }
}

fn decode_settled(r: &mut Reader) -> Parsed<Vec<SettledEntry>> {
    let mut entries = Vec::new();
    for _ in 0..r.count(20)? {
        entries.push(SettledEntry { file: FileId(r.u64()?), bytes: r.u64()?, footer_crc: r.u32()? });
    }
    Ok(entries)
}

impl SegmentEntry {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.no.0);
        w.u64(self.file.0);
        w.u64(self.first_frame.0);
        w.u32(self.prev_crc);
        w.u8(u8::from(self.end.is_some()));
        if let Some(end) = self.end {
            end.encode(w);
        }
    }

    fn decode(r: &mut Reader) -> Parsed<Self> {
        let (no, file, first_frame) = (SegmentNo(r.u64()?), FileId(r.u64()?), FrameNo(r.u64()?));
        if first_frame == FrameNo(0) {
            return Err(Malformed("frames are numbered from 1".into()));
        }
        Ok(Self {
            no,
            file,
            first_frame,
            prev_crc: r.u32()?,
            end: match r.u8()? {
                0 => None,
                1 => Some(SegmentEnd::decode(r)?),
                other => return Err(Malformed(format!("{other} where 0 or 1 belongs"))),
            },
        })
    }
}

impl SegmentEnd {
    fn encode(&self, w: &mut Writer) {
        w.u64(self.last_frame.0);
        w.u64(self.bytes);
    }

    fn decode(r: &mut Reader) -> Parsed<Self> {
        Ok(Self { last_frame: FrameNo(r.u64()?), bytes: r.u64()? })
    }
}

impl Edit {
    pub(crate) fn encode(&self, w: &mut Writer) {
        match self {
            Self::State(state) => {
                w.u8(STATE);
                state.encode(w);
            }
            Self::SegmentAdded(entry) => {
                w.u8(SEGMENT_ADDED);
                entry.encode(w);
            }
            Self::SegmentEnded { no, end } => {
                w.u8(SEGMENT_ENDED);
                w.u64(no.0);
                end.encode(w);
            }
            Self::SegmentRemoved { no } => {
                w.u8(SEGMENT_REMOVED);
                w.u64(no.0);
            }
            Self::CheckpointAdded(entry) => {
                w.u8(CHECKPOINT_ADDED);
                w.u64(entry.file.0);
                w.u64(entry.cut.0);
            }
            Self::CheckpointRemoved { file } => {
                w.u8(CHECKPOINT_REMOVED);
                w.u64(file.0);
            }
            Self::CleanClose { epoch } => {
                w.u8(CLEAN_CLOSE);
                w.u64(epoch.0);
            }
            Self::Settled { below, added, removed } => {
                w.u8(SETTLED);
                w.u64(below.0);
                encode_settled(added, w);
                encode_files(removed, w);
            }
            Self::Blobs { added, removed } => {
                w.u8(BLOBS);
                encode_files(added, w);
                encode_files(removed, w);
            }
        }
    }

    pub(crate) fn decode(r: &mut Reader) -> Parsed<Self> {
        let edit = match r.u8()? {
            STATE => Self::State(Box::new(State::decode(r)?)),
            SEGMENT_ADDED => Self::SegmentAdded(SegmentEntry::decode(r)?),
            SEGMENT_ENDED => Self::SegmentEnded { no: SegmentNo(r.u64()?), end: SegmentEnd::decode(r)? },
            SEGMENT_REMOVED => Self::SegmentRemoved { no: SegmentNo(r.u64()?) },
            CHECKPOINT_ADDED => {
                Self::CheckpointAdded(CheckpointEntry { file: FileId(r.u64()?), cut: FrameNo(r.u64()?) })
            }
            CHECKPOINT_REMOVED => Self::CheckpointRemoved { file: FileId(r.u64()?) },
            CLEAN_CLOSE => Self::CleanClose { epoch: Epoch(r.u64()?) },
            SETTLED => {
                let (below, added) = (SegmentNo(r.u64()?), decode_settled(r)?);
                Self::Settled { below, added, removed: decode_files(r)? }
            }
            BLOBS => Self::Blobs { added: decode_files(r)?, removed: decode_files(r)? },
            kind => return Err(Malformed(format!("an edit of unknown kind {kind}"))),
        };
        r.end()?;
        Ok(edit)
    }
}

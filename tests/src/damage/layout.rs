//! What stands where in a store's files, to aim at, and which commits stand in which frames.

use leveret_engine::offline::{Inspected, InspectedFrame, Kinds, inspect};

use super::history::{Files, Image, Past};

/// Length of a log segment's first block, and of the header in it.
pub(super) const BLOCK_BYTES: usize = 4_096;
const SEGMENT_HEADER_BYTES: usize = 72;
pub(super) const FRAME_HEADER_BYTES: usize = 80;
const SETTLED_HEADER_BYTES: usize = 48;
const SETTLED_TRAILER_BYTES: usize = 56;

/// What is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A log segment's header, or a frame's.
    LogHeader,
    /// What frames hold.
    LogPayload,
    /// Records of a settled segment.
    SettledData,
    /// Marks, footer and trailer of one.
    SettledFooter,
    /// A blob file.
    Blob,
    /// The manifest.
    Manifest,
    /// A kept checkpoint.
    Checkpoint,
}

impl Target {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::LogHeader,
        Self::LogPayload,
        Self::SettledData,
        Self::SettledFooter,
        Self::Blob,
        Self::Manifest,
        Self::Checkpoint,
    ];

    /// A start needs it.
    pub(super) fn is_vital(self) -> bool {
        matches!(self, Self::LogHeader | Self::LogPayload | Self::Manifest | Self::Checkpoint)
    }
}

/// A range of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: String,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A frame of the log.
#[derive(Debug, Clone)]
pub(super) struct FrameAt {
    pub(super) file: String,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) number: u64,
    payload: usize,
    /// The commits of the group that it is part of: from behind the first up to the second. Equal in an empty one.
    pub(super) commits: (u64, u64),
    /// The first frame of its segment: it stands or falls with the segment's header.
    pub(super) first: bool,
}

/// Where things stand.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Frames of the listed segments, in order.
    pub(super) frames: Vec<FrameAt>,
    /// Listed log segments, in order: the file, and the offset behind its last frame.
    pub(super) segments: Vec<(String, usize)>,
}

impl Layout {
    /// Reads a sound store.
    pub(super) fn of(image: &Image) -> Self {
        let mut layout = Self::default();
        let mut kinds = Vec::new();
        let mut told = |inspected: Inspected| {
            match inspected {
                Inspected::Segment(segment) => layout.segments.push((segment.file, BLOCK_BYTES)),
                Inspected::Frame(frame) => {
                    kinds.push((frame.closes, frame.kinds));
                    layout.push(&frame);
                }
                _ => {}
            }
            true
        };
        inspect(&Image::disk(&image.files), &mut told).expect("readable");
        layout.name_commits(&image.past, &kinds);
        layout
    }

    fn push(&mut self, frame: &InspectedFrame) {
        let Some((file, end)) = self.segments.last_mut() else { return };
        let start = frame.offset as usize;
        let first = *end == BLOCK_BYTES;
        *end = start + frame.bytes as usize;
        self.frames.push(FrameAt {
            file: file.clone(),
            start,
            end: *end,
            number: frame.number.0,
            payload: frame.payload_bytes as usize,
            commits: (0, 0),
            first,
        });
    }

    /// Everything that became durable stands in the log up to its end: groups are told from the newest one back.
    fn name_commits(&mut self, past: &Past, kinds: &[(bool, Kinds)]) {
        let mut groups = past.groups.iter().rev();
        let mut upto = past.commits;
        let mut commits = (upto, upto);
        for (frame, (closes, kinds)) in self.frames.iter_mut().zip(kinds).rev() {
            if *closes && *kinds == Kinds::default() {
                frame.commits = (upto, upto);
                continue;
            }
            if *closes {
                let newest = groups.next().copied().expect("what stands in the log was durable");
                assert_eq!(newest, upto, "groups follow each other");
                upto = groups.clone().next().copied().unwrap_or(0);
                commits = (upto, newest);
            }
            frame.commits = commits;
        }
    }

    /// Places of that kind.
    pub(super) fn places(&self, files: &Files, target: Target) -> Vec<Place> {
        let place = |file: &str, start, end| Place { file: file.to_owned(), start, end };
        let named = |prefix: &str| {
            let prefix = prefix.to_owned();
            files.iter().filter(move |(name, _)| name.starts_with(&prefix))
        };
        match target {
            Target::LogHeader => {
                let segments = self.segments.iter().map(|(file, _)| place(file, 0, SEGMENT_HEADER_BYTES));
                let frames =
                    self.frames.iter().map(|at| place(&at.file, at.start, at.start + FRAME_HEADER_BYTES));
                segments.chain(frames).collect()
            }
            Target::LogPayload => {
                let of = |at: &FrameAt| {
                    let start = at.start + FRAME_HEADER_BYTES;
                    // The checksum behind it, too.
                    place(&at.file, start, start + at.payload + 4)
                };
                self.frames.iter().map(of).collect()
            }
            Target::SettledData => named("settled-0")
                .map(|(name, bytes)| place(name, 0, footer_at(bytes)))
                .filter(|place| place.end > SETTLED_HEADER_BYTES)
                .collect(),
            Target::SettledFooter => {
                named("settled-0").map(|(name, bytes)| place(name, footer_at(bytes), bytes.len())).collect()
            }
            Target::Blob => named("blob-0").map(|(name, bytes)| place(name, 0, bytes.len())).collect(),
            Target::Manifest => named("MANIFEST")
                .filter(|(name, _)| *name == "MANIFEST")
                .map(|(name, bytes)| place(name, 0, bytes.len()))
                .collect(),
            Target::Checkpoint => {
                named("checkpoint-0").map(|(name, bytes)| place(name, 0, bytes.len())).collect()
            }
        }
    }

    /// The frames at the end of the log of whose groups something was hit: nothing that is left proves that they ever were.
    pub(super) fn unproven(&self, before: &Files, after: &Files) -> &[FrameAt] {
        let open = self.segments.last().map(|(file, _)| file.as_str()).unwrap_or_default();
        let hit = |frame: &FrameAt| {
            let group = |other: &&FrameAt| other.commits == frame.commits && !other.is_empty();
            let group = self.frames.iter().filter(group).chain([frame]);
            group.into_iter().any(|frame| frame.is_hit(before, after))
        };
        let end = self.frames.iter().rev();
        let hit = end.take_while(|frame| frame.file == open && hit(frame)).count();
        &self.frames[self.frames.len() - hit..]
    }
}

impl FrameAt {
    /// It only proves what stands before it.
    fn is_empty(&self) -> bool {
        self.commits.0 == self.commits.1
    }

    /// Whether something of it is not what it was.
    pub(super) fn is_hit(&self, before: &Files, after: &Files) -> bool {
        let same = |start: usize, end: usize| {
            let (was, is) = (before.get(&self.file), after.get(&self.file));
            match (was.and_then(|was| was.get(start..end)), is.and_then(|is| is.get(start..end))) {
                (Some(was), Some(is)) => was == is,
                _ => false,
            }
        };
        !same(self.start, self.end) || (self.first && !same(0, BLOCK_BYTES))
    }
}

/// Where the marks of a settled segment's footer begin, about: its extents say, and all their records stand before.
fn footer_at(bytes: &[u8]) -> usize {
    let u64_at = |at: usize| {
        bytes.get(at..at + 8).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes) as usize
    };
    let Some(trailer) = bytes.len().checked_sub(SETTLED_TRAILER_BYTES) else { return 0 };
    let footer = u64_at(trailer + 32);
    let extents = (footer..trailer).step_by(64).map(|at| u64_at(at + 24).saturating_add(u64_at(at + 32)));
    extents.max().unwrap_or(SETTLED_HEADER_BYTES).min(bytes.len())
}

//! What happens to files.

use fastrand::Rng;

use super::history::{Files, Image};
use super::layout::{BLOCK_BYTES, Layout, Place, Target};

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One bit is turned over.
    BitFlip,
    /// Eight bytes are something else.
    Smeared,
    /// A sector is zero.
    Zeroed512,
    /// A block is zero.
    Zeroed4096,
    /// The file ends there.
    Truncated,
    /// What was written there never came to the disk: what stood there before does.
    LostWrite,
    /// Two sectors or blocks have changed places.
    Swapped,
    /// The file is not there.
    Missing,
    /// It is there twice, the second time under another number.
    Duplicated,
    /// It has another number, or a name that is none of the store's.
    Renamed,
    /// It is what it was, or what another one of its kind was, some time ago.
    OldPutBack,
    /// Behind its end stands what stood in such a file before.
    StaleTail,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::BitFlip,
        Self::Smeared,
        Self::Zeroed512,
        Self::Zeroed4096,
        Self::Truncated,
        Self::LostWrite,
        Self::Swapped,
        Self::Missing,
        Self::Duplicated,
        Self::Renamed,
        Self::OldPutBack,
        Self::StaleTail,
    ];
}

/// What may happen to one store together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Together {
    /// One damage to what a start needs (log, manifest, checkpoints), and others to what it does not.
    OneVital,
    /// Anything.
    Anything,
}

/// One damage that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) kind: Kind,
    pub(super) target: Target,
    /// The file, and another name that it has now.
    pub(super) file: String,
    pub(super) other: Option<String>,
    pub(super) offset: usize,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} of {:?} at offset {} of {}", self.kind, self.target, self.offset, self.file)?;
        self.other.as_ref().map_or(Ok(()), |other| write!(f, " ({other})"))
    }
}

/// Does it at a random place; None where there is no such place, or nothing would be changed.
pub(super) fn inflict(
    rng: &mut Rng,
    image: &Image,
    layout: &Layout,
    files: &mut Files,
    (kind, target): (Kind, Target),
) -> Option<Damage> {
    for _ in 0..20 {
        let places = layout.places(files, target);
        // The newest frame is one of many, and the one that a torn tail is told by.
        let place = match target {
            Target::LogHeader | Target::LogPayload if rng.u8(..5) == 0 => places.last()?,
            _ => rng.choice(&places)?,
        };
        if place.start >= place.end {
            continue;
        }
        let offset = rng.usize(place.start..place.end);
        let before = files.clone();
        let other = strike(rng, image, layout, files, kind, place, offset);
        if *files != before {
            return Some(Damage { kind, target, file: place.file.clone(), other, offset });
        }
    }
    None
}

fn strike(
    rng: &mut Rng,
    image: &Image,
    layout: &Layout,
    files: &mut Files,
    kind: Kind,
    place: &Place,
    offset: usize,
) -> Option<String> {
    let name = &place.file;
    // Another damage may have taken it away.
    let mut bytes = files.get(name)?.clone();
    let mut other = None;
    match kind {
        Kind::BitFlip => *bytes.get_mut(offset)? ^= 1 << rng.u8(..8),
        Kind::Smeared => {
            let end = (offset + 8).min(bytes.len());
            rng.fill(bytes.get_mut(offset..end)?);
        }
        Kind::Zeroed512 => fill(&mut bytes, offset, 512),
        Kind::Zeroed4096 => fill(&mut bytes, offset, BLOCK_BYTES),
        Kind::Truncated => bytes.truncate(offset),
        Kind::LostWrite => {
            let older =
                rng.choice(&image.older).and_then(|older| older.get(name)).cloned().unwrap_or_default();
            let unit = if rng.bool() { 512 } else { BLOCK_BYTES };
            let start = offset / unit * unit;
            let end = (start + unit * rng.usize(1..4)).min(bytes.len());
            for (at, byte) in bytes.get_mut(start..end)?.iter_mut().enumerate() {
                *byte = older.get(start + at).copied().unwrap_or(0);
            }
        }
        Kind::Swapped => {
            // A small file has no two blocks, but may have been put together from small parts.
            let unit = if rng.bool() { 512 } else { BLOCK_BYTES };
            let unit = if 2 * unit > bytes.len() { 64 } else { unit };
            let units = bytes.len() / unit;
            let one = offset / unit;
            if one >= units {
                return None;
            }
            // Far away, or the next one.
            let two = if rng.bool() { (one + 1) % units } else { rng.usize(..units) };
            for at in 0..unit {
                bytes.swap(one * unit + at, two * unit + at);
            }
        }
        Kind::Missing => {
            files.remove(name);
            return None;
        }
        Kind::Duplicated => {
            let copy = another_name(name, rng.u64(900..990)).unwrap_or_else(|| format!("{name}.old"));
            files.insert(copy.clone(), bytes);
            return Some(copy);
        }
        Kind::Renamed => {
            let foreign = || format!("{}.bak", name.to_lowercase());
            let to = if rng.bool() { None } else { another_name(name, rng.u64(900..990)) };
            let to = to.unwrap_or_else(foreign);
            files.remove(name);
            files.insert(to.clone(), bytes);
            return Some(to);
        }
        Kind::OldPutBack => {
            let older = rng.choice(&image.older)?;
            let kind = kind_of(name);
            let alike = |(file, _): &(&String, &Vec<u8>)| kind_of(file) == kind;
            let same = older.get(name).filter(|older| **older != bytes && rng.u8(..4) > 0).cloned();
            let alike: Vec<&Vec<u8>> = older.iter().filter(alike).map(|(_, bytes)| bytes).collect();
            bytes = match same {
                Some(same) => same,
                None => (*rng.choice(&alike)?).clone(),
            };
        }
        Kind::StaleTail => other = stale(rng, image, layout, place, &mut bytes),
    }
    files.insert(name.clone(), bytes);
    other
}

/// Puts old bytes of such a file behind a file's end: behind the last frame of a log segment.
fn stale(
    rng: &mut Rng,
    image: &Image,
    layout: &Layout,
    place: &Place,
    bytes: &mut Vec<u8>,
) -> Option<String> {
    let kind = kind_of(&place.file);
    let alike = image.older.iter().chain([&image.files]).flatten().filter(|(file, _)| kind_of(file) == kind);
    let sources: Vec<&Vec<u8>> = alike.map(|(_, bytes)| bytes).collect();
    let source = *rng.choice(&sources)?;
    let Some((_, end)) = layout.segments.iter().find(|(file, _)| *file == place.file) else {
        let length = rng.usize(1..5_000).min(source.len());
        bytes.extend_from_slice(&source[..length]);
        return None;
    };
    let from = (*end / BLOCK_BYTES + rng.usize(..3)) * BLOCK_BYTES;
    let taken = rng.usize(1..4.max(source.len() / BLOCK_BYTES)) * BLOCK_BYTES;
    let length = BLOCK_BYTES * rng.usize(1..6);
    for at in 0..length {
        if let (Some(byte), Some(old)) = (bytes.get_mut(from + at), source.get(taken + at)) {
            *byte = *old;
        }
    }
    Some(format!("from offset {from} on"))
}

fn fill(bytes: &mut [u8], offset: usize, unit: usize) {
    let start = offset / unit * unit;
    let end = (start + unit).min(bytes.len());
    if let Some(part) = bytes.get_mut(start..end) {
        part.fill(0);
    }
}

/// "log", "checkpoint" and so on.
fn kind_of(name: &str) -> &str {
    name.split('-').next().unwrap_or(name)
}

/// The name of a file of its kind with that number.
fn another_name(name: &str, number: u64) -> Option<String> {
    let (kind, rest) = name.split_once('-')?;
    let (_, ending) = rest.split_once('.')?;
    Some(format!("{kind}-{number:010}.{ending}"))
}

//! Reading settled segments: the footer at an open, windows of an extent later.

use std::sync::{Arc, OnceLock};

use byteorder::{ByteOrder, LittleEndian};
use bytes::Bytes;

use super::{
    EXTENT_BYTES, Extent, HEADER_BYTES, MARK_BYTES, SettledHeader, TRAILER_BYTES, TRAILER_MAGIC, whole,
};
use crate::blobs::BlobPlace;
use crate::controls::crc_differs;
use crate::disk::{Disk, DiskFile, DiskMap};
use crate::error::{Error, Result};
use crate::format::{NoFrame, settled_name};
use crate::ids::Seq;
use crate::manifest::SettledEntry;
use crate::record::{self, Stored};

/// A settled segment that is open for reading.
#[derive(Debug)]
pub(crate) struct SettledFile {
    pub(crate) name: String,
    pub(crate) entry: SettledEntry,
    file: Arc<dyn DiskFile>,
    /// Made when it is first read from.
    map: OnceLock<Box<dyn DiskMap>>,
}

/// What a record holds of a message; see [`crate::record::Stored`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) payload: Bytes,
    pub(crate) blob: Option<BlobPlace>,
}

impl Kept {
    pub(crate) fn stored(&self) -> Stored<'_> {
        Stored { payload: &self.payload, blob: self.blob }
    }
}

/// Records of an extent, verified and copied.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Places and payloads in order.
    pub(crate) records: Vec<(Seq, Kept)>,
    /// The place behind the last record read, or the next one that can be read; None at the extent's end.
    pub(crate) upto: Option<Seq>,
    /// Records read, those below the place wanted included.
    pub(crate) read: u32,
    /// Why it ends early: what lives from its last record up to `upto` cannot be read.
    pub(crate) broken: Option<String>,
}

impl SettledFile {
    /// What was written a moment ago.
    pub(crate) fn written(file: Arc<dyn DiskFile>, entry: SettledEntry) -> Self {
        Self { name: settled_name(entry.file), entry, file, map: OnceLock::new() }
    }

    /// Opens a listed settled segment and reads what it consists of. [`Error::Damage`] when header or footer are not
    /// those that were written.
    pub(crate) fn open(disk: &dyn Disk, store_id: u64, entry: SettledEntry) -> Result<(Self, Vec<Extent>)> {
        let name = settled_name(entry.file);
        let file = disk.open(&name).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::damage(&name, 0, "it is missing, but the manifest lists it")
            }
            _ => Error::Io { op: "open", file: name.clone(), source },
        })?;
        let length = file.len().map_err(Error::io("read the length of", &name))?;
        if length != entry.bytes {
            let what = format!("it is {length} bytes long, but was {} bytes long when listed", entry.bytes);
            return Err(Error::damage(name, length.min(entry.bytes), what));
        }
        let (header, extents, footer_crc) = read_footer(file.as_ref(), &name, length)?;
        if header.store_id != store_id || header.file != entry.file || footer_crc != entry.footer_crc {
            return Err(Error::damage(name, 16, "it is not the settled segment that the manifest lists"));
        }
        Ok((Self { name, entry, file, map: OnceLock::new() }, extents))
    }

    /// Reads about so many bytes of an extent from a place on, or one record if that is larger. Ends before a record that
    /// is damaged; what follows is read again from the next mark.
    pub(crate) fn window(&self, extent: &Extent, from: Seq, bytes: u64) -> Result<Window, String> {
        let marks = self.marks(extent)?;
        let index = marks.partition_point(|(seq, _)| *seq <= from);
        let mut start = index.checked_sub(1).map_or(extent.offset, |index| marks[index].1);
        let end = extent.offset + extent.bytes;
        let mut wanted = bytes;
        let mut window = Window::default();
        loop {
            let part = self.read(start, wanted.min(end - start))?;
            let mut at = 0;
            let longer = loop {
                let offset = start + at as u64;
                if offset == end {
                    return Ok(window);
                }
                let put = match record::parse_put(&part[at..]) {
                    Ok(Ok(put)) => {
                        if put.queue == extent.queue && put.seq >= extent.first && put.seq <= extent.last {
                            put
                        } else {
                            let what = format!(
                                "place {} of queue {} stands where places {} to {} of queue {} belong",
                                put.seq, put.queue, extent.first, extent.last, extent.queue
                            );
                            return Ok(self.broken(window, &marks, offset, &what));
                        }
                    }
                    Ok(Err(length)) if offset + length as u64 > end => {
                        let what = "a record runs over its extent's end";
                        return Ok(self.broken(window, &marks, offset, what));
                    }
                    Ok(Err(_)) if !window.records.is_empty() => {
                        window.upto = window.records.last().map(|(seq, _)| seq.next());
                        return Ok(window);
                    }
                    // Nothing that is wanted has come yet, or it is longer than what was read: on from there.
                    Ok(Err(length)) => break length as u64,
                    Err(why) => return Ok(self.broken(window, &marks, offset, &why.to_string())),
                };
                window.read += 1;
                if put.seq >= from {
                    // Copied: nothing that owns a map leaves the engine.
                    let Stored { payload, blob } = put.stored;
                    window.records.push((put.seq, Kept { payload: Bytes::copy_from_slice(payload), blob }));
                }
                at += put.bytes;
            };
            start += at as u64;
            wanted = longer.max(bytes);
        }
    }

    /// A window that ends because of what stands at an offset.
    fn broken(&self, mut window: Window, marks: &[(Seq, u64)], offset: u64, what: &str) -> Window {
        window.upto = marks.iter().find(|(_, at)| *at > offset).map(|(seq, _)| *seq);
        window.broken = Some(format!("{} is damaged at offset {offset}: {what}", self.name));
        window
    }

    /// The file itself.
    pub(crate) fn file(&self) -> &dyn DiskFile {
        self.file.as_ref()
    }

    /// Places of the extent and where their records begin.
    pub(crate) fn marks(&self, extent: &Extent) -> Result<Vec<(Seq, u64)>, String> {
        let length = extent.marks as usize * MARK_BYTES;
        let marks = self.read(extent.marks_at, length as u64)?;
        if crc_differs(crc32fast::hash(&marks), extent.marks_crc) {
            return Err(format!(
                "{} is damaged at offset {}: the checksum of an extent's marks does not match",
                self.name, extent.marks_at
            ));
        }
        let mark = |mark: &[u8]| (Seq(LittleEndian::read_u64(mark)), LittleEndian::read_u64(&mark[8..]));
        let marks: Vec<_> = marks.chunks_exact(MARK_BYTES).map(mark).collect();
        let within = extent.offset..extent.offset + extent.bytes;
        if marks.iter().any(|(_, offset)| !within.contains(offset)) {
            return Err(format!(
                "{} is damaged at offset {}: an extent's marks point out of it",
                self.name, extent.marks_at
            ));
        }
        Ok(marks)
    }

    fn read(&self, offset: u64, bytes: u64) -> Result<std::borrow::Cow<'_, [u8]>, String> {
        let said = |error: std::io::Error| format!("cannot read {} at offset {offset}: {error}", self.name);
        let map = match self.map.get() {
            Some(map) => map,
            None => {
                let map = self.file.map().map_err(said)?;
                self.map.get_or_init(|| map)
            }
        };
        map.read(offset, bytes as usize).map_err(said)
    }
}

/// Reads a settled segment's header and footer, by its trailer. `name` is for errors.
pub(crate) fn read_footer(
    file: &dyn DiskFile,
    name: &str,
    length: u64,
) -> Result<(SettledHeader, Vec<Extent>, u32)> {
    let damage = |offset: u64, what: &str| Error::damage(name, offset, what);
    if length < (HEADER_BYTES + TRAILER_BYTES) as u64 {
        return Err(damage(length, "it is too short for a settled segment"));
    }
    let read = |offset: u64, bytes: usize| {
        let mut part = vec![0; bytes];
        file.read_at(offset, &mut part).map(|()| part).map_err(Error::io("read", name))
    };
    let header = match SettledHeader::decode(&read(0, HEADER_BYTES)?) {
        Ok(header) => header,
        Err(NoFrame::Newer(found)) => {
            return Err(Error::NewerFormat { file: name.into(), found, known: super::SETTLED_VERSION });
        }
        Err(no) => return Err(damage(0, &no.to_string())),
    };
    let trailer_at = length - TRAILER_BYTES as u64;
    let trailer = read(trailer_at, TRAILER_BYTES)?;
    if &trailer[..8] != TRAILER_MAGIC || !whole(&trailer) {
        return Err(damage(trailer_at, "its trailer's checksum does not match"));
    }
    let footer_crc = LittleEndian::read_u32(&trailer[12..]);
    let same = LittleEndian::read_u64(&trailer[16..]) == header.store_id
        && LittleEndian::read_u64(&trailer[24..]) == header.file.0;
    let (footer_at, count) = (LittleEndian::read_u64(&trailer[32..]), LittleEndian::read_u64(&trailer[40..]));
    let fits = count
        .checked_mul(EXTENT_BYTES as u64)
        .and_then(|bytes| footer_at.checked_add(bytes))
        .is_some_and(|end| end == trailer_at);
    if !same || !fits {
        return Err(damage(trailer_at, "its trailer does not fit its header and length"));
    }
    let footer = read(footer_at, (trailer_at - footer_at) as usize)?;
    if crc_differs(crc32fast::hash(&footer), footer_crc) {
        return Err(damage(footer_at, "its footer's checksum does not match"));
    }
    let extents: Vec<Extent> = footer.chunks_exact(EXTENT_BYTES).map(Extent::decode).collect();
    for extent in &extents {
        let marks = u64::from(extent.marks) * MARK_BYTES as u64;
        let ends = |at: u64, bytes: u64| at.checked_add(bytes).is_some_and(|end| end <= footer_at);
        let sound = extent.first <= extent.last
            && extent.records > 0
            && ends(extent.offset, extent.bytes)
            && ends(extent.marks_at, marks);
        if !sound {
            return Err(damage(footer_at, "its footer names places that it cannot hold"));
        }
    }
    Ok((header, extents, footer_crc))
}

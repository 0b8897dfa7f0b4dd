//! Reading settled segments: the footer at an open, windows of an extent later.

use std::sync::{Arc, OnceLock};

use byteorder::{ByteOrder, LittleEndian};
use bytes::Bytes;

use super::{
    EXTENT_BYTES, Extent, HEADER_BYTES, MARK_BYTES, SettledHeader, TRAILER_BYTES, TRAILER_MAGIC, whole,
};
use crate::disk::{Disk, DiskFile, DiskMap};
use crate::error::{Error, Result};
use crate::format::{NoFrame, settled_name};
use crate::ids::Seq;
use crate::manifest::SettledEntry;
use crate::record;

/// A settled segment that is open for reading.
#[derive(Debug)]
pub(crate) struct SettledFile {
    pub(crate) name: String,
    pub(crate) entry: SettledEntry,
    file: Arc<dyn DiskFile>,
    /// Made when it is first read from.
    map: OnceLock<Box<dyn DiskMap>>,
}

/// Records of an extent, verified and copied.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// Places and payloads in order.
    pub(crate) records: Vec<(Seq, Bytes)>,
    /// The place behind the last record read; None when that was the extent's last one.
    pub(crate) upto: Option<Seq>,
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

    /// Reads about so many bytes of an extent from a place on, or one record if that is larger.
    pub(crate) fn window(&self, extent: &Extent, from: Seq, bytes: u64) -> Result<Window, String> {
        let said = |what: String| format!("{} is damaged: {what}", self.name);
        let start = self.start(extent, from)?;
        let end = extent.offset + extent.bytes;
        let mut window = Window::default();
        let mut wanted = bytes;
        loop {
            let part = self.read(start, wanted.min(end - start))?;
            let mut at = 0;
            loop {
                if start + at as u64 == end {
                    return Ok(window);
                }
                let offset = start + at as u64;
                let parsed =
                    record::parse_put(&part[at..]).map_err(|e| said(format!("at offset {offset}, {e}")))?;
                let put = match parsed {
                    Ok(put) => put,
                    Err(length) if offset + length as u64 > end => {
                        return Err(said(format!("at offset {offset}, a record runs over its extent's end")));
                    }
                    Err(_) if !window.records.is_empty() => {
                        window.upto = window.records.last().map(|(seq, _)| seq.next());
                        return Ok(window);
                    }
                    // The first record wanted is longer than what was read.
                    Err(length) => {
                        wanted = (at + length) as u64 + bytes;
                        window = Window::default();
                        break;
                    }
                };
                let outside = put.seq < extent.first || put.seq > extent.last;
                if put.queue != extent.queue || outside {
                    return Err(said(format!(
                        "at offset {offset}, place {} of queue {} stands where places {} to {} of queue {} belong",
                        put.seq, put.queue, extent.first, extent.last, extent.queue
                    )));
                }
                if put.seq >= from {
                    // Copied: nothing that owns a map leaves the engine.
                    window.records.push((put.seq, Bytes::copy_from_slice(put.payload)));
                }
                at += put.bytes;
            }
        }
    }

    /// Where to begin reading for a place: the last mark at or below it.
    fn start(&self, extent: &Extent, from: Seq) -> Result<u64, String> {
        let length = extent.marks as usize * MARK_BYTES;
        let marks = self.read(extent.marks_at, length as u64)?;
        if crc32fast::hash(&marks) != extent.marks_crc {
            return Err(format!(
                "{} is damaged: the checksum of the marks at offset {} does not match",
                self.name, extent.marks_at
            ));
        }
        let marks: Vec<&[u8]> = marks.chunks_exact(MARK_BYTES).collect();
        let index = marks.partition_point(|mark| LittleEndian::read_u64(mark) <= from.0);
        Ok(index.checked_sub(1).map_or(extent.offset, |index| LittleEndian::read_u64(&marks[index][8..])))
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
    let (footer_at, count) =
        (LittleEndian::read_u64(&trailer[32..]), LittleEndian::read_u64(&trailer[40..]));
    let fits = count
        .checked_mul(EXTENT_BYTES as u64)
        .and_then(|bytes| footer_at.checked_add(bytes))
        .is_some_and(|end| end == trailer_at);
    if !same || !fits {
        return Err(damage(trailer_at, "its trailer does not fit its header and length"));
    }
    let footer = read(footer_at, (trailer_at - footer_at) as usize)?;
    if crc32fast::hash(&footer) != footer_crc {
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

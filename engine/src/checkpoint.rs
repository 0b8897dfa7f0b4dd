//! Checkpoints: the ledger as of a cut, so that a restart need not replay what came before. Version 2,
//! which added blobs; version 1 is read.
//!
//! ```text
//! file  = magic "LVRTCKP1" 8 | version u16 | reserved u16 | crc u32 (over the file with the crc field zero)
//!       | store id u64 | epoch u64 | cut (frame no) u64 | next queue id u64
//!       | facts u32 | (key length u32, key, value length u32, value) x facts
//!       | queues u32 | queue x queues
//!       | blobs u32 | blob x blobs
//! queue = id u64 | next u64 | head u64 | redelivered below u64 | dead length u32, dead | marks length u32, marks
//! blob  = file id u64 | offset u64 | length u64 | crc u32 | live places u32 | (queue u64, seq u64) x live places
//! ```
//!
//! `dead` and `marks` are sets of places in roaring's portable 64-bit format; nothing stands where a set is empty. It
//! holds no lists of files or extents: the manifest lists files, the log says where messages stand.

use std::collections::{BTreeMap, VecDeque};

use byteorder::{ByteOrder, LittleEndian};
use bytes::Bytes;

use crate::blobs::BlobPlace;
use crate::codec::{Malformed, Parsed, Reader, Writer};
use crate::error::{Error, Result};
use crate::ids::{Epoch, FileId, FrameNo, QueueId, Seq};
use crate::ledger::{Ledger, Queue};
use crate::ranges::Places;

#[cfg(test)]
mod tests;

/// The version of this format that is written; older ones are read.
const CHECKPOINT_VERSION: u16 = 2;
const MAGIC: &[u8; 8] = b"LVRTCKP1";
const HEADER_BYTES: usize = 16;
/// A part ends with what makes it this long; most of what comes last fits into the spare.
const PART_BYTES: usize = 1 << 20;
const PART_SPARE: usize = 4 << 10;

/// A checkpoint as it was read.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) store_id: u64,
    /// The opening that wrote it, for `inspect`.
    pub(crate) epoch: Epoch,
    pub(crate) ledger: Ledger,
}

/// A checkpoint file's bytes, in parts: with very many queues they are tens of megabytes, which would be copied over and
/// over while one piece of memory grows, with the ledger held, and would stay when they are written.
#[derive(Debug)]
pub(crate) struct Encoded {
    parts: VecDeque<Vec<u8>>,
    /// So much of the first part was written.
    written: usize,
    bytes: u64,
}

impl Encoded {
    /// The length of the whole file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is left of it, in order.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().enumerate().map(|(i, part)| if i == 0 { &part[self.written..] } else { part })
    }

    /// What is to be written next. Where a part is long, because what ended it was, this is a piece of it: one write is
    /// not to keep the disk from everybody else for long.
    pub(crate) fn first(&self) -> Option<&[u8]> {
        let left = &self.parts.front()?[self.written..];
        Some(&left[..left.len().min(PART_BYTES + PART_SPARE)])
    }

    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn concat(&self) -> Vec<u8> {
        self.parts().collect::<Vec<_>>().concat()
    }

    /// What was next was written.
    pub(crate) fn drop_first(&mut self) {
        self.written += self.first().map_or(0, <[u8]>::len);
        if self.parts.front().is_some_and(|part| part.len() == self.written) {
            self.parts.pop_front();
            self.written = 0;
        }
    }
}

/// What is encoded, part by part.
#[derive(Debug, Default)]
struct Parts {
    whole: VecDeque<Vec<u8>>,
    w: Writer,
}

impl Parts {
    /// Begins another part where this one is long enough.
    fn may_end(&mut self) {
        if self.w.0.len() >= PART_BYTES {
            self.whole
                .push_back(std::mem::replace(&mut self.w.0, Vec::with_capacity(PART_BYTES + PART_SPARE)));
        }
    }

    fn finish(mut self) -> Encoded {
        if !self.w.0.is_empty() {
            self.whole.push_back(self.w.0);
        }
        let mut verify = Verify::default();
        self.whole.iter().for_each(|part| verify.take(part));
        if let Some(first) = self.whole.front_mut() {
            LittleEndian::write_u32(&mut first[12..], verify.hasher.finalize());
        }
        Encoded { bytes: verify.read, parts: self.whole, written: 0 }
    }
}

/// The file for the ledger as it is now.
pub(crate) fn encode(store_id: u64, epoch: Epoch, ledger: &Ledger) -> Encoded {
    let mut parts = Parts::default();
    let w = &mut parts.w;
    w.0.extend_from_slice(MAGIC);
    w.u16(CHECKPOINT_VERSION);
    w.u16(0);
    w.u32(0);
    for field in [store_id, epoch.0, ledger.cut.0, ledger.next_queue.0] {
        w.u64(field);
    }
    w.u32(u32::try_from(ledger.facts.len()).expect("fewer than 4 billion facts fit into memory"));
    for (key, value) in &ledger.facts {
        parts.w.bytes(key);
        parts.w.bytes(value);
        parts.may_end();
    }
    parts.w.u32(u32::try_from(ledger.queues.len()).expect("fewer than 4 billion queues fit into memory"));
    for (id, queue) in &ledger.queues {
        for field in [id.0, queue.next.0, queue.head.0, queue.redelivered_below.0] {
            parts.w.u64(field);
        }
        places(&mut parts.w, &queue.dead);
        places(&mut parts.w, &queue.redelivered);
        parts.may_end();
    }
    encode_blobs(ledger, &mut parts);
    parts.finish()
}

/// Bodies that live, each with the places that name it.
fn encode_blobs(ledger: &Ledger, parts: &mut Parts) {
    let mut named: BTreeMap<BlobPlace, Vec<(QueueId, Seq)>> = BTreeMap::new();
    for (id, queue) in &ledger.queues {
        for (seq, place) in &queue.blobs {
            named.entry(*place).or_default().push((*id, *seq));
        }
    }
    parts.w.u32(u32::try_from(named.len()).expect("fewer than 4 billion bodies fit onto a disk"));
    for (BlobPlace { file, offset, bytes, crc }, targets) in named {
        let w = &mut parts.w;
        w.u64(file.0);
        w.u64(offset);
        w.u64(bytes);
        w.u32(crc);
        w.u32(u32::try_from(targets.len()).expect("fewer than 4 billion places fit into memory"));
        for (queue, seq) in targets {
            w.u64(queue.0);
            w.u64(seq.0);
        }
        parts.may_end();
    }
}

fn decode_blobs(r: &mut Reader, ledger: &mut Ledger) -> Parsed<()> {
    for _ in 0..r.count(32)? {
        let place = BlobPlace { file: FileId(r.u64()?), offset: r.u64()?, bytes: r.u64()?, crc: r.u32()? };
        for _ in 0..r.count(16)? {
            let (queue, seq) = (QueueId(r.u64()?), Seq(r.u64()?));
            ledger.name_blob(queue, seq, place);
        }
    }
    Ok(())
}

/// Reads a checkpoint file's bytes, verifying all of it.
pub(crate) fn decode(name: &str, bytes: Bytes) -> Result<Checkpoint> {
    let damage = |what: &str| Error::damage(name, 0, what);
    if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
        return Err(damage("it has no checkpoint header"));
    }
    if checksum(&bytes) != LittleEndian::read_u32(&bytes[12..]) {
        return Err(damage("its checksum does not match"));
    }
    let version = LittleEndian::read_u16(&bytes[8..]);
    if version > CHECKPOINT_VERSION {
        return Err(Error::NewerFormat { file: name.into(), found: version, known: CHECKPOINT_VERSION });
    }
    decode_body(bytes.slice(HEADER_BYTES..), version).map_err(|e| damage(&e.to_string()))
}

/// Verifies a checkpoint file's checksum part by part.
#[derive(Debug, Default)]
pub(crate) struct Verify {
    hasher: crc32fast::Hasher,
    header: Vec<u8>,
    read: u64,
}

impl Verify {
    /// Takes the next bytes of the file.
    pub(crate) fn take(&mut self, mut part: &[u8]) {
        self.read += part.len() as u64;
        if self.header.len() < HEADER_BYTES {
            let (front, rest) = part.split_at(part.len().min(HEADER_BYTES - self.header.len()));
            self.header.extend_from_slice(front);
            part = rest;
            if self.header.len() == HEADER_BYTES {
                self.hasher.update(&self.header[..12]);
                self.hasher.update(&[0; 4]);
            }
        }
        self.hasher.update(part);
    }

    /// Bytes taken so far.
    pub(crate) fn read(&self) -> u64 {
        self.read
    }

    /// Whether what was taken is a whole checkpoint.
    pub(crate) fn matches(&self) -> bool {
        self.header.len() == HEADER_BYTES
            && &self.header[..8] == MAGIC
            && self.hasher.clone().finalize() == LittleEndian::read_u32(&self.header[12..])
    }
}

/// Over the whole file but for the field that holds it.
fn checksum(file: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&file[..12]);
    hasher.update(&[0; 4]);
    hasher.update(&file[HEADER_BYTES..]);
    hasher.finalize()
}

fn decode_body(bytes: Bytes, version: u16) -> Parsed<Checkpoint> {
    let mut r = Reader::new(bytes);
    let (store_id, epoch) = (r.u64()?, Epoch(r.u64()?));
    let mut ledger = Ledger::new();
    ledger.cut = FrameNo(r.u64()?);
    ledger.next_queue = QueueId(r.u64()?);
    // Collected, since a tree that is made of what is sorted has full nodes, and one that grows half full ones.
    let facts = (0..r.count(8)?).map(|_| Ok((Box::from(&r.bytes()?[..]), Box::from(&r.bytes()?[..]))));
    ledger.facts = facts.collect::<Parsed<_>>()?;
    let queues = (0..r.count(40)?).map(|_| {
        let id = QueueId(r.u64()?);
        let (next, head, redelivered_below) = (Seq(r.u64()?), Seq(r.u64()?), Seq(r.u64()?));
        let (dead, redelivered) = (read_places(&mut r)?, read_places(&mut r)?);
        let queue = Queue::restored(next, head, dead, redelivered_below, redelivered);
        Ok((id, Box::new(queue)))
    });
    ledger.queues = queues.collect::<Parsed<_>>()?;
    if version >= 2 {
        decode_blobs(&mut r, &mut ledger)?;
    }
    r.end()?;
    Ok(Checkpoint { store_id, epoch, ledger })
}

fn places(w: &mut Writer, places: &Places) {
    if places.is_empty() {
        return w.u32(0);
    }
    let mut bytes = Vec::new();
    places.encode(&mut bytes);
    w.bytes(&bytes);
}

fn read_places(r: &mut Reader) -> Parsed<Places> {
    let bytes = r.bytes()?;
    if bytes.is_empty() { Ok(Places::default()) } else { Places::decode(&bytes).map_err(Malformed) }
}

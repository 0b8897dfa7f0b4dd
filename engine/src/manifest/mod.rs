//! The manifest: the one durable root. It says which files belong to the store and where each ended. Version 3. Version
//! 2 added settled segments, version 3 blob files; older ones are read.
//!
//! ```text
//! file = magic "LVRTMAN1" 8 | version u16 | reserved u16 | crc u32 | store id u64 | first edit u64
//!        (crc over the 32 bytes with the crc field zero) | edits
//! edit = length u32 (of what follows the crc) | crc u32 (over the rest) | number u64 | crc of the edit before u32
//!        | kind u8 | body
//! ```
//!
//! The first edit of a file is the whole state; the others change it. Every open writes the file afresh, and so an
//! edit is only ever appended behind edits that this process has written (E5).

use std::io;
use std::sync::{Arc, PoisonError};

use byteorder::{ByteOrder, LittleEndian};
use bytes::Bytes;

use crate::codec::Reader;
use crate::controls::crc_differs;
use crate::disk::{Disk, DiskFile};
use crate::error::{DIRECTORY, Error, Result, is_full};
use crate::ids::EditNo;
use crate::sync::{Mutex, MutexGuard};

mod edit;
#[cfg(test)]
mod tests;

pub(crate) use edit::{CheckpointEntry, Edit, SegmentEnd, SegmentEntry, SettledEntry, State};

pub(crate) const MANIFEST_NAME: &str = "MANIFEST";
pub(crate) const MANIFEST_TMP_NAME: &str = "MANIFEST.tmp";
/// The version of this format that is written; older ones are read.
const MANIFEST_VERSION: u16 = 3;
/// The file is written afresh once it is longer than this.
const REWRITE_BYTES: u64 = 1 << 20;
/// Room for edits beyond that length, for as long as the disk has none for writing it afresh.
const ROOM_BYTES: u64 = 1 << 20;

const MAGIC: &[u8; 8] = b"LVRTMAN1";
const HEADER_BYTES: usize = 32;
const EDIT_HEADER_BYTES: usize = 8;

/// The open manifest. Edits are appended, then synced; anybody may do either, in any order, and an edit is durable
/// once a sync that began after its append has returned.
#[derive(Debug)]
pub(crate) struct Manifest {
    disk: Arc<dyn Disk>,
    open: Mutex<Open>,
    /// Held over a sync: the system tells a failure to one of those who sync the same file, and the others must not take
    /// what they wrote for durable.
    syncing: Mutex<()>,
}

#[derive(Debug)]
struct Open {
    file: Arc<dyn DiskFile>,
    offset: u64,
    last: EditNo,
    last_crc: u32,
    durable: EditNo,
    /// Length of the file when it was written afresh.
    first_bytes: u64,
    state: State,
    /// What failed in a way after which nothing is known of the file any more. Nothing is written or synced then.
    failed: Option<String>,
}

/// What a manifest file holds.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) state: State,
    pub(crate) last: EditNo,
    /// Bytes behind the last good edit: a torn tail, or damage if the log knows of more edits.
    pub(crate) tail: Option<Tail>,
    /// Every edit, for `inspect`.
    pub(crate) edits: Vec<(EditNo, Edit)>,
}

/// Where the good edits end and why.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
    pub(crate) why: String,
}

impl Manifest {
    /// Writes the whole state under the manifest's name, durably, and keeps it open for edits. `last` is the newest
    /// edit before it.
    pub(crate) fn write(disk: &Arc<dyn Disk>, state: State, last: EditNo) -> Result<Self> {
        let open = write_file(disk.as_ref(), state, last)?;
        Ok(Self { disk: Arc::clone(disk), open: Mutex::new(open), syncing: Mutex::new(()) })
    }

    /// Appends edits with one write. They hold in memory at once, on the disk after the next [`Manifest::sync`].
    pub(crate) fn append(&self, edits: &[Edit]) -> Result<EditNo> {
        let mut open = self.lock();
        open.check("write")?;
        let mut bytes = Vec::new();
        let (mut last, mut crc) = (open.last, open.last_crc);
        for edit in edits {
            last = last.next();
            crc = encode_edit(last, crc, edit, &mut bytes);
        }
        open.file.write_at(open.offset, &bytes).map_err(Error::io("write", MANIFEST_NAME))?;
        open.offset += bytes.len() as u64;
        (open.last, open.last_crc) = (last, crc);
        for edit in edits {
            open.state.apply(edit).map_err(|e| Error::damage(MANIFEST_NAME, open.offset, e.to_string()))?;
        }
        Ok(last)
    }

    /// Makes every edit so far durable. Once that has failed it fails for ever, for everybody.
    pub(crate) fn sync(&self) -> Result<()> {
        let _syncing = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, upto) = {
            let open = self.lock();
            open.check("sync")?;
            (Arc::clone(&open.file), open.last)
        };
        let synced = file.sync().map_err(Error::io("sync", MANIFEST_NAME));
        let mut open = self.lock();
        if let Err(error) = synced {
            open.failed = Some(error.to_string());
            return Err(error);
        }
        open.durable = open.durable.max(upto);
        Ok(())
    }

    /// The newest edit known durable.
    pub(crate) fn durable(&self) -> EditNo {
        self.lock().durable
    }

    /// A copy of the state, durable or not.
    pub(crate) fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// Whether it has grown long enough to be written afresh.
    pub(crate) fn is_long(&self) -> bool {
        let open = self.lock();
        // A state that is long by itself is not written over and over.
        open.offset > REWRITE_BYTES.max(2 * open.first_bytes)
    }

    /// Writes it afresh. Holds everybody else off meanwhile. Where there is no room for it the old one is as good as it was;
    /// any other failure is fatal: what stands under the name may be the new one, to which nothing more would be added, and
    /// so nothing is added to the old one either.
    pub(crate) fn rewrite(&self) -> Result<()> {
        let mut open = self.lock();
        open.check("rewrite")?;
        match write_file(self.disk.as_ref(), open.state.clone(), open.last) {
            Ok(fresh) => *open = fresh,
            Err(error) => {
                if !error.is_full() {
                    open.failed = Some(error.to_string());
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Refuses what is to be done after a failure.
    fn check(&self, op: &'static str) -> Result<()> {
        let refused = |failed: &String| Error::io(op, MANIFEST_NAME)(io::Error::other(failed.clone()));
        self.failed.as_ref().map_or(Ok(()), |failed| Err(refused(failed)))
    }
}

/// Reads the manifest; None when there is none. Verifies every checksum and the chain.
pub(crate) fn load(disk: &dyn Disk) -> Result<Option<Loaded>> {
    if !disk
        .list()
        .map_err(Error::io("list", "the data directory"))?
        .iter()
        .any(|(name, _)| name == MANIFEST_NAME)
    {
        return Ok(None);
    }
    let file = disk.open(MANIFEST_NAME).map_err(Error::io("open", MANIFEST_NAME))?;
    let length = file.len().map_err(Error::io("read the length of", MANIFEST_NAME))?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
    file.read_at(0, &mut bytes).map_err(Error::io("read", MANIFEST_NAME))?;
    parse(Bytes::from(bytes)).map(Some)
}

/// Reads a manifest file's bytes.
pub(crate) fn parse(bytes: Bytes) -> Result<Loaded> {
    let (store_id, first) = parse_header(&bytes)?;
    let mut offset = HEADER_BYTES;
    let mut state: Option<State> = None;
    let mut edits = Vec::new();
    let mut tail = None;
    let (mut number, mut crc) = (EditNo(first.0 - 1), 0);
    while offset < bytes.len() {
        match parse_edit(&bytes.slice(offset..), number.next(), crc) {
            Ok((edit, edit_crc, length)) => {
                let applied = match (&mut state, &edit) {
                    (None, Edit::State(whole)) => {
                        state = Some((**whole).clone());
                        Ok(())
                    }
                    (None, _) => Err("the first edit is not the whole state".to_owned()),
                    (Some(state), edit) => state.apply(edit).map_err(|e| e.to_string()),
                };
                applied.map_err(|what| Error::damage(MANIFEST_NAME, offset as u64, what))?;
                number = number.next();
                crc = edit_crc;
                offset += length;
                edits.push((number, edit));
            }
            Err(why) => {
                tail = Some(Tail { offset: offset as u64, bytes: (bytes.len() - offset) as u64, why });
                break;
            }
        }
    }
    // The first edit was synced before the file got its name: without it this is no torn tail.
    let Some(state) = state else {
        let why = tail.map_or_else(|| "it holds no state".to_owned(), |tail| tail.why);
        return Err(Error::damage(MANIFEST_NAME, HEADER_BYTES as u64, why));
    };
    if state.store_id != store_id {
        return Err(Error::damage(MANIFEST_NAME, 16, "header and state name different stores"));
    }
    Ok(Loaded { state, last: number, tail, edits })
}

fn parse_header(bytes: &[u8]) -> Result<(u64, EditNo)> {
    let damage = |what: &str| Error::damage(MANIFEST_NAME, 0, what);
    if bytes.len() < HEADER_BYTES || &bytes[..8] != MAGIC {
        return Err(damage("it has no manifest header"));
    }
    let mut header = [0; HEADER_BYTES];
    header.copy_from_slice(&bytes[..HEADER_BYTES]);
    header[12..16].fill(0);
    if crc_differs(crc32fast::hash(&header), LittleEndian::read_u32(&bytes[12..])) {
        return Err(damage("the header's checksum does not match"));
    }
    let version = LittleEndian::read_u16(&bytes[8..]);
    if version > MANIFEST_VERSION {
        return Err(Error::NewerFormat {
            file: MANIFEST_NAME.into(),
            found: version,
            known: MANIFEST_VERSION,
        });
    }
    let first = LittleEndian::read_u64(&bytes[24..]);
    if first == 0 {
        return Err(damage("edits are numbered from 1"));
    }
    Ok((LittleEndian::read_u64(&bytes[16..]), EditNo(first)))
}

fn parse_edit(bytes: &Bytes, expected: EditNo, prev_crc: u32) -> Result<(Edit, u32, usize), String> {
    let mut reader = Reader::new(bytes.clone());
    let parse = |reader: &mut Reader| {
        let length = reader.u32()? as usize;
        let crc = reader.u32()?;
        Ok((reader.take(length)?, crc, length))
    };
    let (body, crc, length) = parse(&mut reader).map_err(|e: crate::codec::Malformed| e.to_string())?;
    if crc_differs(crc32fast::hash(&body), crc) {
        return Err("an edit's checksum does not match".into());
    }
    let mut body = Reader::new(body);
    let header = |body: &mut Reader| Ok((EditNo(body.u64()?), body.u32()?));
    let (number, prev) = header(&mut body).map_err(|e: crate::codec::Malformed| e.to_string())?;
    if number != expected || prev != prev_crc {
        return Err(format!("edit {number} does not follow edit {}", expected.0 - 1));
    }
    let edit = Edit::decode(&mut body).map_err(|e| e.to_string())?;
    Ok((edit, crc, EDIT_HEADER_BYTES + length))
}

fn encode_edit(number: EditNo, prev_crc: u32, edit: &Edit, out: &mut Vec<u8>) -> u32 {
    let mut body = crate::codec::Writer::default();
    body.u64(number.0);
    body.u32(prev_crc);
    edit.encode(&mut body);
    let crc = crc32fast::hash(&body.0);
    out.extend_from_slice(&u32::try_from(body.0.len()).expect("an edit is small").to_le_bytes());
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&body.0);
    crc
}

/// The front of a file whose first edit has that number.
fn encode_header(store_id: u64, first: EditNo) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    LittleEndian::write_u16(&mut bytes[8..], MANIFEST_VERSION);
    LittleEndian::write_u64(&mut bytes[16..], store_id);
    LittleEndian::write_u64(&mut bytes[24..], first.0);
    let crc = crc32fast::hash(&bytes);
    LittleEndian::write_u32(&mut bytes[12..], crc);
    bytes
}

/// A whole file.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn encode_file(store_id: u64, first: EditNo, edits: &[Edit]) -> Vec<u8> {
    let mut bytes = encode_header(store_id, first);
    let (mut number, mut crc) = (first, 0);
    for edit in edits {
        crc = encode_edit(number, crc, edit, &mut bytes);
        number = number.next();
    }
    bytes
}

fn write_file(disk: &dyn Disk, state: State, last: EditNo) -> Result<Open> {
    let number = last.next();
    let mut bytes = encode_header(state.store_id, number);
    let edit = Edit::State(Box::new(state));
    let last_crc = encode_edit(number, 0, &edit, &mut bytes);
    let Edit::State(state) = edit else { unreachable!("made two lines above") };

    let exists = disk.list().map_err(Error::io("list", "the data directory"))?;
    if exists.iter().any(|(name, _)| name == MANIFEST_TMP_NAME) {
        disk.remove(MANIFEST_TMP_NAME).map_err(Error::io("remove", MANIFEST_TMP_NAME))?;
    }
    let file = disk.create(MANIFEST_TMP_NAME, 0).map_err(Error::io("create", MANIFEST_TMP_NAME))?;
    file.write_at(0, &bytes).map_err(Error::io("write", MANIFEST_TMP_NAME))?;
    // Room of its own for edits, so that a full disk does not stop what makes room (E11). Without it they may have to wait.
    match file.allocate(REWRITE_BYTES.max(2 * bytes.len() as u64) + ROOM_BYTES) {
        Err(error) if !is_full(error.kind()) => {
            return Err(Error::io("allocate", MANIFEST_TMP_NAME)(error));
        }
        _ => {}
    }
    file.sync().map_err(Error::io("sync", MANIFEST_TMP_NAME))?;
    disk.rename(MANIFEST_TMP_NAME, MANIFEST_NAME).map_err(Error::io("rename", MANIFEST_TMP_NAME))?;
    disk.sync_dir().map_err(Error::io("sync", DIRECTORY))?;
    let offset = bytes.len() as u64;
    Ok(Open {
        file,
        offset,
        last: number,
        last_crc,
        durable: number,
        first_bytes: offset,
        state: *state,
        failed: None,
    })
}

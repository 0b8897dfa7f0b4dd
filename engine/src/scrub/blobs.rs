//! A blob file: its header, and every body that lives as of the durable log. What nothing names, or only somebody in
//! flight, is not looked at.

use std::sync::Arc;

use super::{Damage, READ_BYTES, Read, cannot_be_read};
use crate::blobs::{BODY_HEADER_BYTES, BlobPlace, BlobRef, blob_name, read_header};
use crate::disk::DiskFile;
use crate::format::BLOCK_BYTES;
use crate::ids::{FileId, QueueId};
use crate::shared::{Shared, lock};

#[derive(Debug)]
pub(super) struct BlobScrub {
    id: FileId,
    /// Offset from which the next body is looked for; 0 before the file's header was read.
    from: u64,
    body: Option<Body>,
}

/// The body that is read.
#[derive(Debug)]
struct Body {
    place: BlobPlace,
    /// While this is held its blocks are not given back.
    _blob: BlobRef,
    file: Arc<dyn DiskFile>,
    /// Bytes read, those of the header before it included.
    read: u64,
    crc: crc32fast::Hasher,
}

impl BlobScrub {
    pub(super) fn new(id: FileId) -> Self {
        Self { id, from: 0, body: None }
    }

    /// Reads the file's header, or a part of a body.
    pub(super) fn advance(&mut self, shared: &Arc<Shared>) -> Read {
        if self.from == 0 {
            return self.read_header(shared);
        }
        match self.body.take() {
            Some(body) => self.read_part(shared, body),
            None => self.next_body(shared),
        }
    }

    fn read_header(&mut self, shared: &Shared) -> Read {
        self.from = BLOCK_BYTES as u64;
        let file = lock(&shared.blobs).files.get(&self.id).and_then(|file| file.file.clone());
        // One that is gone by now has nothing to be read; one that could not be opened was told then.
        let Some(file) = file else { return Read { done: true, ..Read::default() } };
        let name = blob_name(self.id);
        let what = match read_header(file.as_ref(), &name, BLOCK_BYTES as u64) {
            Ok(Ok(header)) if header.store_id == shared.store_id && header.file == self.id => None,
            Ok(Ok(_)) => Some("it is not the blob file that the manifest lists".to_owned()),
            Ok(Err(why)) => Some(why),
            Err(error) => Some(error.to_string()),
        };
        let damage = what.map(|what| Damage {
            concerned: named(shared, |place| place.file == self.id),
            file: name,
            offset: 0,
            what: format!("{what}; its bodies are read all the same, but not after a start"),
        });
        Read { bytes: BLOCK_BYTES as u64, damage: damage.into_iter().collect(), done: false }
    }

    fn next_body(&mut self, shared: &Arc<Shared>) -> Read {
        // Held while the ledger is: what lives there cannot be given back meanwhile.
        let ledger = lock(&shared.ledger);
        let Some(place) = ledger.blobs.next_of_file(self.id, self.from) else {
            return Read { done: true, ..Read::default() };
        };
        self.from = place.end();
        let held = lock(&shared.blobs).hold(shared, place);
        drop(ledger);
        if let Ok((blob, file)) = held {
            self.body = Some(Body { place, _blob: blob, file, read: 0, crc: crc32fast::Hasher::new() });
        }
        Read::default()
    }

    fn read_part(&mut self, shared: &Shared, mut body: Body) -> Read {
        let place = body.place;
        let header = BODY_HEADER_BYTES as u64;
        let length = READ_BYTES.min(header + place.bytes - body.read);
        let mut part = vec![0; length as usize];
        let offset = place.offset + body.read;
        let damage = |what: String, concerned| Damage {
            file: blob_name(place.file),
            offset: place.offset,
            what,
            concerned,
        };
        let lost = |why: String| damage(why, named(shared, |named| named == place));
        if let Err(error) = body.file.read_at(offset, &mut part) {
            return Read { damage: vec![lost(cannot_be_read(&error))], ..Read::default() };
        }
        body.file.will_not_read(offset, length);
        let mut read = Read { bytes: length, ..Read::default() };
        let mut rest = &part[..];
        if body.read == 0 {
            let (before, behind) = part.split_at(BODY_HEADER_BYTES);
            if before != place.encode_header() {
                let what = "the header before a body is not what was written; the body is read without it";
                read.damage.push(damage(what.to_owned(), Vec::new()));
            }
            rest = behind;
        }
        body.crc.update(rest);
        body.read += length;
        if body.read < header + place.bytes {
            self.body = Some(body);
        } else if body.crc.finalize() != place.crc {
            read.damage.push(lost("the checksum of the body does not match".to_owned()));
        }
        read
    }
}

/// Per queue, live messages whose bodies are among those.
fn named(shared: &Shared, among: impl Fn(BlobPlace) -> bool) -> Vec<(QueueId, u64)> {
    let ledger = lock(&shared.ledger);
    let count = |queue: &crate::ledger::Queue| {
        queue.blobs.iter().filter(|(seq, place)| among(**place) && queue.is_live(**seq)).count() as u64
    };
    ledger.queues.iter().map(|(id, queue)| (*id, count(queue))).filter(|(_, count)| *count > 0).collect()
}

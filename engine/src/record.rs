//! Records: what the payload of a group of frames, and the front of a settled segment, consists of. Version 1.
//!
//! ```text
//! record  = kind u8 | reserved u8, u16 | length of the body u32 | crc u32 (over the 8 bytes before and the body) | body
//! put     = targets u32 | (queue u64, seq u64) x targets | payload
//! blobput = blob file u64 | offset u64 | length u64 | crc u32 | like put; what follows the payload stands there
//! ack     = queue u64 | first seq u64 | last seq u64
//! fact    = key length u32 | key | value length u32 | value
//! unfact  = key length u32 | key
//! created = queue u64          deleted = queue u64
//! ```
//!
//! The crc travels with the record. Kind 0 is never valid, so that zeros never parse.

use byteorder::{ByteOrder, LittleEndian};
use bytes::Bytes;

use crate::batch::{Batch, Messages};
use crate::blobs::{BlobPlace, BlobRef};
use crate::codec::{Malformed, Parsed, Reader, Writer};
use crate::controls::crc_differs;
use crate::ids::{FileId, QueueId, Seq};

#[cfg(test)]
mod tests;

pub(crate) const RECORD_HEADER_BYTES: usize = 12;

// On disk. Never renumber.
const PUT: u8 = 1;
const ACK: u8 = 2;
const FACT: u8 = 3;
const UNFACT: u8 = 4;
const QUEUE_CREATED: u8 = 5;
const QUEUE_DELETED: u8 = 6;
const BLOB_PUT: u8 = 7;

/// One record as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Put { targets: Vec<(QueueId, Seq)>, payload: Bytes, blob: Option<BlobPlace> },
    Ack { queue: QueueId, first: Seq, last: Seq },
    Fact { key: Bytes, value: Bytes },
    Unfact { key: Bytes },
    QueueCreated { queue: QueueId },
    QueueDeleted { queue: QueueId },
}

/// A message's places and its payload.
pub(crate) type Message = (Vec<(QueueId, Seq)>, Bytes);

/// A batch as the log takes it.
#[derive(Debug, Default)]
pub(crate) struct Encoded {
    /// Its records, in the order in which they take effect.
    pub(crate) records: Vec<u8>,
    pub(crate) count: u32,
    pub(crate) changes: Changes,
}

/// What becomes of the ledger by a batch, in the order of the fields.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) queues_created: Vec<QueueId>,
    pub(crate) holes: Vec<(QueueId, Seq, Seq)>,
    /// Places of messages, as inclusive ranges, those of each queue in order.
    pub(crate) runs: Vec<(QueueId, Seq, Seq)>,
    /// Those of them whose body stands in a blob file.
    pub(crate) blobs: Vec<(QueueId, Seq, BlobRef)>,
    pub(crate) acks: Vec<(QueueId, Seq, Seq)>,
    pub(crate) facts: Vec<(Bytes, Option<Bytes>)>,
    pub(crate) queues_deleted: Vec<QueueId>,
}

/// Makes a batch's records.
pub(crate) fn encode_batch(mut batch: Batch) -> Encoded {
    batch.gather();
    let Batch { queues_created, holes, messages, puts: _, acks, facts, queues_deleted } = batch;
    let Messages { records: mut out, count, runs, blobs } = messages;
    let singles = queues_created.len() + holes.len() + acks.len() + facts.len() + queues_deleted.len();
    if !queues_created.is_empty() || !holes.is_empty() {
        let messages = std::mem::take(&mut out.0);
        for queue in &queues_created {
            encode(&mut out, QUEUE_CREATED, |w| w.u64(queue.0));
        }
        // Acks of transient places come before the put that closes the hole; a replay in order sees no live hole.
        for (queue, first, last) in &holes {
            encode(&mut out, ACK, |w| ack(w, *queue, *first, *last));
        }
        out.0.extend_from_slice(&messages);
    }
    for (queue, first, last) in &acks {
        encode(&mut out, ACK, |w| ack(w, *queue, *first, *last));
    }
    for (key, value) in &facts {
        match value {
            Some(value) => encode(&mut out, FACT, |w| {
                w.bytes(key);
                w.bytes(value);
            }),
            None => encode(&mut out, UNFACT, |w| w.bytes(key)),
        }
    }
    for queue in &queues_deleted {
        encode(&mut out, QUEUE_DELETED, |w| w.u64(queue.0));
    }
    let count = count + u32::try_from(singles).expect("records fit into a segment");
    let changes = Changes { queues_created, holes, runs, blobs, acks, facts, queues_deleted };
    Encoded { records: out.0, count, changes }
}

/// Appends the record of a message, as the log and volatile segments hold it, with the payload that `payload` appends.
pub(crate) fn encode_message(
    targets: &[(QueueId, Seq)],
    blob: Option<BlobPlace>,
    out: &mut Writer,
    payload: impl FnOnce(&mut Vec<u8>),
) {
    encode(out, put_kind(blob), |w| {
        encode_place(blob, w);
        w.u32(u32::try_from(targets.len()).expect("targets fit into a segment"));
        for (queue, seq) in targets {
            w.u64(queue.0);
            w.u64(seq.0);
        }
        payload(&mut w.0);
    });
}

/// Appends the record of a message in one queue, as a settled segment holds it.
pub(crate) fn encode_put(queue: QueueId, seq: Seq, stored: Stored<'_>, out: &mut Writer) {
    encode(out, put_kind(stored.blob), |w| {
        encode_place(stored.blob, w);
        w.u32(1);
        w.u64(queue.0);
        w.u64(seq.0);
        w.0.extend_from_slice(stored.payload);
    });
}

fn put_kind(blob: Option<BlobPlace>) -> u8 {
    if blob.is_some() { BLOB_PUT } else { PUT }
}

fn encode_place(blob: Option<BlobPlace>, w: &mut Writer) {
    let Some(BlobPlace { file, offset, bytes, crc }) = blob else { return };
    w.u64(file.0);
    w.u64(offset);
    w.u64(bytes);
    w.u32(crc);
}

/// The place at the front of a record of that kind, and what follows it; None where there is too little.
fn split_place(kind: u8, body: &[u8]) -> Option<(Option<BlobPlace>, &[u8])> {
    if kind != BLOB_PUT {
        return Some((None, body));
    }
    let (place, rest) = body.split_at_checked(BlobPlace::RECORD_BYTES)?;
    let field = |at: usize| LittleEndian::read_u64(&place[at..]);
    let (file, offset, bytes) = (FileId(field(0)), field(8), field(16));
    Some((Some(BlobPlace { file, offset, bytes, crc: LittleEndian::read_u32(&place[24..]) }), rest))
}

/// What a record holds of a message: its payload, and where what follows it stands, if that is in a blob file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) blob: Option<BlobPlace>,
}

impl<'a> Stored<'a> {
    /// All of it is in the record.
    #[cfg(test)]
    pub(crate) fn whole(payload: &'a [u8]) -> Self {
        Self { payload, blob: None }
    }

    /// Bytes that [`encode_put`] appends for it.
    pub(crate) fn put_bytes(&self) -> usize {
        let place = self.blob.map_or(0, |_| BlobPlace::RECORD_BYTES);
        RECORD_HEADER_BYTES + place + 4 + 16 + self.payload.len()
    }
}

/// A record of a message in one queue, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OnePut<'a> {
    pub(crate) queue: QueueId,
    pub(crate) seq: Seq,
    pub(crate) stored: Stored<'a>,
    /// Bytes of the whole record.
    pub(crate) bytes: usize,
}

/// Reads, in place, the record of a message in one queue at the front of `bytes`. Ok(Err(length)) when so many bytes
/// would be needed for it.
pub(crate) fn parse_put(bytes: &[u8]) -> Parsed<Result<OnePut<'_>, usize>> {
    let Some(header) = bytes.get(..RECORD_HEADER_BYTES) else { return Ok(Err(RECORD_HEADER_BYTES)) };
    let length = LittleEndian::read_u32(&header[4..]) as usize;
    let whole = RECORD_HEADER_BYTES + length;
    let least = if header[0] == BLOB_PUT { 20 + BlobPlace::RECORD_BYTES } else { 20 };
    if !matches!(header[0], PUT | BLOB_PUT) || length < least {
        return Err(Malformed("no message's record stands there".into()));
    }
    let Some(body) = bytes.get(RECORD_HEADER_BYTES..whole) else { return Ok(Err(whole)) };
    if crc_differs(crc(&header[..8], body), LittleEndian::read_u32(&header[8..])) {
        return Err(Malformed("a record's checksum does not match".into()));
    }
    let Some((blob, body)) = split_place(header[0], body) else {
        return Err(Malformed("a message's record is cut off".into()));
    };
    if LittleEndian::read_u32(body) != 1 {
        return Err(Malformed("a message's record names several queues".into()));
    }
    let (queue, seq) = (LittleEndian::read_u64(&body[4..]), LittleEndian::read_u64(&body[12..]));
    let stored = Stored { payload: &body[20..], blob };
    Ok(Ok(OnePut { queue: QueueId(queue), seq: Seq(seq), stored, bytes: whole }))
}

/// A record in place.
#[derive(Debug)]
pub(crate) enum Walked<'a> {
    Put(WalkedPut<'a>),
    Ack { queue: QueueId, first: Seq, last: Seq },
    Other(Record),
}

/// A message's record in place. Its own checksum was not looked at: see [`WalkedPut::verify`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct WalkedPut<'a> {
    pub(crate) record: &'a [u8],
    pub(crate) targets: Targets<'a>,
    pub(crate) stored: Stored<'a>,
}

impl WalkedPut<'_> {
    pub(crate) fn verify(&self) -> Parsed<()> {
        let (header, body) = self.record.split_at(RECORD_HEADER_BYTES);
        if crc_differs(crc(&header[..8], body), LittleEndian::read_u32(&header[8..])) {
            return Err(Malformed("a record's checksum does not match".into()));
        }
        Ok(())
    }

    /// Appends its record for one place, as a settled segment holds it: as it stands, with its checksum, where it is of that
    /// place alone.
    pub(crate) fn copy_for(&self, queue: QueueId, seq: Seq, out: &mut Writer) {
        match self.targets.only() {
            Some(place) if place == (queue, seq) => out.0.extend_from_slice(self.record),
            _ => encode_put(queue, seq, self.stored, out),
        }
    }
}

/// A message's places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Targets<'a>(&'a [u8]);

impl Targets<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueueId, Seq)> {
        let each = self.0.chunks_exact(16);
        each.map(|at| (QueueId(LittleEndian::read_u64(at)), Seq(LittleEndian::read_u64(&at[8..]))))
    }

    /// The one place, if there are no more.
    fn only(&self) -> Option<(QueueId, Seq)> {
        self.iter().next().filter(|_| self.0.len() == 16)
    }
}

/// The message's record that `record` is.
pub(crate) fn walk_put(record: &[u8]) -> Parsed<WalkedPut<'_>> {
    let short = || Malformed("a message's record is cut off".into());
    let (header, body) = record.split_at_checked(RECORD_HEADER_BYTES).ok_or_else(short)?;
    let (blob, body) = split_place(header[0], body).filter(|(_, body)| body.len() >= 4).ok_or_else(short)?;
    let count = LittleEndian::read_u32(body) as usize;
    let rest = &body[4..];
    let places = count.checked_mul(16).and_then(|bytes| rest.split_at_checked(bytes));
    let too_many = || Malformed(format!("{count} places where {} bytes are left", rest.len()));
    let (targets, payload) = places.ok_or_else(too_many)?;
    Ok(WalkedPut { record, targets: Targets(targets), stored: Stored { payload, blob } })
}

/// Walks over the records of a group's payload without copying them: a restart reads millions. Their own checksums are
/// left to whoever reads the messages; the frame's covers the same bytes and was verified.
pub(crate) fn walk_group(payload: &Bytes, mut each: impl FnMut(Walked<'_>)) -> Parsed<()> {
    let mut at = 0;
    while at < payload.len() {
        let Some(header) = payload.get(at..at + RECORD_HEADER_BYTES) else {
            return Err(Malformed("a record's header is cut off".into()));
        };
        let end = at + RECORD_HEADER_BYTES + LittleEndian::read_u32(&header[4..]) as usize;
        let Some(record) = payload.get(at..end) else {
            return Err(Malformed("a record is cut off".into()));
        };
        let body = &record[RECORD_HEADER_BYTES..];
        match header[0] {
            PUT | BLOB_PUT => each(Walked::Put(walk_put(record)?)),
            ACK if body.len() == 24 => {
                let field = |at: usize| LittleEndian::read_u64(&body[at..]);
                let (first, last) = (Seq(field(8)), Seq(field(16)));
                if first.0 == 0 || first > last {
                    return Err(Malformed(format!("an ack of places {first} to {last}")));
                }
                each(Walked::Ack { queue: QueueId(field(0)), first, last });
            }
            _ => each(Walked::Other(decode(&mut Reader::new(payload.slice(at..end)))?)),
        }
        at = end;
    }
    Ok(())
}

/// Reads the records of a group's payload.
pub(crate) fn decode_group(payload: Bytes) -> Parsed<Vec<Record>> {
    let mut reader = Reader::new(payload);
    let mut records = Vec::new();
    while reader.left() > 0 {
        records.push(decode(&mut reader)?);
    }
    Ok(records)
}

/// The messages of records that stand together, in order, as far as they are sound; and why no further.
pub(crate) fn decode_messages(records: Bytes) -> (Vec<Message>, Option<Malformed>) {
    let mut reader = Reader::new(records);
    let mut messages = Vec::new();
    while reader.left() > 0 {
        match decode(&mut reader) {
            Ok(Record::Put { targets, payload, .. }) => messages.push((targets, payload)),
            Ok(_) => return (messages, Some(Malformed("a record that is no message's".into()))),
            Err(why) => return (messages, Some(why)),
        }
    }
    (messages, None)
}

fn ack(w: &mut Writer, queue: QueueId, first: Seq, last: Seq) {
    w.u64(queue.0);
    w.u64(first.0);
    w.u64(last.0);
}

fn encode(out: &mut Writer, kind: u8, body: impl FnOnce(&mut Writer)) {
    let start = out.0.len();
    let mut header = [0; RECORD_HEADER_BYTES];
    header[0] = kind;
    out.0.extend_from_slice(&header);
    body(out);
    let length =
        u32::try_from(out.0.len() - start - RECORD_HEADER_BYTES).expect("records fit into a segment");
    out.0[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let crc = crc(&out.0[start..start + 8], &out.0[start + RECORD_HEADER_BYTES..]);
    out.0[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
}

fn decode(reader: &mut Reader) -> Parsed<Record> {
    let header: [u8; RECORD_HEADER_BYTES] = reader.array()?;
    let length = LittleEndian::read_u32(&header[4..]) as usize;
    let body = reader.take(length)?;
    if crc_differs(crc(&header[..8], &body), LittleEndian::read_u32(&header[8..])) {
        return Err(Malformed("a record's checksum does not match".into()));
    }
    let mut body = Reader::new(body);
    let record = match header[0] {
        kind @ (PUT | BLOB_PUT) => {
            let blob = match kind {
                BLOB_PUT => {
                    let (file, offset, bytes) = (FileId(body.u64()?), body.u64()?, body.u64()?);
                    Some(BlobPlace { file, offset, bytes, crc: body.u32()? })
                }
                _ => None,
            };
            let count = body.count(16)?;
            let mut targets = Vec::with_capacity(count);
            for _ in 0..count {
                targets.push((QueueId(body.u64()?), Seq(body.u64()?)));
            }
            let payload = body.take(body.left())?;
            Record::Put { targets, payload, blob }
        }
        ACK => {
            let (queue, first, last) = (QueueId(body.u64()?), Seq(body.u64()?), Seq(body.u64()?));
            if first.0 == 0 || first > last {
                return Err(Malformed(format!("an ack of places {first} to {last}")));
            }
            Record::Ack { queue, first, last }
        }
        FACT => Record::Fact { key: body.bytes()?, value: body.bytes()? },
        UNFACT => Record::Unfact { key: body.bytes()? },
        QUEUE_CREATED => Record::QueueCreated { queue: QueueId(body.u64()?) },
        QUEUE_DELETED => Record::QueueDeleted { queue: QueueId(body.u64()?) },
        kind => return Err(Malformed(format!("a record of unknown kind {kind}"))),
    };
    body.end()?;
    Ok(record)
}

fn crc(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(body);
    hasher.finalize()
}

//! Records: what the payload of a group of frames, and the front of a settled segment, consists of. Version 1.
//!
//! ```text
//! record  = kind u8 | reserved u8, u16 | length of the body u32 | crc u32 (over the 8 bytes before and the body) | body
//! put     = targets u32 | (queue u64, seq u64) x targets | payload
//! ack     = queue u64 | first seq u64 | last seq u64
//! fact    = key length u32 | key | value length u32 | value
//! unfact  = key length u32 | key
//! created = queue u64          deleted = queue u64
//! ```
//!
//! The crc travels with the record. Kind 0 is never valid, so that zeros never parse.

use byteorder::{ByteOrder, LittleEndian};
use bytes::Bytes;

use crate::batch::{Batch, Payload};
use crate::codec::{Malformed, Parsed, Reader, Writer};
use crate::ids::{QueueId, Seq};

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

/// One record as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Put { targets: Vec<(QueueId, Seq)>, payload: Bytes },
    Ack { queue: QueueId, first: Seq, last: Seq },
    Fact { key: Bytes, value: Bytes },
    Unfact { key: Bytes },
    QueueCreated { queue: QueueId },
    QueueDeleted { queue: QueueId },
}

/// A message's places and its payload.
pub(crate) type Message = (Vec<(QueueId, Seq)>, Bytes);

/// Appends a batch's records to `out` in the order in which they take effect; returns how many.
pub(crate) fn encode_batch(batch: &Batch, out: &mut Writer) -> u32 {
    let mut records = 0;
    let mut each = |out: &mut Writer, kind, body: &mut dyn FnMut(&mut Writer)| {
        records += 1;
        encode(out, kind, body);
    };
    for queue in &batch.queues_created {
        each(out, QUEUE_CREATED, &mut |w| w.u64(queue.0));
    }
    // Acks of transient places come before the put that closes the hole; a replay in order sees no live hole.
    for (queue, first, last) in &batch.holes {
        each(out, ACK, &mut |w| ack(w, *queue, *first, *last));
    }
    for put in &batch.puts {
        each(out, PUT, &mut |w| message(w, &put.targets, &put.payload));
    }
    for (queue, first, last) in &batch.acks {
        each(out, ACK, &mut |w| ack(w, *queue, *first, *last));
    }
    for (key, value) in &batch.facts {
        match value {
            Some(value) => each(out, FACT, &mut |w| {
                w.bytes(key);
                w.bytes(value);
            }),
            None => each(out, UNFACT, &mut |w| w.bytes(key)),
        }
    }
    for queue in &batch.queues_deleted {
        each(out, QUEUE_DELETED, &mut |w| w.u64(queue.0));
    }
    records
}

/// Appends the record of a message, as the log and volatile segments hold it.
pub(crate) fn encode_message(targets: &[(QueueId, Seq)], payload: &Payload, out: &mut Writer) {
    encode(out, PUT, &mut |w| message(w, targets, payload));
}

/// Appends the record of a message in one queue, as a settled segment holds it.
pub(crate) fn encode_put(queue: QueueId, seq: Seq, payload: &[u8], out: &mut Writer) {
    encode(out, PUT, &mut |w| {
        w.u32(1);
        w.u64(queue.0);
        w.u64(seq.0);
        w.0.extend_from_slice(payload);
    });
}

/// Bytes that [`encode_put`] appends for such a payload.
pub(crate) fn put_bytes(payload: usize) -> usize {
    RECORD_HEADER_BYTES + 4 + 16 + payload
}

/// A record of a message in one queue, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OnePut<'a> {
    pub(crate) queue: QueueId,
    pub(crate) seq: Seq,
    pub(crate) payload: &'a [u8],
    /// Bytes of the whole record.
    pub(crate) bytes: usize,
}

/// Reads, in place, the record of a message in one queue at the front of `bytes`. Ok(Err(length)) when so many bytes
/// would be needed for it.
pub(crate) fn parse_put(bytes: &[u8]) -> Parsed<Result<OnePut<'_>, usize>> {
    let Some(header) = bytes.get(..RECORD_HEADER_BYTES) else { return Ok(Err(RECORD_HEADER_BYTES)) };
    let length = LittleEndian::read_u32(&header[4..]) as usize;
    let whole = RECORD_HEADER_BYTES + length;
    if header[0] != PUT || length < 20 {
        return Err(Malformed("no message's record stands there".into()));
    }
    let Some(body) = bytes.get(RECORD_HEADER_BYTES..whole) else { return Ok(Err(whole)) };
    if crc(&header[..8], body) != LittleEndian::read_u32(&header[8..]) {
        return Err(Malformed("a record's checksum does not match".into()));
    }
    if LittleEndian::read_u32(body) != 1 {
        return Err(Malformed("a message's record names several queues".into()));
    }
    let (queue, seq) = (LittleEndian::read_u64(&body[4..]), LittleEndian::read_u64(&body[12..]));
    Ok(Ok(OnePut { queue: QueueId(queue), seq: Seq(seq), payload: &body[20..], bytes: whole }))
}

/// What a replay takes of a record: not the message itself.
#[derive(Debug)]
pub(crate) enum Walked<'a> {
    /// A message's places.
    Put(Targets<'a>),
    Ack {
        queue: QueueId,
        first: Seq,
        last: Seq,
    },
    Other(Record),
}

/// A message's places.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Targets<'a>(&'a [u8]);

impl Targets<'_> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueueId, Seq)> {
        let each = self.0.chunks_exact(16);
        each.map(|at| (QueueId(LittleEndian::read_u64(at)), Seq(LittleEndian::read_u64(&at[8..]))))
    }
}

/// Walks over the records of a group's payload without copying them: a restart reads millions. Their own checksums are
/// left to whoever reads the messages; the frame's covers the same bytes and was verified.
pub(crate) fn walk_group(payload: &Bytes, mut each: impl FnMut(Walked<'_>)) -> Parsed<()> {
    let mut at = 0;
    while at < payload.len() {
        let Some(header) = payload.get(at..at + RECORD_HEADER_BYTES) else {
            return Err(Malformed("a record's header is cut off".into()));
        };
        let length = LittleEndian::read_u32(&header[4..]) as usize;
        let start = at + RECORD_HEADER_BYTES;
        let Some(body) = payload.get(start..start + length) else {
            return Err(Malformed("a record is cut off".into()));
        };
        match header[0] {
            PUT if body.len() >= 4 => {
                let count = LittleEndian::read_u32(body) as usize;
                let targets = count.checked_mul(16).and_then(|bytes| body.get(4..4 + bytes));
                let too_many = || Malformed(format!("{count} places where {} bytes are left", body.len()));
                each(Walked::Put(Targets(targets.ok_or_else(too_many)?)));
            }
            ACK if body.len() == 24 => {
                let field = |at: usize| LittleEndian::read_u64(&body[at..]);
                let (first, last) = (Seq(field(8)), Seq(field(16)));
                if first.0 == 0 || first > last {
                    return Err(Malformed(format!("an ack of places {first} to {last}")));
                }
                each(Walked::Ack { queue: QueueId(field(0)), first, last });
            }
            _ => each(Walked::Other(decode(&mut Reader::new(payload.slice(at..start + length)))?)),
        }
        at = start + length;
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
            Ok(Record::Put { targets, payload }) => messages.push((targets, payload)),
            Ok(_) => return (messages, Some(Malformed("a record that is no message's".into()))),
            Err(why) => return (messages, Some(why)),
        }
    }
    (messages, None)
}

fn message(w: &mut Writer, targets: &[(QueueId, Seq)], Payload { head, body }: &Payload) {
    w.u32(u32::try_from(targets.len()).expect("targets fit into a segment"));
    for (queue, seq) in targets {
        w.u64(queue.0);
        w.u64(seq.0);
    }
    w.0.extend_from_slice(head);
    w.0.extend_from_slice(body);
}

fn ack(w: &mut Writer, queue: QueueId, first: Seq, last: Seq) {
    w.u64(queue.0);
    w.u64(first.0);
    w.u64(last.0);
}

fn encode(out: &mut Writer, kind: u8, body: &mut dyn FnMut(&mut Writer)) {
    let start = out.0.len();
    out.u8(kind);
    out.u8(0);
    out.u16(0);
    out.u32(0);
    out.u32(0);
    body(out);
    let length =
        u32::try_from(out.0.len() - start - RECORD_HEADER_BYTES).expect("records fit into a segment");
    out.0[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    let crc = crc(&out.0[start..start + 8], &out.0[start + RECORD_HEADER_BYTES..]);
    out.0[start + 8..start + 12].copy_from_slice(&crc.to_le_bytes());
}

fn decode(reader: &mut Reader) -> Parsed<Record> {
    let header = reader.take(RECORD_HEADER_BYTES)?;
    let length = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    let body = reader.take(length)?;
    if crc(&header[..8], &body) != u32::from_le_bytes([header[8], header[9], header[10], header[11]]) {
        return Err(Malformed("a record's checksum does not match".into()));
    }
    let mut body = Reader::new(body);
    let record = match header[0] {
        PUT => {
            let count = body.count(16)?;
            let mut targets = Vec::with_capacity(count);
            for _ in 0..count {
                targets.push((QueueId(body.u64()?), Seq(body.u64()?)));
            }
            let payload = body.take(body.left())?;
            Record::Put { targets, payload }
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

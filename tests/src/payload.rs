//! Payloads that prove themselves: who published them, as which of theirs, how long, and a hash over it all.
//!
//! ```text
//! payload = publisher u32 | seq u64 | length u32 | hash u64 | filler…        little-endian
//! ```
//!
//! The filler follows from publisher and seq, the hash covers everything but itself, and `length` is that of the
//! whole payload: a swapped, cut or mixed body cannot pass.

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes before the filler; the smallest payload.
pub const HEADER_BYTES: usize = 24;

/// Names one published message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MsgId {
    /// Who published it.
    pub publisher: u32,
    /// The publisher's number for it, from 1, in publish order.
    pub seq: u64,
}

/// What is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPayload {
    /// Shorter than a header.
    #[error("{0} bytes are too few for a payload")]
    Short(usize),
    /// The length written in it is another.
    #[error("it says {said} bytes and has {actual}")]
    Length {
        /// As written.
        said: u32,
        /// As received.
        actual: usize,
    },
    /// The hash differs.
    #[error("hash {said:#x} does not match its contents, {actual:#x}")]
    Hash {
        /// As written.
        said: u64,
        /// As computed.
        actual: u64,
    },
}

/// A payload of `length` bytes (at least [`HEADER_BYTES`]).
pub fn encode(id: MsgId, length: usize) -> Bytes {
    let length = length.max(HEADER_BYTES);
    let mut filler = vec![0u8; length - HEADER_BYTES];
    let mut random = fastrand::Rng::with_seed(id.seq ^ (u64::from(id.publisher) << 40));
    random.fill(&mut filler);
    let mut out = BytesMut::with_capacity(length);
    out.put_u32_le(id.publisher);
    out.put_u64_le(id.seq);
    out.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
    let hash = hash(&out[..16], &filler);
    out.put_u64_le(hash);
    out.put_slice(&filler);
    out.freeze()
}

/// Reads and checks a payload; gives its name. Its length is that of `body`.
pub fn decode(body: &[u8]) -> Result<MsgId, BadPayload> {
    let Some((header, filler)) = body.split_at_checked(HEADER_BYTES) else {
        return Err(BadPayload::Short(body.len()));
    };
    let said = u32_at(header, 12);
    if said as usize != body.len() {
        return Err(BadPayload::Length { said, actual: body.len() });
    }
    let (said, actual) = (u64_at(header, 16), hash(&header[..16], filler));
    if said != actual {
        return Err(BadPayload::Hash { said, actual });
    }
    Ok(MsgId { publisher: u32_at(header, 0), seq: u64_at(header, 4) })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// FNV-1a over 8 bytes at a time: no defence against malice, plenty against mishap.
fn hash(header: &[u8], filler: &[u8]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325u64;
    for part in [header, filler] {
        for chunk in part.chunks(8) {
            let mut word = [0u8; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            state = (state ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
            state ^= state >> 29;
        }
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: MsgId = MsgId { publisher: 7, seq: 123_456 };

    #[test]
    fn round_trip_at_every_small_length() {
        for length in 0..200 {
            let body = encode(ID, length);
            assert_eq!(body.len(), length.max(HEADER_BYTES));
            assert_eq!(decode(&body), Ok(ID));
        }
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let good = encode(ID, 61);
        for bit in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_cut_or_padded_body_is_seen() {
        let good = encode(ID, 61);
        assert!(decode(&good[..60]).is_err());
        assert!(decode(&good[..10]).is_err());
        let mut long = good.to_vec();
        long.push(0);
        assert!(decode(&long).is_err());
    }
}

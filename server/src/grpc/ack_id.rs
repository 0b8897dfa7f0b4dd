//! Ack ids as clients see them: short, opaque, and told apart from anything that was not given out by a server.
//!
//! ```text
//! hex( epoch | queue | seq | attempt, each as a LEB128 varint | crc32 of these bytes, little-endian )
//! ```

use leveret_broker::{AckId, Epoch, QueueId, Seq};

const CRC_BYTES: usize = 4;
const VARINT_BYTES_MAX: usize = 10;
const BYTES_MAX: usize = 4 * VARINT_BYTES_MAX + CRC_BYTES;
const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The text of an id.
pub(super) fn encode(id: &AckId) -> String {
    let mut bytes = [0; BYTES_MAX];
    let mut length = 0;
    for mut number in [id.epoch.0, id.queue.0, id.seq.0, id.attempt.into()] {
        loop {
            let low = (number & 0x7f) as u8;
            number >>= 7;
            bytes[length] = if number == 0 { low } else { low | 0x80 };
            length += 1;
            if number == 0 {
                break;
            }
        }
    }
    let crc = crc32fast::hash(&bytes[..length]).to_le_bytes();
    bytes[length..length + CRC_BYTES].copy_from_slice(&crc);
    let mut text = String::with_capacity(2 * (length + CRC_BYTES));
    for byte in &bytes[..length + CRC_BYTES] {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}

/// The id of a text; None when no server can have given it out.
pub(super) fn decode(text: &str) -> Option<AckId> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || digits.len() / 2 > BYTES_MAX {
        return None;
    }
    let mut bytes = [0; BYTES_MAX];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    let (mut numbers, crc) = bytes[..digits.len() / 2].split_last_chunk::<CRC_BYTES>()?;
    if crc32fast::hash(numbers) != u32::from_le_bytes(*crc) {
        return None;
    }
    let id = AckId {
        epoch: Epoch(varint(&mut numbers)?),
        queue: QueueId(varint(&mut numbers)?),
        seq: Seq(varint(&mut numbers)?),
        attempt: u32::try_from(varint(&mut numbers)?).ok()?,
    };
    numbers.is_empty().then_some(id)
}

fn digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if (low << shift) >> shift != low {
            return None;
        }
        number |= low << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    //! Guards against ids that come back as others, and garbage that passes for an id.

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_come_back(epoch: u64, queue: u64, seq: u64, attempt: u32) {
            let id = AckId { epoch: Epoch(epoch), queue: QueueId(queue), seq: Seq(seq), attempt };
            prop_assert_eq!(decode(&encode(&id)), Some(id));
        }

        #[test]
        fn one_digit_changed_is_no_id(seq: u64, at: usize, to in "[0-9a-f]") {
            let text = encode(&AckId { epoch: Epoch(3), queue: QueueId(7), seq: Seq(seq), attempt: 1 });
            let at = at % text.len();
            let mut changed = text.clone();
            changed.replace_range(at..=at, &to);
            prop_assert!(changed == text || decode(&changed).is_none());
        }

        #[test]
        fn garbage_is_no_id(text in "\\PC{0,100}") {
            prop_assert_eq!(decode(&text), None);
        }
    }

    #[test]
    fn an_id_is_short() {
        let text = encode(&AckId { epoch: Epoch(1), queue: QueueId(5), seq: Seq(100_000), attempt: 1 });
        assert!(text.len() <= 20, "{text}");
    }
}

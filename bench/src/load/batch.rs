//! Messages as bytes on the wire, encoded once, written again and again.

/// Bytes that one write takes at most, where more than one message fits into them.
const WRITE_BYTES: usize = 256 << 10;

/// One message as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    /// Where its body begins.
    pub(crate) body: usize,
}

/// Messages of one length, in turns.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    message_bytes: usize,
    body: usize,
    messages: u64,
}

impl Batch {
    /// Each of these in turns, for writes of at most `most` messages.
    pub(crate) fn new(each: &[Message], most: u64) -> Self {
        let (message_bytes, body) = (each[0].bytes.len(), each[0].body);
        let alike = |message: &Message| message.bytes.len() == message_bytes && message.body == body;
        assert!(each.iter().all(alike), "messages of a batch are of one length");
        let wanted = (WRITE_BYTES / message_bytes).clamp(1, most.max(1) as usize);
        let turns = wanted.div_ceil(each.len());
        let one: Vec<u8> = each.iter().flat_map(|message| message.bytes.iter().copied()).collect();
        Self { bytes: one.repeat(turns), message_bytes, body, messages: (turns * each.len()) as u64 }
    }

    /// The next messages from this one on (the first is 0), at most `most`: how many, and where in [`Self::bytes`].
    pub(crate) fn next(&self, first: u64, most: u64) -> (u64, std::ops::Range<usize>) {
        let place = first % self.messages;
        let count = most.min(self.messages - place).min((WRITE_BYTES / self.message_bytes).max(1) as u64);
        let from = place as usize * self.message_bytes;
        (count, from..from + count as usize * self.message_bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes a number each into the first eight bytes of the bodies of a range that [`Self::next`] gave.
    pub(crate) fn stamp(&mut self, range: std::ops::Range<usize>, stamps: impl Iterator<Item = u64>) {
        for (message, stamp) in self.bytes[range].chunks_exact_mut(self.message_bytes).zip(stamps) {
            message[self.body..self.body + 8].copy_from_slice(&stamp.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(letter: u8, bytes: usize) -> Message {
        Message { bytes: vec![letter; bytes], body: 2 }
    }

    #[test]
    fn messages_take_turns_over_the_end_of_the_buffer() {
        let batch = Batch::new(&[message(b'a', 10), message(b'b', 10), message(b'c', 10)], 4);
        let mut written = Vec::new();
        let mut first = 0;
        while first < 20 {
            let (count, range) = batch.next(first, 4);
            assert!((1..=4).contains(&count));
            written.extend_from_slice(&batch.bytes()[range]);
            first += count;
        }
        for (number, bytes) in written.chunks_exact(10).enumerate() {
            assert_eq!(bytes[0], b"abc"[number % 3]);
        }
    }

    #[test]
    fn large_messages_go_one_by_one() {
        let batch = Batch::new(&[message(b'a', 1 << 20)], 2_000);
        assert_eq!(batch.next(7, 100), (1, 0..1 << 20));
    }

    #[test]
    fn stamps_go_into_the_bodies() {
        let mut batch = Batch::new(&[message(0, 12)], 8);
        let (count, range) = batch.next(2, 3);
        batch.stamp(range.clone(), 41..);
        assert_eq!((count, &batch.bytes()[range.start + 12 + 2..][..8]), (3, &42u64.to_be_bytes()[..]));
    }
}

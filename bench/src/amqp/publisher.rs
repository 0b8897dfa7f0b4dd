//! A publisher for scenarios that are about other things than its speed: blocking, numbered messages.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::codec::{self, ACK, NACK};
use super::link::Link;
use crate::Error;

/// Messages of one write at most.
const BATCH: u64 = 256;
/// A publisher with a window of unconfirmed messages: one thread that writes and reads. Each body begins with the
/// message's number, from 0, in 64 bits.
pub(crate) struct Publisher {
    link: Link,
    /// Messages to each queue in turns, at least as many as go into a write.
    batch: Vec<u8>,
    /// How many of them.
    messages: u64,
    message_bytes: usize,
    body_bytes: usize,
    window: u64,
    pub(crate) sent: u64,
    pub(crate) confirmed: u64,
    /// Confirms that came before their turn.
    early: BTreeSet<u64>,
}

impl Publisher {
    /// Publishes to queues in turns. Their names are of one length.
    pub(crate) fn over(
        addr: SocketAddr,
        queues: &[String],
        bytes: usize,
        window: u64,
    ) -> Result<Self, Error> {
        let mut link = Link::open(addr)?;
        link.confirm_select()?;
        let each: Vec<Vec<u8>> = queues.iter().map(|queue| codec::publish(queue, bytes)).collect();
        let message_bytes = each[0].len();
        assert!(each.iter().all(|message| message.len() == message_bytes), "names of one length");
        let batch = each.concat().repeat(window.min(BATCH).div_ceil(queues.len() as u64) as usize);
        let messages = (batch.len() / message_bytes) as u64;
        let early = BTreeSet::new();
        let (sent, confirmed) = (0, 0);
        Ok(Self { link, batch, messages, message_bytes, body_bytes: bytes, window, sent, confirmed, early })
    }

    /// Sends what the window and `most` allow, unless that is too little to be worth a write.
    pub(crate) fn fill(&mut self, most: u64) -> Result<(), Error> {
        let worth = (self.window / 4).clamp(1, BATCH);
        loop {
            let room = (self.window - (self.sent - self.confirmed)).min(most.saturating_sub(self.sent));
            if room == 0 || (room < worth && self.sent > self.confirmed) {
                return Ok(());
            }
            let first = self.sent % self.messages;
            let count = room.min(BATCH).min(self.messages - first);
            let from = first as usize * self.message_bytes;
            let part = &mut self.batch[from..from + count as usize * self.message_bytes];
            for (number, message) in (self.sent..).zip(part.chunks_exact_mut(self.message_bytes)) {
                let body = self.message_bytes - 1 - self.body_bytes;
                let wide = self.body_bytes.min(8);
                message[body..body + wide].copy_from_slice(&number.to_be_bytes()[8 - wide..]);
            }
            self.link.send(part)?;
            self.sent += count;
        }
    }

    /// Waits for confirms.
    pub(crate) fn confirms(&mut self) -> Result<(), Error> {
        self.link.receive()?;
        while let Some(frame) = self.link.next()? {
            match frame.method() {
                Some(ACK) => {
                    let (tag, multiple) = (frame.longlong(0), frame.octet(8) & 1 == 1);
                    self.confirm(tag, multiple);
                }
                Some(NACK) => return Err("a publish was refused".into()),
                _ => return Err("something came that is no confirm".into()),
            }
        }
        Ok(())
    }

    fn confirm(&mut self, tag: u64, multiple: bool) {
        if multiple {
            self.confirmed = self.confirmed.max(tag);
        } else if tag == self.confirmed + 1 {
            self.confirmed = tag;
        } else {
            self.early.insert(tag);
        }
        while let Some(first) = self.early.first().copied().filter(|first| *first <= self.confirmed + 1) {
            self.early.pop_first();
            self.confirmed = self.confirmed.max(first);
        }
    }
}

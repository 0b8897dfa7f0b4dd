//! One connection to the floor: the handshake, then publishes.

use super::log::{Log, Partial};
use crate::Error;
use crate::amqp::codec::{self, BODY, HEADER, METHOD};

/// Class and method of basic.publish.
const PUBLISH: (u16, u16) = (60, 40);
/// What a client opens with.
const HELLO: &[u8] = b"AMQP\x00\x00\x09\x01";

/// What is known of a connection.
#[derive(Debug, Default)]
pub(super) struct Session {
    greeted: bool,
    /// Bytes of the current message that are to come.
    left: u64,
    /// It is begun and not whole.
    open: bool,
    partial: Option<Partial>,
    published: u64,
    confirmed: u64,
}

impl Session {
    /// Takes all whole frames; how many bytes that was.
    pub(super) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>, log: &mut Log) -> Result<usize, Error> {
        let mut at = 0;
        if !self.greeted {
            if bytes.len() < HELLO.len() {
                return Ok(0);
            }
            if !bytes.starts_with(HELLO) {
                return Err("no client of AMQP 0-9-1".into());
            }
            self.greeted = true;
            at = HELLO.len();
            let mechanisms = [codec::longstr(b"PLAIN"), codec::longstr(b"en_US")].concat();
            let start = [&[0, 9][..], &codec::longstr(b""), &mechanisms].concat();
            out.extend(codec::method(0, (10, 10), &start));
        }
        if let Some(partial) = self.partial.take() {
            log.resume(partial);
        }
        while let Some(head) = bytes.get(at..at + 7) {
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let Some(payload) = bytes.get(at + 7..at + 7 + size) else { break };
            match bytes.get(at + 7 + size) {
                None => break,
                Some(&codec::END) => {}
                Some(_) => return Err("a frame without its end".into()),
            }
            let channel = u16::from_be_bytes([head[1], head[2]]);
            match head[0] {
                METHOD => self.method(channel, payload, out, log)?,
                HEADER => {
                    self.left =
                        payload.get(4..12).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes);
                    self.end_if_whole(log);
                }
                BODY => {
                    log.append(payload);
                    self.left =
                        self.left.checked_sub(size as u64).ok_or("a body is longer than it should be")?;
                    self.end_if_whole(log);
                }
                _ => {}
            }
            at += size + 8;
        }
        if self.open {
            self.partial = Some(log.suspend());
        }
        Ok(at)
    }

    /// Confirms all that was published, if anything was.
    pub(super) fn confirm(&mut self, out: &mut Vec<u8>) {
        if self.published > self.confirmed {
            self.confirmed = self.published;
            out.extend_from_slice(&codec::ack(self.published, true));
        }
    }

    fn end_if_whole(&mut self, log: &mut Log) {
        if self.left == 0 {
            log.end();
            self.open = false;
            self.published += 1;
        }
    }

    fn method(
        &mut self,
        channel: u16,
        payload: &[u8],
        out: &mut Vec<u8>,
        log: &mut Log,
    ) -> Result<(), Error> {
        let [a, b, c, d, arguments @ ..] = payload else { return Err("a method without a name".into()) };
        let id = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
        if id == PUBLISH {
            // Two reserved bytes, the exchange, the key.
            let exchange = arguments.get(2).map_or(0, |length| usize::from(*length));
            let key = arguments.get(3 + exchange).map_or(0, |length| usize::from(*length));
            let key = arguments.get(4 + exchange..4 + exchange + key).ok_or("a publish without a key")?;
            log.begin(key);
            self.open = true;
            return Ok(());
        }
        let (answer, rest): ((u16, u16), &[u8]) = match id {
            (10, 11) => ((10, 30), &[7, 255, 0, 2, 0, 0, 0, 0]),
            (10, 31) => return Ok(()),
            (10, 40) => ((10, 41), &[0]),
            (20, 10) => ((20, 11), &[0; 4]),
            (50, 10) => ((50, 11), &[0; 9]),
            (50, 30) => ((50, 31), &[0; 4]),
            (50, 40) => ((50, 41), &[0; 4]),
            (85, 10) => ((85, 11), &[]),
            (class, method) => return Err(format!("method {class}.{method} is no part of the floor").into()),
        };
        out.extend(codec::method(channel, answer, rest));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeted(log: &mut Log) -> Session {
        let (mut session, mut out) = (Session::default(), Vec::new());
        assert_eq!(session.take(HELLO, &mut out, log).unwrap(), HELLO.len());
        assert_eq!(out[7..11], [0, 10, 0, 10]);
        session
    }

    #[test]
    fn messages_in_pieces_are_stored_once_and_confirmed_together() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::create(directory.path()).unwrap();
        let mut bytes = codec::publish("queue", 100);
        bytes.extend(codec::publish("queue", 200_000));
        let records = 2 * (8 + 1 + 5) + 200_100;
        for piece in [1, 7, 100, 4_000, 1_000_000] {
            let (mut session, mut buffer, mut out) = (greeted(&mut log), Vec::new(), Vec::new());
            for part in bytes.chunks(piece) {
                buffer.extend_from_slice(part);
                let taken = session.take(&buffer, &mut out, &mut log).unwrap();
                buffer.drain(..taken);
            }
            assert_eq!(log.pending(), records, "in pieces of {piece}");
            session.confirm(&mut out);
            session.confirm(&mut out);
            assert_eq!(out, codec::ack(2, true));
            log.sync().unwrap();
            assert_eq!(log.pending(), 0);
        }
    }

    #[test]
    fn what_is_no_publish_and_no_handshake_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::create(directory.path()).unwrap();
        let mut session = greeted(&mut log);
        let consume = codec::method(1, (60, 20), &[]);
        assert!(session.take(&consume, &mut Vec::new(), &mut log).is_err());
        let mut cut = codec::publish("queue", 1);
        *cut.last_mut().unwrap() = 0;
        assert!(session.take(&cut, &mut Vec::new(), &mut log).is_err());
    }
}

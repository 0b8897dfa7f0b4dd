//! AMQP's answers, frame by frame, where they lie.

use super::{Event, Scan};
use crate::Error;
use crate::amqp::codec::{ACK, BODY, CHANNEL_CLOSE, CONNECTION_CLOSE, DELIVER, HEADER, METHOD, NACK};

/// Class and method of basic.cancel: the broker ends a consumer.
const CANCEL: (u16, u16) = (60, 30);

/// What is known of the message that is being read.
#[derive(Debug, Default)]
pub(crate) struct AmqpScan {
    tag: u64,
    /// Bytes of the body to come.
    left: u64,
    /// None until the body begins.
    stamp: Option<u64>,
}

impl Scan for AmqpScan {
    fn scan(&mut self, bytes: &[u8], found: &mut impl FnMut(Event)) -> Result<usize, Error> {
        let mut at = 0;
        while let Some(head) = bytes.get(at..at + 7) {
            let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
            let Some(payload) = bytes.get(at + 7..at + 7 + size) else { break };
            // The last byte of the frame.
            if bytes.len() <= at + 7 + size {
                break;
            }
            match head[0] {
                METHOD => self.method(payload, found)?,
                HEADER => {
                    self.left = u64_at(payload, 4);
                    self.stamp = None;
                    if self.left == 0 {
                        found(Event::Delivery { tag: self.tag, stamp: 0 });
                    }
                }
                BODY => {
                    let stamp = *self.stamp.get_or_insert_with(|| u64_at(payload, 0));
                    self.left =
                        self.left.checked_sub(size as u64).ok_or("a body is longer than it should be")?;
                    if self.left == 0 {
                        found(Event::Delivery { tag: self.tag, stamp });
                    }
                }
                _ => {}
            }
            at += size + 8;
        }
        Ok(at)
    }
}

impl AmqpScan {
    fn method(&mut self, payload: &[u8], found: &mut impl FnMut(Event)) -> Result<(), Error> {
        let [a, b, c, d, arguments @ ..] = payload else { return Err("a method without a name".into()) };
        match (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])) {
            ACK => {
                let multiple = arguments.get(8).is_some_and(|bits| bits & 1 == 1);
                found(Event::Confirm { tag: u64_at(arguments, 0), multiple });
            }
            DELIVER => {
                // The tag stands behind the consumer's.
                let name = arguments.first().map_or(0, |length| usize::from(*length));
                self.tag = u64_at(arguments, 1 + name);
            }
            NACK => return Err("a publish was refused".into()),
            CANCEL => return Err("the broker ended a consumer".into()),
            CONNECTION_CLOSE | CHANNEL_CLOSE => {
                let text = arguments.get(3..).unwrap_or_default();
                return Err(format!("the broker closed with {:?}", String::from_utf8_lossy(text)).into());
            }
            _ => {}
        }
        Ok(())
    }
}

/// 0 where there are not so many bytes.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let eight = bytes.get(at..at + 8).and_then(|eight| eight.try_into().ok());
    eight.map_or(0, u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::codec::{frame, method};

    fn delivery(tag: u64, bodies: &[&[u8]]) -> Vec<u8> {
        let arguments = [&[3][..], b"tag", &tag.to_be_bytes(), &[0, 0, 1, b'q']].concat();
        let size: usize = bodies.iter().map(|body| body.len()).sum();
        let header = [&[0, 60, 0, 0][..], &(size as u64).to_be_bytes(), &[0, 0]].concat();
        let mut bytes = method(1, DELIVER, &arguments);
        bytes.extend(frame(HEADER, 1, &header));
        bodies.iter().for_each(|body| bytes.extend(frame(BODY, 1, body)));
        bytes
    }

    #[test]
    fn what_comes_in_pieces_is_found_once() {
        let mut bytes = method(1, ACK, &[&7u64.to_be_bytes()[..], &[1]].concat());
        bytes.extend(delivery(300, &[&77u64.to_be_bytes(), b"rest of it"]));
        bytes.extend(delivery(301, &[]));
        bytes.extend(frame(8, 0, b""));
        bytes.extend(delivery(302, &[b"short"]));
        let wanted = [
            Event::Confirm { tag: 7, multiple: true },
            Event::Delivery { tag: 300, stamp: 77 },
            Event::Delivery { tag: 301, stamp: 0 },
            Event::Delivery { tag: 302, stamp: 0 },
        ];
        for piece in 1..bytes.len() {
            let (mut scan, mut found, mut buffer) = (AmqpScan::default(), Vec::new(), Vec::new());
            for part in bytes.chunks(piece) {
                buffer.extend_from_slice(part);
                let taken = scan.scan(&buffer, &mut |event| found.push(event)).unwrap();
                buffer.drain(..taken);
            }
            assert_eq!((found.as_slice(), buffer.len()), (&wanted[..], 0), "in pieces of {piece}");
        }
    }

    #[test]
    fn an_end_is_an_error_with_its_text() {
        let close = method(1, CHANNEL_CLOSE, &[&[1, 148, 9][..], b"NOT FOUND", &[0; 4]].concat());
        let error = AmqpScan::default().scan(&close, &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("NOT FOUND"), "{error}");
        let nack = method(1, NACK, &[0; 9]);
        assert!(AmqpScan::default().scan(&nack, &mut |_| ()).is_err());
    }
}

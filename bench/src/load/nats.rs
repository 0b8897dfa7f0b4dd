//! NATS JetStream: publishes that ask for a reply, to one inbox. A reply is the confirm.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{Event, Message, Scan};
use crate::Error;

/// Stream and subject.
const STREAM: &str = "bench";
const INBOX: &str = "_INBOX.b";

/// A connection that gets the replies, to an empty stream.
pub(crate) fn open(addr: SocketAddr) -> Result<TcpStream, Error> {
    let mut stream = TcpStream::connect(addr)?;
    let hello = r#"CONNECT {"verbose":false,"pedantic":false,"lang":"rust","version":"0","protocol":1}"#;
    stream.write_all(format!("{hello}\r\nSUB {INBOX} 1\r\nPING\r\n").as_bytes())?;
    until(&mut stream, "PONG\r\n")?;
    let create = format!(
        r#"{{"name":"{STREAM}","subjects":["{STREAM}"],"storage":"file","retention":"limits","num_replicas":1}}"#
    );
    for (call, body) in [("CREATE", create.as_str()), ("PURGE", "{}")] {
        let request = format!("PUB $JS.API.STREAM.{call}.{STREAM} {INBOX} {}\r\n{body}\r\n", body.len());
        stream.write_all(request.as_bytes())?;
        let answer = until(&mut stream, "}\r\n")?;
        // One that is there already is as good.
        if answer.contains("\"error\"") && !answer.contains("already in use") {
            return Err(format!("JetStream says {answer:?}").into());
        }
    }
    Ok(stream)
}

/// Reads until the text ends so.
fn until(stream: &mut TcpStream, end: &str) -> Result<String, Error> {
    let (mut text, mut part) = (String::new(), [0; 4096]);
    while !text.ends_with(end) {
        match stream.read(&mut part)? {
            0 => return Err(format!("NATS closed after {text:?}").into()),
            read => text.push_str(std::str::from_utf8(&part[..read])?),
        }
    }
    Ok(text)
}

/// A publish that wants a reply.
pub(crate) fn message(body: usize) -> Message {
    let mut bytes = format!("PUB {STREAM} {INBOX} {body}\r\n").into_bytes();
    let at = bytes.len();
    bytes.resize(at + body, 7);
    bytes.extend_from_slice(b"\r\n");
    Message { bytes, body: at }
}

/// Counts replies, which come in order: "MSG _INBOX.b 1 28\r\n{"stream":"bench", "seq":7}\r\n".
#[derive(Debug, Default)]
pub(crate) struct NatsScan {
    replies: u64,
}

impl Scan for NatsScan {
    fn scan(&mut self, bytes: &[u8], found: &mut impl FnMut(Event)) -> Result<usize, Error> {
        let (mut at, before) = (0, self.replies);
        while let Some(line) = bytes[at..].iter().position(|byte| *byte == b'\n') {
            let line = &bytes[at..at + line + 1];
            let mut next = at + line.len();
            if line.starts_with(b"MSG ") {
                let size = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
                let size: usize = std::str::from_utf8(size)?.parse()?;
                let Some(body) = bytes.get(next..next + size + 2) else { break };
                if body.windows(7).any(|part| part == b"\"error\"") {
                    return Err(format!("JetStream says {:?}", String::from_utf8_lossy(body)).into());
                }
                next += size + 2;
                self.replies += 1;
            } else if line.starts_with(b"-ERR") {
                return Err(format!("NATS says {:?}", String::from_utf8_lossy(line)).into());
            }
            // INFO comes by itself; PING does so rarely that no run sees one.
            at = next;
        }
        if self.replies > before {
            found(Event::Confirm { tag: self.replies, multiple: true });
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_counted_when_they_are_whole() {
        let one = b"MSG _INBOX.b 1 27\r\n{\"stream\":\"bench\",\"seq\":71}\r\nINFO {}\r\n";
        let bytes = one.repeat(3);
        for piece in 1..bytes.len() {
            let (mut scan, mut buffer, mut last) = (NatsScan::default(), Vec::new(), 0);
            for part in bytes.chunks(piece) {
                buffer.extend_from_slice(part);
                let confirm = &mut |event| {
                    let Event::Confirm { tag, multiple: true } = event else { panic!("{event:?}") };
                    last = tag;
                };
                let taken = scan.scan(&buffer, confirm).unwrap();
                buffer.drain(..taken);
            }
            assert_eq!((last, buffer.len()), (3, 0), "in pieces of {piece}");
        }
        let refused = b"MSG _INBOX.b 1 30\r\n{\"error\":{\"code\":503},\"seq\":0}\r\n";
        assert!(NatsScan::default().scan(refused, &mut |_| ()).is_err());
        assert!(NatsScan::default().scan(b"-ERR 'Slow Consumer'\r\n", &mut |_| ()).is_err());
    }

    #[test]
    fn a_message_asks_for_a_reply() {
        let message = message(3);
        assert_eq!(message.bytes, b"PUB bench _INBOX.b 3\r\n\x07\x07\x07\r\n");
        assert_eq!(message.bytes[message.body..][..3], [7; 3]);
    }
}

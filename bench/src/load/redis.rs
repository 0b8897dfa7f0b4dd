//! Redis Streams: XADD in a pipeline. A reply is the confirm.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{Event, Message, Scan};
use crate::Error;

const STREAM: &str = "bench";

/// A connection to an empty stream.
pub(crate) fn open(addr: SocketAddr) -> Result<TcpStream, Error> {
    let mut stream = TcpStream::connect(addr)?;
    stream.write_all(&command(&[b"DEL", STREAM.as_bytes()]).0)?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    if answer[0] != b':' {
        return Err("Redis did not delete its stream".into());
    }
    Ok(stream)
}

/// XADD of an entry with one field.
pub(crate) fn message(body: usize) -> Message {
    let body = vec![7; body];
    let (bytes, body) = command(&[b"XADD", STREAM.as_bytes(), b"*", b"b", &body]);
    Message { bytes, body }
}

/// A command, and where its last argument begins.
fn command(arguments: &[&[u8]]) -> (Vec<u8>, usize) {
    let (mut bytes, mut last) = (format!("*{}\r\n", arguments.len()).into_bytes(), 0);
    for argument in arguments {
        bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
        last = bytes.len();
        bytes.extend_from_slice(argument);
        bytes.extend_from_slice(b"\r\n");
    }
    (bytes, last)
}

/// Counts replies, which come in order: "$15\r\n1526919030474-0\r\n".
#[derive(Debug, Default)]
pub(crate) struct RedisScan {
    replies: u64,
}

impl Scan for RedisScan {
    fn scan(&mut self, bytes: &[u8], found: &mut impl FnMut(Event)) -> Result<usize, Error> {
        let (mut at, before) = (0, self.replies);
        while let Some(line) = bytes[at..].iter().position(|byte| *byte == b'\n') {
            let line = &bytes[at..at + line + 1];
            let text = || String::from_utf8_lossy(line).trim_end().to_owned();
            let length: usize = match line.strip_prefix(b"$").and_then(|rest| rest.strip_suffix(b"\r\n")) {
                Some(digits) => std::str::from_utf8(digits)?.parse()?,
                None => return Err(format!("Redis says {:?}", text()).into()),
            };
            let next = at + line.len() + length + 2;
            if next > bytes.len() {
                break;
            }
            at = next;
            self.replies += 1;
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
        let bytes = b"$15\r\n1526919030474-0\r\n$3\r\n1-1\r\n".repeat(3);
        for piece in 1..bytes.len() {
            let (mut scan, mut buffer, mut last) = (RedisScan::default(), Vec::new(), 0);
            for part in bytes.chunks(piece) {
                buffer.extend_from_slice(part);
                let confirm = &mut |event| {
                    let Event::Confirm { tag, multiple: true } = event else { panic!("{event:?}") };
                    last = tag;
                };
                let taken = scan.scan(&buffer, confirm).unwrap();
                buffer.drain(..taken);
            }
            assert_eq!((last, buffer.len()), (6, 0), "in pieces of {piece}");
        }
        let error = RedisScan::default().scan(b"-OOM command\r\n", &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains("OOM"));
    }

    #[test]
    fn a_message_is_a_command_with_its_body_last() {
        let message = message(3);
        assert_eq!(
            message.bytes,
            b"*5\r\n$4\r\nXADD\r\n$5\r\nbench\r\n$1\r\n*\r\n$1\r\nb\r\n$3\r\n\x07\x07\x07\r\n"
        );
        assert_eq!(message.bytes[message.body..][..3], [7; 3]);
    }
}

//! Where the bodies come from, cut into batches.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};

use bytes::Bytes;

use crate::cli::{Failure, PublishArgs};

const BATCH_MESSAGES_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 256 << 10;
/// No server takes a larger message; a source without line ends must not fill the memory.
const BODY_BYTES_MAX: usize = 128 << 20;

/// Where the bodies come from.
pub(in crate::cli) enum Source {
    /// The command line.
    Bodies(Vec<String>),
    /// A reader's lines.
    Lines { reader: Box<dyn Read + Send>, bytes_total: Option<u64>, typed: bool },
    /// A reader's bytes as one message.
    Whole(Box<dyn Read + Send>),
}

impl Source {
    pub(in crate::cli) fn open(args: &PublishArgs) -> Result<Self, Failure> {
        if !args.bodies.is_empty() {
            return Ok(Self::Bodies(args.bodies.clone()));
        }
        let (reader, bytes_total, typed): (Box<dyn Read + Send>, _, _) = match &args.file {
            Some(path) => {
                let name = |e: io::Error| Failure::Refused(format!("cannot read '{}': {e}", path.display()));
                let file = File::open(path).map_err(name)?;
                let length = file.metadata().map_err(name)?.len();
                (Box::new(file), Some(length), false)
            }
            None => (Box::new(io::stdin()), None, io::stdin().is_terminal()),
        };
        Ok(if args.whole { Self::Whole(reader) } else { Self::Lines { reader, bytes_total, typed } })
    }

    /// Someone types the messages.
    pub(super) fn is_typed(&self) -> bool {
        matches!(self, Self::Lines { typed: true, .. })
    }

    /// May take a while.
    pub(super) fn is_long(&self) -> bool {
        matches!(self, Self::Lines { typed: false, .. })
    }

    /// Its size, where it has one.
    pub(super) fn bytes_total(&self) -> Option<u64> {
        match self {
            Self::Lines { bytes_total, .. } => *bytes_total,
            Self::Bodies(_) | Self::Whole(_) => None,
        }
    }

    /// Hands everything to `send` in batches, until that says false. What has been read never waits for what may
    /// take a while to come.
    pub(in crate::cli) fn batches(self, mut send: impl FnMut(Vec<Bytes>) -> bool) -> io::Result<()> {
        match self {
            Self::Bodies(bodies) => {
                let mut batch = Batch::default();
                for body in bodies {
                    batch.push(body.into());
                    if batch.is_full() && !send(batch.take()) {
                        return Ok(());
                    }
                }
                send_rest(batch, send);
            }
            Self::Lines { reader, .. } => return lines(reader, send),
            Self::Whole(reader) => {
                let mut body = Vec::new();
                reader.take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut body)?;
                if body.len() > BODY_BYTES_MAX {
                    return Err(too_long("the message"));
                }
                send(vec![body.into()]);
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Batch {
    bodies: Vec<Bytes>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, body: Bytes) {
        self.bytes += body.len();
        self.bodies.push(body);
    }

    fn is_full(&self) -> bool {
        self.bodies.len() >= BATCH_MESSAGES_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.bytes = 0;
        std::mem::take(&mut self.bodies)
    }
}

fn lines(reader: Box<dyn Read + Send>, mut send: impl FnMut(Vec<Bytes>) -> bool) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(BATCH_BYTES_MAX, reader);
    let mut batch = Batch::default();
    let mut number = 0u64;
    loop {
        let mut line = Vec::new();
        number += 1;
        if (&mut reader).take(BODY_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if line.len() > BODY_BYTES_MAX {
            send_rest(batch, send);
            return Err(too_long(&format!("line {number}")));
        }
        batch.push(line.into());
        let next_is_there = reader.buffer().contains(&b'\n');
        if (batch.is_full() || !next_is_there) && !send(batch.take()) {
            return Ok(());
        }
    }
    send_rest(batch, send);
    Ok(())
}

fn send_rest(mut batch: Batch, mut send: impl FnMut(Vec<Bytes>) -> bool) {
    if !batch.bodies.is_empty() {
        send(batch.take());
    }
}

fn too_long(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is longer than 128MiB"))
}

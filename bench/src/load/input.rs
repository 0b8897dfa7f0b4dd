//! What comes in on a connection: one buffer, looked at in place.

use std::io::{self, Read};
use std::net::TcpStream;

use super::{Event, Scan};
use crate::Error;

/// Of one connection among few, and of one among many.
const BYTES: usize = 1 << 20;
const BYTES_OF_MANY: usize = 32 << 10;
/// Connections from which on they are many.
const MANY: usize = 16;

/// Bytes that have come and are not looked at yet.
#[derive(Debug)]
pub(super) struct Input {
    buffer: Vec<u8>,
    end: usize,
}

impl Input {
    /// With what came already; one of so many connections.
    pub(super) fn new(come: &[u8], connections: usize) -> Self {
        let bytes = if connections < MANY { BYTES } else { BYTES_OF_MANY };
        let mut buffer = vec![0; bytes.max(come.len())];
        buffer[..come.len()].copy_from_slice(come);
        Self { buffer, end: come.len() }
    }

    /// Looks at what is there.
    pub(super) fn scan(&mut self, scan: &mut impl Scan, found: &mut impl FnMut(Event)) -> Result<(), Error> {
        let taken = scan.scan(&self.buffer[..self.end], found)?;
        self.buffer.copy_within(taken..self.end, 0);
        self.end -= taken;
        if self.end == self.buffer.len() {
            // A frame is larger than it.
            self.buffer.resize(self.end * 2, 0);
        }
        Ok(())
    }

    /// Reads once; whether there may be more.
    pub(super) fn read(&mut self, stream: &mut TcpStream) -> Result<bool, Error> {
        match stream.read(&mut self.buffer[self.end..]) {
            Ok(0) => Err("the broker closed the connection".into()),
            Ok(read) => {
                self.end += read;
                Ok(self.end == self.buffer.len())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

//! A blocking connection with one channel, as light as it can be: one buffer in, frames looked at in place.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::codec::{self, CHANNEL_CLOSE, CONNECTION_CLOSE, METHOD};
use crate::Error;

/// How long the broker may say nothing before the run is given up.
const PATIENCE: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 256 << 10;
const FRAME_BYTES_MAX: u32 = 131_072;

/// A connection; channel 1 is open.
pub(crate) struct Link {
    stream: TcpStream,
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

/// A frame in the buffer.
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
}

impl Frame<'_> {
    /// Class and method.
    pub(crate) fn method(&self) -> Option<(u16, u16)> {
        match (self.kind, self.payload) {
            (METHOD, [a, b, c, d, ..]) => Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]))),
            _ => None,
        }
    }

    /// The 64 bits at this place of the arguments; 0 where there are none.
    pub(crate) fn longlong(&self, at: usize) -> u64 {
        let bytes = self.payload.get(4 + at..4 + at + 8);
        bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes)
    }

    /// The byte at this place of the arguments.
    pub(crate) fn octet(&self, at: usize) -> u8 {
        self.payload.get(4 + at).copied().unwrap_or(0)
    }
}

impl Link {
    /// Connects as guest and opens channel 1.
    pub(crate) fn open(addr: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut link = Self { stream, buffer: vec![0; BUFFER_BYTES], begin: 0, end: 0 };
        link.send(b"AMQP\x00\x00\x09\x01")?;
        link.expect((10, 10))?;
        let response = codec::longstr(b"\0guest\0guest");
        let arguments =
            [codec::longstr(b""), codec::shortstr("PLAIN"), response, codec::shortstr("en_US")].concat();
        link.send(&codec::method(0, (10, 11), &arguments))?;
        link.expect((10, 30))?;
        let tune = [&[0, 16][..], &FRAME_BYTES_MAX.to_be_bytes(), &[0, 0]].concat();
        link.send(&codec::method(0, (10, 31), &tune))?;
        let open = [codec::shortstr("/"), codec::shortstr(""), vec![0]].concat();
        link.call(0, (10, 40), &open, (10, 41))?;
        link.call(1, (20, 10), &codec::shortstr(""), (20, 11))?;
        Ok(link)
    }

    /// Declares a durable queue.
    pub(crate) fn declare(&mut self, queue: &str, queue_type: &str) -> Result<(), Error> {
        let entry = [codec::shortstr("x-queue-type"), b"S".to_vec(), codec::longstr(queue_type.as_bytes())];
        let arguments =
            [vec![0, 0], codec::shortstr(queue), vec![2], codec::longstr(&entry.concat())].concat();
        self.call(1, (50, 10), &arguments, (50, 11))
    }

    /// Binds a queue to the direct exchange that is always there, by its name.
    pub(crate) fn bind(&mut self, queue: &str) -> Result<(), Error> {
        self.call(1, (50, 20), &binding(queue, "amq.direct", queue), (50, 21))
    }

    /// Binds queues to an exchange, without waiting for each.
    pub(crate) fn bind_all(
        &mut self,
        exchange: &str,
        queues_and_keys: &[(String, String)],
    ) -> Result<(), Error> {
        for part in queues_and_keys.chunks(500) {
            let binds =
                part.iter().map(|(queue, key)| codec::method(1, (50, 20), &binding(queue, exchange, key)));
            self.send(&binds.flatten().collect::<Vec<u8>>())?;
            for _ in part {
                self.expect((50, 21))?;
            }
        }
        Ok(())
    }

    /// Declares a durable exchange.
    pub(crate) fn exchange(&mut self, name: &str, kind: &str) -> Result<(), Error> {
        let names = [name, kind].map(codec::shortstr).concat();
        self.call(1, (40, 10), &[vec![0, 0], names, vec![2], codec::longstr(b"")].concat(), (40, 11))
    }

    /// Deletes what is ready in a queue.
    pub(crate) fn purge(&mut self, queue: &str) -> Result<(), Error> {
        self.call(1, (50, 30), &[vec![0, 0], codec::shortstr(queue), vec![0]].concat(), (50, 31))
    }

    /// Puts the channel into confirm mode.
    pub(crate) fn confirm_select(&mut self) -> Result<(), Error> {
        self.call(1, (85, 10), &[0], (85, 11))
    }

    /// Starts a consumer that acks.
    pub(crate) fn consume(&mut self, queue: &str, prefetch: u16) -> Result<(), Error> {
        self.qos(prefetch)?;
        self.consume_more(queue)
    }

    /// Sets the prefetch of the consumers to come.
    fn qos(&mut self, prefetch: u16) -> Result<(), Error> {
        let qos = [&[0, 0, 0, 0][..], &prefetch.to_be_bytes(), &[0]].concat();
        self.call(1, (60, 10), &qos, (60, 11))
    }

    /// Starts another one. Deliveries to those before it that come meanwhile wait in the buffer.
    pub(crate) fn consume_more(&mut self, queue: &str) -> Result<(), Error> {
        let arguments =
            [vec![0, 0], codec::shortstr(queue), codec::shortstr(""), vec![0], codec::longstr(b"")].concat();
        self.call(1, (60, 20), &arguments, (60, 21))
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits for more bytes.
    pub(crate) fn receive(&mut self) -> Result<(), Error> {
        if self.begin > 0 {
            self.buffer.copy_within(self.begin..self.end, 0);
            self.end -= self.begin;
            self.begin = 0;
        }
        if self.end == self.buffer.len() {
            return Err("a frame is larger than the buffer".into());
        }
        match self.stream.read(&mut self.buffer[self.end..])? {
            0 => Err("the broker closed the connection".into()),
            read => {
                self.end += read;
                Ok(())
            }
        }
    }

    /// The next frame that is there already.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, Error> {
        let rest = &self.buffer[self.begin..self.end];
        let Some(size) = rest.get(3..7) else { return Ok(None) };
        let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize;
        if rest.len() < size + 8 {
            return Ok(None);
        }
        self.begin += size + 8;
        let frame = Frame { kind: rest[0], payload: &rest[7..7 + size] };
        match frame.method() {
            Some(CONNECTION_CLOSE | CHANNEL_CLOSE) => {
                let text = String::from_utf8_lossy(frame.payload.get(7..).unwrap_or_default()).into_owned();
                Err(format!("the broker closed with {text:?}").into())
            }
            _ => Ok(Some(frame)),
        }
    }

    /// The connection, and what came and was not looked at.
    pub(crate) fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.buffer[self.begin..self.end].to_vec())
    }

    fn call(
        &mut self,
        channel: u16,
        id: (u16, u16),
        arguments: &[u8],
        answer: (u16, u16),
    ) -> Result<(), Error> {
        self.send(&codec::method(channel, id, arguments))?;
        self.expect(answer)
    }

    fn expect(&mut self, id: (u16, u16)) -> Result<(), Error> {
        loop {
            match self.next()? {
                Some(frame) if frame.method() == Some(id) => return Ok(()),
                Some(frame) => return Err(format!("{:?} came, not {id:?}", frame.method()).into()),
                None => self.receive()?,
            }
        }
    }
}

fn binding(queue: &str, exchange: &str, key: &str) -> Vec<u8> {
    [vec![0, 0], [queue, exchange, key].map(codec::shortstr).concat(), vec![0], codec::longstr(b"")].concat()
}

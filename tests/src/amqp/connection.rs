//! A connection: handshake, frames, contents.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::codec::{self, BODY, Frame, HEADER, PROTOCOL_HEADER, Reader, Value, Writer};
use super::method::{self, Id};

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
/// What this client takes at most; the broker may want less.
const FRAME_BYTES_MAX: u32 = 131_072;

/// What ends a call.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The broker closed the socket.
    #[error("the connection ended")]
    Ended,
    /// The broker closed the channel, or the connection (channel 0).
    #[error("channel {channel} closed by {code} {text}")]
    Closed {
        /// Which one; 0 is the connection.
        channel: u16,
        /// Reply code.
        code: u16,
        /// Reply text.
        text: String,
        /// The method that failed.
        failing: Id,
    },
    /// Another frame was to come.
    #[error("{0}")]
    Unexpected(String),
    /// Nothing came.
    #[error("nothing came in {PATIENCE:?}")]
    Timeout,
}

/// What a client says in connection.tune-ok.
#[derive(Debug, Clone, Copy)]
pub struct Tune {
    /// Highest channel number.
    pub channel_max: u16,
    /// Largest frame; 0: as the broker says.
    pub frame_max: u32,
    /// Seconds; 0: none.
    pub heartbeat: u16,
}

impl Default for Tune {
    fn default() -> Self {
        Self { channel_max: 2047, frame_max: FRAME_BYTES_MAX, heartbeat: 0 }
    }
}

/// A method with its header and body: basic.deliver, basic.get-ok, basic.return.
#[derive(Debug, Clone)]
pub struct Content {
    /// The channel it came on.
    pub channel: u16,
    /// The method's frame.
    pub method: Frame,
    /// Property flags and property list.
    pub properties: Bytes,
    /// Body.
    pub body: Bytes,
}

impl Content {
    /// Delivery tag and redelivered of a basic.deliver or basic.get-ok.
    pub fn delivery(&self) -> (u64, bool) {
        let mut arguments = self.method.arguments();
        if self.method.method() == Some(method::BASIC_DELIVER) {
            arguments.shortstr();
        }
        (arguments.longlong(), arguments.octet() != 0)
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
    /// As negotiated.
    pub(super) frame_max: usize,
}

impl Connection {
    /// Only the socket.
    pub async fn raw(port: u16) -> Result<Self, Error> {
        Self::raw_to(Ipv4Addr::LOCALHOST, port).await
    }

    /// Only the socket, to any address.
    pub async fn raw_to(addr: Ipv4Addr, port: u16) -> Result<Self, Error> {
        let stream = TcpStream::connect((addr, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::with_capacity(64 << 10), frame_max: 4096 })
    }

    /// A connection as guest.
    pub async fn open(port: u16) -> Result<Self, Error> {
        Self::open_with(port, Tune::default()).await
    }

    /// A connection as guest with these limits.
    pub async fn open_with(port: u16, tune: Tune) -> Result<Self, Error> {
        Self::open_tuned(port, tune, ("guest", "guest"), "/").await
    }

    /// A connection with this login to this virtual host.
    pub async fn open_as(port: u16, login: (&str, &str), vhost: &str) -> Result<Self, Error> {
        Self::open_tuned(port, Tune::default(), login, vhost).await
    }

    async fn open_tuned(
        port: u16,
        tune: Tune,
        (user, password): (&str, &str),
        vhost: &str,
    ) -> Result<Self, Error> {
        let mut connection = Self::raw(port).await?;
        connection.send(&PROTOCOL_HEADER).await?;
        connection.expect(0, method::CONNECTION_START).await?;
        connection.start_ok("PLAIN", format!("\0{user}\0{password}").as_bytes()).await?;
        let mut offered = connection.expect(0, method::CONNECTION_TUNE).await?;
        let (_, frame_max) = (offered.short(), offered.long());
        let frame_max = if tune.frame_max == 0 { frame_max } else { tune.frame_max };
        let arguments = Writer::new().short(tune.channel_max).long(frame_max).short(tune.heartbeat);
        connection.method(0, method::CONNECTION_TUNE_OK, &arguments).await?;
        connection.frame_max = frame_max as usize;
        let arguments = Writer::new().shortstr(vhost).shortstr("").octet(0);
        connection.call(0, method::CONNECTION_OPEN, &arguments, method::CONNECTION_OPEN_OK).await?;
        Ok(connection)
    }

    /// Answers connection.start.
    pub async fn start_ok(&mut self, mechanism: &str, response: &[u8]) -> Result<(), Error> {
        let able = ["consumer_cancel_notify", "authentication_failure_close", "basic.nack"];
        self.start_ok_able(mechanism, response, &able).await
    }

    /// Answers connection.start as a client with these capabilities.
    pub async fn start_ok_able(
        &mut self,
        mechanism: &str,
        response: &[u8],
        able: &[&str],
    ) -> Result<(), Error> {
        let capabilities: Vec<_> = able.iter().map(|name| ((*name).to_string(), Value::Bool(true))).collect();
        let properties = [
            ("product".to_string(), Value::Text("leveret-tests".into())),
            ("capabilities".to_string(), Value::Table(capabilities)),
        ];
        let arguments =
            Writer::new().table(&properties).shortstr(mechanism).longstr(response).shortstr("en_US");
        self.method(0, method::CONNECTION_START_OK, &arguments).await
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.map_err(|_| Error::Timeout)??;
        Ok(())
    }

    /// Sends a method.
    pub async fn method(&mut self, channel: u16, id: Id, arguments: &Writer) -> Result<(), Error> {
        self.send(&codec::method(channel, id, arguments)).await
    }

    /// Sends a method and waits for its answer.
    pub async fn call(
        &mut self,
        channel: u16,
        id: Id,
        arguments: &Writer,
        answer: Id,
    ) -> Result<Reader, Error> {
        self.method(channel, id, arguments).await?;
        self.expect(channel, answer).await
    }

    /// The next frame, whatever it is. May be dropped while it waits: nothing is lost.
    pub async fn frame(&mut self) -> Result<Frame, Error> {
        timeout(PATIENCE, self.frame_now_or_later()).await.map_err(|_| Error::Timeout)?
    }

    async fn frame_now_or_later(&mut self) -> Result<Frame, Error> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(Error::Ended);
            }
        }
    }

    /// A frame that has come already.
    pub fn buffered(&mut self) -> Result<Option<Frame>, Error> {
        Frame::parse(&mut self.buffer).map_err(Error::Unexpected)
    }

    /// The next frame that is no heartbeat; a close is answered and is an error.
    pub async fn next(&mut self) -> Result<Frame, Error> {
        loop {
            let frame = self.frame().await?;
            if frame.kind != codec::HEARTBEAT {
                return self.unless_closed(frame).await;
            }
        }
    }

    /// The next frame must be this method on this channel; its arguments.
    pub async fn expect(&mut self, channel: u16, id: Id) -> Result<Reader, Error> {
        let frame = self.next().await?;
        match frame.channel == channel && frame.method() == Some(id) {
            true => Ok(frame.arguments()),
            false => {
                Err(Error::Unexpected(format!("{id:?} was to come on channel {channel}, not {frame:?}")))
            }
        }
    }

    /// The next frame must begin a content; all of it.
    pub async fn content(&mut self) -> Result<Content, Error> {
        let method = self.next().await?;
        self.content_of(method).await
    }

    /// The rest of a content whose method has come. Only for connections that use one channel.
    pub async fn content_of(&mut self, method: Frame) -> Result<Content, Error> {
        let wrong = |frame: Frame| Error::Unexpected(format!("a content was to come, not {frame:?}"));
        let header = match method.method() {
            Some(method::BASIC_DELIVER | method::BASIC_GET_OK | method::BASIC_RETURN) => self.next().await?,
            _ => return Err(wrong(method)),
        };
        if header.kind != HEADER || header.channel != method.channel {
            return Err(wrong(header));
        }
        let mut reader = Reader::new(header.payload.clone());
        let (_class, _weight, size) = (reader.short(), reader.short(), reader.longlong());
        let mut body = BytesMut::new();
        while (body.len() as u64) < size {
            let part = self.next().await?;
            if part.kind != BODY || part.channel != method.channel {
                return Err(wrong(part));
            }
            if part.payload.len() as u64 == size {
                let (channel, properties) = (method.channel, header.payload.slice(12..));
                return Ok(Content { channel, method, properties, body: part.payload });
            }
            body.extend_from_slice(&part.payload);
        }
        let (channel, properties) = (method.channel, header.payload.slice(12..));
        Ok(Content { channel, method, properties, body: body.freeze() })
    }

    async fn unless_closed(&mut self, frame: Frame) -> Result<Frame, Error> {
        let answer = match frame.method() {
            Some(method::CHANNEL_CLOSE) => method::CHANNEL_CLOSE_OK,
            Some(method::CONNECTION_CLOSE) => method::CONNECTION_CLOSE_OK,
            _ => return Ok(frame),
        };
        // The other side may not wait for the answer.
        let _ = self.method(frame.channel, answer, &Writer::new()).await;
        let mut arguments = frame.arguments();
        let (code, text) = (arguments.short(), arguments.shortstr());
        let failing = (arguments.short(), arguments.short());
        Err(Error::Closed { channel: frame.channel, code, text, failing })
    }

    /// Everything that comes until the socket ends, frames or not.
    pub async fn rest(&mut self) -> Result<Bytes, Error> {
        let all = async {
            loop {
                match self.stream.read_buf(&mut self.buffer).await {
                    Ok(0) => return Ok(self.buffer.split().freeze()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                        return Ok(self.buffer.split().freeze());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        timeout(PATIENCE, all).await.map_err(|_| Error::Timeout)?
    }

    /// Waits for the end of the socket; whatever comes before is dropped.
    pub async fn ended(&mut self) -> Result<(), Error> {
        loop {
            match self.frame().await {
                Ok(_) => {}
                Err(Error::Ended) => return Ok(()),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

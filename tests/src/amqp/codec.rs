//! Frames, arguments, field tables.
//!
//! ```text
//! frame = kind u8 | channel u16 | size u32 | payload… | end 0xCE        big-endian
//! ```

use bytes::{Buf, Bytes, BytesMut};

/// A frame with a method.
pub const METHOD: u8 = 1;
/// A frame with a content header.
pub const HEADER: u8 = 2;
/// A frame with a part of a body.
pub const BODY: u8 = 3;
/// A heartbeat.
pub const HEARTBEAT: u8 = 8;
/// The last byte of every frame.
pub const END: u8 = 0xCE;
/// What a client says first.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\x00\x00\x09\x01";
/// Bytes of a frame around its payload.
pub const OVERHEAD: usize = 8;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// METHOD, HEADER, BODY or HEARTBEAT.
    pub kind: u8,
    /// Channel number.
    pub channel: u16,
    /// What is in it.
    pub payload: Bytes,
}

impl Frame {
    /// Takes the first frame off the buffer; None when it is not all there.
    ///
    /// # Errors
    /// When the frame does not end as frames do.
    pub fn parse(buffer: &mut BytesMut) -> Result<Option<Self>, String> {
        let Some(size) = buffer.get(3..7) else { return Ok(None) };
        let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize;
        if buffer.len() < size + OVERHEAD {
            return Ok(None);
        }
        let mut frame = buffer.split_to(size + OVERHEAD).freeze();
        if frame[size + OVERHEAD - 1] != END {
            return Err(format!("a frame of {size} bytes ends with {:#x}", frame[size + OVERHEAD - 1]));
        }
        let (kind, channel) = (frame.get_u8(), frame.get_u16());
        frame.advance(4);
        frame.truncate(size);
        Ok(Some(Self { kind, channel, payload: frame }))
    }

    /// Class and method, when it is a method.
    pub fn method(&self) -> Option<(u16, u16)> {
        let payload = self.payload.get(..4).filter(|_| self.kind == METHOD)?;
        Some((u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]])))
    }

    /// A method's arguments.
    pub fn arguments(&self) -> Reader {
        Reader(self.payload.slice(4.min(self.payload.len())..))
    }
}

/// Bytes of a frame.
pub fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + OVERHEAD);
    out.push(kind);
    out.extend(channel.to_be_bytes());
    out.extend(u32::try_from(payload.len()).expect("a payload of a test").to_be_bytes());
    out.extend(payload);
    out.push(END);
    out
}

/// Bytes of a method's frame.
pub fn method(channel: u16, (class, method): (u16, u16), arguments: &Writer) -> Vec<u8> {
    let mut payload = Vec::with_capacity(4 + arguments.0.len());
    payload.extend(class.to_be_bytes());
    payload.extend(method.to_be_bytes());
    payload.extend(&arguments.0);
    frame(METHOD, channel, &payload)
}

/// A value in a field table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A long string.
    Text(String),
    /// 32 bits with a sign.
    Int(i32),
    /// True or false.
    Bool(bool),
    /// A table.
    Table(Vec<(String, Value)>),
}

/// Writes arguments.
#[derive(Debug, Clone, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A byte; also bits packed into one.
    #[must_use]
    pub fn octet(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    /// 16 bits.
    #[must_use]
    pub fn short(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// 32 bits.
    #[must_use]
    pub fn long(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// 64 bits.
    #[must_use]
    pub fn longlong(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// A string of at most 255 bytes.
    #[must_use]
    pub fn shortstr(mut self, text: &str) -> Self {
        self.0.push(u8::try_from(text.len()).expect("a short string"));
        self.0.extend(text.as_bytes());
        self
    }

    /// A string.
    #[must_use]
    pub fn longstr(mut self, bytes: &[u8]) -> Self {
        self.0.extend(u32::try_from(bytes.len()).expect("a string of a test").to_be_bytes());
        self.0.extend(bytes);
        self
    }

    /// A field table.
    #[must_use]
    pub fn table(self, entries: &[(String, Value)]) -> Self {
        let mut inner = Self::new();
        for (name, value) in entries {
            inner = inner.shortstr(name).value(value);
        }
        self.longstr(&inner.0)
    }

    fn value(self, value: &Value) -> Self {
        match value {
            Value::Text(text) => self.octet(b'S').longstr(text.as_bytes()),
            Value::Int(number) => self.octet(b'I').long(number.cast_unsigned()),
            Value::Bool(bit) => self.octet(b't').octet(u8::from(*bit)),
            Value::Table(entries) => self.octet(b'F').table(entries),
        }
    }
}

/// Reads arguments; what is missing reads as zero or empty, and the comparison that follows will say so.
#[derive(Debug, Clone)]
pub struct Reader(Bytes);

impl Reader {
    /// Over a payload.
    pub fn new(payload: Bytes) -> Self {
        Self(payload)
    }

    /// A byte.
    pub fn octet(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// 16 bits.
    pub fn short(&mut self) -> u16 {
        u16::try_from(self.number(2)).unwrap_or(0)
    }

    /// 32 bits.
    pub fn long(&mut self) -> u32 {
        u32::try_from(self.number(4)).unwrap_or(0)
    }

    /// 64 bits.
    pub fn longlong(&mut self) -> u64 {
        self.number(8)
    }

    /// A string of at most 255 bytes.
    pub fn shortstr(&mut self) -> String {
        let length = usize::from(self.octet());
        String::from_utf8_lossy(&self.take(length)).into_owned()
    }

    /// A string.
    pub fn longstr(&mut self) -> Bytes {
        let length = self.long() as usize;
        self.take(length)
    }

    fn number(&mut self, bytes: usize) -> u64 {
        self.take(bytes).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn take(&mut self, length: usize) -> Bytes {
        self.0.split_to(length.min(self.0.len()))
    }
}

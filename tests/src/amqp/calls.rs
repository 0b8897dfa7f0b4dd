//! The calls that tests make all the time.

use super::codec::{self, BODY, HEADER, OVERHEAD, Value, Writer};
use super::connection::{Connection, Content, Error};
use super::method;

/// The bit `durable` of queue.declare and exchange.declare.
pub const DURABLE: u8 = 2;

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// basic.ack
    Ack,
    /// basic.nack with requeue
    Requeue,
    /// basic.nack without
    Reject,
}

impl Settle {
    /// Bytes of the frame.
    pub fn bytes(self, channel: u16, tag: u64, multiple: bool) -> Vec<u8> {
        let (id, bits) = match self {
            Self::Ack => (method::BASIC_ACK, 0),
            Self::Requeue => (method::BASIC_NACK, 2),
            Self::Reject => (method::BASIC_NACK, 0),
        };
        codec::method(channel, id, &Writer::new().longlong(tag).octet(bits | u8::from(multiple)))
    }
}

/// Arguments of queue.declare; `bits`: passive 1, durable 2, exclusive 4, auto-delete 8, no-wait 16.
pub fn queue(name: &str, bits: u8, arguments: &[(String, Value)]) -> Writer {
    Writer::new().short(0).shortstr(name).octet(bits).table(arguments)
}

/// Bytes of a publish: method, header and body frames. `bits`: mandatory 1, immediate 2.
pub fn publish(
    channel: u16,
    (exchange, key): (&str, &str),
    bits: u8,
    properties: &[u8],
    body: &[u8],
    frame_max: usize,
) -> Vec<u8> {
    let arguments = Writer::new().short(0).shortstr(exchange).shortstr(key).octet(bits);
    let mut out = codec::method(channel, method::BASIC_PUBLISH, &arguments);
    out.extend(header(channel, body.len() as u64, properties));
    for part in body.chunks(frame_max - OVERHEAD) {
        out.extend(codec::frame(BODY, channel, part));
    }
    out
}

/// Bytes of a content header's frame; `properties` are property flags and property list.
pub fn header(channel: u16, body_bytes: u64, properties: &[u8]) -> Vec<u8> {
    let mut payload = Writer::new().short(60).short(0).longlong(body_bytes).0;
    payload.extend(properties);
    codec::frame(HEADER, channel, &payload)
}

/// Property flags and list of a message that says how long it is to live.
pub fn delivery_mode(persistent: bool) -> [u8; 3] {
    [0x10, 0x00, if persistent { 2 } else { 1 }]
}

impl Connection {
    /// Opens a channel.
    pub async fn channel(&mut self, channel: u16) -> Result<(), Error> {
        let arguments = Writer::new().shortstr("");
        self.call(channel, method::CHANNEL_OPEN, &arguments, method::CHANNEL_OPEN_OK).await.map(drop)
    }

    /// Puts a channel into confirm mode.
    pub async fn confirm_select(&mut self, channel: u16) -> Result<(), Error> {
        let arguments = Writer::new().octet(0);
        self.call(channel, method::CONFIRM_SELECT, &arguments, method::CONFIRM_SELECT_OK).await.map(drop)
    }

    /// Puts a channel into transaction mode.
    pub async fn tx_select(&mut self, channel: u16) -> Result<(), Error> {
        self.call(channel, method::TX_SELECT, &Writer::new(), method::TX_SELECT_OK).await.map(drop)
    }

    /// Commits.
    pub async fn tx_commit(&mut self, channel: u16) -> Result<(), Error> {
        self.call(channel, method::TX_COMMIT, &Writer::new(), method::TX_COMMIT_OK).await.map(drop)
    }

    /// Declares a durable queue; how many ready messages it has.
    pub async fn declare_queue(
        &mut self,
        channel: u16,
        name: &str,
        arguments: &[(String, Value)],
    ) -> Result<u32, Error> {
        self.call(channel, method::QUEUE_DECLARE, &queue(name, DURABLE, arguments), method::QUEUE_DECLARE_OK)
            .await
            .map(|mut answer| {
                answer.shortstr();
                answer.long()
            })
    }

    /// Declares a durable exchange.
    pub async fn declare_exchange(&mut self, channel: u16, name: &str, kind: &str) -> Result<(), Error> {
        let arguments = Writer::new().short(0).shortstr(name).shortstr(kind).octet(DURABLE).table(&[]);
        self.call(channel, method::EXCHANGE_DECLARE, &arguments, method::EXCHANGE_DECLARE_OK).await.map(drop)
    }

    /// Binds a queue.
    pub async fn bind(&mut self, channel: u16, exchange: &str, queue: &str, key: &str) -> Result<(), Error> {
        let arguments =
            Writer::new().short(0).shortstr(queue).shortstr(exchange).shortstr(key).octet(0).table(&[]);
        self.call(channel, method::QUEUE_BIND, &arguments, method::QUEUE_BIND_OK).await.map(drop)
    }

    /// Unbinds a queue.
    pub async fn unbind(
        &mut self,
        channel: u16,
        exchange: &str,
        queue: &str,
        key: &str,
    ) -> Result<(), Error> {
        let arguments = Writer::new().short(0).shortstr(queue).shortstr(exchange).shortstr(key).table(&[]);
        self.call(channel, method::QUEUE_UNBIND, &arguments, method::QUEUE_UNBIND_OK).await.map(drop)
    }

    /// Removes the ready messages of a queue.
    pub async fn purge(&mut self, channel: u16, queue: &str) -> Result<u32, Error> {
        let arguments = Writer::new().short(0).shortstr(queue).octet(0);
        let answer = self.call(channel, method::QUEUE_PURGE, &arguments, method::QUEUE_PURGE_OK).await;
        answer.map(|mut answer| answer.long())
    }

    /// Deletes a queue.
    pub async fn delete_queue(&mut self, channel: u16, queue: &str) -> Result<u32, Error> {
        let arguments = Writer::new().short(0).shortstr(queue).octet(0);
        let answer = self.call(channel, method::QUEUE_DELETE, &arguments, method::QUEUE_DELETE_OK).await;
        answer.map(|mut answer| answer.long())
    }

    /// Says how many messages may be out; `global`: on the whole channel.
    pub async fn qos(&mut self, channel: u16, messages: u16, global: bool) -> Result<(), Error> {
        let arguments = Writer::new().long(0).short(messages).octet(u8::from(global));
        self.call(channel, method::BASIC_QOS, &arguments, method::BASIC_QOS_OK).await.map(drop)
    }

    /// Starts a consumer that acks; its tag.
    pub async fn consume(&mut self, channel: u16, queue: &str) -> Result<String, Error> {
        let arguments = Writer::new().short(0).shortstr(queue).shortstr("").octet(0).table(&[]);
        let answer = self.call(channel, method::BASIC_CONSUME, &arguments, method::BASIC_CONSUME_OK).await;
        answer.map(|mut answer| answer.shortstr())
    }

    /// Gets a message that has to be settled, if there is one.
    pub async fn get(&mut self, channel: u16, queue: &str) -> Result<Option<Content>, Error> {
        let arguments = Writer::new().short(0).shortstr(queue).octet(0);
        self.method(channel, method::BASIC_GET, &arguments).await?;
        let answer = self.next().await?;
        match answer.method() {
            Some(method::BASIC_GET_EMPTY) => Ok(None),
            _ => self.content_of(answer).await.map(Some),
        }
    }

    /// Publishes.
    pub async fn publish(
        &mut self,
        channel: u16,
        exchange: &str,
        key: &str,
        persistent: bool,
        body: &[u8],
    ) -> Result<(), Error> {
        let bytes = publish(channel, (exchange, key), 0, &delivery_mode(persistent), body, self.frame_max);
        self.send(&bytes).await
    }

    /// Settles; does not wait, there is no answer.
    pub async fn settle(
        &mut self,
        channel: u16,
        settle: Settle,
        tag: u64,
        multiple: bool,
    ) -> Result<(), Error> {
        self.send(&settle.bytes(channel, tag, multiple)).await
    }
}

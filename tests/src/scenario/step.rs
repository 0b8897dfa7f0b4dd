//! The steps of a scenario, as typed tables: `{ do = "queue.declare", queue = "q", durable = false }`. A key that no
//! step of that kind has is an error.

use serde::Deserialize;

pub(super) use super::fault::Fault;
use super::properties::Properties;
use super::value::Table;

/// Connection and channel: "a/1" unless the step says otherwise. They are opened when they are first used.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct At {
    pub(super) connection: String,
    pub(super) channel: u16,
}

impl Default for At {
    fn default() -> Self {
        Self { connection: "a".into(), channel: 1 }
    }
}

impl TryFrom<String> for At {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (connection, channel) = text.split_once('/').unwrap_or((&text, "1"));
        let channel = channel.parse().map_err(|_| format!("'{text}' is not a connection and a channel"))?;
        Ok(Self { connection: connection.into(), channel })
    }
}

/// Where a step is done, when not everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Only {
    /// On Leveret, over either protocol.
    Leveret,
    /// On RabbitMQ.
    Rabbitmq,
    /// Over AMQP, on either broker.
    Amqp,
    /// Over gRPC.
    Grpc,
}

/// What is compared of a message that is delivered, got or returned. What is not named may be anything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Content {
    pub(super) body: Option<String>,
    pub(super) exchange: Option<String>,
    pub(super) key: Option<String>,
    pub(super) redelivered: Option<bool>,
    pub(super) tag: Option<u64>,
    /// Ready messages that are left, of a get.
    pub(super) left: Option<u64>,
    pub(super) consumer: Option<String>,
    pub(super) properties: Properties,
    /// Properties or headers that must not be there.
    pub(super) absent: Vec<String>,
    /// Keeps the message's reply_to under this name.
    pub(super) save_reply_to: Option<String>,
}

macro_rules! steps {
    ($( $(#[$doc:meta])* $tag:literal $name:ident { $( $(#[$field_meta:meta])* $field:ident: $ty:ty, )* } )+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Default, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub(super) struct $name {
                pub(super) at: At,
                pub(super) only: Option<Only>,
                /// The step is refused so.
                pub(super) error: Option<Fault>,
                $( $(#[$field_meta])* pub(super) $field: $ty, )*
            }
        )+

        /// A step.
        #[derive(Debug, Clone, Deserialize)]
        #[serde(tag = "do")]
        pub(super) enum Step {
            $( #[serde(rename = $tag)] $name($name), )+
        }

        impl Step {
            /// Its name in the files.
            pub(super) fn name(&self) -> &'static str {
                match self { $( Self::$name(_) => $tag, )+ }
            }

            /// Where it is done, when not everywhere.
            pub(super) fn only(&self) -> Option<Only> {
                match self { $( Self::$name(step) => step.only, )+ }
            }

            /// The connection and channel.
            pub(super) fn at(&self) -> &At {
                match self { $( Self::$name(step) => &step.at, )+ }
            }

            /// How it is refused.
            pub(super) fn error(&self) -> Option<&Fault> {
                match self { $( Self::$name(step) => step.error.as_ref(), )+ }
            }
        }
    };
}

steps! {
    /// Opens a connection by hand. Over gRPC only user and password can be said.
    "connect" Connect {
        /// Protocol header in hexadecimal digits.
        header: Option<String>,
        /// "PLAIN" unless said otherwise.
        mechanism: Option<String>,
        /// SASL response in hexadecimal digits, instead of user and password.
        response: Option<String>,
        /// "guest" unless said otherwise.
        user: Option<String>,
        /// The user's own unless said otherwise.
        password: Option<String>,
        /// A password of so many bytes.
        password_bytes: Option<usize>,
        /// The client's capabilities that are true.
        capabilities: Option<Vec<String>>,
        channel_max: Option<u16>,
        frame_max: Option<u32>,
        heartbeat: Option<u16>,
        vhost: Option<String>,
        /// Goes no further than to send the "header", to read "start", to send the "login", to read "tune", to send
        /// connection."open".
        until: Option<String>,
        /// What connection.start must offer.
        offered: Option<Offered>,
        /// What connection.tune must offer: channel_max, frame_max, heartbeat.
        tuned: Option<(u16, u32, u16)>,
    }
    /// Ends a connection: by connection.close, or by dropping the socket.
    "disconnect" Disconnect { abrupt: bool, }
    "channel.open" ChannelOpen {}
    "channel.close" ChannelClose {
        /// Does not wait for close-ok.
        no_wait: bool,
    }
    "channel.flow" ChannelFlow { active: bool, }
    "exchange.declare" ExchangeDeclare {
        exchange: String,
        r#type: Option<String>,
        durable: Option<bool>,
        auto_delete: bool,
        internal: bool,
        passive: bool,
        arguments: Table,
    }
    "exchange.delete" ExchangeDelete { exchange: String, if_unused: bool, }
    "exchange.bind" ExchangeBind { destination: String, source: String, key: String, arguments: Table, }
    "exchange.unbind" ExchangeUnbind { destination: String, source: String, key: String, arguments: Table, }
    "queue.declare" QueueDeclare {
        queue: String,
        durable: Option<bool>,
        exclusive: bool,
        auto_delete: bool,
        passive: bool,
        arguments: Table,
        /// Ready messages, in the answer.
        ready: Option<u64>,
        /// Consumers, in the answer.
        consumers: Option<u64>,
        /// What the name in the answer begins with.
        named: Option<String>,
        /// Keeps the name under this one: "$name" stands for it later.
        save: Option<String>,
    }
    "queue.delete" QueueDelete { queue: String, if_unused: bool, if_empty: bool, messages: Option<u64>, }
    "queue.purge" QueuePurge { queue: String, messages: Option<u64>, }
    "queue.bind" QueueBind { queue: String, exchange: String, key: String, arguments: Table, }
    "queue.unbind" QueueUnbind { queue: String, exchange: String, key: String, arguments: Table, }
    "qos" Qos { size: u32, count: u16, global: bool, }
    "consume" Consume {
        queue: String,
        tag: String,
        no_local: bool,
        no_ack: bool,
        exclusive: bool,
        arguments: Table,
        /// What the tag in the answer begins with.
        tagged: Option<String>,
        /// Does not wait for the answer: "expect.method" does.
        no_wait: bool,
    }
    "cancel" Cancel {
        tag: String,
        /// Does not wait for the answer: "expect.method" does.
        no_wait: bool,
    }
    /// Publishes one message or several.
    "publish" Publish {
        exchange: String,
        key: String,
        body: String,
        bodies: Vec<String>,
        /// A body of so many bytes.
        body_bytes: Option<usize>,
        persistent: Option<bool>,
        mandatory: bool,
        immediate: bool,
        properties: Properties,
        /// Waits for this outcome: "ack" or "nack".
        confirm: Option<String>,
    }
    /// Gets one message; without `expect` there must be none.
    "get" Get { queue: String, no_ack: bool, expect: Option<Content>, }
    "ack" Ack { tag: u64, multiple: bool, }
    "nack" Nack { tag: u64, multiple: bool, requeue: Option<bool>, }
    "reject" Reject { tag: u64, requeue: Option<bool>, }
    "recover" Recover { requeue: bool, asynchronous: bool, }
    "confirm.select" ConfirmSelect {}
    "tx.select" TxSelect {}
    "tx.commit" TxCommit {}
    "tx.rollback" TxRollback {}
    /// Sends a method as it is written here.
    "send" Send {
        /// Class and method.
        method: (u16, u16),
        arguments: Vec<Argument>,
    }
    /// Sends a frame as it is written here.
    "frame" Frame {
        kind: u8,
        /// Hexadecimal digits.
        payload: String,
        /// A payload of so many bytes.
        payload_bytes: Option<usize>,
        /// Instead of 206.
        end: Option<u8>,
        /// Channel number, instead of that of `at`; so none is opened.
        channel: Option<u16>,
    }
    /// Sends bytes as they are.
    "bytes" RawBytes { hex: String, }
    /// The next thing on the channel is a delivery.
    "expect.deliver" ExpectDeliver { content: Content, bodies: Vec<String>, }
    /// The next thing on the channel is a returned message.
    "expect.return" ExpectReturn { code: Option<u16>, text: Option<String>, content: Content, }
    /// The next thing on the channel is a confirm.
    "expect.confirm" ExpectConfirm {
        tag: u64,
        /// "ack" or "nack".
        is: String,
    }
    /// These publishes of the channel are confirmed so, in any order.
    "expect.confirms" ExpectConfirms { acks: Vec<u64>, nacks: Vec<u64>, }
    /// The next thing on the channel is basic.cancel.
    "expect.cancel" ExpectCancel { tag: String, }
    /// The next thing on the channel is this method.
    "expect.method" ExpectMethod { method: (u16, u16), }
    /// The next thing on the channel is the end of it or of the connection, as `error` says.
    "expect.close" ExpectClose {
        /// Class and method that failed.
        method: (u16, u16),
    }
    /// The socket ends, with nothing more before.
    "expect.end" ExpectEnd {
        /// Within so long.
        within_ms: Option<u64>,
    }
    /// These bytes come, and then the socket ends.
    "expect.bytes" ExpectBytes { hex: String, }
    /// A heartbeat comes.
    "expect.heartbeat" ExpectHeartbeat { within_ms: u64, }
    /// Sooner or later a queue is so; not for exclusive ones.
    "expect.queue" ExpectQueue {
        queue: String,
        ready: Option<u64>,
        consumers: Option<u64>,
        gone: bool,
        within_ms: Option<u64>,
    }
    /// Sooner or later an exchange is gone, or it is there.
    "expect.exchange" ExpectExchange { exchange: String, gone: bool, }
    /// Nothing comes on the connection for a while.
    "quiet" Quiet { ms: Option<u64>, }
    "wait" Wait { ms: u64, }
    /// Adds a user, whose password is "secret". It may do nothing.
    "user.add" UserAdd { user: String, }
    /// Adds a virtual host.
    "vhost.add" VhostAdd { vhost: String, }
    /// Says what a user may do in a virtual host: in "/" unless it is named.
    "permissions" Permissions {
        user: String,
        vhost: Option<String>,
        configure: String,
        write: String,
        read: String,
    }
    /// Says with which routing keys a user may use a topic exchange.
    "topic.permissions" TopicPermissions {
        user: String,
        vhost: Option<String>,
        exchange: String,
        write: String,
        read: String,
    }
    /// Stops the broker and starts it again.
    "restart" Restart {}
    /// kill -9, and starts it again.
    "kill" Kill {}
}

/// What connection.start must offer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Offered {
    pub(super) version: Option<(u8, u8)>,
    pub(super) mechanisms: Vec<String>,
    pub(super) locales: Vec<String>,
    /// Capabilities that are true.
    pub(super) capabilities: Vec<String>,
    /// Properties of the server; `{ any = "text" }` for those that differ.
    pub(super) properties: Table,
}

/// One argument of a method.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Argument {
    Octet(u8),
    Short(u16),
    Long(u32),
    Longlong(u64),
    Shortstr(String),
    Longstr(String),
    Table(Table),
}

impl Step {
    /// It fails when the broker does not do what it says.
    pub(super) fn asserts(&self) -> bool {
        let named =
            |step: &QueueDeclare| step.ready.is_some() || step.consumers.is_some() || step.named.is_some();
        self.error().is_some()
            || self.name().starts_with("expect.")
            || match self {
                Self::Get(_) | Self::Quiet(_) => true,
                Self::Connect(step) => step.offered.is_some() || step.tuned.is_some(),
                Self::QueueDeclare(step) => named(step),
                Self::QueueDelete(step) => step.messages.is_some(),
                Self::QueuePurge(step) => step.messages.is_some(),
                Self::Publish(step) => step.confirm.is_some(),
                Self::Consume(step) => step.tagged.is_some(),
                _ => false,
            }
    }
}

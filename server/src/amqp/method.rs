//! The methods of AMQP 0-9-1 as a table (specification, part "reference", sections 1.1 to 1.7, with the extensions that
//! RabbitMQ and its clients use), and their bytes (section 4.2.4):
//!
//! ```text
//! method frame's payload = class u16 | method u16 | arguments, see wire.rs
//! ```

use leveret_broker::Table;

use super::wire::{Argument, Reader, WireError, Writer};

/// What is wrong with a method frame's payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// No such class or method.
    #[error("unknown method {class}.{method}")]
    Unknown {
        /// Class number.
        class: u16,
        /// Method number.
        method: u16,
    },
    /// The arguments are wrong.
    #[error("{name}: {error}")]
    Arguments {
        /// Class and method number.
        ids: (u16, u16),
        /// The method's name.
        name: &'static str,
        /// What is wrong.
        error: WireError,
    },
    /// Too short for the two numbers.
    #[error("a method frame of {0} bytes is too short")]
    Short(usize),
}

macro_rules! methods {
    ($( $class:literal $class_name:literal { $(
        $id:literal $name:literal $variant:ident { $( $field:ident: $ty:ty ),* $(,)? }
    )+ } )+) => {
        /// A method. Strings are borrowed from the frame.
        #[derive(Debug, Clone, PartialEq)]
        #[expect(missing_docs, reason = "the specification's names say it")]
        pub enum Method<'a> {
            $($( $variant { $( $field: $ty ),* }, )+)+
        }

        impl<'a> Method<'a> {
            /// Class and method number.
            pub fn ids(&self) -> (u16, u16) {
                match self { $($( Self::$variant { .. } => ($class, $id), )+)+ }
            }

            /// "queue.declare".
            pub fn name(&self) -> &'static str {
                match self { $($( Self::$variant { .. } => concat!($class_name, ".", $name), )+)+ }
            }

            /// Reads the payload of a method frame.
            pub fn decode(payload: &'a [u8]) -> Result<Self, MethodError> {
                let Some((ids, arguments)) = payload.split_first_chunk::<4>() else {
                    return Err(MethodError::Short(payload.len()));
                };
                let (class, method) =
                    (u16::from_be_bytes([ids[0], ids[1]]), u16::from_be_bytes([ids[2], ids[3]]));
                let mut from = Reader::new(arguments);
                match (class, method) {
                    $($( ($class, $id) => {
                        #[allow(unused_mut, reason = "some methods have no arguments")]
                        let mut read = || {
                            $( let $field = <$ty as Argument<'a>>::read(&mut from)?; )*
                            Ok(Self::$variant { $($field),* })
                        };
                        let decoded = read().and_then(|decoded| from.end().map(|()| decoded));
                        decoded.map_err(|error| MethodError::Arguments {
                            ids: (class, method),
                            name: concat!($class_name, ".", $name),
                            error,
                        })
                    } )+)+
                    (class, method) => Err(MethodError::Unknown { class, method }),
                }
            }

            /// Writes the payload of a method frame.
            pub fn encode(&self, out: &mut Vec<u8>) {
                let (class, method) = self.ids();
                out.extend_from_slice(&class.to_be_bytes());
                out.extend_from_slice(&method.to_be_bytes());
                #[allow(unused_mut, unused_variables, reason = "some methods have no arguments")]
                let mut to = Writer::new(out);
                match self {
                    $($( Self::$variant { $($field),* } => { $( $field.write(&mut to); )* } )+)+
                }
            }
        }
    };
}

methods! {
    10 "connection" {
        10 "start" ConnectionStart {
            version_major: u8, version_minor: u8, server_properties: Table, mechanisms: &'a [u8], locales: &'a [u8],
        }
        11 "start-ok" ConnectionStartOk {
            client_properties: Table, mechanism: &'a str, response: &'a [u8], locale: &'a str,
        }
        20 "secure" ConnectionSecure { challenge: &'a [u8] }
        21 "secure-ok" ConnectionSecureOk { response: &'a [u8] }
        30 "tune" ConnectionTune { channel_max: u16, frame_max: u32, heartbeat: u16 }
        31 "tune-ok" ConnectionTuneOk { channel_max: u16, frame_max: u32, heartbeat: u16 }
        40 "open" ConnectionOpen { vhost: &'a str, reserved_1: &'a str, reserved_2: bool }
        41 "open-ok" ConnectionOpenOk { reserved_1: &'a str }
        50 "close" ConnectionClose { reply_code: u16, reply_text: &'a str, class_id: u16, method_id: u16 }
        51 "close-ok" ConnectionCloseOk {}
        60 "blocked" ConnectionBlocked { reason: &'a str }
        61 "unblocked" ConnectionUnblocked {}
        70 "update-secret" ConnectionUpdateSecret { new_secret: &'a [u8], reason: &'a str }
        71 "update-secret-ok" ConnectionUpdateSecretOk {}
    }
    20 "channel" {
        10 "open" ChannelOpen { reserved_1: &'a str }
        11 "open-ok" ChannelOpenOk { reserved_1: &'a [u8] }
        20 "flow" ChannelFlow { active: bool }
        21 "flow-ok" ChannelFlowOk { active: bool }
        40 "close" ChannelClose { reply_code: u16, reply_text: &'a str, class_id: u16, method_id: u16 }
        41 "close-ok" ChannelCloseOk {}
    }
    // Gone from the specification; clients of before 0-9-1 may still ask.
    30 "access" {
        10 "request" AccessRequest {
            realm: &'a str, exclusive: bool, passive: bool, active: bool, write: bool, read: bool,
        }
        11 "request-ok" AccessRequestOk { ticket: u16 }
    }
    40 "exchange" {
        10 "declare" ExchangeDeclare {
            reserved_1: u16, exchange: &'a str, kind: &'a str, passive: bool, durable: bool, auto_delete: bool,
            internal: bool, nowait: bool, arguments: Table,
        }
        11 "declare-ok" ExchangeDeclareOk {}
        20 "delete" ExchangeDelete { reserved_1: u16, exchange: &'a str, if_unused: bool, nowait: bool }
        21 "delete-ok" ExchangeDeleteOk {}
        30 "bind" ExchangeBind {
            reserved_1: u16, destination: &'a str, source: &'a str, routing_key: &'a str, nowait: bool,
            arguments: Table,
        }
        31 "bind-ok" ExchangeBindOk {}
        40 "unbind" ExchangeUnbind {
            reserved_1: u16, destination: &'a str, source: &'a str, routing_key: &'a str, nowait: bool,
            arguments: Table,
        }
        51 "unbind-ok" ExchangeUnbindOk {}
    }
    50 "queue" {
        10 "declare" QueueDeclare {
            reserved_1: u16, queue: &'a str, passive: bool, durable: bool, exclusive: bool, auto_delete: bool,
            nowait: bool, arguments: Table,
        }
        11 "declare-ok" QueueDeclareOk { queue: &'a str, message_count: u32, consumer_count: u32 }
        20 "bind" QueueBind {
            reserved_1: u16, queue: &'a str, exchange: &'a str, routing_key: &'a str, nowait: bool, arguments: Table,
        }
        21 "bind-ok" QueueBindOk {}
        30 "purge" QueuePurge { reserved_1: u16, queue: &'a str, nowait: bool }
        31 "purge-ok" QueuePurgeOk { message_count: u32 }
        40 "delete" QueueDelete { reserved_1: u16, queue: &'a str, if_unused: bool, if_empty: bool, nowait: bool }
        41 "delete-ok" QueueDeleteOk { message_count: u32 }
        50 "unbind" QueueUnbind {
            reserved_1: u16, queue: &'a str, exchange: &'a str, routing_key: &'a str, arguments: Table,
        }
        51 "unbind-ok" QueueUnbindOk {}
    }
    60 "basic" {
        10 "qos" BasicQos { prefetch_size: u32, prefetch_count: u16, global: bool }
        11 "qos-ok" BasicQosOk {}
        20 "consume" BasicConsume {
            reserved_1: u16, queue: &'a str, consumer_tag: &'a str, no_local: bool, no_ack: bool, exclusive: bool,
            nowait: bool, arguments: Table,
        }
        21 "consume-ok" BasicConsumeOk { consumer_tag: &'a str }
        30 "cancel" BasicCancel { consumer_tag: &'a str, nowait: bool }
        31 "cancel-ok" BasicCancelOk { consumer_tag: &'a str }
        40 "publish" BasicPublish {
            reserved_1: u16, exchange: &'a str, routing_key: &'a str, mandatory: bool, immediate: bool,
        }
        50 "return" BasicReturn { reply_code: u16, reply_text: &'a str, exchange: &'a str, routing_key: &'a str }
        60 "deliver" BasicDeliver {
            consumer_tag: &'a str, delivery_tag: u64, redelivered: bool, exchange: &'a str, routing_key: &'a str,
        }
        70 "get" BasicGet { reserved_1: u16, queue: &'a str, no_ack: bool }
        71 "get-ok" BasicGetOk {
            delivery_tag: u64, redelivered: bool, exchange: &'a str, routing_key: &'a str, message_count: u32,
        }
        72 "get-empty" BasicGetEmpty { reserved_1: &'a str }
        80 "ack" BasicAck { delivery_tag: u64, multiple: bool }
        90 "reject" BasicReject { delivery_tag: u64, requeue: bool }
        100 "recover-async" BasicRecoverAsync { requeue: bool }
        110 "recover" BasicRecover { requeue: bool }
        111 "recover-ok" BasicRecoverOk {}
        120 "nack" BasicNack { delivery_tag: u64, multiple: bool, requeue: bool }
    }
    85 "confirm" {
        10 "select" ConfirmSelect { nowait: bool }
        11 "select-ok" ConfirmSelectOk {}
    }
    90 "tx" {
        10 "select" TxSelect {}
        11 "select-ok" TxSelectOk {}
        20 "commit" TxCommit {}
        21 "commit-ok" TxCommitOk {}
        30 "rollback" TxRollback {}
        31 "rollback-ok" TxRollbackOk {}
    }
}

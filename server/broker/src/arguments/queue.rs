//! Arguments of queues: checked when a queue is declared, and read into a typed form once.

use std::sync::Arc;

use super::{integer, invalid, string};
use crate::refusal::{Refusal, RefusalKind};
use crate::seldom::Empty;
use crate::value::{Table, Value};

/// Known arguments of queues: two declarations must agree in them.
pub(crate) const QUEUE: [&str; 10] = [
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_ROUTING_KEY,
    MAX_PRIORITY,
    "x-single-active-consumer",
    DELIVERY_LIMIT,
];

pub(super) const QUEUE_TYPE: &str = "x-queue-type";
const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
const DEAD_LETTER_ROUTING_KEY: &str = "x-dead-letter-routing-key";
const MAX_PRIORITY: &str = "x-max-priority";
const DELIVERY_LIMIT: &str = "x-delivery-limit";
/// Longest time-to-live and expiry: ten years.
const TIME_MS_MAX: i128 = 315_360_000_000;
/// How often a message of a quorum queue may come back unless its queue says otherwise.
const DELIVERY_LIMIT_DEFAULT: u32 = 20;

/// What only classic queues know. Mode and version chose between ways of storing that are not ours to have; they are
/// checked, kept and ignored.
const CLASSIC_ONLY: [&str; 4] = [MAX_PRIORITY, "x-queue-mode", "x-queue-version", "x-queue-master-locator"];
/// What only quorum queues know. All but the limit speaks of replicas or of memory, and is kept and ignored; so is
/// the strategy, since every move of a dead letter is atomic.
const QUORUM_ONLY: [&str; 5] = [
    DELIVERY_LIMIT,
    "x-dead-letter-strategy",
    "x-quorum-initial-group-size",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
];
const STREAM_ONLY: [&str; 4] =
    ["x-max-age", "x-stream-max-segment-size-bytes", "x-stream-filter-size-bytes", "x-initial-cluster-size"];

/// What a queue's arguments ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct QueueArguments {
    pub(crate) queue_type: QueueType,
    /// Messages expire so long after they came.
    pub(crate) message_ttl_ms: Option<u64>,
    /// The queue goes when nobody uses it for so long.
    pub(crate) expires_ms: Option<u64>,
    /// Most ready messages.
    pub(crate) length_max: Option<u64>,
    /// Most bytes of ready bodies.
    pub(crate) bytes_max: Option<u64>,
    pub(crate) overflow: Overflow,
    pub(crate) dead_letter: Option<DeadLetterTo>,
    /// 0: messages have no priorities here.
    pub(crate) priority_max: u8,
    pub(crate) single_active_consumer: bool,
    /// How often a message may come back.
    pub(crate) delivery_limit: Option<u32>,
}

/// The kind of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum QueueType {
    #[default]
    Classic,
    /// Keeps every message, and gives one up that comes back too often.
    Quorum,
}

/// What gives way when a queue is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Overflow {
    /// Its oldest message.
    #[default]
    DropHead,
    /// The new message, and its publisher hears of it.
    RejectPublish,
    /// The same, and the new message is dead-lettered.
    RejectPublishDlx,
}

/// Where dead letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeadLetterTo {
    pub(crate) exchange: Arc<str>,
    /// None: with the keys that the message had.
    pub(crate) routing_key: Option<Arc<str>>,
}

impl Empty for QueueArguments {
    fn empty() -> &'static Self {
        static EMPTY: QueueArguments = QueueArguments {
            queue_type: QueueType::Classic,
            message_ttl_ms: None,
            expires_ms: None,
            length_max: None,
            bytes_max: None,
            overflow: Overflow::DropHead,
            dead_letter: None,
            priority_max: 0,
            single_active_consumer: false,
            delivery_limit: None,
        };
        &EMPTY
    }
}

impl QueueType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }
}

impl QueueArguments {
    /// Reads arguments that were accepted once, perhaps by a broker that knew fewer of them: what it did not know and
    /// thus did not check is ignored where it is not valid.
    pub(crate) fn read(arguments: &Table) -> Self {
        let text = |key| arguments.get(key).and_then(|value| string(value).ok());
        let number = |key| checked(key, arguments.get(key)?).ok().and_then(integer);
        let unsigned = |key| number(key).map(|n| u64::try_from(n).unwrap_or(u64::MAX));
        let name = |key| arguments.get(key).and_then(|value| name(value).ok());
        let queue_type = match text(QUEUE_TYPE) {
            Some(b"quorum") => QueueType::Quorum,
            _ => QueueType::Classic,
        };
        let delivery_limit = match (queue_type, number(DELIVERY_LIMIT)) {
            (QueueType::Classic, _) => None,
            (QueueType::Quorum, None) => Some(DELIVERY_LIMIT_DEFAULT),
            // Negative: none.
            (QueueType::Quorum, Some(n)) if n < 0 => None,
            (QueueType::Quorum, Some(n)) => Some(u32::try_from(n).unwrap_or(u32::MAX)),
        };
        let priority_max = match queue_type {
            QueueType::Classic => number(MAX_PRIORITY).and_then(|n| u8::try_from(n).ok()).unwrap_or(0),
            QueueType::Quorum => 0,
        };
        Self {
            queue_type,
            message_ttl_ms: unsigned("x-message-ttl"),
            expires_ms: unsigned("x-expires"),
            length_max: unsigned("x-max-length"),
            bytes_max: unsigned("x-max-length-bytes"),
            overflow: match text("x-overflow") {
                Some(b"reject-publish") => Overflow::RejectPublish,
                Some(b"reject-publish-dlx") => Overflow::RejectPublishDlx,
                _ => Overflow::DropHead,
            },
            dead_letter: name(DEAD_LETTER_EXCHANGE).map(|exchange| DeadLetterTo {
                exchange: Arc::from(exchange),
                routing_key: name(DEAD_LETTER_ROUTING_KEY).map(Arc::from),
            }),
            priority_max,
            single_active_consumer: arguments.get("x-single-active-consumer") == Some(&Value::Bool(true)),
            delivery_limit,
        }
    }
}

/// The other properties of a declaration, which some types of queues are particular about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueueFlags {
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    /// The server chooses its name.
    pub(crate) server_named: bool,
}

/// Checks the arguments of a new queue and reads them. `what` names it in sentences.
pub(crate) fn check_queue(
    what: &str,
    flags: QueueFlags,
    arguments: &Table,
) -> Result<QueueArguments, Refusal> {
    let queue_type = queue_type(what, arguments)?;
    let foreign: [&[&str]; 2] = match queue_type {
        QueueType::Classic => [&QUORUM_ONLY, &STREAM_ONLY],
        QueueType::Quorum => [&CLASSIC_ONLY, &STREAM_ONLY],
    };
    for key in foreign.into_iter().flatten() {
        if arguments.get(key).is_some() {
            let text = format!("invalid arg '{key}' for {what} of queue type {}", queue_type.name());
            return Err(Refusal::new(RefusalKind::PreconditionFailed, text).with("field", *key));
        }
    }
    for key in QUEUE.into_iter().chain(CLASSIC_ONLY) {
        let Some(value) = arguments.get(key) else { continue };
        checked(key, value).map_err(|wanted| invalid(key, what, wanted, value))?;
    }
    if let Some(value) = arguments.get(DEAD_LETTER_ROUTING_KEY)
        && arguments.get(DEAD_LETTER_EXCHANGE).is_none()
    {
        let wanted = "needs x-dead-letter-exchange beside it";
        return Err(invalid(DEAD_LETTER_ROUTING_KEY, what, wanted, value));
    }
    if queue_type == QueueType::Quorum {
        check_quorum(what, flags)?;
    }
    Ok(QueueArguments::read(arguments))
}

fn queue_type(what: &str, arguments: &Table) -> Result<QueueType, Refusal> {
    let Some(value) = arguments.get(QUEUE_TYPE) else { return Ok(QueueType::Classic) };
    match string(value) {
        Ok(b"classic") => Ok(QueueType::Classic),
        Ok(b"quorum") => Ok(QueueType::Quorum),
        Ok(b"stream") => {
            let text = format!("queues of type 'stream' are not implemented: {what}");
            Err(Refusal::new(RefusalKind::NotImplemented, text).with("field", QUEUE_TYPE))
        }
        Ok(_) => Err(invalid(QUEUE_TYPE, what, "must be 'classic', 'quorum' or 'stream'", value)),
        Err(wanted) => Err(invalid(QUEUE_TYPE, what, wanted, value)),
    }
}

/// A queue that is to keep everything cannot be one that goes with something else.
fn check_quorum(what: &str, flags: QueueFlags) -> Result<(), Refusal> {
    let refuse = |text: String| Err(Refusal::new(RefusalKind::PreconditionFailed, text));
    if flags.server_named {
        return refuse("Cannot declare a server-named queue for type quorum".into());
    }
    let property = match flags {
        QueueFlags { durable: false, .. } => "non-durable",
        QueueFlags { auto_delete: true, .. } => "auto-delete",
        QueueFlags { exclusive: true, .. } => "exclusive-owner",
        _ => return Ok(()),
    };
    refuse(format!("invalid property '{property}' for {what}"))
}

/// The value of a known argument, or what it must be.
fn checked<'a>(key: &str, value: &'a Value) -> Result<&'a Value, &'static str> {
    let number = |least: i128, most: i128, wanted: &'static str| {
        integer(value).filter(|n| (least..=most).contains(n)).map(drop).ok_or(wanted)
    };
    let one_of = |known: &[&[u8]], wanted: &'static str| {
        if known.contains(&string(value)?) { Ok(()) } else { Err(wanted) }
    };
    match key {
        "x-message-ttl" => number(0, TIME_MS_MAX, "must be a whole number from 0 to 315360000000"),
        "x-expires" => number(1, TIME_MS_MAX, "must be a whole number from 1 to 315360000000"),
        "x-max-length" | "x-max-length-bytes" => number(0, i128::MAX, "must be a whole number, at least 0"),
        MAX_PRIORITY => number(0, 255, "must be a whole number from 0 to 255"),
        DELIVERY_LIMIT => number(i128::MIN, i128::MAX, "must be a whole number"),
        "x-queue-version" => number(1, 2, "must be 1 or 2"),
        "x-queue-mode" => one_of(&[b"default", b"lazy"], "must be 'default' or 'lazy'"),
        "x-single-active-consumer" => match value {
            Value::Bool(_) => Ok(()),
            _ => Err("must be a boolean"),
        },
        "x-overflow" => one_of(
            &[b"drop-head", b"reject-publish", b"reject-publish-dlx"],
            "must be 'drop-head', 'reject-publish' or 'reject-publish-dlx'",
        ),
        DEAD_LETTER_EXCHANGE | DEAD_LETTER_ROUTING_KEY => name(value).map(drop),
        _ => string(value).map(drop),
    }?;
    Ok(value)
}

/// A value that is the name of an exchange, or a routing key.
fn name(value: &Value) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(string(value)?).map_err(|_| "must be UTF-8")?;
    if text.len() > crate::names::NAME_BYTES_MAX { Err("must be at most 255 bytes long") } else { Ok(text) }
}

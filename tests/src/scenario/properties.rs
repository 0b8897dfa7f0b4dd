//! The 14 properties of a message: as a scenario writes or expects them, and on the wire.

use bytes::{Buf, Bytes};
use serde::Deserialize;

use super::value::Table;
use crate::amqp::codec::Writer;

/// Properties. Of those that are expected, what is not named may be anything.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Properties {
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) headers: Option<Table>,
    pub(super) delivery_mode: Option<u8>,
    pub(super) priority: Option<u8>,
    pub(super) correlation_id: Option<String>,
    pub(super) reply_to: Option<String>,
    pub(super) expiration: Option<String>,
    pub(super) message_id: Option<String>,
    pub(super) timestamp: Option<u64>,
    pub(super) r#type: Option<String>,
    pub(super) user_id: Option<String>,
    pub(super) app_id: Option<String>,
    pub(super) cluster_id: Option<String>,
}

impl Properties {
    /// Property flags and list.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut flags = 0;
        let mut out = Writer::new();
        let mut text = |bit: u16, value: &Option<String>, out: Writer| match value {
            Some(value) => {
                flags |= 1 << bit;
                out.shortstr(value)
            }
            None => out,
        };
        out = text(15, &self.content_type, out);
        out = text(14, &self.content_encoding, out);
        let mut more = 0;
        if let Some(headers) = &self.headers {
            more |= 1 << 13;
            out = headers.write(out);
        }
        for (bit, value) in [(12, self.delivery_mode), (11, self.priority)] {
            if let Some(value) = value {
                more |= 1 << bit;
                out = out.octet(value);
            }
        }
        out = text(10, &self.correlation_id, out);
        out = text(9, &self.reply_to, out);
        out = text(8, &self.expiration, out);
        out = text(7, &self.message_id, out);
        if let Some(seconds) = self.timestamp {
            more |= 1 << 6;
            out = out.longlong(seconds);
        }
        out = text(5, &self.r#type, out);
        out = text(4, &self.user_id, out);
        out = text(3, &self.app_id, out);
        out = text(2, &self.cluster_id, out);
        let mut all = Writer::new().short(flags | more).0;
        all.extend(out.0);
        all
    }

    /// From property flags and list; None when they are cut off.
    pub(super) fn read(mut from: Bytes) -> Option<Self> {
        let flags = from.try_get_u16().ok()?;
        let has = |bit: u16| flags & 1 << bit != 0;
        let text = |bit: u16, from: &mut Bytes| {
            if !has(bit) {
                return Some(None);
            }
            let length = usize::from(from.try_get_u8().ok()?);
            let text = (length <= from.len()).then(|| from.split_to(length))?;
            Some(Some(String::from_utf8_lossy(&text).into_owned()))
        };
        Some(Self {
            content_type: text(15, &mut from)?,
            content_encoding: text(14, &mut from)?,
            headers: if has(13) { Some(Table::read(&mut from)?) } else { None },
            delivery_mode: if has(12) { Some(from.try_get_u8().ok()?) } else { None },
            priority: if has(11) { Some(from.try_get_u8().ok()?) } else { None },
            correlation_id: text(10, &mut from)?,
            reply_to: text(9, &mut from)?,
            expiration: text(8, &mut from)?,
            message_id: text(7, &mut from)?,
            timestamp: if has(6) { Some(from.try_get_u64().ok()?) } else { None },
            r#type: text(5, &mut from)?,
            user_id: text(4, &mut from)?,
            app_id: text(3, &mut from)?,
            cluster_id: text(2, &mut from)?,
        })
    }

    /// What differs from what is expected here.
    pub(super) fn differences(&self, actual: &Self) -> Vec<String> {
        let mut all = Vec::new();
        let mut same =
            |name: &str, ours: &dyn std::fmt::Debug, theirs: &dyn std::fmt::Debug, absent: bool| {
                let (ours, theirs) = (format!("{ours:?}"), format!("{theirs:?}"));
                if !absent && ours != theirs {
                    all.push(format!("{name} is {theirs}, not {ours}"));
                }
            };
        macro_rules! same {
            ($($field:ident),+) => {
                $( same(stringify!($field), &self.$field, &actual.$field, self.$field.is_none()); )+
            };
        }
        same!(content_type, content_encoding, delivery_mode, priority, correlation_id, reply_to, expiration);
        same!(message_id, timestamp, r#type, user_id, app_id, cluster_id);
        for (name, value) in self.headers.iter().flat_map(|headers| &headers.0) {
            match actual.headers.as_ref().and_then(|headers| headers.get(name)) {
                Some(theirs) if value.matches(theirs) => {}
                theirs => all.push(format!("header {name} is {theirs:?}, not {value:?}")),
            }
        }
        all
    }

    /// Whether the property, or else the header, of that name is there.
    pub(super) fn has(&self, name: &str) -> bool {
        match name {
            "content_type" => self.content_type.is_some(),
            "headers" => self.headers.is_some(),
            "delivery_mode" => self.delivery_mode.is_some(),
            "priority" => self.priority.is_some(),
            "correlation_id" => self.correlation_id.is_some(),
            "reply_to" => self.reply_to.is_some(),
            "expiration" => self.expiration.is_some(),
            "message_id" => self.message_id.is_some(),
            header => self.headers.as_ref().is_some_and(|headers| headers.get(header).is_some()),
        }
    }
}

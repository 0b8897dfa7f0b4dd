//! Reading of arguments that are more than a string.

use std::time::Duration;

use leveret_proto::v1::value::Kind;
use leveret_proto::v1::{Array, Table, TableEntry, Value};

use crate::config::SettingValue;

const NAME_BYTES_MAX: usize = 255;

/// "K=V" with the type that V looks like, or "K:=JSON" with the type that the JSON has.
pub(super) fn pair(text: &str) -> Result<TableEntry, String> {
    let (name, value) = text.split_once('=').ok_or("expected K=V or K:=JSON")?;
    let (name, kind) = match name.strip_suffix(':') {
        Some(name) => {
            let json = serde_json::from_str(value).map_err(|e| format!("'{value}' is not JSON: {e}"))?;
            (name, from_json(json)?)
        }
        None => (name, Some(guess(value))),
    };
    check_name(name)?;
    Ok(TableEntry { name: name.to_owned(), value: Some(Value { kind }) })
}

/// "30s", "500ms".
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text).ok_or_else(|| format!("expected {}", Duration::ALLOWED))
}

/// None when there are no entries.
pub(super) fn table(entries: Vec<TableEntry>) -> Option<Table> {
    (!entries.is_empty()).then_some(Table { entries })
}

fn guess(text: &str) -> Kind {
    match text {
        "true" => Kind::Bool(true),
        "false" => Kind::Bool(false),
        text => match text.parse() {
            // "+5" and "007" are not how an integer is written: they stay what they are.
            Ok(number) if i64::to_string(&number) == text => Kind::Int64(number),
            _ => Kind::Text(text.to_owned()),
        },
    }
}

fn from_json(json: serde_json::Value) -> Result<Option<Kind>, String> {
    Ok(Some(match json {
        serde_json::Value::Null => return Ok(None),
        serde_json::Value::Bool(yes) => Kind::Bool(yes),
        serde_json::Value::String(text) => Kind::Text(text),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Kind::Int64(whole),
            (None, Some(double)) if !number.is_u64() => Kind::Double(double),
            _ => return Err(format!("{number} does not fit into 64 bits with a sign")),
        },
        serde_json::Value::Array(values) => {
            let values = values.into_iter().map(|json| Ok(Value { kind: from_json(json)? }));
            Kind::Array(Array { values: values.collect::<Result<_, String>>()? })
        }
        serde_json::Value::Object(fields) => {
            let entries = fields.into_iter().map(|(name, json)| {
                check_name(&name)?;
                Ok(TableEntry { name, value: Some(Value { kind: from_json(json)? }) })
            });
            Kind::Table(Table { entries: entries.collect::<Result<_, String>>()? })
        }
    }))
}

fn check_name(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("the name before '=' is empty".to_owned()),
        len if len > NAME_BYTES_MAX => Err(format!("the name is longer than {NAME_BYTES_MAX} bytes")),
        _ => Ok(()),
    }
}

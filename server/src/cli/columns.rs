//! Listings: columns by name, as text or JSON.

use serde_json::{Map, Value};

use super::out::Out;
use super::{Failure, ListArgs};

/// One column of rows of type `R`.
pub(super) struct Column<R> {
    /// Its name, as rabbitmqctl has it where it has it.
    pub(super) name: &'static str,
    /// Its value.
    pub(super) value: fn(&R) -> Value,
}

/// Columns of a listing: names and values of a row.
macro_rules! columns {
    ($row:ident: $($name:literal => $value:expr,)+) => {
        &[$(Column { name: $name, value: |$row| { let _ = $row; serde_json::json!($value) } }),+]
    };
}
pub(super) use columns;

/// A listing: its columns, and how many of them are printed when none is asked for.
pub(super) struct Listing<R: 'static> {
    /// The command.
    pub(super) command: &'static str,
    /// All columns.
    pub(super) columns: &'static [Column<R>],
    /// Printed as text when none is asked for; JSON has all.
    pub(super) usual: &'static [&'static str],
}

impl<R> Listing<R> {
    /// The columns asked for. Done before the server is asked, so that a wrong name costs nothing.
    pub(super) fn choose(&self, args: &ListArgs, json: bool) -> Result<Vec<&'static Column<R>>, Failure> {
        if !args.columns.is_empty() {
            return args.columns.iter().map(|name| self.column(name)).collect();
        }
        if json {
            return Ok(self.columns.iter().collect());
        }
        self.usual.iter().map(|name| self.column(name)).collect()
    }

    fn column(&self, name: &str) -> Result<&'static Column<R>, Failure> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
            Failure::Usage(format!(
                "{} has no column '{name}'; known columns: {}",
                self.command,
                known.join(" ")
            ))
        })
    }
}

/// Prints rows: a JSON array, or lines with tabs between the columns.
pub(super) fn print<R>(
    rows: &[R],
    columns: &[&Column<R>],
    args: &ListArgs,
    json: bool,
    out: &mut Out,
) -> Result<(), Failure> {
    if json {
        let objects = rows.iter().map(|row| Value::Object(object(row, columns)));
        out.json(&Value::Array(objects.collect()))?;
    } else {
        if !args.quiet {
            out.line(columns.iter().map(|column| column.name).collect::<Vec<_>>().join("\t"))?;
        }
        for row in rows {
            out.line(columns.iter().map(|column| cell(&(column.value)(row))).collect::<Vec<_>>().join("\t"))?;
        }
    }
    Ok(out.flush()?)
}

/// One row as a JSON object.
pub(super) fn object<R>(row: &R, columns: &[&Column<R>]) -> Map<String, Value> {
    columns.iter().map(|column| (column.name.to_owned(), (column.value)(row))).collect()
}

/// Text without tabs and line ends, so that a line stays a row.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => {
            text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
        }
        Value::Null => String::new(),
        // As rabbitmqctl prints a list of tags.
        Value::Array(values) => format!("[{}]", values.iter().map(cell).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

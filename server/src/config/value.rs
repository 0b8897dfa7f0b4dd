//! The types of settings: how they are read and written.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

/// A type that a setting can have. `parse(show(x)) == x`.
pub trait SettingValue: Sized {
    /// Completes "...; give ".
    const ALLOWED: &'static str;
    /// Stands in TOML without quotes.
    const BARE: bool = false;
    /// Reads it; None when the text is not one.
    fn parse(text: &str) -> Option<Self>;
    /// Writes it.
    fn show(&self) -> String;
}

/// Bytes: "256MiB", "1GiB", "1048576".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// When data is synced to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsync {
    /// Before every confirm.
    Always,
    /// Every so often; confirms do not wait for it.
    Interval(Duration),
    /// Only when the store needs it for itself.
    Never,
}

/// Names of users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserNames(pub Vec<String>);

/// The least severe thing that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(pub LevelFilter);

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

const SIZE_UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const TIME_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000)];

impl SettingValue for ByteSize {
    const ALLOWED: &'static str = "a size such as 256MiB, 1GiB, 512KiB or a plain number of bytes";

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let factor = match unit {
            "" | "B" => 1,
            unit => SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1,
        };
        number.checked_mul(factor).map(Self)
    }

    fn show(&self) -> String {
        match SIZE_UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor)) {
            Some((unit, factor)) => format!("{}{unit}", self.0 / factor),
            None => self.0.to_string(),
        }
    }
}

impl SettingValue for Duration {
    const ALLOWED: &'static str = "a time such as 500ms, 10s, 2min or 1h";

    fn parse(text: &str) -> Option<Self> {
        let (number, unit) = split_unit(text)?;
        let factor = TIME_UNITS.iter().find(|(name, _)| *name == unit)?.1;
        number.checked_mul(factor).map(Self::from_millis)
    }

    fn show(&self) -> String {
        let millis = self.as_millis();
        if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
    }
}

impl SettingValue for Fsync {
    const ALLOWED: &'static str = "always, interval:MS (milliseconds, 1 to 60000, as interval:100) or never";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "always" => Some(Self::Always),
            "never" => Some(Self::Never),
            text => {
                let millis = digits(text.strip_prefix("interval:")?)?;
                (1..=60_000).contains(&millis).then(|| Self::Interval(Duration::from_millis(millis)))
            }
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Always => "always".to_owned(),
            Self::Interval(every) => format!("interval:{}", every.as_millis()),
            Self::Never => "never".to_owned(),
        }
    }
}

impl SettingValue for LogLevel {
    const ALLOWED: &'static str = "off, error, warn, info, debug or trace";

    fn parse(text: &str) -> Option<Self> {
        Some(Self(match text {
            "off" => LevelFilter::OFF,
            "error" => LevelFilter::ERROR,
            "warn" => LevelFilter::WARN,
            "info" => LevelFilter::INFO,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            _ => return None,
        }))
    }

    fn show(&self) -> String {
        self.0.to_string().to_lowercase()
    }
}

impl SettingValue for LogFormat {
    const ALLOWED: &'static str = "text or json";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Json => "json".to_owned(),
        }
    }
}

impl SettingValue for SocketAddr {
    const ALLOWED: &'static str = "an IP address and a port, such as 127.0.0.1:50051 or [::1]:50051";

    fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("localhost:") {
            Some(port) => Some(Self::from(([127, 0, 0, 1], port.parse().ok()?))),
            None => text.parse().ok(),
        }
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for PathBuf {
    const ALLOWED: &'static str = "a path";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::from(text))
    }

    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl SettingValue for String {
    const ALLOWED: &'static str = "a text without control characters";

    fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
    }

    fn show(&self) -> String {
        self.clone()
    }
}

impl SettingValue for UserNames {
    const ALLOWED: &'static str = "names of users with commas between them, or none";

    fn parse(text: &str) -> Option<Self> {
        if text == "none" {
            return Some(Self(Vec::new()));
        }
        let names = text.split(',').map(|name| {
            let name = name.trim();
            (!name.is_empty() && !name.contains(char::is_control)).then(|| name.to_owned())
        });
        names.collect::<Option<_>>().map(Self)
    }

    fn show(&self) -> String {
        if self.0.is_empty() { "none".to_owned() } else { self.0.join(",") }
    }
}

impl SettingValue for u32 {
    const ALLOWED: &'static str = "a whole number from 1 to 4294967295";
    const BARE: bool = true;

    fn parse(text: &str) -> Option<Self> {
        digits(text)?.try_into().ok().filter(|number| *number > 0)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

impl fmt::Display for Fsync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.show())
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((digits(number)?, unit.strip_prefix(' ').unwrap_or(unit)))
}

/// Digits only: `u64::from_str` would also take "+5".
fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

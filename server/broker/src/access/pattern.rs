//! The regular expressions of permissions.
//!
//! As in RabbitMQ they look at bytes, fit anywhere in a name unless they are anchored, and the empty one fits the empty
//! name alone. Matching takes time linear in pattern and name, whatever both are; what a pattern may grow to is bounded.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

use crate::refusal::Refusal;

/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;
/// What a pattern may take when it is compiled, in bytes.
const COMPILED_BYTES_MAX: usize = 256 * 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct Pattern {
    text: Arc<str>,
    fits: Fits,
}

#[derive(Debug)]
enum Fits {
    Everything,
    EmptyName,
    Regex(Box<Regex>),
}

impl Pattern {
    pub(crate) fn new(text: &Arc<str>) -> Result<Self, Refusal> {
        Self::compiled(text, text)
    }

    /// A pattern of routing keys, in which "{username}" and "{vhost}" stand for whom and where it is meant for.
    pub(crate) fn of_topic(text: &Arc<str>, user: &str, vhost: &str) -> Result<Self, Refusal> {
        let meant =
            text.replace("{username}", &regex::escape(user)).replace("{vhost}", &regex::escape(vhost));
        Self::compiled(text, &meant)
    }

    /// As it was given.
    pub(crate) fn text(&self) -> Arc<str> {
        self.text.clone()
    }

    pub(crate) fn fits(&self, name: &str) -> bool {
        match &self.fits {
            Fits::Everything => true,
            Fits::EmptyName => name.is_empty(),
            Fits::Regex(regex) => regex.is_match(name.as_bytes()),
        }
    }

    fn compiled(text: &Arc<str>, meant: &str) -> Result<Self, Refusal> {
        if text.len() > PATTERN_BYTES_MAX {
            let begin = text.char_indices().nth(40).map_or(&**text, |(at, _)| &text[..at]);
            let why = format!("it has {} bytes, the most is {PATTERN_BYTES_MAX}", text.len());
            return Err(refused(&format!("{begin}..."), &why));
        }
        let fits = match meant {
            ".*" => Fits::Everything,
            "" => Fits::EmptyName,
            _ => {
                let built = RegexBuilder::new(meant).unicode(false).size_limit(COMPILED_BYTES_MAX).build();
                Fits::Regex(Box::new(built.map_err(|error| refused(text, &why(&error)))?))
            }
        };
        Ok(Self { text: text.clone(), fits })
    }
}

fn refused(shown: &str, why: &str) -> Refusal {
    super::names::invalid("pattern", format!("'{shown}' is not a regular expression that can be used: {why}"))
}

/// The error in one line; that of a syntax error ends with it, after a drawing of the place.
fn why(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(most) => format!("compiled it takes more than {most} bytes"),
        other => {
            let text = other.to_string();
            text.rsplit("error: ").next().unwrap_or(&text).trim().to_string()
        }
    }
}

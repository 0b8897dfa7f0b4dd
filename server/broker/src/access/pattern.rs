//! The regular expressions of permissions.
//!
//! As in RabbitMQ they look at bytes, fit anywhere in a name unless they are anchored, and the empty one fits the empty
//! name alone. Matching takes time linear in pattern and name, whatever both are, and memory that is bounded: for what a pattern
//! is compiled to, and for what the search through a name keeps, which depends on that and on the length of names alone.
//! There is no automaton that is built while it searches (a lazy DFA), which could grow; and groups capture nothing, or
//! the search could keep a place in the name for each group and each state.

use std::sync::Arc;

use regex_automata::meta::{BuildError, Regex};
use regex_automata::nfa::thompson::WhichCaptures;
use regex_automata::util::syntax;

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
        let meant = text
            .replace("{username}", &regex_syntax::escape(user))
            .replace("{vhost}", &regex_syntax::escape(vhost));
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
            Fits::Regex(regex) => regex.is_match(name),
        }
    }

    /// Bytes that it takes, compiled and when it has looked at a name.
    #[cfg(test)]
    pub(super) fn bytes(&self, name: &str) -> usize {
        let Fits::Regex(regex) = &self.fits else { return 0 };
        let mut cache = regex.create_cache();
        regex.search_half_with(&mut cache, &regex_automata::Input::new(name).earliest(true));
        regex.memory_usage() + cache.memory_usage()
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
                let config = Regex::config()
                    .nfa_size_limit(Some(COMPILED_BYTES_MAX))
                    .which_captures(WhichCaptures::Implicit)
                    .hybrid(false)
                    .utf8_empty(false);
                let bytes = syntax::Config::new().unicode(false).utf8(false);
                let built = Regex::builder().configure(config).syntax(bytes).build(meant);
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
fn why(error: &BuildError) -> String {
    if let Some(most) = error.size_limit() {
        return format!("compiled it takes more than {most} bytes");
    }
    let text = error.syntax_error().map_or_else(|| error.to_string(), ToString::to_string);
    text.rsplit("error: ").next().unwrap_or(&text).trim().to_string()
}

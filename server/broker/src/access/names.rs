//! What users, virtual hosts and what is said of them may look like.

use std::sync::Arc;

use crate::names;
use crate::refusal::{Refusal, RefusalKind};

/// Longest description and longest hashed password, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// Most tags.
const TAGS_MAX: usize = 64;

/// Refuses a name that nobody could log in with, or that would break the lines of a listing.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(invalid(what, format!("the name of a {what} must not be empty")));
    }
    if name.contains(char::is_control) {
        let shown = name.escape_debug();
        return Err(invalid(what, format!("the {what} name '{shown}' contains control characters")));
    }
    names::check_length(what, name)
}

/// Refuses tags that are no words.
pub(crate) fn check_tags(tags: &[Arc<str>]) -> Result<(), Refusal> {
    if tags.len() > TAGS_MAX {
        return Err(invalid("tags", format!("{} tags, the most is {TAGS_MAX}", tags.len())));
    }
    tags.iter().try_for_each(|tag| check_name("tag", tag))
}

/// Refuses a text that is longer than what it is for.
pub(crate) fn check_text(what: &'static str, text: &str) -> Result<(), Refusal> {
    if text.len() > TEXT_BYTES_MAX {
        let text = format!("{what} has {} bytes, the most is {TEXT_BYTES_MAX}", text.len());
        return Err(invalid(what, text));
    }
    Ok(())
}

pub(super) fn invalid(field: &'static str, text: String) -> Refusal {
    Refusal::new(RefusalKind::InvalidArgument, text).with("field", field)
}

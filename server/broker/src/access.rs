//! Who may do what: users, and their permissions in virtual hosts.

pub(crate) mod names;
pub(crate) mod words;

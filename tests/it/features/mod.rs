//! Every call end to end.

mod blobs;
mod consume;
mod durability;
mod exchanges;
mod get;
mod properties;
mod publish;
mod services;
mod sessions;
mod topology;

//! What is built: version, commit, and the version of the formats on the disk.

/// Version of the program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Commit it was built from; "unknown" outside a repository.
pub const COMMIT: &str = env!("LEVERET_COMMIT");

/// Version of the formats on the disk.
pub const FORMAT_VERSION: u32 = 1;

/// All three, for `--version`.
pub const LINE: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("LEVERET_COMMIT"), ", format 1)");

// The line is put together at compile time, where a number cannot be written into it.
const _: () = assert!(FORMAT_VERSION == 1, "say the new format version in LINE");

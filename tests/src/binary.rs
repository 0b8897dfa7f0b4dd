//! Finds the binary under test.

use std::env;
use std::path::{Path, PathBuf};

/// The workspace's root directory.
pub fn workspace() -> PathBuf {
    // CARGO_MANIFEST_DIR is tests/; its parent is the root.
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or_else(|| manifest.to_path_buf(), Path::to_path_buf)
}

/// The binary `leveret`: LEVERET_BIN, or the release build, or the debug build.
///
/// # Panics
/// When there is none; the message says how to build it.
pub fn leveret() -> PathBuf {
    if let Some(path) = env::var_os("LEVERET_BIN") {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "LEVERET_BIN names {}, which is no file", path.display());
        return path;
    }
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    for profile in ["release", "debug"] {
        let path = target.join(profile).join("leveret");
        if path.is_file() {
            return path;
        }
    }
    panic!(
        "no binary in {}: build it with `cargo build --release -p leveret-server`, or set LEVERET_BIN",
        target.display()
    );
}

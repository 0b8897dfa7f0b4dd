//! The disk of the operating system.

use std::os::unix::fs::PermissionsExt;

use super::*;

/// Guards against messages and hashes of passwords that every user of the machine can read.
#[test]
fn files_are_their_owners_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = RealDisk::open(dir.path()).expect("opens");
    disk.create("log", 4096).expect("a file");
    for name in ["log", "LOCK"] {
        let meta = std::fs::metadata(dir.path().join(name)).expect("it is there");
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{name}");
    }
}

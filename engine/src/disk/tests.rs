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

/// Guards against a first start that fails where others keep its names to themselves.
#[test]
fn a_directory_above_that_may_be_written_to_but_not_read_is_enough() {
    let dir = tempfile::tempdir().expect("a directory");
    let above = dir.path().join("above");
    std::fs::create_dir(&above).expect("made");
    let mode = |mode| std::fs::set_permissions(&above, std::fs::Permissions::from_mode(mode)).expect("ours");
    mode(0o300);
    let opened = [(); 2].map(|()| RealDisk::open(&above.join("data")).map(drop));
    mode(0o700);
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
}

/// Guards against a server that ends where it would wait for room, because the room is short for its user alone.
#[test]
fn a_quota_that_is_used_up_is_a_full_disk() {
    let error = real::full_is_full(rustix::io::Errno::DQUOT);
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("os error 122"), "{error}");
    assert_eq!(real::full_is_full(rustix::io::Errno::IO).raw_os_error(), Some(5));
}

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

/// Guards against a direct write that is not there for whoever reads or measures the file, or fails where it is not aligned.
#[test]
fn what_is_written_past_the_page_cache_is_read_like_all_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = RealDisk::open(dir.path()).expect("opens");
    let file = disk.create("bodies", 0).expect("a file");
    file.write_at(0, &[1; 4096]).expect("written");
    let write = |offset, bytes: &[u8]| file.write_blocks(offset, bytes);
    let room = vec![2; 3 * 4096];
    let start = room.as_ptr().align_offset(4096);
    write(4096, &room[start..start + 8192]).expect("written");
    write(12_288, &[3; 100]).expect("written, although not whole blocks");
    write(12_388, &[4; 5000]).expect("written behind it");
    let parts = [&room[start..start + 4096], &room[start + 4096..start + 8192]].map(io::IoSlice::new);
    file.write_parts(20_480, &parts).expect("written");
    let elsewhere = [&room[start..start + 4096], &[5; 300]].map(io::IoSlice::new);
    file.write_parts(28_672, &elsewhere).expect("written, although not whole blocks");
    file.sync().expect("synced");
    let found: Vec<u8> = {
        let mut all = vec![0; file.len().expect("known") as usize];
        file.read_at(0, &mut all).expect("read");
        all
    };
    let expected = [vec![1; 4096], vec![2; 8192], vec![3; 100], vec![4; 5000]].concat();
    let parts = [vec![0; 20_480 - expected.len()], vec![2; 8192], vec![2; 4096], vec![5; 300]].concat();
    let expected = [expected, parts].concat();
    assert!(found == expected, "{} bytes", found.len());
}

//! Power losses of the real binary at CI size, and the controls: disks that lie.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use leveret_tests::crash::{Death, Failure, Protocol, Report, Settings, run};
use leveret_tests::faultfs::{Disk, Lie};
use rustix::fs::{FallocateFlags, FlockOperation, OFlags, SeekFrom, fallocate, flock, seek};

use crate::skip;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

async fn losses(count: u64, seed: u64, lie: Lie) -> Result<Report, Failure> {
    let drain_every = if lie == Lie::Never { 5 } else { 1 };
    let (protocol, death) = (Protocol::Mixed, Death::PowerLoss { lie });
    run(&Settings { protocol, death, drain_every, ..Settings::new(count, seed) }, |_| ()).await
}

/// Seeds change from run to run; a failing one is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_with_the_power() {
    if skip::without_fuse("power::nothing_confirmed_is_lost_with_the_power") {
        return;
    }
    let seed = number("LEVERET_POWER_SEED").unwrap_or_else(|| fastrand::u64(..));
    match losses(number("LEVERET_POWER_LOSSES").unwrap_or(20), seed, Lie::Never).await {
        Ok(report) => eprintln!("seed {seed}\n{report}"),
        Err(failure) => panic!("seed {seed}: {failure}"),
    }
}

/// The same disk, and kills that leave what was written, before and after the calls that decide what the next start finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_confirmed_is_lost_by_kills_at_named_points() {
    if skip::without_fuse("power::nothing_confirmed_is_lost_by_kills_at_named_points") {
        return;
    }
    let seed = number("LEVERET_POWER_SEED").unwrap_or_else(|| fastrand::u64(..));
    let (protocol, death) = (Protocol::Mixed, Death::KillAtPoints);
    match run(&Settings { protocol, death, ..Settings::new(20, seed) }, |_| ()).await {
        Ok(report) => eprintln!("seed {seed}\n{report}"),
        Err(failure) => panic!("seed {seed}: {failure}"),
    }
}

/// Must end in a broken invariant; and the same seed without the lie well.
async fn control(lie: Lie) {
    let seed = number("LEVERET_POWER_SEED").unwrap_or_else(|| fastrand::u64(..));
    match losses(5, seed, lie).await {
        Err(Failure::Violation(violation)) => eprintln!("seed {seed}: {:?}", violation.invariant),
        Err(other) => panic!("seed {seed}: no invariant was named: {other}"),
        Ok(report) => panic!("seed {seed}: a disk that lies was not noticed\n{report}"),
    }
    if let Err(failure) = losses(5, seed, Lie::Never).await {
        panic!("seed {seed}: without the lie: {failure}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_whose_syncs_do_nothing_is_caught() {
    if !skip::without_fuse("power::a_disk_whose_syncs_do_nothing_is_caught") {
        control(Lie::Fsync).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_does_not_sync_directories_is_caught() {
    if !skip::without_fuse("power::a_disk_that_does_not_sync_directories_is_caught") {
        control(Lie::Dirsync).await;
    }
}

/// Regression: the data directory's own name was not made durable, and everything in it was lost with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_1_the_name_of_the_data_directory() {
    if skip::without_fuse("power::seed_1_the_name_of_the_data_directory") {
        return;
    }
    if let Err(failure) = losses(2, 1, Lie::Never).await {
        panic!("{failure}");
    }
}

/// Guards against verdicts about a file system that does not do what every other does.
#[test]
fn the_file_system_does_what_others_do() {
    if skip::without_fuse("power::the_file_system_does_what_others_do") {
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let disk = Disk::mount(&home.path().join("disk"), 16 << 20).expect("mounted");
    let at = |name: &str| home.path().join("disk").join(name);
    let open = |name| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).open(at(name)).expect("open")
    };
    let file = open("file");
    fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).expect("room");
    assert_eq!(file.metadata().expect("there").len(), 1 << 20);
    let bytes: Vec<u8> = (0..300_000_u32).map(|i| i as u8).collect();
    file.write_all_at(&bytes, 1000).expect("written");
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 4096, 8192).expect("punched");
    let mut read = vec![1; 301_000];
    file.read_exact_at(&mut read, 0).expect("read");
    assert!(read[..1000].iter().all(|byte| *byte == 0) && read[4096..12288].iter().all(|byte| *byte == 0));
    assert!(read[1000..4096] == bytes[..3096] && read[12288..] == bytes[11288..]);
    assert_eq!(seek(&file, SeekFrom::Hole(0)).expect("a hole"), 4096);
    assert_eq!(seek(&file, SeekFrom::Data(4096)).expect("data"), 12288);
    fallocate(&file, FallocateFlags::KEEP_SIZE, 1 << 20, 1 << 20).expect("room beyond the end");
    let meta = file.metadata().expect("there");
    assert_eq!((meta.len(), meta.blocks()), (1 << 20, (2 << 20) / 512 - 16));

    // Past the page cache, as new segments are written.
    #[repr(align(4096))]
    struct Page([u8; 4096]);
    let flags = rustix::fs::fcntl_getfl(&file).expect("flags");
    rustix::fs::fcntl_setfl(&file, flags | OFlags::DIRECT).expect("direct");
    file.write_all_at(&Page([9; 4096]).0, 16384).expect("written directly");
    rustix::fs::fcntl_setfl(&file, flags).expect("not direct");
    file.read_exact_at(&mut read[..4096], 16384).expect("read");
    assert!(read[..4096].iter().all(|byte| *byte == 9));

    flock(&file, FlockOperation::NonBlockingLockExclusive).expect("locked");
    assert!(flock(open("file"), FlockOperation::NonBlockingLockExclusive).is_err());
    file.set_len(5000).expect("cut");
    file.set_len(6000).expect("grown");
    file.read_exact_at(&mut read[..1000], 5000).expect("read");
    assert!(read[..1000].iter().all(|byte| *byte == 0));
    file.sync_data().expect("synced");
    fs::File::open(at("")).expect("the directory").sync_all().expect("synced");

    fs::write(at("other"), "text").expect("written");
    fs::rename(at("other"), at("file")).expect("renamed");
    assert_eq!(fs::read_to_string(at("file")).expect("read"), "text");
    assert!(Command::new("cp").arg(at("file")).arg(at("copy")).status().expect("cp").success());
    let left = disk.room_left();
    drop(file);
    fs::remove_file(at("copy")).expect("removed");
    let mut names: Vec<_> =
        fs::read_dir(at("")).expect("listed").map(|entry| entry.expect("one").file_name()).collect();
    names.sort();
    assert_eq!(names, ["file"]);
    let statvfs = rustix::fs::statvfs(at("")).expect("figures");
    assert!(statvfs.f_bavail * statvfs.f_frsize >= left && statvfs.f_blocks * statvfs.f_frsize == 16 << 20);
}

/// Guards against segments and pieces of the reserve that have a length and no room, so that the disk is found full in the
/// middle of them.
#[cfg(feature = "sim")]
#[test]
fn where_nothing_can_be_allocated_zeros_take_the_room() {
    use leveret_engine::{Disk as _, RealDisk};
    use leveret_tests::faultfs::{Call, Fault};
    use rustix::io::Errno;

    if skip::without_fuse("power::where_nothing_can_be_allocated_zeros_take_the_room") {
        return;
    }
    let home = tempfile::tempdir().expect("a directory");
    let at = home.path().join("disk");
    let disk = Disk::mount(&at, 16 << 20).expect("mounted");
    disk.fault(Fault::always(Call::Allocate, "", Errno::OPNOTSUPP));
    let real = RealDisk::open(&at).expect("opened");
    drop(real.create("segment", (5 << 20) + 4096).expect("made"));
    assert_eq!(disk.hits(), 1);
    let meta = fs::metadata(at.join("segment")).expect("there");
    assert_eq!((meta.len(), meta.blocks() * 512), ((5 << 20) + 4096, (5 << 20) + 4096));

    let left = disk.room_left();
    let full = real.create("another", left + 4096).expect_err("does not fit");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    assert!(!at.join("another").exists() && disk.room_left() == left);
}

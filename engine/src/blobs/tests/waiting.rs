//! Whoever waits for a body: goes, or is told that the disk does not take it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{BodyWaiter, NotWritten, Pressure};

type Told = Arc<Mutex<Option<Result<BlobRef, NotWritten>>>>;

/// Somebody who may go.
struct Somebody {
    gone: Arc<AtomicBool>,
    told: Told,
}

impl BodyWaiter for Somebody {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn written(self: Box<Self>, written: Result<BlobRef, NotWritten>) {
        *lock(&self.told) = Some(written);
    }
}

impl Rig {
    /// Has a body written for somebody who is told, and who goes when the flag is set.
    fn write_for_somebody(&mut self, body: &Bytes) -> (Arc<AtomicBool>, Told) {
        let (gone, told) = (Arc::new(AtomicBool::new(false)), Told::default());
        let waiter = Box::new(Somebody { gone: Arc::clone(&gone), told: Arc::clone(&told) });
        self.store.blobs().put_for(body.clone(), waiter);
        (gone, told)
    }
}

/// What is held for a body in memory hangs on who waits for it.
fn is_held(told: &Told) -> bool {
    Arc::strong_count(told) > 1
}

#[test]
fn a_body_for_which_nobody_waits_is_not_written() {
    let mut rig = Rig::new();
    let (gone, told) = rig.write_for_somebody(&body(1, 9_000));
    let (_, other) = rig.write_for_somebody(&body(2, 9_000));
    gone.store(true, Ordering::Release);
    rig.blobs();
    assert!(!is_held(&told) && lock(&told).is_none());
    assert!(matches!(lock(&other).as_ref(), Some(Ok(blob)) if blob.bytes() == 9_000));
    assert_eq!(rig.store.stats().blobs_total, 1);
}

#[test]
fn on_a_full_disk_those_who_go_are_let_go_of_and_publishers_are_held_while_others_wait() {
    let mut rig = Rig::new();
    let first = rig.written(&body(1, 1_000));
    rig.disk.resize(rig.disk.used());
    let waiting = [1, 2, 3].map(|seed| rig.write_for_somebody(&body(seed, 9_000)));
    rig.pass(1_000);
    assert!(waiting.iter().all(|(_, told)| is_held(told)), "they wait for room");
    assert_eq!(rig.store.pressure(), Some(Pressure::DiskLow));
    waiting[1].0.store(true, Ordering::Release);
    rig.pass(1_000);
    assert_eq!([0, 1, 2].map(|i| is_held(&waiting[i].1)), [true, false, true]);
    waiting[0].0.store(true, Ordering::Release);
    waiting[2].0.store(true, Ordering::Release);
    rig.pass(1_000);
    assert_eq!((rig.store.pressure(), rig.store.failure().is_none()), (None, true));
    drop(first);
}

#[test]
fn a_disk_that_does_not_take_a_body_is_tried_some_times_and_then_who_waits_is_told() {
    for (call, name) in [("write", "blob-"), ("create", "blob"), ("rename", "blob")] {
        let mut rig = Rig::new();
        let (_, told) = rig.write_for_somebody(&body(1, 9_000));
        rig.disk.fail(call, name, Fails::With(ErrorKind::Other), 2);
        rig.pass(4_000);
        assert!(matches!(lock(&told).take(), Some(Ok(_))), "{call}: a third try is made");
        rig.disk.fail(call, name, Fails::With(ErrorKind::Other), u32::MAX);
        // Into another file.
        rig.pass(2_000);
        let (_, told) = rig.write_for_somebody(&body(2, 9_000));
        rig.pass(900);
        assert!(lock(&told).is_none(), "{call}");
        rig.pass(3_000);
        let Some(Err(why)) = lock(&told).take() else { panic!("{call}: not told") };
        assert!(why.to_string().contains("could not be written: cannot "), "{why}");
        assert!(rig.store.failure().is_none() && rig.store.pressure().is_none());
        assert!(rig.store.findings().iter().any(|finding| finding.contains("given up for now")));
        rig.disk.mend();
        rig.pass(1_000);
        drop(rig.written(&body(3, 9_000)));
    }
}

#[test]
fn a_failed_sync_of_a_body_is_fatal_and_nobody_waits_any_more() {
    for file in ["blob.tmp", "blob-"] {
        let mut rig = Rig::new();
        let (_, told) = rig.write_for_somebody(&body(1, 9_000));
        rig.disk.fail("sync", file, Fails::With(ErrorKind::Other), 1);
        while rig.workers.blobs.step(0) == Step::Worked {}
        assert!(rig.store.failure().expect("fatal").to_string().contains("cannot sync blob"));
        assert!(!is_held(&told) && lock(&told).is_none());
    }
}

/// Guards against publishers who wait for a disk on which there is no room, and nobody is told.
#[test]
fn a_body_behind_a_file_that_cannot_be_unlisted_for_want_of_room_holds_publishers() {
    let mut rig = Rig::new();
    // Longer than a file of bodies is to be: the next one goes into another file.
    let first = rig.written(&body(1, 45_000));
    let second = rig.written(&body(2, 9_000));
    rig.disk.fail("write", "MANIFEST", Fails::With(ErrorKind::StorageFull), u32::MAX);
    drop(first);
    rig.blobs();
    assert_eq!(rig.store.pressure(), None, "nobody waits");
    let (_, told) = rig.write_for_somebody(&body(3, 9_000));
    rig.pass(1_000);
    assert!(is_held(&told) && lock(&told).is_none());
    assert_eq!(rig.store.pressure(), Some(Pressure::DiskLow));
    rig.disk.mend();
    rig.pass(1_000);
    assert!(matches!(lock(&told).as_ref(), Some(Ok(blob)) if blob.bytes() == 9_000));
    assert_eq!((rig.store.pressure(), rig.store.failure().is_none()), (None, true));
    drop(second);
}

#[test]
fn a_file_that_cannot_be_removed_is_told_as_such() {
    let mut rig = Rig::new();
    let first = rig.written(&body(1, 45_000));
    let second = rig.written(&body(2, 9_000));
    rig.disk.fail("remove", "blob-", Fails::With(ErrorKind::Other), 1);
    drop(first);
    rig.pass(1_000);
    let findings = rig.store.findings();
    assert!(
        findings.iter().any(|f| f.contains("left for the next start: cannot remove blob-")),
        "{findings:?}"
    );
    drop(second);
}

/// It holds all publishers while it waits; it need not hold the disk and its room as well.
#[test]
fn a_body_that_does_not_fit_gives_its_room_back_and_holds_nobody_who_was_before_it() {
    let mut rig = Rig::new();
    rig.written(&body(9, 1_000));
    rig.pass(2_000);
    let used = rig.disk.used();
    rig.disk.resize(used + (5 << 19));
    let (_, small) = rig.write_for_somebody(&body(1, 9_000));
    let (_, large) = rig.write_for_somebody(&body(2, 3 << 20));
    rig.pass(1_000);
    assert!(matches!(lock(&small).as_ref(), Some(Ok(_))), "it found room");
    assert!(is_held(&large) && rig.store.pressure() == Some(Pressure::DiskLow));
    assert!(rig.disk.used() < used + 50_000, "{} bytes more than before", rig.disk.used() - used);
    let tries = rig.store.stats().out_of_space_total;
    rig.pass(5_000);
    assert_eq!(rig.store.stats().out_of_space_total, tries, "what does not fit is not tried");

    rig.disk.resize(u64::MAX);
    rig.pass(1_000);
    assert!(matches!(lock(&large).as_ref(), Some(Ok(blob)) if blob.bytes() == 3 << 20));
    assert_eq!(rig.store.pressure(), None);
}

/// As under a quota, of which the free space says nothing.
#[test]
fn where_there_seems_to_be_room_a_body_is_tried_less_and_less_often() {
    let mut rig = Rig::new();
    rig.written(&body(9, 1_000));
    rig.disk.fail("write", "blob-", Fails::With(ErrorKind::QuotaExceeded), 1_000);
    let (_, told) = rig.write_for_somebody(&body(1, 9_000));
    rig.pass(20_000);
    let tries = rig.store.stats().out_of_space_total;
    assert!((8..20).contains(&tries) && is_held(&told), "{tries} tries in 20 s");
}

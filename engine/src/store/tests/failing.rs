//! What fails for good ends the store at once, whatever the error says (E5, no sync is tried again).

use std::io::ErrorKind;

use crate::disk::{Fails, SimDisk};
use crate::manifest::Edit;
use crate::store::*;
use crate::{Payload, Put, Step};

const SEGMENT: u64 = 8 * 4096;

struct Scene {
    disk: SimDisk,
    store: Store,
    workers: Workers,
    now_ms: u64,
}

fn settings() -> Settings {
    Settings {
        segment_bytes: SEGMENT,
        frame_bytes_max: 8192,
        log_budget_bytes: 2 * SEGMENT,
        checkpoint_bytes: SEGMENT,
        idle_checkpoint_ms: 500,
        spares: 0,
        reserve: false,
        ..Settings::default()
    }
}

impl Scene {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        let disk = SimDisk::default();
        let handle: Arc<dyn Disk> = Arc::new(disk.clone());
        let (store, workers, _) = Store::open(&handle, settings).expect("opens");
        let mut scene = Self { disk, store, workers, now_ms: 0 };
        scene.commit(Batch { queues_created: vec![QueueId(1)], ..Batch::default() });
        scene
    }

    fn commit(&mut self, batch: Batch) {
        let ticket = self.store.commit(batch, Urgency::Now).expect("small");
        while self.store.durable() < ticket {
            assert_eq!(self.workers.writer.step(self.now_ms), Step::Worked, "{:?}", self.store.failure());
        }
    }

    /// Puts a message that takes a frame of its own.
    fn put(&mut self, seq: u64) {
        let payload = Payload { head: Bytes::new(), body: Bytes::from(vec![seq as u8; 5_000]) };
        let put = Put { targets: vec![(QueueId(1), Seq(seq))], payload, blob: None };
        self.commit(Batch { puts: vec![put], ..Batch::default() });
    }

    /// Lets the keeper go on for so long.
    fn keep(&mut self, ms: u64) {
        for _ in 0..ms / 50 {
            self.now_ms += 50;
            while self.workers.keeper.step(self.now_ms) == Step::Worked {}
        }
    }
}

/// Guards against a sync that is tried again: nothing is known of the manifest after it.
#[test]
fn a_failed_sync_of_the_manifest_is_fatal_also_when_it_says_that_the_disk_is_full() {
    for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::Other] {
        let mut scene = Scene::new();
        scene.put(1);
        scene.disk.fail("sync", "MANIFEST", Fails::With(kind), 1);
        scene.keep(2_000);
        assert_eq!(scene.disk.mend(), 0, "the checkpoint is listed, and that synced");
        let failure = scene.store.failure().expect("it is fatal").to_string();
        assert!(failure.starts_with("cannot sync MANIFEST"), "{failure}");
        assert_eq!(scene.workers.writer.step(scene.now_ms), Step::Done);
    }
}

/// Guards against edits in a manifest that has no name any more.
#[test]
fn a_manifest_written_afresh_whose_name_is_not_sure_is_fatal() {
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        let mut scene = Scene::new();
        let nothing = Edit::Blobs { added: Vec::new(), removed: Vec::new() };
        scene.store.shared.manifest.append(&vec![nothing; 50_000]).expect("there is room");
        scene.disk.fail("sync_dir", "", Fails::With(kind), 1);
        scene.keep(200);
        assert_eq!(scene.disk.mend(), 0, "it was long enough");
        let failure = scene.store.failure().expect("it is fatal").to_string();
        assert!(failure.starts_with("cannot sync the data directory"), "{failure}");
    }
}

/// Where there is no room for a new one the old one goes on.
#[test]
fn a_manifest_for_which_there_is_no_room_is_written_afresh_later() {
    let mut scene = Scene::new();
    let nothing = Edit::Blobs { added: Vec::new(), removed: Vec::new() };
    scene.store.shared.manifest.append(&vec![nothing; 50_000]).expect("there is room");
    scene.disk.fail("write", "MANIFEST.tmp", Fails::With(ErrorKind::QuotaExceeded), 2);
    scene.keep(5_000);
    assert_eq!(scene.disk.mend(), 0);
    assert!(scene.store.failure().is_none() && !scene.store.shared.manifest.is_long());
}

/// Guards against names that a later sync, of somebody else, only seems to make durable.
#[test]
fn a_failed_sync_of_the_directory_is_fatal_whoever_meets_it() {
    for with in [Settings { spares: 1, ..settings() }, Settings { checkpoint_bytes: 1, ..settings() }] {
        let mut scene = Scene::with(with);
        scene.put(1);
        scene.disk.fail("sync_dir", "", Fails::With(ErrorKind::StorageFull), 1);
        scene.keep(2_000);
        assert_eq!(scene.disk.mend(), 0);
        let failure = scene.store.failure().expect("it is fatal").to_string();
        assert!(failure.starts_with("cannot sync the data directory"), "{failure}");
    }
    // Settling is no reason to end, but for that.
    let mut scene = Scene::new();
    (1..20).for_each(|seq| scene.put(seq));
    scene.disk.fail("sync_dir", "", Fails::With(ErrorKind::Other), 1);
    while scene.store.failure().is_none() {
        assert_eq!(scene.workers.settler.step(scene.now_ms), Step::Worked);
    }
}

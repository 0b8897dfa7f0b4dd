//! When publishers are to be held: settling lags, or the disk is low (E11).

use crate::disk::SimDisk;
use crate::shared::Pressure;
use crate::store::*;
use crate::{Payload, Put, Step};

const SEGMENT: u64 = 16 * 4096;
const BUDGET: u64 = 4 * SEGMENT;

struct Scene {
    disk: SimDisk,
    store: Store,
    workers: Workers,
    now_ms: u64,
    next: u64,
}

impl Scene {
    fn new(settings: Settings) -> Self {
        let disk = SimDisk::new(100 * SEGMENT);
        let settings = Settings {
            segment_bytes: SEGMENT,
            frame_bytes_max: 8192,
            log_budget_bytes: BUDGET,
            checkpoint_bytes: SEGMENT,
            spares: 1,
            ..settings
        };
        let handle: Arc<dyn Disk> = Arc::new(disk.clone());
        let (mut store, workers, _) = Store::open(&handle, settings).expect("opens");
        let batch = Batch { queues_created: vec![QueueId(1)], ..Batch::default() };
        store.commit(batch, Urgency::Now).expect("small");
        Self { disk, store, workers, now_ms: 0, next: 1 }
    }

    /// Messages of about a quarter of a segment each.
    fn publish(&mut self, count: u64) {
        for _ in 0..count {
            let payload = Payload { head: Bytes::new(), body: Bytes::from(vec![7; SEGMENT as usize / 4]) };
            let put = Put { targets: vec![(QueueId(1), Seq(self.next))], payload, blob: None };
            self.next += 1;
            self.store.commit(Batch { puts: vec![put], ..Batch::default() }, Urgency::Now).expect("small");
            while self.workers.writer.step(self.now_ms) == Step::Worked {}
        }
    }

    /// Time goes by; the keeper works, and the settler if it may.
    fn pressure(&mut self, settling: bool) -> Option<Pressure> {
        for _ in 0..30 {
            self.now_ms += 100;
            while self.workers.keeper.step(self.now_ms) == Step::Worked
                || (settling && self.workers.settler.step(self.now_ms) == Step::Worked)
            {}
            while self.workers.writer.step(self.now_ms) == Step::Worked {}
        }
        assert!(self.store.failure().is_none(), "{:?}", self.store.failure());
        self.store.pressure()
    }
}

#[test]
fn a_log_that_grows_past_its_budget_holds_publishers_until_it_is_settled() {
    let mut scene = Scene::new(Settings::default());
    scene.publish(12);
    assert_eq!(scene.pressure(false), None, "four segments of four");
    scene.publish(20);
    assert_eq!(scene.pressure(false), Some(Pressure::SettlingLags));
    assert_eq!(scene.pressure(true), None, "{:?}", scene.store.stats());
    assert!(scene.store.stats().settled_bytes > 0);
}

#[test]
fn a_disk_that_is_low_holds_publishers_until_there_is_room() {
    let low = 10 * SEGMENT;
    let mut scene = Scene::new(Settings { disk_low_bytes: low, ..Settings::default() });
    scene.publish(4);
    assert_eq!(scene.pressure(true), None);
    let used: u64 = scene.disk.used();
    scene.disk.resize(used + low);
    assert_eq!(scene.pressure(true), Some(Pressure::DiskLow), "the log itself will take room");
    // Acks go through, and what is dead gives its room back.
    let acks = vec![(QueueId(1), Seq(1), Seq(scene.next))];
    let ticket = scene.store.commit(Batch { acks, ..Batch::default() }, Urgency::Now).expect("small");
    scene.pressure(true);
    assert!(scene.store.durable() >= ticket);
    scene.disk.resize(used + 4 * low);
    assert_eq!(scene.pressure(true), None);
}

#[test]
fn without_a_limit_a_disk_is_never_low() {
    let mut scene = Scene::new(Settings::default());
    scene.disk.resize(30 * SEGMENT);
    scene.publish(4);
    assert_eq!(scene.pressure(true), None);
}

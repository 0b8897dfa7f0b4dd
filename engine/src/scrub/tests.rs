//! What the scrub finds, and that it finds nothing where nothing is wrong.

use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, Fails, SimDisk};
use crate::format::BLOCK_BYTES;
use crate::ids::{QueueId, Seq};
use crate::settings::Settings;
use crate::settled::read_footer;
use crate::shared::lock;
use crate::sync::Mutex;
use crate::{Batch, Payload, Put, Step, Store, Urgency, Workers};

const SEGMENT: u64 = 16 * 4096;
const MESSAGES: u64 = 100;

struct Scene {
    disk: SimDisk,
    store: Store,
    workers: Workers,
    now_ms: u64,
}

impl Scene {
    /// A hundred messages in two queues; the older ones are settled, the newer ones in log segments that have ended.
    fn new(rate: u64) -> Self {
        let disk = SimDisk::default();
        let settings = Settings {
            segment_bytes: SEGMENT,
            frame_bytes_max: 8192,
            checkpoint_bytes: SEGMENT,
            log_budget_bytes: 4 * SEGMENT,
            spares: 0,
            scrub_bytes_per_s: rate,
            scrub_pass_ms: 1_000,
            ..Settings::default()
        };
        let handle: Arc<dyn Disk> = Arc::new(disk.clone());
        let (store, workers, _) = Store::open(&handle, settings).expect("opens");
        let mut scene = Self { disk, store, workers, now_ms: 0 };
        scene.commit(Batch { queues_created: vec![QueueId(1), QueueId(2)], ..Batch::default() });
        for seq in 1..=MESSAGES {
            let payload = Payload { head: Bytes::new(), body: Bytes::from(vec![seq as u8; 3_000]) };
            let mut targets = vec![(QueueId(1), Seq(seq))];
            if seq % 4 == 0 {
                targets.push((QueueId(2), Seq(seq / 4)));
            }
            scene.commit(Batch { puts: vec![Put { targets, payload, blob: None }], ..Batch::default() });
        }
        scene
    }

    fn commit(&mut self, batch: Batch) {
        let ticket = self.store.commit(batch, Urgency::Now).expect("small");
        while self.store.durable() < ticket {
            assert_eq!(self.workers.writer.step(self.now_ms), Step::Worked, "{:?}", self.store.failure());
        }
        let now_ms = self.now_ms;
        while self.workers.settler.step(now_ms) == Step::Worked
            || self.workers.keeper.step(now_ms) == Step::Worked
        {}
    }

    /// Lets the scrub finish so many passes, and gives what was found meanwhile.
    fn scrub(&mut self, passes: u64) -> Vec<String> {
        let wanted = self.store.stats().scrub_passes_total + passes;
        for _ in 0..100_000 {
            if self.store.stats().scrub_passes_total >= wanted {
                return self.store.findings();
            }
            match self.workers.scrub.step(self.now_ms) {
                Step::Idle { again_ms } => self.now_ms += again_ms.expect("it goes on"),
                Step::Worked => {}
                Step::Done => panic!("{:?}", self.store.failure()),
            }
        }
        panic!("the scrub came to no end");
    }

    fn names(&self, end: &str) -> Vec<String> {
        self.disk.names().into_iter().map(|(name, _)| name).filter(|name| name.ends_with(end)).collect()
    }

    /// The log segments that are settled by now, or hold nothing that lives, count no more.
    fn log_that_counts(&self) -> String {
        let shared = &self.store.shared;
        let below = shared.ledger.lock().expect("whole").settled_below;
        let log = shared.log.lock().expect("whole");
        let ended = log.segments.range(below..).find(|(_, segment)| segment.end.is_some());
        crate::format::segment_name(ended.expect("some have ended").1.file_id)
    }
}

#[test]
fn a_sound_store_has_no_findings_however_often_it_is_read() {
    let mut scene = Scene::new(1 << 30);
    assert!(!scene.names(".set").is_empty());
    assert_eq!(scene.scrub(3), Vec::<String>::new());
    let stats = scene.store.stats();
    let settled: u64 =
        scene.disk.names().iter().filter(|(name, _)| name.ends_with(".set")).map(|(_, b)| b).sum();
    assert!(stats.scrub_bytes_total >= 3 * settled, "{stats:?}");
    assert_eq!(stats.scrub_findings_total, 0);
}

#[test]
fn a_flipped_byte_of_a_settled_record_is_told_once_with_file_offset_queue_and_count() {
    let mut scene = Scene::new(1 << 30);
    let name = scene.names(".set").remove(0);
    let file = scene.disk.open(&name).expect("there");
    let (_, extents, _) = read_footer(file.as_ref(), &name, file.len().expect("known")).expect("sound");
    let extent = extents[0];
    scene.disk.flip(&name, extent.offset + 100);
    let found = scene.scrub(2);
    assert_eq!(found.len(), 1, "told once: {found:?}");
    // Marks stand every 64 KiB: so much is concerned.
    let sentence = format!("{name} is damaged at offset {} (found by the scrub)", extent.offset);
    assert!(found[0].starts_with(&sentence), "{found:?}");
    assert!(found[0].contains(&format!("of queue {}", extent.queue)), "{found:?}");
    assert_eq!(scene.store.gauge().damage(), found);
    assert_eq!(scene.store.stats().scrub_findings_total, 1);
    assert!(scene.disk.contents(&name).is_some(), "nothing is removed");
}

#[test]
fn every_byte_of_a_settled_segment_is_looked_at() {
    let mut scene = Scene::new(1 << 30);
    let name = scene.names(".set").remove(0);
    let length = scene.disk.contents(&name).expect("there").len() as u64;
    for (nth, offset) in (0..length).step_by(997).chain(length - 57..length).enumerate() {
        scene.disk.flip(&name, offset);
        scene.workers.scrub.told.clear();
        let found = scene.scrub(2);
        assert!(found.iter().any(|text| text.starts_with(&name)), "offset {offset} of {length}: {found:?}");
        scene.disk.flip(&name, offset);
        assert!(nth < 500);
    }
    scene.workers.scrub.told.clear();
    assert_eq!(scene.scrub(2), Vec::<String>::new(), "sound again");
}

#[test]
fn damage_in_a_log_segment_and_in_a_checkpoint_is_told_before_a_start_meets_it() {
    let mut scene = Scene::new(1 << 30);
    let name = scene.log_that_counts();
    scene.disk.flip(&name, BLOCK_BYTES as u64 + 200);
    let checkpoint = scene.names(".ckp").remove(0);
    scene.disk.flip(&checkpoint, 40);
    let found = scene.scrub(2);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with(&format!("{name} is damaged at offset {BLOCK_BYTES}")), "{found:?}");
    assert!(found[0].contains("of queue 1"), "{found:?}");
    assert!(found[1].starts_with(&format!("{checkpoint} is damaged at offset 0")), "{found:?}");
}

#[test]
fn it_reads_no_faster_than_it_may_and_stands_back_while_publishers_wait() {
    let mut scene = Scene::new(100_000);
    scene.scrub(1);
    let (before, began_ms) = (scene.store.stats().scrub_bytes_total, scene.now_ms);
    scene.scrub(3);
    let bytes = scene.store.stats().scrub_bytes_total - before;
    assert!(
        (scene.now_ms - began_ms) * 100 >= bytes * 9 / 10,
        "{bytes} bytes in {} ms",
        scene.now_ms - began_ms
    );
    scene.store.shared.pressure.store(2, std::sync::atomic::Ordering::Release);
    scene.now_ms += 1_000_000;
    assert_eq!(scene.workers.scrub.step(scene.now_ms), Step::Idle { again_ms: Some(1_000) });
    let mut off = Scene::new(0);
    assert_eq!(off.workers.scrub.step(u64::MAX), Step::Idle { again_ms: None });
}

impl Scene {
    /// Puts messages with bodies in a blob file into both queues; gives the file's name and the bodies' offsets.
    fn with_blobs(&mut self) -> (String, Vec<u64>) {
        let mut offsets = Vec::new();
        for seq in 1..=3 {
            let told = Arc::new(Mutex::new(None));
            let tell = Arc::clone(&told);
            let body = Bytes::from(vec![seq as u8; 300_000]);
            self.store.blobs().put(body, move |blob| *lock(&tell) = blob.ok());
            while self.workers.blobs.step(self.now_ms) == Step::Worked {}
            let blob = lock(&told).take().expect("written");
            offsets.push(blob.place().offset);
            let targets = vec![(QueueId(1), Seq(MESSAGES + seq)), (QueueId(2), Seq(MESSAGES + seq))];
            let payload = Payload { head: Bytes::new(), body: Bytes::new() };
            self.commit(Batch { puts: vec![Put { targets, payload, blob: Some(blob) }], ..Batch::default() });
        }
        (self.names(".blb").remove(0), offsets)
    }
}

#[test]
fn a_body_that_went_bad_in_a_blob_file_is_told_and_what_is_dead_is_not_looked_at() {
    let mut scene = Scene::new(1 << 30);
    let before = scene.store.stats().scrub_bytes_total;
    let (name, offsets) = scene.with_blobs();
    assert_eq!(scene.scrub(2), Vec::<String>::new());
    assert!(scene.store.stats().scrub_bytes_total - before > 900_000, "all of them are read");
    scene.disk.flip(&name, offsets[0] + 299_000);
    scene.disk.flip(&name, offsets[1] + 9);
    scene.disk.flip(&name, offsets[2] + 1_000);
    scene.commit(Batch {
        acks: [1, 2].map(|queue| (QueueId(queue), Seq(MESSAGES + 3), Seq(MESSAGES + 3))).into(),
        ..Batch::default()
    });
    let found = scene.scrub(2);
    assert_eq!(found.len(), 2, "{found:?}");
    let of = |offset| format!("{name} is damaged at offset {offset} (found by the scrub): ");
    assert!(found[0].starts_with(&of(offsets[0])), "{found:?}");
    assert!(found[0].ends_with("live messages there: 1 of queue 1, 1 of queue 2"), "{found:?}");
    assert!(found[1].starts_with(&of(offsets[1])) && found[1].contains("no message that lives"), "{found:?}");
    // Nothing of it is held any more.
    while scene.workers.blobs.step(scene.now_ms) == Step::Worked {}
    assert_eq!(scene.store.stats().blob_live_bytes, 600_000);
}

#[test]
fn a_blob_file_s_bad_header_and_bodies_that_cannot_be_read_are_told() {
    let mut scene = Scene::new(1 << 30);
    let (name, offsets) = scene.with_blobs();
    scene.disk.flip(&name, 20);
    let found = scene.scrub(2);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("at offset 0") && found[0].contains("3 of queue 1, 3 of queue 2"), "{found:?}");
    // The header's read, then the first body's.
    scene.disk.fail("read", &name, Fails::With(std::io::ErrorKind::Other), 2);
    let found = scene.scrub(2);
    assert_eq!(found.len(), 1, "the header is told already: {found:?}");
    assert!(found[0].contains(&format!("at offset {}", offsets[0])), "{found:?}");
    assert!(found[0].contains("cannot be read"), "{found:?}");
}

//! Opens that are cut off by a power loss: the next one must not take what they left for more than it is.

use std::sync::{Arc, Mutex};

use crate::disk::{Moment, SimDisk};
use crate::store::*;
use crate::{Payload, Put, Step};

fn settings() -> Settings {
    Settings { segment_bytes: 8 * 4096, frame_bytes_max: 8192, reserve: false, ..Settings::default() }
}

fn open(disk: &SimDisk) -> (Store, Workers, Recovered) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open(&disk, settings()).expect("opens")
}

/// Queues and their next places.
fn places(recovered: &Recovered) -> Vec<(QueueId, Seq, u64)> {
    recovered.queues.iter().map(|queue| (queue.queue, queue.next, queue.live)).collect()
}

#[test]
fn what_a_cut_off_open_has_copied_into_a_spare_is_not_taken_for_the_next_frame() {
    let disk = SimDisk::default();
    let (mut store, mut workers, _) = open(&disk);
    let ticket = store
        .commit(Batch { queues_created: vec![QueueId(1)], ..Batch::default() }, Urgency::Now)
        .expect("small");
    while store.durable() < ticket {
        workers.writer.step(0);
    }
    disk.kill();
    // This frame is copied, and the next number is left out.
    let (mut store, mut workers, recovered) = open(&disk);
    assert_eq!(recovered.report.frames_copied, 1);
    while workers.keeper.step(0) == Step::Worked {}
    let payload = Payload { head: Bytes::new(), body: Bytes::from_static(b"written, and not synced") };
    let put = Put { targets: vec![(QueueId(1), Seq(1))], payload, blob: None };
    store.commit(Batch { puts: vec![put], ..Batch::default() }, Urgency::Now).expect("small");
    while store.stats().frames_total == 0 {
        workers.writer.step(0);
    }
    disk.kill();

    let moments: Arc<Mutex<Vec<Moment>>> = Arc::default();
    let seen = Arc::clone(&moments);
    disk.watch(move |_, moment| seen.lock().expect("no panic holds it").push(moment));
    assert_eq!(open(&disk).2.report.frames_copied, 1);
    disk.unwatch();
    moments.lock().expect("no panic holds it").push(disk.moment());
    let (mut with, mut without) = (0, 0);
    for moment in moments.lock().expect("no panic holds it").iter() {
        let disk = moment.after_loss(|| false);
        let first = places(&open(&disk).2);
        match first[0].1 {
            Seq(1) => without += 1,
            _ => with += 1,
        }
        // It has served by now, and nothing that is read later may say otherwise.
        for _ in 0..3 {
            disk.lose_power(|| false);
            assert_eq!(places(&open(&disk).2), first);
        }
    }
    assert!(without > 3 && with > 0, "{without} without the message, {with} with it");
}

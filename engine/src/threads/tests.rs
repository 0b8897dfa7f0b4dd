//! Guards against a store that goes on without one of its workers.

use std::sync::atomic::AtomicBool;

use bytes::Bytes;

use super::*;
use crate::disk::{Disk, Fails, SimDisk};
use crate::{Batch, Fetch, Payload, Put, QueueId, Seq, Settings, Ticket, Urgency};

const PATIENCE: Duration = Duration::from_secs(20);

fn message(queues_created: Vec<QueueId>, seq: u64) -> Batch {
    let payload = Payload { head: Bytes::new(), body: Bytes::from_static(b"body") };
    let put = Put { targets: vec![(QueueId(1), Seq(seq))], payload, blob: None };
    Batch { queues_created, puts: vec![put], ..Batch::default() }
}

/// Starts a store whose disk has a call that panics, has all workers do something, and waits for the failure.
fn panics(call: &'static str, name: &str) -> String {
    let disk = SimDisk::default();
    let handle: Arc<dyn Disk> = Arc::new(disk.clone());
    let settings = Settings {
        segment_bytes: 1 << 16,
        frame_bytes_max: 8192,
        checkpoint_bytes: 1,
        idle_checkpoint_ms: 1,
        blob_bytes_min: 1,
        spares: 0,
        reserve: false,
        ..Settings::default()
    };
    let (mut store, workers, _) = Store::open(&handle, settings).expect("opens");
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    let threads =
        start_threads(&store, workers, move || tell.store(true, Ordering::Release)).expect("starts");
    let durable = store.commit(message(vec![QueueId(1)], 1), Urgency::Now).expect("small");
    store.kick();
    let begin = Instant::now();
    while store.durable() < durable {
        assert!(begin.elapsed() < PATIENCE);
        thread::yield_now();
    }
    disk.fail(call, name, Fails::Panics, 1);
    told.store(false, Ordering::Release);
    store.commit(message(Vec::new(), 2), Urgency::Now).expect("small");
    store.kick();
    let waits = Arc::new(());
    let put = || {
        let waiter = Arc::clone(&waits);
        store.blobs().put(Bytes::from_static(b"large"), move |_| drop(waiter));
    };
    put();
    store.spill(message(Vec::new(), 3).puts.remove(0));
    let (queue, from, upto) = (QueueId(1), Seq(1), Seq(3));
    store.fetch(Fetch { queue, generation: 0, from, upto, count_max: 9, bytes_max: 9999, after: Ticket(0) });
    while store.failure().is_none() || !told.load(Ordering::Acquire) {
        assert!(begin.elapsed() < PATIENCE, "{call} of {name} panicked, and nobody hears of it");
        thread::yield_now();
    }
    // All of them end, also those that wait for it.
    threads.join();
    put();
    assert_eq!(Arc::strong_count(&waits), 1, "somebody waits for a body that nobody writes any more");
    store.failure().expect("latched").to_string()
}

#[test]
fn a_panic_of_any_worker_fails_the_store_and_ends_the_others() {
    for (thread, call, name) in [
        ("writer", "sync", "log-"),
        ("reader", "read", "log-"),
        ("keeper", "create", "checkpoint"),
        ("spiller", "create", "volatile"),
        ("blobs", "create", "blob"),
    ] {
        assert_eq!(panics(call, name), format!("leveret-{thread} panicked, which is a bug"));
    }
}

#[test]
fn an_inline_write_that_leaves_something_says_so() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::default());
    let settings =
        Settings { segment_bytes: 1 << 16, frame_bytes_max: 4096, reserve: false, ..Settings::default() };
    let (mut store, workers, _) = Store::open(&disk, settings).expect("opens");
    let threads = start_threads(&store, workers, || ()).expect("starts");
    let large = |seq| {
        let mut batch = message(Vec::new(), seq);
        batch.puts[0].payload.body = Bytes::from(vec![1; 3_000]);
        batch
    };
    let created = message(vec![QueueId(1)], 1);
    let mut last = store.commit(created, Urgency::Now).expect("small");
    let mut whole = false;
    let begin = Instant::now();
    for seq in (2..).step_by(2) {
        store.kick();
        while store.durable() < last {
            assert!(begin.elapsed() < PATIENCE);
            thread::yield_now();
        }
        if whole {
            break;
        }
        // One that waits for company is for the writer to see off.
        thread::sleep(Duration::from_millis(20));
        store.commit(message(Vec::new(), seq), Urgency::Lazy).expect("small");
        assert!(!threads.write_inline(), "a batch waits on, and its writer sleeps");
        last = store.commit(large(seq + 1), Urgency::Now).expect("small");
        whole |= threads.write_inline();
    }
    store.close(Vec::new());
    threads.join();
}

//! Segments that are there before they are needed.

use std::io::ErrorKind;
use std::ops::RangeInclusive;

use crate::disk::{Fails, SimDisk};
use crate::store::*;
use crate::{Payload, Put, Step};

const SEGMENT: u64 = 16 * 4096;

fn settings() -> Settings {
    Settings {
        segment_bytes: SEGMENT,
        frame_bytes_max: 16_384,
        checkpoint_bytes: u64::MAX,
        idle_checkpoint_ms: u64::MAX,
        spares: 0,
        reserve: false,
        ..Settings::default()
    }
}

fn open(settings: Settings) -> (SimDisk, Store, Workers) {
    let disk = SimDisk::default();
    let same: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut store, mut workers, _) = Store::open(&same, settings).expect("opens");
    commit(&mut store, &mut workers, Batch { queues_created: vec![QueueId(1)], ..Batch::default() });
    (disk, store, workers)
}

fn commit(store: &mut Store, workers: &mut Workers, batch: Batch) {
    let ticket = store.commit(batch, Urgency::Now).expect("small");
    while store.durable() < ticket {
        assert_eq!(workers.writer.step(0), Step::Worked, "{:?}", store.failure());
    }
}

fn put(seq: u64, bytes: usize) -> Batch {
    let payload = Payload { head: Bytes::new(), body: vec![7; bytes].into() };
    Batch {
        puts: vec![Put { targets: vec![(QueueId(1), Seq(seq))], payload, blob: None }],
        ..Batch::default()
    }
}

fn keep(workers: &mut Workers) {
    for _ in 0..1_000 {
        if workers.keeper.step(1) != Step::Worked {
            return;
        }
    }
    panic!("the keeper never comes to rest");
}

/// Guards against a disk that spends half of its time on zeros which nobody gains by, and against a log of small frames whose
/// syncs take twice as long without them.
#[test]
fn only_before_small_frames_a_spare_is_filled_with_zeros() {
    for (bytes, filled) in [(100, true), (10_000, false)] {
        let (disk, mut store, mut workers) =
            open(Settings { spares: 1, large_frame_bytes: 8_192, ..settings() });
        // The first spare is made before there is anything to go by.
        keep(&mut workers);
        let mut seq = 0;
        while store.stats().spare_segments > 0 {
            seq += 1;
            commit(&mut store, &mut workers, put(seq, bytes));
        }
        disk.fail("write", "", Fails::With(ErrorKind::Other), 1);
        keep(&mut workers);
        let made = store.stats().spare_segments;
        assert_eq!((made, disk.mend()), if filled { (0, 0) } else { (1, 1) }, "frames of {bytes} bytes");
        assert!(store.failure().is_none());
    }
}

/// Bytes that each of so many commits of one message wrote.
fn written(
    disk: &SimDisk,
    store: &mut Store,
    workers: &mut Workers,
    seqs: RangeInclusive<u64>,
    bytes: usize,
) -> Vec<u64> {
    let mut each = |seq| {
        let before = disk.stats().written_bytes;
        commit(store, workers, put(seq, bytes));
        disk.stats().written_bytes - before
    };
    seqs.map(&mut each).collect()
}

/// Guards against small frames in a segment that was never written, each of whose syncs has the file's list of extents to
/// write: the first segment of a store, one that was made in haste, one made for large frames. And against zeros that are
/// written where there are some, or for large frames.
#[test]
fn small_frames_take_zeros_along_where_blocks_were_never_written() {
    let small = |zeros_ahead_bytes| Settings { zeros_ahead_bytes, ..settings() };
    // The frame of the queue, the first one, has taken them along to the segment's end.
    let (disk, mut store, mut workers) = open(small(65_536));
    assert_eq!(written(&disk, &mut store, &mut workers, 1..=14, 100), [4_096; 14]);
    let next = written(&disk, &mut store, &mut workers, 15..=17, 100);
    assert_eq!(next[1..], [4_096; 2]);
    assert!(next[0] > SEGMENT - 8_192, "a change of segment, a frame, and zeros to the end: {next:?}");

    let (disk, mut store, mut workers) = open(small(0));
    assert_eq!(written(&disk, &mut store, &mut workers, 1..=14, 100), [4_096; 14]);
    assert!(
        written(&disk, &mut store, &mut workers, 15..=15, 100)[0] < 16_384,
        "no zeros, no more than that"
    );

    // Large ones, and small ones behind them.
    let (disk, mut store, mut workers) = open(small(65_536));
    written(&disk, &mut store, &mut workers, 1..=14, 100);
    let large = written(&disk, &mut store, &mut workers, 15..=16, 10_000);
    assert!(large[0] < 24_576 && large[1] == 12_288, "{large:?}");
    let behind = written(&disk, &mut store, &mut workers, 17..=18, 100);
    assert_eq!(behind, [4_096 + (SEGMENT - 4_096 - 2 * 12_288 - 4_096), 4_096]);

    // A spare has them already.
    let (disk, mut store, mut workers) = open(Settings { spares: 1, ..small(65_536) });
    keep(&mut workers);
    let all = written(&disk, &mut store, &mut workers, 1..=16, 100);
    assert_eq!(all[15], 4_096);
    assert!(all[14] < 16_384, "{all:?}");
}

/// Guards against a store that ends where the zeros find no room but the frame would: a quota, or a file system that needs room
/// to write what is allocated.
#[test]
fn a_frame_whose_zeros_find_no_room_goes_alone() {
    let disk = SimDisk::default();
    let same: Arc<dyn Disk> = Arc::new(disk.clone());
    let settings = Settings { zeros_ahead_bytes: 65_536, ..settings() };
    let (mut store, mut workers, _) = Store::open(&same, settings).expect("opens");
    disk.fail("write", "", Fails::With(ErrorKind::StorageFull), 1);
    let before = disk.stats().written_bytes;
    commit(&mut store, &mut workers, Batch { queues_created: vec![QueueId(1)], ..Batch::default() });
    assert_eq!(disk.stats().written_bytes - before, 4_096);
    assert_eq!(disk.mend(), 0, "a write failed");
    let all = SEGMENT - 2 * 4_096;
    assert_eq!(
        written(&disk, &mut store, &mut workers, 2..=3, 100),
        [all, 4_096],
        "the next one tries again"
    );
}

/// Guards against dead segments of a busy log that are removed one by one, each with a wait for the disk, while new ones are
/// made; against a quiet log that keeps what it does not need, and against a busy one that does so on a disk that is low.
#[test]
fn a_log_at_its_budget_keeps_dead_segments_for_the_next_changes() {
    for (budget, kept) in [(8 * SEGMENT, 2), (u64::MAX / 2, 1)] {
        let (disk, mut store, mut workers) = open(Settings {
            log_budget_bytes: budget,
            checkpoint_bytes: 1,
            disk_low_bytes: SEGMENT,
            ..settings()
        });
        let (mut seq, mut recycled) = (0, 0);
        while recycled < 4 {
            for _ in 0..20 {
                seq += 1;
                commit(&mut store, &mut workers, put(seq, 10_000));
            }
            let acks = vec![(QueueId(1), Seq(1), Seq(seq))];
            commit(&mut store, &mut workers, Batch { acks, ..Batch::default() });
            keep(&mut workers);
            recycled = store.stats().recycled_total;
            let (log, spares) = (store.stats().log_segments, store.stats().spare_segments);
            assert!(spares <= kept && (spares <= 1 || log + spares <= 10), "{spares} beside {log}");
        }
        assert_eq!(store.stats().spare_segments, kept, "after {seq} messages");
        disk.resize(disk.used());
        for now_ms in (1_000..3_000).step_by(50) {
            workers.keeper.step(now_ms);
        }
        assert_eq!(store.stats().spare_segments, 1, "on a disk that is low");
    }
}

//! Settling, merging and repair where something else goes wrong at the same time.

use std::collections::BTreeMap;

use crate::disk::SimDisk;
use crate::offline::{LeaveOut, repair};
use crate::settled::{Extent, read_footer};
use crate::store::*;
use crate::{Payload, Put, Step};

const SEGMENT: u64 = 16 * 4096;

fn settings(settled_bytes: u64) -> Settings {
    Settings {
        segment_bytes: SEGMENT,
        frame_bytes_max: 8192,
        checkpoint_bytes: u64::MAX,
        idle_checkpoint_ms: u64::MAX,
        log_budget_bytes: 2 * SEGMENT,
        settled_bytes,
        spares: 0,
        new_store_id: 77,
        ..Settings::default()
    }
}

fn open(disk: &SimDisk, settled_bytes: u64) -> (Store, Workers, Recovered) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Store::open(&disk, settings(settled_bytes)).expect("opens")
}

fn commit(store: &mut Store, workers: &mut Workers, batch: Batch) {
    let ticket = store.commit(batch, Urgency::Now).expect("small");
    while store.durable() < ticket {
        assert_eq!(workers.writer.step(0), Step::Worked, "{:?}", store.failure());
    }
}

fn body(queue: u64, seq: u64) -> Bytes {
    let mut body = vec![seq as u8; 4_000];
    body[0] = queue as u8;
    Bytes::from(body)
}

fn put(queue: u64, seq: u64) -> Batch {
    let payload = Payload { head: Bytes::new(), body: body(queue, seq) };
    Batch {
        puts: vec![Put { targets: vec![(QueueId(queue), Seq(seq))], payload, blob: None }],
        ..Batch::default()
    }
}

fn ack(queue: u64, first: u64, last: u64) -> Batch {
    Batch { acks: vec![(QueueId(queue), Seq(first), Seq(last))], ..Batch::default() }
}

/// Steps the settler alone through so many seconds.
fn settle(workers: &mut Workers, from_s: u64, seconds: u64) {
    for s in from_s..from_s + seconds {
        let mut steps = 0;
        while workers.settler.step(s * 1_000) == Step::Worked {
            steps += 1;
            assert!(steps < 100_000);
        }
    }
}

fn used(disk: &SimDisk) -> u64 {
    disk.used()
}

fn settled_files(disk: &SimDisk) -> Vec<(String, Vec<Extent>)> {
    let names = disk.names().into_iter().filter(|(name, _)| name.ends_with(".set"));
    let each = names.map(|(name, length)| {
        let file = disk.open(&name).expect("there");
        let (_, extents, _) = read_footer(file.as_ref(), &name, length).expect("sound");
        (name, extents)
    });
    each.collect()
}

fn fetch(
    store: &Store,
    workers: &mut Workers,
    queue: u64,
    upto: u64,
) -> (BTreeMap<u64, Bytes>, Vec<(Seq, String)>) {
    let (mut found, mut lost, mut from) = (BTreeMap::new(), Vec::new(), Seq(1));
    while from < Seq(upto) {
        store.fetch(Fetch {
            queue: QueueId(queue),
            generation: 0,
            from,
            upto: Seq(upto),
            count_max: 100,
            bytes_max: 1 << 20,
            after: Ticket(0),
        });
        while workers.reader.step() == Step::Worked {}
        let answer = store.answers().pop().expect("one answer");
        lost.extend(answer.lost);
        found.extend(answer.messages.into_iter().map(|(seq, body)| (seq.0, body)));
        from = answer.upto;
    }
    (found, lost)
}

fn filled(disk: &SimDisk, settled_bytes: u64, count: u64) -> (Store, Workers) {
    let (mut store, mut workers, _) = open(disk, settled_bytes);
    let queues_created = vec![QueueId(1), QueueId(2)];
    commit(&mut store, &mut workers, Batch { queues_created, ..Batch::default() });
    for seq in 1..=count {
        commit(&mut store, &mut workers, put(1, seq));
    }
    (store, workers)
}

#[test]
fn on_a_full_disk_dead_settled_segments_are_dropped_although_settling_fails() {
    let disk = SimDisk::default();
    let (mut store, mut workers) = filled(&disk, 1 << 20, 60);
    settle(&mut workers, 1, 1);
    let files = settled_files(&disk).len();
    assert!(files >= 3);
    let last = settled_files(&disk).iter().map(|(_, extents)| extents[0].last.0).max().expect("some");
    assert!(last < 60);
    commit(&mut store, &mut workers, ack(1, 1, last));
    for seq in 1..=30 {
        commit(&mut store, &mut workers, put(2, seq));
    }
    disk.resize(used(&disk) + 100);
    settle(&mut workers, 3, 60);
    let stats = store.stats();
    assert!(store.failure().is_none() && stats.out_of_space_total > 0, "{stats:?}");
    assert!(stats.settled_removed_total > 0, "{stats:?}");
}

#[test]
fn a_leftover_that_could_not_be_removed_does_not_stop_settling() {
    let disk = SimDisk::default();
    let (store, mut workers) = filled(&disk, 1 << 20, 60);
    disk.put("settled.tmp", vec![1; 100]);
    settle(&mut workers, 1, 60);
    assert!(store.stats().settled_segments > 0, "{:?} {:?}", store.stats(), store.findings());
}

#[test]
fn a_large_sparse_settled_segment_is_merged_and_stops_no_other() {
    let disk = SimDisk::default();
    let (mut store, mut workers) = filled(&disk, 10_000, 60);
    settle(&mut workers, 1, 1);
    for (_, extents) in settled_files(&disk) {
        let extent = extents[0];
        // 3 of 7 or so live: more than settled_bytes, less than half.
        commit(&mut store, &mut workers, ack(1, extent.first.0, extent.last.0 - 3));
    }
    settle(&mut workers, 3, 60);
    assert!(store.stats().merge_bytes_total > 0, "{:?}", store.stats());
}

#[test]
fn a_missing_settled_segment_comes_back_after_a_merge() {
    let disk = SimDisk::default();
    let (store, mut workers) = filled(&disk, 100_000, 60);
    settle(&mut workers, 1, 1);
    let files = settled_files(&disk);
    assert!(files.len() >= 3);
    drop((store, workers));
    disk.kill();
    let bytes = disk.contents(&files[1].0).expect("there");
    disk.take(&files[1].0);

    let (mut store, mut workers, _) = open(&disk, 100_000);
    let mut live: Vec<u64> = (1..=60).collect();
    for at in [0, 2] {
        let extent = files[at].1[0];
        let (first, last) = (extent.first.0 + 1, extent.last.0 - 1);
        commit(&mut store, &mut workers, ack(1, first, last));
        live.retain(|seq| *seq < first || *seq > last);
    }
    settle(&mut workers, 3, 20);
    assert!(store.stats().merge_bytes_total > 0, "{:?}", store.stats());
    drop((store, workers));
    disk.kill();
    disk.put(&files[1].0, bytes);

    let (store, mut workers, recovered) = open(&disk, 100_000);
    assert!(recovered.report.damaged.is_empty());
    let (found, lost) = fetch(&store, &mut workers, 1, 61);
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), live);
}

#[test]
fn a_repair_of_a_merged_settled_segment_keeps_others_extents_apart() {
    let disk = SimDisk::default();
    let (mut store, mut workers) = filled(&disk, 100_000, 60);
    settle(&mut workers, 1, 1);
    let files = settled_files(&disk);
    let mut live: Vec<u64> = (1..=60).collect();
    for at in [0, 2] {
        let extent = files[at].1[0];
        let (first, last) = (extent.first.0 + 1, extent.last.0 - 1);
        commit(&mut store, &mut workers, ack(1, first, last));
        live.retain(|seq| *seq < first || *seq > last);
    }
    settle(&mut workers, 3, 20);
    assert!(store.stats().merge_bytes_total > 0, "{:?}", store.stats());
    let (name, extents) = settled_files(&disk).pop().expect("the merged one");
    assert_eq!(extents.len(), 2, "{extents:?}");
    drop((store, workers));
    disk.kill();
    let mut bytes = disk.contents(&name).expect("there");
    // Its footer: nothing is lost, all records are sound.
    let length = bytes.len();
    bytes[length - 70] ^= 8;
    disk.put(&name, bytes);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let done = repair(&shared, &mut |_, _| (), &mut |_| Some(LeaveOut::default())).expect("readable");
    assert!(done.changed && done.found.loss.is_empty(), "{done:?}");

    let (store, mut workers, recovered) = open(&disk, 100_000);
    assert!(recovered.report.damaged.is_empty());
    let (found, lost) = fetch(&store, &mut workers, 1, 61);
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), live);
}

#[test]
fn a_repair_gives_no_place_out_again_that_a_settled_segment_holds() {
    let disk = SimDisk::default();
    let (mut store, mut workers, _) = open(&disk, 1 << 20);
    let queues_created = vec![QueueId(1), QueueId(2)];
    commit(&mut store, &mut workers, Batch { queues_created, ..Batch::default() });
    commit(&mut store, &mut workers, put(1, 1));
    let mut batch = put(2, 1);
    batch.puts.extend(put(2, 2).puts);
    // Frame 3 or so holds all that queue 2 ever got.
    batch.puts.truncate(1);
    commit(&mut store, &mut workers, batch);
    for seq in 2..=60 {
        commit(&mut store, &mut workers, put(1, seq));
    }
    settle(&mut workers, 1, 1);
    assert!(settled_files(&disk)[0].1.iter().any(|extent| extent.queue == QueueId(2)));
    drop((store, workers));
    disk.kill();
    let (segment, _) = disk.names().into_iter().find(|(name, _)| name.ends_with(".seg")).expect("some");
    let mut bytes = disk.contents(&segment).expect("there");
    // The frame with the put for queue 2, found by its body.
    let at = bytes.windows(3).position(|part| part == [2, 1, 1]).expect("its body");
    bytes[at + 1_000] ^= 1;
    disk.put(&segment, bytes);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let done = repair(&shared, &mut |_, _| (), &mut |_| Some(LeaveOut::default())).expect("readable");
    assert!(done.changed, "{done:?}");

    let (mut store, mut workers, recovered) = open(&disk, 1 << 20);
    let next = recovered.queues[1].next;
    let mut again = put(2, next.0);
    again.puts[0].payload.body = Bytes::from_static(b"new");
    commit(&mut store, &mut workers, again);
    let (found, lost) = fetch(&store, &mut workers, 2, next.0 + 1);
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(found.get(&next.0), Some(&Bytes::from_static(b"new")), "place {next} {:?}", done.found.loss);
    assert_eq!(next, Seq(2), "the settled message is there");
}

#[test]
fn what_is_lost_with_a_settled_segment_is_taken_from_the_log_while_it_is_there() {
    let disk = SimDisk::default();
    let (mut store, mut workers) = filled(&disk, 1 << 20, 60);
    let both = vec![(QueueId(1), Seq(61)), (QueueId(2), Seq(1))];
    let payload = Payload { head: Bytes::new(), body: body(1, 61) };
    commit(
        &mut store,
        &mut workers,
        Batch { puts: vec![Put { targets: both, payload, blob: None }], ..Batch::default() },
    );
    settle(&mut workers, 1, 1);
    drop((store, workers));
    disk.kill();
    // The keeper never ran: no log segment was recycled.
    let lost: Vec<String> = settled_files(&disk).into_iter().map(|(name, _)| name).collect();
    assert!(lost.len() >= 2);
    for name in &lost {
        disk.take(name);
    }
    let handle: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut told = Vec::new();
    let done = repair(&handle, &mut |_, _| (), &mut |found| {
        told.extend(found.findings.iter().map(|finding| finding.what.clone()));
        Some(LeaveOut::default())
    });
    let done = done.expect("readable");
    assert!(done.changed && done.found.loss.messages.is_empty(), "{:?}", done.found.loss);
    assert!(told.iter().any(|what| what.contains("stand in the log still")), "{told:?}");
    let (store, mut workers, recovered) = open(&disk, 1 << 20);
    assert!(recovered.report.damaged.is_empty() && recovered.report.lost.is_empty(), "{recovered:?}");
    let (found, lost) = fetch(&store, &mut workers, 1, 62);
    assert!(lost.is_empty(), "{lost:?}");
    let put = (1..=61).map(|seq| (seq, body(1, seq)));
    assert_eq!(found, put.collect::<BTreeMap<_, _>>());
    assert_eq!(fetch(&store, &mut workers, 2, 2).0, BTreeMap::from([(1, body(1, 61))]));
}

/// Many queues that get a message each in turn: extents, and what is found of the first queue, in the end.
fn many_queues(extents_joined: u64) -> (usize, Vec<u64>) {
    const QUEUES: u64 = 40;
    const TURNS: u64 = 200;
    let disk = SimDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let settings = Settings { extents_joined, settle_strip_bytes: 20_000, ..settings(100_000) };
    let (mut store, mut workers, _) = Store::open(&shared, settings).expect("opens");
    let queues_created = (1..=QUEUES).map(QueueId).collect();
    commit(&mut store, &mut workers, Batch { queues_created, ..Batch::default() });
    for seq in 1..=TURNS {
        let puts = (1..=QUEUES).map(|queue| Put {
            targets: vec![(QueueId(queue), Seq(seq))],
            payload: Payload { head: Bytes::new(), body: Bytes::from(vec![queue as u8; 100]) },
            blob: None,
        });
        commit(&mut store, &mut workers, Batch { puts: puts.collect(), ..Batch::default() });
        settle(&mut workers, 2 * seq, 1);
    }
    settle(&mut workers, 1_000, 20);
    let extents = settled_files(&disk).iter().map(|(_, extents)| extents.len()).sum();
    let (found, lost) = fetch(&store, &mut workers, 1, TURNS + 1);
    assert!(lost.is_empty() && store.failure().is_none(), "{lost:?}");
    (extents, found.into_keys().collect())
}

#[test]
fn short_extents_of_many_queues_are_joined_and_none_is_lost() {
    let (apart, all) = many_queues(u64::MAX);
    let (joined, found) = many_queues(1);
    assert_eq!(found, (1..=200).collect::<Vec<_>>());
    assert_eq!(all, found);
    assert!(joined * 5 < apart, "{joined} of {apart}");
}

/// Guards against a settled segment that seems full because its many small messages live, while the few large ones that
/// make up its length are dead.
#[test]
fn disk_follows_the_bytes_that_live_where_small_messages_live_among_large_dead_ones() {
    let disk = SimDisk::default();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut store, mut workers, _) = Store::open(&shared, settings(1 << 20)).expect("opens");
    commit(&mut store, &mut workers, Batch { queues_created: vec![QueueId(1)], ..Batch::default() });
    // Of ten, one is large: almost all bytes, and a tenth of the records.
    let length = |seq: u64| if seq.is_multiple_of(10) { 8_000 } else { 20 };
    for seq in 1..=1_000 {
        let payload = Payload { head: Bytes::new(), body: Bytes::from(vec![seq as u8; length(seq)]) };
        let puts = vec![Put { targets: vec![(QueueId(1), Seq(seq))], payload, blob: None }];
        commit(&mut store, &mut workers, Batch { puts, ..Batch::default() });
        settle(&mut workers, seq, 1);
    }
    let settled = |disk: &SimDisk| -> u64 {
        let names = disk.names().into_iter().filter(|(name, _)| name.ends_with(".set"));
        names.map(|(_, bytes)| bytes).sum()
    };
    let last = settled_files(&disk).iter().flat_map(|(_, extents)| extents).map(|e| e.last.0).max();
    let last = last.expect("some settled");
    let before = settled(&disk);
    let acks = (10..=last).step_by(10).map(|seq| (QueueId(1), Seq(seq), Seq(seq))).collect();
    commit(&mut store, &mut workers, Batch { acks, ..Batch::default() });
    settle(&mut workers, 2_000, 60);
    let live = (1..=last).filter(|seq| !seq.is_multiple_of(10)).count() as u64 * 64;
    let after = settled(&disk);
    assert!(before > 500_000 && after < 3 * live + 10_000, "{before} to {after}, {live} live");
    let (found, lost) = fetch(&store, &mut workers, 1, 1_001);
    assert!(lost.is_empty());
    let wanted: Vec<u64> = (1..=1_000_u64).filter(|seq| !seq.is_multiple_of(10) || *seq > last).collect();
    assert_eq!(found.into_keys().collect::<Vec<_>>(), wanted);
}

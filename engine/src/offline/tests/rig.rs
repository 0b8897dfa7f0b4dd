//! A store on a simulated disk with a few segments and two checkpoints, and what it should hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{Disk, SimDisk};
use crate::format::{BLOCK_BYTES, FrameHeader, parse_name};
use crate::ids::{QueueId, Seq, Ticket};
use crate::manifest::{self, State};
use crate::settings::Settings;
use crate::shared::{Step, lock};
use crate::sync::Mutex;
use crate::{Batch, Error, Fetch, Payload, Put, Recovered, Store, Urgency, Workers};

pub(super) type Messages = BTreeMap<(u64, u64), Bytes>;

pub(super) struct Rig {
    pub(super) disk: SimDisk,
    pub(super) settings: Settings,
    /// By queue and place, everything that was ever put...
    pub(super) put: Messages,
    /// ...and what was not acked.
    pub(super) live: Messages,
}

/// A file at a moment: name and bytes.
pub(super) type Files = Vec<(String, Vec<u8>)>;

impl Rig {
    /// Some 70 frames in five segments. The newest frame is proven by nothing.
    pub(super) fn new() -> Self {
        Self::with(Settings::default().log_budget_bytes)
    }

    /// The same, with all but the newest segments settled.
    pub(super) fn settled() -> Self {
        let rig = Self::with(2 * 16 * BLOCK_BYTES as u64);
        assert!(rig.settled_names().len() >= 2, "{:?}", rig.state());
        rig
    }

    fn with(log_budget_bytes: u64) -> Self {
        let settings = Settings {
            log_budget_bytes,
            segment_bytes: 16 * BLOCK_BYTES as u64,
            frame_bytes_max: 2 * BLOCK_BYTES as u64,
            checkpoint_bytes: 24 * BLOCK_BYTES as u64,
            idle_checkpoint_ms: u64::MAX,
            spares: 0,
            new_store_id: 77,
            ..Settings::default()
        };
        let disk = SimDisk::default();
        let mut rig = Self { disk, settings, put: BTreeMap::new(), live: BTreeMap::new() };
        let (mut store, mut workers, _) = rig.open().expect("new");
        let facts = vec![(Bytes::from("a"), Some(Bytes::from("1")))];
        let first = Batch { queues_created: vec![QueueId(1), QueueId(2)], facts, ..Batch::default() };
        commit(&mut store, &mut workers, first);
        for i in 1..=60_u64 {
            let mut batch = Batch::default();
            let mut targets = vec![(QueueId(1), Seq(i))];
            if i % 5 == 0 {
                targets.push((QueueId(2), Seq(i / 5)));
            }
            // Every seventh runs over two frames.
            let body = Bytes::from(vec![i as u8; if i % 7 == 0 { 9_000 } else { 40 }]);
            for (queue, seq) in &targets {
                rig.put.insert((queue.0, seq.0), body.clone());
                rig.live.insert((queue.0, seq.0), body.clone());
            }
            batch.puts.push(Put { targets, payload: Payload { head: Bytes::new(), body }, blob: None });
            if i % 2 == 0 {
                batch.acks.push((QueueId(1), Seq(i - 1), Seq(i - 1)));
                rig.live.remove(&(1, i - 1));
            }
            if i == 30 {
                batch.facts.push((Bytes::from("b"), Some(Bytes::from("2"))));
            }
            commit(&mut store, &mut workers, batch);
        }
        let stats = store.stats();
        assert!(stats.checkpoints_total >= 3 && stats.rotations_total >= 4, "{stats:?}");
        drop((store, workers));
        rig.disk.kill();
        rig
    }

    /// Opens the store and gives back what is dead in blob files.
    pub(super) fn give_back(&self) {
        let (_store, mut workers, _) = self.open().expect("sound");
        for now_ms in [0, 10_000, 20_000] {
            while workers.blobs.step(now_ms) == Step::Worked {}
        }
        self.disk.kill();
    }

    pub(super) fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    pub(super) fn open(&self) -> Result<(Store, Workers, Recovered), Error> {
        Store::open(&self.disk(), self.settings.clone())
    }

    /// What the store holds now.
    pub(super) fn read_back(&self) -> Messages {
        let (mut store, mut workers, recovered) = self.open().expect("sound");
        let found = fetch_all(&mut store, &mut workers, &recovered);
        drop((store, workers));
        self.disk.kill();
        found
    }

    pub(super) fn files(&self) -> Files {
        self.disk.names().into_iter().map(|(name, _)| (name.clone(), self.contents(&name))).collect()
    }

    pub(super) fn contents(&self, name: &str) -> Vec<u8> {
        self.disk.contents(name).expect("it is there")
    }

    /// Changes a file's bytes.
    pub(super) fn damage(&self, name: &str, how: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.contents(name);
        how(&mut bytes);
        self.disk.put(name, bytes);
    }

    pub(super) fn rename(&self, from: &str, to: &str) {
        self.disk.put(to, self.contents(from));
        self.disk.take(from);
    }

    pub(super) fn state(&self) -> State {
        manifest::load(&self.disk).expect("readable").expect("there").state
    }

    /// Names of checkpoint files, oldest first.
    pub(super) fn checkpoints(&self) -> Vec<String> {
        self.names("checkpoint-", ".ckp")
    }

    /// Names of settled segments, oldest first.
    pub(super) fn settled_names(&self) -> Vec<String> {
        self.names("settled-", ".set")
    }

    /// Names of files of a kind, oldest first.
    pub(super) fn names(&self, prefix: &str, ending: &str) -> Vec<String> {
        let names = self.disk.names().into_iter().map(|(name, _)| name);
        names.filter(|name| parse_name(name, prefix, ending).is_some()).collect()
    }

    /// Three more messages, whose bodies stand in one blob file; one of them is in both queues.
    pub(super) fn add_blobs(&mut self) {
        let (mut store, mut workers, _) = self.open().expect("sound");
        for i in 61..=63_u64 {
            let body = Bytes::from((0..5_000).map(|at| (at * i % 251) as u8).collect::<Vec<_>>());
            let told = Arc::new(Mutex::new(None));
            let tell = Arc::clone(&told);
            store.blobs().put(body.clone(), move |blob| *lock(&tell) = blob.ok());
            while workers.blobs.step(0) == Step::Worked {}
            let blob = lock(&told).take();
            let mut targets = vec![(QueueId(1), Seq(i))];
            if i == 62 {
                targets.push((QueueId(2), Seq(13)));
            }
            for (queue, seq) in &targets {
                self.put.insert((queue.0, seq.0), body.clone());
                self.live.insert((queue.0, seq.0), body.clone());
            }
            let payload = Payload { head: Bytes::new(), body: Bytes::new() };
            let puts = vec![Put { targets, payload, blob }];
            commit(&mut store, &mut workers, Batch { puts, ..Batch::default() });
        }
        drop((store, workers));
        self.disk.kill();
    }

    /// Offsets and headers of a segment's frames.
    pub(super) fn frames(&self, name: &str) -> Vec<(usize, FrameHeader)> {
        let bytes = self.contents(name);
        let blocks = (BLOCK_BYTES..bytes.len()).step_by(BLOCK_BYTES);
        blocks.filter_map(|at| FrameHeader::decode(&bytes[at..]).ok().map(|header| (at, header))).collect()
    }
}

/// Commits and steps until it is durable; the keeper works too.
pub(super) fn commit(store: &mut Store, workers: &mut Workers, batch: Batch) {
    let ticket = store.commit(batch, Urgency::Now).expect("small");
    while store.durable() < ticket {
        assert_eq!(workers.writer.step(0), Step::Worked);
    }
    while workers.settler.step(0) == Step::Worked || workers.keeper.step(0) == Step::Worked {}
    assert!(store.failure().is_none(), "{:?}", store.failure());
}

pub(super) fn fetch_all(store: &mut Store, workers: &mut Workers, recovered: &Recovered) -> Messages {
    let (found, lost) = fetch_what_is_left(store, workers, recovered);
    assert!(lost.is_empty(), "{lost:?}");
    found
}

/// What can be read, and why the rest cannot.
pub(super) fn fetch_what_is_left(
    store: &mut Store,
    workers: &mut Workers,
    recovered: &Recovered,
) -> (Messages, BTreeMap<(u64, u64), String>) {
    let mut found = Messages::new();
    let mut lost = BTreeMap::new();
    for queue in &recovered.queues {
        let mut from = Seq(1);
        let before = (found.len() + lost.len()) as u64;
        while from < queue.next {
            store.fetch(Fetch {
                queue: queue.queue,
                generation: 0,
                from,
                upto: queue.next,
                count_max: 100,
                bytes_max: 1 << 20,
                after: Ticket(0),
            });
            while workers.reader.step() == Step::Worked {}
            let answer = store.answers().pop().expect("one answer");
            assert!(answer.upto > from, "an answer goes on");
            lost.extend(answer.lost.into_iter().map(|(seq, why)| ((queue.queue.0, seq.0), why)));
            found.extend(answer.messages.into_iter().map(|(seq, body)| ((queue.queue.0, seq.0), body)));
            from = answer.upto;
        }
        let read = (found.len() + lost.len()) as u64 - before;
        assert_eq!(read, queue.live, "count of queue {}", queue.queue);
    }
    (found, lost)
}

//! A store with a past: several lives of the real engine with tiny segments, so that rotations, checkpoints, settling,
//! merging and recoveries have all been there; and what must be found in it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fastrand::Rng;
use leveret_engine::{
    Batch, BlobRef, Control, Disk, Payload, Put, QueueId, Seq, Settings, SimDisk, Step, Store, Ticket,
    Urgency, Workers,
};

/// A directory at a moment: names and bytes.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A store at rest, everything in it durable.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) settings: Settings,
    pub(super) files: Files,
    /// The directory at earlier moments, oldest first.
    pub(super) older: Vec<Files>,
    pub(super) past: Past,
}

/// All that ever happened. Commits are numbered from 1 over all lives.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// The newest commit.
    pub(super) commits: u64,
    pub(super) queues: BTreeMap<u64, QueuePast>,
    pub(super) messages: BTreeMap<(u64, u64), Message>,
    /// Places of transient messages, and the commit that acks them: the one of the next place.
    pub(super) holes: BTreeMap<(u64, u64), u64>,
    /// Per key, its changes: commit and value.
    pub(super) facts: BTreeMap<Bytes, Vec<(u64, Option<Bytes>)>>,
    /// Per group of frames, in the order in which they became durable, the newest commit in it.
    pub(super) groups: Vec<u64>,
}

#[derive(Debug, Default)]
pub(super) struct QueuePast {
    pub(super) created: u64,
    pub(super) deleted: Option<u64>,
    /// The next place.
    next: u64,
}

/// A message in one queue.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) payload: Bytes,
    /// The commit that put it...
    pub(super) put: u64,
    /// ...and the one that acked or purged it, or deleted its queue.
    pub(super) gone: Option<u64>,
}

impl Past {
    /// Whether a message lived after a commit.
    pub(super) fn lived(message: &Message, at: u64) -> bool {
        message.put <= at && message.gone.is_none_or(|gone| gone > at)
    }

    /// Whether a queue was there after a commit.
    pub(super) fn was_there(queue: &QueuePast, at: u64) -> bool {
        queue.created <= at && queue.deleted.is_none_or(|deleted| deleted > at)
    }

    /// What a key held after a commit.
    pub(super) fn fact(&self, key: &Bytes, at: u64) -> Option<&Bytes> {
        let changes = self.facts.get(key)?.iter().rev();
        changes.into_iter().find(|(commit, _)| *commit <= at)?.1.as_ref()
    }
}

type Bodies = Arc<Mutex<Vec<(BlobRef, Bytes)>>>;

struct Life {
    store: Store,
    workers: Workers,
    /// Commits before this life.
    before: u64,
    durable: Ticket,
}

struct World {
    rng: Rng,
    disk: SimDisk,
    settings: Settings,
    past: Past,
    older: Vec<Files>,
    bodies: Bodies,
    now_ms: u64,
}

/// Makes the store of a seed.
pub(super) fn make(seed: u64) -> Image {
    let mut rng = Rng::with_seed(seed ^ 0x7d61_6d61_6765);
    let settings = Settings {
        segment_bytes: 16_384 * rng.u64(2..6),
        frame_bytes_max: 4_096 * rng.u64(1..4),
        checkpoint_bytes: 16_384 * rng.u64(1..5),
        spares: rng.usize(0..3),
        log_budget_bytes: 32_768 * rng.u64(1..8),
        settle_strip_bytes: *rng.choice(&[3_000, 20_000, 1 << 20]).unwrap_or(&3_000),
        extents_joined: *rng.choice(&[1, 1 << 16]).unwrap_or(&1),
        settled_bytes: *rng.choice(&[10_000, 60_000, 1 << 20]).unwrap_or(&10_000),
        blob_bytes_min: 1,
        blob_file_bytes: 4_096 * rng.u64(2..10),
        idle_checkpoint_ms: 400,
        scrub_bytes_per_s: 1 << 30,
        scrub_pass_ms: 1,
        reserve: rng.u8(..4) == 0,
        new_store_id: seed | 1,
        ..Settings::default()
    };
    let mut world = World {
        rng,
        disk: SimDisk::default(),
        settings,
        past: Past::default(),
        older: Vec::new(),
        bodies: Bodies::default(),
        now_ms: 0,
    };
    let lives = world.rng.u32(1..4);
    for life in 1..=lives {
        world.live(life == lives);
    }
    let files = files(&world.disk);
    Image { settings: world.settings, files, older: world.older, past: world.past }
}

/// What a disk holds.
pub(super) fn files(disk: &SimDisk) -> Files {
    disk.names()
        .into_iter()
        .map(|(name, _)| (name.clone(), disk.contents(&name).unwrap_or_default()))
        .collect()
}

impl Image {
    /// A disk that holds such files.
    pub(super) fn disk(files: &Files) -> SimDisk {
        let disk = SimDisk::default();
        for (name, bytes) in files {
            disk.put(name, bytes.clone());
        }
        disk
    }

    /// The settings, with a deliberate bug.
    pub(super) fn settings(&self, control: Option<Control>) -> Settings {
        Settings { control, ..self.settings.clone() }
    }
}

impl World {
    fn live(&mut self, last: bool) {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let opened = Store::open(&disk, self.settings.clone());
        let (store, workers, _) = opened.expect("nothing was damaged");
        let before = self.past.commits;
        let mut life = Life { store, workers, before, durable: Ticket(0) };
        for _ in 0..self.rng.u32(150..500) {
            self.step(&mut life);
        }
        self.drain(&mut life);
        self.snapshot();
        for _ in 0..self.rng.u32(0..200) {
            self.step(&mut life);
        }
        self.drain(&mut life);
        self.end(life);
        if !last {
            self.snapshot();
        }
    }

    fn step(&mut self, life: &mut Life) {
        self.now_ms += u64::from(self.rng.u8(..8) == 0) * self.rng.u64(1..60);
        let now_ms = self.now_ms;
        match self.rng.u8(..20) {
            0..4 => self.commit(life),
            4..9 => drop(life.workers.writer.step(now_ms)),
            9..11 => drop(life.workers.keeper.step(now_ms)),
            11..13 => drop(life.workers.blobs.step(now_ms)),
            13 => self.write_body(life),
            _ => drop(life.workers.settler.step(now_ms)),
        }
        self.note(life);
    }

    /// Everything that was committed is durable; nobody holds a body any more.
    fn drain(&mut self, life: &mut Life) {
        let wanted = Ticket(self.past.commits - life.before);
        while life.store.durable() < wanted {
            // What is lazy leaves after a while.
            self.now_ms += 1;
            life.workers.writer.step(self.now_ms);
            self.note(life);
        }
        assert!(life.store.failure().is_none(), "{:?}", life.store.failure());
    }

    /// How a life ends: a kill with the newest frame unproven, with it proven, a power loss, or a clean close.
    fn end(&mut self, mut life: Life) {
        let how = self.rng.u8(..5);
        if how == 0 {
            life.store.close(Vec::new());
            loop {
                self.now_ms += 1;
                life.workers.writer.step(self.now_ms);
                if life.workers.keeper.step(self.now_ms) == Step::Done {
                    break;
                }
            }
        } else if how < 3 {
            self.now_ms += 1_000;
            for _ in 0..6 {
                life.workers.writer.step(self.now_ms);
            }
        }
        for _ in 0..self.rng.u32(0..60) {
            life.workers.settler.step(self.now_ms);
            life.workers.keeper.step(self.now_ms);
            life.workers.blobs.step(self.now_ms);
        }
        assert!(life.store.failure().is_none(), "{:?}", life.store.failure());
        drop(life);
        lock(&self.bodies).clear();
        if self.rng.bool() {
            self.disk.kill();
        } else {
            let mut rng = self.rng.fork();
            self.disk.lose_power(|| rng.bool());
        }
    }

    /// Notes which commits became durable together.
    fn note(&mut self, life: &mut Life) {
        let durable = life.store.durable();
        if durable > life.durable {
            life.durable = durable;
            self.past.groups.push(life.before + durable.0);
        }
    }

    fn snapshot(&mut self) {
        self.older.push(files(&self.disk));
    }

    fn write_body(&mut self, life: &Life) {
        let length = if self.rng.u8(..6) == 0 { 9_000 } else { self.rng.usize(1..3_000) };
        let mut body = vec![0; length];
        self.rng.fill(&mut body);
        let (body, bodies) = (Bytes::from(body), Arc::clone(&self.bodies));
        life.store.blobs().put(body.clone(), move |blob| lock(&bodies).extend(blob.map(|blob| (blob, body))));
    }

    fn take_body(&mut self) -> Option<(BlobRef, Bytes)> {
        let mut bodies = lock(&self.bodies);
        let index = (!bodies.is_empty()).then(|| self.rng.usize(..bodies.len()))?;
        Some(if self.rng.bool() { bodies.swap_remove(index) } else { bodies[index].clone() })
    }

    fn commit(&mut self, life: &mut Life) {
        self.past.commits += 1;
        let commit = self.past.commits;
        let mut batch = Batch::default();
        if self.there().len() < 3 || (self.there().len() < 7 && self.rng.u8(..20) == 0) {
            let id = self.past.queues.keys().next_back().map_or(1, |id| id + 1);
            self.past.queues.insert(id, QueuePast { created: commit, deleted: None, next: 1 });
            batch.queues_created.push(QueueId(id));
        }
        let there = self.there();
        for _ in 0..self.rng.u8(0..5) {
            self.put(commit, &there, &mut batch);
        }
        if self.rng.u8(..3) > 0 {
            let id = there[self.rng.usize(..there.len())];
            let live: Vec<u64> = self.live_of(id);
            if !live.is_empty() {
                let (first, last) = match self.rng.u8(..16) {
                    // A purge.
                    0 => (1, self.past.queues[&id].next - 1),
                    1..9 => (live[0], live[0] + self.rng.u64(0..6)),
                    _ => {
                        let first = live[self.rng.usize(..live.len())];
                        (first, first + self.rng.u64(0..3))
                    }
                };
                self.go(commit, id, first, last);
                batch.acks.push((QueueId(id), Seq(first), Seq(last)));
            }
        }
        let key = Bytes::from(vec![b'k', self.rng.u8(..6)]);
        let value = (self.rng.u8(..3) > 0).then(|| Bytes::from(vec![self.rng.u8(..); 9]));
        if self.rng.u8(..4) == 0 {
            self.fact(commit, key, value, &mut batch);
        }
        // No commit is empty, and each can be told from the others.
        self.fact(commit, Bytes::from("commit"), Some(Bytes::from(commit.to_string())), &mut batch);
        if there.len() > 3 && self.rng.u8(..25) == 0 {
            let id = there[self.rng.usize(..there.len())];
            self.go(commit, id, 1, u64::MAX);
            if let Some(queue) = self.past.queues.get_mut(&id) {
                queue.deleted = Some(commit);
            }
            batch.queues_deleted.push(QueueId(id));
        }
        let urgency = if self.rng.u8(..6) == 0 { Urgency::Lazy } else { Urgency::Now };
        let ticket = life.store.commit(batch, urgency).expect("small batches");
        assert_eq!(life.before + ticket.0, commit, "tickets count commits");
        if urgency == Urgency::Lazy {
            self.now_ms += 10;
        }
    }

    /// Queues that are there.
    fn there(&self) -> Vec<u64> {
        let there = self.past.queues.iter().filter(|(_, queue)| queue.deleted.is_none());
        there.map(|(id, _)| *id).collect()
    }

    fn live_of(&self, id: u64) -> Vec<u64> {
        let of = self.past.messages.range((id, 0)..(id + 1, 0));
        of.filter(|(_, message)| message.gone.is_none()).map(|((_, seq), _)| *seq).collect()
    }

    fn go(&mut self, commit: u64, id: u64, first: u64, last: u64) {
        for (_, message) in self.past.messages.range_mut((id, first)..=(id, last)) {
            message.gone.get_or_insert(commit);
        }
    }

    fn fact(&mut self, commit: u64, key: Bytes, value: Option<Bytes>, batch: &mut Batch) {
        self.past.facts.entry(key.clone()).or_default().push((commit, value.clone()));
        batch.facts.push((key, value));
    }

    fn put(&mut self, commit: u64, there: &[u64], batch: &mut Batch) {
        let length = match self.rng.u8(..12) {
            0 if batch.puts.len() < 2 => self.rng.usize(5_000..9_500),
            0..4 => self.rng.usize(500..2_500),
            _ => self.rng.usize(0..90),
        };
        let mut payload = vec![0; length];
        self.rng.fill(&mut payload);
        let mut payload = Bytes::from(payload);
        let mut put = Put {
            targets: Vec::new(),
            payload: Payload { head: payload.slice(..length / 3), body: payload.slice(length / 3..) },
            blob: None,
        };
        if self.rng.u8(..4) == 0
            && let Some((blob, large)) = self.take_body()
        {
            put.payload.body = Bytes::new();
            payload = [&put.payload.head[..], &large].concat().into();
            put.blob = Some(blob);
        }
        for id in there {
            if self.rng.usize(..there.len()) > 0 {
                continue;
            }
            let Some(queue) = self.past.queues.get_mut(id) else { continue };
            // Transient messages take places that are never logged.
            for _ in 0..if self.rng.u8(..8) == 0 { self.rng.u64(1..4) } else { 0 } {
                self.past.holes.insert((*id, queue.next), commit);
                queue.next += 1;
            }
            let message = Message { payload: payload.clone(), put: commit, gone: None };
            self.past.messages.insert((*id, queue.next), message);
            put.targets.push((QueueId(*id), Seq(queue.next)));
            queue.next += 1;
        }
        if !put.targets.is_empty() {
            batch.puts.push(put);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

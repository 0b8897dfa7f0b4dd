//! Guards against publishes that pass each other on their way, and against a client that takes more memory than it may.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use leveret_broker::{ChanId, Publish};
use leveret_engine::{Disk, RealDisk, Settings, Step, Store, Workers};

use super::*;
use crate::inbox::Inbox;

const LARGE: usize = 600_000;
const CHANNEL: ChanId = ChanId(7);

struct Scene {
    dir: tempfile::TempDir,
    store: Store,
    workers: Workers,
    hub: Hub,
    held: Held,
    tag: u64,
}

impl Scene {
    /// With room for so many bytes of publishes.
    fn new(window: u32) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&dir.path().join("data")).expect("opens"));
        let settings = Settings { segment_bytes: 1 << 20, frame_bytes_max: 8192, ..Settings::default() };
        let (store, workers, _) = Store::open(&disk, settings).expect("opens");
        let hub = Hub::new(Arc::new(Inbox::default()), window, 1);
        hub.write_bodies_to(store.blobs());
        Self { dir, store, workers, held: Held::new(hub.clone()), hub, tag: 0 }
    }

    /// The next publish, with a body of that length.
    fn publish(&mut self, length: usize) -> Option<Ready> {
        self.tag += 1;
        let publish = Publish {
            exchange: "".into(),
            routing_key: "q".into(),
            mandatory: false,
            persistent: true,
            properties: Bytes::from_static(&[0, 0]),
            body: vec![7; length].into(),
            blob: None,
            extras: None,
        };
        self.held
            .push(vec![Input::Publish { chan: CHANNEL, tag: self.tag, vhost: "/".into(), publish }], length)
    }

    /// Something that is no publish.
    fn other(&mut self) -> Option<Ready> {
        self.held.push(vec![Input::Writable { chan: CHANNEL, bytes: 1 }], 0)
    }

    fn next(&mut self) -> Poll<Result<Ready, NoBodies>> {
        self.held.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    /// What may enter now.
    fn entered(&mut self) -> Ready {
        match self.next() {
            Poll::Ready(Ok(ready)) => ready,
            other => panic!("nothing may enter: {other:?}"),
        }
    }

    /// Steps the blob writer until it has nothing to do.
    fn step(&mut self, now_ms: u64) {
        while self.workers.blobs.step(now_ms) == Step::Worked {}
    }
}

/// Tags of the publishes among inputs, which all must have their bodies where they belong; 0 for what is none.
fn tags(ready: &Ready) -> Vec<u64> {
    let tag = |input: &Input| match input {
        Input::Publish { tag, publish, .. } => {
            assert_eq!(publish.blob.is_some(), publish.body.len() == LARGE, "publish {tag}");
            *tag
        }
        _ => 0,
    };
    ready.inputs.iter().map(tag).collect()
}

#[tokio::test]
async fn several_large_bodies_are_written_at_once_and_enter_in_order_with_all_that_came_between() {
    let mut scene = Scene::new(64 << 20);
    assert!(scene.publish(10).is_some_and(|ready| tags(&ready) == [1]), "it waits for nothing");
    for length in [LARGE, 20, LARGE, LARGE] {
        assert!(scene.publish(length).is_none());
    }
    assert!(scene.other().is_none() && scene.publish(30).is_none());
    assert!(scene.next().is_pending() && scene.held.accepts());
    scene.step(0);
    assert_eq!(scene.store.stats().blobs_total, 3, "all of them, before anybody asked again");
    let ready = scene.entered();
    assert_eq!(tags(&ready), [2, 3, 4, 5, 0, 6]);
    assert!(scene.held.is_empty() && scene.held.bytes == 0 && scene.next().is_pending());
    assert_eq!(scene.hub.publishing_bytes(), 3 * LARGE as u64 + 50);
    drop(ready);
    assert_eq!(scene.hub.publishing_bytes(), 0);
}

#[tokio::test]
async fn nothing_is_taken_in_behind_what_waits_for_room_and_that_enters_behind_what_came_before() {
    let mut scene = Scene::new(2 * LARGE as u32);
    assert!(scene.publish(LARGE).is_none() && scene.publish(LARGE).is_none());
    assert!(scene.held.accepts());
    assert!(scene.publish(LARGE).is_none() && !scene.held.accepts());
    scene.step(0);
    let first = scene.entered();
    assert_eq!(tags(&first), [1, 2]);
    assert!(scene.next().is_pending() && !scene.held.accepts());
    scene.step(0);
    assert_eq!(scene.store.stats().blobs_total, 2, "there is no room for the third in memory");
    drop(first);
    assert!(scene.next().is_pending() && scene.held.accepts());
    scene.step(0);
    assert_eq!(tags(&scene.entered()), [3]);
}

#[tokio::test]
async fn of_one_client_only_so_much_is_taken_in_also_of_what_has_no_body() {
    let mut scene = Scene::new(u32::MAX >> 4);
    let large = std::iter::from_fn(|| scene.held.accepts().then(|| scene.publish(LARGE))).count();
    assert_eq!(large, BYTES_MAX.div_ceil(LARGE + INPUT_BYTES));
    scene.step(0);
    assert_eq!(scene.entered().inputs.len(), large);
    assert!(scene.held.accepts() && scene.publish(LARGE).is_none());
    let others = std::iter::from_fn(|| scene.held.accepts().then(|| scene.other())).count();
    assert_eq!(others, (BYTES_MAX - LARGE - INPUT_BYTES).div_ceil(INPUT_BYTES));
}

#[tokio::test]
async fn what_a_client_that_goes_has_on_its_way_is_not_written_and_its_room_comes_back() {
    let mut scene = Scene::new(64 << 20);
    for length in [LARGE, 10, LARGE] {
        assert!(scene.publish(length).is_none());
    }
    let closed = Input::ChannelClosed { chan: CHANNEL };
    assert!(scene.held.push(vec![closed], 0).is_none());
    assert!(matches!(scene.held.clear()[..], [Input::ChannelClosed { chan: CHANNEL }]));
    assert!(scene.held.is_empty() && scene.held.bytes == 0);
    assert_eq!(scene.hub.publishing_bytes(), 2 * LARGE as u64, "the blob writer has them still");
    scene.step(0);
    assert_eq!((scene.hub.publishing_bytes(), scene.store.stats().blobs_total), (0, 0));
}

#[tokio::test]
async fn where_the_disk_does_not_take_a_body_nothing_behind_it_enters() {
    let mut scene = Scene::new(64 << 20);
    std::fs::remove_dir_all(scene.dir.path().join("data")).expect("removed");
    for length in [LARGE, 10, LARGE] {
        assert!(scene.publish(length).is_none());
    }
    for try_no in 0..4 {
        scene.step(try_no * 1_000);
    }
    for _ in 0..2 {
        assert!(matches!(scene.next(), Poll::Ready(Err(NoBodies::NotWritten(_)))));
    }
    assert_eq!(scene.held.clear().len(), 0);
    assert_eq!(scene.hub.publishing_bytes(), 0);
}

//! Guards against room that is given away twice, and against bodies that nobody waits for.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use leveret_engine::{Disk, RealDisk, Settings, Step, Store, Workers};

use super::*;
use crate::hub::Hub;
use crate::inbox::Inbox;

const LARGE: usize = 600_000;
const WINDOW: u32 = 1_500_000;

struct Scene {
    _dir: tempfile::TempDir,
    _store: Store,
    workers: Workers,
    hub: Hub,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&dir.path().join("data")).expect("opens"));
        let settings = Settings { segment_bytes: 1 << 20, frame_bytes_max: 8192, ..Settings::default() };
        let (store, workers, _) = Store::open(&disk, settings).expect("opens");
        let hub = Hub::new(Arc::new(Inbox::default()), WINDOW, 1);
        hub.write_bodies_to(store.blobs());
        Self { _dir: dir, _store: store, workers, hub }
    }

    fn write(&self) -> impl Future<Output = Result<(Permit, Written), NoBodies>> + use<> {
        let publish = Publish {
            exchange: "".into(),
            routing_key: "q".into(),
            mandatory: false,
            persistent: true,
            properties: Bytes::from_static(&[0, 0]),
            body: vec![7; LARGE].into(),
            blob: None,
            extras: None,
        };
        let permit = self.hub.try_permit(LARGE + 100).expect("room");
        let bodies = self.hub.large_bodies(std::iter::once(&publish));
        assert!(!bodies.is_empty());
        bodies.write(permit)
    }

    fn step(&mut self) {
        while self.workers.blobs.step(0) == Step::Worked {}
    }
}

fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn the_room_of_a_body_comes_back_with_it_and_not_before() {
    let mut scene = Scene::new();
    let mut writing = Box::pin(scene.write());
    assert!(poll(writing.as_mut()).is_pending());
    scene.step();
    let Poll::Ready(Ok((permit, written))) = poll(writing.as_mut()) else { panic!("it is written") };
    assert_eq!((scene.hub.publishing_bytes(), written.0.len()), (LARGE as u64 + 100, 1));
    drop(permit);
    assert_eq!(scene.hub.publishing_bytes(), 0);
}

#[test]
fn who_gives_up_and_tries_again_has_no_room_for_more_copies_until_the_first_is_let_go_of() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        let mut writing = Box::pin(scene.write());
        assert!(poll(writing.as_mut()).is_pending());
        drop(writing);
    }
    assert_eq!(scene.hub.publishing_bytes(), 2 * LARGE as u64, "the blob writer has them still");
    assert!(scene.hub.try_permit(LARGE).is_none());
    scene.step();
    assert_eq!(scene.hub.publishing_bytes(), 0);
    assert_eq!(scene._store.stats().blobs_total, 0, "nobody waited any more");
}

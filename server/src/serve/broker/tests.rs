//! Guards against a core that is gone while its server lives on, and clients wait for ever.

use std::time::Duration;

use bytes::Bytes;
use leveret_broker::{Blob, Publish};
use tokio::time::timeout;

use super::*;
use crate::config::Layers;

/// A bug: the core panics when it lets go of a message with one.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("a bug in the core");
        }
    }
}

fn backend(dir: &tempfile::TempDir) -> Arc<RealBackend> {
    let mut settings = Layers::default().resolve().expect("defaults").settings;
    settings.data_dir = dir.path().join("data");
    settings.segment_size.0 = 1 << 20;
    settings.message_max.0 = 64 << 10;
    Arc::new(RealBackend::new(&Arc::new(settings)))
}

/// A message that reaches no queue.
fn publish(body_bytes: usize, blob: Option<Blob>) -> Publish {
    Publish {
        exchange: "".into(),
        routing_key: "nowhere".into(),
        mandatory: false,
        persistent: true,
        properties: Bytes::from_static(&[0, 0]),
        body: vec![0; body_bytes].into(),
        blob,
        extras: None,
    }
}

async fn panics(count: usize) {
    let dir = tempfile::tempdir().expect("a directory");
    let backend = backend(&dir);
    let opening = Arc::clone(&backend);
    tokio::task::spawn_blocking(move || opening.open()).await.expect("no panic").expect("opens");
    // So that the core thread sleeps, and a turn is the sender's.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let hub = backend.hub().clone();
    // Small ones, one by one, are turned by whoever sends them, which panics then; others by the core thread.
    let asked = tokio::spawn(async move {
        let permit = hub.permit(1).await.expect("not closed");
        let mut batch = vec![publish(1, None); count];
        batch.push(publish(1, Some(Blob::new(Bomb))));
        let _ = hub.publish(Caller::default(), "/".into(), batch, permit).await;
    });
    let why = timeout(Duration::from_secs(20), backend.failed()).await.expect("the server hears of it");
    assert_eq!(why, "the core panicked, which is a bug");
    asked.abort();
    assert_eq!(asked.await.is_err_and(|error| error.is_panic()), count == 0, "whose turn it was");
}

/// Guards against a server all of whose connections wait for one client's sync.
#[test]
fn a_runtime_with_one_thread_lets_no_sender_make_a_turn() {
    for (threads, turns) in [(1, false), (2, true)] {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(threads).enable_all().build().expect("starts");
        let dir = tempfile::tempdir().expect("a directory");
        let backend = backend(&dir);
        let opening = Arc::clone(&backend);
        runtime
            .block_on(async { tokio::task::spawn_blocking(move || opening.open()).await })
            .expect("no panic")
            .expect("opens");
        assert_eq!(backend.inbox.has_turner(), turns, "{threads} threads");
        backend.close().expect("closes");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_of_the_core_thread_ends_the_server() {
    panics(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_sender_s_turn_ends_the_server() {
    panics(0).await;
}

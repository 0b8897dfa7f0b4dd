//! Publish and PublishStream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use leveret_engine::{Disk, Pressure, RealDisk, Settings, Step, Store};
use leveret_proto::v1::{self, PublishOutcome, PublishStreamRequest};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::fake_core::World;
use super::{reason, to, until};
use crate::grpc::GrpcSettings;

fn one(message: v1::PublishMessage) -> PublishStreamRequest {
    PublishStreamRequest { vhost: String::new(), messages: vec![message] }
}

#[tokio::test]
async fn confirms_come_in_order_and_returns_before_them() {
    let mut world = World::new().await;
    let requests = (1..=1000).map(|n| {
        one(to(
            if n % 10 == 0 {
                "nowhere"
            } else if n == 5 {
                "refused"
            } else {
                "q"
            },
            "text",
        ))
    });
    let mut responses = world.client.publish_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let (mut upto, mut exceptions, mut returned) = (0, Vec::new(), Vec::new());
    while let Some(response) = responses.message().await.unwrap() {
        assert!(response.confirmed_upto >= upto);
        returned.extend(response.returned);
        for exception in response.exceptions {
            assert!(upto < exception.number && exception.number <= response.confirmed_upto);
            if exception.outcome() == PublishOutcome::Unrouted {
                assert!(returned.iter().any(|r: &v1::ReturnedMessage| r.number == exception.number));
            } else {
                assert_eq!(exception.error.as_ref().unwrap().reason, "EXCHANGE_NOT_FOUND");
            }
            exceptions.push(exception.number);
        }
        upto = response.confirmed_upto;
    }
    assert_eq!(upto, 1000);
    let expected: Vec<u64> = (1..=1000).filter(|n| n % 10 == 0 || *n == 5).collect();
    assert_eq!(exceptions, expected);
    assert_eq!(returned.len(), 100);
    assert_eq!(returned[0].message.as_ref().unwrap().routing_key, "nowhere");
}

#[tokio::test]
async fn what_came_before_a_wrong_message_is_confirmed() {
    let mut world = World::new().await;
    let mut wrong = to("q", "text");
    wrong.exchange = "x".repeat(256);
    let requests = vec![one(to("q", "1")), one(to("q", "2")), one(wrong), one(to("q", "4"))];
    let mut responses = world.client.publish_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut upto = 0;
    let status = loop {
        match responses.message().await {
            Ok(response) => upto = response.unwrap().confirmed_upto,
            Err(status) => break status,
        }
    };
    assert_eq!(upto, 2);
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
    assert!(status.message().starts_with("message 3 of the stream: exchange has 256 bytes"), "{status}");
}

#[tokio::test]
async fn a_publisher_waits_for_the_disk_and_a_client_that_never_reads_costs_little() {
    let mut world = World::with(GrpcSettings::default(), 1 << 20, 1 << 20).await;
    world.seen.keep.store(true, Ordering::Relaxed);
    world.seen.disk_stands.store(true, Ordering::Relaxed);
    let (sender, requests) = mpsc::channel(1);
    let responses = world.client.publish_stream(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let body = "x".repeat(10_000);
    let sending = tokio::spawn(async move {
        for _ in 0..1000 {
            sender.send(one(to("q", &body))).await.unwrap();
        }
    });
    let count = || world.seen.publishes.lock().unwrap().len();
    until("the permits are used up", || count() > 90).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(count() <= (1 << 20) / 10_000, "{}", count());
    world.seen.disk_stands.store(false, Ordering::Relaxed);
    sending.await.unwrap();
    until("all were taken", || count() == 1000).await;
    drop(responses);
    until("the channel is closed", || world.seen.channels.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn a_waiting_stream_holds_no_room() {
    // Room for three blocks; eight streams wait with one message each confirmed.
    let mut world = World::with(GrpcSettings::default(), 3 * 256 * 1024, 1 << 20).await;
    let mut open = Vec::new();
    for _ in 0..8 {
        let (sender, requests) = mpsc::channel(1);
        sender.send(one(to("q", "text"))).await.unwrap();
        let mut responses =
            world.client.publish_stream(ReceiverStream::new(requests)).await.unwrap().into_inner();
        assert_eq!(responses.message().await.unwrap().unwrap().confirmed_upto, 1);
        open.push((sender, responses));
    }
    let large = v1::PublishRequest { messages: vec![to("q", &"x".repeat(700_000))], ..Default::default() };
    let answer = tokio::time::timeout(Duration::from_secs(5), world.client.publish(large)).await.unwrap();
    assert_eq!(answer.unwrap().into_inner().results[0].queues, 1);
}

#[tokio::test]
async fn a_batch_is_answered_message_by_message() {
    let mut world = World::new().await;
    let messages = vec![to("q", "1"), to("nowhere", "2"), to("refused", "3")];
    let request = v1::PublishRequest { vhost: String::new(), messages };
    let results = world.client.publish(request).await.unwrap().into_inner().results;
    let outcomes: Vec<_> = results.iter().map(|result| result.outcome()).collect();
    assert_eq!(outcomes, [PublishOutcome::Routed, PublishOutcome::Unrouted, PublishOutcome::Rejected]);
    assert_eq!(results[2].error.as_ref().unwrap().reason, "EXCHANGE_NOT_FOUND");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_a_large_one_passes() {
    let settings = GrpcSettings { message_bytes_max: 1_000_000, ..GrpcSettings::default() };
    let mut world = World::with(settings, 1 << 26, 1 << 20).await;
    let request =
        |bytes| v1::PublishRequest { messages: vec![to("q", &"x".repeat(bytes))], ..Default::default() };
    world.client.publish(request(1_000_000)).await.unwrap();
    let status = world.client.publish(request(1_000_001)).await.unwrap_err();
    assert_eq!(reason(&status), "MESSAGE_TOO_LARGE");
    let status = world.client.publish(request(3_000_000)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
}

/// Not a test of correctness: `cargo test --release -p leveret-server publish_stream_rate -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn publish_stream_rate() {
    const COUNT: u64 = 2_000_000;
    let mut world = World::new().await;
    let body = bytes::Bytes::from(vec![b'x'; 100]);
    let message = v1::PublishMessage {
        routing_key: "q".into(),
        message: Some(v1::Message { body: Some(v1::message::Body::Bytes(body)), ..Default::default() }),
        ..Default::default()
    };
    let requests = tokio_stream::iter((0..COUNT).map(move |_| one(message.clone())));
    let start = Instant::now();
    let mut responses = world.client.publish_stream(requests).await.unwrap().into_inner();
    let (mut upto, mut count) = (0, 0);
    while let Some(response) = responses.message().await.unwrap() {
        upto = response.confirmed_upto;
        count += 1;
    }
    assert_eq!(upto, COUNT);
    let rate = COUNT as f64 / start.elapsed().as_secs_f64();
    eprintln!("{rate:.0} one-message requests a second, confirmed by {count} responses");
}

/// Guards against a large message that waits for a disk on which there is no room, and nobody is told.
#[tokio::test]
async fn a_large_publish_is_refused_while_the_disk_is_low_and_when_it_does_not_take_the_body() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&dir.path().join("data")).unwrap());
    let settings = Settings { segment_bytes: 1 << 20, frame_bytes_max: 8192, ..Settings::default() };
    // Nobody steps its workers: the body waits.
    let (store, mut workers, _) = Store::open(&disk, settings).unwrap();
    let world = World::new().await;
    world.hub.write_bodies_to(store.blobs());
    let mut client = world.client.clone();
    let publishing = tokio::spawn(async move {
        let messages = vec![to("q", &"x".repeat(300_000))];
        client.publish(v1::PublishRequest { messages, ..Default::default() }).await
    });
    until("it is on its way", || world.hub.publishing_bytes() > 0).await;
    world.hub.hold_publishers(Some(Pressure::DiskLow));
    let refused = tokio::time::timeout(Duration::from_secs(10), publishing).await.expect("an answer");
    let status = refused.unwrap().unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "DISK_LOW"));
    assert_eq!(world.hub.publishing_bytes(), 300_000, "the body still waits");
    while workers.blobs.step(0) == Step::Worked {}
    assert_eq!(world.hub.publishing_bytes(), 0);

    // A disk that does not take it: in the way of each new blob file stands a directory.
    world.hub.hold_publishers(None);
    std::fs::create_dir(dir.path().join("data/blob.tmp")).unwrap();
    let mut client = world.client.clone();
    let publishing = tokio::spawn(async move {
        let messages = vec![to("q", &"x".repeat(300_000))];
        client.publish(v1::PublishRequest { messages, ..Default::default() }).await
    });
    until("it is on its way", || world.hub.publishing_bytes() > 0).await;
    for now_ms in [10_000, 20_000, 30_000] {
        assert!(!publishing.is_finished(), "it is tried again");
        while workers.blobs.step(now_ms) == Step::Worked {}
    }
    let refused = tokio::time::timeout(Duration::from_secs(10), publishing).await.expect("an answer");
    let status = refused.unwrap().unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "NOT_WRITTEN"));
    assert!(status.message().contains("blob.tmp"), "{status}");
    assert_eq!((world.hub.publishing_bytes(), store.failure().is_none()), (0, true));
}

/// Guards against a stream that waits for ever for the confirm of a message that never went to the core.
#[tokio::test]
async fn a_stream_ends_with_the_error_when_the_disk_does_not_take_a_body() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&dir.path().join("data")).unwrap());
    let settings = Settings { segment_bytes: 1 << 20, frame_bytes_max: 8192, ..Settings::default() };
    let (store, mut workers, _) = Store::open(&disk, settings).unwrap();
    let world = World::new().await;
    world.hub.write_bodies_to(store.blobs());
    // In the way of each new blob file stands a directory.
    std::fs::create_dir(dir.path().join("data/blob.tmp")).unwrap();
    let mut client = world.client.clone();
    let (requests, stream) = mpsc::channel(10);
    let mut responses = client.publish_stream(ReceiverStream::new(stream)).await.unwrap().into_inner();
    requests.send(one(to("q", "small"))).await.unwrap();
    let confirmed = responses.message().await.unwrap().expect("a confirm");
    assert_eq!(confirmed.confirmed_upto, 1);

    requests.send(one(to("q", &"x".repeat(300_000)))).await.unwrap();
    until("it is on its way", || world.hub.publishing_bytes() > 0).await;
    for now_ms in [10_000, 20_000, 30_000] {
        while workers.blobs.step(now_ms) == Step::Worked {}
    }
    let end = tokio::time::timeout(Duration::from_secs(10), responses.message()).await.expect("an answer");
    let status = end.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "NOT_WRITTEN"));
    assert_eq!((world.hub.publishing_bytes(), store.failure().is_none()), (0, true));
}

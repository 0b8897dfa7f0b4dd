//! Consume and Subscribe.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use leveret_proto::v1::consume_request::Action;
use leveret_proto::v1::{
    ConsumeOpen, ConsumeRequest, ConsumeResponse, ConsumeSettle, SettleKind, SubscribeRequest,
};
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::fake_core::World;
use super::{reason, until};

async fn consume(world: &mut World) -> (Sender<ConsumeRequest>, Streaming<ConsumeResponse>) {
    let (sender, requests) = mpsc::channel(10);
    let call = world.client.consume(ReceiverStream::new(requests));
    // The headers come before anything was sent.
    let responses = tokio::time::timeout(Duration::from_secs(5), call).await.unwrap().unwrap().into_inner();
    (sender, responses)
}

fn open(queue: &str) -> ConsumeRequest {
    ConsumeRequest { action: Some(Action::Open(ConsumeOpen { queue: queue.into(), ..Default::default() })) }
}

fn settle(delivery_tag: u64, kind: SettleKind) -> ConsumeRequest {
    let settle = ConsumeSettle { delivery_tag, multiple: false, kind: kind.into() };
    ConsumeRequest { action: Some(Action::Settle(settle)) }
}

async fn error(responses: &mut Streaming<ConsumeResponse>) -> Status {
    loop {
        match responses.message().await {
            Ok(response) => assert!(response.is_some(), "ended without an error"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn opened_comes_first_then_deliveries_then_notices_then_the_end() {
    let mut world = World::new().await;
    let (sender, mut responses) = consume(&mut world).await;
    world.seen.out.store(3, Ordering::Relaxed);
    sender.send(open("3")).await.unwrap();
    let first = responses.message().await.unwrap().unwrap();
    assert_eq!(first.opened.as_ref().unwrap().consumer_tag, "tag");
    let mut deliveries = first.deliveries;
    while deliveries.len() < 3 {
        let response = responses.message().await.unwrap().unwrap();
        assert!(response.opened.is_none());
        deliveries.extend(response.deliveries);
    }
    let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.delivery_tag).collect();
    assert_eq!(tags, [1, 2, 3]);
    sender.send(settle(3, SettleKind::Ack)).await.unwrap();
    sender.send(settle(9, SettleKind::Reject)).await.unwrap();
    drop(sender);
    let (mut upto, mut exceptions) = (0, Vec::new());
    while let Some(response) = responses.message().await.unwrap() {
        let settled = response.settled.unwrap();
        upto = settled.upto;
        exceptions.extend(settled.exceptions);
    }
    assert_eq!(upto, 2);
    assert_eq!((exceptions.len(), exceptions[0].number, exceptions[0].delivery_tag), (1, 2, 9));
    assert_eq!(exceptions[0].error.as_ref().unwrap().reason, "DELIVERY_TAG_UNKNOWN");
    until("the channel is closed", || world.seen.channels.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn a_closed_side_waits_for_what_is_out() {
    let mut world = World::new().await;
    let (sender, mut responses) = consume(&mut world).await;
    world.seen.out.store(1, Ordering::Relaxed);
    sender.send(open("1")).await.unwrap();
    responses.message().await.unwrap().unwrap();
    drop(sender);
    let seen = std::sync::Arc::clone(&world.seen);
    let start = Instant::now();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        seen.out.store(0, Ordering::Relaxed);
    });
    while responses.message().await.unwrap().is_some() {}
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn wrong_requests_end_the_stream_by_name() {
    let mut world = World::new().await;
    for (requests, text) in [
        (vec![settle(1, SettleKind::Ack)], "the first message of the stream must be open"),
        (vec![ConsumeRequest::default()], "the first message of the stream must be open"),
        (vec![], "the first message of the stream must be open"),
        (vec![open("")], "queue must not be empty"),
        (vec![open("0"), open("0")], "the stream is open already"),
        (vec![open("0"), ConsumeRequest::default()], "action must be set"),
        (vec![open("0"), settle(1, SettleKind::Unspecified)], "kind is 0; it must be ACK, REQUEUE or REJECT"),
    ] {
        let (sender, mut responses) = consume(&mut world).await;
        for request in requests {
            sender.send(request).await.unwrap();
        }
        drop(sender);
        let status = error(&mut responses).await;
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, text));
    }
}

#[tokio::test]
async fn a_queue_that_is_missing_or_goes_is_not_found() {
    let mut world = World::new().await;
    for queue in ["missing", "gone"] {
        let (sender, mut responses) = consume(&mut world).await;
        sender.send(open(queue)).await.unwrap();
        let status = error(&mut responses).await;
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "QUEUE_NOT_FOUND"), "{queue}");
    }
    let request = |queue: &str| SubscribeRequest { queue: queue.into(), ..Default::default() };
    assert_eq!(world.client.subscribe(request("missing")).await.unwrap_err().code(), Code::NotFound);
    let mut responses = world.client.subscribe(request("gone")).await.unwrap().into_inner();
    assert_eq!(responses.message().await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn credit_comes_back_as_the_client_reads() {
    let mut world = World::new().await;
    let (sender, mut responses) = consume(&mut world).await;
    sender.send(open("2000x10000")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // A client that does not read: only what fits into the windows on the way has left.
    let unread = world.seen.credit_back.load(Ordering::Relaxed);
    assert!(unread < 10_000_000, "{unread}");
    let mut count = 0;
    while count < 2000 {
        count += responses.message().await.unwrap().unwrap().deliveries.len();
    }
    let cost = 10_000 + 3 + 1 + leveret_broker::MESSAGE_OVERHEAD_BYTES;
    until("all credit is back", || world.seen.credit_back.load(Ordering::Relaxed) == 2000 * cost).await;
    drop((sender, responses));
    until("the channel is closed", || world.seen.channels.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn subscribe_delivers_until_the_call_ends() {
    let mut world = World::new().await;
    let request = SubscribeRequest { queue: "5x3".into(), text: true, ..Default::default() };
    let mut responses = world.client.subscribe(request).await.unwrap().into_inner();
    for tag in 1..=5 {
        let delivery = responses.message().await.unwrap().unwrap().delivery.unwrap();
        assert_eq!(delivery.delivery_tag, tag);
        let body = delivery.message.unwrap().body.unwrap();
        assert_eq!(body, leveret_proto::v1::message::Body::Text("xxx".into()));
    }
    drop(responses);
    until("the channel is closed", || world.seen.channels.load(Ordering::Relaxed) == 0).await;
}

/// Not a test of correctness: `cargo test --release -p leveret-server consume_rate -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn consume_rate() {
    const COUNT: usize = 1_000_000;
    let mut world = World::new().await;
    let (sender, mut responses) = consume(&mut world).await;
    sender.send(open(&format!("{COUNT}x100"))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let start = Instant::now();
    let mut count = 0;
    while count < COUNT {
        count += responses.message().await.unwrap().unwrap().deliveries.len();
    }
    eprintln!("{:.0} deliveries a second", COUNT as f64 / start.elapsed().as_secs_f64());
}

//! Consume and Subscribe: prefetch, settlement, notices, half-close, fairness, lost consumers.

use std::time::Duration;

use leveret_proto::v1::{
    AckRequest, ConsumeOpen, Delivery, ListChannelsRequest, ListConnectionsRequest, ListConsumersRequest,
    SettleKind, SubscribeRequest,
};
use leveret_tests::client::{Client, assert_refused, body, to_queue};
use leveret_tests::server::{Options, Server};
use leveret_tests::streams::{ConsumeLane, PublishLane};
use tonic::Code;

#[tokio::test]
async fn prefetch_bounds_what_is_out() {
    let server = Server::start().await;
    let mut client = filled(&server, 10).await;
    let mut lane = ConsumeLane::on(&client, "jobs", 3).await;
    let out = lane.take(3).await;
    assert_eq!(numbers(&out), [0, 1, 2]);
    assert_eq!(out.iter().map(|delivery| delivery.delivery_tag).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(out.iter().all(|delivery| delivery.consumer_tag == lane.tag && !delivery.redelivered));
    lane.quiet().await;
    lane.settle_and_wait(&out[1], SettleKind::Ack).await;
    assert_eq!(numbers(&lane.take(1).await), [3]);
    lane.quiet().await;
    let info = client.queue_info("jobs").await;
    assert_eq!((info.messages_ready, info.messages_unacknowledged, info.consumers), (6, 3, 1));
}

#[tokio::test]
async fn prefetch_bytes_bound_too_and_one_message_may_overdraw() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    for _ in 0..3 {
        client.publish("jobs", vec![7; 1000]).await;
    }
    let open = ConsumeOpen { queue: "jobs".into(), prefetch_bytes: 10, ..Default::default() };
    let mut lane = ConsumeLane::open(&client, open).await;
    for _ in 0..3 {
        let delivery = lane.next().await;
        lane.quiet().await;
        lane.settle_and_wait(&delivery, SettleKind::Ack).await;
    }
}

#[tokio::test]
async fn settle_multiple_and_tag_zero() {
    let server = Server::start().await;
    let mut client = filled(&server, 6).await;
    let mut lane = ConsumeLane::on(&client, "jobs", 0).await;
    let out = lane.take(6).await;
    lane.settle(out[2].delivery_tag, true, SettleKind::Ack);
    lane.all_settled().await;
    assert_eq!(client.queue_info("jobs").await.messages_unacknowledged, 3);
    lane.settle(0, true, SettleKind::Ack);
    lane.all_settled().await;
    assert_eq!(client.queue_info("jobs").await.messages, 0);
}

#[tokio::test]
async fn requeue_comes_back_in_place_and_flagged_and_reject_drops() {
    let server = Server::start().await;
    let mut client = filled(&server, 5).await;
    let mut lane = ConsumeLane::on(&client, "jobs", 3).await;
    let out = lane.take(3).await;
    lane.settle_and_wait(&out[2], SettleKind::Reject).await;
    assert_eq!(numbers(&lane.take(1).await), [3]);
    lane.settle_and_wait(&out[0], SettleKind::Requeue).await;
    let again = lane.next().await;
    assert_eq!((number(&again), again.redelivered), (0, true));
    assert_eq!(client.queue_info("jobs").await.messages, 4);
}

#[tokio::test]
async fn a_settle_of_something_not_out_is_an_exception_not_the_end() {
    let server = Server::start().await;
    let client = filled(&server, 2).await;
    let mut lane = ConsumeLane::on(&client, "jobs", 1).await;
    let first = lane.next().await;
    lane.settle(999, false, SettleKind::Ack);
    lane.settle(first.delivery_tag, false, SettleKind::Ack);
    lane.settle(first.delivery_tag, false, SettleKind::Ack);
    lane.all_settled().await;
    let refused: Vec<_> = lane.notices.iter().flat_map(|notice| &notice.exceptions).collect();
    assert_eq!(refused.iter().map(|e| (e.number, e.delivery_tag)).collect::<Vec<_>>(), [(1, 999), (3, 1)]);
    let error = refused[0].error.as_ref().expect("what is wrong");
    assert_eq!(error.code, Code::FailedPrecondition as i32);
    assert!(!error.reason.is_empty() && !error.message.is_empty(), "{error:?}");
    assert_eq!(number(&lane.next().await), 1, "the stream goes on");
}

#[tokio::test]
async fn auto_ack_needs_no_settle() {
    let server = Server::start().await;
    let mut client = filled(&server, 20).await;
    let open = ConsumeOpen {
        queue: "jobs".into(),
        auto_ack: true,
        consumer_tag: "mine".into(),
        ..Default::default()
    };
    let mut lane = ConsumeLane::open(&client, open).await;
    assert_eq!(lane.tag, "mine");
    assert_eq!(numbers(&lane.take(20).await), (0..20).collect::<Vec<_>>());
    client.wait_queue("jobs", "nothing left", |queue| queue.messages == 0).await;
}

#[tokio::test]
async fn half_close_stops_deliveries_and_ends_when_all_is_settled() {
    let server = Server::start().await;
    let mut client = filled(&server, 10).await;
    let mut lane = ConsumeLane::on(&client, "jobs", 2).await;
    let out = lane.take(2).await;
    lane.half_close();
    client.wait_queue("jobs", "no consumer", |queue| queue.consumers == 0).await;
    // What is out stays out, and is settled by id from elsewhere.
    assert_eq!(client.queue_info("jobs").await.messages_unacknowledged, 2);
    client.ack(&out).await;
    assert!(lane.next_or_end().await.expect("a good end").is_none());
    assert_eq!(client.queue_info("jobs").await.messages, 8);
}

#[tokio::test]
async fn a_lost_consumer_gives_everything_back_in_order() {
    let server = Server::start().await;
    let mut client = filled(&server, 6).await;
    let mut lane = ConsumeLane::on(&server.client().await, "jobs", 4).await;
    let out = lane.take(4).await;
    lane.settle_and_wait(&out[1], SettleKind::Ack).await;
    drop(lane);
    client.wait_queue("jobs", "all back", |queue| queue.messages_ready == 5).await;
    let again = client.get("jobs", 10).await;
    assert_eq!(numbers(&again), [0, 2, 3, 4, 5]);
    // Number 4 may have been on its way when the stream went.
    let flags: Vec<bool> = again.iter().map(|delivery| delivery.redelivered).collect();
    assert_eq!((&flags[..3], flags[4]), (&[true, true, true][..], false), "{flags:?}");
}

#[tokio::test]
async fn consumers_take_turns() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    let mut lanes = Vec::new();
    for _ in 0..3 {
        lanes.push(ConsumeLane::on(&server.client().await, "jobs", 10).await);
    }
    publish(&mut client, 0..9).await;
    for lane in &mut lanes {
        let out = lane.take(3).await;
        assert_eq!(out.len(), 3);
        lane.quiet().await;
    }
}

#[tokio::test]
async fn higher_priority_is_served_first() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    let mut low = ConsumeLane::on(&client, "jobs", 2).await;
    let open = ConsumeOpen { queue: "jobs".into(), prefetch_messages: 2, priority: 5, ..Default::default() };
    let mut high = ConsumeLane::open(&client, open).await;
    publish(&mut client, 0..4).await;
    assert_eq!(numbers(&high.take(2).await), [0, 1]);
    assert_eq!(numbers(&low.take(2).await), [2, 3]);
}

#[tokio::test]
async fn exclusive_consumers_exclude() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    let open = |exclusive| ConsumeOpen { queue: "jobs".into(), exclusive, ..Default::default() };
    let first = ConsumeLane::open(&client, open(true)).await;
    let refused = ConsumeLane::try_open(&client, open(false)).await;
    assert_refused(refused, Code::PermissionDenied, &["ACCESS_REFUSED"]);
    drop(first);
    client.wait_queue("jobs", "no consumer", |queue| queue.consumers == 0).await;
    let _second = ConsumeLane::open(&client, open(false)).await;
    let refused = ConsumeLane::try_open(&client, open(true)).await;
    assert_refused(refused, Code::PermissionDenied, &["ACCESS_REFUSED"]);
}

#[tokio::test]
async fn deleting_the_queue_ends_the_stream() {
    let server = Server::start().await;
    let mut client = filled(&server, 1).await;
    let mut lane = ConsumeLane::on(&client, "jobs", 1).await;
    lane.next().await;
    client.delete_queue("jobs").await;
    let ended = lane.next_or_end().await;
    assert!(ended.is_err() || ended.is_ok_and(|delivery| delivery.is_none()));
}

#[tokio::test]
async fn subscribe_delivers_and_unary_acks_make_room() {
    let server = Server::start().await;
    let mut client = filled(&server, 5).await;
    let request = SubscribeRequest { queue: "jobs".into(), prefetch_messages: 2, ..Default::default() };
    let mut stream = client.rpc.clone().subscribe(request).await.expect("subscribe").into_inner();
    let mut seen = Vec::new();
    for _ in 0..5 {
        let next = tokio::time::timeout(Duration::from_secs(10), stream.message()).await.expect("in time");
        let delivery = next.expect("subscribe").expect("open").delivery.expect("a delivery");
        let results = client
            .rpc
            .ack(AckRequest { ack_ids: vec![delivery.ack_id.clone()] })
            .await
            .expect("ack")
            .into_inner();
        assert!(results.results[0].error.is_none());
        seen.push(number(&delivery));
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert_eq!(client.queue_info("jobs").await.messages, 0);
}

#[tokio::test]
async fn what_is_out_when_a_subscription_ends_goes_back() {
    let server = Server::start().await;
    let mut client = filled(&server, 2).await;
    let request = SubscribeRequest { queue: "jobs".into(), ..Default::default() };
    let mut stream = client.rpc.clone().subscribe(request).await.expect("subscribe").into_inner();
    assert!(stream.message().await.expect("subscribe").is_some());
    drop(stream);
    client.wait_queue("jobs", "both back", |queue| queue.messages_ready == 2).await;
    let again = client.get("jobs", 2).await;
    assert_eq!(numbers(&again), [0, 1]);
    assert!(again[0].redelivered);
}

#[tokio::test]
async fn a_consumer_that_does_not_read_costs_itself_only() {
    let server = Server::start_with(Options::default()).await;
    let mut client = server.client().await;
    client.declare_queue("stuck").await;
    client.declare_queue("jobs").await;
    // No prefetch and nobody reads: only the stream's own flow control holds this one back.
    let _stuck = ConsumeLane::on(&server.client().await, "stuck", 0).await;
    let mut lane = PublishLane::open(&client).await;
    for _ in 0..400 {
        lane.send(vec![to_queue("stuck", vec![1u8; 100 << 10])]);
    }
    lane.confirmed(400).await;
    let mut reader = ConsumeLane::on(&server.client().await, "jobs", 0).await;
    let started = std::time::Instant::now();
    publish(&mut client, 0..200).await;
    assert_eq!(numbers(&reader.take(200).await), (0..200).collect::<Vec<_>>());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test]
async fn consumers_connections_and_channels_are_listed() {
    let server = Server::start().await;
    let mut client = filled(&server, 1).await;
    let open = ConsumeOpen {
        queue: "jobs".into(),
        consumer_tag: "me".into(),
        prefetch_messages: 7,
        ..Default::default()
    };
    let mut lane = ConsumeLane::open(&server.client().await, open).await;
    lane.next().await;
    let consumers =
        client.rpc.list_consumers(ListConsumersRequest::default()).await.expect("list").into_inner();
    assert_eq!(consumers.consumers.len(), 1);
    let consumer = &consumers.consumers[0];
    assert_eq!((consumer.queue.as_str(), consumer.consumer_tag.as_str()), ("jobs", "me"));
    assert_eq!(
        (consumer.prefetch_messages, consumer.messages_unacknowledged, consumer.ack_required),
        (7, 1, true)
    );
    let channels =
        client.rpc.list_channels(ListChannelsRequest {}).await.expect("list").into_inner().channels;
    let channel =
        channels.iter().find(|channel| channel.id == consumer.channel).expect("the consumer's channel");
    assert_eq!((channel.consumers, channel.messages_unacknowledged), (1, 1));
    let connections =
        client.rpc.list_connections(ListConnectionsRequest {}).await.expect("list").into_inner().connections;
    let connection =
        connections.iter().find(|connection| connection.id == channel.connection).expect("connection");
    assert_eq!(connection.protocol, "grpc");
    assert!(connection.peer.starts_with("127.0.0.1:"), "{connection:?}");
}

async fn filled(server: &Server, count: u32) -> Client {
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    publish(&mut client, 0..count).await;
    client
}

async fn publish(client: &mut Client, numbers: std::ops::Range<u32>) {
    let batch = numbers.map(|n| to_queue("jobs", n.to_string())).collect();
    client.publish_batch(batch).await;
}

fn number(delivery: &Delivery) -> u32 {
    String::from_utf8_lossy(&body(delivery)).parse().expect("a number")
}

fn numbers(deliveries: &[Delivery]) -> Vec<u32> {
    deliveries.iter().map(number).collect()
}

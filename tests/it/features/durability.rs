//! What a restart keeps and what it drops: after kill -9, and after a clean stop.

use std::time::Duration;

use leveret_proto::v1::{DeclareExchangeRequest, DeclareQueueRequest, ListExchangesRequest, StatusRequest};
use leveret_tests::client::{Client, body, message, queue, to_queue};
use leveret_tests::payload::{self, MsgId};
use leveret_tests::server::{Options, Server};
use leveret_tests::streams::{ConsumeLane, PublishLane};

/// A durable and a transient queue and exchange, with persistent and transient messages.
async fn set_up(client: &mut Client) {
    client.declare_queue("kept").await;
    client
        .rpc
        .declare_queue(DeclareQueueRequest { durable: Some(false), ..queue("brief") })
        .await
        .expect("declare");
    client.declare_exchange("x.kept", "fanout").await;
    let brief = DeclareExchangeRequest { name: "x.brief".into(), durable: Some(false), ..Default::default() };
    client.rpc.declare_exchange(brief).await.expect("declare");
    client.bind("x.kept", "kept", "").await;
    client.bind("x.kept", "brief", "").await;
    for (body, persistent) in
        [("a", None), ("b", Some(false)), ("c", Some(true)), ("d", Some(false)), ("e", None)]
    {
        let mut publish = to_queue("kept", body);
        publish.message.as_mut().expect("set").persistent = persistent;
        client.publish_batch(vec![publish]).await;
    }
    client.publish("brief", "f").await;
}

async fn expect_kept(client: &mut Client) {
    assert_eq!(client.queue_names().await, ["kept"]);
    let exchanges =
        client.rpc.list_exchanges(ListExchangesRequest::default()).await.expect("list").into_inner();
    let names: Vec<_> = exchanges.exchanges.into_iter().map(|exchange| exchange.name).collect();
    assert!(names.contains(&"x.kept".into()) && !names.contains(&"x.brief".into()), "{names:?}");
    assert_eq!(client.queue_info("kept").await.messages_ready, 3);
    assert_eq!(client.drain("kept").await, ["a", "c", "e"]);
}

#[tokio::test]
async fn kill_9_keeps_what_is_durable() {
    let server = Server::start().await;
    set_up(&mut server.client().await).await;
    let server = server.kill_and_restart().await;
    expect_kept(&mut server.client().await).await;
    // What was taken stays taken.
    let server = server.kill_and_restart().await;
    assert_eq!(server.client().await.queue_info("kept").await.messages, 0);
}

#[tokio::test]
async fn a_clean_stop_keeps_the_same() {
    let server = Server::start().await;
    set_up(&mut server.client().await).await;
    let (home, options) = server.stop().await;
    let server = Server::start_on(&home, options).await;
    let mut client = server.client().await;
    expect_kept(&mut client).await;
    assert!(client.rpc.status(StatusRequest {}).await.expect("status").into_inner().recovered_clean);
}

#[tokio::test]
async fn a_transient_queue_works_while_it_lives() {
    let server = Server::start().await;
    let mut client = server.client().await;
    set_up(&mut client).await;
    assert_eq!(client.drain("kept").await, ["a", "b", "c", "d", "e"]);
    assert_eq!(client.drain("brief").await, ["f"]);
}

#[tokio::test]
async fn what_was_out_comes_back_redelivered_after_kill_9() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    for body in ["a", "b", "c"] {
        client.publish("jobs", body).await;
    }
    let mut lane = ConsumeLane::on(&server.client().await, "jobs", 2).await;
    let out = lane.take(2).await;
    let old = out[0].clone();
    let server = server.kill_and_restart().await;
    let mut client = server.client().await;
    let again = client.get("jobs", 3).await;
    assert_eq!(again.iter().map(body).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(again[0].redelivered && again[1].redelivered);
    // An ack id from before the crash settles nothing now.
    let request = leveret_proto::v1::AckRequest { ack_ids: vec![old.ack_id] };
    let results = client.rpc.ack(request).await.expect("ack").into_inner().results;
    assert_eq!(results[0].error.as_ref().map(|error| error.reason.as_str()), Some("ACK_ID_STALE"));
    assert_eq!(client.queue_info("jobs").await.messages_unacknowledged, 3);
}

#[tokio::test]
async fn a_clean_stop_knows_what_was_never_delivered() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    for body in ["a", "b", "c"] {
        client.publish("jobs", body).await;
    }
    let taken = client.get("jobs", 1).await;
    assert_eq!(taken.len(), 1);
    // The lease would hold the stop up; gone back it is.
    let request = leveret_proto::v1::NackRequest { ack_ids: vec![taken[0].ack_id.clone()], requeue: None };
    client.rpc.nack(request).await.expect("nack");
    let (home, options) = server.stop().await;
    let server = Server::start_on(&home, options).await;
    let again = server.client().await.get("jobs", 3).await;
    let flags: Vec<bool> = again.iter().map(|delivery| delivery.redelivered).collect();
    assert_eq!(flags, [true, false, false]);
}

#[tokio::test]
async fn acks_of_every_kind_are_durable() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    for n in 0..6u32 {
        client.publish("jobs", n.to_string()).await;
    }
    let taken = client.get("jobs", 2).await;
    client.ack(&taken[..1]).await;
    let mut lane = ConsumeLane::on(&server.client().await, "jobs", 2).await;
    let out = lane.take(2).await;
    lane.settle_and_wait(&out[1], leveret_proto::v1::SettleKind::Ack).await;
    let server = server.kill_and_restart().await;
    // 0 and 3 are acked; 1 and 2 were out.
    assert_eq!(server.client().await.drain("jobs").await, ["1", "2", "4", "5"]);
}

#[tokio::test]
async fn purge_delete_and_unbind_are_durable() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_exchange("x", "fanout").await;
    for name in ["purged", "deleted", "unbound"] {
        client.declare_queue(name).await;
        client.bind("x", name, "").await;
        client.publish(name, "old").await;
    }
    client.purge("purged").await;
    client.delete_queue("deleted").await;
    let binding = leveret_tests::client::bind("x", "unbound", "").binding;
    client
        .rpc
        .unbind(leveret_proto::v1::UnbindRequest { vhost: String::new(), binding })
        .await
        .expect("unbind");
    let server = server.kill_and_restart().await;
    let mut client = server.client().await;
    assert_eq!(client.queue_names().await, ["purged", "unbound"]);
    client.declare_queue("deleted").await;
    let results = client.publish_batch(vec![leveret_tests::client::to_exchange("x", "", "new")]).await;
    assert_eq!(results[0].queues, 1);
    assert_eq!(client.drain("purged").await, ["new"]);
    assert_eq!(client.drain("unbound").await, ["old"]);
    assert!(client.drain("deleted").await.is_empty());
}

#[tokio::test]
async fn a_body_of_16_mib_survives_a_restart() {
    let server = Server::start_with(Options::large()).await;
    let mut client = server.client().await;
    client.declare_queue("large").await;
    let id = |seq| MsgId { publisher: 1, seq };
    for seq in 1..=2 {
        client.publish("large", payload::encode(id(seq), 16 << 20)).await;
    }
    let first = client.get("large", 1).await;
    assert_eq!(payload::decode(&body(&first[0])), Ok(id(1)));
    client.ack(&first).await;
    let server = server.kill_and_restart().await;
    let mut client = server.client().await;
    let taken = client.take("large", 1).await;
    assert_eq!(taken[0].len(), 16 << 20);
    assert_eq!(payload::decode(&taken[0]), Ok(id(2)));
}

#[tokio::test]
async fn a_long_run_over_small_segments_recovers_in_order() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    let mut lane = PublishLane::open(&client).await;
    let count = 5000u64;
    for seq in 1..=count {
        lane.send(vec![to_queue("jobs", payload::encode(MsgId { publisher: 1, seq }, 1000))]);
    }
    lane.confirmed(count).await;
    let first = client.get("jobs", 1000).await;
    client.ack(&first).await;
    let taken = first.len() as u64;
    assert_eq!(taken, 1000);
    let status = client.rpc.status(StatusRequest {}).await.expect("status").into_inner();
    assert!(status.log_segments > 1, "rotation happened: {status:?}");
    let server = server.kill_and_restart().await;
    let seqs: Vec<u64> = server
        .client()
        .await
        .drain("jobs")
        .await
        .iter()
        .map(|body| payload::decode(body).expect("an intact payload").seq)
        .collect();
    assert_eq!(seqs, (taken + 1..=count).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_epoch_rises_with_every_start() {
    let server = Server::start().await;
    let epoch = |status: leveret_proto::v1::StatusResponse| status.epoch;
    let first = epoch(server.client().await.rpc.status(StatusRequest {}).await.expect("status").into_inner());
    let server = server.kill_and_restart().await;
    let second =
        epoch(server.client().await.rpc.status(StatusRequest {}).await.expect("status").into_inner());
    assert!(second > first, "{second} after {first}");
}

#[tokio::test]
async fn stopping_confirms_what_was_accepted() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    let mut lane = PublishLane::open(&client).await;
    for n in 0..2000u32 {
        lane.send(vec![leveret_proto::v1::PublishMessage {
            routing_key: "jobs".into(),
            message: Some(message(n.to_string())),
            ..Default::default()
        }]);
    }
    server.signal(rustix::process::Signal::TERM);
    let mut confirmed = 0;
    let status = loop {
        match lane.next().await {
            Ok(Some(response)) => confirmed = confirmed.max(response.confirmed_upto),
            Ok(None) => break None,
            Err(status) => break Some(status),
        }
    };
    if let Some(status) = &status {
        assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    }
    let mut server = server;
    assert!(server.wait_exit(Duration::from_secs(30)).await.success());
    let (home, options) = server.kill();
    let server = Server::start_on(&home, options).await;
    let bodies = server.client().await.drain("jobs").await;
    assert!(bodies.len() as u64 >= confirmed, "{} kept of {confirmed} confirmed", bodies.len());
    let expected: Vec<String> = (0..bodies.len()).map(|n| n.to_string()).collect();
    assert_eq!(bodies, expected, "a prefix, in order");
}

//! P7: memory does not grow with the backlog.

use std::fs;
use std::time::{Duration, Instant};

use leveret_tests::payload::{self, MsgId};
use leveret_tests::server::{Options, Server};
use leveret_tests::streams::{ConsumeLane, PublishLane};

const MESSAGES: u64 = 20_000;
const MESSAGE_BYTES: usize = 10 << 10;
const BOUND_BYTES: u64 = 100 << 20;

/// 200 MiB of backlog under a budget of 16 MiB, over kill -9, drained in order.
#[tokio::test]
async fn a_backlog_of_200_mib_stays_out_of_memory() {
    let options = Options {
        segment_size: "8MiB".into(),
        checkpoint_interval: "32MiB".into(),
        log_budget: "512MiB".into(),
        ..Options::default()
    };
    let server = Server::start_with(options).await;
    let client = server.client().await;
    client.clone().declare_queue("backlog").await;
    let mut lane = PublishLane::open(&client).await;
    let mut sent = 0;
    while sent < MESSAGES {
        for _ in 0..100 {
            sent += 1;
            let body = payload::encode(MsgId { publisher: 1, seq: sent }, MESSAGE_BYTES);
            lane.send(vec![leveret_tests::client::to_queue("backlog", body)]);
        }
        lane.confirmed(sent - 50).await;
        within_bound(&server, "while publishing");
    }
    lane.confirmed(sent).await;
    within_bound(&server, "after publishing");

    let server = server.kill_and_restart().await;
    within_bound(&server, "after the restart");
    let mut client = server.client().await;
    assert_eq!(client.queue_info("backlog").await.messages_ready, MESSAGES);
    let mut lane = ConsumeLane::on(&client, "backlog", 200).await;
    for seq in 1..=MESSAGES {
        let delivery = lane.next().await;
        let body = leveret_tests::client::body(&delivery);
        assert_eq!(body.len(), MESSAGE_BYTES);
        assert_eq!(payload::decode(&body), Ok(MsgId { publisher: 1, seq }));
        if seq % 100 == 0 {
            lane.settle(delivery.delivery_tag, true, leveret_proto::v1::SettleKind::Ack);
        }
        if seq % 2000 == 0 {
            within_bound(&server, "while draining");
        }
    }
    lane.all_settled().await;
    assert_eq!(client.queue_info("backlog").await.messages, 0);
}

/// The same of messages that are in no log: beyond the budget they are in files that a drain takes away, and a restart.
#[tokio::test]
async fn transient_messages_beyond_the_budget_stay_out_of_memory() {
    let options = Options { segment_size: "8MiB".into(), log_budget: "64MiB".into(), ..Options::default() };
    let server = Server::start_with(options).await;
    let mut client = server.client().await;
    client.clone().declare_queue("backlog").await;
    publish_transient(&server, &client, MESSAGES).await;
    assert_eq!(client.queue_info("backlog").await.messages_ready, MESSAGES);
    let on_disk = volatile_bytes(&server);
    assert!(on_disk > 150 << 20, "{} MiB are spilled", on_disk >> 20);

    // Unacked, they are on the disk as well.
    let mut lane = ConsumeLane::on(&client, "backlog", 10_000).await;
    for seq in 1..=MESSAGES {
        let delivery = lane.next().await;
        let body = leveret_tests::client::body(&delivery);
        assert_eq!(body.len(), MESSAGE_BYTES);
        assert_eq!(payload::decode(&body), Ok(MsgId { publisher: 1, seq }));
        if seq == 9_000 {
            within_bound(&server, "with 90 MiB unacked");
        }
        if seq > 9_000 && seq % 100 == 0 {
            lane.settle(delivery.delivery_tag, true, leveret_proto::v1::SettleKind::Ack);
        }
        if seq % 2000 == 0 {
            within_bound(&server, "while draining");
        }
    }
    lane.all_settled().await;
    assert_eq!(client.queue_info("backlog").await.messages, 0);
    let deadline = Instant::now() + Duration::from_secs(30);
    while volatile_bytes(&server) > 0 {
        assert!(Instant::now() < deadline, "{} bytes are left of a drained queue", volatile_bytes(&server));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    publish_transient(&server, &client, 5_000).await;
    assert!(volatile_bytes(&server) > 20 << 20);
    let server = server.kill_and_restart().await;
    assert_eq!(volatile_bytes(&server), 0, "the next start removes them");
    let mut client = server.client().await;
    assert_eq!(client.queue_info("backlog").await.messages, 0);
}

async fn publish_transient(server: &Server, client: &leveret_tests::client::Client, count: u64) {
    let mut lane = PublishLane::open(client).await;
    let mut sent = 0;
    while sent < count {
        for _ in 0..100 {
            sent += 1;
            let body = payload::encode(MsgId { publisher: 1, seq: sent }, MESSAGE_BYTES);
            let mut publish = leveret_tests::client::to_queue("backlog", body);
            let message = publish.message.get_or_insert_default();
            message.persistent = Some(false);
            lane.send(vec![publish]);
        }
        lane.confirmed(sent - 50).await;
        within_bound(server, "while publishing");
    }
    lane.confirmed(sent).await;
}

/// Bytes of volatile segments.
fn volatile_bytes(server: &Server) -> u64 {
    let files = fs::read_dir(server.home().data()).expect("the data directory").flatten();
    let volatile = files.filter(|file| file.file_name().to_string_lossy().starts_with("volatile-"));
    volatile.filter_map(|file| file.metadata().ok()).map(|data| data.len()).sum()
}

fn within_bound(server: &Server, when: &str) {
    let bytes = server.anonymous_bytes();
    assert!(bytes < BOUND_BYTES, "{} MiB of anonymous memory {when}", bytes >> 20);
}

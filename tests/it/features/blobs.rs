//! Bodies over 256 KiB: in blob files, once whatever the fan-out, in order, over kill -9, and gone when nobody needs them.

use std::time::Duration;

use leveret_proto::v1::{
    DeclareQueueRequest, StatusRequest, StatusResponse, Table, TableEntry, Value, value,
};
use leveret_tests::amqp::codec::Writer;
use leveret_tests::amqp::{Connection, method};
use leveret_tests::client::{Client, queue, to_exchange, to_queue};
use leveret_tests::payload::{self, MsgId};
use leveret_tests::server::{Options, Server};
use leveret_tests::streams::PublishLane;

const LARGE: usize = 300 << 10;

fn large(seq: u64) -> bytes::Bytes {
    payload::encode(MsgId { publisher: 1, seq }, LARGE)
}

async fn status(client: &mut Client) -> StatusResponse {
    client.rpc.status(StatusRequest {}).await.expect("status").into_inner()
}

/// Waits until no body is left on the disk: the file that was written last stays for a few seconds.
async fn wait_for_no_blobs(client: &mut Client) {
    for _ in 0..300 {
        let status = status(client).await;
        if status.blob_files == 0 && status.blob_live_bytes == 0 && status.blob_bytes == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("blobs are left: {:?}", status(client).await);
}

#[tokio::test]
async fn a_large_body_is_on_the_disk_once_whatever_the_fan_out_and_goes_with_its_last_message() {
    let server = Server::start_with(Options { message_max: "512KiB".into(), ..Options::default() }).await;
    let mut client = server.client().await;
    client.declare_exchange("all", "fanout").await;
    for name in ["a", "b", "c"] {
        client.declare_queue(name).await;
        client.bind("all", name, "").await;
    }
    client.publish_batch(vec![to_exchange("all", "", large(1)), to_exchange("all", "", large(2))]).await;
    let now = status(&mut client).await;
    assert_eq!(
        (now.blob_files, now.blob_live_bytes, now.blob_bytes_total),
        (1, 2 * LARGE as u64, 2 * LARGE as u64)
    );
    assert!(now.log_record_bytes_total < 10_000, "{now:?}");

    let server = server.kill_and_restart().await;
    let mut client = server.client().await;
    for name in ["a", "b", "c"] {
        assert_eq!(client.drain(name).await, [large(1), large(2)]);
    }
    wait_for_no_blobs(&mut client).await;
    let files: Vec<_> = std::fs::read_dir(server.home().data()).expect("readable").collect();
    let names =
        files.into_iter().map(|entry| entry.expect("readable").file_name().into_string().expect("a name"));
    assert_eq!(names.filter(|name| name.starts_with("blob-")).count(), 0);
}

#[tokio::test]
async fn large_and_small_messages_of_one_stream_keep_their_order() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("mixed").await;
    let mut lane = PublishLane::open(&client).await;
    let body = |seq: u64| {
        let length = if seq.is_multiple_of(3) { LARGE } else { 100 };
        payload::encode(MsgId { publisher: 1, seq }, length)
    };
    for seq in 1..=30 {
        lane.send(vec![to_queue("mixed", body(seq))]);
    }
    lane.confirmed(30).await;
    let server = server.kill_and_restart().await;
    let found = server.client().await.drain("mixed").await;
    assert_eq!(found, (1..=30).map(body).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dead_letter_takes_its_large_body_with_it() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let text = |name: &str, text: &str| TableEntry {
        name: name.into(),
        value: Some(Value { kind: Some(value::Kind::Text(text.into())) }),
    };
    let entries = vec![text("x-dead-letter-exchange", ""), text("x-dead-letter-routing-key", "dead")];
    let jobs = DeclareQueueRequest { arguments: Some(Table { entries }), ..queue("jobs") };
    client.rpc.declare_queue(jobs).await.expect("declare");
    client.declare_queue("dead").await;
    client.publish("jobs", large(7)).await;
    // Read back from the store, not from memory.
    let server = server.kill_and_restart().await;
    let mut client = server.client().await;
    let taken = client.get("jobs", 1).await;
    let ack_ids = vec![taken[0].ack_id.clone()];
    client.rpc.reject(leveret_proto::v1::RejectRequest { ack_ids, requeue: None }).await.expect("reject");
    assert_eq!(status(&mut client).await.blob_bytes_total, 0, "it is not written again");
    let server = server.kill_and_restart().await;
    assert_eq!(server.client().await.drain("dead").await, [large(7)]);
}

#[tokio::test]
async fn over_amqp_as_well_and_transactions_hold_all_or_nothing_of_them() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("q").await;
    let mut connection = Connection::open(server.amqp_port()).await.expect("a connection");
    connection.channel(1).await.expect("a channel");
    connection.publish(1, "", "q", true, &large(1)).await.expect("published");
    connection.publish(1, "", "q", true, b"small").await.expect("published");
    client.wait_queue("q", "two messages", |info| info.messages_ready == 2).await;
    connection.channel(2).await.expect("a channel");
    connection.tx_select(2).await.expect("transactions");
    connection.publish(2, "", "q", true, &large(3)).await.expect("published");
    connection.publish(2, "", "q", true, &large(4)).await.expect("published");
    connection.tx_commit(2).await.expect("committed");
    connection.publish(2, "", "q", true, &large(5)).await.expect("published");
    let server = server.kill_and_restart().await;
    let found = server.client().await.drain("q").await;
    assert_eq!(found, [large(1), "small".into(), large(3), large(4)]);
}

/// Reads confirms until both channels have so many; each channel's come in order.
async fn confirmed_on_both(connection: &mut Connection, count: u64) {
    let mut upto = [0; 2];
    while upto != [count; 2] {
        let frame = connection.next().await.expect("a confirm");
        assert_eq!(frame.method(), Some(method::BASIC_ACK));
        let mut arguments = frame.arguments();
        let (tag, multiple) = (arguments.longlong(), arguments.octet() != 0);
        let last = &mut upto[usize::from(frame.channel) - 1];
        assert!(tag == *last + 1 || multiple && tag > *last, "{tag} behind {last}");
        *last = tag;
    }
}

#[tokio::test]
async fn many_of_one_connection_are_confirmed_and_stored_in_their_order_with_small_ones_between() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("both").await;
    let mut connection = Connection::open(server.amqp_port()).await.expect("a connection");
    for channel in [1, 2] {
        connection.channel(channel).await.expect("a channel");
        connection.confirm_select(channel).await.expect("confirms");
    }
    let body = |seq: u64| {
        let length = if seq % 5 < 3 { LARGE } else { 100 };
        payload::encode(MsgId { publisher: 1, seq }, length)
    };
    for seq in 0..80 {
        let channel = 1 + (seq / 4 % 2) as u16;
        connection.publish(channel, "", "both", true, &body(seq)).await.expect("published");
    }
    confirmed_on_both(&mut connection, 40).await;
    let server = server.kill_and_restart().await;
    let found = server.client().await.drain("both").await;
    assert!(found == (0..80).map(body).collect::<Vec<_>>(), "not in their order");
}

#[tokio::test]
async fn whoever_goes_right_behind_many_of_them_without_confirms_has_sent_them() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("q").await;
    for (round, closes) in [true, false].into_iter().enumerate() {
        let mut connection = Connection::open(server.amqp_port()).await.expect("a connection");
        connection.channel(1).await.expect("a channel");
        let first = round as u64 * 20;
        for seq in first..first + 20 {
            connection.publish(1, "", "q", true, &large(seq)).await.expect("published");
        }
        if closes {
            let arguments = Writer::new().short(200).shortstr("").short(0).short(0);
            let closed =
                connection.call(0, method::CONNECTION_CLOSE, &arguments, method::CONNECTION_CLOSE_OK);
            closed.await.expect("closed");
            let ready = client.queue_info("q").await.messages_ready;
            assert_eq!(ready, 20, "what came before a close is there when that is answered");
        }
        drop(connection);
        client.wait_queue("q", "all of them", |info| info.messages_ready == first + 20).await;
    }
    assert!(client.drain("q").await == (0..40).map(large).collect::<Vec<_>>(), "not in their order");
}

//! A disk with too little room left.

use std::time::Duration;

use leveret_proto::v1::value::Kind;
use leveret_proto::v1::{DeclareQueueRequest, PublishRequest, StatusRequest, Table, TableEntry, Value};
use leveret_tests::amqp::codec::Writer;
use leveret_tests::amqp::{Connection, method};
use leveret_tests::client::{Client, assert_refused, queue, to_queue};
use leveret_tests::server::Server;
use tonic::Code;
use tonic_types::StatusExt;

/// No disk has so much.
const MORE_THAN_THERE_IS: &str = "1000000GiB";

async fn held(client: &mut Client, wanted: &str) {
    for _ in 0..200 {
        let status = client.rpc.status(StatusRequest {}).await.expect("status").into_inner();
        if status.publishers_held == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("publishers were not held as {wanted:?}");
}

/// A client that wants to be told when it is blocked.
async fn amqp_client(port: u16) -> Connection {
    let mut amqp = Connection::raw(port).await.expect("a socket");
    amqp.send(b"AMQP\x00\x00\x09\x01").await.expect("sent");
    amqp.expect(0, method::CONNECTION_START).await.expect("start");
    amqp.start_ok_able("PLAIN", b"\0guest\0guest", &["connection.blocked"]).await.expect("start-ok");
    amqp.expect(0, method::CONNECTION_TUNE).await.expect("tune");
    let tune = Writer::new().short(16).long(131_072).short(0);
    amqp.method(0, method::CONNECTION_TUNE_OK, &tune).await.expect("tune-ok");
    let open = Writer::new().shortstr("/").shortstr("").octet(0);
    amqp.call(0, method::CONNECTION_OPEN, &open, method::CONNECTION_OPEN_OK).await.expect("open");
    amqp.channel(1).await.expect("channel");
    amqp
}

#[tokio::test]
async fn with_too_little_free_publishers_wait_and_all_else_goes_on() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    client.publish("jobs", "one").await;
    client.publish("jobs", "two").await;
    held(&mut client, "").await;
    let (home, options) = server.stop().await;

    let full = options.clone().flag("--disk-free-limit", MORE_THAN_THERE_IS);
    let server = Server::start_on(&home, full).await;
    let mut client = server.client().await;
    held(&mut client, "disk-low").await;
    let publish = PublishRequest { messages: vec![to_queue("jobs", "three")], ..Default::default() };
    let status = assert_refused(client.rpc.publish(publish).await, Code::ResourceExhausted, &["DISK_LOW"]);
    let retry = status.get_details_retry_info().expect("when to try again");
    assert!(retry.retry_delay.is_some_and(|delay| delay >= Duration::from_secs(1)), "{retry:?}");
    // Reading, acking, declaring and deleting make room, and go on.
    assert_eq!(client.take("jobs", 1).await, ["one"]);
    client.declare_queue("more").await;
    client.delete_queue("more").await;

    let mut amqp = amqp_client(server.amqp_port()).await;
    amqp.confirm_select(1).await.expect("confirm");
    amqp.publish(1, "", "jobs", true, b"four").await.expect("sent");
    let mut blocked = amqp.expect(0, (10, 60)).await.expect("blocked");
    assert!(!blocked.shortstr().is_empty());
    let mut other = amqp_client(server.amqp_port()).await;
    let two = other.get(1, "jobs").await.expect("get").expect("a message");
    assert_eq!(two.body, "two");
    assert!(server.home().stderr().contains("--disk-free-limit"), "{}", server.home().stderr());
    drop((amqp, other));

    // What waited was not accepted, and what was there is there.
    let (home, _) = server.stop().await;
    let server = Server::start_on(&home, options).await;
    let mut client = server.client().await;
    held(&mut client, "").await;
    client.publish("jobs", "five").await;
    assert_eq!(client.drain("jobs").await, ["two", "five"]);
}

/// Arguments of a queue.
fn arguments(entries: [(&str, Kind); 3]) -> Option<Table> {
    let entry = |(name, kind): (&str, Kind)| TableEntry {
        name: name.into(),
        value: Some(Value { kind: Some(kind) }),
    };
    Some(Table { entries: entries.into_iter().map(entry).collect() })
}

#[tokio::test]
async fn dead_letters_wait_in_their_queue_while_the_disk_is_low() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("dead").await;
    let arguments = arguments([
        ("x-message-ttl", Kind::Int64(6_000)),
        ("x-dead-letter-exchange", Kind::Text(String::new())),
        ("x-dead-letter-routing-key", Kind::Text("dead".into())),
    ]);
    client.rpc.declare_queue(DeclareQueueRequest { arguments, ..queue("jobs") }).await.expect("declared");
    client.publish("jobs", "late").await;
    let (home, options) = server.stop().await;

    let full = options.clone().flag("--disk-free-limit", MORE_THAN_THERE_IS);
    let server = Server::start_on(&home, full).await;
    let mut client = server.client().await;
    held(&mut client, "disk-low").await;
    client.wait_queue("jobs", "nothing that anybody may have", |info| info.messages_ready == 0).await;
    assert_eq!(client.queue_info("dead").await.messages_ready, 0, "it waits");
    let status = client.rpc.status(StatusRequest {}).await.expect("status").into_inner();
    assert!(status.damage.is_empty() && status.scrub_findings_total == 0, "{status:?}");

    let (home, _) = server.stop().await;
    let server = Server::start_on(&home, options).await;
    let mut client = server.client().await;
    client.wait_queue("dead", "the letter", |info| info.messages_ready == 1).await;
    assert_eq!(client.drain("dead").await, ["late"]);
    for _ in 0..200 {
        let status = client.rpc.status(StatusRequest {}).await.expect("status").into_inner();
        if status.reserve_bytes > 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("there is no reserve on a disk with room");
}

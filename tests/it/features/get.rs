//! Get with leases; Ack, Nack and Reject by id from any connection.

use std::time::Duration;

use leveret_proto::v1::{AckRequest, Delivery, GetRequest, NackRequest, RejectRequest, SettleResult};
use leveret_tests::client::{Client, body};
use leveret_tests::server::Server;
use tonic::Code;

#[tokio::test]
async fn get_takes_in_order_and_ack_settles() {
    let server = Server::start().await;
    let mut client = filled(&server, &["a", "b", "c"]).await;
    assert_eq!(client.get("jobs", 0).await.len(), 1, "0 means 1");
    let request = GetRequest { queue: "jobs".into(), count: 10, ..Default::default() };
    let response = client.rpc.get(request).await.expect("get").into_inner();
    assert_eq!(bodies(&response.deliveries), ["b", "c"]);
    assert_eq!(response.messages_ready, 0);
    assert!(response.deliveries.iter().all(|delivery| !delivery.redelivered && !delivery.ack_id.is_empty()));
    assert_eq!(response.deliveries[0].routing_key, "jobs");
    // From another connection.
    server.client().await.ack(&response.deliveries).await;
    let info = client.queue_info("jobs").await;
    assert_eq!((info.messages_ready, info.messages_unacknowledged), (0, 1));
    // What is gone already is no error.
    client.ack(&response.deliveries).await;
    assert!(client.get("jobs", 1).await.is_empty(), "an empty queue answers with nothing");
}

#[tokio::test]
async fn auto_ack_settles_at_once() {
    let server = Server::start().await;
    let mut client = filled(&server, &["a", "b"]).await;
    assert_eq!(client.take("jobs", 1).await, ["a"]);
    let info = client.queue_info("jobs").await;
    assert_eq!((info.messages_ready, info.messages_unacknowledged), (1, 0));
}

#[tokio::test]
async fn text_comes_as_text_when_asked_for() {
    let server = Server::start().await;
    let mut client = filled(&server, &["grüße"]).await;
    client.publish("jobs", vec![0xff, 0xfe]).await;
    let request = GetRequest { queue: "jobs".into(), count: 2, text: true, ..Default::default() };
    let deliveries = client.rpc.get(request).await.expect("get").into_inner().deliveries;
    let kinds: Vec<_> =
        deliveries.iter().map(|d| d.message.clone().and_then(|message| message.body)).collect();
    use leveret_proto::v1::message::Body;
    assert_eq!(kinds[0], Some(Body::Text("grüße".into())));
    assert_eq!(kinds[1], Some(Body::Bytes(vec![0xff, 0xfe].into())), "what is no text stays bytes");
}

#[tokio::test]
async fn nack_puts_back_in_the_old_place_and_flags() {
    let server = Server::start().await;
    let mut client = filled(&server, &["a", "b", "c", "d"]).await;
    let taken = client.get("jobs", 3).await;
    // The middle one first: order of return does not matter.
    for index in [1, 0] {
        assert!(nack(&mut client, &taken[index], None).await.error.is_none());
    }
    let again = client.get("jobs", 10).await;
    assert_eq!(bodies(&again), ["a", "b", "d"]);
    assert_eq!(again.iter().map(|delivery| delivery.redelivered).collect::<Vec<_>>(), [true, true, false]);
}

#[tokio::test]
async fn nack_without_requeue_and_reject_drop() {
    let server = Server::start().await;
    let mut client = filled(&server, &["a", "b", "c"]).await;
    let taken = client.get("jobs", 3).await;
    assert!(nack(&mut client, &taken[0], Some(false)).await.error.is_none());
    assert!(reject(&mut client, &taken[1], None).await.error.is_none());
    assert!(reject(&mut client, &taken[2], Some(true)).await.error.is_none());
    let left = client.get("jobs", 10).await;
    assert_eq!(bodies(&left), ["c"]);
    assert!(left[0].redelivered);
}

#[tokio::test]
async fn a_lease_ends_and_its_ack_id_goes_stale() {
    let server = Server::start().await;
    let mut client = filled(&server, &["a", "b"]).await;
    let request = GetRequest { queue: "jobs".into(), count: 1, lease_ms: 100, ..Default::default() };
    let leased = client.rpc.get(request).await.expect("get").into_inner().deliveries;
    client.wait_queue("jobs", "the message back", |queue| queue.messages_ready == 2).await;
    // Until somebody else has it, the id may still be good; afterwards it must not settle the other's delivery.
    let again = client.get("jobs", 1).await;
    assert_eq!(bodies(&again), ["a"]);
    assert!(again[0].redelivered);
    assert_ne!(again[0].ack_id, leased[0].ack_id);
    let stale = ack(&mut client, &leased[0]).await.error.expect("a stale id is refused");
    assert_eq!((stale.code, stale.reason.as_str()), (Code::FailedPrecondition as i32, "ACK_ID_STALE"));
    assert_eq!(client.queue_info("jobs").await.messages_unacknowledged, 1);
    client.ack(&again).await;
    assert_eq!(client.queue_info("jobs").await.messages, 1);
}

#[tokio::test]
async fn one_bad_id_among_good_ones_is_its_own_error() {
    let server = Server::start().await;
    let mut client = filled(&server, &["a", "b"]).await;
    let taken = client.get("jobs", 2).await;
    let ack_ids = vec![taken[0].ack_id.clone(), "no such id".into(), taken[1].ack_id.clone()];
    let results = client.rpc.ack(AckRequest { ack_ids }).await.expect("ack").into_inner().results;
    let reasons: Vec<_> =
        results.iter().map(|r| r.error.as_ref().map(|error| error.reason.as_str())).collect();
    assert_eq!(reasons, [None, Some("ACK_ID_MALFORMED"), None]);
    assert_eq!(client.queue_info("jobs").await.messages, 0);
}

#[tokio::test]
async fn a_get_of_many_is_bounded_in_bytes_and_loses_nothing() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    for n in 0..100u32 {
        let mut large = vec![0u8; 100 << 10];
        large[..4].copy_from_slice(&n.to_le_bytes());
        client.publish("jobs", large).await;
    }
    let all = client.drain("jobs").await;
    let numbers: Vec<u32> =
        all.iter().map(|body| u32::from_le_bytes([body[0], body[1], body[2], body[3]])).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn leases_end_while_nothing_else_happens() {
    let server = Server::start().await;
    let mut client = filled(&server, &["a"]).await;
    let request = GetRequest { queue: "jobs".into(), count: 1, lease_ms: 200, ..Default::default() };
    assert_eq!(client.rpc.get(request).await.expect("get").into_inner().deliveries.len(), 1);
    // Nobody wakes the broker meanwhile.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(bodies(&client.get("jobs", 1).await), ["a"]);
}

async fn filled(server: &Server, messages: &[&'static str]) -> Client {
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    for body in messages {
        client.publish("jobs", *body).await;
    }
    client
}

fn bodies(deliveries: &[Delivery]) -> Vec<bytes::Bytes> {
    deliveries.iter().map(body).collect()
}

async fn ack(client: &mut Client, delivery: &Delivery) -> SettleResult {
    let request = AckRequest { ack_ids: vec![delivery.ack_id.clone()] };
    client.rpc.ack(request).await.expect("ack").into_inner().results.remove(0)
}

async fn nack(client: &mut Client, delivery: &Delivery, requeue: Option<bool>) -> SettleResult {
    let request = NackRequest { ack_ids: vec![delivery.ack_id.clone()], requeue };
    client.rpc.nack(request).await.expect("nack").into_inner().results.remove(0)
}

async fn reject(client: &mut Client, delivery: &Delivery, requeue: Option<bool>) -> SettleResult {
    let request = RejectRequest { ack_ids: vec![delivery.ack_id.clone()], requeue };
    client.rpc.reject(request).await.expect("reject").into_inner().results.remove(0)
}

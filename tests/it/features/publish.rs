//! Publish and PublishStream: outcomes, confirms, returns.

use leveret_proto::v1::{PublishMessage, PublishOutcome};
use leveret_tests::client::{self, to_exchange, to_queue};
use leveret_tests::server::Server;
use leveret_tests::streams::{ConsumeLane, PublishLane};
use tonic::Code;

#[tokio::test]
async fn a_batch_says_what_became_of_each_message() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    client.declare_exchange("fan", "fanout").await;
    client.declare_queue("other").await;
    for queue in ["jobs", "other"] {
        client.bind("fan", queue, "").await;
    }
    let batch = vec![
        to_queue("jobs", "one"),
        to_queue("nowhere", "lost"),
        to_exchange("fan", "", "two"),
        to_exchange("no-such-exchange", "k", "refused"),
    ];
    let results = client.publish_batch(batch).await;
    let outcomes: Vec<_> = results.iter().map(|result| (result.outcome(), result.queues)).collect();
    assert_eq!(
        outcomes,
        [
            (PublishOutcome::Routed, 1),
            (PublishOutcome::Unrouted, 0),
            (PublishOutcome::Routed, 2),
            (PublishOutcome::Rejected, 0),
        ]
    );
    let error = results[3].error.as_ref().expect("an error with the rejected one");
    assert_eq!((error.code, error.reason.as_str()), (Code::NotFound as i32, "EXCHANGE_NOT_FOUND"));
    assert!(!error.message.is_empty());
    assert_eq!(client.drain("jobs").await, ["one", "two"]);
}

#[tokio::test]
async fn an_empty_batch_and_an_empty_body_are_fine() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    assert_eq!(client.publish_batch(Vec::new()).await, []);
    client.publish("jobs", "").await;
    let bodiless = PublishMessage { routing_key: "jobs".into(), ..Default::default() };
    let results = client.publish_batch(vec![bodiless]).await;
    assert_eq!(results[0].outcome(), PublishOutcome::Routed);
    assert_eq!(client.drain("jobs").await, ["", ""]);
}

#[tokio::test]
async fn stream_confirms_in_order_and_cumulatively() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    let mut lane = PublishLane::open(&client).await;
    for n in 0..1000u32 {
        lane.send(vec![to_queue("jobs", n.to_string())]);
    }
    // Several in one request are numbered one by one.
    lane.send((1000..1010u32).map(|n| to_queue("jobs", n.to_string())).collect());
    let responses = lane.confirmed(1010).await;
    assert!(responses.iter().all(|response| response.exceptions.is_empty() && response.returned.is_empty()));
    let expected: Vec<String> = (0..1010).map(|n: u32| n.to_string()).collect();
    assert_eq!(client.drain("jobs").await, expected);
    lane.finish().await.expect("the stream ends well");
}

#[tokio::test]
async fn stream_reports_unrouted_and_rejected_and_goes_on() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    let mut lane = PublishLane::open(&client).await;
    lane.send(vec![to_queue("jobs", "one")]);
    lane.send(vec![to_queue("nowhere", "two")]);
    lane.send(vec![to_exchange("no-such-exchange", "k", "three")]);
    lane.send(vec![to_queue("jobs", "four")]);
    let responses = lane.confirmed(4).await;
    let exceptions: Vec<_> = responses.iter().flat_map(|response| &response.exceptions).collect();
    let said: Vec<_> = exceptions.iter().map(|exception| (exception.number, exception.outcome())).collect();
    assert_eq!(said, [(2, PublishOutcome::Unrouted), (3, PublishOutcome::Rejected)]);
    let error = exceptions[1].error.as_ref().expect("why it was rejected");
    assert_eq!((error.code, error.reason.as_str()), (Code::NotFound as i32, "EXCHANGE_NOT_FOUND"));
    assert_eq!(client.drain("jobs").await, ["one", "four"]);
}

#[tokio::test]
async fn mandatory_messages_are_returned_before_their_confirm() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    let mut lane = PublishLane::open(&client).await;
    let mandatory =
        |queue: &str, body: &'static str| PublishMessage { mandatory: true, ..to_queue(queue, body) };
    lane.send(vec![mandatory("jobs", "one"), mandatory("nowhere", "two"), to_queue("nowhere", "three")]);
    let responses = lane.confirmed(3).await;
    let returned: Vec<_> = responses.iter().flat_map(|response| &response.returned).collect();
    assert_eq!(returned.len(), 1, "{returned:?}");
    assert_eq!(returned[0].number, 2);
    let message = returned[0].message.as_ref().expect("the message itself");
    assert_eq!(message.routing_key, "nowhere");
    let body = message.message.as_ref().and_then(|message| message.body.clone());
    assert_eq!(body, client::message("two").body);
    let at = responses.iter().position(|response| !response.returned.is_empty()).expect("the return");
    assert!(responses[..at].iter().all(|response| response.confirmed_upto < 2), "returned before confirmed");
}

#[tokio::test]
async fn half_close_confirms_everything_first() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    let lane = PublishLane::open(&client).await;
    for n in 0..500u32 {
        lane.send(vec![to_queue("jobs", n.to_string())]);
    }
    let responses = lane.finish().await.expect("a good end");
    assert_eq!(responses.last().map(|response| response.confirmed_upto), Some(500));
    assert_eq!(client.queue_info("jobs").await.messages_ready, 500);
}

#[tokio::test]
async fn confirms_do_not_wait_for_consumers() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    // A consumer that has its fill and does not settle.
    let _stuck = ConsumeLane::on(&server.client().await, "jobs", 1).await;
    let mut lane = PublishLane::open(&client).await;
    for n in 0..200u32 {
        lane.send(vec![to_queue("jobs", n.to_string())]);
    }
    lane.confirmed(200).await;
}

//! What ordinary clients declare beyond the plain types: headers exchanges, alternates, single active consumers.

use bytes::Bytes;
use leveret_proto::v1::{
    BindRequest, DeclareExchangeRequest, DeclareQueueRequest, Message, Properties, PublishMessage, Table,
    TableEntry, Value, value,
};
use leveret_tests::client::{assert_refused, bind, body, queue, to_exchange};
use leveret_tests::server::Server;
use leveret_tests::streams::ConsumeLane;
use tonic::Code;

fn table(entries: &[(&str, value::Kind)]) -> Option<Table> {
    let entry = |(name, kind): &(&str, value::Kind)| TableEntry {
        name: (*name).into(),
        value: Some(Value { kind: Some(kind.clone()) }),
    };
    Some(Table { entries: entries.iter().map(entry).collect() })
}

fn text(text: &str) -> value::Kind {
    value::Kind::Text(text.into())
}

/// A binding for red ones, and for those of five legs.
fn asking(how: &str) -> BindRequest {
    let mut request = bind("sorter", "jobs", "");
    let wanted = [("x-match", text(how)), ("colour", text("red")), ("legs", value::Kind::Int32(5))];
    request.binding.as_mut().expect("a binding").arguments = table(&wanted);
    request
}

fn with_headers(headers: &[(&str, value::Kind)], body: &'static str) -> PublishMessage {
    let mut publish = to_exchange("sorter", "ignored", body);
    let properties = Some(Box::new(Properties { headers: table(headers), ..Default::default() }));
    publish.message = publish.message.map(|message| Message { properties, ..message });
    publish
}

#[tokio::test]
async fn headers_choose_and_an_alternate_exchange_takes_the_rest() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    client.declare_queue("rest").await;
    client.bind("amq.fanout", "rest", "").await;
    let sorter = DeclareExchangeRequest {
        name: "sorter".into(),
        r#type: "headers".into(),
        arguments: table(&[("alternate-exchange", text("amq.fanout"))]),
        ..Default::default()
    };
    client.rpc.declare_exchange(sorter).await.expect("declare a headers exchange");
    let refused = client.rpc.bind(asking("some")).await;
    assert_refused(refused, Code::FailedPrecondition, &["PRECONDITION_FAILED"]);
    client.rpc.bind(asking("any")).await.expect("bind");
    let server = server.kill_and_restart().await;
    let mut client = server.client().await;
    let sent = [
        with_headers(&[("colour", text("red"))], "red"),
        with_headers(&[("colour", text("blue")), ("legs", value::Kind::Int64(5))], "five legs"),
        with_headers(&[("colour", text("blue"))], "blue"),
        to_exchange("sorter", "colour", "none"),
    ];
    client.publish_batch(sent.into()).await;
    assert_eq!(client.drain("jobs").await, ["red", "five legs"].map(Bytes::from));
    assert_eq!(client.drain("rest").await, ["blue", "none"].map(Bytes::from));
}

#[tokio::test]
async fn the_next_consumer_takes_over_from_a_single_active_one() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let arguments = table(&[("x-single-active-consumer", value::Kind::Bool(true))]);
    client.rpc.declare_queue(DeclareQueueRequest { arguments, ..queue("jobs") }).await.expect("declare");
    let mut first = ConsumeLane::on(&server.client().await, "jobs", 0).await;
    let mut second = ConsumeLane::on(&server.client().await, "jobs", 0).await;
    for message in ["a", "b"] {
        client.publish("jobs", message).await;
    }
    assert_eq!(first.take(2).await.iter().map(body).collect::<Vec<_>>(), ["a", "b"].map(Bytes::from));
    second.quiet().await;
    drop(first);
    let taken = second.take(2).await;
    assert!(taken.iter().all(|delivery| delivery.redelivered), "what the first one had comes along");
}

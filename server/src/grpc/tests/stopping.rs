//! The way to the end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use leveret_proto::v1::consume_request::Action;
use leveret_proto::v1::{self, ConsumeOpen, ConsumeRequest, ConsumeSettle, PublishStreamRequest, SettleKind};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

use super::fake_core::World;
use super::{reason, to};
use crate::stage::Stage;

#[tokio::test]
async fn draining_takes_acks_and_confirms_what_was_taken_and_ending_ends_all() {
    let mut world = World::new().await;
    let (publisher, requests) = mpsc::channel(10);
    let mut confirms = world.client.publish_stream(ReceiverStream::new(requests)).await.unwrap().into_inner();
    world.seen.disk_stands.store(true, Ordering::Relaxed);
    world.seen.keep.store(true, Ordering::Relaxed);
    let request = PublishStreamRequest { messages: vec![to("q", "text")], ..Default::default() };
    publisher.send(request).await.unwrap();
    super::until("it was taken", || world.seen.publishes.lock().unwrap().len() == 1).await;

    let (consumer, requests) = mpsc::channel(10);
    let open = Action::Open(ConsumeOpen { queue: "0".into(), ..Default::default() });
    consumer.send(ConsumeRequest { action: Some(open) }).await.unwrap();
    let mut deliveries = world.client.consume(ReceiverStream::new(requests)).await.unwrap().into_inner();
    assert!(deliveries.message().await.unwrap().unwrap().opened.is_some());
    let mut session = world.client.session(v1::SessionRequest::default()).await.unwrap().into_inner();
    session.message().await.unwrap().unwrap();

    world.stage.send(Stage::Draining).unwrap();
    let status = world.client.status(v1::StatusRequest {}).await;
    status.unwrap();
    let status = world.client.publish(v1::PublishRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    world.client.ack(v1::AckRequest::default()).await.unwrap();
    assert!(Channel::from_shared(world.addr.clone()).unwrap().connect().await.is_err());

    world.seen.disk_stands.store(false, Ordering::Relaxed);
    assert_eq!(confirms.message().await.unwrap().unwrap().confirmed_upto, 1);
    let status = confirms.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "shutting down"));

    let settle = ConsumeSettle { delivery_tag: 1, multiple: false, kind: SettleKind::Ack.into() };
    consumer.send(ConsumeRequest { action: Some(Action::Settle(settle)) }).await.unwrap();
    assert_eq!(deliveries.message().await.unwrap().unwrap().settled.unwrap().upto, 1);

    world.stage.send(Stage::Ending).unwrap();
    for status in [deliveries.message().await.unwrap_err(), session.message().await.unwrap_err()] {
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "shutting down"));
    }
    let served = tokio::time::timeout(Duration::from_secs(5), &mut world.served).await;
    served.unwrap().unwrap().unwrap();
}

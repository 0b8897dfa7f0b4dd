//! Calls that come without a good login, and what they may hold.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use leveret_proto::v1;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Service, ServiceExt};

use super::fake_core::World;
use super::to;
use crate::grpc::GrpcSettings;

/// A body that says what it has and then neither goes on nor ends.
struct Stuck(VecDeque<Bytes>);

impl HttpBody for Stuck {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.0.pop_front().map_or(Poll::Pending, |data| Poll::Ready(Some(Ok(Frame::data(data)))))
    }
}

/// A call that announces a message of so many bytes, sends a part of it and stands still.
fn announce(path: &str, login: &str, bytes: u32) -> http::Request<Body> {
    let head = [&[0], &bytes.to_be_bytes()[..]].concat();
    let pieces = [Bytes::from(head), Bytes::from(vec![7; 100])];
    let mut request =
        http::Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    if !login.is_empty() {
        request = request.header("authorization", format!("Basic {}", BASE64_STANDARD.encode(login)));
    }
    request.body(Body::new(Stuck(pieces.into()))).unwrap()
}

/// Guards against strangers who keep everybody else's messages out.
#[tokio::test]
async fn a_call_without_a_good_login_holds_no_room() {
    let bytes = 1 << 20;
    let settings = GrpcSettings { decoding_bytes_max: bytes, ..GrpcSettings::default() };
    let mut world = World::with(settings, 1 << 26, 1 << 20).await;
    let methods = ["Broker/Publish", "Broker/PublishStream", "Broker/Consume", "Admin/AddUser"];
    for method in methods {
        let request = announce(&format!("http://broker/leveret.v1.{method}"), "guest:wrong", bytes);
        let call = world.channel.ready().await.unwrap().call(request);
        let answer = tokio::time::timeout(Duration::from_secs(10), call).await.expect("an answer at once");
        let status = Status::from_header_map(answer.unwrap().headers()).unwrap();
        assert_eq!(status.code(), Code::Unauthenticated, "{method}");
    }
    let health = announce("http://broker/grpc.health.v1.Health/Check", "", bytes);
    let call = world.channel.ready().await.unwrap().call(health);
    let answer = tokio::time::timeout(Duration::from_secs(10), call).await.expect("an answer at once");
    let status = Status::from_header_map(answer.unwrap().headers()).unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);

    let large = v1::PublishRequest { messages: vec![to("q", &"x".repeat(700_000))], ..Default::default() };
    let answer = tokio::time::timeout(Duration::from_secs(10), world.client.publish(large)).await;
    assert_eq!(answer.expect("there is room").unwrap().into_inner().results[0].queues, 1);
}

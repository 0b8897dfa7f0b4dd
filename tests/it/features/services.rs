//! What is not the broker's own service: health, reflection, status, HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use leveret_proto::v1::StatusRequest;
use leveret_tests::client;
use leveret_tests::server::{Options, Server};
use leveret_tests::streams::ConsumeLane;
use prost::Message;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

#[tokio::test]
async fn health_serves_and_stops_serving_while_stopping() {
    let server = Server::start_with(Options::default().flag("--shutdown-timeout", "5s")).await;
    let port = server.grpc_port();
    assert_eq!(client::health(port, "").await, Some(ServingStatus::Serving));
    assert_eq!(client::health(port, "leveret.v1.Broker").await, Some(ServingStatus::Serving));
    assert_eq!(client::health(port, "no.such.Service").await, None);
    // A delivery that is out keeps the server in its stop for a while.
    let mut held = server.client().await;
    held.declare_queue("jobs").await;
    held.publish("jobs", "a").await;
    let mut lane = ConsumeLane::on(&held, "jobs", 1).await;
    let out = lane.next().await;
    // A connection made before the stop: afterwards there are no new ones.
    let mut health = tonic_health::pb::health_client::HealthClient::new(held.channel());
    let mut watch =
        health.watch(tonic_health::pb::HealthCheckRequest::default()).await.expect("watch").into_inner();
    assert_eq!(watch.message().await.expect("watch").map(|m| m.status()), Some(ServingStatus::Serving));
    server.signal(rustix::process::Signal::TERM);
    let next = tokio::time::timeout(Duration::from_secs(5), watch.message()).await.expect("in time");
    assert_eq!(next.expect("watch").map(|m| m.status()), Some(ServingStatus::NotServing));
    // Acks are taken during the stop, and then it ends.
    lane.settle_and_wait(&out, leveret_proto::v1::SettleKind::Ack).await;
    drop((lane, watch, held));
    let mut server = server;
    assert!(server.wait_exit(Duration::from_secs(10)).await.success());
    let (home, options) = server.kill();
    let server = Server::start_on(&home, options).await;
    assert_eq!(server.client().await.queue_info("jobs").await.messages, 0, "the ack was kept");
}

#[tokio::test]
async fn reflection_knows_every_service_and_message() {
    let server = Server::start().await;
    let channel = server.client().await.channel();
    let mut reflection = ServerReflectionClient::new(channel);
    let mut ask = async |request| -> ServerReflectionResponse {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let mut stream = reflection
            .server_reflection_info(tokio_stream::once(request))
            .await
            .expect("reflection")
            .into_inner();
        stream.message().await.expect("reflection").expect("an answer")
    };
    let listed = ask(MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(services)) = listed.message_response else {
        panic!("no list: {listed:?}");
    };
    let names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["leveret.v1.Broker", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let found = ask(MessageRequest::FileContainingSymbol("leveret.v1.Broker".into())).await;
    let Some(MessageResponse::FileDescriptorResponse(files)) = found.message_response else {
        panic!("no file: {found:?}");
    };
    assert!(!files.file_descriptor_proto.is_empty());
}

#[tokio::test]
async fn both_versions_of_reflection_answer() {
    use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1alpha::{ServerReflectionRequest, server_reflection_request::MessageRequest};
    let server = Server::start().await;
    let mut reflection = ServerReflectionClient::new(server.client().await.channel());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut stream = reflection
        .server_reflection_info(tokio_stream::once(request))
        .await
        .expect("reflection")
        .into_inner();
    let answer = stream.message().await.expect("reflection").expect("an answer");
    assert!(answer.encoded_len() > 0);
}

#[tokio::test]
async fn status_counts() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    for body in ["a", "b", "c"] {
        client.publish("jobs", body).await;
    }
    let taken = client.get("jobs", 2).await;
    client.ack(&taken[..1]).await;
    let status = client.rpc.status(StatusRequest {}).await.expect("status").into_inner();
    assert_eq!(status.fsync, "always");
    assert_eq!(status.data_dir, server.home().data().display().to_string());
    assert_eq!(
        (status.queues, status.messages_ready, status.messages_unacknowledged),
        (1, 1, 1),
        "{status:?}"
    );
    assert_eq!((status.published_total, status.confirmed_total), (3, 3), "{status:?}");
    assert_eq!((status.delivered_total, status.acked_total), (2, 1), "{status:?}");
    assert!(!status.version.is_empty() && status.format_version > 0 && status.epoch > 0, "{status:?}");
    assert!(status.log_syncs_total >= 3 && status.log_frames_total >= 3, "{status:?}");
    assert!(status.connections >= 1 && status.disk_free_bytes > 0 && status.memory_budget_bytes == 16 << 20);
    let info = client.queue_info("jobs").await;
    assert_eq!((info.published_total, info.delivered_total, info.acked_total), (3, 2, 1));
}

#[tokio::test]
async fn http_health_and_metrics() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare_queue("jobs").await;
    client.publish("jobs", "a").await;
    let health = http_get(server.http_port(), "/health");
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    let metrics = http_get(server.http_port(), "/metrics");
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    assert!(metrics.contains("leveret_"), "{metrics}");
    assert!(http_get(server.http_port(), "/nowhere").starts_with("HTTP/1.1 404"));
}

fn http_get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the HTTP port");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

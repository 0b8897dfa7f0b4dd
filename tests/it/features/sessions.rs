//! Sessions: exclusive and server-named queues live as long as the stream.

use leveret_proto::v1::{DeclareQueueRequest, GetRequest, SessionRequest, SessionResponse};
use leveret_tests::client::{Client, assert_refused, queue};
use leveret_tests::server::Server;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Streaming};

#[tokio::test]
async fn an_exclusive_queue_lives_and_dies_with_its_session() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (stream, token) = open(&client).await;
    let exclusive = DeclareQueueRequest { exclusive: true, ..queue("mine") };
    client.rpc.declare_queue(with(&token, exclusive.clone())).await.expect("an exclusive queue");
    // Everybody may publish to it; nobody else may use it.
    client.publish("mine", "a").await;
    let get = GetRequest { queue: "mine".into(), count: 1, auto_ack: true, ..Default::default() };
    let foreign = client.rpc.get(get.clone()).await;
    assert_refused(foreign, Code::FailedPrecondition, &["RESOURCE_LOCKED"]);
    let foreign = client.rpc.declare_queue(queue("mine")).await;
    assert_refused(foreign, Code::FailedPrecondition, &["RESOURCE_LOCKED"]);
    let own = client.rpc.get(with(&token, get)).await.expect("its own session may").into_inner();
    assert_eq!(own.deliveries.len(), 1);
    assert!(client.queue_info("mine").await.exclusive);
    drop(stream);
    for _ in 0..500 {
        if client.queue_names().await.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(client.queue_names().await, Vec::<String>::new());
    let late = client.rpc.declare_queue(with(&token, exclusive)).await;
    assert_refused(late, Code::NotFound, &["SESSION_NOT_FOUND"]);
}

#[tokio::test]
async fn the_server_names_a_queue() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (_stream, token) = open(&client).await;
    let unnamed = DeclareQueueRequest { exclusive: true, ..queue("") };
    let one =
        client.rpc.declare_queue(with(&token, unnamed.clone())).await.expect("declare").into_inner().name;
    let two = client.rpc.declare_queue(with(&token, unnamed)).await.expect("declare").into_inner().name;
    assert!(one.starts_with("amq.gen-") && two.starts_with("amq.gen-") && one != two, "{one} {two}");
    client.publish(&one, "a").await;
}

#[tokio::test]
async fn an_exclusive_queue_does_not_survive_a_crash() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (_stream, token) = open(&client).await;
    let exclusive = DeclareQueueRequest { exclusive: true, ..queue("mine") };
    client.rpc.declare_queue(with(&token, exclusive)).await.expect("declare");
    client.publish("mine", "a").await;
    let server = server.kill_and_restart().await;
    let mut client = server.client().await;
    assert_eq!(client.queue_names().await, Vec::<String>::new());
    client.declare_queue("mine").await;
    assert_eq!(client.queue_info("mine").await.messages, 0);
}

async fn open(client: &Client) -> (Streaming<SessionResponse>, String) {
    let mut rpc = client.rpc.clone();
    let mut stream =
        rpc.session(SessionRequest { client: "test".into() }).await.expect("session").into_inner();
    let token = stream.message().await.expect("session").expect("a first response").token;
    assert!(!token.is_empty());
    (stream, token)
}

fn with<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("leveret-session", MetadataValue::try_from(token).expect("an ASCII token"));
    request
}

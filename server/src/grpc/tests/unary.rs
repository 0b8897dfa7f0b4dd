//! Unary calls, sessions, health and reflection.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use leveret_proto::v1;
use leveret_proto::v1::admin_client::AdminClient;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt;

use super::fake_core::World;
use super::{reason, until};

#[tokio::test]
async fn ids_are_settled_one_by_one() {
    let mut world = World::new().await;
    let request = v1::GetRequest { queue: "q".into(), count: 3, text: true, ..Default::default() };
    let got = world.client.get(request).await.unwrap().into_inner();
    assert_eq!((got.deliveries.len(), got.messages_ready), (3, 5));
    let mut ack_ids: Vec<_> = got.deliveries.into_iter().map(|delivery| delivery.ack_id).collect();
    ack_ids.insert(1, "garbage".into());
    let results = world.client.ack(v1::AckRequest { ack_ids }).await.unwrap().into_inner().results;
    let errors: Vec<_> =
        results.iter().map(|r| r.error.as_ref().map(|e| (e.code, e.reason.as_str()))).collect();
    let malformed = Some((Code::InvalidArgument as i32, "ACK_ID_MALFORMED"));
    let stale = Some((Code::FailedPrecondition as i32, "ACK_ID_STALE"));
    assert_eq!(errors, [None, malformed, stale, None]);
    let request = v1::GetRequest { queue: "q".into(), auto_ack: true, ..Default::default() };
    let got = world.client.get(request).await.unwrap().into_inner();
    assert_eq!((got.deliveries.len(), got.deliveries[0].ack_id.as_str()), (1, ""));
}

#[tokio::test]
async fn what_a_call_took_that_is_gone_goes_back() {
    let mut world = World::new().await;
    // The first call of all waits for argon2.
    world.client.status(v1::StatusRequest {}).await.unwrap();
    let request = v1::GetRequest { queue: "slow".into(), count: 4, ..Default::default() };
    let call = tokio::time::timeout(Duration::from_millis(30), world.client.get(request));
    assert!(call.await.is_err());
    until("the messages are back", || world.seen.requeued.load(Ordering::Relaxed) == 4).await;
}

#[tokio::test]
async fn wrong_requests_name_the_field() {
    let mut world = World::new().await;
    let field = |status: tonic::Status| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        status.get_details_error_info().unwrap().metadata["field"].clone()
    };
    let get = |count, lease_ms| v1::GetRequest { queue: "q".into(), count, lease_ms, ..Default::default() };
    assert_eq!(field(world.client.get(v1::GetRequest::default()).await.unwrap_err()), "queue");
    assert_eq!(field(world.client.get(get(10_001, 0)).await.unwrap_err()), "count");
    assert_eq!(field(world.client.get(get(1, 3_600_001)).await.unwrap_err()), "lease_ms");
    assert_eq!(field(world.client.bind(v1::BindRequest::default()).await.unwrap_err()), "binding");
    let binding = Some(v1::Binding { destination_kind: 7, ..Default::default() });
    let bind = v1::BindRequest { binding, ..Default::default() };
    assert_eq!(field(world.client.bind(bind).await.unwrap_err()), "destination_kind");
    let declare = v1::DeclareQueueRequest { name: "q".repeat(256), ..Default::default() };
    let status = world.client.declare_queue(declare).await.unwrap_err();
    assert_eq!(status.message(), "name has 256 bytes, at most 255 are allowed");
    assert_eq!(field(status), "name");
}

#[tokio::test]
async fn a_session_lives_as_long_as_its_stream() {
    let mut world = World::new().await;
    world.client.status(v1::StatusRequest {}).await.unwrap();
    until("one connection", || world.seen.connections.load(Ordering::Relaxed) == 1).await;
    let request = v1::SessionRequest { client: "test".into() };
    let mut session = world.client.session(request).await.unwrap().into_inner();
    let token = session.message().await.unwrap().unwrap().token;
    assert_eq!(token.len(), 32);
    until("two connections", || world.seen.connections.load(Ordering::Relaxed) == 2).await;
    let with_token = |token: &str| {
        let mut request = Request::new(v1::DeclareQueueRequest { name: "q".into(), ..Default::default() });
        request.metadata_mut().insert("leveret-session", MetadataValue::try_from(token).unwrap());
        request
    };
    world.client.declare_queue(with_token(&token)).await.unwrap();
    let status = world.client.declare_queue(with_token("no token")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "SESSION_NOT_FOUND"));
    drop(session);
    until("one connection", || world.seen.connections.load(Ordering::Relaxed) == 1).await;
    let status = world.client.declare_queue(with_token(&token)).await.unwrap_err();
    assert_eq!(reason(&status), "SESSION_NOT_FOUND");
    let exclusive = v1::DeclareQueueRequest { name: "q".into(), exclusive: true, ..Default::default() };
    assert_eq!(reason(&world.client.declare_queue(exclusive).await.unwrap_err()), "SESSION_REQUIRED");
}

/// A call with a login.
fn with_login<T>(request: T, user: &str, password: &str) -> Request<T> {
    let mut request = Request::new(request);
    let login = BASE64_STANDARD.encode(format!("{user}:{password}"));
    request.metadata_mut().insert("authorization", format!("Basic {login}").parse().unwrap());
    request
}

#[tokio::test]
async fn a_call_is_made_by_its_user() {
    let mut world = World::new().await;
    let status = v1::StatusRequest {};
    let user = |world: &World| world.seen.user.lock().unwrap().clone().unwrap_or_default();
    world.client.status(status).await.unwrap();
    assert_eq!(&*user(&world), "guest");
    for _ in 0..2 {
        world.client.status(with_login(status, "other", "secret")).await.unwrap();
        assert_eq!(&*user(&world), "other");
    }
    // One for each user of the socket, so that listings tell them apart.
    until("two connections", || world.seen.connections.load(Ordering::Relaxed) == 2).await;
    for (name, password) in [("other", "Secret"), ("nobody", "secret"), ("other", "")] {
        let refused = world.client.status(with_login(status, name, password)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"));
        assert_eq!(refused.message(), "login refused");
    }
    for login in ["Basic", "Basic !", "Bearer b3RoZXI6c2VjcmV0", "Basic b3RoZXI="] {
        let mut request = Request::new(status);
        request.metadata_mut().insert("authorization", login.parse().unwrap());
        let refused = world.client.status(request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "LOGIN_MALFORMED"));
    }
    let mut request = Request::new(status);
    request.metadata_mut().insert("authorization", "bAsIc b3RoZXI6c2VjcmV0".parse().unwrap());
    world.client.status(request).await.unwrap();
}

#[tokio::test]
async fn a_session_is_its_users_own() {
    let mut world = World::new().await;
    let mut session = world.client.session(v1::SessionRequest::default()).await.unwrap().into_inner();
    let token: MetadataValue<_> = session.message().await.unwrap().unwrap().token.parse().unwrap();
    let mut request = with_login(v1::BindRequest::default(), "other", "secret");
    request.metadata_mut().insert("leveret-session", token.clone());
    let refused = world.client.bind(request).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "SESSION_NOT_FOUND"));
    let mut request = with_login(v1::BindRequest::default(), "guest", "guest");
    request.metadata_mut().insert("leveret-session", token);
    assert_eq!(world.client.bind(request).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn names_of_users_are_checked_before_a_password_is_hashed() {
    let world = World::new().await;
    let mut client = AdminClient::new(world.channel.clone());
    let add = |name: &str, password: &str, tags: Vec<String>| v1::AddUserRequest {
        name: name.into(),
        password: password.into(),
        tags,
    };
    for (request, field) in [
        (add("", "p", vec![]), "name"),
        (add("a:b", "p", vec![]), "name"),
        (add("a\nb", "p", vec![]), "name"),
        (add(&"x".repeat(256), "p", vec![]), "name"),
        (add("a", "", vec![]), "password"),
        (add("a", &"x".repeat(1025), vec![]), "password"),
        (add("a", "p", vec![String::new()]), "tags"),
        (add("a", "p", vec!["t".into(); 65]), "tags"),
    ] {
        let refused = client.add_user(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert_eq!(refused.get_details_error_info().unwrap().metadata["field"], field);
    }
}

/// Guards against everybody who can log in having the broker hash passwords.
#[tokio::test]
async fn only_for_an_administrator_a_password_is_hashed() {
    let world = World::new().await;
    let mut client = AdminClient::new(world.channel.clone());
    let add = || v1::AddUserRequest { name: "new".into(), password: "p".into(), ..Default::default() };
    let change = || v1::ChangePasswordRequest { name: "guest".into(), password: "p".into() };
    client.add_user(add()).await.unwrap();
    client.change_password(change()).await.unwrap();
    *world.seen.user.lock().unwrap() = None;
    let refused = client.add_user(with_login(add(), "other", "secret")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let refused = client.change_password(with_login(change(), "other", "secret")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(*world.seen.user.lock().unwrap(), None, "no request with a hash came to the core");
}

#[tokio::test]
async fn status_joins_the_core_and_the_process() {
    let mut world = World::new().await;
    let status = world.client.status(v1::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.queues, status.epoch, status.version.as_str()), (3, 7, "1.2.3"));
}

#[tokio::test]
async fn health_says_serving_when_told() {
    let world = World::new().await;
    let mut client = HealthClient::new(world.channel.clone());
    for (told, expected) in [(false, ServingStatus::NotServing), (true, ServingStatus::Serving)] {
        if told {
            world.health.serving().await;
        }
        for service in ["", "leveret.v1.Broker", "leveret.v1.Admin"] {
            let request = HealthCheckRequest { service: service.into() };
            assert_eq!(client.check(request).await.unwrap().into_inner().status(), expected);
        }
    }
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};

    let world = World::new().await;
    let list = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut client = ServerReflectionClient::new(world.channel.clone());
    let answer = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
    let answer = answer.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.into_iter().map(|ServiceResponse { name }| name).collect();
    for service in ["leveret.v1.Broker", "leveret.v1.Admin", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|name| name == service), "{names:?}");
    }
}

/// Guards against a connection that a later user of the same name inherits.
#[tokio::test]
async fn the_core_hears_since_when_a_login_holds() {
    let mut world = World::new().await;
    let login_at = |world: &World| *world.seen.login_at.lock().unwrap();
    world.client.status(v1::StatusRequest {}).await.unwrap();
    until("guest's connection", || login_at(&world) == Some(0)).await;
    world.seen.restless.store(true, Ordering::Relaxed);
    world.client.status(with_login(v1::StatusRequest {}, "other", "secret")).await.unwrap();
    until("two connections", || world.seen.connections.load(Ordering::Relaxed) == 2).await;
    // It was looked at once more, since users had changed, and they changed again behind that.
    assert_eq!(login_at(&world), Some(1));
}

#[tokio::test]
async fn status_says_of_the_store_only_to_who_sees_all() {
    let mut world = World::new().await;
    let all = world.client.status(v1::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((&*all.version, all.epoch, all.queues, all.log_bytes), ("1.2.3", 7, 3, 9));
    let request = with_login(v1::StatusRequest {}, "other", "secret");
    let own = world.client.status(request).await.unwrap().into_inner();
    assert_eq!((&*own.version, own.epoch, own.queues, own.log_bytes), ("1.2.3", 7, 3, 0));
}

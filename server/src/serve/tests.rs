use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Answer;
use tonic_health::pb::health_client::HealthClient;

use super::*;
use crate::config::Layers;
use crate::http::{MetricsSnapshot, MetricsSource, SnapshotFuture};
use crate::hub::Hub;
use crate::inbox::Inbox;

/// A broker without store and core, which does as it is told.
struct Fake {
    hub: Hub,
    /// Recovery ends when this is told something.
    opened: Mutex<Option<std::sync::mpsc::Receiver<Result<Recovery, Stopped>>>>,
    failure: Notify,
    unacknowledged: Mutex<u64>,
    closed: Mutex<bool>,
}

impl MetricsSource for Fake {
    fn snapshot(&self) -> SnapshotFuture<'_> {
        let mut snapshot = MetricsSnapshot::default();
        snapshot.core.messages_unacknowledged = *self.unacknowledged.lock().expect("lock");
        Box::pin(std::future::ready(snapshot))
    }
}

impl StatusSource for Fake {
    fn server_status(&self) -> ServerStatus {
        ServerStatus::default()
    }
}

impl Backend for Fake {
    fn hub(&self) -> &Hub {
        &self.hub
    }

    fn open(&self) -> Result<Recovery, Stopped> {
        let told = self.opened.lock().expect("lock").take().expect("opened once");
        told.recv().unwrap_or_else(|_| Ok(Recovery::default()))
    }

    fn settled(&self) -> SettledFuture<'_> {
        Box::pin(std::future::ready(()))
    }

    fn failed(&self) -> FailureFuture<'_> {
        Box::pin(async {
            self.failure.notified().await;
            "the disk failed".to_owned()
        })
    }

    fn close(&self) -> Result<(), Stopped> {
        *self.closed.lock().expect("lock") = true;
        Ok(())
    }
}

struct Running {
    fake: Arc<Fake>,
    open: std::sync::mpsc::Sender<Result<Recovery, Stopped>>,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), Stopped>>,
    grpc: SocketAddr,
    http: SocketAddr,
}

async fn start() -> Running {
    let mut settings = Layers::default().resolve().expect("defaults").settings;
    settings.grpc_addr.set_port(0);
    settings.amqp_addr.set_port(0);
    settings.http_addr.set_port(0);
    settings.shutdown_timeout = Duration::from_secs(5);
    let (open, opened) = std::sync::mpsc::channel();
    let fake = Arc::new(Fake {
        hub: Hub::new(Arc::new(Inbox::default()), 1, 1),
        opened: Mutex::new(Some(opened)),
        failure: Notify::new(),
        unacknowledged: Mutex::new(0),
        closed: Mutex::new(false),
    });
    let bound = Bound::bind(Arc::new(settings), Arc::<Fake>::clone(&fake)).await.expect("bound");
    let (grpc, http) = (bound.grpc_addr(), bound.http_addr());
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(bound.serve(async {
        let _ = stopped.await;
    }));
    Running { fake, open, stop, ended, grpc, http }
}

async fn connect(addr: SocketAddr) -> HealthClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("address");
    HealthClient::new(endpoint.connect().await.expect("connection"))
}

async fn grpc_health(addr: SocketAddr) -> Answer {
    let request = HealthCheckRequest { service: "leveret.v1.Broker".to_owned() };
    connect(addr).await.check(request).await.expect("answer").into_inner().status()
}

async fn http_health(addr: SocketAddr) -> String {
    let mut socket = TcpStream::connect(addr).await.expect("connection");
    socket.write_all(b"GET /health HTTP/1.0\r\n\r\n").await.expect("request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("answer");
    answer[9..12].to_owned()
}

async fn until_serving(addr: SocketAddr) {
    while grpc_health(addr).await != Answer::Serving {
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn health_before_while_and_the_stop_waits_for_acks() {
    let run = start().await;
    assert_eq!(grpc_health(run.grpc).await, Answer::NotServing);
    assert_eq!(http_health(run.http).await, "503");
    run.open.send(Ok(Recovery::default())).expect("recovering");
    until_serving(run.grpc).await;
    assert_eq!(http_health(run.http).await, "200");

    let mut connected = connect(run.grpc).await;
    *run.fake.unacknowledged.lock().expect("lock") = 1;
    run.stop.send(()).expect("serving");
    while TcpStream::connect(run.grpc).await.is_ok() {
        sleep(Duration::from_millis(5)).await;
    }
    // No new connections, but the old one is served, so that it can acknowledge.
    let request = HealthCheckRequest { service: String::new() };
    let answer = connected.check(request).await.expect("still served").into_inner().status();
    assert_eq!(answer, Answer::NotServing);
    assert!(!*run.fake.closed.lock().expect("lock"));
    *run.fake.unacknowledged.lock().expect("lock") = 0;
    run.ended.await.expect("no panic").expect("clean stop");
    assert!(*run.fake.closed.lock().expect("lock"));
}

#[tokio::test]
async fn a_store_that_does_not_open_ends_the_server() {
    let run = start().await;
    let damage = Stopped { exit: Exit::NeedsRepair, text: "damaged".to_owned() };
    run.open.send(Err(damage.clone())).expect("recovering");
    assert_eq!(run.ended.await.expect("no panic"), Err(damage));
}

#[tokio::test]
async fn a_core_that_fails_ends_the_server() {
    let run = start().await;
    run.open.send(Ok(Recovery::default())).expect("recovering");
    until_serving(run.grpc).await;
    run.fake.failure.notify_one();
    assert_eq!(run.ended.await.expect("no panic"), Err(Stopped::refused("the disk failed")));
}

#[tokio::test]
async fn a_stop_during_recovery_ends_at_once() {
    let run = start().await;
    run.stop.send(()).expect("recovering");
    assert_eq!(run.ended.await.expect("no panic"), Ok(()));
    assert!(!*run.fake.closed.lock().expect("lock"));
    drop(run.open);
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_flag() {
    let (_held, addr) = listen::listen("grpc-addr", ([127, 0, 0, 1], 0).into()).expect("free port");
    let stopped = listen::listen("grpc-addr", addr).expect_err("port in use");
    assert_eq!(stopped.exit, Exit::Refused);
    for part in [&addr.to_string(), "in use", "--grpc-addr"] {
        assert!(stopped.text.contains(part), "{}", stopped.text);
    }
}

/// Guards against clients that come all at once and are turned away by the kernel.
#[tokio::test]
async fn many_connections_wait_until_they_are_accepted() {
    let allowed = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("somaxconn");
    let count = allowed.trim().parse().map_or(128, |allowed: usize| allowed.min(1000));
    let (_listener, addr) = listen::listen("amqp-addr", ([127, 0, 0, 1], 0).into()).expect("a listener");
    let mut waiting = Vec::new();
    for _ in 0..count {
        let connect = tokio::net::TcpStream::connect(addr);
        let connected = tokio::time::timeout(Duration::from_secs(10), connect).await;
        waiting.push(
            connected.unwrap_or_else(|_| panic!("{} came through", waiting.len())).expect("a connection"),
        );
    }
}

/// Guards against a listener that is open to others by default, or without a word.
#[test]
fn who_listens_beyond_loopback_is_told_what_others_learn() {
    let settings = Layers::default().resolve().expect("defaults").settings;
    let addrs = Addrs { grpc: settings.grpc_addr, amqp: settings.amqp_addr, http: settings.http_addr };
    assert_eq!(exposed(addrs).count(), 0);
    let anywhere = |port| SocketAddr::from(([0, 0, 0, 0], port));
    let told: Vec<_> = exposed(Addrs { http: anywhere(15672), ..addrs }).collect();
    assert_eq!((told.len(), told[0].0), (1, "http-addr"));
    assert!(told[0].1.contains("needs no login") && told[0].1.contains("queues"), "{told:?}");
    let all = exposed(Addrs { grpc: anywhere(1), amqp: anywhere(2), http: anywhere(3) });
    assert_eq!(all.map(|(name, _)| name).collect::<Vec<_>>(), ["grpc-addr", "amqp-addr", "http-addr"]);
}

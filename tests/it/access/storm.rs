//! A thousand logins a second with a wrong password, while others work.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use leveret_proto::v1::StatusRequest;
use leveret_tests::amqp::codec::PROTOCOL_HEADER;
use leveret_tests::amqp::{Connection, Error, method};

use super::Scene;

/// How long it rages, with so many logins a second.
const STORM: Duration = Duration::from_secs(4);
const LOGINS_PER_S: u64 = 1000;
/// A publish that waits for its confirm may take so long meanwhile, on a machine that does much else.
const PUBLISH_MAX: Duration = Duration::from_secs(3);

/// What became of the logins.
#[derive(Debug, Default)]
struct Logins {
    refused: AtomicU64,
    busy: AtomicU64,
    let_in: AtomicU64,
    lost: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_wrong_logins_disturbs_nobody() {
    let mut scene = Scene::set().await;
    scene.add_worker("worker").await;
    scene.add_worker("late").await;
    scene.root.declare_queue("q").await;
    let mut worker = scene.grpc("worker").await;
    worker.publish("q", "warm").await;
    let logins = Arc::new(Logins::default());
    let storm = tokio::spawn(rage(scene.server.amqp_port(), Arc::clone(&logins)));
    let (start, mut slowest, mut published) = (Instant::now(), Duration::ZERO, 0);
    let mut late_login = None;
    while start.elapsed() < STORM {
        let one = Instant::now();
        worker.publish("q", "work").await;
        slowest = slowest.max(one.elapsed());
        published += 1;
        if late_login.is_none() && start.elapsed() > STORM / 2 {
            // Somebody who was not there before gets in, too.
            let mut late = scene.grpc("late").await;
            late_login = Some(tokio::spawn(async move { late.rpc.status(StatusRequest {}).await }));
        }
    }
    let late = late_login.expect("it was tried").await.expect("no panic");
    late.expect("a login in the storm");
    storm.await.expect("no panic");
    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!(count(&logins.let_in), 0);
    assert!(count(&logins.refused) > 0, "{logins:?}");
    let answered = count(&logins.refused) + count(&logins.busy);
    assert!(answered > count(&logins.lost), "{logins:?}");
    assert!(slowest < PUBLISH_MAX, "a publish took {slowest:?}, after {published}");
    assert!(published > 20, "{published} publishes in {STORM:?}");
    // Quiet again, and nothing of it is left.
    let mut late = scene.grpc("late").await;
    late.rpc.status(StatusRequest {}).await.expect("logged in");
    assert_eq!(scene.root.queue_info("q").await.messages_ready, published + 1);
}

/// Logs in with ever other passwords, half of them as a user who does not exist.
async fn rage(port: u16, logins: Arc<Logins>) {
    let mut every = tokio::time::interval(Duration::from_micros(1_000_000 / LOGINS_PER_S));
    let mut under_way = tokio::task::JoinSet::new();
    let start = Instant::now();
    let mut n = 0u64;
    while start.elapsed() < STORM {
        every.tick().await;
        n += 1;
        let user = if n.is_multiple_of(2) { "worker" } else { "nobody" };
        let logins = Arc::clone(&logins);
        under_way.spawn(async move {
            let counter = match login(port, user, &format!("wrong {n}")).await {
                Ok(()) => &logins.let_in,
                Err(Error::Closed { code: 403, .. }) => &logins.refused,
                Err(Error::Closed { code: 506, .. }) => &logins.busy,
                Err(_) => &logins.lost,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        });
    }
    while under_way.join_next().await.is_some() {}
}

async fn login(port: u16, user: &str, password: &str) -> Result<(), Error> {
    let mut connection = Connection::raw(port).await?;
    connection.send(&PROTOCOL_HEADER).await?;
    connection.expect(0, method::CONNECTION_START).await?;
    connection.start_ok("PLAIN", format!("\0{user}\0{password}").as_bytes()).await?;
    connection.expect(0, method::CONNECTION_TUNE).await.map(drop)
}

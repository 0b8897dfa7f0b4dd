//! System calls of the real binary that fail, at CI size.

use std::time::Duration;

use leveret_proto::v1::{GetRequest, StatusRequest};
use leveret_tests::client::Client;
use leveret_tests::crash::{Death, Failure, Protocol, Settings, run};
use leveret_tests::faultfs::{Call, Disk, Fault};
use leveret_tests::payload::{self, MsgId};
use leveret_tests::server::{Home, Options, Server};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::skip;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Seeds change from run to run; a failing one is printed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_end_the_server_or_pass_and_lose_nothing() {
    if skip::without_fuse("syserr::errors_end_the_server_or_pass_and_lose_nothing") {
        return;
    }
    let seed = number("LEVERET_SYSERR_SEED").unwrap_or_else(|| fastrand::u64(..));
    let errors = number("LEVERET_SYSERR_ERRORS").unwrap_or(10);
    let (protocol, death) = (Protocol::Mixed, Death::Errors { unsaid: false });
    match run(&Settings { protocol, death, ..Settings::new(errors, seed) }, |_| ()).await {
        Ok(report) => eprintln!("seed {seed}\n{report}"),
        Err(failure) => panic!("seed {seed}: {failure}"),
    }
}

/// The control: a failed sync that nobody hears of must end in a broken invariant; the same seed without it is well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_that_passes_for_a_good_one_is_caught() {
    if skip::without_fuse("syserr::a_failed_sync_that_passes_for_a_good_one_is_caught") {
        return;
    }
    let seed = number("LEVERET_SYSERR_SEED").unwrap_or_else(|| fastrand::u64(..));
    for unsaid in [true, false] {
        let (protocol, death) = (Protocol::Mixed, Death::Errors { unsaid });
        let outcome = run(&Settings { protocol, death, ..Settings::new(3, seed) }, |_| ()).await;
        match (outcome, unsaid) {
            (Err(Failure::Violation(violation)), true) => eprintln!("seed {seed}: {:?}", violation.invariant),
            (Err(other), true) => panic!("seed {seed}: no invariant was named: {other}"),
            (Ok(report), true) => panic!("seed {seed}: it was not noticed\n{report}"),
            (outcome, false) => drop(outcome.unwrap_or_else(|why| panic!("seed {seed}, without it: {why}"))),
        }
    }
}

/// Regression: EDQUOT for the next log segment ended the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seed_2_a_quota_that_is_used_up() {
    if skip::without_fuse("syserr::seed_2_a_quota_that_is_used_up") {
        return;
    }
    let (protocol, death) = (Protocol::Mixed, Death::Errors { unsaid: false });
    if let Err(failure) = run(&Settings { protocol, death, ..Settings::new(3, 2) }, |_| ()).await {
        panic!("{failure}");
    }
}

/// A server on a disk of ours. The disk is the first to go.
struct Rig {
    server: Server,
    disk: Disk,
    home: Home,
}

async fn rig() -> Rig {
    let home = Home::with_data("disk/data").expect("a directory");
    let disk = Disk::mount(&home.path().join("disk"), 1 << 30).expect("mounted");
    let server = Server::start_on(&home, Options::default()).await;
    Rig { server, disk, home }
}

async fn settled_bytes(client: &mut Client) -> u64 {
    client.rpc.status(StatusRequest {}).await.expect("status").into_inner().settle_bytes_total
}

/// Publishes until much of a queue is settled; how many messages.
async fn publish_until_settled(client: &mut Client, queue: &str) -> u64 {
    let mut count = 0;
    while settled_bytes(client).await < 3 << 20 {
        assert!(count < 20_000, "nothing is settled");
        let messages = (count..count + 50).map(|seq| {
            let body = payload::encode(MsgId { publisher: 1, seq }, 8000);
            leveret_tests::client::to_queue(queue, body)
        });
        client.publish_batch(messages.collect()).await;
        count += 50;
    }
    count
}

/// What was published is all there, in order.
async fn expect_all(client: &mut Client, queue: &str, count: u64) {
    let bodies = client.drain(queue).await;
    let found: Vec<_> = bodies.iter().map(|body| payload::decode(body).expect("sound").seq).collect();
    assert_eq!(found, (0..count).collect::<Vec<_>>());
}

/// Reads fail through the map as well, where they would be a SIGBUS: the process lives, the queue's range is reported, other
/// queues go on, and nothing is given up on suspicion.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_segment_that_cannot_be_read_costs_its_range_alone() {
    if skip::without_fuse("syserr::a_settled_segment_that_cannot_be_read_costs_its_range_alone") {
        return;
    }
    let mut rig = rig().await;
    let mut client = rig.server.client().await;
    client.declare_queue("far").await;
    client.declare_queue("near").await;
    let count = publish_until_settled(&mut client, "far").await;

    // A server that has nothing in memory.
    rig.server = rig.server.kill_and_restart().await;
    let mut client = rig.server.client().await;
    rig.disk.fault(Fault::always(Call::Read, "settled-", Errno::IO));
    rig.disk.forget_pages();
    let said = rig.home.stderr_bytes();
    // Whatever can be read (what is not settled yet) comes, and in order.
    let mut found = Vec::new();
    loop {
        let get = GetRequest { queue: "far".into(), count: 200, ..Default::default() };
        let answer = tokio::time::timeout(Duration::from_secs(20), client.rpc.get(get)).await;
        let deliveries = answer.expect("an answer in time").expect("deliveries").into_inner().deliveries;
        if deliveries.is_empty() {
            break;
        }
        let seq = |delivery| payload::decode(&leveret_tests::client::body(delivery)).expect("sound").seq;
        found.extend(deliveries.iter().map(seq));
    }
    assert!(found.is_sorted() && found.len() < count as usize);
    assert!(rig.disk.hits() > 0, "nothing was read");
    let told = rig.home.stderr_from(said);
    assert!(told.contains("settled-") && told.contains("os error 5"), "{told}");
    client.publish("near", "here").await;
    assert_eq!(client.take("near", 1).await, ["here"]);

    // Not lost: the medium can be read again.
    rig.disk.mend();
    rig.server.signal(Signal::KILL);
    let server = rig.server.kill_and_restart().await;
    expect_all(&mut server.client().await, "far", count).await;
    drop(server);
}

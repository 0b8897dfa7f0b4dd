//! The generator against servers that are there for it: the floor, and one that stops for a while.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::redis::RedisScan;
use super::*;
use crate::amqp::codec;
use crate::amqp::link::Link;
use crate::child::free_addr;

/// The floor in a thread of this process, which ends with it.
fn floor() -> (SocketAddr, tempfile::TempDir) {
    let (addr, directory) = (free_addr().unwrap(), tempfile::tempdir().unwrap());
    let path = directory.path().to_owned();
    thread::spawn(move || crate::floor::serve(addr, &path).map_err(|error| error.to_string()));
    let begun = Instant::now();
    while TcpStream::connect(addr).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the floor does not serve");
        thread::sleep(Duration::from_millis(10));
    }
    (addr, directory)
}

fn publisher(addr: SocketAddr, body: usize, pace: Pace) -> (TcpStream, Vec<u8>, Role) {
    let mut link = Link::open(addr).unwrap();
    link.confirm_select().unwrap();
    let batch = Batch::new(&[codec::publish_to("", "queue", body, true)], 2_000);
    let (stream, come) = link.into_parts();
    (stream, come, Role::Publish(Box::new(Publisher::new(batch, pace, false))))
}

const fn confirmed(until: Until) -> Plan {
    Plan { until, count: Count::Confirmed, lead: None, timed: Some(Count::Confirmed) }
}

#[test]
fn every_message_to_the_floor_is_confirmed_and_timed_once() {
    let (addr, _directory) = floor();
    for (body, window, total) in [(100, 1, 50), (100, 100, 5_000), (16, 2_000, 100_000), (300_000, 7, 50)] {
        let links = vec![publisher(addr, body, Pace::Window(window))];
        let sample = Swarm::<AmqpScan>::new(links).unwrap().run(confirmed(Until::Total(total))).unwrap();
        assert_eq!(sample.latencies.len(), total, "window {window}, bodies of {body} bytes");
        assert!(sample.rate > 0.0 && sample.latencies.max() > 0);
    }
}

#[test]
fn many_connections_share_the_floor_and_the_warm_up_does_not_count() {
    let (addr, _directory) = floor();
    let links = (0..40).map(|_| publisher(addr, 1_000, Pace::Window(10))).collect();
    let until = Until::Time { warm_up: Duration::from_millis(200), counted: Duration::from_millis(400) };
    let sample = Swarm::<AmqpScan>::new(links).unwrap().run(confirmed(until)).unwrap();
    let counted = (sample.rate * 0.4) as u64;
    assert!(sample.latencies.len() >= 40, "{sample:?}");
    assert!(sample.latencies.len() <= counted * 2 + 1_000, "{sample:?}");
}

/// Delivers so many messages, then gives back all that came until the end.
fn delivering(count: u64) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let come = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for tag in 1..=count {
            let arguments = [&[1, b't'][..], &tag.to_be_bytes(), &[0, 0, 1, b'q']].concat();
            let header = [&[0, 60, 0, 0][..], &100_000u64.to_be_bytes(), &[0, 0]].concat();
            let mut bytes = codec::method(1, codec::DELIVER, &arguments);
            bytes.extend(codec::frame(codec::HEADER, 1, &header));
            bytes.extend(codec::frame(codec::BODY, 1, &vec![0; 100_000]));
            stream.write_all(&bytes).unwrap();
        }
        let mut come = Vec::new();
        // The other end closes with a reset where it has not read all.
        let _ = stream.read_to_end(&mut come);
        come
    });
    (addr, come)
}

#[test]
fn deliveries_are_acked_one_by_one_or_together() {
    const COUNT: u64 = 40;
    for (acks, others) in [(Acks::Each, 0), (Acks::Multiple, 0), (Acks::Each, 20)] {
        let (addr, come) = delivering(COUNT);
        let consumer = TcpStream::connect(addr).unwrap();
        let mut links = vec![(consumer, Vec::new(), Role::Consume(Consumer::new(acks)))];
        // Among many connections, the buffer is smaller than a frame at first.
        let idle = TcpListener::bind("127.0.0.1:0").unwrap();
        for _ in 0..others {
            let stream = TcpStream::connect(idle.local_addr().unwrap()).unwrap();
            links.push((stream, Vec::new(), Role::Consume(Consumer::new(acks))));
        }
        let plan = Plan { until: Until::Total(COUNT), count: Count::Taken, lead: None, timed: None };
        Swarm::<AmqpScan>::new(links).unwrap().run(plan).unwrap();
        let come = come.join().unwrap();
        let each: Vec<_> = come.chunks(codec::ack(1, false).len()).collect();
        match acks {
            Acks::Each => {
                let wanted: Vec<_> = (1..=COUNT).map(|tag| codec::ack(tag, false)).collect();
                assert_eq!(each, wanted);
            }
            Acks::Multiple => {
                assert_eq!(each.last().unwrap(), &codec::ack(COUNT, true));
                assert!(each.len() as u64 <= COUNT);
            }
        }
    }
}

/// Answers each message after the other, and after so many stops for a while, once.
fn stopping(after: usize, stop: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let message_bytes = redis::message(16).bytes.len();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut message = vec![0; message_bytes];
        for number in 0.. {
            if number == after {
                thread::sleep(stop);
            }
            if stream.read_exact(&mut message).is_err() || stream.write_all(b"$3\r\n1-1\r\n").is_err() {
                return;
            }
        }
    });
    addr
}

#[test]
fn an_open_loop_charges_a_stop_to_all_who_would_have_come_meanwhile() {
    let stop = Duration::from_millis(400);
    let run = |pace| {
        let addr = stopping(300, stop);
        let batch = Batch::new(&[redis::message(16)], 100);
        let role = Role::Publish(Box::new(Publisher::new(batch, pace, false)));
        let links = vec![(TcpStream::connect(addr).unwrap(), Vec::new(), role)];
        let until = Until::Time { warm_up: Duration::ZERO, counted: Duration::from_secs(1) };
        Swarm::<RedisScan>::new(links).unwrap().run(confirmed(until)).unwrap().latencies
    };
    let slow = |latencies: &hdrhistogram::Histogram<u64>| latencies.count_between(100_000_000, u64::MAX);
    // A thousand a second: those of the first 300 ms of the stop wait for at least 100 ms.
    let open = run(Pace::Rate(Schedule::new(1_000.0)));
    assert_eq!(open.len(), 1_001, "all that are due are sent and waited for");
    assert!(slow(&open) >= 250, "{} were slow", slow(&open));
    // One after the other: a single message meets the stop, and hides it. A busy machine may have stops of its own.
    let closed = run(Pace::Window(1));
    assert!((1..25).contains(&slow(&closed)), "{} were slow", slow(&closed));
}

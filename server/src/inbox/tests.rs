//! Guards against two turns at once, turns out of order, and a taker that nobody wakes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use leveret_broker::ChanId;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// Counts as the core: one turn at a time, in order.
#[derive(Default)]
struct Core {
    busy: AtomicBool,
    seen: Mutex<Vec<u64>>,
}

impl Core {
    fn one_turn(&self, envelopes: impl IntoIterator<Item = Envelope>) {
        assert!(!self.busy.swap(true, Ordering::AcqRel), "two turns at once");
        let numbers = envelopes.into_iter().map(|envelope| match envelope {
            Envelope::Input(Input::ChannelClosed { chan }) => chan.0,
            other => unreachable!("{other:?}"),
        });
        self.seen.lock().expect("no panic").extend(numbers);
        assert!(self.busy.swap(false, Ordering::AcqRel));
    }
}

fn numbered(n: u64) -> Envelope {
    Envelope::Input(Input::ChannelClosed { chan: ChanId(n) })
}

struct Plain(Arc<Core>);

impl Turner for Plain {
    fn turn(&self, envelope: Envelope, heard: &dyn Fn() -> bool) {
        self.0.one_turn([envelope]);
        while heard() {}
    }
}

fn wait_until_it_sleeps(inbox: &Inbox) {
    while !inbox.lock().sleeping {
        thread::yield_now();
    }
}

#[test]
fn while_the_taker_is_awake_everything_is_the_takers() {
    let (inbox, core) = (Inbox::default(), Arc::new(Core::default()));
    inbox.set_turner(Box::new(Plain(Arc::clone(&core))));
    inbox.push_or_turn(numbered(1));
    assert_eq!(core.seen.lock().expect("no panic").len(), 0);
    let mut taken = VecDeque::new();
    inbox.take(&mut taken, LONG);
    assert_eq!(taken.len(), 1);
}

#[test]
fn a_sender_makes_the_turn_of_a_sleeping_taker_and_what_came_meanwhile_is_the_takers() {
    struct Meanwhile(Arc<Inbox>, Arc<Core>);
    impl Turner for Meanwhile {
        fn turn(&self, envelope: Envelope, heard: &dyn Fn() -> bool) {
            self.1.one_turn([envelope]);
            assert!(!heard(), "the store is silent");
            self.0.wake();
            assert!(heard(), "the store had something to say");
            assert!(!heard(), "only once");
            self.0.push(numbered(2));
            self.0.push_or_turn(numbered(3));
            self.0.wake();
            assert!(!heard(), "others wait: it is the taker's turn");
        }
    }
    let (inbox, core) = (Arc::new(Inbox::default()), Arc::new(Core::default()));
    inbox.set_turner(Box::new(Meanwhile(Arc::clone(&inbox), Arc::clone(&core))));
    let taker = Arc::clone(&inbox);
    let taken = thread::spawn(move || {
        let mut taken = VecDeque::new();
        taker.take(&mut taken, LONG);
        taken
    });
    wait_until_it_sleeps(&inbox);
    inbox.push_or_turn(numbered(1));
    core.one_turn(taken.join().expect("no panic"));
    assert_eq!(*core.seen.lock().expect("no panic"), [1, 2, 3]);
}

#[test]
fn a_panic_in_a_turn_wakes_the_taker() {
    struct Panics;
    impl Turner for Panics {
        fn turn(&self, _: Envelope, _: &dyn Fn() -> bool) {
            panic!("a bug");
        }
    }
    let inbox = Arc::new(Inbox::default());
    inbox.set_turner(Box::new(Panics));
    let taker = Arc::clone(&inbox);
    let taken = thread::spawn(move || taker.take(&mut VecDeque::new(), LONG));
    wait_until_it_sleeps(&inbox);
    assert!(catch_unwind(AssertUnwindSafe(|| inbox.push_or_turn(numbered(1)))).is_err());
    taken.join().expect("it woke");
    assert!(!inbox.lock().turning);
}

#[test]
fn senders_that_turn_and_the_taker_keep_the_order_of_each_sender() {
    const SENDERS: u64 = 3;
    const EACH: u64 = 3_000;
    let (inbox, core) = (Arc::new(Inbox::default()), Arc::new(Core::default()));
    inbox.set_turner(Box::new(Plain(Arc::clone(&core))));
    let (taker, its_core) = (Arc::clone(&inbox), Arc::clone(&core));
    let taker = thread::spawn(move || {
        let (mut envelopes, mut own) = (VecDeque::new(), 0);
        while (its_core.seen.lock().expect("no panic").len() as u64) < SENDERS * EACH {
            taker.take(&mut envelopes, Duration::from_millis(50));
            own += envelopes.len() as u64;
            its_core.one_turn(envelopes.drain(..));
        }
        own
    });
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                for n in 0..EACH {
                    let envelope = numbered(sender * EACH + n);
                    match fastrand::u8(..4) {
                        0 => inbox.push(envelope),
                        _ => inbox.push_or_turn(envelope),
                    }
                    match fastrand::u8(..64) {
                        0 => thread::sleep(Duration::from_micros(200)),
                        1..20 => inbox.wake(),
                        _ => {}
                    }
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().expect("no panic");
    }
    let own = taker.join().expect("no panic");
    let seen = core.seen.lock().expect("no panic");
    for sender in 0..SENDERS {
        let of_it = seen.iter().copied().filter(|n| n / EACH == sender);
        assert!(of_it.eq(sender * EACH..(sender + 1) * EACH), "sender {sender}");
    }
    assert!((1..SENDERS * EACH).contains(&own), "both made turns: the taker {own}");
}

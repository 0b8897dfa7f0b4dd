//! Who waits for whom, and who has to go.

use super::*;

fn whose(from: &str, user: &str) -> Whose {
    let from: IpAddr = from.parse().expect("an address");
    Whose { from: from.into(), user: user.into() }
}

/// Puts a job in that is named by whose it is. The name of the one that has to go.
fn put(turns: &mut Turns<String>, from: &str, user: &str) -> Option<String> {
    turns.push(whose(from, user), format!("{user} of {from}"))
}

fn waiting(turns: &Turns<String>, from: &str) -> usize {
    turns.of_address(whose(from, "").from)
}

fn popped(turns: &mut Turns<String>, count: usize) -> Vec<String> {
    (0..count).filter_map(|_| turns.pop()).collect()
}

/// As many jobs as may wait, of 16 addresses alike; each user has 4.
fn full() -> Turns<String> {
    let mut turns = Turns::new();
    for n in 0..WAITING_MAX {
        let (address, user) = (n % 16, n / 16 % 16);
        assert_eq!(put(&mut turns, &format!("10.0.0.{address}"), &format!("user {user}")), None);
    }
    turns
}

#[test]
fn a_storm_waits_for_itself() {
    let mut turns = Turns::new();
    for _ in 0..OF_USER_MAX {
        assert_eq!(put(&mut turns, "10.0.0.1", "root"), None);
    }
    assert_eq!(put(&mut turns, "10.0.0.1", "root").as_deref(), Some("root of 10.0.0.1"));
    assert_eq!(put(&mut turns, "10.0.0.1", "other"), None);
    assert_eq!(put(&mut turns, "10.0.0.2", "root"), None);
    let order = ["root of 10.0.0.1", "root of 10.0.0.2", "other of 10.0.0.1", "root of 10.0.0.1"];
    assert_eq!(popped(&mut turns, 4), order);
    assert_eq!(popped(&mut turns, 99).len(), OF_USER_MAX - 2);
    assert_eq!((turns.pop(), turns.waiting), (None, 0));
}

/// Guards against names without end from one address that take the turns of other addresses, and of a user who has one.
#[test]
fn many_names_are_still_one_address() {
    let mut turns = Turns::new();
    for _ in 0..OF_USER_MAX {
        put(&mut turns, "10.0.0.3", "greedy");
    }
    for n in OF_USER_MAX..OF_ADDRESS_MAX {
        assert_eq!(put(&mut turns, "10.0.0.3", &format!("user {n}")), None);
    }
    put(&mut turns, "10.0.0.4", "root");
    // One who has many makes room, also for somebody new.
    for n in 0..OF_USER_MAX - 1 {
        let gone = put(&mut turns, "10.0.0.3", &format!("late {n}"));
        assert_eq!(gone.as_deref(), Some("greedy of 10.0.0.3"));
    }
    // Among equals who is there stays.
    assert_eq!(put(&mut turns, "10.0.0.3", "late").as_deref(), Some("late of 10.0.0.3"));
    assert_eq!(waiting(&turns, "10.0.0.3"), OF_ADDRESS_MAX);
    assert_eq!(popped(&mut turns, 2)[1], "root of 10.0.0.4");
}

/// Guards against one who has a network, and so addresses without end, all of which have places and turns.
#[test]
fn a_network_of_ipv6_is_one_address() {
    let mut turns = Turns::new();
    for n in 0..OF_ADDRESS_MAX {
        assert_eq!(put(&mut turns, &format!("2001:db8:0:1:{n:x}::{n:x}"), &format!("user {n}")), None);
    }
    let gone = put(&mut turns, "2001:db8:0:1:ffff::", "one more");
    assert_eq!(gone.as_deref(), Some("one more of 2001:db8:0:1:ffff::"));
    assert_eq!(waiting(&turns, "2001:db8:0:1::"), OF_ADDRESS_MAX);
    assert_eq!(put(&mut turns, "2001:db8:0:2::1", "neighbour"), None);
    assert_eq!(popped(&mut turns, 2)[1], "neighbour of 2001:db8:0:2::1");
    // IPv4 in IPv6 is IPv4: neither one network, nor another address than without.
    put(&mut turns, "::ffff:10.0.0.1", "one");
    put(&mut turns, "10.0.0.1", "two");
    put(&mut turns, "::ffff:10.0.0.2", "three");
    assert_eq!((waiting(&turns, "10.0.0.1"), waiting(&turns, "10.0.0.2")), (2, 1));
}

/// Guards against a storm from many addresses that keeps everybody else out.
#[test]
fn when_all_places_are_taken_who_has_most_makes_room() {
    let mut turns = full();
    for n in 0..40 {
        let gone = put(&mut turns, "10.0.1.1", &format!("late {n}")).expect("one has to go");
        assert!(!gone.ends_with("10.0.1.1"), "{gone}");
        assert_eq!(turns.waiting, WAITING_MAX);
    }
    let left: Vec<_> = (0..16).map(|n| waiting(&turns, &format!("10.0.0.{n}"))).collect();
    assert!(left.iter().all(|left| (61..=62).contains(left)), "{left:?}");
    // Who was there first has their turns, one after the other, and then the new one.
    let order = popped(&mut turns, 17);
    assert_eq!((order[0].as_str(), order[16].as_str()), ("user 0 of 10.0.0.0", "late 0 of 10.0.1.1"));
    assert_eq!(popped(&mut turns, 2 * WAITING_MAX).len(), WAITING_MAX - 17);
    assert!(turns.addresses.is_empty() && turns.order.is_empty() && turns.waiting == 0);
}

#[test]
fn who_has_most_makes_room_for_nobody_but_who_has_less() {
    let mut turns = full();
    let gone = put(&mut turns, "10.0.0.7", "user 99").expect("one has to go");
    assert!(
        gone.ends_with("10.0.0.7") && gone != "user 99 of 10.0.0.7",
        "{gone}: its address has had its share"
    );
    // Each its own address.
    let mut turns = Turns::new();
    for n in 0..WAITING_MAX {
        put(&mut turns, &format!("10.1.{}.{}", n / 256, n % 256), "user");
    }
    assert_eq!(put(&mut turns, "10.0.0.1", "late").as_deref(), Some("late of 10.0.0.1"));
    assert!(!turns.order.contains(&whose("10.0.0.1", "").from) && waiting(&turns, "10.0.0.1") == 0);
}

use std::time::Duration;

use super::*;

fn at(ms: u64) -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now) + Duration::from_millis(ms)
}

#[test]
fn the_oldest_part_goes_when_there_is_no_room() {
    let pool = HalfSent::new(4 * STEP_BYTES, Arc::default());
    let (mut slow, mut quick) = (pool.share(), pool.share());
    slow.hold(at(0), 2 * STEP_BYTES);
    quick.hold(at(10), 2 * STEP_BYTES);
    assert!(!slow.is_evicted() && !quick.is_evicted());
    // The same bytes again are no more.
    quick.hold(at(10), 2 * STEP_BYTES);
    assert!(!slow.is_evicted());
    quick.hold(at(10), 3 * STEP_BYTES);
    assert!(slow.is_evicted() && !quick.is_evicted());
    // Nothing of it is counted any more, whatever still comes of it.
    slow.hold(at(0), 4 * STEP_BYTES);
    assert_eq!(pool.parts().bytes, 3 * STEP_BYTES);
}

#[test]
fn whoever_begins_again_is_young() {
    let pool = HalfSent::new(4 * STEP_BYTES, Arc::default());
    let (mut busy, mut slow, mut third) = (pool.share(), pool.share(), pool.share());
    busy.hold(at(0), 2 * STEP_BYTES);
    slow.hold(at(10), STEP_BYTES);
    busy.hold(at(20), 2 * STEP_BYTES);
    third.hold(at(30), 2 * STEP_BYTES);
    assert!(slow.is_evicted() && !busy.is_evicted() && !third.is_evicted());
}

#[test]
fn what_is_whole_or_gone_counts_no_more() {
    let pool = HalfSent::new(2 * STEP_BYTES, Arc::default());
    let (mut one, mut other) = (pool.share(), pool.share());
    one.hold(at(0), STEP_BYTES - 1);
    assert_eq!(pool.parts().bytes, 0, "less than a step is free");
    one.hold(at(0), 2 * STEP_BYTES);
    one.hold(at(0), 0);
    other.hold(at(1), 2 * STEP_BYTES);
    drop(other);
    one.hold(at(2), 2 * STEP_BYTES);
    assert!(!one.is_evicted());
    drop(one);
    let parts = pool.parts();
    assert_eq!((parts.bytes, parts.by_age.len()), (0, 0));
}

#[tokio::test]
async fn an_evicted_connection_is_woken() {
    let pool = HalfSent::new(STEP_BYTES, Arc::default());
    let (mut slow, mut quick) = (pool.share(), pool.share());
    slow.hold(at(0), STEP_BYTES);
    let woken = async {
        slow.evicted().await;
        true
    };
    let evict = async {
        tokio::task::yield_now().await;
        quick.hold(at(1), STEP_BYTES);
    };
    assert!(tokio::join!(woken, evict).0);
}

/// One connection alone may not pass the bound either.
#[test]
fn a_part_larger_than_all_room_goes_itself() {
    let pool = HalfSent::new(STEP_BYTES, Arc::default());
    let mut only = pool.share();
    only.hold(at(0), 2 * STEP_BYTES);
    assert!(only.is_evicted());
    assert_eq!(pool.parts().bytes, 0);
}

//! How much is told.

use super::*;

#[test]
fn a_storm_is_a_few_lines_and_a_number() {
    let (mut recent, start) = (Recent::default(), Instant::now());
    let told = (0..1000).filter_map(|_| recent.count(start)).count();
    assert_eq!(told, LINES_MAX as usize);
    assert_eq!(recent.count(start + PERIOD), Some(990));
    assert_eq!(recent.count(start + PERIOD), Some(0));
}

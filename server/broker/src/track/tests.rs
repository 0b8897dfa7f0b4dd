use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    /// The next number, after so many that are left out.
    Next(u64),
    /// One of those that are there, or were.
    Again(prop::sample::Index),
    Remove(prop::sample::Index),
    RemoveOldest,
    TakeUpto(prop::sample::Index),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => Just(Act::Next(0)),
        1 => (0_u64..200).prop_map(Act::Next),
        1 => any::<prop::sample::Index>().prop_map(Act::Again),
        3 => any::<prop::sample::Index>().prop_map(Act::Remove),
        3 => Just(Act::RemoveOldest),
        1 => any::<prop::sample::Index>().prop_map(Act::TakeUpto),
    ]
}

proptest! {
    #[test]
    fn it_is_a_map(acts in prop::collection::vec(act(), 1..600)) {
        let (mut track, mut map, mut next) = (Track::default(), BTreeMap::new(), 1);
        for (value, act) in acts.into_iter().enumerate() {
            match act {
                Act::Next(gap) => {
                    next += gap;
                    track.insert(next, value);
                    map.insert(next, value);
                    next += 1;
                }
                Act::Again(index) => {
                    let number = index.index(next as usize) as u64;
                    track.insert(number, value);
                    map.insert(number, value);
                }
                Act::Remove(index) => {
                    let number = index.index(next as usize) as u64;
                    prop_assert_eq!(track.remove(number), map.remove(&number));
                }
                Act::RemoveOldest => {
                    if let Some((number, value)) = map.pop_first() {
                        prop_assert_eq!(track.remove(number), Some(value));
                    }
                }
                Act::TakeUpto(index) => {
                    let number = index.index(next as usize) as u64;
                    let later = map.split_off(&(number + 1));
                    let taken: Vec<_> = std::mem::replace(&mut map, later).into_iter().collect();
                    prop_assert_eq!(track.take_upto(number), taken);
                }
            }
            prop_assert_eq!(track.len(), map.len());
            for number in [0, 1, next / 2, next - 1, next, u64::MAX] {
                prop_assert_eq!(track.get(number), map.get(&number));
                prop_assert_eq!(track.get_mut(number), map.get_mut(&number));
                prop_assert_eq!(track.contains(number), map.contains_key(&number));
            }
            let there = track.0.as_ref().map_or(0, |places| places.there);
            let free = track.0.as_ref().map_or(0, |places| places.recent.len()) - there;
            prop_assert!(free <= PLACES_FREE + SPARSE * (there + 1), "{} free places", free);
        }
        let all: Vec<_> = map.iter().map(|(number, value)| (*number, value)).collect();
        prop_assert_eq!(track.iter().collect::<Vec<_>>(), all);
        prop_assert_eq!(track.into_iter().collect::<Vec<_>>(), map.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn one_that_stays_does_not_keep_room_for_all_that_went() {
    let mut track = Track::default();
    track.insert(1, 'a');
    for number in 2..100_000 {
        track.insert(number, 'b');
        if number > 100 {
            track.remove(number - 98);
        }
        let room = track.0.as_ref().map_or(0, |places| places.recent.capacity());
        assert!(room <= 1_024, "{room} places");
    }
    assert_eq!(track.get(1), Some(&'a'));
}

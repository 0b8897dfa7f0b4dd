//! Names that the broker chooses.

use super::*;

/// The bytes 0, 1, 2 and so on.
fn key() -> [u8; NameKey::BYTES] {
    std::array::from_fn(|at| at as u8)
}

/// Guards against names that tell the next ones: those expected were made by another implementation of keyed BLAKE2s.
#[test]
fn a_name_is_a_keyed_hash_of_its_number() {
    let mut names = NameSource::new(NameKey::new(key()));
    assert_eq!(&*names.name("amq.gen-"), "amq.gen--TYNPdvAeSdDDl6lD6o3xg");
    assert_eq!(&*names.name("amq.ctag-"), "amq.ctag-S3PjWvboS274TKRHdIWu4A");
    assert_eq!(&*names.name("amq.rabbitmq.reply-to."), "amq.rabbitmq.reply-to.sKgg7XY5rkiyyhD2XiTMCg");
}

/// Guards against a part of the key that does not count.
#[test]
fn every_bit_of_the_key_makes_other_names() {
    let first = |key| NameSource::new(NameKey::new(key)).name("");
    let mut seen = std::collections::BTreeSet::from([first(key())]);
    for bit in 0..NameKey::BYTES * 8 {
        let mut other = key();
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(seen.insert(first(other)), "bit {bit}");
    }
}

/// Guards against a secret in a log.
#[test]
fn the_key_is_never_shown() {
    assert_eq!(
        format!("{:?}", NameSource::new(NameKey::new(key()))),
        "NameSource { key: NameKey(...), made: 0 }"
    );
}

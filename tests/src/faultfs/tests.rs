//! What a power loss may leave, without a mount.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use fastrand::Rng;
use rustix::io::Errno;

use super::contents::{Contents, SECTOR_BYTES};
use super::fault::{Call, Fault, How, Lie};
use super::loss::{Lost, Style};
use super::names::Names;
use super::state::{Kind, ROOT, State};

const STYLES: [Style; 5] =
    [Style::Nothing, Style::Everything, Style::Each(25), Style::Each(230), Style::Front];

/// What losses of that style leave of a file, over many seeds.
fn outcomes(style: Style, make: impl Fn() -> Contents) -> BTreeSet<Vec<u8>> {
    let outcome = |seed| {
        let mut contents = make();
        contents.lose_power(style, &mut Rng::with_seed(seed), &mut Lost::default());
        contents.read(0, usize::MAX).to_vec()
    };
    (0..400).map(outcome).collect()
}

fn sectors(letters: &str) -> Vec<u8> {
    letters.bytes().flat_map(|letter| [letter; SECTOR_BYTES]).collect()
}

#[test]
fn what_was_synced_survives_every_loss() {
    for style in STYLES {
        let synced = || {
            let mut contents = Contents::default();
            contents.write(100, &[7; 3000]);
            contents.zero(600, 100, true);
            contents.set_len(2500);
            contents.sync();
            contents
        };
        let left = outcomes(style, synced);
        assert_eq!(left, BTreeSet::from([synced().read(0, usize::MAX).to_vec()]), "{style:?}");
    }
}

#[test]
fn sectors_survive_each_for_itself_and_in_versions_in_between() {
    let written = || {
        let mut contents = Contents::default();
        contents.write(0, &sectors("ab"));
        contents.sync();
        contents.write(0, &sectors("AB"));
        contents.write(0, &sectors("X"));
        contents
    };
    let all: BTreeSet<_> = ["ab", "aB", "Ab", "AB", "Xb", "XB"].into_iter().map(sectors).collect();
    assert_eq!(outcomes(Style::Each(128), written), all);
    assert_eq!(outcomes(Style::Nothing, written), BTreeSet::from([sectors("ab")]));
    assert_eq!(outcomes(Style::Everything, written), BTreeSet::from([sectors("XB")]));
    let front: BTreeSet<_> = ["ab", "Xb", "XB"].into_iter().map(sectors).collect();
    assert_eq!(outcomes(Style::Front, written), front);
}

#[test]
fn a_length_may_be_old_or_new_with_zeros() {
    let grown = || {
        let mut contents = Contents::default();
        contents.write(0, &sectors("a"));
        contents.sync();
        contents.write(SECTOR_BYTES as u64, &sectors("b"));
        contents
    };
    let all: BTreeSet<_> = ["a", "ab", "a\0"].into_iter().map(sectors).collect();
    assert_eq!(outcomes(Style::Each(128), grown), all);
    let cut = || {
        let mut contents = Contents::default();
        contents.write(0, &sectors("ab"));
        contents.sync();
        contents.set_len(SECTOR_BYTES as u64);
        contents
    };
    assert_eq!(outcomes(Style::Each(128), cut), BTreeSet::from(["a", "ab", "a\0"].map(sectors)));
}

/// Guards against a server that calls fsync again and believes it.
#[test]
fn what_a_failed_sync_was_to_cover_no_later_sync_covers() {
    let written = || {
        let mut contents = Contents::default();
        contents.write(0, &sectors("abc"));
        contents.sync();
        contents.write(0, &sectors("AB"));
        contents.fail_sync();
        contents.write(SECTOR_BYTES as u64, &sectors("XC"));
        contents.sync();
        contents
    };
    assert_eq!(outcomes(Style::Nothing, written), BTreeSet::from([sectors("aXC")]));
    assert_eq!(outcomes(Style::Each(128), written), BTreeSet::from(["aXC", "AXC"].map(sectors)));
}

#[test]
fn a_name_is_durable_only_by_the_directory() {
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let mut names = Names::default();
        names.set(OsStr::new("old"), 2);
        names.sync();
        names.set(OsStr::new("tmp"), 3);
        names.rename(OsStr::new("tmp"), OsStr::new("old"));
        names.lose_power(Style::Each(128), &mut Rng::with_seed(seed), &mut Lost::default());
        let now: Vec<_> = names.now().iter().map(|(name, node)| (name.clone(), *node)).collect();
        seen.insert(now);
    }
    let state =
        |entries: &[(&str, u64)]| entries.iter().map(|(name, node)| ((*name).into(), *node)).collect();
    // Nothing, the new file alone, the rename alone or both: in no case is the old name gone.
    let all = [state(&[("old", 2)]), state(&[("old", 2), ("tmp", 3)]), state(&[("old", 3)])];
    assert_eq!(seen, BTreeSet::from(all));
}

/// A disk with a durable file, and another one synced after the lie began.
fn after_a_loss(lie: Lie) -> (bool, bool, u64) {
    let mut state = State::new(1 << 20);
    let before =
        state.make(ROOT, OsStr::new("before"), 0o600, Kind::File(Contents::default())).expect("made");
    state.set_lie(lie);
    let after = state.make(ROOT, OsStr::new("after"), 0o600, Kind::File(Contents::default())).expect("made");
    for file in [before, after] {
        state.write(file, 0, b"text", None).expect("room");
        state.sync_file(file, None).expect("answered");
    }
    state.sync_directory(ROOT).expect("answered");
    state.lose_power(&mut Rng::with_seed(1));
    let has = |state: &mut State, name| state.lookup(ROOT, OsStr::new(name)).is_ok();
    let (first, second) = (has(&mut state, "before"), has(&mut state, "after"));
    (first, second, state.file(before).map_or(0, |file| file.len()))
}

#[test]
fn lies_lose_what_they_claimed_and_nothing_older() {
    assert_eq!(after_a_loss(Lie::Never), (true, true, 4));
    assert_eq!(after_a_loss(Lie::Dirsync), (true, false, 4));
    assert_eq!(after_a_loss(Lie::Fsync), (true, false, 0));
}

#[test]
fn faults_hit_the_calls_that_they_are_for() {
    let mut state = State::new(1 << 20);
    let log = state.make(ROOT, OsStr::new("log-1"), 0o600, Kind::File(Contents::default())).expect("made");
    let other = state.make(ROOT, OsStr::new("other"), 0o600, Kind::File(Contents::default())).expect("made");
    state.faults.push(Fault::once(Call::Sync, "log-", Errno::IO).after(1));
    state.faults.push(Fault { how: How::Short, ..Fault::once(Call::Write, "log-", Errno::IO) });
    assert!(state.call(Call::Sync, other).is_ok() && state.call(Call::Sync, log).is_ok());
    assert_eq!(state.call(Call::Sync, log).expect_err("hit").code(), Errno::IO.raw_os_error());
    assert!(state.call(Call::Sync, log).is_ok());
    assert_eq!(state.call(Call::Write, log).expect("answered"), Some(How::Short));
    assert_eq!(state.hits, 2);
}

#[test]
fn room_ends_and_comes_back() {
    let mut state = State::new(8 << 12);
    let file = state.make(ROOT, OsStr::new("file"), 0o600, Kind::File(Contents::default())).expect("made");
    state.allocate(file, 0, 6 << 12, false).expect("room");
    assert_eq!(state.write(file, 5 << 12, &[1; 4 << 12], None).expect_err("full").code(), 28);
    assert_eq!((state.room_left(), state.file(file).map_or(9, |file| file.len())), (2, 0));
    state.file(file).expect("there").zero(0, 4 << 12, true);
    assert_eq!(state.room_left(), 6);
    state.remove(ROOT, OsStr::new("file")).expect("there");
    assert_eq!(state.room_left(), 8);
}

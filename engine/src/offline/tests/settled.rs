//! Damage in settled segments: the rest is served, the loss is told, and a repair keeps what is sound.

use std::collections::BTreeMap;

use super::rig::{Messages, Rig, fetch_what_is_left};
use crate::manifest::MANIFEST_NAME;
use crate::offline::{Checked, FindingKind, LeaveOut, Repaired, check, repair};
use crate::settled::HEADER_BYTES;
use crate::{Recovered, Step};

fn checked(rig: &Rig) -> Checked {
    check(&rig.disk, &mut |_, _| ()).expect("readable")
}

fn repaired(rig: &Rig) -> Repaired {
    repair(&rig.disk(), &mut |_, _| (), &mut |_| Some(LeaveOut::default())).expect("readable")
}

/// Opens the store as it is, and reads all it can.
fn served(rig: &Rig) -> (Recovered, Messages, BTreeMap<(u64, u64), String>) {
    let (mut store, mut workers, recovered) = rig.open().expect("damage in settled segments stops no start");
    let (found, lost) = fetch_what_is_left(&mut store, &mut workers, &recovered);
    // What cannot be read must not stop the rest either.
    while workers.settler.step(9_000) == Step::Worked {}
    assert!(store.failure().is_none());
    drop((store, workers));
    rig.disk.kill();
    (recovered, found, lost)
}

/// All that is found is what was put, and with the lost it is all that lives.
fn nothing_else_is_gone(rig: &Rig, found: &Messages, lost: &BTreeMap<(u64, u64), String>) {
    let mut both: Vec<_> = found.keys().chain(lost.keys()).copied().collect();
    both.sort_unstable();
    assert_eq!(both, rig.live.keys().copied().collect::<Vec<_>>());
    for (at, body) in found {
        assert_eq!(rig.put.get(at), Some(body));
    }
}

fn damage_names(found: &Checked, name: &str) {
    let damage: Vec<_> =
        found.findings.iter().filter(|finding| finding.kind == FindingKind::Damage).collect();
    assert!(!found.sound && damage.iter().any(|finding| finding.file == name), "{damage:?}");
}

#[test]
fn a_store_with_settled_segments_is_sound_and_whole() {
    let rig = Rig::settled();
    let before = rig.files();
    let found = checked(&rig);
    assert!(found.sound && found.loss.is_empty() && found.replay_compared, "{found:?}");
    assert_eq!(found.settled_segments, rig.settled_names().len() as u64);
    assert!(found.settled_records > 5);
    assert_eq!(rig.files(), before);
    assert_eq!(rig.read_back(), rig.live);
}

#[test]
fn a_flipped_record_costs_its_neighbours_at_most_and_a_repair_gives_them_back() {
    let rig = Rig::settled();
    let name = rig.settled_names()[0].clone();
    rig.damage(&name, |bytes| bytes[HEADER_BYTES + 40] ^= 1);
    let (recovered, found, lost) = served(&rig);
    assert!(recovered.report.damaged.is_empty(), "its footer is sound");
    assert!(!lost.is_empty() && lost.values().all(|why| why.contains(&name)), "{lost:?}");
    nothing_else_is_gone(&rig, &found, &lost);

    let told = checked(&rig);
    damage_names(&told, &name);
    assert_eq!(told.loss.messages.iter().map(|(_, count)| count).sum::<u64>(), 1, "{:?}", told.loss);
    let done = repaired(&rig);
    assert!(done.changed && done.set_aside.contains(&format!("set-aside.{name}")), "{done:?}");
    assert!(checked(&rig).sound, "{:?}", checked(&rig).findings);
    let after = rig.read_back();
    assert_eq!(after.len(), rig.live.len() - 1, "one record was not sound");
    assert!(after.iter().all(|(at, body)| rig.live.get(at) == Some(body)));
}

#[test]
fn a_missing_file_costs_what_it_held_and_comes_back_with_it() {
    let rig = Rig::settled();
    let name = rig.settled_names()[0].clone();
    let bytes = rig.contents(&name);
    rig.disk.take(&name);
    let (recovered, found, lost) = served(&rig);
    let [told] = &recovered.report.damaged[..] else { panic!("{:?}", recovered.report) };
    assert_eq!(*told, format!("{name} is damaged at offset 0: it is missing, but the manifest lists it"));
    let count: u64 = recovered.report.lost.iter().map(|(_, lost)| lost).sum();
    assert!(count > 0 && count == lost.len() as u64, "{:?} {lost:?}", recovered.report.lost);
    nothing_else_is_gone(&rig, &found, &lost);

    // Found again, in time: nothing was forgotten.
    rig.disk.put(&name, bytes);
    assert_eq!(rig.read_back(), rig.live);

    rig.disk.take(&name);
    let told = checked(&rig);
    damage_names(&told, &name);
    assert_eq!(told.loss.messages.iter().map(|(_, count)| count).sum::<u64>(), count);
    assert!(repaired(&rig).changed);
    assert!(checked(&rig).sound, "{:?}", checked(&rig).findings);
    assert_eq!(rig.read_back(), found);
}

#[test]
fn a_damaged_footer_costs_nothing_that_a_repair_cannot_give_back() {
    let rig = Rig::settled();
    for (what, at_end) in [("trailer", 20), ("footer", 70), ("cut", 0)] {
        let name = rig.settled_names().last().expect("some").clone();
        rig.damage(&name, |bytes| {
            let length = bytes.len();
            match at_end {
                0 => bytes.truncate(length - 30),
                back => bytes[length - back] ^= 8,
            }
        });
        let (recovered, found, lost) = served(&rig);
        assert_eq!(recovered.report.damaged.len(), 1, "{what}");
        assert!(!lost.is_empty(), "{what}");
        nothing_else_is_gone(&rig, &found, &lost);
        damage_names(&checked(&rig), &name);
        assert!(repaired(&rig).changed);
        assert!(checked(&rig).sound, "{what}: {:?}", checked(&rig).findings);
        assert_eq!(rig.read_back(), rig.live, "{what}");
    }
}

#[test]
fn without_a_manifest_settled_segments_are_found_by_what_they_say() {
    let rig = Rig::settled();
    rig.disk.take(MANIFEST_NAME);
    let error = rig.open().map(|_| ()).expect_err("no manifest");
    assert!(error.to_string().contains("it is missing, but"), "{error}");
    assert!(repaired(&rig).changed);
    assert!(checked(&rig).sound, "{:?}", checked(&rig).findings);
    assert_eq!(rig.read_back(), rig.live);
}

#[test]
fn cut_off_work_is_removed_and_what_is_not_ours_is_set_aside() {
    let rig = Rig::settled();
    let ours = rig.contents(&rig.settled_names()[0]);
    rig.disk.put("settled.tmp", vec![1; 700]);
    rig.disk.put("settled-0000009000.set", ours.clone());
    let mut foreign = ours;
    foreign[20] ^= 1;
    rig.disk.put("settled-0000009001.set", foreign);
    assert_eq!(rig.read_back(), rig.live);
    let names: Vec<String> = rig.disk.names().into_iter().map(|(name, _)| name).collect();
    assert!(!names.iter().any(|name| name == "settled.tmp" || name == "settled-0000009000.set"), "{names:?}");
    assert!(names.iter().any(|name| name == "set-aside.settled-0000009001.set"), "{names:?}");
}

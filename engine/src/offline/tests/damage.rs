//! The damage matrix: every kind of damage at every place is either refused, naming the file and changing nothing, or,
//! in the one newest frame that nothing proves, cut loudly. After a repair the store opens and serves what is sound.

use super::rig::{Files, Messages, Rig};
use crate::format::segment_name;
use crate::offline::{FindingKind, LeaveOut, Repaired, check, repair};
use crate::{Error, Recovered};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    SegmentHeader,
    OpenSegmentHeader,
    OlderFrame,
    FrameInOpenSegment,
    NewestFrame,
    Manifest,
    Checkpoint,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    BitFlip,
    Zeroed512,
    Zeroed4096,
    Truncated,
    Missing,
    Renamed,
    OldPutBack,
}

const PLACES: [Place; 7] = [
    Place::SegmentHeader,
    Place::OpenSegmentHeader,
    Place::OlderFrame,
    Place::FrameInOpenSegment,
    Place::NewestFrame,
    Place::Manifest,
    Place::Checkpoint,
];
const KINDS: [Kind; 7] = [
    Kind::BitFlip,
    Kind::Zeroed512,
    Kind::Zeroed4096,
    Kind::Truncated,
    Kind::Missing,
    Kind::Renamed,
    Kind::OldPutBack,
];

/// Where a place is: file and offset.
fn locate(rig: &Rig, place: Place) -> (String, usize) {
    let state = rig.state();
    let segment = |index: usize| segment_name(state.segments[index].file);
    let open = segment(state.segments.len() - 1);
    // A frame with messages that live.
    let frame = |name: &str, index: usize| {
        let frames = rig.frames(name);
        let index = if index == usize::MAX { frames.len() - 1 } else { index };
        frames[index].0
    };
    match place {
        Place::SegmentHeader => (segment(1), 16),
        Place::OpenSegmentHeader => (open, 16),
        Place::OlderFrame => (segment(2), frame(&segment(2), 4) + 100),
        Place::FrameInOpenSegment => (open.clone(), frame(&open, 2) + 100),
        Place::NewestFrame => (open.clone(), frame(&open, usize::MAX) + 100),
        Place::Manifest => ("MANIFEST".into(), 40),
        Place::Checkpoint => (rig.checkpoints().pop().expect("two"), 60),
    }
}

/// Damages; None where the two do not go together.
fn inflict(rig: &Rig, place: Place, kind: Kind, before: &Files) -> Option<String> {
    let (name, at) = locate(rig, place);
    let zero = |bytes: &mut Vec<u8>, length: usize| {
        let start = at / length * length;
        let end = (start + length).min(bytes.len());
        bytes[start..end].fill(0);
    };
    match kind {
        Kind::BitFlip => rig.damage(&name, |bytes| bytes[at] ^= 4),
        Kind::Zeroed512 => rig.damage(&name, |bytes| zero(bytes, 512)),
        Kind::Zeroed4096 => rig.damage(&name, |bytes| zero(bytes, 4096)),
        Kind::Truncated => rig.damage(&name, |bytes| bytes.truncate(at)),
        Kind::Missing if place != Place::NewestFrame => rig.disk.take(&name),
        Kind::Renamed if place != Place::NewestFrame => rig.rename(&name, "elsewhere"),
        Kind::OldPutBack if place == Place::Checkpoint => {
            let old = rig.checkpoints().swap_remove(0);
            let bytes = &before.iter().find(|(file, _)| *file == old).expect("kept").1;
            rig.disk.put(&name, bytes.clone());
        }
        _ => return None,
    }
    Some(name)
}

#[test]
fn damage_is_refused_by_name_and_repaired() {
    let mut refused = 0;
    let mut cut = 0;
    for place in PLACES {
        for kind in KINDS {
            let rig = Rig::new();
            let before = rig.files();
            let Some(name) = inflict(&rig, place, kind, &before) else { continue };
            let case = format!("{kind:?} at {place:?} ({name})");
            let damaged = rig.files();
            match rig.open() {
                Err(Error::Damage { file, what, .. }) => {
                    assert!(file == name || what.contains(&name), "{case}: {file} {what}");
                    assert_eq!(rig.files(), damaged, "{case}: a refused open changes nothing");
                    refused += 1;
                    rig.disk.kill();
                    check_and_repair(&rig, &case, place, kind);
                }
                Ok((_, _, recovered)) => {
                    assert_eq!(place, Place::NewestFrame, "{case} was not seen");
                    was_cut(&rig, &case, &name, &recovered);
                    cut += 1;
                }
                Err(error) => panic!("{case}: {error}"),
            }
        }
    }
    assert!(refused >= 36 && cut == 3, "{refused} refused, {cut} cut");
}

/// Only the newest frame may go, loudly.
fn was_cut(rig: &Rig, case: &str, name: &str, recovered: &Recovered) {
    match &recovered.report.cut {
        Some(cut) => assert!(cut.file == name && cut.bytes > 0, "{case}: {cut:?}"),
        // Where not one byte of the newest frame is left, nothing tells it from a frame that never was.
        None => assert!(case.starts_with("Zeroed"), "{case} was cut silently"),
    }
    rig.disk.kill();
    let mut expected = rig.live.clone();
    expected.retain(|&(queue, seq), _| !matches!((queue, seq), (1, 60) | (2, 12)));
    // The cut frame's ack is gone with it.
    expected.insert((1, 59), rig.put[&(1, 59)].clone());
    assert_eq!(keys(&rig.read_back()), keys(&expected), "{case}");
}

fn check_and_repair(rig: &Rig, case: &str, place: Place, kind: Kind) {
    let damaged = rig.files();
    let checked = check(&rig.disk, &mut |_, _| ()).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(rig.files(), damaged, "{case}: check changes nothing");
    assert!(!checked.sound && checked.beyond_repair.is_none(), "{case}: {checked:?}");
    assert_eq!(checked.findings[0].kind, FindingKind::Damage, "{case}");

    let no = repair(&rig.disk(), &mut |_, _| (), &mut |_| None).expect("read");
    assert!(!no.changed, "{case}");
    assert_eq!(rig.files(), damaged, "{case}: a repair that is not agreed to changes nothing");

    let done = repair(&rig.disk(), &mut |_, _| (), &mut |_| Some(LeaveOut::default()))
        .unwrap_or_else(|e| panic!("{case}: {e}"));
    assert!(done.changed, "{case}: {done:?}");
    nothing_is_gone(rig, case, &damaged, &done);
    let after = check(&rig.disk, &mut |_, _| ()).unwrap_or_else(|e| panic!("{case}: {e}"));
    assert!(after.sound, "{case}: {:?}", after.findings);

    let found = rig.read_back();
    let lost: u64 = done.found.loss.messages.iter().map(|(_, count)| count).sum();
    for (at, body) in &found {
        assert_eq!(rig.put.get(at), Some(body), "{case}: {at:?} was never put like this");
    }
    let missing = rig.live.keys().filter(|at| !found.contains_key(at)).count() as u64;
    let back = found.keys().filter(|at| !rig.live.contains_key(at)).count();
    assert!(back == 0 || done.found.loss.unknown_changes, "{case}: {back} came back");
    let in_log = matches!(
        place,
        Place::SegmentHeader
            | Place::OpenSegmentHeader
            | Place::OlderFrame
            | Place::FrameInOpenSegment
            | Place::NewestFrame
    );
    let header_only = matches!(place, Place::SegmentHeader | Place::OpenSegmentHeader)
        && !matches!(kind, Kind::Missing | Kind::Truncated);
    if !in_log || kind == Kind::Renamed || header_only {
        assert_eq!((missing, lost, back), (0, 0, 0), "{case}: nothing need be lost");
    } else if done.found.loss.unknown_changes {
        // The newest places of a queue are not known where their frames are gone.
        assert!(lost <= missing, "{case}: {lost} told, {missing} missing");
        assert!(!done.found.loss.gaps.is_empty(), "{case}");
    } else {
        assert_eq!(lost, missing, "{case}: told what is lost");
    }
    let most = match (place, kind) {
        (_, Kind::Missing | Kind::Truncated) => 40,
        // One frame: a message in one or two queues; two when a message runs over it.
        _ => 4,
    };
    assert!(missing <= most, "{case}: {missing} messages are missing");
}

/// Every byte that was there before is still there, unless it is sound and copied.
fn nothing_is_gone(rig: &Rig, case: &str, before: &Files, done: &Repaired) {
    let after = rig.files();
    for finding in done.found.findings.iter().filter(|finding| finding.kind == FindingKind::Damage) {
        let Some((_, bytes)) = before.iter().find(|(name, _)| *name == finding.file) else { continue };
        let kept = after.iter().any(|(name, now)| name.starts_with("set-aside.") && now == bytes);
        assert!(kept, "{case}: {} is not set aside; {:?}", finding.file, done.set_aside);
    }
}

fn keys(messages: &Messages) -> Vec<(u64, u64)> {
    messages.keys().copied().collect()
}

/// Guards against treating damage as the end of the log (E1): whichever frame is hit, the log is never cut before it
/// unless it is the newest one.
#[test]
fn a_frame_inside_a_proven_log_is_never_its_end() {
    let rig = Rig::new();
    let clean = rig.files();
    let state = rig.state();
    let (mut damaged, mut cut) = (0, 0);
    for entry in &state.segments {
        let name = segment_name(entry.file);
        for (at, header) in rig.frames(&name) {
            rig.damage(&name, |bytes| bytes[at + 81] ^= 1);
            match rig.open() {
                Err(Error::Damage { file, offset, .. }) => {
                    assert_eq!(
                        (file.as_str(), offset),
                        (name.as_str(), at as u64),
                        "frame {}",
                        header.number
                    );
                    damaged += 1;
                }
                Ok((_, _, recovered)) => {
                    assert!(recovered.report.cut.is_some());
                    cut += 1;
                }
                Err(error) => panic!("{error}"),
            }
            rig.disk.kill();
            for (name, _) in rig.disk.names() {
                rig.disk.take(&name);
            }
            for (name, bytes) in &clean {
                rig.disk.put(name, bytes.clone());
            }
        }
    }
    assert!(damaged > 50, "{damaged}");
    assert_eq!(cut, 1, "only the newest frame");
}

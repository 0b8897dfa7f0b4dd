//! Every kind of file, and everything that can be wrong with a file as a whole: the store opens and serves all that is
//! sound, or refuses with a sentence that names the file and says what to do; then a repair gives back what is sound.
//! Nothing is deleted on suspicion (E12).

use std::collections::BTreeMap;

use super::rig::{Files, Messages, Rig, fetch_what_is_left};
use crate::format::segment_name;
use crate::ids::Epoch;
use crate::manifest::MANIFEST_NAME;
use crate::offline::{LeaveOut, check, repair};
use crate::reserve::{header, reserve_name};
use crate::volatile::encode_header;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum File {
    Log,
    OpenLog,
    Manifest,
    Checkpoint,
    Settled,
    Blobs,
    Volatile,
    Spare,
    Reserve,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Missing,
    /// A copy under another number.
    Extra,
    /// One of another store under another number.
    Foreign,
    /// Under another number, and under a name that is not ours.
    Renumbered,
    Renamed,
    Truncated,
    Emptied,
    FlippedFront,
    FlippedMiddle,
    FlippedEnd,
}

const FILES: [File; 9] = [
    File::Log,
    File::OpenLog,
    File::Manifest,
    File::Checkpoint,
    File::Settled,
    File::Blobs,
    File::Volatile,
    File::Spare,
    File::Reserve,
];
const HARMS: [Harm; 10] = [
    Harm::Missing,
    Harm::Extra,
    Harm::Foreign,
    Harm::Renumbered,
    Harm::Renamed,
    Harm::Truncated,
    Harm::Emptied,
    Harm::FlippedFront,
    Harm::FlippedMiddle,
    Harm::FlippedEnd,
];

const SPARE: &str = "log-0000000700.seg";
const VOLATILE: &str = "volatile-0000000800.vol";

fn rig() -> Rig {
    let mut rig = Rig::settled();
    rig.add_blobs();
    let mut spilled = encode_header(rig.settings.new_store_id, Epoch(1));
    spilled.resize(9_000, 7);
    rig.disk.put(VOLATILE, spilled);
    rig.disk.put(SPARE, vec![0; rig.settings.segment_bytes as usize]);
    let mut piece = header(rig.settings.new_store_id);
    piece.resize(rig.settings.segment_bytes as usize, 0);
    rig.disk.put(&reserve_name(1), piece);
    rig
}

fn name_of(rig: &Rig, file: File) -> String {
    let state = rig.state();
    let unsettled =
        state.segments.iter().find(|entry| entry.no >= state.settled_below && entry.end.is_some());
    match file {
        File::Log => segment_name(unsettled.expect("one has ended").file),
        File::OpenLog => segment_name(state.segments.last().expect("one").file),
        File::Manifest => MANIFEST_NAME.to_owned(),
        File::Checkpoint => rig.checkpoints().pop().expect("two"),
        File::Settled => rig.settled_names()[0].clone(),
        File::Blobs => rig.names("blob-", ".blb")[0].clone(),
        File::Volatile => VOLATILE.to_owned(),
        File::Spare => SPARE.to_owned(),
        File::Reserve => reserve_name(1),
    }
}

/// The name of such a file with another number; a manifest has none.
fn other_name(name: &str) -> String {
    let Some(at) = name.find(|c: char| c.is_ascii_digit()) else { return "MANIFEST.1".to_owned() };
    let end = name.rfind('.').expect("an ending");
    format!("{}{:0width$}{}", &name[..at], 9_001, &name[end..], width = end - at)
}

fn inflict(rig: &Rig, name: &str, harm: Harm) {
    let bytes = rig.contents(name);
    match harm {
        Harm::Missing => rig.disk.take(name),
        Harm::Extra => rig.disk.put(&other_name(name), bytes),
        Harm::Foreign => {
            // The store's id is in the first block of every one of them.
            let id = rig.settings.new_store_id.to_le_bytes();
            let mut foreign = bytes;
            if let Some(at) = foreign.windows(8).position(|window| window == id) {
                foreign[at] ^= 0x10;
            }
            rig.disk.put(&other_name(name), foreign);
        }
        Harm::Renumbered => rig.rename(name, &other_name(name)),
        Harm::Renamed => rig.rename(name, "somewhere-else"),
        Harm::Truncated => rig.damage(name, |bytes| bytes.truncate(bytes.len() / 2)),
        Harm::Emptied => rig.damage(name, Vec::clear),
        Harm::FlippedFront => rig.damage(name, |bytes| bytes[10] ^= 4),
        // Where there is something: a log segment is zeros at its end.
        Harm::FlippedMiddle => rig.damage(name, |bytes| {
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            bytes[end / 2] ^= 4;
        }),
        Harm::FlippedEnd => rig.damage(name, |bytes| {
            let end = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            bytes[end] ^= 4;
        }),
    }
}

/// What was served, and what could not be read.
enum Opened {
    Served(Messages, BTreeMap<(u64, u64), String>),
    Refused,
}

fn open(rig: &Rig, case: &str, name: &str) -> Opened {
    let before = rig.files();
    match rig.open() {
        Ok((mut store, mut workers, recovered)) => {
            let (found, lost) = fetch_what_is_left(&mut store, &mut workers, &recovered);
            let report = &recovered.report;
            drop((store, workers));
            rig.disk.kill();
            if !lost.is_empty() {
                let counted: u64 = report.lost.iter().map(|(_, count)| count).sum();
                let told =
                    report.damaged.iter().any(|text| text.starts_with(name) && text.contains("offset"));
                let in_passing = lost.values().all(|why| why.contains(name) && why.contains("offset"));
                assert!(in_passing || (told && counted == lost.len() as u64), "{case}: {report:?} {lost:?}");
            }
            Opened::Served(found, lost)
        }
        Err(error) => {
            let text = error.to_string();
            // A manifest that lost its end lists files that are gone by now: then one of them is named.
            let named = text.contains(name) || (name == MANIFEST_NAME && text.contains("the manifest lists"));
            assert!(named && text.contains("`leveret repair"), "{case}: {text}");
            assert_eq!(rig.files(), before, "{case}: refused, and nothing is changed");
            Opened::Refused
        }
    }
}

/// The file, whatever its name is now; or of a blob file, which stays for the bodies that are sound, a body as it was found.
fn is_there(files: &Files, bytes: &[u8]) -> bool {
    let body = |part: &[u8]| !part.is_empty() && bytes.windows(part.len()).any(|window| window == part);
    files.iter().any(|(name, there)| {
        there == bytes || (name.starts_with("set-aside.blob-") && there.len() < bytes.len() && body(there))
    })
}

#[test]
fn whatever_happens_to_a_file_all_that_is_sound_is_served() {
    let (mut served, mut less, mut refused) = (0, 0, 0);
    for file in FILES {
        for harm in HARMS {
            let rig = rig();
            let name = name_of(&rig, file);
            let case = format!("{harm:?} {file:?} ({name})");
            let before = rig.contents(&name);
            inflict(&rig, &name, harm);
            let bytes = rig.disk.contents(&name);
            let harmed = bytes.clone().unwrap_or(before);
            let checked = check(&rig.disk, &mut |_, _| ()).expect("readable");
            let opened = open(&rig, &case, &name);
            let damaged = match &opened {
                Opened::Served(found, lost) => {
                    let mut both: Vec<_> = found.keys().chain(lost.keys()).copied().collect();
                    both.sort_unstable();
                    // The newest frame of the log proves nothing that follows it: only that may be cut.
                    let cut = file == File::OpenLog && both.len() + 1 == rig.live.len();
                    assert!(cut || both == rig.live.keys().copied().collect::<Vec<_>>(), "{case}: {both:?}");
                    assert!(found.iter().all(|(at, body)| rig.put.get(at) == Some(body)), "{case}");
                    served += u64::from(lost.is_empty());
                    less += u64::from(!lost.is_empty());
                    !lost.is_empty()
                }
                Opened::Refused => {
                    refused += 1;
                    true
                }
            };
            assert_eq!(checked.sound, !damaged, "{case}: {:?}", checked.findings);
            if !damaged {
                continue;
            }
            let named =
                checked.findings.iter().any(|finding| finding.file == name || finding.what.contains(&name));
            let named = named || file == File::Manifest;
            assert!(named, "{case}: {:?}", checked.findings);
            let done =
                repair(&rig.disk(), &mut |_, _| (), &mut |_| Some(LeaveOut::default())).expect("readable");
            assert!(done.changed, "{case}: {:?}", done.refused);
            let again = check(&rig.disk, &mut |_, _| ()).expect("readable");
            assert!(again.sound, "{case}: {:?}", again.findings);
            if let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) {
                assert!(is_there(&rig.files(), &bytes), "{case}: nothing is deleted on suspicion");
            }
            let after = rig.read_back();
            assert!(after.iter().all(|(at, body)| rig.put.get(at) == Some(body)), "{case}");
            let gone = rig.live.keys().filter(|at| !after.contains_key(*at)).count() as u64;
            let told: u64 = done.found.loss.messages.iter().map(|(_, count)| count).sum();
            // What the end of a log held that nothing else speaks of is a gap whose messages nobody can count.
            let unknown = done.found.loss.unknown_changes && matches!(file, File::Log | File::OpenLog);
            assert!(gone == told || (unknown && gone >= told), "{case}: {gone} gone, {:?}", done.found.loss);
            let holds_messages = matches!(file, File::Log | File::OpenLog | File::Settled | File::Blobs);
            // Nothing but its name says which blob file it is.
            let there = matches!(harm, Harm::Renumbered | Harm::Renamed) && file != File::Blobs;
            if file == File::Blobs && !matches!(harm, Harm::Missing | Harm::Emptied) {
                rig.give_back();
                assert!(is_there(&rig.files(), &harmed), "{case}: {:?}", done.set_aside);
            }
            if !holds_messages || there {
                assert_eq!(after, rig.live, "{case}");
            }
        }
    }
    assert!(served >= 25 && less >= 5 && refused >= 15, "{served} served, {less} less, {refused} refused");
}

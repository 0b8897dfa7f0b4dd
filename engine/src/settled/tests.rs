//! Settled segments: what is written is read, and nothing else is taken for it.

use std::sync::Arc;

use bytes::Bytes;
use fastrand::Rng;

use super::*;
use crate::disk::{Disk, RealDisk};
use crate::error::Error;
use crate::format::settled_name;
use crate::ids::SegmentNo;

const STORE: u64 = 77;

fn body(seq: u64) -> Vec<u8> {
    vec![seq as u8; (seq * 37 % 900) as usize]
}

fn kept(payload: &[u8]) -> Kept {
    Kept { payload: Bytes::copy_from_slice(payload), blob: None }
}

/// Three extents: one place, many with holes, one large body.
fn sample() -> (Vec<u8>, SettledEntry, Vec<Extent>) {
    let header = SettledHeader { store_id: STORE, epoch: Epoch(2), file: FileId(4), below: SegmentNo(9) };
    let mut out = Writer::default();
    let mut builder = Builder::new(header, &mut out);
    builder.push(QueueId(1), Seq(7), Stored::whole(b"one"), &mut out);
    for seq in (100..2_000).filter(|seq| seq % 3 != 0) {
        builder.push(QueueId(2), Seq(seq), Stored::whole(&body(seq)), &mut out);
    }
    builder.push(QueueId(3), Seq(1), Stored::whole(&vec![5; 300_000]), &mut out);
    let (entry, extents) = builder.finish(&mut out);
    (out.0, entry, extents)
}

fn disk_with(bytes: &[u8]) -> (tempfile::TempDir, RealDisk) {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join(settled_name(FileId(4))), bytes).expect("written");
    let disk = RealDisk::open(dir.path()).expect("opens");
    (dir, disk)
}

fn read_all(file: &SettledFile, extent: &Extent, bytes: u64) -> Result<Vec<(Seq, Kept)>, String> {
    let (mut all, mut from) = (Vec::new(), extent.first);
    loop {
        let window = file.window(extent, from, bytes)?;
        if let Some(broken) = window.broken {
            return Err(broken);
        }
        all.extend(window.records);
        match window.upto {
            Some(upto) if upto > from => from = upto,
            Some(upto) => panic!("a window from {from} to {upto} goes nowhere"),
            None => return Ok(all),
        }
    }
}

#[test]
fn what_was_written_is_read_in_windows_of_any_size() {
    let (bytes, entry, extents) = sample();
    assert_eq!(entry.bytes, bytes.len() as u64);
    let (_dir, disk) = disk_with(&bytes);
    let (file, found) = SettledFile::open(&disk, STORE, entry).expect("sound");
    assert_eq!(found, extents);
    let expected: Vec<_> =
        (100..2_000).filter(|seq| seq % 3 != 0).map(|seq| (Seq(seq), kept(&body(seq)))).collect();
    for bytes in [1, 100, 5_000, 64 << 10, 1 << 30] {
        assert_eq!(read_all(&file, &found[0], bytes), Ok(vec![(Seq(7), kept(b"one"))]));
        assert_eq!(read_all(&file, &found[1], bytes).expect("sound"), expected);
        assert_eq!(read_all(&file, &found[2], bytes).expect("sound")[0].1.payload.len(), 300_000);
    }
}

#[test]
fn a_window_begins_at_the_place_wanted_or_behind_it() {
    let (bytes, entry, extents) = sample();
    let (_dir, disk) = disk_with(&bytes);
    let (file, _) = SettledFile::open(&disk, STORE, entry).expect("sound");
    for from in [0, 99, 100, 101, 102, 777, 1_998, 1_999, 2_000, 9_999] {
        let window = file.window(&extents[1], Seq(from), 1).expect("sound");
        let first = (from.max(100)..2_000).find(|seq| seq % 3 != 0);
        assert_eq!(window.records.first().map(|(seq, _)| seq.0), first, "from {from}");
    }
}

#[test]
fn no_flipped_byte_goes_unseen() {
    let (bytes, entry, extents) = sample();
    let mut rng = Rng::with_seed(5);
    let sound: Vec<_> = {
        let (_dir, disk) = disk_with(&bytes);
        let (file, _) = SettledFile::open(&disk, STORE, entry).expect("sound");
        extents.iter().map(|extent| read_all(&file, extent, 50_000).expect("sound")).collect()
    };
    let mut seen = (0, 0);
    for round in 0..400 {
        let mut damaged = bytes.clone();
        // The ends are small: they get their share.
        let at = match round % 4 {
            0 => rng.usize(..HEADER_BYTES),
            1 => bytes.len() - 1 - rng.usize(..3_000),
            _ => rng.usize(..bytes.len()),
        };
        damaged[at] ^= 1 << rng.u8(..8);
        let (_dir, disk) = disk_with(&damaged);
        match SettledFile::open(&disk, STORE, entry) {
            Err(Error::Damage { .. } | Error::NewerFormat { .. }) => seen.0 += 1,
            Err(other) => panic!("{other}"),
            Ok((file, found)) => {
                assert_eq!(found, extents, "a flip at {at}");
                let mut noticed = false;
                for (extent, sound) in found.iter().zip(&sound) {
                    match read_all(&file, extent, 50_000) {
                        Ok(read) => assert_eq!(&read, sound, "a flip at {at}"),
                        Err(why) => noticed |= why.contains("settled-0000000004.set"),
                    }
                }
                assert!(noticed, "a flip at {at} was not noticed");
                seen.1 += 1;
            }
        }
    }
    assert!(seen.0 > 100 && seen.1 > 100, "{seen:?}");
}

#[test]
fn behind_a_damaged_record_the_next_mark_is_found() {
    let (mut bytes, entry, extents) = sample();
    let extent = extents[1];
    let (_sound_dir, disk) = disk_with(&bytes);
    let (file, _) = SettledFile::open(&disk, STORE, entry).expect("sound");
    let sound = read_all(&file, &extent, 1 << 20).expect("sound");
    // Somewhere in the 400th record.
    let at: usize = extent.offset as usize
        + sound[..400].iter().map(|(_, body)| body.stored().put_bytes()).sum::<usize>();
    bytes[at + 20] ^= 4;
    let (_dir, disk) = disk_with(&bytes);
    let (file, _) = SettledFile::open(&disk, STORE, entry).expect("its footer is sound");
    let window = file.window(&extent, extent.first, 1 << 20).expect("readable");
    assert_eq!(window.records, sound[..400]);
    let said = format!("settled-0000000004.set is damaged at offset {at}: a record's checksum");
    assert!(window.broken.as_ref().is_some_and(|broken| broken.starts_with(&said)), "{:?}", window.broken);
    // Marks stand before every 128th record.
    assert_eq!(window.upto, Some(sound[512].0));
    let rest = file.window(&extent, sound[512].0, 1 << 20).expect("readable");
    assert_eq!((rest.records, rest.broken), (sound[512..].to_vec(), None));
}

#[test]
fn another_file_is_not_taken_for_it() {
    let (bytes, entry, _) = sample();
    let (_dir, disk) = disk_with(&bytes);
    let error = |store, entry| SettledFile::open(&disk, store, entry).expect_err("not it").to_string();
    assert!(error(STORE + 1, entry).contains("not the settled segment"), "{}", error(STORE + 1, entry));
    let other = SettledEntry { footer_crc: entry.footer_crc ^ 1, ..entry };
    assert!(error(STORE, other).contains("not the settled segment"));
    let longer = SettledEntry { bytes: entry.bytes + 1, ..entry };
    assert!(error(STORE, longer).contains("bytes long"), "{}", error(STORE, longer));
    let missing = SettledEntry { file: FileId(5), ..entry };
    assert!(error(STORE, missing).contains("settled-0000000005.set is damaged at offset 0: it is missing"));
    let disk: Arc<dyn Disk> = Arc::new(disk);
    drop(disk);
}

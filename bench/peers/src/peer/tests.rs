use super::*;

/// Each takes records from several writers, and its directory is then not empty.
#[test]
fn each_takes_records_of_several_writers() {
    for kind in ALL {
        for writers in [1, 3] {
            if kind.left_out(writers).is_some() {
                continue;
            }
            let directory = tempfile::tempdir().unwrap();
            // Large ones may be prepared.
            let open = kind.open(directory.path(), writers).unwrap();
            let write = |index| {
                let mut writer = open.writer(index).unwrap();
                std::thread::spawn(move || {
                    for number in 0..20u8 {
                        writer.append(&[number; 100]).unwrap();
                    }
                })
            };
            let threads: Vec<_> = (0..kind.writers(writers)).map(write).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            drop(open);
            let bytes = bytes_of(directory.path());
            assert!(bytes >= kind.writers(writers) as u64 * 20 * 100, "{}: {bytes} bytes", kind.name());
        }
    }
}

fn bytes_of(directory: &Path) -> u64 {
    let each = std::fs::read_dir(directory).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        if meta.is_dir() { bytes_of(&entry.path()) } else { meta.len() }
    });
    each.sum()
}

#[test]
fn keys_are_in_the_order_of_each_writers_records() {
    assert!(key(1, 255) < key(1, 256));
    assert!(key(1, u64::MAX) < key(2, 0));
}

#[test]
fn the_names_are_each_their_own_and_what_groups_is_left_out_with_one_writer() {
    let mut names: Vec<_> = ALL.iter().map(|kind| kind.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALL.len());
    for kind in ALL {
        assert_eq!(kind.left_out(1).is_some(), kind.name().ends_with("grouped"), "{}", kind.name());
        assert_eq!(kind.left_out(2), None, "{}", kind.name());
    }
}

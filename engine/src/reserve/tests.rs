use super::*;
use crate::disk::SimDisk;

const PIECE: u64 = 8 * 4096;

/// Another disk that lets somebody else in right before a piece gets its other name, or goes: the keeper, which works on
/// a thread of its own, at the worst moment.
#[derive(Debug)]
struct Meanwhile<'a> {
    disk: &'a SimDisk,
    reserve: &'a Reserve,
    makes: u32,
}

impl Meanwhile<'_> {
    fn let_the_keeper_in(&self) {
        for _ in 0..self.makes {
            let _ = self.reserve.make(self.disk, 7, PIECE);
        }
    }
}

impl Disk for Meanwhile<'_> {
    fn list(&self) -> std::io::Result<Vec<(String, u64)>> {
        self.disk.list()
    }
    fn create(&self, name: &str, bytes: u64) -> std::io::Result<Arc<dyn DiskFile>> {
        self.disk.create(name, bytes)
    }
    fn open(&self, name: &str) -> std::io::Result<Arc<dyn DiskFile>> {
        self.disk.open(name)
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.let_the_keeper_in();
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.let_the_keeper_in();
        self.disk.remove(name)
    }
    fn sync_dir(&self) -> std::io::Result<()> {
        self.disk.sync_dir()
    }
    fn free_space(&self) -> std::io::Result<u64> {
        self.disk.free_space()
    }
}

fn reserve_of(disk: &SimDisk, pieces: usize) -> Reserve {
    let reserve = Reserve::default();
    for _ in 0..pieces {
        reserve.make(disk, 7, PIECE).expect("there is room");
    }
    reserve
}

/// Found by failing calls of the real server: the file under the settled segment's name was the keeper's new piece, and
/// what had been settled, and synced, had no name.
#[test]
fn a_piece_that_is_taken_over_is_the_file_under_its_new_name_whatever_the_keeper_makes_meanwhile() {
    for makes in [1, 2, 3] {
        let disk = SimDisk::default();
        let reserve = reserve_of(&disk, PIECES);
        let between = Meanwhile { disk: &disk, reserve: &reserve, makes };
        let file = reserve.take_over(&between, Purpose::Settling, "settled.tmp");
        let file = file.expect("nothing fails").expect("there is a piece");
        file.write_at(0, b"what lives").expect("there is room");
        let mut found = [0; 10];
        disk.open("settled.tmp").and_then(|named| named.read_at(0, &mut found)).expect("it stands there");
        assert_eq!(&found, b"what lives", "{makes} pieces were made meanwhile");
    }
}

#[test]
fn every_piece_that_is_counted_is_there_whatever_the_keeper_makes_while_one_is_given_up() {
    for makes in [1, 2, 3] {
        let disk = SimDisk::default();
        let reserve = reserve_of(&disk, PIECES);
        let between = Meanwhile { disk: &disk, reserve: &reserve, makes };
        assert!(reserve.give_up(&between, Purpose::Root));
        let there =
            disk.list().expect("no errors").into_iter().filter_map(|(name, _)| parse_reserve_name(&name));
        assert_eq!(there.collect::<BTreeSet<_>>(), lock(&reserve.pieces).there, "{makes} made meanwhile");
        assert_eq!(reserve.pieces(), PIECES - 1 + makes as usize);
    }
}

#[test]
fn a_name_is_free_again_once_its_piece_has_left() {
    let disk = SimDisk::default();
    let reserve = reserve_of(&disk, PIECES);
    reserve.take_over(&disk, Purpose::Root, "settled.tmp").expect("nothing fails");
    reserve.make(&disk, 7, PIECE).expect("there is room");
    let last = reserve_name(PIECES as u32);
    assert!(disk.list().expect("no errors").iter().any(|(name, _)| *name == last));
}

use super::*;
use crate::disk::{Disk, SimDisk};
use crate::ids::{QueueId, Seq};
use crate::record::Stored;
use crate::settings::Settings;
use crate::store::Store;

/// Longer than what is written, as a piece of the reserve may be.
const PIECE: u64 = 2 * SYNC_BYTES;

fn written(shared: &Shared, payload: usize) -> u64 {
    let mut output = Output::new(shared, SegmentNo(1));
    let payload = vec![7; payload];
    output.append(|builder, out| builder.push(QueueId(1), Seq(1), Stored::whole(&payload), out));
    loop {
        if let Some(finished) = output.finish(shared).expect("nothing fails") {
            return finished.entry.bytes;
        }
    }
}

#[test]
fn what_a_piece_of_the_reserve_has_more_is_cut_off_also_where_all_that_was_written_is_synced_already() {
    let sim = SimDisk::default();
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    let (store, _workers, _) = Store::open(&disk, Settings::default()).expect("an empty directory");
    let shared = &store.shared;
    let beside = written(shared, 100) - 100;
    for bytes in [SYNC_BYTES - 1, SYNC_BYTES, SYNC_BYTES + 1] {
        shared.reserve.make(&sim, shared.store_id, PIECE).expect("there is room");
        shared.reserve.make(&sim, shared.store_id, PIECE).expect("there is room");
        shared.reserve.found_full();
        assert_eq!(written(shared, (bytes - beside) as usize), bytes);
        let length = |(name, length): &(String, u64)| name.ends_with(".set").then_some(*length);
        let newest = sim.list().expect("no errors").iter().filter_map(length).next_back();
        assert_eq!(newest, Some(bytes), "the manifest lists it with what was written");
    }
}

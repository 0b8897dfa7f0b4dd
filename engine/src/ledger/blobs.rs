//! Which bodies in blob files live, as of the newest durable frame: those that some live place's message names.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::blobs::BlobPlace;
use crate::ids::FileId;

/// Bodies by file and offset.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct LiveBlobs {
    bodies: BTreeMap<(FileId, u64), Use>,
    /// Those that have died since somebody asked.
    dead: Vec<BlobPlace>,
}

#[derive(Debug, PartialEq)]
struct Use {
    place: BlobPlace,
    /// Live places whose messages name it.
    targets: u64,
}

impl LiveBlobs {
    /// One more place names it.
    pub(super) fn name(&mut self, place: BlobPlace) {
        let used = self.bodies.entry((place.file, place.offset)).or_insert(Use { place, targets: 0 });
        used.targets += 1;
    }

    /// A place that named it is dead.
    pub(super) fn release(&mut self, place: BlobPlace) {
        let Entry::Occupied(mut used) = self.bodies.entry((place.file, place.offset)) else { return };
        used.get_mut().targets -= 1;
        if used.get().targets == 0 {
            used.remove();
            self.dead.push(place);
        }
    }

    /// Whether some live place's message names it.
    pub(crate) fn lives(&self, place: BlobPlace) -> bool {
        self.bodies.get(&(place.file, place.offset)).is_some_and(|used| used.place == place)
    }

    /// Whether bodies have died that nobody has asked for.
    pub(crate) fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    /// Bodies that have died since this was asked last.
    pub(crate) fn take_dead(&mut self) -> Vec<BlobPlace> {
        std::mem::take(&mut self.dead)
    }

    /// Those of one file.
    pub(crate) fn of_file(&self, file: FileId) -> impl Iterator<Item = BlobPlace> {
        self.bodies.range((file, 0)..=(file, u64::MAX)).map(|(_, used)| used.place)
    }

    /// The first one of a file from that offset on.
    pub(crate) fn next_of_file(&self, file: FileId, from: u64) -> Option<BlobPlace> {
        self.bodies.range((file, from)..=(file, u64::MAX)).next().map(|(_, used)| used.place)
    }

    /// Bytes of memory, about.
    pub(super) fn index_bytes(&self) -> u64 {
        (self.bodies.len() * (size_of::<(FileId, u64)>() + size_of::<Use>())) as u64
    }
}

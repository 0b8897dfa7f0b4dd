//! What a power loss takes.

use std::sync::{Arc, OnceLock};

use super::{NameChange, SECTOR_BYTES, World};

impl World {
    /// Asks, in a fixed order, for each unsynced sector, each unsynced length and each unsynced change of a name whether
    /// it survives. What does is durable.
    pub(super) fn lose_power(&mut self, survives: &mut dyn FnMut() -> bool) {
        self.version += 1;
        for contents in self.files.values_mut().filter(|contents| contents.is_unsynced()) {
            let contents = Arc::make_mut(contents);
            contents.hash = OnceLock::new();
            let (mut kept, mut lost) = (0, 0);
            for (sector, before) in std::mem::take(&mut contents.before) {
                if survives() {
                    kept += 1;
                    continue;
                }
                lost += 1;
                let start = sector * SECTOR_BYTES;
                let end = (start + before.len()).min(contents.bytes.len());
                contents.bytes[start..end].copy_from_slice(&before[..end - start]);
            }
            if contents.bytes.len() > contents.durable_len && !survives() {
                contents.bytes.truncate(contents.durable_len);
            }
            contents.durable_len = contents.bytes.len();
            self.stats.sectors_lost += lost;
            self.stats.torn += u64::from(kept > 0 && lost > 0);
        }
        let mut names = std::mem::take(&mut self.durable_names);
        for change in std::mem::take(&mut self.pending) {
            if !survives() {
                self.stats.names_lost += 1;
                continue;
            }
            match change {
                NameChange::Set { name, file } => drop(names.insert(name, file)),
                NameChange::Remove { name } => drop(names.remove(&name)),
                NameChange::Rename { from, to, file } => {
                    if names.get(&from) == Some(&file) {
                        names.remove(&from);
                    }
                    names.insert(to, file);
                }
            }
        }
        self.names.clone_from(&names);
        self.durable_names = names;
    }
}

//! A settled segment, read from its footer to its last mark.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Damage, READ_BYTES, Read, cannot_be_read};
use crate::error::Error;
use crate::ids::{QueueId, Seq};
use crate::ledger::Queue;
use crate::record;
use crate::settled::{Extent, SettledFile, read_footer};
use crate::shared::{Shared, lock};

/// Extents whose marks are read by one step.
const MARKS_AT_ONCE: usize = 256;

#[derive(Debug)]
pub(super) struct SettledScrub {
    file: Arc<SettledFile>,
    /// Once the footer was read: extents whose records are still to be read, in order of the file...
    extents: Option<VecDeque<Extent>>,
    /// ...and those whose marks are.
    marks: Vec<Extent>,
    /// Where the next record stands, and how long it is if it is known not to fit into what is read at a time.
    offset: u64,
    longer: u64,
    /// Of the first extent: records read, and the place behind the last of them.
    records: u32,
    behind: Option<Seq>,
    /// Something of the extent was passed over, so that its records cannot be counted.
    holed: bool,
}

impl SettledScrub {
    pub(super) fn new(file: Arc<SettledFile>) -> Self {
        Self {
            file,
            extents: None,
            marks: Vec::new(),
            offset: 0,
            longer: 0,
            records: 0,
            behind: None,
            holed: false,
        }
    }

    pub(super) fn advance(&mut self, shared: &Shared) -> Read {
        match &self.extents {
            None => self.read_footer(shared),
            Some(extents) if extents.is_empty() => self.read_marks(shared),
            Some(_) => self.read_records(shared),
        }
    }

    fn read_footer(&mut self, shared: &Shared) -> Read {
        let entry = self.file.entry;
        let footer =
            read_footer(self.file.file(), &self.file.name, entry.bytes).and_then(|(header, extents, crc)| {
                let same = header.store_id == shared.store_id
                    && header.file == entry.file
                    && crc == entry.footer_crc;
                let other = "it is not the settled segment that the manifest lists";
                if same { Ok(extents) } else { Err(Error::damage(&self.file.name, 0, other)) }
            });
        match footer {
            Ok(mut extents) => {
                extents.sort_unstable_by_key(|extent| extent.offset);
                let records: u64 = extents.iter().map(|extent| extent.bytes).sum();
                self.offset = extents.first().map_or(0, |extent| extent.offset);
                self.marks.clone_from(&extents);
                self.extents = Some(extents.into());
                Read { bytes: entry.bytes.saturating_sub(records), ..Read::default() }
            }
            Err(error) => {
                let (offset, what) = match error {
                    Error::Damage { offset, what, .. } => (offset, what),
                    error => (0, error.to_string()),
                };
                let what = format!("{what}; it is read by the index in memory, but not after a start");
                let damage = self.damage(offset, what, self.lives_in_all(shared));
                Read { damage: vec![damage], done: true, ..Read::default() }
            }
        }
    }

    fn read_records(&mut self, shared: &Shared) -> Read {
        let Some(extents) = &mut self.extents else { return Read::default() };
        let Some(end) = extents.back().map(|extent| extent.offset + extent.bytes) else {
            return Read::default();
        };
        let length = READ_BYTES.max(self.longer).min(end - self.offset);
        let mut part = vec![0; length as usize];
        let mut read = Read { bytes: length, ..Read::default() };
        if let Err(error) = self.file.file().read_at(self.offset, &mut part) {
            read.damage.extend(self.pass_over(
                shared,
                self.offset,
                self.offset + length,
                cannot_be_read(&error),
            ));
            return read;
        }
        // It does not push out of the page cache what somebody reads; that is mapped.
        self.file.file().will_not_read(self.offset, length);
        self.longer = 0;
        let start = self.offset;
        while let Some(extent) = self.extents.as_ref().and_then(|extents| extents.front()).copied() {
            if self.offset >= extent.offset + extent.bytes {
                if !self.holed && self.records != extent.records {
                    let what = format!("{} of its {} records are there", self.records, extent.records);
                    let lives = lives(shared, &extent, extent.first, extent.last.next());
                    read.damage.push(self.damage(extent.offset, what, lives));
                }
                self.next_extent();
                continue;
            }
            let at = (self.offset - start) as usize;
            let Some(rest) = part.get(at..).filter(|rest| !rest.is_empty()) else { break };
            let bad = match record::parse_put(rest) {
                Ok(Ok(put)) => {
                    let rises = self.behind.is_none_or(|behind| put.seq >= behind);
                    if put.queue == extent.queue && put.seq >= extent.first && put.seq <= extent.last && rises
                    {
                        self.offset += put.bytes as u64;
                        self.records += 1;
                        self.behind = Some(put.seq.next());
                        continue;
                    }
                    format!("place {} of queue {} does not belong there", put.seq, put.queue)
                }
                Ok(Err(length)) if self.offset + length as u64 <= extent.offset + extent.bytes => {
                    // It goes on behind what was read.
                    self.longer = length as u64;
                    break;
                }
                Ok(Err(_)) => "a record runs over its extent's end".to_owned(),
                Err(why) => why.to_string(),
            };
            read.damage.extend(self.pass_over(shared, self.offset, self.offset + 1, bad));
            if self.offset - start > part.len() as u64 {
                break;
            }
        }
        read.bytes = read.bytes.min((self.offset - start).max(1));
        read
    }

    /// Goes on at the first mark at or behind `upto`; says what lives between.
    fn pass_over(&mut self, shared: &Shared, offset: u64, upto: u64, what: String) -> Vec<Damage> {
        let mut damage = Vec::new();
        while let Some(extent) = self.extents.as_ref().and_then(|extents| extents.front()).copied() {
            let from = self.behind.unwrap_or(extent.first);
            let here = offset.max(extent.offset);
            // Marks that cannot be read either are told when it is their turn.
            let marks = self.file.marks(&extent).unwrap_or_default();
            let mark = marks.iter().find(|(_, at)| *at >= upto && *at > offset).copied();
            let next = mark.map_or(extent.last.next(), |(seq, _)| seq);
            damage.push(self.damage(here, what.clone(), lives(shared, &extent, from, next)));
            if let Some((seq, at)) = mark {
                (self.offset, self.behind, self.holed) = (at, Some(seq), true);
                return damage;
            }
            self.next_extent();
            match self.extents.as_ref().and_then(|extents| extents.front()) {
                Some(next) if next.offset < upto => {}
                next => {
                    self.offset = next.map_or(self.offset, |next| next.offset);
                    return damage;
                }
            }
        }
        damage
    }

    fn next_extent(&mut self) {
        if let Some(extents) = &mut self.extents {
            extents.pop_front();
            if let Some(next) = extents.front() {
                self.offset = self.offset.max(next.offset);
            }
        }
        (self.records, self.behind, self.holed) = (0, None, false);
    }

    fn read_marks(&mut self, shared: &Shared) -> Read {
        let mut read = Read::default();
        for _ in 0..MARKS_AT_ONCE {
            let Some(extent) = self.marks.pop() else {
                read.done = true;
                break;
            };
            if let Err(what) = self.file.marks(&extent) {
                let lives = lives(shared, &extent, extent.first, extent.last.next());
                read.damage.push(self.damage(extent.marks_at, what, lives));
            }
        }
        read
    }

    fn damage(&self, offset: u64, what: String, concerned: Vec<(QueueId, u64)>) -> Damage {
        Damage { file: self.file.name.clone(), offset, what, concerned }
    }

    fn lives_in_all(&self, shared: &Shared) -> Vec<(QueueId, u64)> {
        let ledger = lock(&shared.ledger);
        let here = |queue: &Queue| {
            let extents = queue.extents().iter().filter(|here| here.file == self.file.entry.file);
            extents.map(|here| queue.live_between(here.extent.first, here.extent.last.next())).sum()
        };
        ledger.queues.iter().map(|(id, queue)| (*id, here(queue))).filter(|(_, live)| *live > 0).collect()
    }
}

/// What lives of an extent between two places.
fn lives(shared: &Shared, extent: &Extent, from: Seq, upto: Seq) -> Vec<(QueueId, u64)> {
    let ledger = lock(&shared.ledger);
    let live = ledger.queues.get(&extent.queue).map_or(0, |queue| queue.live_between(from, upto));
    vec![(extent.queue, live)]
}

//! The verdict: what must be there after a damage, and what may be missing once it is said.

use std::collections::BTreeMap;

use bytes::Bytes;
use leveret_engine::Recovered;
use leveret_engine::offline::{Checked, FindingKind, Gap};

use super::history::{Files, Image, Message, Past};
use super::inflict::{Damage, Kind};
use super::layout::{Layout, Target};
use super::trial::Read;
use crate::checker::{Invariant, Violation};

/// A damaged store, and what is known of it.
#[derive(Debug)]
pub(super) struct Case<'a> {
    image: &'a Image,
    layout: &'a Layout,
    /// The damaged directory.
    files: &'a Files,
    damages: &'a [Damage],
}

pub(super) fn broken(invariant: Invariant, text: impl Into<String>) -> Violation {
    Violation { invariant, text: text.into() }
}

impl<'a> Case<'a> {
    pub(super) fn new(image: &'a Image, layout: &'a Layout, files: &'a Files, damages: &'a [Damage]) -> Self {
        Self { image, layout, files, damages }
    }

    fn past(&self) -> &Past {
        &self.image.past
    }

    /// Whether a message lives, whatever the damage.
    pub(super) fn lives(&self, at: (u64, u64)) -> bool {
        self.past().messages.get(&at).is_some_and(|message| Past::lived(message, self.past().commits))
    }

    /// The newest commit before what may be cut as a torn tail.
    fn proven(&self) -> u64 {
        let unproven = self.layout.unproven(&self.image.files, self.files);
        unproven.first().map_or(self.past().commits, |frame| frame.commits.0)
    }

    /// The newest commit that a store knows of.
    fn newest(&self, facts: &[(Bytes, Bytes)]) -> Result<u64, Violation> {
        let fact = facts.iter().find(|(key, _)| &key[..] == b"commit");
        let number = fact.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
        let number = if facts.is_empty() { Some(0) } else { number };
        number.ok_or_else(|| broken(Invariant::I7, "the fact that every commit sets is gone"))
    }

    /// Judges a store that opened as it was. True where its newest frames were cut.
    pub(super) fn served(&self, recovered: &Recovered, read: &Read) -> Result<bool, Violation> {
        let past = self.past();
        let newest = self.newest(&recovered.facts)?;
        let cut = newest < past.commits;
        if newest < self.proven() {
            let text = format!(
                "commits {} to {} are gone, and frames behind prove them; cut: {:?}",
                newest + 1,
                past.commits,
                recovered.report.cut
            );
            return Err(broken(Invariant::I12, text));
        }
        if cut && recovered.report.cut.is_none() && self.tells(newest) {
            let text = format!("commits {} to {} are cut, and nothing says so", newest + 1, past.commits);
            return Err(broken(Invariant::I12, text));
        }
        let gone = |commit: u64| commit > newest;
        self.sent(read)?;
        self.queues(recovered, &gone)?;
        self.facts(&recovered.facts, &gone)?;
        for (at, message) in &past.messages {
            let there = read.found.contains_key(at) || read.lost.contains_key(at);
            match (Past::lived(message, newest), there) {
                (true, false) => {
                    let text = format!("{at:?} is neither there nor said to be lost");
                    return Err(broken(Invariant::I12, text));
                }
                (false, true) => return Err(self.back(*at, message)),
                _ => {}
            }
        }
        Ok(cut)
    }

    /// Whether the front of the first frame that was hit behind a commit is whole enough to tell that there was one.
    fn tells(&self, newest: u64) -> bool {
        let mut cut = self.layout.frames.iter().filter(|frame| frame.commits.1 > newest);
        let Some(frame) = cut.find(|frame| frame.is_hit(&self.image.files, self.files)) else { return true };
        let header = |files: &Files| {
            files
                .get(&frame.file)
                .and_then(|bytes| bytes.get(frame.start..frame.start + 80))
                .map(<[u8]>::to_vec)
        };
        header(&self.image.files) == header(self.files)
    }

    /// Judges what a repair made, by what it said. Gives how many messages it said to be lost.
    pub(super) fn repaired(
        &self,
        told: &Checked,
        recovered: &Recovered,
        read: &Read,
    ) -> Result<u64, Violation> {
        let past = self.past();
        let (newest, proven) = (self.newest(&recovered.facts)?, self.proven());
        let in_gap = |commit: u64| {
            told.loss.gaps.iter().any(|gap| self.holds(gap, commit) || self.is_before(gap, commit))
        };
        self.honest(&told.loss.gaps)?;
        let cut = |commit: u64| commit > newest && commit > proven;
        let unknown = |commit: u64| cut(commit) || (told.loss.unknown_changes && in_gap(commit));
        self.sent(read)?;
        if let Some((at, why)) = read.lost.first_key_value() {
            return Err(broken(Invariant::I12, format!("after a repair {at:?} cannot be read: {why}")));
        }
        self.queues(recovered, &unknown)?;
        self.facts(&recovered.facts, &unknown)?;
        // Per queue: what is missing, and what of it nobody can count.
        let mut missing: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (at, message) in &past.messages {
            let found = read.found.contains_key(at);
            if !Past::lived(message, past.commits) {
                let excused = message.gone.is_some_and(unknown) || cut(message.put);
                if found && !excused {
                    return Err(self.back(*at, message));
                }
                // Its ack is lost with it: it may be counted.
                if !found && (in_gap(message.put) || message.gone.is_some_and(unknown)) {
                    missing.entry(at.0).or_default().1 += 1;
                }
            } else if !found {
                let (counted, uncounted) = missing.entry(at.0).or_default();
                *(if unknown(message.put) { uncounted } else { counted }) += 1;
            }
        }
        for ((id, _), _) in past.holes.iter().filter(|(_, commit)| in_gap(**commit)) {
            missing.entry(*id).or_default().1 += 1;
        }
        let mut sum = 0;
        let said: BTreeMap<u64, u64> = told.loss.messages.iter().map(|(id, lost)| (id.0, *lost)).collect();
        for id in past.queues.keys() {
            let (counted, uncounted) = missing.get(id).copied().unwrap_or_default();
            let said = said.get(id).copied().unwrap_or(0);
            let there = recovered.queues.iter().any(|queue| queue.queue.0 == *id);
            if there && !(counted..=counted + uncounted).contains(&said) {
                let text = format!(
                    "queue {id} lacks {counted} messages (and {uncounted} that nobody can count), but {said} are said to be lost"
                );
                return Err(broken(Invariant::I12, text));
            }
            sum += said;
        }
        Ok(sum)
    }

    /// Whether a commit stood in frames of a gap.
    fn holds(&self, gap: &Gap, commit: u64) -> bool {
        let within = |number: u64| number >= gap.first.0 && gap.last.is_none_or(|last| number <= last.0);
        let of = |at: &(u64, u64)| at.0 < commit && commit <= at.1;
        // Where the last one is not known, it is one of the same file.
        let there = |file: &str| gap.last.is_some() || gap.file == file || !self.files.contains_key(file);
        self.layout
            .frames
            .iter()
            .any(|frame| of(&frame.commits) && within(frame.number) && there(&frame.file))
    }

    /// Whether a gap reaches back to before the log, and a commit stood in frames that have left it since: where the newest
    /// checkpoints are lost as well, nothing else says what it did.
    fn is_before(&self, gap: &Gap, commit: u64) -> bool {
        let oldest = self.layout.frames.first();
        oldest.is_some_and(|frame| gap.first.0 < frame.number && commit <= frame.commits.0)
    }

    /// Nothing is given up that was not hit. Where what is whole stands in the wrong place, its neighbours may be given up
    /// with it; and where the headers of files are gone beside the manifest, nobody knows what the files are.
    fn honest(&self, gaps: &[Gap]) -> Result<(), Violation> {
        let moves = [Kind::Swapped, Kind::LostWrite, Kind::OldPutBack, Kind::StaleTail];
        let manifest = self.damages.iter().any(|damage| damage.target == Target::Manifest);
        if self.damages.iter().any(|damage| moves.contains(&damage.kind))
            || (manifest && self.damages.len() > 1)
        {
            return Ok(());
        }
        for gap in gaps {
            for commit in 1..=self.past().commits {
                if !self.holds(gap, commit) {
                    continue;
                }
                let of = |at: &(u64, u64)| at.0 < commit && commit <= at.1;
                let mut group = self.layout.frames.iter().filter(|frame| of(&frame.commits));
                if !group.any(|frame| frame.is_hit(&self.image.files, self.files)) {
                    let text = format!("commit {commit} is given up with {gap:?}, but its frames are whole");
                    return Err(broken(Invariant::I12, text));
                }
            }
        }
        Ok(())
    }

    /// I3: nothing is there that was not put there.
    fn sent(&self, read: &Read) -> Result<(), Violation> {
        for (at, payload) in &read.found {
            match self.past().messages.get(at) {
                None => return Err(broken(Invariant::I3, format!("{at:?} was never put"))),
                Some(message) if message.payload != *payload => {
                    return Err(broken(Invariant::I3, format!("{at:?} is not what was put there")));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn back(&self, at: (u64, u64), message: &Message) -> Violation {
        let deleted = self.past().queues.get(&at.0).is_some_and(|queue| queue.deleted == message.gone);
        let invariant = if deleted { Invariant::I7 } else { Invariant::I2 };
        broken(invariant, format!("{at:?} is back, which was gone with commit {:?}", message.gone))
    }

    /// Exactly the queues that were there, but for what `unknown` commits did.
    fn queues(&self, recovered: &Recovered, unknown: &dyn Fn(u64) -> bool) -> Result<(), Violation> {
        for queue in &recovered.queues {
            let id = queue.queue.0;
            let Some(past) = self.past().queues.get(&id) else {
                return Err(broken(Invariant::I3, format!("queue {id} was never made")));
            };
            if past.deleted.is_some_and(|commit| !unknown(commit)) {
                return Err(broken(Invariant::I7, format!("queue {id} is back, which was deleted")));
            }
        }
        for (id, queue) in &self.past().queues {
            let there = recovered.queues.iter().any(|found| found.queue.0 == *id);
            if !there && Past::was_there(queue, self.past().commits) && !unknown(queue.created) {
                return Err(broken(Invariant::I7, format!("queue {id} is gone")));
            }
        }
        Ok(())
    }

    /// Every fact as it was, but for what `unknown` commits did: then as it was at any time before.
    fn facts(&self, facts: &[(Bytes, Bytes)], unknown: &dyn Fn(u64) -> bool) -> Result<(), Violation> {
        let past = self.past();
        for key in past.facts.keys().chain(facts.iter().map(|(key, _)| key)) {
            let found = facts.iter().find(|(found, _)| found == key).map(|(_, value)| value);
            let mut changes = past.facts.get(key).into_iter().flatten().rev();
            // The newest change that is known, and those behind it.
            let excused = changes.by_ref().take_while(|(commit, _)| unknown(*commit));
            let may = excused.map(|(_, value)| value.as_ref()).any(|value| value == found);
            let last_known =
                past.facts.get(key).into_iter().flatten().rev().find(|(commit, _)| !unknown(*commit));
            if !may && last_known.and_then(|(_, value)| value.as_ref()) != found {
                let text = format!("fact {key:?} is {found:?}, but was {:?}", past.fact(key, past.commits));
                return Err(broken(Invariant::I7, text));
            }
        }
        Ok(())
    }

    /// Nothing is deleted on suspicion: every file that is said to be damaged is still there, whatever its name.
    pub(super) fn kept(&self, checked: &Checked, now: &Files, who: &str) -> Result<(), Violation> {
        for finding in checked.findings.iter().filter(|finding| finding.kind == FindingKind::Damage) {
            let Some(bytes) = self.files.get(&finding.file) else { continue };
            if !now.values().any(|there| there == bytes) {
                return Err(broken(Invariant::I12, format!("{} is gone after {who}", finding.file)));
            }
        }
        Ok(())
    }
}

//! What is sound, replayed into a ledger in memory; what is missing, counted.
//!
//! The start is the newest sound checkpoint; the log always reaches back to the cut of either kept one (E2). From
//! there all sound groups are applied in order. A group of which a part is gone is void, like half a batch (E4). Then:
//!
//! - A place that should live but whose record was not found is lost: it is made dead, and counted.
//! - What a gap behind the cut said (acks, purges, deletions, facts, creations, new messages at the end) is unknown.
//! - Messages for a queue whose creation is gone cannot be served, since nothing names that queue.

use std::collections::{BTreeMap, BTreeSet};

use super::settled::Looked;
use super::walk::Walked;
use super::{Finding, FindingKind, Gap, Loss, survey::Survey};
use crate::error::Result;
use crate::format::BLOCK_BYTES;
use crate::group::Gather;
use crate::ids::{FrameNo, QueueId, SegmentNo, Seq};
use crate::ledger::{Facts, Ledger};
use crate::ranges::Places;
use crate::record::{self, Record};

/// What is left of a store.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    /// The state, with what is lost made dead.
    pub(super) ledger: Ledger,
    pub(super) loss: Loss,
    pub(super) records: u64,
    pub(super) settled_records: u64,
    /// Per queue, what lives of damaged or missing settled segments and stands in the log still.
    pub(super) rescued: BTreeMap<QueueId, Places>,
    /// Sound bodies in blob files that live.
    pub(super) blobs: u64,
    pub(super) replay_compared: bool,
    /// Name of the checkpoint it started from.
    pub(super) base: Option<String>,
    /// Per segment, the frames that make up whole groups: ranges of indexes.
    pub(super) groups: Vec<Vec<(usize, usize)>>,
}

/// Under way through the log.
struct Replay {
    ledger: Ledger,
    /// The checkpoint's cut.
    cut: FrameNo,
    next_queue: QueueId,
    created: BTreeSet<QueueId>,
    /// Per queue, the places whose records were found.
    found: BTreeMap<QueueId, Places>,
    /// Those in log segments that are settled and were not recycled yet.
    below: BTreeMap<QueueId, Places>,
    nameless: BTreeMap<QueueId, u64>,
    /// The state of an earlier checkpoint, brought up to the newest one's cut for comparison.
    earlier: Option<(Ledger, Said)>,
    records: u64,
}

/// What a checkpoint says, as far as it is compared.
struct Said {
    facts: Facts,
    /// Queue, its next place, and how many live.
    queues: Vec<(QueueId, Seq, u64)>,
}

/// Replays what a survey found. Findings are added to the survey's.
pub(super) fn salvage(survey: &mut Survey) -> Result<Salvage> {
    let mut salvage = Salvage::default();
    if survey.beyond_repair.is_some() {
        return Ok(salvage);
    }
    let mut gaps: Vec<_> = survey.segments.iter().flat_map(|walked| walked.gaps.iter().cloned()).collect();
    gaps.append(&mut survey.lost_frames);
    let oldest = survey.checkpoints.last().zip(survey.segments.first().filter(|_| survey.rebuilt));
    if let Some((base, oldest)) = oldest
        && oldest.entry.first_frame > base.checkpoint.ledger.cut.next()
    {
        // What the newest run of segments does not reach back to is lost, if there was anything.
        let (file, why) = (oldest.name.clone(), "no log segment that leads there is left".to_owned());
        let first = base.checkpoint.ledger.cut.next();
        let last = Some(FrameNo(oldest.entry.first_frame.0 - 1));
        survey.findings.push(Finding::new(
            FindingKind::Damage,
            &file,
            0,
            format!("{why}: from frame {first} to it"),
        ));
        gaps.push(Gap { file, offset: 0, bytes: 0, first, last, why });
    }
    gaps.sort_by_key(|gap| gap.first);
    let whole_log = survey.segments.first().is_none_or(|walked| walked.entry.first_frame == FrameNo(1));
    let mut checkpoints = std::mem::take(&mut survey.checkpoints);
    let base = checkpoints.pop();
    if base.is_none() && !survey.never_checkpointed && !whole_log {
        survey.beyond_repair = Some(
            "no checkpoint is sound, and the log does not reach back to the store's beginning: what queues there are \
             is not known any more. Nothing can be done with this directory alone; go back to a copy"
                .to_owned(),
        );
        return Ok(salvage);
    }
    let damage_in_log = !gaps.is_empty() || survey.segments.iter().any(|walked| walked.damaged);
    let mut replay = Replay::new(Ledger::new());
    if let Some(base) = base {
        replay = Replay::new(base.checkpoint.ledger);
        let earlier = match checkpoints.pop() {
            Some(earlier) if !damage_in_log && !survey.rebuilt => Some(earlier.checkpoint.ledger),
            _ => None,
        };
        replay.earlier = earlier.map(|earlier| (earlier, Said::by(&replay.ledger)));
        salvage.base = Some(base.name);
    }
    replay.ledger.settled_below = survey.state.settled_below;
    if let Some((earlier, _)) = &mut replay.earlier {
        earlier.settled_below = survey.state.settled_below;
    }
    for looked in &survey.settled {
        salvage.settled_records += looked.count;
        for (queue, places) in &looked.places {
            replay.found.entry(*queue).or_default().add(places);
        }
    }
    let mut last = FrameNo(0);
    for walked in &survey.segments {
        let groups = replay.segment(walked, &mut last, &mut survey.findings)?;
        salvage.groups.push(groups);
    }
    salvage.loss.unknown_changes = gaps.iter().any(|gap| gap.last.is_none_or(|last| last > replay.cut))
        || (survey.rebuilt && damage_in_log);
    salvage.loss.gaps = gaps;
    if let Some((earlier, said)) = replay.earlier.take() {
        salvage.replay_compared = true;
        if let Some((file, what)) = salvage.base.as_ref().zip(said.differs(&Said::by(&earlier))) {
            survey.findings.push(Finding::new(FindingKind::Damage, file, 0, what));
        }
    }
    salvage.records = replay.records;
    replay.finish(&survey.settled, &mut salvage);
    // Where the log that put a message is damaged, its settled record says what body it names.
    for (queue, seq, place) in survey.settled.iter().flat_map(super::settled::Looked::named) {
        salvage.ledger.name_blob(queue, seq, place);
    }
    Ok(salvage)
}

impl Replay {
    fn new(ledger: Ledger) -> Self {
        Self {
            cut: ledger.cut,
            next_queue: ledger.next_queue,
            ledger,
            created: BTreeSet::new(),
            found: BTreeMap::new(),
            below: BTreeMap::new(),
            nameless: BTreeMap::new(),
            earlier: None,
            records: 0,
        }
    }

    /// Applies a segment's whole groups; says which frames they consist of.
    fn segment(
        &mut self,
        walked: &Walked,
        last: &mut FrameNo,
        findings: &mut Vec<Finding>,
    ) -> Result<Vec<(usize, usize)>> {
        let mut groups = Vec::new();
        let mut gather = Gather::default();
        let (mut start, mut block, mut before) = (0, 0, FrameNo(0));
        for (index, good) in walked.frames.iter().enumerate() {
            if good.number <= *last {
                // A recovery that was cut off copied it, and it was read there.
                continue;
            }
            let frame = walked.read(good)?;
            if good.number != before.next() {
                gather = Gather::default();
            }
            before = good.number;
            if frame.header.group_first == good.number {
                (start, block) = (index, (good.offset / BLOCK_BYTES as u64) as u32);
            }
            let Some(payload) = gather.push(&frame) else { continue };
            *last = good.number;
            match record::decode_group(payload) {
                Ok(records) => {
                    groups.push((start, index));
                    self.group(walked, block, good.number, records);
                }
                Err(why) => {
                    let what = format!("frame {}: {why}", good.number);
                    findings.push(Finding::new(FindingKind::Damage, &walked.name, good.offset, what));
                }
            }
        }
        Ok(groups)
    }

    fn group(&mut self, walked: &Walked, block: u32, number: FrameNo, records: Vec<Record>) {
        let segment = walked.entry.no;
        self.records += records.len() as u64;
        for record in records {
            match &record {
                Record::Put { targets, .. } => {
                    for &(queue, seq) in targets {
                        self.put(segment, queue, seq, number);
                    }
                }
                Record::QueueCreated { queue } => drop(self.created.insert(*queue)),
                Record::QueueDeleted { queue } => drop(self.nameless.remove(queue)),
                Record::Ack { .. } | Record::Fact { .. } | Record::Unfact { .. } => {}
            }
            if number <= self.cut {
                if let Some((earlier, _)) = &mut self.earlier
                    && number > earlier.cut
                {
                    earlier.apply_record(segment, block, record.clone());
                }
                self.ledger.index_record(segment, block, &record);
            } else {
                self.ledger.apply_record(segment, block, record);
            }
        }
        self.ledger.cut = self.ledger.cut.max(number);
    }

    fn put(&mut self, segment: SegmentNo, queue: QueueId, seq: Seq, number: FrameNo) {
        // What is settled is looked for in settled segments (E2), and in the log only when it is not there.
        let settled = segment < self.ledger.settled_below;
        let there = if settled { &mut self.below } else { &mut self.found };
        there.entry(queue).or_default().insert(seq, seq);
        if number > self.cut && queue >= self.next_queue && !self.created.contains(&queue) {
            *self.nameless.entry(queue).or_default() += 1;
        }
    }

    /// Makes dead what is lost, and counts it.
    fn finish(mut self, settled: &[Looked], salvage: &mut Salvage) {
        let mut spans: BTreeMap<QueueId, Places> = BTreeMap::new();
        for (queue, places) in
            settled.iter().filter(|looked| !looked.damaged).flat_map(|looked| &looked.spans)
        {
            spans.entry(*queue).or_default().add(places);
        }
        // What a settled segment holds was put, also where the log that said so is damaged: its places and its queue's id
        // must not be given out again.
        for (&id, places) in &self.found {
            self.ledger.next_queue = self.ledger.next_queue.max(id.next());
            if let (Some(queue), Some(last)) = (self.ledger.queues.get_mut(&id), places.last()) {
                queue.next = queue.next.max(last.next());
            }
        }
        let none = Places::default();
        for (&id, queue) in &mut self.ledger.queues {
            // An ack of a lost message names a place that no sound put does: it must not be given out again.
            let highest = queue.dead.last().map_or(queue.head, |dead| queue.head.max(dead.next()));
            queue.next = queue.next.max(highest);
            if queue.live() == 0 {
                continue;
            }
            let found = self.found.get(&id).unwrap_or(&none);
            let mut lost = Places::outside(queue.head, Seq(queue.next.0 - 1), &queue.dead, found);
            if let Some(spans) = spans.get(&id) {
                // What a sound extent leaves out was dead when it was written, whatever became of the ack since.
                let dead = Places::both(&lost, spans);
                lost.take_out(&dead);
                for (first, last) in dead.to_ranges() {
                    queue.kill(first, last);
                }
            }
            if let Some(below) = self.below.get(&id) {
                let rescued = Places::both(&lost, below);
                lost.take_out(&rescued);
                if !rescued.is_empty() {
                    salvage.rescued.insert(id, rescued);
                }
            }
            if lost.is_empty() {
                continue;
            }
            salvage.loss.messages.push((id, lost.len()));
            for (first, last) in lost.to_ranges() {
                queue.kill(first, last);
            }
        }
        for &id in self.nameless.keys() {
            self.ledger.next_queue = self.ledger.next_queue.max(id.next());
        }
        salvage.loss.nameless = self.nameless.into_iter().collect();
        salvage.ledger = self.ledger;
    }
}

impl Said {
    fn by(ledger: &Ledger) -> Self {
        let queues = ledger.queues.iter().map(|(id, queue)| (*id, queue.next, queue.live()));
        Self { facts: ledger.facts.clone(), queues: queues.collect() }
    }

    /// In words, how the log adds up to something else.
    fn differs(&self, log: &Self) -> Option<String> {
        if self.facts != log.facts {
            return Some("its facts are not those that the log adds up to".into());
        }
        if self.queues == log.queues {
            return None;
        }
        let pair = self.queues.iter().zip(&log.queues).find(|(said, added)| said != added);
        Some(match pair {
            Some(((id, next, live), (log_id, log_next, log_live))) => format!(
                "it says that queue {id} holds {live} messages and its next place is {next}; the log adds up to \
                 {log_live} and {log_next} for queue {log_id}"
            ),
            None => "its queues are not those that the log adds up to".into(),
        })
    }
}

//! Reports of the offline commands, for people and as JSON. Never a message, never a fact's value.

use std::collections::BTreeMap;
use std::io::{self, Write};

use leveret_broker::record::fact::Fact;
use leveret_engine::offline::{Checked, Finding, FindingKind, Inspected, LeaveOut};
use serde_json::{Value, json};

/// Queue ids to names, as far as facts tell.
fn names(checked: &Checked) -> BTreeMap<u64, String> {
    let decoded = checked.facts.iter().filter_map(|(key, value)| Fact::decode(key, value).ok());
    decoded
        .filter_map(|fact| match fact {
            Fact::Queue(queue) if queue.vhost == "/" => Some((queue.queue, queue.name)),
            Fact::Queue(queue) => Some((queue.queue, format!("{} of vhost {}", queue.name, queue.vhost))),
            _ => None,
        })
        .collect()
}

/// The report of a check.
pub(super) fn checked(out: &mut impl Write, checked: &Checked) -> io::Result<()> {
    if checked.files == 0 {
        return writeln!(out, "There is no store here.");
    }
    let names = names(checked);
    let named = |id: u64| names.get(&id).map_or_else(|| format!("queue {id}"), |name| format!("'{name}'"));
    for finding in &checked.findings {
        writeln!(out, "{}: {}", kind(finding.kind), place(finding))?;
    }
    writeln!(
        out,
        "Store {:016x}, epoch {}{}: {} files, {} manifest edits, {} sound checkpoints, {} log segments, {} frames, \
         {} records, {} bytes of log.",
        checked.store_id,
        checked.epoch,
        if checked.clean { ", closed cleanly" } else { "" },
        checked.files,
        checked.edits,
        checked.checkpoints,
        checked.segments,
        checked.frames,
        checked.records,
        checked.log_bytes
    )?;
    for queue in &checked.queues {
        let lost = if queue.lost > 0 { format!(", {} lost", queue.lost) } else { String::new() };
        writeln!(out, "  {}: {} messages{lost}", named(queue.queue.0), queue.live)?;
    }
    let loss = &checked.loss;
    for gap in &loss.gaps {
        let frames = match gap.last {
            Some(last) if last == gap.first => format!("frame {last}"),
            Some(last) => format!("frames {} to {last}", gap.first),
            None => format!("what followed from frame {} on", gap.first),
        };
        writeln!(
            out,
            "Gone: {frames} ({} at offset {}, {} bytes): {}",
            gap.file, gap.offset, gap.bytes, gap.why
        )?;
    }
    for (queue, count) in &loss.messages {
        writeln!(out, "Lost: {count} messages of {}", named(queue.0))?;
    }
    for (queue, count) in &loss.nameless {
        writeln!(out, "Lost: {count} messages of queue {queue}, whose declaration is gone")?;
    }
    if loss.unknown_changes {
        writeln!(
            out,
            "What acks, purges, declarations, deletions and new messages stood there is not known: messages acked \
             there come back, what was deleted there is there again."
        )?;
    }
    match (&checked.beyond_repair, checked.sound) {
        (Some(why), _) => writeln!(out, "The store is damaged beyond what `leveret repair` can do: {why}"),
        (None, true) => writeln!(out, "The store is sound."),
        (None, false) => writeln!(out, "The store needs `leveret repair`."),
    }
}

/// The same as JSON.
pub(super) fn checked_json(checked: &Checked) -> Value {
    let names = names(checked);
    let name = |id: u64| names.get(&id);
    let loss = &checked.loss;
    json!({
        "sound": checked.sound,
        "store_id": format!("{:016x}", checked.store_id),
        "epoch": checked.epoch.0,
        "clean": checked.clean,
        "files": checked.files,
        "edits": checked.edits,
        "checkpoints": checked.checkpoints,
        "segments": checked.segments,
        "frames": checked.frames,
        "records": checked.records,
        "log_bytes": checked.log_bytes,
        "replay_compared": checked.replay_compared,
        "facts": checked.facts.len(),
        "queues": checked.queues.iter().map(|queue| json!({
            "queue": queue.queue.0, "name": name(queue.queue.0), "messages": queue.live, "lost": queue.lost,
        })).collect::<Vec<_>>(),
        "findings": checked.findings.iter().map(|finding| json!({
            "kind": kind(finding.kind), "file": finding.file, "offset": finding.offset, "what": finding.what,
        })).collect::<Vec<_>>(),
        "loss": {
            "gaps": loss.gaps.iter().map(|gap| json!({
                "file": gap.file, "offset": gap.offset, "bytes": gap.bytes, "first_frame": gap.first.0,
                "last_frame": gap.last.map(|last| last.0), "why": gap.why,
            })).collect::<Vec<_>>(),
            "messages": counts(&loss.messages),
            "nameless": counts(&loss.nameless),
            "unknown_changes": loss.unknown_changes,
        },
        "beyond_repair": checked.beyond_repair,
    })
}

/// What a repair leaves out because what it speaks of is gone.
pub(super) fn left_out(out: &mut impl Write, left_out: &LeaveOut) -> io::Result<()> {
    for key in &left_out.facts {
        writeln!(out, "Left out: {}, since what it speaks of is gone", key.escape_ascii())?;
    }
    for queue in &left_out.queues {
        writeln!(out, "Left out: queue {queue}, which nothing names any more, with its messages")?;
    }
    Ok(())
}

/// The same as JSON.
pub(super) fn left_out_json(left_out: &LeaveOut) -> Value {
    json!({
        "facts": left_out.facts.iter().map(|key| key.escape_ascii().to_string()).collect::<Vec<_>>(),
        "queues": left_out.queues.iter().map(|queue| queue.0).collect::<Vec<_>>(),
    })
}

/// Which pieces of an inspection are shown.
pub(super) struct Filter {
    segment: Option<u64>,
    frames_left: Option<u64>,
    here: bool,
}

impl Filter {
    pub(super) fn new(segment: Option<u64>, limit: Option<u64>) -> Self {
        Self { segment, frames_left: limit, here: true }
    }

    /// Whether to show the next piece.
    pub(super) fn shows(&mut self, piece: &Inspected) -> bool {
        match piece {
            Inspected::Segment(segment) => {
                self.here = self.segment.is_none_or(|wanted| wanted == segment.segment.0);
                self.here
            }
            Inspected::Frame(_) if self.here => match &mut self.frames_left {
                Some(0) => false,
                Some(left) => {
                    *left -= 1;
                    true
                }
                None => true,
            },
            Inspected::Frame(_) => false,
            Inspected::Edit(..) | Inspected::Checkpoint(_) | Inspected::Trouble(_) => true,
        }
    }

    /// Nothing more is wanted.
    pub(super) fn done(&self) -> bool {
        self.frames_left == Some(0)
    }
}

/// One piece of an inspection.
pub(super) fn piece(out: &mut impl Write, piece: &Inspected, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", piece_json(piece));
    }
    match piece {
        Inspected::Edit(number, what) => writeln!(out, "edit {number}: {what}"),
        Inspected::Checkpoint(c) => {
            let (file, cut, epoch) = (&c.file, c.cut, c.epoch);
            writeln!(
                out,
                "checkpoint {file}: up to frame {cut}, written in epoch {epoch}, {} facts, next queue {}",
                c.facts, c.next_queue
            )?;
            for (queue, next, head, live) in &c.queues {
                writeln!(out, "  queue {queue}: next place {next}, first live {head}, {live} live")?;
            }
            Ok(())
        }
        Inspected::Segment(s) => {
            let end = match s.end {
                Some((last, bytes)) => format!("ended with frame {last} at offset {bytes}"),
                None => "open".to_owned(),
            };
            writeln!(out, "segment {} in {}: from frame {}, {end}", s.segment, s.file, s.first_frame)
        }
        Inspected::Frame(f) => {
            let group = match (f.group_first == f.number, f.closes) {
                (true, true) => String::new(),
                (_, true) => format!(" closes the group of frame {}", f.group_first),
                (_, false) => format!(" of the group of frame {}", f.group_first),
            };
            let k = &f.kinds;
            let kinds = [
                ("puts", k.puts),
                ("acks", k.acks),
                ("facts", k.facts),
                ("facts removed", k.unfacts),
                ("queues created", k.queues_created),
                ("queues deleted", k.queues_deleted),
            ];
            let kinds: String =
                kinds.iter().filter(|k| k.1 > 0).map(|(name, n)| format!(", {n} {name}")).collect();
            writeln!(
                out,
                "  {:>10}  frame {}{group}: epoch {}, {} bytes in {}, durable up to {}, edit {}{kinds}",
                f.offset, f.number, f.epoch, f.payload_bytes, f.bytes, f.durable_upto, f.edit
            )
        }
        Inspected::Trouble(what) => writeln!(out, "! {what}"),
    }
}

fn piece_json(piece: &Inspected) -> Value {
    match piece {
        Inspected::Edit(number, what) => json!({ "piece": "edit", "number": number.0, "what": what }),
        Inspected::Checkpoint(c) => json!({
            "piece": "checkpoint", "file": c.file, "cut": c.cut.0, "epoch": c.epoch.0, "facts": c.facts,
            "next_queue": c.next_queue.0,
            "queues": c.queues.iter().map(|(queue, next, head, live)| json!({
                "queue": queue.0, "next": next, "head": head, "messages": live,
            })).collect::<Vec<_>>(),
        }),
        Inspected::Segment(s) => json!({
            "piece": "segment", "segment": s.segment.0, "file": s.file, "first_frame": s.first_frame.0,
            "last_frame": s.end.map(|(last, _)| last.0), "end_bytes": s.end.map(|(_, bytes)| bytes),
        }),
        Inspected::Frame(f) => json!({
            "piece": "frame", "offset": f.offset, "number": f.number.0, "epoch": f.epoch.0,
            "group_first": f.group_first.0, "closes": f.closes, "bytes": f.bytes, "payload_bytes": f.payload_bytes,
            "durable_upto": f.durable_upto.0, "edit": f.edit.0, "puts": f.kinds.puts, "acks": f.kinds.acks,
            "facts": f.kinds.facts, "facts_removed": f.kinds.unfacts, "queues_created": f.kinds.queues_created,
            "queues_deleted": f.kinds.queues_deleted,
        }),
        Inspected::Trouble(what) => json!({ "piece": "trouble", "what": what }),
    }
}

fn counts(counts: &[(leveret_engine::QueueId, u64)]) -> Value {
    counts.iter().map(|(queue, count)| json!({ "queue": queue.0, "messages": count })).collect()
}

fn kind(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Damage => "damage",
        FindingKind::TornTail => "torn tail",
        FindingKind::Note => "note",
    }
}

fn place(finding: &Finding) -> String {
    match finding.kind {
        FindingKind::Note => format!("{}: {}", finding.file, finding.what),
        _ => format!("{} at offset {}: {}", finding.file, finding.offset, finding.what),
    }
}

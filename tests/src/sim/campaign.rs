//! Many seeds, their floors, and the controls: a simulator that cannot fail proves nothing.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Bug, Reached, run};

/// Runs seeds until they, or the time, are used up. Err: the failing seed and what broke, or a floor that was missed.
pub fn campaign(from: u64, seeds: u64, until: Instant, threads: usize) -> Result<Reached, String> {
    let next = AtomicU64::new(from);
    let sum = Mutex::new(Reached::default());
    let failure: Mutex<Option<(u64, String)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let failed = failure.lock().expect("no panic holds it").is_some();
                    if seed >= from + seeds || failed || Instant::now() > until {
                        return;
                    }
                    let outcome = std::panic::catch_unwind(|| run(seed, None));
                    let broken = match outcome {
                        Ok(outcome) => {
                            sum.lock().expect("no panic holds it").add(&outcome.reached);
                            outcome.violation.map(|violation| violation.to_string())
                        }
                        Err(_) => Some("a panic, see above".to_owned()),
                    };
                    if let Some(text) = broken {
                        failure.lock().expect("no panic holds it").get_or_insert((seed, text));
                    }
                }
            });
        }
    });
    let reached = sum.into_inner().expect("threads have ended");
    match failure.into_inner().expect("threads have ended") {
        Some((seed, text)) => Err(format!("seed {seed}: {text}")),
        None => reached.floors().map(|()| reached),
    }
}

/// Switches every deliberate bug on, one after the other, and runs seeds until an invariant catches it; the same seed
/// without the bug must pass. Err: those that went unnoticed.
pub fn controls(from: u64, seeds: u64) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    let mut missed = Vec::new();
    for bug in Bug::all() {
        let caught = (from..from + seeds).find_map(|seed| {
            // A panic is no catch: only a named invariant counts.
            let outcome = std::panic::catch_unwind(|| run(seed, Some(bug))).ok()?;
            let violation = outcome.violation?;
            run(seed, None).violation.is_none().then_some((seed, violation))
        });
        match caught {
            Some((seed, violation)) => lines.push(format!(
                "{bug:?}: caught by {:?} at seed {seed}: {}",
                violation.invariant, violation.text
            )),
            None => missed.push(format!("{bug:?} went unnoticed over {seeds} seeds")),
        }
    }
    if missed.is_empty() { Ok(lines) } else { Err(missed.join("\n")) }
}

impl Reached {
    /// Adds another seed's.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.operations += other.operations;
        self.rotations += other.rotations;
        self.checkpoints += other.checkpoints;
        self.recycled += other.recycled;
        self.settled += other.settled;
        self.merged_bytes += other.merged_bytes;
        self.settled_removed += other.settled_removed;
        self.spilled += other.spilled;
        self.spill_moved_bytes += other.spill_moved_bytes;
        self.scrubs += other.scrubs;
        self.found_full += other.found_full;
        self.blobs += other.blobs;
        self.blob_files_removed += other.blob_files_removed;
        self.crashes += other.crashes;
        self.crashes_in_recovery += other.crashes_in_recovery;
        self.cuts += other.cuts;
        self.frames_copied += other.frames_copied;
        self.consumers_lost += other.consumers_lost;
        self.clean_stops += other.clean_stops;
        self.commits += other.commits;
        self.rollbacks += other.rollbacks;
        self.wire_confirms += other.wire_confirms;
        self.wire_deliveries += other.wire_deliveries;
        self.wires_lost += other.wires_lost;
        self.grpc_confirms += other.grpc_confirms;
        self.grpc_deliveries += other.grpc_deliveries;
        self.grpc_lost += other.grpc_lost;
        self.seen.sent += other.seen.sent;
        self.seen.confirmed += other.seen.confirmed;
        self.seen.delivered += other.seen.delivered;
        self.seen.redelivered += other.seen.redelivered;
        self.seen.recovered += other.seen.recovered;
        self.seen.acked += other.seen.acked;
        self.seen.overtakes += other.seen.overtakes;
        self.seen.worn_out += other.seen.worn_out;
        self.seen.transient_found += other.seen.transient_found;
        self.seen.returned += other.seen.returned;
        self.seen.purges += other.seen.purges;
        self.seen.deletes += other.seen.deletes;
        self.seen.moved += other.seen.moved;
        self.seen.moved_by_rule += other.seen.moved_by_rule;
        self.seen.moves_at_crash += other.seen.moves_at_crash;
        self.seen.moves_kept += other.seen.moves_kept;
        self.seen.moves_undone += other.seen.moves_undone;
    }

    /// The floors against empty runs, per 1,000 seeds. Runs of fewer than 100 seeds are not judged.
    pub fn floors(&self) -> Result<(), String> {
        if self.seeds < 100 {
            return Ok(());
        }
        let floors = [
            ("operations", self.operations, 100_000),
            ("rotations", self.rotations, 1_000),
            ("checkpoints", self.checkpoints, 300),
            ("recycled segments", self.recycled, 200),
            ("settled log segments", self.settled, 500),
            ("bytes merged", self.merged_bytes, 50_000),
            ("settled segments removed", self.settled_removed, 100),
            ("places spilled", self.spilled, 10_000),
            ("passes of the scrub", self.scrubs, 1_000),
            ("times that the disk was full", self.found_full, 1_000),
            ("bodies in blob files", self.blobs, 10_000),
            ("blob files removed", self.blob_files_removed, 1_000),
            ("crashes in recovery", self.crashes_in_recovery, 200),
            ("torn tails", self.cuts, 200),
            ("consumers lost with messages out", self.consumers_lost, 100),
            ("confirms", self.seen.confirmed, 20_000),
            ("messages found after a crash", self.seen.recovered, 5_000),
            ("commits", self.commits, 5_000),
            ("rollbacks", self.rollbacks, 500),
            ("confirmed moves", self.seen.moved, 3_000),
            ("moves by a rule", self.seen.moved_by_rule, 10_000),
            ("moves under way at a crash", self.seen.moves_at_crash, 800),
            ("such moves that were kept", self.seen.moves_kept, 200),
            ("such moves that were undone", self.seen.moves_undone, 200),
            ("confirms over AMQP", self.wire_confirms, 5_000),
            ("deliveries over AMQP", self.wire_deliveries, 1_500),
            ("AMQP connections lost", self.wires_lost, 400),
            ("confirms over gRPC", self.grpc_confirms, 5_000),
            ("deliveries over gRPC", self.grpc_deliveries, 1_000),
            ("gRPC connections lost", self.grpc_lost, 300),
            ("deliveries that overtook a lower priority", self.seen.overtakes, 5_000),
            ("messages that came back too often", self.seen.worn_out, 30),
            ("transient messages that a quorum queue kept", self.seen.transient_found, 500),
        ];
        for (what, reached, per_thousand) in floors {
            let floor = per_thousand * self.seeds / 1_000;
            if reached < floor {
                return Err(format!("an empty run: {reached} {what}, at least {floor} wanted; {self}"));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} seeds: {} operations, {} rotations, {} checkpoints, {} recycled, {} settled, \
             {} bytes merged, {} settled segments removed, {} places spilled ({} bytes moved), {} scrubs, {} times a full disk, \
             {} bodies in blob files, {} such files removed, {} crashes, {} in recovery, {} torn tails, \
             {} frames copied, {} consumers lost, {} clean stops; {} sent, {} confirmed, {} delivered ({} redelivered), \
             {} found after a crash, {} acked, {} returned; {} commits, {} rollbacks, {} moved, {} moved by a rule, {} moves \
             under way at a crash ({} kept, {} undone); over AMQP {} confirmed, {} delivered, {} connections lost; over gRPC {} confirmed, \
             {} delivered, {} connections lost; {} overtook a lower priority, {} came back too often, {} transient ones kept",
            self.seeds,
            self.operations,
            self.rotations,
            self.checkpoints,
            self.recycled,
            self.settled,
            self.merged_bytes,
            self.settled_removed,
            self.spilled,
            self.spill_moved_bytes,
            self.scrubs,
            self.found_full,
            self.blobs,
            self.blob_files_removed,
            self.crashes,
            self.crashes_in_recovery,
            self.cuts,
            self.frames_copied,
            self.consumers_lost,
            self.clean_stops,
            self.seen.sent,
            self.seen.confirmed,
            self.seen.delivered,
            self.seen.redelivered,
            self.seen.recovered,
            self.seen.acked,
            self.seen.returned,
            self.commits,
            self.rollbacks,
            self.seen.moved,
            self.seen.moved_by_rule,
            self.seen.moves_at_crash,
            self.seen.moves_kept,
            self.seen.moves_undone,
            self.wire_confirms,
            self.wire_deliveries,
            self.wires_lost,
            self.grpc_confirms,
            self.grpc_deliveries,
            self.grpc_lost,
            self.seen.overtakes,
            self.seen.worn_out,
            self.seen.transient_found,
        )
    }
}

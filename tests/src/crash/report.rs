//! What a run reached, and the floors below which it proves nothing.

use std::fmt;

use super::death::Losses;
use super::errors::Errors;
use super::points::Points;
use crate::checker::Counts;

/// Counts of a whole run.
#[derive(Debug, Default, Clone, Copy)]
pub struct Report {
    /// Clients moved messages, by transactions and as dead letters.
    pub with_moves: bool,
    /// Cycles with enough confirms and a publish in flight at the kill.
    pub cycles: u64,
    /// Kills under load.
    pub kills_under_load: u64,
    /// Kills that hit a recovery: the server was not serving yet.
    pub kills_in_recovery: u64,
    /// Kills of a starting server that was already serving.
    pub kills_after_recovery: u64,
    /// The longest row of kills without the server serving in between, the one under load not counted.
    pub deepest: u64,
    /// Complete drains.
    pub drains: u64,
    /// Checkpoints that were seen to be written.
    pub checkpoints: u64,
    /// Segments that were seen to be recycled.
    pub recycled: u64,
    /// Bytes that were seen to be settled.
    pub settled_bytes: u64,
    /// Bytes that were seen to be merged.
    pub merged_bytes: u64,
    /// What power losses did, where the servers ended by those.
    pub losses: Option<Losses>,
    /// What failing calls did, where they were made to fail.
    pub errors: Option<Errors>,
    /// Which points were met, where the servers were killed at those.
    pub points: Option<Points>,
    /// What the checker saw.
    pub checked: Counts,
}

impl Report {
    /// The floors that this run stayed below. A run below a floor is void, whatever it found.
    pub fn below_floor(&self, cycles: u64, confirms_min: u64) -> Vec<String> {
        let mut below = Vec::new();
        let mut floor = |name: &str, reached: u64, least: u64| {
            if reached < least {
                below.push(format!("{name}: {reached}, at least {least} are needed"));
            }
        };
        let counts = &self.checked;
        let kills = self.kills_under_load + self.kills_in_recovery + self.kills_after_recovery;
        floor("cycles", self.cycles, cycles);
        floor("confirms", counts.confirmed, cycles * confirms_min);
        floor("cycles with a publish in flight at the kill", counts.crashes_in_flight, cycles);
        floor("deliveries", counts.delivered, cycles * 100);
        floor("redeliveries", counts.redelivered, cycles);
        floor("recovered messages", counts.recovered, cycles);
        floor("confirmed acks", counts.acked, cycles * 10);
        floor("confirmed requeues", counts.returned, cycles);
        floor("drains", self.drains, 1);
        if self.with_moves {
            floor("confirmed moves", counts.moved, cycles * 10);
            floor("moves under way at a kill", counts.moves_at_crash, cycles / 4);
        }
        if let Some(Losses { losses, .. }) = self.losses {
            floor("power losses", losses, cycles);
        }
        if let Some(points) = self.points {
            floor("kills at a named point", points.times(), cycles / 2);
            floor("kills at one in a start", points.times_in_starts(), cycles / 20);
            floor("points that were met", points.met(), (cycles / 4).min(20));
        }
        if let Some(Errors { met, ended, went_on, full, starts, starts_ended, .. }) = self.errors {
            floor("lives with an error", met, cycles);
            floor("lives that ended with a message", ended, cycles / 8);
            floor("lives that went on", went_on, cycles / 8);
            floor("times that the disk was full", full, cycles / 20);
            floor("starts that met an error", starts, cycles / 8);
            floor("starts that ended with a message", starts_ended, cycles / 20);
        }
        if cycles >= 20 {
            floor("kills in a recovery", self.kills_in_recovery, kills.div_ceil(5));
            floor("kills in a row", self.deepest, 3);
            floor("deletes", counts.deletes, cycles / 4);
            floor("purges", counts.purges, cycles / 4);
            floor("checkpoints", self.checkpoints, cycles / 4);
            floor("recycled segments", self.recycled, cycles / 10);
            floor("bytes settled", self.settled_bytes, cycles * 1_000);
            floor("bytes merged", self.merged_bytes, cycles);
            if let (Some(Losses { aimed, effective, lost, .. }), None) = (self.losses, self.errors) {
                floor("power losses right before a chosen call", aimed, cycles / 4);
                floor("power losses that took something", effective, cycles / 2);
                floor("sectors lost", lost.sectors, cycles * 100);
                floor("sectors kept", lost.sectors_kept, cycles * 100);
                floor("files torn", lost.torn, cycles / 4);
                floor("lengths lost", lost.lengths, cycles / 20);
                floor("names lost", lost.names, cycles / 4);
            }
        }
        below
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.checked;
        writeln!(f, "cycles                      {}", self.cycles)?;
        writeln!(f, "kills under load            {}", self.kills_under_load)?;
        writeln!(f, "  with a publish in flight  {}", counts.crashes_in_flight)?;
        writeln!(
            f,
            "kills in a recovery         {} (up to {} in a row)",
            self.kills_in_recovery, self.deepest
        )?;
        writeln!(f, "kills just after one        {}", self.kills_after_recovery)?;
        writeln!(f, "messages sent               {}", counts.sent)?;
        writeln!(f, "confirms                    {}", counts.confirmed)?;
        writeln!(f, "deliveries                  {}", counts.delivered)?;
        writeln!(f, "redeliveries                {}", counts.redelivered)?;
        writeln!(f, "recovered messages          {}", counts.recovered)?;
        writeln!(f, "  never confirmed           {}", counts.uncertain_found)?;
        writeln!(f, "confirmed acks              {}", counts.acked)?;
        writeln!(f, "confirmed requeues          {}", counts.returned)?;
        if self.with_moves {
            writeln!(f, "confirmed moves             {}", counts.moved)?;
            writeln!(
                f,
                "moves under way at a kill   {} ({} kept, {} undone)",
                counts.moves_at_crash, counts.moves_kept, counts.moves_undone
            )?;
        }
        writeln!(f, "purges, deletes             {}, {}", counts.purges, counts.deletes)?;
        writeln!(f, "drains of all queues        {}", self.drains)?;
        writeln!(f, "checkpoints, recycled       {}, {}", self.checkpoints, self.recycled)?;
        write!(f, "bytes settled, merged       {}, {}", self.settled_bytes, self.merged_bytes)?;
        self.losses.map_or(Ok(()), |losses| write!(f, "\n{losses}"))?;
        self.errors.map_or(Ok(()), |errors| write!(f, "\n{errors}"))?;
        self.points.map_or(Ok(()), |points| write!(f, "\n{points}"))
    }
}

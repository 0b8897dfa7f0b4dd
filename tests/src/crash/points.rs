//! The named points of a server's life at which it is killed: before and after the calls to the disk that decide what the
//! next start finds. They are met from outside, by the file system below the real binary.

use std::fmt;

use fastrand::Rng;

use crate::faultfs::{Call, Moment};

/// Of such a call on files of that name, before it is done or when it has been.
#[derive(Debug)]
struct Point {
    name: &'static str,
    call: Call,
    files: &'static str,
    after: bool,
}

const fn before(name: &'static str, call: Call, files: &'static str) -> Point {
    Point { name, call, files, after: false }
}

const fn after(name: &'static str, call: Call, files: &'static str) -> Point {
    Point { name, call, files, after: true }
}

const COUNT: usize = 30;

const POINTS: [Point; COUNT] = [
    before("before a frame is written", Call::Write, "log-"),
    after("after a frame is written", Call::Write, "log-"),
    before("before a frame is synced", Call::Sync, "log-"),
    after("after a frame is synced", Call::Sync, "log-"),
    before("before a segment is made", Call::Create, "log-"),
    after("after a segment is made", Call::Create, "log-"),
    after("while a segment is filled", Call::Fill, "log-"),
    after("after a segment is filled", Call::SyncFill, "log-"),
    before("before the manifest is edited", Call::Write, "MANIFEST"),
    after("after the manifest is edited", Call::Write, "MANIFEST"),
    before("before the manifest is synced", Call::Sync, "MANIFEST"),
    after("after the manifest is synced", Call::Sync, "MANIFEST"),
    after("while a segment is settled", Call::Write, "settled"),
    before("before a settled segment is synced", Call::Sync, "settled"),
    after("after a settled segment is synced", Call::Sync, "settled"),
    before("before a settled segment has its name", Call::Rename, "settled"),
    after("after a settled segment has its name", Call::Rename, "settled"),
    before("before a settled segment is removed", Call::Remove, "settled"),
    after("after a settled segment is removed", Call::Remove, "settled"),
    after("while a checkpoint is written", Call::Write, "checkpoint"),
    before("before a checkpoint is synced", Call::Sync, "checkpoint"),
    before("before a checkpoint has its name", Call::Rename, "checkpoint"),
    after("after a checkpoint has its name", Call::Rename, "checkpoint"),
    after("after a checkpoint is removed", Call::Remove, "checkpoint"),
    before("before a body is written", Call::Write, "blob"),
    after("after a body is written", Call::Write, "blob"),
    before("before a body is synced", Call::Sync, "blob"),
    after("after a body is synced", Call::Sync, "blob"),
    before("before names are synced", Call::SyncDir, ""),
    after("after names are synced", Call::SyncDir, ""),
];

/// How often each was met, under load and in a start.
#[derive(Debug, Clone, Copy)]
pub struct Points {
    under_load: [u64; COUNT],
    in_starts: [u64; COUNT],
}

impl Default for Points {
    fn default() -> Self {
        Self { under_load: [0; COUNT], in_starts: [0; COUNT] }
    }
}

/// A point that is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Aim {
    index: usize,
    in_start: bool,
}

impl Points {
    /// How many of them were met.
    pub fn met(&self) -> u64 {
        self.met_at().iter().filter(|times| **times > 0).count() as u64
    }

    /// How often one was met.
    pub fn times(&self) -> u64 {
        self.met_at().iter().sum()
    }

    /// How often one was met in a start.
    pub fn times_in_starts(&self) -> u64 {
        self.in_starts.iter().sum()
    }

    fn met_at(&self) -> [u64; COUNT] {
        std::array::from_fn(|index| self.under_load[index] + self.in_starts[index])
    }

    /// Draws one, rather one that was not met yet; when it comes.
    pub(super) fn draw(&self, rng: &mut Rng, in_start: bool) -> (Aim, Moment) {
        // A start ends before there is anything to settle, and mostly before a checkpoint.
        let comes = |point: &Point| !in_start || ["", "log-", "MANIFEST"].contains(&point.files);
        let all: Vec<usize> = (0..COUNT).filter(|index| comes(&POINTS[*index])).collect();
        let mut index = all[rng.usize(..all.len())];
        if self.met_at()[index] > 0 {
            index = all[rng.usize(..all.len())];
        }
        let Point { call, files, after, .. } = POINTS[index];
        // What comes seldom is not waited for twice.
        let often = call == Call::Write || files == "log-";
        let nth = if often && !in_start { rng.u64(1..4) } else { 1 };
        (Aim { index, in_start }, Moment { call, names: files.into(), nth, after })
    }

    pub(super) fn meet(&mut self, aim: Aim) {
        let times = if aim.in_start { &mut self.in_starts } else { &mut self.under_load };
        times[aim.index] += 1;
    }
}

impl fmt::Display for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (met, times) = (self.met(), self.times());
        write!(f, "named points                {met} of {COUNT}, met {times} times (load, starts)")?;
        for (index, Point { name, .. }) in POINTS.iter().enumerate() {
            let (load, starts) = (self.under_load[index], self.in_starts[index]);
            write!(f, "\n  {name:<38} {load}, {starts}")?;
        }
        Ok(())
    }
}

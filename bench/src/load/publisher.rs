//! The publishing side of a connection.

use std::io::{self, Write};
use std::net::TcpStream;
use std::ops::Range;

use super::flight::{Confirmed, Flight};
use super::{Batch, Schedule};
use crate::Error;

/// Messages in flight at most in an open loop: a broker that does not keep up is told apart from one that is slow.
const OPEN_MAX: u64 = 1 << 20;
/// A write is worth its cost with so many messages, or a quarter of the window.
const WORTH: u64 = 256;

/// When a message may go out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Closed loop: so many are unconfirmed at most.
    Window(u64),
    /// Open loop.
    Rate(Schedule),
}

/// Sends messages and keeps account of them.
#[derive(Debug)]
pub(crate) struct Publisher {
    batch: Batch,
    pace: Pace,
    /// Bodies carry the time at which they were due, or sent, in nanoseconds from the begin of the run.
    stamped: bool,
    flight: Flight,
    /// Encoded, counted as sent, and not written yet.
    pending: Range<usize>,
}

impl Publisher {
    pub(crate) fn new(batch: Batch, pace: Pace, stamped: bool) -> Self {
        let most = match pace {
            // Confirms that come out of turn keep the ones before them waiting.
            Pace::Window(window) => window * 4,
            Pace::Rate(_) => OPEN_MAX,
        };
        Self { batch, pace, stamped, flight: Flight::new(most), pending: 0..0 }
    }

    /// In an open loop, the schedule.
    pub(super) fn schedule(&self) -> Option<Schedule> {
        match self.pace {
            Pace::Window(_) => None,
            Pace::Rate(schedule) => Some(schedule),
        }
    }

    /// In an open loop, when the next message is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        Some(self.schedule()?.intended(self.flight.sent()))
    }

    /// Writes what may go out, up to this total; all that the socket takes.
    pub(super) fn fill(
        &mut self,
        stream: &mut TcpStream,
        clock: impl Fn() -> u64,
        upto: u64,
    ) -> Result<(), Error> {
        loop {
            while !self.pending.is_empty() {
                match stream.write(&self.batch.bytes()[self.pending.clone()]) {
                    Ok(written) => self.pending.start += written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error.into()),
                }
            }
            let now = clock();
            let count = self.allowed(now).min(upto.saturating_sub(self.flight.sent()));
            if count == 0 {
                return Ok(());
            }
            let first = self.flight.sent();
            let (count, range) = self.batch.next(first, count);
            match (self.stamped, self.schedule()) {
                (false, _) => {}
                (true, None) => self.batch.stamp(range.clone(), std::iter::repeat(now)),
                (true, Some(schedule)) => {
                    self.batch.stamp(range.clone(), (first..).map(|message| schedule.intended(message)));
                }
            }
            self.flight.send(count, now);
            self.pending = range;
        }
    }

    fn allowed(&self, now: u64) -> u64 {
        let room = match self.pace {
            Pace::Window(window) => {
                let room = window - self.flight.outstanding();
                let worth = (window / 4).clamp(1, WORTH);
                if room < worth && self.flight.outstanding() > 0 { 0 } else { room }
            }
            Pace::Rate(schedule) => schedule.due(now).saturating_sub(self.flight.sent()),
        };
        room.min(self.flight.room())
    }

    /// Takes a confirm; the latency of each message, and how many messages had it.
    pub(super) fn confirm(
        &mut self,
        tag: u64,
        multiple: bool,
        now: u64,
        mut latency: impl FnMut(u64, u64),
    ) -> Result<(), Error> {
        let schedule = self.schedule();
        self.flight.confirm(tag, multiple, |Confirmed { first, count, at }| match schedule {
            None => latency(now.saturating_sub(at), count),
            Some(schedule) => (first - 1..first - 1 + count)
                .for_each(|message| latency(now.saturating_sub(schedule.intended(message)), 1)),
        })
    }
}

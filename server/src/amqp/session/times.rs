//! What a connection does because of time alone: heartbeats both ways, the end of a handshake or a close that takes too
//! long. Milliseconds of the owner's clock, which never goes back.

use super::close::End;
use super::{Phase, Session};
use crate::amqp::frame::{self, Kind};

/// See the module.
#[derive(Debug)]
pub(super) struct Times {
    now_ms: u64,
    received_ms: u64,
    sent_ms: u64,
    /// Half of the heartbeat's interval; 0: no heartbeats.
    half_ms: u64,
    /// When to look after heartbeats again.
    beat_ms: u64,
    /// When the handshake or the close must be over.
    deadline_ms: Option<u64>,
}

impl Times {
    pub(super) fn new(now_ms: u64, handshake_ms: u64) -> Self {
        let deadline_ms = Some(now_ms.saturating_add(handshake_ms));
        Self { now_ms, received_ms: now_ms, sent_ms: now_ms, half_ms: 0, beat_ms: 0, deadline_ms }
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(super) fn received(&mut self) {
        self.received_ms = self.now_ms;
    }

    pub(super) fn sent(&mut self) {
        self.sent_ms = self.now_ms;
    }

    /// The handshake is over.
    pub(super) fn tuned(&mut self, heartbeat_s: u16) {
        self.half_ms = u64::from(heartbeat_s) * 500;
        self.beat_ms = self.now_ms + self.half_ms;
    }

    pub(super) fn opened(&mut self) {
        self.deadline_ms = None;
    }

    /// A close begins.
    pub(super) fn closing(&mut self, close_ms: u64) {
        self.deadline_ms = Some(self.now_ms.saturating_add(close_ms));
    }
}

impl Session {
    /// What time it is, for everything that comes after this.
    pub fn at(&mut self, now_ms: u64) {
        self.times.now_ms = self.times.now_ms.max(now_ms);
    }

    /// When [`Session::tick`] is to be called next; None: not for the sake of time.
    pub fn next_tick_ms(&self) -> Option<u64> {
        let times = &self.times;
        let beat = (times.half_ms > 0).then_some(times.beat_ms);
        match (beat, times.deadline_ms) {
            (Some(beat), Some(deadline)) => Some(beat.min(deadline)),
            (beat, deadline) => beat.or(deadline),
        }
    }

    /// Does what is due.
    pub fn tick(&mut self) {
        let now_ms = self.times.now_ms;
        if self.times.deadline_ms.is_some_and(|deadline| deadline <= now_ms) {
            match self.phase.clone() {
                Phase::Ended(_) => {}
                Phase::Closing { end, .. } => self.phase = Phase::Ended(end),
                _ => self.phase = Phase::Ended(End::HandshakeTimeout),
            }
            return;
        }
        let half_ms = self.times.half_ms;
        if half_ms == 0 || now_ms < self.times.beat_ms {
            return;
        }
        self.times.beat_ms = now_ms + half_ms;
        if self.phase != Phase::Running {
            return;
        }
        // Bytes that the client takes are a sign of life too; the only one where we have stopped to read, because it lets
        // too much wait. While its publishes wait for us it need not give any.
        let taking_ms = if self.out.is_empty() { 0 } else { self.times.sent_ms };
        let heard_ms = if self.reads() { self.times.received_ms.max(taking_ms) } else { taking_ms };
        let checked = !self.blocked && (self.reads() || !self.out.is_empty());
        if checked && now_ms.saturating_sub(heard_ms) >= 4 * half_ms {
            // It would not hear a close either.
            self.phase = Phase::Ended(End::MissedHeartbeats);
            return;
        }
        if now_ms.saturating_sub(self.times.sent_ms) * 2 >= half_ms && self.out.is_empty() {
            self.out.write(|out| frame::write(out, Kind::Heartbeat, 0, |_| {}));
        }
        self.out.shrink();
    }

    /// Publishes wait for room, or not any more.
    pub fn set_blocked(&mut self, blocked: bool) {
        if self.phase != Phase::Running || self.blocked == blocked {
            return;
        }
        self.blocked = blocked;
        // What was not read meanwhile was not silence.
        self.times.received();
        self.tell_blocked(blocked);
    }
}

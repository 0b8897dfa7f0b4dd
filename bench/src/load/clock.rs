//! Time: what is counted, and when a message was due.

use std::time::Duration;

/// An open loop: messages are due at a fixed rate, whatever becomes of those before.
///
/// A latency is taken from the time at which a message was due, not from that at which it was sent: a broker that stops for a
/// while is charged with the wait of every message that would have been sent meanwhile (no coordinated omission).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    per_second: f64,
}

impl Schedule {
    pub(crate) fn new(per_second: f64) -> Self {
        assert!(per_second > 0.0, "a rate is positive");
        Self { per_second }
    }

    /// When a message is due, in nanoseconds from the begin of the run; the first is message 0, at once.
    pub(crate) fn intended(self, message: u64) -> u64 {
        (message as f64 * 1e9 / self.per_second) as u64
    }

    /// How many are due by now.
    pub(crate) fn due(self, now: u64) -> u64 {
        let guess = (now as f64 * self.per_second / 1e9) as u64;
        // The two roundings must not disagree, or a message could be due before its time.
        (guess.saturating_sub(1)..).find(|message| self.intended(*message) > now).unwrap_or(guess)
    }
}

/// Counts from the end of the warm-up on, up to the last progress.
#[derive(Debug)]
pub(crate) struct Meter {
    begin: u64,
    first: Option<(u64, u64)>,
    last: (u64, u64),
}

impl Meter {
    /// All times are nanoseconds from the begin of the run.
    pub(crate) fn after(warm_up: Duration) -> Self {
        Self { begin: warm_up.as_nanos() as u64, first: None, last: (0, 0) }
    }

    /// Takes a total; whether the count begins with it.
    pub(crate) fn count(&mut self, now: u64, total: u64) -> bool {
        if total == self.last.1 && self.first.is_some() {
            return false;
        }
        let begins = self.first.is_none() && now >= self.begin;
        if begins {
            self.first = Some((now, total));
        }
        self.last = (now, total);
        begins
    }

    /// Seconds and units that were counted; None where the run ended within its warm-up, or nothing moved after it.
    pub(crate) fn counted(&self) -> Option<(f64, u64)> {
        let (begin, before) = self.first?;
        let nanoseconds = self.last.0 - begin;
        (nanoseconds > 0).then(|| (nanoseconds as f64 / 1e9, self.last.1 - before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_is_due_before_its_time_and_none_is_late() {
        for rate in [1.0, 3.0, 999.9, 10_000.0, 333_333.3, 1e6] {
            let schedule = Schedule::new(rate);
            for now in (0..2_000_000_000u64).step_by(777_777) {
                let due = schedule.due(now);
                assert!(schedule.intended(due) > now, "message {due} of {rate}/s is due at {now}");
                assert!(schedule.intended(due - 1) <= now, "message {} of {rate}/s is not", due - 1);
            }
        }
    }

    #[test]
    fn a_stall_makes_all_messages_due_that_belong_into_it() {
        let schedule = Schedule::new(1_000.0);
        assert_eq!(schedule.due(0), 1);
        assert_eq!(schedule.due(999_999), 1);
        assert_eq!(schedule.due(1_000_000), 2);
        // The generator slept for two seconds: 2,000 more, each with a time of its own.
        assert_eq!(schedule.due(2_001_000_000), 2_002);
        assert_eq!(schedule.intended(2_001) - schedule.intended(2), 1_999_000_000);
    }

    #[test]
    fn what_came_in_the_warm_up_is_not_counted() {
        let mut meter = Meter::after(Duration::from_secs(1));
        assert!(!meter.count(500_000_000, 100));
        assert!(meter.counted().is_none());
        assert!(meter.count(1_000_000_000, 300));
        assert!(!meter.count(3_000_000_000, 1_300));
        // Nothing more came: the idle end is not counted either.
        assert!(!meter.count(9_000_000_000, 1_300));
        assert_eq!(meter.counted(), Some((2.0, 1_000)));
    }
}

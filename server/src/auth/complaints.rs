//! Refused logins in the log: each of a few, and the number of all others, so that a storm of them does not fill the disk.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use super::Refused;

/// Lines in each [`PERIOD`].
const LINES_MAX: u32 = 10;
const PERIOD: Duration = Duration::from_secs(1);

/// What was told of late.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    since: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Complaints {
    /// Logs one, unless there were many.
    pub(super) fn tell(&self, user: &str, from: IpAddr, refused: Refused) {
        let Some(untold) = self.0.lock().unwrap_or_else(PoisonError::into_inner).count(Instant::now()) else {
            return;
        };
        if untold > 0 {
            warn!(logins = untold, "more logins were refused");
        }
        let why = match refused {
            Refused::NotFromThere => "this user may log in from loopback only (loopback-users)",
            _ => "no such user, or another password",
        };
        warn!(user, %from, "login refused: {why}");
    }
}

impl Recent {
    /// Counts one in. Some: it may be told, with so many that were not.
    fn count(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= PERIOD) {
            self.since = Some(now);
            self.told = 0;
        }
        if self.told == LINES_MAX {
            self.untold += 1;
            return None;
        }
        self.told += 1;
        Some(std::mem::take(&mut self.untold))
    }
}

//! The states that a crash at one moment may leave.

use fastrand::Rng;
use leveret_engine::{Moment, SimDisk};

/// What a crash does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Loss {
    /// The process ends; nothing is lost yet.
    Kill,
    /// The power fails: per unsynced sector, length and change of a name, whether it survives.
    Power(Vec<bool>),
}

impl Loss {
    /// The disk that it leaves, and what tells it from others.
    pub(super) fn of(&self, moment: &Moment) -> (SimDisk, u64) {
        match self {
            Self::Kill => {
                let disk = moment.after_kill();
                // It looks like that of a power loss that took nothing, and is not as durable.
                let mark = disk.fingerprint() ^ 0x6b69_6c6c;
                (disk, mark)
            }
            Self::Power(survives) => {
                let mut survives = survives.iter().copied();
                let disk = moment.after_loss(|| survives.next().unwrap_or(false));
                let mark = disk.fingerprint();
                (disk, mark)
            }
        }
    }
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kill => f.write_str("killed"),
            Self::Power(survives) => {
                let kept = survives.iter().filter(|kept| **kept).count();
                write!(f, "power lost, {kept} of {} unsynced things kept:", survives.len())?;
                let bits: String = survives.iter().map(|kept| if *kept { '1' } else { '0' }).collect();
                write!(f, " {bits}")
            }
        }
    }
}

/// Different states that a crash at this moment may leave, at most `wanted`: all of them if they are not more, else the
/// extremes (nothing is lost, everything is, each thing alone is or is not, all from one on) mixed with samples. And
/// whether they are all.
pub(super) fn states(moment: &Moment, wanted: usize, rng: &mut Rng) -> (Vec<(Loss, SimDisk, u64)>, bool) {
    let things = moment.unsynced();
    let mut out: Vec<(Loss, SimDisk, u64)> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut add = |loss: Loss| {
        if out.len() < wanted {
            let (disk, mark) = loss.of(moment);
            if seen.insert(mark) {
                out.push((loss, disk, mark));
            }
        }
        out.len() < wanted
    };
    if things == 0 {
        add(Loss::Power(Vec::new()));
        return (out, true);
    }
    if things < 30 && (1_usize << things) < wanted {
        add(Loss::Kill);
        for bits in 0..1_usize << things {
            add(Loss::Power((0..things).map(|thing| (bits >> thing) & 1 == 1).collect()));
        }
        return (out, true);
    }
    let mut extremes: Vec<Loss> = Vec::new();
    for thing in 0..things {
        extremes.push(Loss::Power((0..things).map(|other| other == thing).collect()));
        extremes.push(Loss::Power((0..things).map(|other| other != thing).collect()));
        extremes.push(Loss::Power((0..things).map(|other| other < thing).collect()));
    }
    rng.shuffle(&mut extremes);
    for first in [Loss::Power(vec![false; things]), Loss::Kill, Loss::Power(vec![true; things])] {
        add(first);
    }
    // Many samples may come to the same.
    for _ in 0..2 * wanted {
        let odds = rng.u8(1..10);
        let sample = Loss::Power((0..things).map(|_| rng.u8(..10) < odds).collect());
        let more = extremes.pop().is_none_or(&mut add);
        if !more || !add(sample) {
            break;
        }
    }
    (out, false)
}

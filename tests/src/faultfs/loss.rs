//! How a lost power chooses among the states that it may leave.

use fastrand::Rng;

/// What a power loss took and left of what was not synced.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Sectors that went back to an older version.
    pub sectors: u64,
    /// Sectors that were kept though nobody had synced them.
    pub sectors_kept: u64,
    /// Files of which some sectors were kept and others not.
    pub torn: u64,
    /// Lengths that went back.
    pub lengths: u64,
    /// Changes of names that were undone.
    pub names: u64,
    /// Changes of names that were kept.
    pub names_kept: u64,
}

impl Lost {
    /// Adds another loss.
    pub fn add(&mut self, other: &Self) {
        self.sectors += other.sectors;
        self.sectors_kept += other.sectors_kept;
        self.torn += other.torn;
        self.lengths += other.lengths;
        self.names += other.names;
        self.names_kept += other.names_kept;
    }
}

/// The character of one loss: each of them finds bugs that the others rarely do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Nothing that was not synced survives: a disk whose cache is gone.
    Nothing,
    /// All of it does: the moment itself is the test.
    Everything,
    /// Of everything, each with that chance in 256, and perhaps in a version in between.
    Each(u8),
    /// Of each file and directory a front part, as a write-back in order leaves it.
    Front,
}

impl Style {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        match rng.u8(..8) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 => Self::Each(25),
            3 => Self::Each(230),
            4 | 5 => Self::Each(128),
            _ => Self::Front,
        }
    }

    /// What becomes of one file or directory.
    pub(super) fn fate(self, rng: &mut Rng) -> Fate {
        let chance = match self {
            Self::Nothing => 0,
            Self::Everything => 256,
            Self::Each(chance) => chance.into(),
            Self::Front => *rng.choice(&[100, 200, 240, 252, 255]).unwrap_or(&128),
        };
        Fate { chance, in_order: self == Self::Front, mixes: matches!(self, Self::Each(_)), over: false }
    }
}

/// The fate of the unsynced changes of one file or directory, which are asked about in their order.
#[derive(Debug)]
pub(super) struct Fate {
    chance: u16,
    in_order: bool,
    /// Versions in between may be left, too.
    pub(super) mixes: bool,
    over: bool,
}

impl Fate {
    /// From now on nothing survives that comes after something that did not.
    pub(super) fn in_order(self) -> Self {
        Self { in_order: true, ..self }
    }

    pub(super) fn survives(&mut self, rng: &mut Rng) -> bool {
        let survives = u16::from(rng.u8(..)) < self.chance && !self.over;
        self.over |= self.in_order && !survives;
        survives
    }
}

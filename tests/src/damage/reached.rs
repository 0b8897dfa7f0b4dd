//! What a campaign reached, and the floors against empty runs.

use std::collections::BTreeMap;
use std::fmt;

use super::inflict::Kind;
use super::layout::Target;

/// Counts of a campaign.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    /// Stores that were damaged; some by two or three damages at once.
    pub damages: u64,
    /// Of each kind at each kind of place.
    pub pairs: BTreeMap<(Kind, Target), u64>,
    /// Hit what lives or what the store needs: refused, less served, or cut.
    pub live_hit: u64,
    /// Starts that were refused.
    pub refused: u64,
    /// Starts after which all was served.
    pub whole: u64,
    /// Starts after which something was served less.
    pub less: u64,
    /// Torn tails that were cut.
    pub cut: u64,
    /// Repairs that made a store that opens.
    pub repaired: u64,
    /// Stores of which nothing could be made.
    pub beyond_repair: u64,
    /// Messages that were said to be lost.
    pub told_lost: u64,
    /// Losses that the scrub found, too.
    pub scrubbed: u64,
}

impl Reached {
    /// Adds another one's.
    pub fn add(&mut self, other: &Self) {
        self.damages += other.damages;
        for (pair, count) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += count;
        }
        self.live_hit += other.live_hit;
        self.refused += other.refused;
        self.whole += other.whole;
        self.less += other.less;
        self.cut += other.cut;
        self.repaired += other.repaired;
        self.beyond_repair += other.beyond_repair;
        self.told_lost += other.told_lost;
        self.scrubbed += other.scrubbed;
    }

    /// The floors. Campaigns of fewer than 1,000 damages are not judged.
    pub fn floors(&self) -> Result<(), String> {
        if self.damages < 1_000 {
            return Ok(());
        }
        for kind in Kind::ALL {
            for target in Target::ALL {
                let reached = self.pairs.get(&(kind, target)).copied().unwrap_or(0);
                // Each in turn; a store may lack what is aimed at.
                let floor = self.damages / (4 * (Kind::ALL.len() * Target::ALL.len()) as u64);
                if reached < floor.max(1) {
                    return Err(format!(
                        "an empty run: {kind:?} of {target:?} was reached {reached} times, at least {} wanted; {self}",
                        floor.max(1)
                    ));
                }
            }
        }
        let floors = [
            ("damages that hit what lives", self.live_hit, 500),
            ("starts refused", self.refused, 350),
            ("starts with all served", self.whole, 150),
            ("starts with less served", self.less, 70),
            ("torn tails", self.cut, 3),
            ("repairs", self.repaired, 500),
            ("messages said to be lost", self.told_lost, 500),
            ("losses that the scrub found", self.scrubbed, 15),
        ];
        for (what, reached, per_thousand) in floors {
            let floor = per_thousand * self.damages / 1_000;
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
            "{} damages: {} hit what lives; {} starts refused, {} with all served, {} with less, {} torn tails cut; {} \
             repairs, {} beyond repair, {} messages said to be lost, {} losses found by the scrub",
            self.damages,
            self.live_hit,
            self.refused,
            self.whole,
            self.less,
            self.cut,
            self.repaired,
            self.beyond_repair,
            self.told_lost,
            self.scrubbed
        )
    }
}

//! Bugs that tests switch on, to prove that the harness would catch them. Without the feature `controls` there is
//! nothing to switch: [`Settings::has`] is false, and the compiler drops the branches.

use crate::settings::Settings;

/// One deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Control {
    /// The log is never synced, though the writer believes it.
    SkipFdatasync,
    /// Confirms go out when a frame is written, before it is synced.
    ConfirmBeforeSync,
    /// Recovery cuts a torn tail but leaves the old segment open and writes on behind the cut.
    CutNotRecorded,
    /// A log segment is recycled as soon as nothing in it lives, whatever the checkpoints cover.
    RecycleTooEarly,
    /// Recovery gives the newest place of a queue out again.
    SeqTwice,
    /// Places of transient messages are not acked in the log.
    HoleCountedLive,
    /// A half batch at the end of the log is kept, and closed by the next frame.
    CloseHalfBatch,
    /// Log segments count as settled before the manifest lists the settled segment.
    SettleBeforeManifest,
    /// What is written counts as durable before it was synced, and is settled, recycled and checkpointed.
    SettleBeyondDurable,
    /// A log segment is recycled although it is being read.
    RecycleUnderReader,
    /// What was spilled is forgotten as soon as it was read once, though it may be wanted again.
    SpilledReadOnce,
    /// A message enters the log before the body in its blob file is synced.
    BlobBeforeSync,
    /// A body is given back when the ack of its last place is written, before that is synced.
    BlobFreedEarly,
    /// Damage inside the log is taken for its end: what stands before it is served, as if nothing had been behind.
    DamageIsEnd,
    /// The checksums of what messages stand in are not compared.
    IgnoreCrcs,
}

impl Control {
    /// Those that a crash brings to light.
    pub const OF_CRASHES: [Self; 13] = [
        Self::SkipFdatasync,
        Self::ConfirmBeforeSync,
        Self::CutNotRecorded,
        Self::RecycleTooEarly,
        Self::SeqTwice,
        Self::HoleCountedLive,
        Self::CloseHalfBatch,
        Self::SettleBeforeManifest,
        Self::SettleBeyondDurable,
        Self::RecycleUnderReader,
        Self::SpilledReadOnce,
        Self::BlobBeforeSync,
        Self::BlobFreedEarly,
    ];

    /// Those that damage brings to light.
    pub const OF_DAMAGE: [Self; 2] = [Self::DamageIsEnd, Self::IgnoreCrcs];
}

#[cfg(any(feature = "controls", feature = "fuzz"))]
std::thread_local! {
    /// [`Control::IgnoreCrcs`]: whoever reads bytes knows no settings. Those of the thread's last open hold. Fuzzing sets it,
    /// too: no chance finds what has the right checksum.
    static CRCS_IGNORED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether what was read does not have the checksum that it was written with.
pub(crate) fn crc_differs(read: u32, written: u32) -> bool {
    #[cfg(any(feature = "controls", feature = "fuzz"))]
    if CRCS_IGNORED.get() {
        return false;
    }
    read != written
}

/// Whether this thread compares checksums.
#[cfg(feature = "fuzz")]
pub(crate) fn ignore_crcs(ignore: bool) {
    CRCS_IGNORED.set(ignore);
}

impl Settings {
    /// Switches on what those who know no settings ask for.
    pub(crate) fn switch_controls(&self) {
        #[cfg(feature = "controls")]
        CRCS_IGNORED.set(self.has(Control::IgnoreCrcs));
    }

    /// Whether a deliberate bug is switched on. Always false in a shipped binary.
    pub(crate) fn has(&self, control: Control) -> bool {
        #[cfg(feature = "controls")]
        {
            self.control == Some(control)
        }
        #[cfg(not(feature = "controls"))]
        {
            let _ = control;
            false
        }
    }
}

//! The count of the turns of [dedicated threads](super::dedicated).
//!
//! One word counts the runnables left and not over (`AWAKE`), and all runnables ever left
//! (`EPOCH`):
//!
//! | event | `AWAKE` | `EPOCH` | |
//! |---|---|---|---|
//! | a runnable is left | +1 | +1 | first this, then the token |
//! | its last turn is over | -1 | | after all its pushes; then perhaps [announces](super::quiescence) |
//!
//! Reading 0 twice with the same epoch therefore proves that no dedicated thread had work in
//! between, and makes all their pushes visible.
//! [`Scheduler::check_quiescence`](super::Scheduler::check_quiescence) relies on this, as on the
//! workers' word.
//!
//! Loom model: `models::apart`. Needed orderings: `cargo xtask weaken apart`.

use crate::sync::{AtomicU64, Ordering::*};

const AWAKE: u64 = (1 << 32) - 1;

const EPOCH_ONE: u64 = 1 << 32;

/// The word of all dedicated threads.
#[derive(Debug)]
pub(crate) struct DedicatedTurns(AtomicU64);

impl DedicatedTurns {
    pub(crate) fn new() -> Self {
        DedicatedTurns(AtomicU64::new(0))
    }

    /// Counts a runnable that is about to be left.
    pub(crate) fn count_begun(&self) {
        self.0.fetch_add(EPOCH_ONE + 1, SeqCst);
    }

    /// Counts a turn that is over. Returns `true` for the last one. SeqCst: the turn's pushes come
    /// before, for a thread that reads 0.
    #[must_use]
    pub(crate) fn count_ended(&self) -> bool {
        self.0.fetch_sub(1, SeqCst) & AWAKE == 1
    }

    /// Returns the word if no dedicated thread has work. Equal readings mean that none had any in
    /// between.
    pub(crate) fn word_if_asleep(&self) -> Option<u64> {
        let now = self.0.load(SeqCst);
        (now & AWAKE == 0).then_some(now)
    }
}

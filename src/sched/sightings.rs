//! The sentinel's memory: at which pace each worker went through its turns since the last look.

use super::queue::Slot;
use crate::time::{self, Duration, Instant};

/// What the sentinel saw when it last looked.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    turns: Vec<u64>,
    at: Option<Instant>,
}

impl Sightings {
    /// For each worker, the time that one of its turns took since the last look; `None` at the first.
    pub(super) fn look(&mut self, slots: &[Slot]) -> Option<Vec<Duration>> {
        let now = time::now();
        let turns: Vec<u64> = slots.iter().map(|slot| slot.counters.turns.get()).collect();
        let paces = self.at.map(|at| {
            let passed = now - at;
            turns
                .iter()
                .zip(&self.turns)
                .map(|(now, then)| passed / u32::try_from(now - then).unwrap_or(u32::MAX).max(1))
                .collect()
        });
        self.turns = turns;
        self.at = Some(now);
        paces
    }
}

//! The sentinel's memory: the pace of each worker's queue since its last look.
//!
//! Turns from the LIFO slot do not count. Two actors that talk to each other there take 16 turns
//! for each turn from the queue.

use super::queue::Slot;
use super::scheduler::Scheduler;
use crate::time::{self, Duration, Instant};

/// The sentinel wakes up for work that would wait longer than this behind a sibling's turn.
const STUCK: Duration = Duration::from_micros(900);

/// The sentinel's readings at its last look.
#[derive(Debug, Default)]
pub(super) struct TurnRates {
    /// For each worker, the number of turns that came from its queue.
    queued: Vec<u64>,
    at: Option<Instant>,
}

impl TurnRates {
    /// Returns each worker's number of turns, and the mean time of a turn from its queue since the
    /// last look. Returns `None` at the first look.
    pub(super) fn sample(&mut self, slots: &[Slot]) -> Option<Vec<(u64, Duration)>> {
        let now = time::now();
        let turns: Vec<u64> = slots.iter().map(|slot| slot.counters.turns.get()).collect();
        // A hit is counted when its turn begins, and the turn when it ends, so the difference may
        // seem negative.
        let hits = slots.iter().map(|slot| slot.counters.lifo_hits.get());
        let queued: Vec<u64> =
            turns.iter().zip(hits).map(|(all, hits)| all.saturating_sub(hits)).collect();
        let paces = self.at.map(|at| {
            let passed = now - at;
            let moved =
                queued.iter().zip(&self.queued).map(|(now, then)| now.saturating_sub(*then));
            let paces = moved.map(|moved| passed / u32::try_from(moved).unwrap_or(u32::MAX).max(1));
            turns.into_iter().zip(paces).collect()
        });
        self.queued = queued;
        self.at = Some(now);
        paces
    }
}

impl Scheduler {
    /// The sentinel's look: marks each slot with work that will have to wait long, at the queue's
    /// pace since the last look. Returns `true` if there is any.
    pub(super) fn mark_stuck(&self, seen: &mut TurnRates) -> bool {
        let Some(paces) = seen.sample(&self.slots) else { return false };
        let mut any = false;
        for (slot, (turns, pace)) in self.slots.iter().zip(paces) {
            let waiting = slot.stealer.len() + usize::from(!slot.lifo.is_empty());
            if waiting > 0 && pace * u32::try_from(waiting).unwrap_or(u32::MAX) > STUCK {
                slot.mark_stuck(turns);
                any = true;
            } else if slot.is_marked() {
                slot.clear_stuck();
            }
        }
        any
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use crossbeam_deque::Worker as LocalQueue;

    #[test]
    fn turns_of_the_lifo_slot_are_not_the_queues() {
        let slots =
            [Slot::new(LocalQueue::new_fifo().stealer(), LocalQueue::new_fifo().stealer(), None)];
        let mut seen = TurnRates::default();
        assert!(seen.sample(&slots).is_none());
        std::thread::sleep(Duration::from_millis(1));
        slots[0].counters.turns.set(170);
        // One of the hits has only begun.
        slots[0].counters.lifo_hits.set(161);
        let (turns, pace) = seen.sample(&slots).expect("a second look")[0];
        assert_eq!(turns, 170);
        assert!(pace >= Duration::from_millis(1) / 9, "{pace:?}");
    }
}

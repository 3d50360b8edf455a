//! The timers armed for one actor: a list through the table's slots, so that the timers end with
//! the actor.
//!
//! The list is under the table's lock. An actor that ends is closed first, and then takes its
//! timers out. A thread that arms a timer checks under the lock whether the actor is open. So no
//! timer is armed for an actor that has taken its timers out. Either the arming comes first, and
//! the actor finds the timer, or it comes later, and sees that the actor is closed.

use super::{Aim, NO_SLOT, Timed, TimerTable, Timers};
use crate::sync::Ordering::Relaxed;

/// Timers taken out for an ended actor, for a caller that may run user code.
pub(crate) struct Abandoned {
    pub(crate) timers: Vec<Box<dyn Timed>>,
    /// Whether the executor shuts down, so that the timers are to be dropped. Otherwise they are
    /// [undeliverable](Timed::report_undeliverable).
    pub(crate) cancelled: bool,
}

impl Timers {
    /// Takes out at most `most` timers armed for `aim`. The actor is closed. If fewer come out,
    /// there are no more, and will be none.
    pub(crate) fn take_out_for(&self, aim: &Aim, most: usize) -> Abandoned {
        let mut table = self.0.lock();
        let cancelled = table.closed;
        let next = || {
            let first = aim.0.load(Relaxed);
            if first == NO_SLOT {
                return None;
            }
            let timed = table.take_out(first);
            // Otherwise the caller reports the timer, and frees the slot with `end_timer`.
            if cancelled {
                table.free_slot(first);
            }
            timed
        };
        // The alarm may be too early now, which costs one look.
        Abandoned { timers: std::iter::from_fn(next).take(most).collect(), cancelled }
    }
}

impl TimerTable {
    pub(super) fn link_to_aim(&mut self, aim: &Aim, slot: u32) {
        let first = aim.0.load(Relaxed);
        (self.slots[slot as usize].before, self.slots[slot as usize].after) = (NO_SLOT, first);
        if first != NO_SLOT {
            self.slots[first as usize].before = slot;
        }
        aim.0.store(slot, Relaxed);
    }

    pub(super) fn unlink_from_aim(&mut self, aim: &Aim, slot: u32) {
        let (before, after) = (self.slots[slot as usize].before, self.slots[slot as usize].after);
        match before {
            NO_SLOT => aim.0.store(after, Relaxed),
            before => self.slots[before as usize].after = after,
        }
        if after != NO_SLOT {
            self.slots[after as usize].before = before;
        }
    }
}

//! A thread that blocks: it leaves its slot, or keeps it, and comes back. The protocol is on [`spares`](super::spares)' page.

use super::Scheduler;
use super::local::Local;
use super::member::{self, Member};
use super::queue::Policy;
use super::spares::{Call, Spare};
use super::task::{After, Task, TaskHeader};
use crate::sync::Ordering::*;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

/// The calling thread blocks, from when this is made until it is dropped. On threads that are no members it is nothing.
#[derive(Debug)]
#[must_use = "it lasts until it is dropped"]
pub(crate) struct Blocking {
    slot: Slot,
    /// For this thread.
    here: PhantomData<*const ()>,
}

/// What was done with the slot.
#[derive(Debug)]
enum Slot {
    /// There is none here, or it had been seen to.
    None,
    /// It is this thread's, and does nothing.
    Kept,
    /// It was left, vacant.
    Vacant(usize),
    /// It was left, and this spare was called to it.
    Called(usize, Arc<Spare>),
}

impl Blocking {
    /// Blocks at any rate: with its slot if no spare is to be had.
    pub(crate) fn at_any_rate() -> Self {
        let slot = Member::with(|member| member.map_or(Some(Slot::None), |member| member.step_out(true)));
        Blocking { slot: slot.unwrap_or(Slot::None), here: PhantomData }
    }

    /// Blocks unless this would leave nobody to run what it waits for: no spare is to be had, and all others block with their
    /// slots, or none of them may run what is this worker's.
    pub(crate) fn unless_frozen() -> Option<Self> {
        let slot = Member::with(|member| member.map_or(Some(Slot::None), |member| member.step_out(false)))?;
        Some(Blocking { slot, here: PhantomData })
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        let slot = std::mem::replace(&mut self.slot, Slot::None);
        if !matches!(slot, Slot::None) {
            Member::with(|member| member.expect("it does not leave its thread").step_in(slot));
        }
    }
}

impl Member<'_> {
    /// `None`: refused.
    #[cold]
    fn step_out(&self, at_any_rate: bool) -> Option<Slot> {
        if !Local::has_seat() {
            return Some(Slot::None);
        }
        let scheduler = self.scheduler;
        let counts = &scheduler.spares.counts;
        if self.blocking.get() {
            // It has kept its slot, and is counted.
            let frozen =
                scheduler.policy == Policy::Sharded || scheduler.kept.load(Acquire) == scheduler.slots.len();
            if frozen && !at_any_rate {
                counts.refused.add_shared(1);
                return None;
            }
            return Some(Slot::None);
        }
        self.blocking.set(true);
        // Between turns (a waker that runs here, what a timer held) the slot stays: whoever called us holds on to it.
        let in_turn = !member::current().is_null();
        let spare = in_turn.then(|| scheduler.spares.reserve(self.recruit)).flatten();
        let slot = match spare {
            Some(spare) => scheduler.leave_slot(spare),
            None if scheduler.keep_slot(at_any_rate) => {
                counts.kept.add_shared(1);
                Slot::Kept
            }
            None => {
                counts.refused.add_shared(1);
                self.blocking.set(false);
                return None;
            }
        };
        counts.blocked.fetch_add(1, Relaxed);
        Some(slot)
    }

    #[cold]
    fn step_in(&self, slot: Slot) {
        let scheduler = self.scheduler;
        scheduler.spares.counts.blocked.fetch_sub(1, Relaxed);
        self.blocking.set(false);
        let (slot, spare) = match slot {
            Slot::None => return,
            Slot::Kept => {
                scheduler.kept.fetch_sub(1, AcqRel);
                return;
            }
            Slot::Vacant(slot) => (slot, scheduler.idle.take_back(slot)),
            Slot::Called(slot, spare) => (slot, Some(spare).filter(|spare| spare.recall(slot))),
        };
        // Without its slot the turn goes on; what follows it is in `turn_over_without_slot`.
        if let Some(spare) = spare {
            scheduler.spares.let_go(spare);
            // SAFETY: taken back, so it is ours alone.
            let _local = unsafe { Local::sit(scheduler, slot) };
            scheduler.turn_is_back();
        }
    }
}

impl Scheduler {
    /// Leaves this thread's slot, in a turn, to a spare that is reserved.
    fn leave_slot(&self, spare: Arc<Spare>) -> Slot {
        // Before the slot can be seen parked. Release: pairs with the Acquire in `turns_elsewhere`, by way of the word.
        self.elsewhere.fetch_add(1, AcqRel);
        let (slot, has_work) = Local::stand_up();
        // Not all of that is seen by a rescan, since a worker that parks has nothing there.
        if !has_work && self.idle.vacate(slot, &spare, || self.has_work(slot)) {
            return Slot::Vacant(slot);
        }
        spare.call(Call::Work(slot));
        Slot::Called(slot, spare)
    }

    /// Keeps this thread's slot, which will do nothing for a while. `false`: refused.
    fn keep_slot(&self, at_any_rate: bool) -> bool {
        if at_any_rate {
            self.kept.fetch_add(1, AcqRel);
        } else {
            let all = self.slots.len();
            let step = |kept: usize| (kept + 1 < all).then_some(kept + 1);
            // Under Sharded nobody else may run what is this worker's.
            if self.policy == Policy::Sharded || self.kept.fetch_update(AcqRel, Relaxed, step).is_err() {
                return false;
            }
        }
        if self.policy != Policy::Sharded {
            Local::with_any(|local| local.expect("looked at before").give_away());
        }
        true
    }

    /// After a turn whose thread has lost its slot on the way: what becomes of the runnable.
    #[cold]
    pub(super) fn turn_over_without_slot(&self, header: NonNull<TaskHeader>, after: After) {
        if after != After::Gone {
            // SAFETY: the turn gave the runnable back, so this is the only one.
            self.push_from_outside(unsafe { Task::from_raw(header) });
        }
        self.spares.counts.turns.add_shared(1);
        self.turn_is_back();
        if after == After::RequeueGap {
            std::thread::yield_now();
        }
    }

    /// A turn is on a slot again, or over.
    fn turn_is_back(&self) {
        // Release: whoever reads that nobody is elsewhere sees what was done there.
        if self.elsewhere.fetch_sub(1, AcqRel) == 1 {
            self.quiet.announce();
        }
    }

    /// Does any turn run on a thread without a slot?
    pub(super) fn turns_elsewhere(&self) -> bool {
        // Acquire: pairs with `turn_is_back`.
        self.elsewhere.load(Acquire) > 0
    }
}

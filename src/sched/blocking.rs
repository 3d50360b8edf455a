//! A thread that blocks: it leaves its slot, or keeps it, and comes back. The protocol is on [`spares`](super::spares)' page.

use super::Scheduler;
use super::local::Local;
use super::member::{self, Member};
use super::queue::Policy;
use super::spares::{Call, Spare};
use super::task::{After, Task, TaskHeader};
use crate::sync::{Ordering::*, chaos};
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
        // In a child that was forked in this turn there is no crew that could go on.
        if !Local::has_seat() || self.scheduler.forked() {
            return Some(Slot::None);
        }
        let scheduler = self.scheduler;
        let counts = &scheduler.spares.counts;
        if self.blocking.get() {
            // It has kept its slot, and is counted.
            let frozen =
                scheduler.has_work_of_its_own() || scheduler.kept.load(Acquire) == scheduler.slots.len();
            if frozen && !at_any_rate {
                counts.refused.add_shared(1);
                return None;
            }
            return Some(Slot::None);
        }
        let spare = self.reserve_spare();
        self.blocking.set(true);
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

    /// Reserves a spare to leave the slot to. None between two runnables, when whoever called us holds on to the slot, nor
    /// where starting a spare runs the user's hook or handler, and that blocks: then this slot is kept, and counted.
    fn reserve_spare(&self) -> Option<Arc<Spare>> {
        if !member::in_runnable() || self.recruiting.replace(true) {
            return None;
        }
        let spare = self.scheduler.spares.reserve(self.recruit);
        self.recruiting.set(false);
        spare
    }

    #[cold]
    fn step_in(&self, slot: Slot) {
        chaos();
        let scheduler = self.scheduler;
        // In a child forked while this thread blocked, the locks below may be held for ever. The
        // thread goes on without a slot, so its sends are not the crew's any more.
        if scheduler.forked() {
            return;
        }
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
            // This worker is awake, so somebody parks after it, and announces.
            let _ = scheduler.elsewhere.back();
        }
    }
}

impl Scheduler {
    /// Leaves this thread's slot, in a turn, to a spare that is reserved.
    fn leave_slot(&self, spare: Arc<Spare>) -> Slot {
        self.elsewhere.leave();
        let (slot, has_work) = Local::stand_up();
        chaos();
        // Not all of that is seen by a rescan, since a worker that parks has nothing there.
        let spare = if has_work {
            Some(spare)
        } else {
            self.idle.vacate(slot, spare, self.watches(), || self.has_work(slot))
        };
        let Some(spare) = spare else { return Slot::Vacant(slot) };
        spare.call(Call::Work(slot));
        Slot::Called(slot, spare)
    }

    /// May there be work at this thread's slot that nobody else may run?
    fn has_work_of_its_own(&self) -> bool {
        // Relaxed: who is kept here from now on waits until this thread is back, if it keeps its slot.
        let residents =
            Local::with_any(|local| local.map_or(0, |local| local.slot().residents.load(Relaxed)));
        self.policy == Policy::Sharded || residents > 0
    }

    /// Keeps this thread's slot, which will do nothing for a while. `false`: refused.
    fn keep_slot(&self, at_any_rate: bool) -> bool {
        if at_any_rate {
            self.kept.fetch_add(1, AcqRel);
        } else {
            let all = self.slots.len();
            let step = |kept: usize| (kept + 1 < all).then_some(kept + 1);
            if self.has_work_of_its_own() || self.kept.fetch_update(AcqRel, Relaxed, step).is_err() {
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
        if after.goes_on() {
            // SAFETY: the turn gave the runnable back, so this is the only one.
            self.push_from_outside(unsafe { Task::from_raw(header) });
        }
        self.spares.counts.turns.add_shared(1);
        if self.elsewhere.back() {
            self.announce_from_elsewhere();
        }
        if after == After::RequeueGap {
            std::thread::yield_now();
        }
    }
}

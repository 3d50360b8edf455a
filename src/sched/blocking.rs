//! A blocking thread: leaving or keeping the slot, and coming back. [`spares`](super::spares)
//! describes the protocol.

use super::crew_thread::{self, CrewThread};
use super::queue::Policy;
use super::runnable::{After, Runnable, RunnableHeader};
use super::scheduler::Scheduler;
use super::spares::{Assignment, Spare};
use super::worker::Worker;
use crate::sync::{Ordering::*, chaos};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

/// The calling thread blocks while this lives. Does nothing on threads that are no members.
#[derive(Debug)]
#[must_use = "it lasts until it is dropped"]
pub(crate) struct Blocking {
    slot: Departure,
    /// Not `Send`: the value describes this thread.
    here: PhantomData<*const ()>,
}

/// State of the thread's slot while the thread blocks.
#[derive(Debug)]
enum Departure {
    /// The thread has no slot, or an outer `Blocking` has dealt with it.
    None,
    /// The thread keeps the slot, which does nothing meanwhile.
    Kept,
    /// The slot was left vacant.
    Vacant(usize),
    /// The slot was left, and this spare was called.
    Called(usize, Arc<Spare>),
}

impl Blocking {
    /// Blocks in any case: with the slot if there is no spare.
    pub(crate) fn at_any_rate() -> Self {
        let slot = CrewThread::with_current(|thread| {
            thread.map_or(Some(Departure::None), |thread| thread.step_out(true))
        });
        Blocking { slot: slot.unwrap_or(Departure::None), here: PhantomData }
    }

    /// Blocks unless no thread would be left to run the awaited actor. No thread is left if there
    /// is no spare, and if all others block with their slots or may not run the worker's actors.
    pub(crate) fn unless_frozen() -> Option<Self> {
        let slot = CrewThread::with_current(|thread| {
            thread.map_or(Some(Departure::None), |thread| thread.step_out(false))
        })?;
        Some(Blocking { slot, here: PhantomData })
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        let slot = std::mem::replace(&mut self.slot, Departure::None);
        if !matches!(slot, Departure::None) {
            CrewThread::with_current(|thread| {
                thread.expect("it does not leave its thread").step_in(slot)
            });
        }
    }
}

impl CrewThread<'_> {
    /// Leaves or keeps the slot. Returns `None` if the wait is refused.
    #[cold]
    fn step_out(&self, at_any_rate: bool) -> Option<Departure> {
        // In a child forked in this turn there is no crew to go on.
        if !Worker::holds_slot() || self.scheduler.is_forked() {
            return Some(Departure::None);
        }
        let scheduler = self.scheduler;
        let counts = &scheduler.spares.counts;
        if self.blocking.get() {
            // The thread has kept its slot already, and is counted.
            let frozen = scheduler.has_work_of_its_own()
                || scheduler.blocked_slots.load(Acquire) == scheduler.slots.len();
            if frozen && !at_any_rate {
                counts.refused.add_shared(1);
                return None;
            }
            return Some(Departure::None);
        }
        let spare = self.reserve_spare();
        // Set before the slot is left: wakers and hooks that run from here on may block again, on
        // the same thread.
        self.blocking.set(true);
        let slot = match spare {
            Some(spare) => scheduler.leave_slot(spare),
            None if scheduler.keep_slot(at_any_rate) => {
                counts.kept.add_shared(1);
                Departure::Kept
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

    /// Reserves a spare to leave the slot to. There is none between two runnables, when the
    /// caller's code holds on to the slot. There is none either while starting a spare runs the
    /// user's hook or handler and that blocks. Then the slot is kept, and counted.
    fn reserve_spare(&self) -> Option<Arc<Spare>> {
        if !crew_thread::in_runnable() || self.recruiting.replace(true) {
            return None;
        }
        let spare = self.scheduler.spares.reserve_spare(self.recruit);
        self.recruiting.set(false);
        spare
    }

    #[cold]
    fn step_in(&self, slot: Departure) {
        chaos();
        let scheduler = self.scheduler;
        // In a child forked while this thread blocked, the locks below may be held for ever. The
        // thread goes on without a slot, so its sends are not the crew's any more.
        if scheduler.is_forked() {
            return;
        }
        scheduler.spares.counts.blocked.fetch_sub(1, Relaxed);
        self.blocking.set(false);
        let (slot, spare) = match slot {
            // Not passed by `Blocking::drop`, the only caller.
            Departure::None => return,
            Departure::Kept => {
                scheduler.blocked_slots.fetch_sub(1, AcqRel);
                return;
            }
            Departure::Vacant(slot) => (slot, scheduler.idle.take_back(slot)),
            Departure::Called(slot, spare) => {
                (slot, Some(spare).filter(|spare| spare.take_call_back(slot)))
            }
        };
        // Without its slot the turn goes on. `turn_over_without_slot` does what follows the turn.
        if let Some(spare) = spare {
            scheduler.spares.let_go(spare);
            // SAFETY: `take_back` or `take_call_back` gave the slot to the calling thread alone.
            let _worker = unsafe { Worker::acquire_slot(scheduler, slot) };
            // This worker is awake, so some worker parks later, and announces.
            let _ = scheduler.elsewhere.count_back();
        }
    }
}

impl Scheduler {
    /// Leaves the calling thread's slot, in a turn, to a reserved spare.
    fn leave_slot(&self, spare: Arc<Spare>) -> Departure {
        // Counted before the slot can be seen parked: until the turn is over nothing may count as
        // quiet.
        self.elsewhere.count_left();
        let (slot, has_work) = Worker::release_slot();
        chaos();
        // `release_slot` also looks at queues skipped by a rescan, since those of a parking worker
        // are empty.
        let spare = if has_work {
            Some(spare)
        } else {
            self.idle.vacate_slot(slot, spare, self.has_sentinel(), || self.has_work(slot))
        };
        let Some(spare) = spare else { return Departure::Vacant(slot) };
        spare.call_to(Assignment::Run(slot));
        Departure::Called(slot, spare)
    }

    /// Returns `true` if the calling thread's slot may have work for no other thread.
    fn has_work_of_its_own(&self) -> bool {
        // Relaxed: an actor bound to this worker from now on waits for the thread's return anyway.
        let pinned_actors = Worker::with_any(|worker| {
            worker.map_or(0, |worker| worker.slot().pinned_actors.load(Relaxed))
        });
        self.policy == Policy::Sharded || pinned_actors > 0
    }

    /// Keeps the calling thread's slot, idle for a while. Returns `false` if the wait is refused.
    fn keep_slot(&self, at_any_rate: bool) -> bool {
        if at_any_rate {
            self.blocked_slots.fetch_add(1, AcqRel);
        // One step for test and count, or two threads could both keep a last slot.
        } else {
            let all = self.slots.len();
            let step = |kept: usize| (kept + 1 < all).then_some(kept + 1);
            if self.has_work_of_its_own()
                || self.blocked_slots.fetch_update(AcqRel, Relaxed, step).is_err()
            {
                return false;
            }
        }
        // Under `Sharded` no sibling may run the work.
        if self.policy != Policy::Sharded {
            Worker::with_any(|worker| worker.expect("looked at before").give_away());
        }
        true
    }

    /// Requeues the runnable after a turn that cost the thread its slot.
    #[cold]
    pub(super) fn turn_over_without_slot(&self, header: NonNull<RunnableHeader>, after: After) {
        if after.goes_on() {
            // SAFETY: the turn gave the runnable back, so this is the only `Runnable` for the
            // header.
            self.push_from_outside(unsafe { Runnable::from_raw(header) });
        }
        self.spares.counts.turns.add_shared(1);
        // After the push, so that quiescence is not announced while no queue holds the runnable.
        if self.elsewhere.count_back() {
            self.announce_from_elsewhere();
        }
        if after == After::RequeueGap {
            std::thread::yield_now();
        }
    }
}

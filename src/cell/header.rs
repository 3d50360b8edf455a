//! The header: the untyped front of a cell (an actor's block of memory), and its reference counts.
//!
//! | counted by | keeps | held by |
//! |---|---|---|
//! | `STRONG` of the state word | the actor | references, callbacks, entries of room lists |
//! | `weak` | the memory | each `WeakRef`, and once the strong references with the living actor |
//!
//! The strong side's weak count is released by the thread that makes "dead and `STRONG` = 0" true,
//! which the state word says exactly once ([`Release::Free`],
//! [`Dead::free`](crate::mailbox::state::Dead)). The memory goes with the last weak count. A queued
//! or running cell is never dead, so a runnable needs no count of its own.
//!
//! Loom models: `models::references`, `models::retire`. Needed orderings:
//! `cargo xtask weaken`, groups `state` and `retire`.

use super::cold::Cold;
use super::core::{Core, Limits, Tally};
use super::registry::Shard;
use super::stopwatch::Stopwatch;
use super::supervisor::Supervised;
use crate::error::StopReason;
use crate::id::ActorId;
use crate::mailbox::inbox::Inbox;
use crate::mailbox::state::{Release, State};
use crate::memory::Held;
use crate::sched::crew_thread;
use crate::sched::runnable::Affinity;
use crate::sched::runnable::{Runnable, RunnableHeader, RunnableVtable};
use crate::sched::worker::Worker;
use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, Ordering::*};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// The functions of an actor's type for the lower floors.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ActorVtable {
    pub(crate) task: RunnableVtable,
    pub(crate) type_name: fn() -> &'static str,
    /// The hooks and the drop of the state. All three may panic.
    pub(crate) started: unsafe fn(NonNull<Header>),
    pub(crate) stopped: unsafe fn(NonNull<Header>, &StopReason),
    pub(crate) drop_state: unsafe fn(NonNull<Header>),
    /// Whether dropping the state does anything.
    pub(crate) needs_drop: bool,
    /// Frees the cell's memory, after the state was dropped. The proof is of the cell's pool.
    pub(crate) free: unsafe fn(NonNull<Header>, Held<'_>),
}

/// The phase of an actor's life. Only turns touch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// `started` has not returned.
    New,
    Running,
    /// There is no state, and a successor is to come. See `restart`.
    Vacant,
    /// A mailbox without an actor. See `shared`.
    Queue,
    /// The actor ends, and `started` had not returned, so `stopped` will not run.
    EndingUnstarted,
    /// The actor ends without a state.
    EndingVacant,
    Ending,
    /// `stopped` has run, or was left out.
    Ended,
}

/// Why an actor ends. The text of a panic lies in the cold part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    None,
    Stopped,
    Killed,
    Unreferenced,
    Panicked,
    Shutdown,
}

/// The front of a cell. The actor's state lies behind it.
///
/// The fields are in three groups: first those that senders write, then those that hardly change,
/// then those that only turns write. So a turn does not touch, message by message, the cache line
/// that senders on other cores use.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Header {
    task: RunnableHeader,
    pub(crate) state: State,
    pub(crate) inbox: Inbox,
    shard: *const Shard,
    id: ActorId,
    cold: AtomicPtr<Cold>,
    pub(crate) capacity: u32,
    place: u32,
    weak: AtomicU32,
    pub(crate) most_waiting: AtomicU32,
    /// The low half of a count, with the high half in the cold part.
    handled: AtomicU32,
    pub(crate) phase: Cell<Phase>,
    pub(crate) reason: Cell<Reason>,
    /// Whether the prepaid `tell_self` is under way.
    pub(crate) again: Cell<bool>,
    /// The hint of a stop. See [`stop_is_hinted`](Self::stop_is_hinted).
    stop_hint: AtomicBool,
}

// SAFETY: only the holder of the runnable touches the `Cell`s and the inboxes' receiving ends, here
// and in the cold part. All other fields are atomic or never change. `shard` points into the
// `Core`, which the registry keeps alive for every cell.
unsafe impl Sync for Header {}
// SAFETY: nothing in a header belongs to a thread.
unsafe impl Send for Header {}

impl Header {
    /// Makes the front of a new actor, with one reference. The caller pushes the first turn.
    pub(crate) fn new(
        vtable: &'static ActorVtable,
        shard: &Shard,
        id: ActorId,
        place: u32,
        capacity: u32,
        cold: Option<Box<Cold>>,
    ) -> Self {
        let supervised = cold.as_ref().and_then(|cold| cold.supervised.as_ref());
        let phase = if supervised.is_some_and(|supervised| supervised.is_queue()) {
            Phase::Queue
        } else {
            Phase::New
        };
        Header {
            task: RunnableHeader { vtable: ptr::from_ref(vtable).cast() },
            state: State::new(),
            inbox: Inbox::new(),
            shard,
            id,
            cold: AtomicPtr::new(cold.map_or(ptr::null_mut(), Box::into_raw)),
            capacity,
            place,
            weak: AtomicU32::new(1),
            most_waiting: AtomicU32::new(0),
            handled: AtomicU32::new(0),
            phase: Cell::new(phase),
            reason: Cell::new(Reason::None),
            again: Cell::new(false),
            stop_hint: AtomicBool::new(false),
        }
    }

    /// Turns a fresh cell into a tombstone: closed and dead, with no state.
    pub(crate) fn turn_into_tombstone(&self) {
        self.phase.set(Phase::Ended);
        self.reason.set(Reason::Shutdown);
        let _first_turn = self.state.set_closed(true);
        let _nobody = self.state.set_dead(true);
    }

    #[inline]
    pub(crate) fn vtable(&self) -> &'static ActorVtable {
        // SAFETY: `new` made the pointer from exactly such a reference.
        unsafe { &*self.task.vtable.cast() }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        (self.vtable().type_name)()
    }

    /// Returns the name that the actor was spawned with, if any.
    pub(crate) fn name(&self) -> Option<Arc<str>> {
        self.cold_if_any()?.name.clone()
    }

    #[inline]
    pub(crate) fn core(&self) -> &Core {
        // SAFETY: the registry keeps the core, and with it the shard, alive while this cell exists.
        unsafe { (*self.shard).core() }
    }

    pub(crate) fn shard(&self) -> &Shard {
        // SAFETY: the registry keeps the core, and with it the shard, alive while this cell exists.
        unsafe { &*self.shard }
    }

    /// Returns the proof that the memory pool lives as long as this cell is borrowed.
    #[inline]
    pub(crate) fn pool_held(&self) -> Held<'_> {
        if cfg!(debug_assertions) {
            return self.core().pool_held();
        }
        // A proof has no size in release builds, where the way to the pool is two atomic loads.
        // SAFETY: the registry keeps the core, and with it the pool, while this cell exists.
        unsafe { Held::promised() }
    }

    pub(crate) fn id(&self) -> ActorId {
        self.id
    }

    pub(crate) fn place(&self) -> u32 {
        self.place
    }

    /// Returns the cold part, if there is one.
    #[inline]
    pub(crate) fn cold_if_any(&self) -> Option<&Cold> {
        // Acquire: pairs with the Release in `cold`.
        // SAFETY: once set, the cold part stays until the cell is freed.
        unsafe { self.cold.load(Acquire).as_ref() }
    }

    /// Returns the cold part, and makes it if there is none.
    #[cold]
    pub(crate) fn cold(&self) -> &Cold {
        if let Some(cold) = self.cold_if_any() {
            return cold;
        }
        // Several threads may get here at the same time. The first one to store wins.
        let fresh = Box::into_raw(Box::<Cold>::default());
        match self.cold.compare_exchange(ptr::null_mut(), fresh, AcqRel, Acquire) {
            // SAFETY: the cold part stays until the cell is freed.
            Ok(_) => unsafe { &*fresh },
            Err(first) => {
                // SAFETY: `fresh` was never shared. `first` stays until the cell is freed.
                unsafe {
                    drop(Box::from_raw(fresh));
                    &*first
                }
            }
        }
    }

    /// Returns the stopwatch, if the actor is timed.
    #[inline]
    pub(crate) fn stopwatch(&self) -> Option<&Stopwatch> {
        self.cold_if_any()?.stopwatch.as_deref()
    }

    pub(crate) fn limits(&self) -> Limits {
        self.cold_if_any().and_then(|cold| cold.limits).unwrap_or(self.core().limits)
    }

    /// Returns the runnable.
    ///
    /// # Safety
    /// A transition told the caller to push the runnable, or the caller has just made the cell.
    #[inline]
    pub(crate) unsafe fn runnable(this: NonNull<Header>) -> Runnable {
        // SAFETY: the task header is the first field. A scheduled cell is not freed, and by the
        // transition no other runnable exists.
        unsafe { Runnable::from_raw(this.cast()) }
    }

    /// Pushes the runnable.
    ///
    /// # Safety
    /// A transition told the caller to push the runnable, or the caller has just made the cell.
    #[inline]
    pub(crate) unsafe fn schedule(this: NonNull<Header>) {
        // SAFETY: a scheduled cell lives until its turn, and the core as long.
        let scheduler = unsafe { &this.as_ref().core().scheduler };
        // SAFETY: by this function's contract.
        Worker::with(scheduler, |worker| unsafe { Header::schedule_at(this, worker) });
    }

    /// Like [`schedule`](Self::schedule), for a caller that has looked up its worker.
    ///
    /// # Safety
    /// That of [`schedule`](Self::schedule). `worker` is the calling thread's, of this crew.
    #[inline]
    pub(crate) unsafe fn schedule_at(this: NonNull<Header>, worker: Option<&Worker>) {
        // SAFETY: a scheduled cell lives until its turn, and the core as long.
        unsafe {
            if let Some(stopwatch) = this.as_ref().stopwatch() {
                stopwatch.runnable_now();
            }
            this.as_ref().core().scheduler.schedule_at(worker, Header::runnable(this));
        }
    }

    /// Returns the supervised part of the actor, if there is one.
    pub(crate) fn supervised(&self) -> Option<&Supervised> {
        self.cold_if_any()?.supervised.as_deref()
    }

    /// Counts the messages that a turn has handled.
    #[inline]
    pub(crate) fn count_handled(&self, messages: u32) {
        // Relaxed throughout: an actor's turns do not overlap, and readers only report.
        let (sum, over) = self.handled.load(Relaxed).overflowing_add(messages);
        if over {
            let high = &self.cold().handled_high;
            high.store(high.load(Relaxed).wrapping_add(1), Relaxed);
        }
        self.handled.store(sum, Relaxed);
    }

    /// Returns the number of messages handled so far (once in 2^32 messages, that much too many).
    pub(crate) fn handled_total(&self) -> u64 {
        let high = self.cold_if_any().map_or(0, |cold| cold.handled_high.load(Relaxed));
        u64::from(high) << 32 | u64::from(self.handled.load(Relaxed))
    }

    /// Returns `true` if the running turn should end after the message in hand.
    ///
    /// A hint for turns, which would otherwise read the state word after each message, on the cache
    /// line where senders write. The word decides, in the last step of the turn:
    ///
    /// - **A hint is never lost.** A stop sets the word's flag, then the hint. A turn clears the
    ///   hint, then makes a step of the word (`end_turn`, `clear_retire`). Either that step sees
    ///   the flag and the turn acts on it. Or the stop's step comes later and acquires from the
    ///   turn's step, so the hint is set after the clearing.
    /// - **A hint without a flag ends one turn early.** Such a hint is set after a turn has acted
    ///   on the flag. The hint stays until a turn ends by `finish`, or the next state begins.
    ///   `end_idle` leaves it, at no cost: nothing was left to handle. A turn cut short by the hint
    ///   ends by `finish`, finds nothing in the word, and goes on in its next turn.
    #[inline]
    pub(crate) fn stop_is_hinted(&self) -> bool {
        self.stop_hint.load(Relaxed)
    }

    /// Sets the hint, after the word's flag was set: a running turn ends after the message in hand.
    pub(super) fn hint_stop(&self) {
        // Relaxed: see `stop_is_hinted`.
        self.stop_hint.store(true, Relaxed);
    }

    /// Clears the hint, in a turn, before a step of the word.
    pub(super) fn clear_stop_hint(&self) {
        // Relaxed: the step releases it.
        self.stop_hint.store(false, Relaxed);
    }

    /// Clears the flag and the hint, in a turn: stops of the state until now are done with.
    pub(super) fn forget_stop(&self) {
        self.clear_stop_hint();
        if self.state.clear_retire().is_killed() {
            // A kill is not forgotten. Its hint may just have been cleared.
            self.hint_stop();
        }
    }

    /// Releases one strong reference.
    ///
    /// # Safety
    /// The caller owned the reference, and does not use `this` afterwards.
    #[inline]
    pub(crate) unsafe fn release_strong(this: NonNull<Header>) {
        // SAFETY: the caller's reference keeps the cell alive until this step.
        match unsafe { this.as_ref() }.state.release_ref() {
            Release::Nothing => {}
            Release::Schedule => {
                // After the push the actor and its executor may end, while this thread still wakes
                // a worker. So the core is held, as a worker's thread and holders of references do.
                // SAFETY: the runnable keeps the cell, and by the transition this thread pushes it.
                unsafe {
                    let core = this.as_ref().core();
                    let _held = (!core.on_crew()).then(|| core.share());
                    Header::schedule(this);
                }
            }
            // SAFETY: the transition told this thread to release the strong side's weak count.
            Release::Free => unsafe { Header::release_weak(this) },
        }
    }

    pub(crate) fn add_weak(&self) {
        // Relaxed: the caller holds a count of the cell already.
        if self.weak.fetch_add(1, Relaxed) > u32::MAX / 2 {
            std::process::abort();
        }
    }

    /// Releases one weak count. The last one frees the memory.
    ///
    /// # Safety
    /// The caller owned the count, and does not use `this` afterwards.
    #[inline]
    pub(crate) unsafe fn release_weak(this: NonNull<Header>) {
        // AcqRel: Release hands over what this holder did, Acquire takes over from earlier holders.
        // SAFETY: the caller's count keeps the memory until this step.
        if unsafe { this.as_ref() }.weak.fetch_sub(1, AcqRel) == 1 {
            // SAFETY: the step above took the last count.
            unsafe { Header::forget_and_free(this) };
        }
    }

    /// Frees the memory, or leaves that to this worker's dead cells.
    ///
    /// # Safety
    /// No count of the cell is left, and the caller took the last one.
    #[inline(never)]
    unsafe fn forget_and_free(this: NonNull<Header>) {
        debug_assert!(
            !ptr::eq(crew_thread::current_actor(), this.as_ptr().cast()),
            "the memory goes of the actor whose turn runs here"
        );
        // SAFETY: no count is left, so only this thread and the registry know the cell. Until the
        // cell is forgotten the registry keeps the core, which a worker also holds itself.
        let forgotten = unsafe {
            let header = this.as_ref();
            Worker::with(&header.core().scheduler, |worker| match worker {
                Some(worker) => {
                    Tally::of_worker(worker).dead_cells.defer_free(this);
                    None
                }
                // In a forked child the registry may be locked for ever: the memory stays.
                None if header.core().is_forked() => None,
                None => Some(header.shard().forget_cell(header.place())),
            })
        };
        if let Some(core) = forgotten {
            // SAFETY: the cell is forgotten, so no other thread knows it.
            unsafe { Header::free_memory(this, core.pool_held()) };
        }
    }

    /// Frees the memory. `held` is of the cell's pool.
    ///
    /// # Safety
    /// The cell is forgotten, and no other thread knows it.
    pub(super) unsafe fn free_memory(this: NonNull<Header>, held: Held<'_>) {
        // SAFETY: no other thread knows the cell, and its state was dropped before it was dead.
        unsafe {
            let header = this.as_ref();
            let cold = header.cold.load(Relaxed);
            if !cold.is_null() {
                drop(Box::from_raw(cold));
            }
            (header.vtable().free)(this, held);
        }
    }
}

/// Returns where a pinned or dedicated actor must run, for the tables of such actors.
///
/// # Safety
/// The runnable belongs to a living cell that was made with such a table and with a cold part.
pub(crate) unsafe fn affinity_of(task: NonNull<RunnableHeader>) -> NonNull<Affinity> {
    // SAFETY: the runnable is a living cell's first field. The cold part stays as long as the cell.
    let cold = unsafe { task.cast::<Header>().as_ref() }.cold_if_any();
    NonNull::from(&cold.expect("made with one").affinity)
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    /// With 16 bytes of state, 8 in the registry and a reference an idle actor takes 112 bytes.
    #[test]
    fn the_front_takes_80_bytes() {
        assert_eq!(size_of::<Header>(), 80);
    }
}

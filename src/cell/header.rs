//! The cell: an actor's one block of memory. Its untyped front, who keeps it alive, and who frees it.
//!
//! | counted by | keeps | held by |
//! |---|---|---|
//! | `STRONG` of the state word | the actor | `ActorRef`, `Recipient`, `Asker`, a callback, a place on a room list |
//! | `weak` | the memory | each `WeakRef`, and one for all strong references and the living actor together |
//!
//! The one weak count of the strong side is let go by whoever makes "dead and `STRONG` = 0" true, which the state
//! word says exactly once ([`Release::Free`], [`Dead::free`](crate::mailbox::state::Dead)). The memory goes with the
//! last weak count. A queued or running cell is never dead, so a runnable needs no count of its own.

use super::core::{Core, Limits, Tally};
pub(crate) use super::counted::{Strong, Weak};
use super::prepaid::Prepaid;
use super::registry::Shard;
use super::restart::{self, Kept};
use super::room::RoomList;
use super::shared;
use super::stopwatch::Stopwatch;
use super::ticks::Ticks;
use crate::error::StopReason;
use crate::id::ActorId;
use crate::mailbox::inbox::Inbox;
use crate::mailbox::state::{Release, State};
use crate::memory::Held;
use crate::panics::PanicText;
use crate::sched::bound::Bound;
use crate::sched::local::Local;
use crate::sched::member;
use crate::sched::task::{Task, TaskHeader, TaskVtable};
use crate::sync::{AtomicBool, AtomicPtr, AtomicU32, Mutex, Ordering::*, Wakers};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// What the lower floors need to know of an actor's type.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct ActorVtable {
    pub(crate) task: TaskVtable,
    pub(crate) type_name: fn() -> &'static str,
    /// Hooks and the drop of the state; all may panic.
    pub(crate) started: unsafe fn(NonNull<Header>),
    pub(crate) stopped: unsafe fn(NonNull<Header>, &StopReason),
    pub(crate) drop_state: unsafe fn(NonNull<Header>),
    /// Does dropping the state do anything?
    pub(crate) needs_drop: bool,
    /// Gives the cell's memory back; the state is dropped by then. The proof is of the cell's pool.
    pub(crate) free: unsafe fn(NonNull<Header>, Held<'_>),
}

/// Where an actor is in its life; touched by turns only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// `started` has not returned.
    New,
    Running,
    /// The state is gone, and a successor is to come: see `restart`.
    Vacant,
    /// A mailbox without an actor: see `shared`.
    Queue,
    /// Ending; `started` had not returned, so `stopped` will not run.
    EndingUnstarted,
    /// Ending, without a state.
    EndingVacant,
    Ending,
    /// `stopped` has run.
    Ended,
}

/// Why an actor ends; the panic's text is in the cold part.
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

/// The cell's front. The actor's state lies behind it.
///
/// First what senders write, then what hardly changes, then what only turns write: a turn does not touch, message by
/// message, the cache line that senders on other cores are at.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Header {
    task: TaskHeader,
    pub(crate) state: State,
    pub(crate) inbox: Inbox,
    shard: *const Shard,
    id: ActorId,
    cold: AtomicPtr<Cold>,
    pub(crate) capacity: u32,
    place: u32,
    weak: AtomicU32,
    pub(crate) most_waiting: AtomicU32,
    /// The low half of a count whose high half is in the cold part.
    handled: AtomicU32,
    pub(crate) phase: Cell<Phase>,
    pub(crate) reason: Cell<Reason>,
    /// The one `again` that is prepaid is under way.
    pub(crate) again: Cell<bool>,
    /// See [`killed`](Self::killed).
    killed: AtomicBool,
}

// SAFETY: the `Cell`s and the inboxes' receiving ends, here and in the cold part, are touched by the holder of the
// runnable only; the rest is atomic or never changes; `shard` points into the `Core` that the registry keeps alive for
// every cell.
unsafe impl Sync for Header {}
// SAFETY: as above.
unsafe impl Send for Header {}

/// What most actors never need.
#[derive(Debug, Default)]
pub(crate) struct Cold {
    pub(crate) name: Option<Box<str>>,
    /// Messages handled, in 2^32.
    pub(crate) handled_high: AtomicU32,
    pub(crate) limits: Option<Limits>,
    pub(crate) panic: Mutex<Option<PanicText>>,
    pub(crate) room: Mutex<RoomList>,
    /// Waits for the end.
    pub(crate) stop: Mutex<Wakers>,
    pub(crate) ticks: Ticks,
    pub(crate) prepaid: Prepaid,
    /// Of a timed actor, from its first moment on.
    pub(crate) stopwatch: Option<Box<Stopwatch>>,
    /// Never changes.
    pub(crate) bound: Bound,
    /// There is no state to drop, since none was made: see [`dedicated`](super::dedicated). For turns only.
    pub(crate) unmade: Cell<bool>,
    /// Set before the cell is known to anybody.
    pub(crate) kept: Option<Box<Kept>>,
}

impl Cold {
    /// Of an actor that is timed, and has nothing else.
    pub(crate) fn timed() -> Box<Self> {
        Box::new(Cold { stopwatch: Some(Stopwatch::new()), ..Cold::default() })
    }
}

/// Where a bound actor must run: for the table of those that are.
///
/// # Safety
/// The runnable is a cell's that was made with such a table and with its cold part, and lives.
pub(crate) unsafe fn bound(task: NonNull<TaskHeader>) -> NonNull<Bound> {
    // SAFETY: the caller's; the cold part stays until the cell is freed.
    let cold = unsafe { task.cast::<Header>().as_ref() }.cold_if_any();
    NonNull::from(&cold.expect("made with one").bound)
}

impl Header {
    /// A new actor's front: one reference, its first turn still to be pushed by the caller.
    pub(crate) fn new(
        vtable: &'static ActorVtable,
        shard: &Shard,
        id: ActorId,
        place: u32,
        capacity: u32,
        cold: Option<Box<Cold>>,
    ) -> Self {
        let kept = cold.as_ref().and_then(|cold| cold.kept.as_ref());
        let phase = if kept.is_some_and(|kept| kept.is_queue()) { Phase::Queue } else { Phase::New };
        Header {
            task: TaskHeader { vtable: ptr::from_ref(vtable).cast() },
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
            killed: AtomicBool::new(false),
        }
    }

    /// Makes a cell that was never alive: closed, dead, and nothing in it.
    pub(crate) fn bury(&self) {
        self.phase.set(Phase::Ended);
        self.reason.set(Reason::Shutdown);
        let _first_turn = self.state.close(true);
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

    #[inline]
    pub(crate) fn core(&self) -> &Core {
        // SAFETY: the registry keeps the core, and with it the shard, alive while this cell exists.
        unsafe { (*self.shard).core() }
    }

    pub(crate) fn shard(&self) -> &Shard {
        // SAFETY: as above.
        unsafe { &*self.shard }
    }

    /// The proof that the memory pool lives as long as whatever keeps this cell.
    #[inline]
    pub(crate) fn held(&self) -> Held<'_> {
        if cfg!(debug_assertions) {
            return self.core().held();
        }
        // A proof has no size here. The way to the pool would be two loads for each message, since an atomic load is never
        // optimised away.
        // SAFETY: the registry keeps the core, and with it the pool, while this cell exists.
        unsafe { Held::promised() }
    }

    pub(crate) fn id(&self) -> ActorId {
        self.id
    }

    pub(crate) fn place(&self) -> u32 {
        self.place
    }

    /// The cold part, if there is one.
    #[inline]
    pub(crate) fn cold_if_any(&self) -> Option<&Cold> {
        // Acquire: pairs with the Release in `cold`. SAFETY: once set it stays until the cell is freed.
        unsafe { self.cold.load(Acquire).as_ref() }
    }

    /// The cold part, made now if need be.
    #[cold]
    pub(crate) fn cold(&self) -> &Cold {
        if let Some(cold) = self.cold_if_any() {
            return cold;
        }
        let fresh = Box::into_raw(Box::<Cold>::default());
        match self.cold.compare_exchange(ptr::null_mut(), fresh, AcqRel, Acquire) {
            // SAFETY: it stays until the cell is freed.
            Ok(_) => unsafe { &*fresh },
            Err(first) => {
                // SAFETY: ours was never shared; theirs stays until the cell is freed.
                unsafe {
                    drop(Box::from_raw(fresh));
                    &*first
                }
            }
        }
    }

    /// Only timed actors have one.
    #[inline]
    pub(crate) fn stopwatch(&self) -> Option<&Stopwatch> {
        self.cold_if_any()?.stopwatch.as_deref()
    }

    pub(crate) fn limits(&self) -> Limits {
        self.cold_if_any().and_then(|cold| cold.limits).unwrap_or(self.core().limits)
    }

    /// The runnable.
    ///
    /// # Safety
    /// Only for whom a transition of the state word said to push it, or for the creator, once.
    #[inline]
    pub(crate) unsafe fn runnable(this: NonNull<Header>) -> Task {
        // SAFETY: the header begins with its task header; a scheduled cell is not freed; uniqueness is the caller's.
        unsafe { Task::from_raw(this.cast()) }
    }

    /// # Safety
    /// As for [`runnable`](Self::runnable).
    #[inline]
    pub(crate) unsafe fn schedule(this: NonNull<Header>) {
        // SAFETY: scheduled, so it lives until its turn; the core lives as long.
        unsafe {
            if let Some(stopwatch) = this.as_ref().stopwatch() {
                stopwatch.runnable_now();
            }
            this.as_ref().core().scheduler.schedule(Header::runnable(this));
        }
    }

    /// Closes the mailbox; with `kill`, what waits is not handled.
    pub(crate) fn close(this: NonNull<Header>, kill: bool) {
        // SAFETY: callers hold a reference, or the registry's lock. The transition says whether to push.
        unsafe {
            let schedule = this.as_ref().state.close(kill);
            if kill {
                this.as_ref().hint_stop();
            }
            if schedule {
                Header::schedule(this);
            } else if let Some(kept) = this.as_ref().kept()
                && !this.as_ref().core().forked()
            {
                shared::nudge(kept);
            }
        }
    }

    /// What `stop` and `stop_now` of a reference do: for one whose state is replaced, that is the state's end.
    pub(crate) fn stop(this: NonNull<Header>, kill: bool) {
        // SAFETY: callers hold a reference.
        match unsafe { this.as_ref() }.kept() {
            Some(kept) if !kept.is_queue() => restart::retire(this, kill),
            _ => Header::close(this, kill),
        }
    }

    /// How this actor goes on after its state's end, if it does.
    pub(crate) fn kept(&self) -> Option<&Kept> {
        self.cold_if_any()?.kept.as_deref()
    }

    /// A turn has handled so many.
    #[inline]
    pub(crate) fn count_handled(&self, messages: u32) {
        // Relaxed throughout: turns are one at a time, and readers only report.
        let (sum, over) = self.handled.load(Relaxed).overflowing_add(messages);
        if over {
            let high = &self.cold().handled_high;
            high.store(high.load(Relaxed).wrapping_add(1), Relaxed);
        }
        self.handled.store(sum, Relaxed);
    }

    /// Messages handled so far. (Once in 2^32 messages it may be read that much too high.)
    pub(crate) fn handled(&self) -> u64 {
        let high = self.cold_if_any().map_or(0, |cold| cold.handled_high.load(Relaxed));
        u64::from(high) << 32 | u64::from(self.handled.load(Relaxed))
    }

    /// Returns `true` if the running turn should end after the message in hand.
    ///
    /// This is a hint for turns, which would otherwise read the state word, where senders write, after each message. The word
    /// decides, in the last step of the turn:
    ///
    /// - **A hint is never lost.** A stop sets the word's flag, then the hint. A turn clears the hint, then makes a step of the
    ///   word (`end_turn`, `forget_retire`). Either that step sees the flag and the turn acts on it, or the stop's step comes
    ///   later, acquires from the turn's, and so its hint comes after the clearing.
    /// - **A hint without a flag ends one turn early.** Such a hint is set after a turn has acted on the flag. It stays until a
    ///   turn ends by `finish`, which clears it, or the next state begins. A turn that ends by `end_idle` leaves it, at no cost:
    ///   nothing was left to handle. A turn that the hint ends while messages wait ends by `finish`, finds nothing in the word,
    ///   and goes on in its next turn.
    ///
    /// `models::retire` has both.
    #[inline]
    pub(crate) fn killed(&self) -> bool {
        self.killed.load(Relaxed)
    }

    /// After the word's flag was set: a turn that runs ends after the message in hand.
    pub(super) fn hint_stop(&self) {
        // Relaxed: see `killed`.
        self.killed.store(true, Relaxed);
    }

    /// Before a step of the word, in a turn.
    pub(super) fn clear_stop_hint(&self) {
        // Relaxed: the step releases it.
        self.killed.store(false, Relaxed);
    }

    /// In a turn: stops of the state that were asked for until now are done with.
    pub(super) fn forget_stop(&self) {
        self.clear_stop_hint();
        if self.state.forget_retire().killed() {
            self.hint_stop();
        }
    }

    /// Lets go of one strong reference.
    ///
    /// # Safety
    /// The caller owned one, and does not use `this` afterwards.
    #[inline]
    pub(crate) unsafe fn release(this: NonNull<Header>) {
        // SAFETY: the caller's reference keeps it alive until here.
        match unsafe { this.as_ref() }.state.release_ref() {
            Release::Nothing => {}
            Release::Schedule => {
                // Once it is pushed the actor may end, and its executor with it, while this thread is still about to
                // wake a worker: so hold the core. (A worker's thread holds it anyway, and whoever else schedules
                // holds a reference to the actor.)
                // SAFETY: the runnable keeps the cell; the transition made us the one to push it.
                unsafe {
                    let core = this.as_ref().core();
                    let _held = (!core.on_crew()).then(|| core.share());
                    Header::schedule(this);
                }
            }
            // SAFETY: the transition says that the strong side's weak count is ours to let go.
            Release::Free => unsafe { Header::release_weak(this) },
        }
    }

    pub(crate) fn add_weak(&self) {
        // Relaxed: the caller holds a reference of some kind.
        if self.weak.fetch_add(1, Relaxed) > u32::MAX / 2 {
            std::process::abort();
        }
    }

    /// Lets go of one weak count; the last one frees the memory.
    ///
    /// # Safety
    /// The caller owned one, and does not use `this` afterwards.
    #[inline]
    pub(crate) unsafe fn release_weak(this: NonNull<Header>) {
        // AcqRel: Release gives what this holder did to the thread that frees, Acquire takes it from all earlier holders.
        // SAFETY: the caller's count keeps the memory until here.
        if unsafe { this.as_ref() }.weak.fetch_sub(1, AcqRel) == 1 {
            // SAFETY: the last count is gone.
            unsafe { Header::forget(this) };
        }
    }

    /// Frees the memory, or leaves that to this worker's graves.
    ///
    /// # Safety
    /// No count of the cell is left, and the caller took the last one.
    #[inline(never)]
    unsafe fn forget(this: NonNull<Header>) {
        debug_assert!(
            !ptr::eq(member::current(), this.as_ptr().cast()),
            "the memory goes of the actor whose turn runs here"
        );
        // SAFETY: the last count is gone, so only this thread and the registry know the cell. The registry keeps the core until the
        // cell is forgotten. A worker of the crew holds the core itself.
        let forgotten = unsafe {
            let header = this.as_ref();
            Local::with(&header.core().scheduler, |local| match local {
                Some(local) => {
                    Tally::of(local).graves.add(this);
                    None
                }
                // In a forked child the registry may be locked for ever, and the memory is the child's to the end.
                None if header.core().forked() => None,
                None => Some(header.shard().forget(header.place())),
            })
        };
        if let Some(core) = forgotten {
            // SAFETY: forgotten, so no other thread knows the cell.
            unsafe { Header::free(this, core.held()) };
        }
    }

    /// Gives the memory back. `held` is of the cell's pool.
    ///
    /// # Safety
    /// The cell is forgotten, and no other thread knows it.
    pub(super) unsafe fn free(this: NonNull<Header>, held: Held<'_>) {
        // SAFETY: the caller is alone with the cell, whose state was dropped before it was dead.
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

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    /// With 16 bytes of state, 8 in the registry and a reference of 8 it is 112 bytes for an idle actor.
    #[test]
    fn the_front_takes_80_bytes() {
        assert_eq!(size_of::<Header>(), 80);
    }
}

//! One actor type's cell and its table for the floors below.

use super::Actor;
use super::context::Context;
use crate::cell::core::Core;
use crate::cell::header::{self, ActorVtable, Header};
use crate::cell::turn;
use crate::error::StopReason;
use crate::memory::{self, Held, Kind};
use crate::sched::local::Local;
use crate::sched::task::{TaskHeader, TaskVtable};
use std::cell::UnsafeCell;
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;

/// The one block of an actor: the untyped front, then the state (which a [`member`](super::member)'s first turn makes).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct CellOf<A> {
    header: Header,
    state: UnsafeCell<MaybeUninit<A>>,
}

impl<A: Actor> CellOf<A> {
    const VTABLE: ActorVtable = ActorVtable {
        task: TaskVtable { run: turn::run, key: Self::key, bound: None },
        type_name: std::any::type_name::<A>,
        started: Self::started,
        stopped: Self::stopped,
        drop_state: Self::drop_state,
        needs_drop: std::mem::needs_drop::<A>(),
        free: Self::free,
    };
    const BOUND: ActorVtable = ActorVtable {
        task: TaskVtable { run: turn::run, key: Self::key, bound: Some(header::bound) },
        ..Self::VTABLE
    };
    const DEDICATED: ActorVtable = ActorVtable { drop_state: Self::drop_state_if_made, ..Self::BOUND };

    pub(crate) const fn vtable() -> &'static ActorVtable {
        &Self::VTABLE
    }

    /// For an actor that is kept on one worker.
    pub(crate) const fn vtable_of_bound() -> &'static ActorVtable {
        &Self::BOUND
    }

    /// For one on a thread of its own, which may have no state.
    pub(crate) const fn vtable_of_dedicated() -> &'static ActorVtable {
        &Self::DEDICATED
    }

    /// Makes the state.
    ///
    /// # Safety
    /// By the holder of the actor's runnable, whose type is `A`, before or inside its first turn; once, and only if the cell
    /// was made without a state.
    pub(super) unsafe fn init(this: NonNull<Header>, actor: A) {
        // SAFETY: the header is the first field of a CellOf<A>, and the turn is exclusive.
        unsafe { (*this.cast::<Self>().as_ref().state.get()).write(actor) };
    }

    /// The state.
    ///
    /// # Safety
    /// Inside a turn of this actor, whose type is `A` and whose state is made; not while another such reference lives.
    #[inline]
    pub(crate) unsafe fn state<'a>(this: NonNull<Header>) -> &'a mut A {
        // SAFETY: the header is the first field of a CellOf<A>, and the turn is exclusive.
        unsafe { (*this.cast::<CellOf<A>>().as_ref().state.get()).assume_init_mut() }
    }

    pub(super) unsafe fn key(task: NonNull<TaskHeader>) -> u64 {
        // SAFETY: a runnable's header is a cell's.
        unsafe { task.cast::<Header>().as_ref() }.id().get()
    }

    pub(super) unsafe fn started(this: NonNull<Header>) {
        let mut ctx = Context::new(this);
        // SAFETY: the caller is in a turn.
        unsafe { Self::state(this) }.started(&mut ctx);
    }

    pub(super) unsafe fn stopped(this: NonNull<Header>, reason: &StopReason) {
        // SAFETY: the caller is in a turn.
        unsafe { Self::state(this) }.stopped(reason);
    }

    pub(super) unsafe fn drop_state(this: NonNull<Header>) {
        // SAFETY: the caller is in the actor's last turn and calls this once.
        unsafe { (*this.cast::<CellOf<A>>().as_ref().state.get()).assume_init_drop() };
    }

    unsafe fn drop_state_if_made(this: NonNull<Header>) {
        // SAFETY: the caller's, as below.
        let unmade = unsafe { this.as_ref() }.cold_if_any().is_some_and(|cold| cold.unmade.get());
        if !unmade {
            // SAFETY: the caller's; it was made before the first turn.
            unsafe { Self::drop_state(this) };
        }
    }

    /// A new state, where the old one was dropped.
    ///
    /// # Safety
    /// In a turn of this actor, whose type is `A`, and which has no state.
    pub(crate) unsafe fn refill(this: NonNull<Header>, actor: A) {
        // SAFETY: the caller's; nothing is overwritten that is still alive.
        unsafe { (*this.cast::<CellOf<A>>().as_ref().state.get()).write(actor) };
    }

    unsafe fn free(this: NonNull<Header>, held: Held<'_>) {
        // SAFETY: allocated as an `Unborn`, and nobody else knows it any more.
        Local::with_heap(|here| unsafe { memory::free(here, Kind::Cell, this.cast::<CellOf<A>>(), held) });
    }
}

/// The memory of a cell that nobody knows yet, perhaps with the state in it.
///
/// A state moves here before anything else is done with it, and outside of all locks: however large it is, it crosses no
/// more than the stack frames of the public function that it was given to.
pub(crate) struct Unborn<'a, A> {
    /// Keeps the heap that the memory is from.
    core: &'a Core,
    cell: NonNull<CellOf<A>>,
    has_state: bool,
    /// Made in a forked child, which leaves its parent's heaps alone: the memory is the system's, and no cell comes of it but
    /// one that is never freed.
    apart: bool,
}

// SAFETY: it owns the state, and nothing else in it belongs to a thread.
unsafe impl<A: Send> Send for Unborn<'_, A> {}
// SAFETY: a shared reference gives no access to the state.
unsafe impl<A: Sync> Sync for Unborn<'_, A> {}

impl<'a, A> Unborn<'a, A> {
    /// Memory for an actor whose state is still to be [made](CellOf::init).
    #[inline]
    pub(crate) fn without_state(core: &'a Core) -> Self {
        let apart = core.forked();
        let cell = if apart {
            NonNull::from(Box::leak(Box::<CellOf<A>>::new_uninit())).cast()
        } else {
            core.with_heap(|heap| memory::place::<CellOf<A>>(heap, Kind::Cell))
        };
        Unborn { core, cell, has_state: false, apart }
    }

    #[inline]
    pub(crate) fn new(core: &'a Core, actor: A) -> Self {
        let mut this = Self::without_state(core);
        // SAFETY: the memory is ours alone. Not by a reference to the cell, whose header is not written yet.
        unsafe { (&raw mut (*this.cell.as_ptr()).state).cast::<A>().write(actor) };
        this.has_state = true;
        this
    }

    pub(crate) fn core(&self) -> &'a Core {
        self.core
    }

    /// Returns `true` in a forked child, where no actor comes of it.
    #[inline]
    pub(crate) fn is_apart(&self) -> bool {
        self.apart
    }

    /// The state back, which was there.
    pub(crate) fn into_state(mut self) -> A {
        assert!(self.has_state, "this cell has no state yet");
        self.has_state = false; // the drop gives up the memory alone
        // SAFETY: as the flag said, and from now on it says that nothing is there.
        unsafe { (&raw const (*self.cell.as_ptr()).state).cast::<A>().read() }
    }

    /// Completes the cell. `header` must have been made with a table of this type.
    pub(crate) fn complete(self, header: Header) -> NonNull<Header> {
        // SAFETY: it is neither used nor dropped afterwards.
        unsafe { ManuallyDrop::new(self).complete_in_place(header) }
    }

    /// The same for a caller that keeps the empty hull.
    ///
    /// # Safety
    /// `self` is neither used nor dropped afterwards.
    #[inline]
    pub(crate) unsafe fn complete_in_place(&self, header: Header) -> NonNull<Header> {
        // SAFETY: the memory is ours alone until this returns; the state stays as it is.
        unsafe { (&raw mut (*self.cell.as_ptr()).header).write(header) };
        self.cell.cast()
    }
}

impl<A> Drop for Unborn<'_, A> {
    fn drop(&mut self) {
        /// Gives the memory up also if the state's drop panics.
        struct Memory<'a, A>(NonNull<CellOf<A>>, &'a Core, bool);
        impl<A> Drop for Memory<'_, A> {
            fn drop(&mut self) {
                let Memory(cell, core, apart) = *self;
                if apart {
                    // SAFETY: a box by `without_state`.
                    drop(unsafe { Box::from_raw(cell.cast::<MaybeUninit<CellOf<A>>>().as_ptr()) });
                } else if !core.forked() {
                    // SAFETY: allocated by `without_state`, and nobody else knows it; the state is gone.
                    Local::with_heap(|here| unsafe { memory::free(here, Kind::Cell, cell, core.held()) });
                }
            }
        }
        let memory = Memory(self.cell, self.core, self.apart);
        if self.has_state {
            // SAFETY: as the flag says; dropped where it lies, once.
            unsafe { (&raw mut (*memory.0.as_ptr()).state).cast::<A>().drop_in_place() };
        }
    }
}

impl<A> fmt::Debug for Unborn<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unborn").field("has_state", &self.has_state).finish_non_exhaustive()
    }
}

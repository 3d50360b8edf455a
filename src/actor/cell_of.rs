//! The cell of an actor type, and the type's table for the floors below.

use super::Actor;
use super::context::Context;
use crate::cell::core::Core;
use crate::cell::header::{self, ActorVtable, Header};
use crate::cell::turn;
use crate::error::StopReason;
use crate::memory::{self, Heap, Held, Kind};
use crate::sched::runnable::{RunnableHeader, RunnableVtable};
use crate::sched::worker::Worker;
use std::cell::UnsafeCell;
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::NonNull;

/// An actor's block of memory: the untyped front, then the state (which the first turn of a
/// [`managed`](super::managed) makes).
#[derive(Debug)]
#[repr(C)]
pub(crate) struct CellOf<A> {
    header: Header,
    state: UnsafeCell<MaybeUninit<A>>,
}

impl<A: Actor> CellOf<A> {
    // Three tables instead of flags in the cell: an actor that is not pinned pays only a look at an
    // entry of a table that the worker reads anyway.
    const VTABLE: ActorVtable = ActorVtable {
        task: RunnableVtable { run: turn::run_cell, key: Self::affinity_key, bound: None },
        type_name: std::any::type_name::<A>,
        started: Self::started,
        stopped: Self::stopped,
        drop_state: Self::drop_state,
        // Without a destructor the end of the actor makes no guarded call.
        needs_drop: std::mem::needs_drop::<A>(),
        free: Self::free_cell,
    };
    const BOUND: ActorVtable = ActorVtable {
        task: RunnableVtable {
            run: turn::run_cell,
            key: Self::affinity_key,
            bound: Some(header::affinity_of),
        },
        ..Self::VTABLE
    };
    const DEDICATED: ActorVtable =
        ActorVtable { drop_state: Self::drop_state_if_made, ..Self::BOUND };

    pub(crate) const fn actor_vtable() -> &'static ActorVtable {
        &Self::VTABLE
    }

    /// Returns the table of a pinned actor.
    pub(crate) const fn vtable_of_bound() -> &'static ActorVtable {
        &Self::BOUND
    }

    /// Returns the table of an actor with a dedicated thread, which may have no state.
    pub(crate) const fn vtable_of_dedicated() -> &'static ActorVtable {
        &Self::DEDICATED
    }

    /// Writes the state.
    ///
    /// # Safety
    /// The caller holds the runnable of an actor of type `A`, before or inside its first turn.
    /// Called once, and only if the cell was made without a state.
    pub(super) unsafe fn init_state(this: NonNull<Header>, actor: A) {
        // SAFETY: the header is the first field of a `CellOf<A>`. The runnable makes the access
        // exclusive, and there is no state that the write could leak.
        unsafe { (*this.cast::<Self>().as_ref().state.get()).write(actor) };
    }

    /// Returns the state.
    ///
    /// # Safety
    /// Called inside a turn of an actor of type `A` that has a state. No other such reference is
    /// alive.
    #[inline]
    pub(crate) unsafe fn state_mut<'a>(this: NonNull<Header>) -> &'a mut A {
        // SAFETY: the header is the first field of a `CellOf<A>` with a state, and the turn makes
        // the access exclusive.
        unsafe { (*this.cast::<CellOf<A>>().as_ref().state.get()).assume_init_mut() }
    }

    pub(super) unsafe fn affinity_key(task: NonNull<RunnableHeader>) -> u64 {
        // SAFETY: the header of this table's runnables is the first field of a cell's header.
        unsafe { task.cast::<Header>().as_ref() }.id().get()
    }

    pub(super) unsafe fn started(this: NonNull<Header>) {
        let mut ctx = Context::new(this);
        // SAFETY: called through the table, in a turn of an actor of type `A` that has a state.
        unsafe { Self::state_mut(this) }.started(&mut ctx);
    }

    pub(super) unsafe fn stopped(this: NonNull<Header>, reason: &StopReason) {
        // SAFETY: called through the table, in a turn of an actor of type `A` that has a state.
        unsafe { Self::state_mut(this) }.stopped(reason);
    }

    pub(super) unsafe fn drop_state(this: NonNull<Header>) {
        // SAFETY: called through the table, once, in the actor's turn. The cell has a state, which
        // nothing uses afterwards.
        unsafe { (*this.cast::<CellOf<A>>().as_ref().state.get()).assume_init_drop() };
    }

    unsafe fn drop_state_if_made(this: NonNull<Header>) {
        // SAFETY: called in the actor's last turn, so the cell is alive.
        let unmade = unsafe { this.as_ref() }.cold_if_any().is_some_and(|cold| cold.unmade.get());
        if !unmade {
            // SAFETY: `unmade` is not set, so the state was made before the first turn. Called
            // once, in the last turn.
            unsafe { Self::drop_state(this) };
        }
    }

    /// Writes a new state, after the old one was dropped.
    ///
    /// # Safety
    /// Called in a turn of an actor of type `A` that has no state.
    pub(crate) unsafe fn put_state(this: NonNull<Header>, actor: A) {
        // SAFETY: the header is the first field of a `CellOf<A>`, the turn makes the access
        // exclusive, and the old state was dropped.
        unsafe { (*this.cast::<CellOf<A>>().as_ref().state.get()).write(actor) };
    }

    unsafe fn free_cell(this: NonNull<Header>, held: Held<'_>) {
        // SAFETY: the memory was allocated by `NewCell`. No other thread knows the forgotten cell,
        // and `held` proves that the pool lives.
        Worker::with_heap(|here| unsafe {
            memory::free_without_drop(here, Kind::Cell, this.cast::<CellOf<A>>(), held)
        });
    }
}

/// Returns the actor's state and a context, for code that an envelope runs.
///
/// # Safety
/// Called inside a turn of an actor of type `A`. No other reference to its state is alive.
#[inline]
pub(crate) unsafe fn enter<'a, A: Actor>(this: NonNull<Header>) -> (&'a mut A, Context<A>) {
    // SAFETY: the caller is in a turn of an actor of type `A`, and no other reference to its state
    // is alive.
    (unsafe { CellOf::<A>::state_mut(this) }, Context::new(this))
}

/// Memory of a cell that no other thread knows yet, perhaps with the state in it.
///
/// A state moves here before anything else is done with it, and outside all locks. So even a large
/// state crosses only the stack frames of the public function that was called with it.
pub(crate) struct NewCell<'a, A> {
    /// Keeps the heap that the memory comes from.
    core: &'a Core,
    cell: NonNull<CellOf<A>>,
    has_state: bool,
    /// Whether the memory was allocated in a forked child, which leaves the parent's heaps alone.
    /// Such memory comes from the system, and a cell made of it is never freed.
    apart: bool,
}

// SAFETY: this value owns the state, and nothing else in it belongs to a thread.
unsafe impl<A: Send> Send for NewCell<'_, A> {}
// SAFETY: a shared reference gives no access to the state.
unsafe impl<A: Sync> Sync for NewCell<'_, A> {}

impl<'a, A> NewCell<'a, A> {
    /// Allocates memory for an actor without a state, which is [made](CellOf::init_state) later.
    #[inline]
    pub(crate) fn without_state(core: &'a Core) -> Self {
        Worker::with(&core.scheduler, |worker| Self::without_state_at(core, worker))
    }

    /// Like [`without_state`](Self::without_state), for a caller that has looked up its worker.
    #[inline]
    fn without_state_at(core: &'a Core, worker: Option<&Worker>) -> Self {
        let allocate = |heap: &Heap| memory::alloc_uninit::<CellOf<A>>(heap, Kind::Cell);
        // The heaps of the parent may be locked for ever, by threads that the child does not have.
        let (cell, apart) = match core.with_heap_at(worker, allocate) {
            Some(cell) => (cell, false),
            None => (NonNull::from(Box::leak(Box::<CellOf<A>>::new_uninit())).cast(), true),
        };
        // Set after the write, so a drop never touches memory without a state.
        NewCell { core, cell, has_state: false, apart }
    }

    #[inline]
    pub(crate) fn new(core: &'a Core, actor: A) -> Self {
        Worker::with(&core.scheduler, |worker| Self::new_at(core, worker, actor))
    }

    /// Like [`new`](Self::new), for a caller that has looked up its worker.
    #[inline]
    pub(crate) fn new_at(core: &'a Core, worker: Option<&Worker>, actor: A) -> Self {
        let mut this = Self::without_state_at(core, worker);
        // SAFETY: no other thread knows the memory. The write goes through a raw pointer, since a
        // reference to the cell would cover the header, which is not written yet.
        unsafe { (&raw mut (*this.cell.as_ptr()).state).cast::<A>().write(actor) };
        this.has_state = true;
        this
    }

    pub(crate) fn core(&self) -> &'a Core {
        self.core
    }

    /// Returns `true` in a forked child, where this becomes no actor.
    #[inline]
    pub(crate) fn is_apart(&self) -> bool {
        self.apart
    }

    /// Returns the state. Panics if there is none.
    pub(crate) fn into_state(mut self) -> A {
        assert!(self.has_state, "this cell has no state yet");
        self.has_state = false; // so that the drop frees only the memory
        // SAFETY: the flag said that the state is there. The state is read once, since the flag is
        // cleared.
        unsafe { (&raw const (*self.cell.as_ptr()).state).cast::<A>().read() }
    }

    /// Completes the cell. `header` must have been made with a table of this type.
    pub(crate) fn complete(self, header: Header) -> NonNull<Header> {
        // SAFETY: `self` is neither used nor dropped afterwards.
        unsafe { ManuallyDrop::new(self).complete_in_place(header) }
    }

    /// Completes the cell for a caller that keeps the empty hull.
    ///
    /// # Safety
    /// `self` is neither used nor dropped afterwards.
    #[inline]
    pub(crate) unsafe fn complete_in_place(&self, header: Header) -> NonNull<Header> {
        // SAFETY: no other thread knows the memory before this returns, and the write leaves the
        // state as it is.
        unsafe { (&raw mut (*self.cell.as_ptr()).header).write(header) };
        self.cell.cast()
    }
}

impl<A> Drop for NewCell<'_, A> {
    fn drop(&mut self) {
        /// Frees the memory, even if the drop of the state panics.
        struct CellMemory<'a, A>(NonNull<CellOf<A>>, &'a Core, bool);
        impl<A> Drop for CellMemory<'_, A> {
            fn drop(&mut self) {
                let CellMemory(cell, core, apart) = *self;
                if apart {
                    // SAFETY: `without_state` allocated this box, and no cell was made of it.
                    drop(unsafe { Box::from_raw(cell.cast::<MaybeUninit<CellOf<A>>>().as_ptr()) });
                // In a forked child the parent's heaps are left alone, so the memory stays
                // allocated.
                } else if !core.is_forked() {
                    // SAFETY: `without_state` allocated it from this core's pool. No other thread
                    // knows it, and the state is gone.
                    Worker::with_heap(|here| unsafe {
                        memory::free_without_drop(here, Kind::Cell, cell, core.pool_held())
                    });
                }
            }
        }
        let memory = CellMemory(self.cell, self.core, self.apart);
        if self.has_state {
            // SAFETY: the flag says that the state is there. The state is dropped in place, once.
            unsafe { (&raw mut (*memory.0.as_ptr()).state).cast::<A>().drop_in_place() };
        }
    }
}

impl<A> fmt::Debug for NewCell<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewCell").field("has_state", &self.has_state).finish_non_exhaustive()
    }
}

//! One actor type's cell and its table for the floors below.

use super::Actor;
use super::context::Context;
use crate::cell::header::{self, ActorVtable, Header};
use crate::cell::turn;
use crate::error::StopReason;
use crate::memory::{self, Heap, Held, Kind};
use crate::sched::local::Local;
use crate::sched::task::{TaskHeader, TaskVtable};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
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

    /// A cell in memory of the heap; `header` must have been made with this type's table.
    pub(crate) fn allocate(heap: &Heap, header: Header, actor: A) -> NonNull<Header> {
        let cell = CellOf { header, state: UnsafeCell::new(MaybeUninit::new(actor)) };
        memory::boxed(heap, Kind::Cell, cell).cast()
    }

    /// Allocates a cell that is never freed, outside of all heaps.
    pub(super) fn leak(header: Header, actor: A) -> NonNull<Header> {
        let cell = CellOf { header, state: UnsafeCell::new(MaybeUninit::new(actor)) };
        NonNull::from(Box::leak(Box::new(cell))).cast()
    }

    /// A cell whose state is still to be [made](Self::init).
    pub(super) fn unmade(header: Header) -> Self {
        CellOf { header, state: UnsafeCell::new(MaybeUninit::uninit()) }
    }

    /// The same in memory of the heap.
    pub(super) fn allocate_unmade(heap: &Heap, header: Header) -> NonNull<Header> {
        memory::boxed(heap, Kind::Cell, Self::unmade(header)).cast()
    }

    /// Makes the state.
    ///
    /// # Safety
    /// By the holder of the actor's runnable, whose type is `A`, before or inside its first turn; once, and only if it came from
    /// [`unmade`](Self::unmade).
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
        // SAFETY: allocated by `allocate`, and nobody else knows it any more.
        Local::with_heap(|here| unsafe { memory::free(here, Kind::Cell, this.cast::<CellOf<A>>(), held) });
    }
}

//! One actor type's cell and its table for the floors below.

use super::Actor;
use super::context::Context;
use crate::cell::header::{ActorVtable, Header};
use crate::cell::turn;
use crate::error::StopReason;
use crate::memory::{self, Heap, Kind};
use crate::sched::local::Local;
use crate::sched::task::{TaskHeader, TaskVtable};
use std::cell::UnsafeCell;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// The one block of an actor: the untyped front, then the state.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct CellOf<A> {
    header: Header,
    state: UnsafeCell<ManuallyDrop<A>>,
}

impl<A: Actor> CellOf<A> {
    const VTABLE: ActorVtable = ActorVtable {
        task: TaskVtable { run: turn::run, key: Self::key },
        type_name: std::any::type_name::<A>,
        started: Self::started,
        stopped: Self::stopped,
        drop_state: Self::drop_state,
        needs_drop: std::mem::needs_drop::<A>(),
        free: Self::free,
    };

    pub(crate) const fn vtable() -> &'static ActorVtable {
        &Self::VTABLE
    }

    /// A cell in memory of the heap; `header` must have been made with this type's table.
    pub(crate) fn allocate(heap: &Heap, header: Header, actor: A) -> NonNull<Header> {
        let cell = CellOf { header, state: UnsafeCell::new(ManuallyDrop::new(actor)) };
        memory::boxed(heap, Kind::Cell, cell).cast()
    }

    /// The state.
    ///
    /// # Safety
    /// Inside a turn of this actor, whose type is `A`; not while another such reference lives.
    #[inline]
    pub(crate) unsafe fn state<'a>(this: NonNull<Header>) -> &'a mut A {
        // SAFETY: the header is the first field of a CellOf<A>, and the turn is exclusive.
        unsafe { &mut *this.cast::<CellOf<A>>().as_ref().state.get() }
    }

    unsafe fn key(task: NonNull<TaskHeader>) -> u64 {
        // SAFETY: a runnable's header is a cell's.
        unsafe { task.cast::<Header>().as_ref() }.id().get()
    }

    unsafe fn started(this: NonNull<Header>) {
        let mut ctx = Context::new(this);
        // SAFETY: the caller is in a turn.
        unsafe { Self::state(this) }.started(&mut ctx);
    }

    unsafe fn stopped(this: NonNull<Header>, reason: &StopReason) {
        // SAFETY: the caller is in a turn.
        unsafe { Self::state(this) }.stopped(reason);
    }

    unsafe fn drop_state(this: NonNull<Header>) {
        // SAFETY: the caller is in the actor's last turn and calls this once.
        unsafe { ManuallyDrop::drop(&mut *this.cast::<CellOf<A>>().as_ref().state.get()) };
    }

    /// A new state, where the old one was dropped.
    ///
    /// # Safety
    /// In a turn of this actor, whose type is `A`, and which has no state.
    pub(crate) unsafe fn refill(this: NonNull<Header>, actor: A) {
        // SAFETY: the caller's; nothing is overwritten that is still alive.
        unsafe { *this.cast::<CellOf<A>>().as_ref().state.get() = ManuallyDrop::new(actor) };
    }

    unsafe fn free(this: NonNull<Header>) {
        // SAFETY: allocated by `allocate`, and nobody else knows it any more.
        Local::with_heap(|here| unsafe { memory::free(here, Kind::Cell, this.cast::<CellOf<A>>()) });
    }
}

//! Errands: user code that the scheduler itself has to call, as a runnable of its own.
//!
//! Wakers of finished waits, and destructors of timers that were cancelled or could not be delivered, belong to no
//! actor's turn. They may still block, panic or send. So a worker never calls them between two turns, where it holds
//! duties for others (the alarm, the list of sleepers): it makes an errand of them and pushes that like any runnable.
//! An errand therefore runs in the main loop: its worker counts as awake, siblings may steal it, and its thread may
//! leave its slot while it blocks.
//!
//! An errand holds any number of chores. It runs one of them, and pushes itself back *before* that chore if more are
//! left: a slow chore holds up neither the actors in the queue nor the other chores, which a sibling may take.
//!
//! No errand is left behind at the crew's end. A worker runs what is in its own queue before it ends, and whoever pushes
//! from elsewhere does so before the crew is told to stop (see [`Quiet::close`](super::quiet::Quiet::close)).
//!
//! Known limit: while the crew stops, errands may still share a worker, since a worker takes several from the injector at
//! once and a sibling that finds no work ends. A waker that then blocks until another waker has run may block for ever.

use super::local::Local;
use super::member::Current;
use super::task::{After, Task, TaskHeader, TaskVtable};
use crate::user::{self, Site};
use std::ptr::NonNull;

#[derive(Debug)]
#[repr(C)]
struct Errand<T> {
    header: TaskHeader,
    /// What is left to do, the next one last.
    chores: Vec<T>,
    each: fn(T),
    site: Site,
}

/// Makes a runnable that calls `each` for each of the chores, in their order. `None` if there is nothing to do.
pub(super) fn errand<T: Send + 'static>(site: Site, mut chores: Vec<T>, each: fn(T)) -> Option<Task> {
    if chores.is_empty() {
        return None;
    }
    chores.reverse();
    let header = TaskHeader { vtable: Errand::<T>::VTABLE };
    Some(Errand::into_task(Box::new(Errand { header, chores, each, site })))
}

impl<T: Send + 'static> Errand<T> {
    const VTABLE: &'static TaskVtable = &TaskVtable { run: Self::run, key: Self::key, bound: None };

    fn into_task(self: Box<Self>) -> Task {
        // SAFETY: the box is given up to the one task made here, which `run` takes back; chores are `Send`.
        unsafe { Task::from_raw(NonNull::from(Box::leak(self)).cast()) }
    }

    /// Runs the next chore.
    ///
    /// # Safety
    /// `at` is the header of an errand whose runnable the caller gives up.
    unsafe fn run(at: NonNull<TaskHeader>) -> After {
        // SAFETY: the header is the first field of the errand that `into_task` leaked, and nobody else has its runnable.
        let mut errand = unsafe { Box::from_raw(at.cast::<Self>().as_ptr()) };
        let (each, site) = (errand.each, errand.site);
        let chore = errand.chores.pop();
        if !errand.chores.is_empty() {
            let rest = errand.into_task();
            Local::push_back_here(rest);
        }
        if let Some(chore) = chore {
            let _current = Current::nobody();
            user::contain(site, || each(chore));
        }
        After::Errand
    }

    /// Any worker may run it: under [`Policy::Sharded`](super::queue::Policy::Sharded) its address chooses one.
    unsafe fn key(at: NonNull<TaskHeader>) -> u64 {
        at.as_ptr().addr() as u64
    }
}

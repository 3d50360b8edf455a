//! LIFO slot: the owner fills and takes, thieves take.
//!
//! Covers: each runnable is in exactly one pair of hands, and the holder sees everything done
//! before.
//!
//! Does not cover: when a thief comes (the sentinel's decision), and where a displaced runnable
//! goes.

use super::{explore, spawn};
use crate::sched::lifo::Lifo;
use crate::sched::runnable::{Runnable, RunnableHeader};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use std::ptr::{self, NonNull};

#[repr(C)]
struct Probe {
    header: RunnableHeader,
    /// Number of accesses. Only the runnable's holder may touch the field.
    runs: UnsafeCell<u32>,
}

impl Probe {
    fn new() -> Self {
        Probe { header: RunnableHeader { vtable: ptr::null() }, runs: UnsafeCell::new(0) }
    }

    fn task(&self) -> Runnable {
        self.touch(|runs| *runs += 1);
        // SAFETY: one `Runnable` at a time is made of a runnable, its table is never used, and the
        // runnables outlive the threads.
        unsafe { Runnable::from_raw(NonNull::from(self).cast()) }
    }

    fn touch<R>(&self, f: impl FnOnce(&mut u32) -> R) -> R {
        // SAFETY: only the runnable's holder gets here; loom's cell reports a second access.
        self.runs.with_mut(|runs| f(unsafe { &mut *runs }))
    }
}

struct Shared {
    lifo: Lifo,
    runnables: [Probe; 2],
}

/// Counts an access to the runnable, if there is one. Returns the number of runnables.
fn run(task: Option<Runnable>) -> u32 {
    task.map_or(0, |task| {
        // SAFETY: `Probe::task` made the task, and its header is the runnable's first field.
        unsafe { task.into_raw().cast::<Probe>().as_ref() }.touch(|runs| *runs += 1);
        1
    })
}

#[test]
fn a_theft_from_the_slot() {
    explore(3, || {
        let shared =
            Arc::new(Shared { lifo: Lifo::new(), runnables: [Probe::new(), Probe::new()] });
        // Two thieves, so that they also meet each other.
        let thieves = [(); 2].map(|()| spawn(&shared, |shared| run(shared.lifo.take_next())));
        let mut own = 0;
        for runnable in &shared.runnables {
            // `put_next` returns a displaced runnable, which the owner runs too.
            own += run(shared.lifo.put_next(runnable.task()));
        }
        own += run(shared.lifo.take_next());
        let stolen: u32 = thieves.map(|thief| thief.join().unwrap()).iter().sum();
        assert_eq!(own + stolen, 2);
        assert!(shared.lifo.is_empty());
        // Touched twice: by the maker, and by the only taker.
        shared.runnables.iter().for_each(|runnable| assert_eq!(runnable.touch(|runs| *runs), 2));
    });
}

//! LIFO slot: the owner fills and takes, a thief takes.
//!
//! Covers: each runnable is in exactly one pair of hands, and whoever holds it sees what the one before did to it.
//!
//! Does not cover: when a thief comes (the sentinel's decision), and where the displaced one goes.

use super::{explore, spawn};
use crate::sched::lifo::Lifo;
use crate::sched::task::{Task, TaskHeader};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use std::ptr::{self, NonNull};

#[repr(C)]
struct Runnable {
    header: TaskHeader,
    /// How often it was run; only whoever holds it may touch this.
    runs: UnsafeCell<u32>,
}

impl Runnable {
    fn new() -> Self {
        Runnable { header: TaskHeader { vtable: ptr::null() }, runs: UnsafeCell::new(0) }
    }

    fn task(&self) -> Task {
        self.touch(|runs| *runs += 1);
        // SAFETY: made once, never run by its table, and the threads end before the runnable does.
        unsafe { Task::from_raw(NonNull::from(self).cast()) }
    }

    fn touch<R>(&self, f: impl FnOnce(&mut u32) -> R) -> R {
        // SAFETY: loom checks it.
        self.runs.with_mut(|runs| f(unsafe { &mut *runs }))
    }
}

struct Shared {
    lifo: Lifo,
    runnables: [Runnable; 2],
}

/// Runs it, if there is one.
fn run(task: Option<Task>) -> u32 {
    task.map_or(0, |task| {
        // SAFETY: it was made from a `Runnable`.
        unsafe { task.into_raw().cast::<Runnable>().as_ref() }.touch(|runs| *runs += 1);
        1
    })
}

#[test]
fn a_theft_from_the_slot() {
    explore(3, || {
        let shared = Arc::new(Shared { lifo: Lifo::new(), runnables: [Runnable::new(), Runnable::new()] });
        let thieves = [(); 2].map(|()| spawn(&shared, |shared| run(shared.lifo.take())));
        let mut own = 0;
        for runnable in &shared.runnables {
            own += run(shared.lifo.fill(runnable.task()));
        }
        own += run(shared.lifo.take());
        let stolen: u32 = thieves.map(|thief| thief.join().unwrap()).iter().sum();
        assert_eq!(own + stolen, 2);
        assert!(shared.lifo.is_empty());
        shared.runnables.iter().for_each(|runnable| assert_eq!(runnable.touch(|runs| *runs), 2));
    });
}

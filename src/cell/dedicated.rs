//! Dedicated threads: each runs a single actor, from start to end.
//!
//! A dedicated thread is started for one actor. The thread makes the state, runs all turns, drops
//! the state, and ends. The scheduler's side is in [`apart`](crate::sched::dedicated). Everything
//! else about the actor is as for all actors: the same cell, the same mailbox, the same turns.
//!
//! | what | on which thread |
//! |---|---|
//! | the cell is made, and its first turn pushed | the spawning thread |
//! | the user's factory makes the state, just before the first turn | the dedicated thread |
//! | turns, hooks, the drop of the state | the dedicated thread |
//! | the memory is given back | the thread that releases the last reference |
//!
//! The factory may panic, or is not called because the actor was stopped at once before its first
//! turn. Then the actor has no state ([`Cold::unmade`](super::cold::Cold::unmade)) and ends as if
//! never started.
//!
//! Loom model: `models::apart`. Needed orderings: `cargo xtask weaken`, group `apart`.

use super::core::Core;
use super::end;
use super::fail::{self, CaughtPanic};
use super::header::Header;
use super::threads::{DedicatedSettings, DedicatedThreads};
use crate::sched::crew_thread::Current;
use crate::sched::runnable::DedicatedParker;
use crate::sync::Ordering::*;
use crate::user::{self, Site};
use std::io;
use std::ptr::NonNull;

/// Why a dedicated thread was not started.
#[derive(Debug)]
pub(crate) enum NotStarted {
    ShuttingDown,
    Thread(io::Error),
}

impl DedicatedThreads {
    /// Starts a dedicated thread, which holds the core.
    pub(crate) fn start_thread(
        core: &Core,
        life: impl FnOnce(&Core) + Send + 'static,
    ) -> Result<(), NotStarted> {
        if core.is_forked() {
            // Asked before the lock, which a thread of the parent process may hold for ever.
            return Err(NotStarted::Thread(io::Error::other(
                "the executor's threads are in the parent process",
            )));
        }
        let settings = core.dedicated.settings.lock().clone();
        let Some(DedicatedSettings { name, stack_size, cores, alive }) = settings else {
            return Err(NotStarted::ShuttingDown);
        };
        // Counted before the start, so `running_threads` never misses a running thread.
        let number = core.dedicated.started.fetch_add(1, Relaxed);
        let shared = core.share();
        let started = core.threads.start_thread(
            format!("{name}-own-{number}"),
            stack_size,
            alive,
            move || {
                if let Some(cores) = cores {
                    // Best effort: a thread in the wrong place is slower, not wrong.
                    let _better_there_than_nowhere = cores.bind_this_thread();
                }
                life(&shared);
                shared.threads.mark_exiting();
                shared.dedicated.ended.fetch_add(1, Release);
            },
        );
        // Balances the count above, since no thread will.
        if started.is_err() {
            core.dedicated.ended.fetch_add(1, Release);
        }
        started.map_err(NotStarted::Thread)
    }
}

/// Runs the life of a dedicated thread and its actor. `make` makes the state.
///
/// # Safety
/// Called on the dedicated thread that `home` belongs to, which holds the core. The caller holds a
/// weak count of the cell. The cell's runnables are left at `home`, and the first one is or will
/// be.
pub(crate) unsafe fn run_life(
    core: &Core,
    home: &DedicatedParker,
    this: NonNull<Header>,
    make: Box<dyn FnOnce()>,
) {
    let scheduler = &core.scheduler;
    // A dedicated thread belongs to the crew, although it is no worker.
    let _of_the_crew = scheduler.enter_dedicated();
    let mut make = Some(make);
    loop {
        let mut task = scheduler.park_dedicated(home);
        if let Some(make) = make.take() {
            // SAFETY: the weak count keeps the cell, and the thread holds the runnable.
            make_first_state(unsafe { this.as_ref() }, make);
        }
        // No queue in between: no other thread may run this actor, and no other actor waits here.
        while let Some(again) = task.run_dedicated() {
            task = again;
        }
        // SAFETY: the caller's weak count keeps the cell's memory.
        let ended = unsafe { this.as_ref() }.state.load_snapshot().is_dead();
        scheduler.dedicated_turn_over();
        if ended {
            return;
        }
    }
}

/// Makes the state. For the holder of the first runnable.
fn make_first_state(header: &Header, make: Box<dyn FnOnce()>) {
    let current = Current::of_actor(NonNull::from(header));
    // A kill before the first turn spares the factory. The factory is dropped instead, and a drop
    // is user code too.
    let stopped_before = header.state.load_snapshot().is_killed();
    let outcome = if stopped_before {
        user::run_contained(Site::Drop, || drop(make));
        Ok(())
    } else {
        user::run_guarded(Site::Factory, make)
    };
    drop(current);
    let panicked = outcome.is_err();
    if let Err(text) = outcome {
        fail::fail_actor(header, CaughtPanic::of_no_message(text));
    }
    if panicked || stopped_before {
        header.cold().unmade.set(true);
        end::begin_ending(header);
    }
}

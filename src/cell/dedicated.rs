//! Actors on threads of their own: those threads, from their start to their end.
//!
//! Such a thread is started for one actor, makes its state, runs all its turns, drops the state, and ends with it. The
//! scheduler's side of it is [`apart`](crate::sched::apart); everything else about the actor is as for all: the same cell, the
//! same mailbox, the same turns.
//!
//! | what | on which thread |
//! |---|---|
//! | the cell is made, and its first turn pushed | the one that spawns |
//! | the state is made, by the user's factory, just before the first turn | its own |
//! | turns, hooks, the state's drop | its own |
//! | the memory is given back | whichever lets go last |
//!
//! A factory that panics, or is not called since the actor was stopped at once before its first turn, leaves an actor
//! without a state ([`Cold::unmade`]): it ends as one that never started.

use super::core::Core;
use super::end;
use super::header::Header;
use super::turn;
use crate::cores::Cores;
use crate::sched::apart::Home;
use crate::sched::member::Current;
use crate::sync::{AtomicUsize, Mutex, Ordering::*};
use crate::user::{self, Site};
use crossbeam_channel::Sender;
use std::convert::Infallible;
use std::io;
use std::ptr::NonNull;

/// Those threads of one executor.
#[derive(Debug, Default)]
pub(crate) struct Dedicated {
    /// None before the crew has begun, and once no more are started.
    settings: Mutex<Option<Settings>>,
    started: AtomicUsize,
    ended: AtomicUsize,
}

/// How they are started.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What the threads' names begin with.
    pub(crate) name: String,
    pub(crate) stack_size: usize,
    /// Where they run, if the crew is pinned: a thread that a pinned one starts would stay on the same core.
    pub(crate) cores: Option<Cores>,
    /// Each of them holds a copy until its thread-locals are gone.
    pub(crate) alive: Sender<Infallible>,
}

/// Why a thread was not started.
#[derive(Debug)]
pub(crate) enum NotStarted {
    ShuttingDown,
    Thread(io::Error),
}

impl Dedicated {
    pub(crate) fn open(&self, settings: Settings) {
        *self.settings.lock() = Some(settings);
    }

    /// No more are started.
    pub(crate) fn close(&self) {
        let settings = self.settings.lock().take();
        drop(settings);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        // Ended first: what has ended was started before.
        let ended = self.ended.load(Acquire);
        self.started.load(Relaxed) - ended
    }

    /// Starts one, which holds the core.
    pub(crate) fn start(core: &Core, life: impl FnOnce(&Core) + Send + 'static) -> Result<(), NotStarted> {
        if core.forked() {
            // Asked before the locks, which a thread that is not here may hold.
            return Err(NotStarted::Thread(io::Error::other(
                "the executor's threads are in the parent process",
            )));
        }
        let settings = core.dedicated.settings.lock().clone();
        let Some(Settings { name, stack_size, cores, alive }) = settings else {
            return Err(NotStarted::ShuttingDown);
        };
        let number = core.dedicated.started.fetch_add(1, Relaxed);
        let shared = core.share();
        let started = core.threads.start(format!("{name}-own-{number}"), stack_size, alive, move || {
            if let Some(cores) = cores {
                let _better_there_than_nowhere = cores.bind_this_thread();
            }
            life(&shared);
            shared.threads.leave();
            shared.dedicated.ended.fetch_add(1, Release);
        });
        if started.is_err() {
            core.dedicated.ended.fetch_add(1, Release);
        }
        started.map_err(NotStarted::Thread)
    }
}

/// The life of a thread and of its actor; `make` makes the state.
///
/// # Safety
/// On the thread whose home this is, which holds the core. The caller holds a weak count of the cell, whose runnables are
/// left there, and the first is or will be.
pub(crate) unsafe fn live(core: &Core, home: &Home, this: NonNull<Header>, make: Box<dyn FnOnce()>) {
    let scheduler = &core.scheduler;
    let _of_the_crew = scheduler.enlist_apart();
    let mut make = Some(make);
    loop {
        let mut task = scheduler.sleep_apart(home);
        if let Some(make) = make.take() {
            // SAFETY: the weak count keeps the cell, and we hold its runnable.
            be_born(unsafe { this.as_ref() }, make);
        }
        while let Some(again) = task.run_apart() {
            task = again;
        }
        // SAFETY: as above.
        let ended = unsafe { this.as_ref() }.state.peek().dead();
        scheduler.rest_apart();
        if ended {
            return;
        }
    }
}

/// Makes the state, for the holder of the first runnable.
fn be_born(header: &Header, make: Box<dyn FnOnce()>) {
    let current = Current::of(NonNull::from(header));
    let stopped_before = header.state.peek().killed();
    let outcome = if stopped_before {
        user::contain(Site::Drop, || drop(make));
        Ok(())
    } else {
        user::guard(Site::Factory, make)
    };
    drop(current);
    let panicked = outcome.is_err();
    if let Err(text) = outcome {
        turn::fail(header, text);
    }
    if panicked || stopped_before {
        header.cold().unmade.set(true);
        end::begin(header);
    }
}

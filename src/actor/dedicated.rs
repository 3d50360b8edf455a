//! Spawning an actor with a dedicated thread.

use super::Actor;
use super::cell_of::{CellOf, NewCell};
use super::context::Context;
use super::refs::{ActorRef, WeakRef};
use super::spawn::{SpawnBuilder, Spawner};
use super::spawn_error::{SpawnError, SpawnProblem};
use crate::cell::dedicated::{self, NotStarted};
use crate::cell::threads::DedicatedThreads;
use crate::sched::runnable::Affinity;
use crate::sched::runnable::DedicatedParker;
use std::sync::Arc;

/// The factory of an actor with a thread of its own, inside a [`SpawnBuilder`]. From
/// [`Handle::build_dedicated`](crate::Handle::build_dedicated).
#[derive(Debug)]
pub struct Dedicated<F>(F);

/// The values that a dedicated thread needs to begin.
struct Start<A, F> {
    factory: F,
    actor: WeakRef<A>,
}

impl<'a> Spawner<'a> {
    pub(crate) fn dedicated<F>(self, factory: F) -> SpawnBuilder<'a, Dedicated<F>> {
        SpawnBuilder::begin(self, Dedicated(factory))
    }
}

impl<F> SpawnBuilder<'_, Dedicated<F>> {
    /// Starts the thread and spawns the actor. Does not wait for the factory.
    ///
    /// # Errors
    /// The factory comes back inside the error if the thread cannot be started, the executor shuts
    /// down, or a capacity or a budget is 0 or too large.
    pub fn try_spawn<A>(self) -> Result<ActorRef<A>, SpawnError<F>>
    where
        A: Actor,
        F: FnOnce() -> A + Send + 'static,
    {
        // The parker of the thread, known to the actor's cell and to the thread.
        let home = DedicatedParker::new();
        let (spawner, capacity) = (self.spawner, self.capacity);
        let (cold, factory, problem) = match self.finish_cell(Affinity::Thread(Arc::clone(&home))) {
            Ok((cold, factory)) => (cold, factory, None),
            Err((factory, problem)) => (None, factory, Some(problem)),
        };
        let Dedicated(factory) = factory.into_state();
        if let Some(problem) = problem {
            return Err(SpawnError::new(factory, problem));
        }
        // The thread is started first. Without a thread there is nothing to undo, and with it only
        // a shutdown can still refuse the actor.
        // Room for the one value ever sent, so the send below does not wait for the thread.
        let (start, starts) = crossbeam_channel::bounded::<Start<A, F>>(1);
        let life = move |core: &_| {
            let Ok(Start { factory, actor }) = starts.recv() else { return };
            let this = actor.as_ptr();
            // SAFETY: called once, by the holder of the first runnable, on a cell that was made
            // without a state.
            let make = move || unsafe { CellOf::<A>::init_state(this, factory()) };
            // SAFETY: `home` belongs to this thread. `actor` keeps the cell, and its runnables are
            // left at `home`.
            unsafe { dedicated::run_life(core, &home, this, Box::new(make)) };
        };
        if let Err(not_started) = DedicatedThreads::start_thread(spawner.core, life) {
            let problem = match not_started {
                NotStarted::ShuttingDown => SpawnProblem::ShuttingDown,
                NotStarted::Thread(error) => SpawnProblem::Thread(error),
            };
            return Err(SpawnError::new(factory, problem));
        }
        let vtable = CellOf::<A>::vtable_of_dedicated();
        match spawner.enroll_cell(vtable, capacity, cold, NewCell::without_state(spawner.core)) {
            Ok(actor) => {
                // Only now, when nothing can fail any more. Until here the factory could be handed
                // back.
                let begins = start.send(Start { factory, actor: ActorRef::downgrade(&actor) });
                assert!(begins.is_ok(), "the thread waits for it");
                Ok(actor)
            }
            // `start` is dropped with this return, so the thread receives nothing and ends.
            Err(_) => Err(SpawnError::new(factory, SpawnProblem::ShuttingDown)),
        }
    }
}

impl<A> Context<A> {
    /// Spawns an actor with a thread of its own; see
    /// [`Handle::spawn_dedicated`](crate::Handle::spawn_dedicated).
    ///
    /// # Errors
    /// As [`Handle::spawn_dedicated`](crate::Handle::spawn_dedicated).
    pub fn spawn_dedicated<B, F>(&mut self, factory: F) -> Result<ActorRef<B>, SpawnError<F>>
    where
        B: Actor,
        F: FnOnce() -> B + Send + 'static,
    {
        Spawner::new(self.header().core()).dedicated(factory).try_spawn()
    }
}

//! Managed actors, which belong to an owner (a directory). The first turn makes the state, on the
//! crew. The last turn tells the owner of the end, after the drop of the state.
//!
//! A managed actor is an actor like any other, behind ordinary references. Only the cell is longer
//! by the owner, and the table differs:
//!
//! | the table's | for a plain actor | for a managed actor |
//! |---|---|---|
//! | `started` | the hook | the state is made, then the hook |
//! | `drop_state` | the state is dropped | the state is dropped if it was made, then [`on_actor_ended`] |
//!
//! Spawning a managed actor does not schedule its first turn. The spawning function gets the
//! [`Runnable`] and gives it to the scheduler when the actor may begin. Until then the actor
//! accepts messages, and senders leave the existing runnable alone. So an actor can follow another
//! one that is still ending, without a waiting thread.
//!
//! [`on_actor_ended`]: CellOwner::on_actor_ended

use super::Actor;
use super::cell_of::CellOf;
use super::refs::ActorRef;
use crate::cell::cold::Cold;
use crate::cell::core::{Core, Limits};
use crate::cell::counted::Strong;
use crate::cell::header::{ActorVtable, Header};
use crate::cell::stopwatch::Stopwatch;
use crate::cell::turn;
use crate::id::ActorId;
use crate::memory::{self, Held, Kind};
use crate::sched::runnable::{Runnable, RunnableVtable};
use crate::sched::worker::Worker;
use crate::user;
use std::cell::{Cell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// The owner of an actor, and the source of its state.
pub(crate) trait CellOwner<A>: Send + 'static {
    /// Makes the state. Called once, in the actor's first turn. A panic here counts as one in
    /// `started`.
    fn make_state(&mut self) -> A;

    /// Called at the end, in the actor's last turn. The state is dropped by then, or was never
    /// made.
    fn on_actor_ended(self, actor: ActorId);
}

/// A plain actor's cell with the owner behind it.
#[repr(C)]
struct ManagedCell<A, T> {
    /// The first field, so the state lies at the same offset as in any cell of the actor's type.
    cell: CellOf<A>,
    made: Cell<bool>,
    owner: UnsafeCell<ManuallyDrop<T>>,
}

impl<A: Actor + Send, T: CellOwner<A>> ManagedCell<A, T> {
    const VTABLE: ActorVtable = ActorVtable {
        task: RunnableVtable { run: turn::run_cell, key: CellOf::<A>::affinity_key, bound: None },
        type_name: std::any::type_name::<A>,
        started: Self::started,
        stopped: CellOf::<A>::stopped,
        drop_state: Self::drop_state,
        needs_drop: true, // so that the owner is told of the end
        free: Self::free_cell,
    };

    unsafe fn started(this: NonNull<Header>) {
        // SAFETY: this table belongs to cells of type `ManagedCell<A, T>`. The cell's first turn
        // runs here, so the access is exclusive and no state is there yet.
        unsafe {
            let managed = this.cast::<Self>().as_ref();
            let actor = (*managed.owner.get()).make_state();
            CellOf::init_state(this, actor);
            managed.made.set(true);
            CellOf::<A>::started(this);
        }
    }

    unsafe fn drop_state(this: NonNull<Header>) {
        // SAFETY: this table belongs to cells of type `ManagedCell<A, T>`. The cell's last turn
        // runs here and calls this once, so the access is exclusive and the owner is still there.
        unsafe {
            let managed = this.cast::<Self>().as_ref();
            // The owner is told after the drop, since it may let a successor begin. A panic of the
            // drop must not keep the owner from being told.
            let outcome = user::catch_panic(|| {
                if managed.made.get() {
                    CellOf::<A>::drop_state(this);
                }
            });
            ManuallyDrop::take(&mut *managed.owner.get()).on_actor_ended(this.as_ref().id());
            if let Err(payload) = outcome {
                user::resume_panic(payload); // for the turn to report
            }
        }
    }

    unsafe fn free_cell(this: NonNull<Header>, held: Held<'_>) {
        // SAFETY: `spawn` allocated the memory. The cell is forgotten, so no other thread knows it,
        // and `held` proves that its pool lives.
        Worker::with_heap(|here| unsafe {
            memory::free_without_drop(here, Kind::Cell, this.cast::<Self>(), held)
        });
    }
}

/// Settings of managed actors, after validation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ManagedSettings {
    pub(crate) capacity: u32,
    /// The budget of a turn, if it is not the executor's.
    pub(crate) limits: Option<Limits>,
    pub(crate) timing: bool,
}

/// Makes a managed actor, and the runnable of its first turn, which must be scheduled in the end.
/// Returns the owner if the executor shuts down. Runs no user code.
pub(crate) fn spawn_managed<A: Actor + Send, T: CellOwner<A>>(
    core: &Core,
    settings: ManagedSettings,
    owner: T,
) -> Result<(ActorRef<A>, Runnable), RefusedSpawn<T>> {
    // In a forked child the registry may be locked for ever.
    if core.is_forked() {
        return Err(RefusedSpawn { owner, counted: false });
    }
    Worker::with(&core.scheduler, |worker| {
        // While the executor drains its crew may still spawn, and other threads may not.
        if worker.is_none() && core.is_draining() && !core.on_crew() {
            return Err(RefusedSpawn { owner, counted: false });
        }
        let shard = core.shard_here(worker);
        // Taken by `make`, which is not called if the shard is closed. So the owner is never
        // lost.
        let mut owner = Some(owner);
        let ManagedSettings { capacity, limits, timing } = settings;
        let mut cold = match limits {
            None => timing.then(Cold::new_timed),
            limits => Some(Box::new(Cold {
                limits,
                stopwatch: timing.then(Stopwatch::new),
                ..Cold::default()
            })),
        };
        // The parts are written in place. The room for the state may be large, and is not touched.
        let managed =
            core.with_heap(|heap| memory::alloc_uninit::<ManagedCell<A, T>>(heap, Kind::Cell));
        let make = |id, place| {
            let header =
                Header::new(&ManagedCell::<A, T>::VTABLE, shard, id, place, capacity, cold.take());
            let owner = owner.take().expect("called at most once");
            // SAFETY: no other thread knows the memory, and the header is its first part.
            unsafe {
                (&raw mut (*managed.as_ptr()).made).write(Cell::new(false));
                (&raw mut (*managed.as_ptr()).owner)
                    .write(UnsafeCell::new(ManuallyDrop::new(owner)));
                managed.cast::<Header>().write(header);
            }
            managed.cast()
        };
        // Counted before it is enrolled: a thread that closes the shards refuses the cell there, or
        // finds it in the count.
        core.count_at(worker, |tally| &tally.spawned, 1);
        match shard.add_cell(make) {
            // SAFETY: a new cell comes with a reference and a runnable, made here once each.
            Some(header) => unsafe {
                Ok((ActorRef::from_strong(Strong::from_raw(header)), Header::runnable(header)))
            },
            None => {
                // SAFETY: the memory came from this core's pool above, and nothing was written into
                // it.
                Worker::with_heap(|here| unsafe {
                    memory::free_without_drop(here, Kind::Cell, managed, core.pool_held())
                });
                let owner = owner.take().expect("no cell was made of it");
                Err(RefusedSpawn { owner, counted: true })
            }
        }
    })
}

/// An owner that was refused.
#[must_use = "the executor may have to be told"]
pub(crate) struct RefusedSpawn<T> {
    owner: T,
    /// Whether the cell was counted as spawned.
    counted: bool,
}

impl<T> RefusedSpawn<T> {
    /// Returns the owner. May run user code: if no actor is left, waiters for the crew's end
    /// are told.
    pub(crate) fn settle_refusal(self, core: &Core) -> T {
        if self.counted {
            core.count_refused();
        }
        self.owner
    }
}

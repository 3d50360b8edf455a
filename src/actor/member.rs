//! Actors that belong to something (a directory): their state is made in their first turn, on the crew, and what they
//! belong to hears of their end in the last one, after the state was dropped.
//!
//! A member is an actor like any other, behind references like any other's. Only its cell is longer, by the membership,
//! and its table differs:
//!
//! | the table's | for a plain actor | for a member |
//! |---|---|---|
//! | `started` | the hook | the state is made, then the hook |
//! | `drop_state` | the state is dropped | the state is dropped if it was made, then the membership is [over](Membership::over) |
//!
//! Its first turn is not scheduled by spawning it: whoever spawns it gets the [`Task`], and gives it to the scheduler when
//! it may begin. Until then it accepts messages, whose senders see a runnable that exists, and leave it alone. So an
//! actor can follow another one that is still ending, and nobody waits for that.

use super::Actor;
use super::cell_of::CellOf;
use super::refs::ActorRef;
use crate::cell::core::Core;
use crate::cell::header::{ActorVtable, Cold, Header, Strong};
use crate::cell::turn;
use crate::id::ActorId;
use crate::memory::{self, Held, Kind};
use crate::sched::local::Local;
use crate::sched::task::{Task, TaskVtable};
use crate::user;
use std::cell::{Cell, UnsafeCell};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// What an actor belongs to, and where its state comes from.
pub(crate) trait Membership<A>: Send + 'static {
    /// The state; called once, in the actor's first turn. A panic here is one in `started`.
    fn make(&mut self) -> A;

    /// The end, in the actor's last turn: its state is dropped, or was never made.
    fn over(self, actor: ActorId);
}

/// A plain actor's cell, and what is more.
#[repr(C)]
struct Member<A, T> {
    /// First, so that whoever knows the actor's type finds the state where it is in any cell.
    cell: CellOf<A>,
    made: Cell<bool>,
    membership: UnsafeCell<ManuallyDrop<T>>,
}

impl<A: Actor + Send, T: Membership<A>> Member<A, T> {
    const VTABLE: ActorVtable = ActorVtable {
        task: TaskVtable { run: turn::run, key: CellOf::<A>::key, bound: None },
        type_name: std::any::type_name::<A>,
        started: Self::started,
        stopped: CellOf::<A>::stopped,
        drop_state: Self::drop_state,
        needs_drop: true, // or nobody would hear of the end
        free: Self::free,
    };

    unsafe fn started(this: NonNull<Header>) {
        // SAFETY: this table is a Member<A, T>'s; the caller is in its first turn, which is exclusive.
        unsafe {
            let member = this.cast::<Self>().as_ref();
            let actor = (*member.membership.get()).make();
            CellOf::init(this, actor);
            member.made.set(true);
            CellOf::<A>::started(this);
        }
    }

    unsafe fn drop_state(this: NonNull<Header>) {
        // SAFETY: this table is a Member<A, T>'s; the caller is in its last turn, and calls this once.
        unsafe {
            let member = this.cast::<Self>().as_ref();
            let outcome = user::catch(|| {
                if member.made.get() {
                    CellOf::<A>::drop_state(this);
                }
            });
            ManuallyDrop::take(&mut *member.membership.get()).over(this.as_ref().id());
            if let Err(payload) = outcome {
                user::resume(payload); // for the turn to report
            }
        }
    }

    unsafe fn free(this: NonNull<Header>, held: Held<'_>) {
        // SAFETY: allocated by `spawn`, and nobody else knows it any more.
        Local::with_heap(|here| unsafe { memory::free(here, Kind::Cell, this.cast::<Self>(), held) });
    }
}

/// Makes a member, and the runnable of its first turn, which must be scheduled in the end. The membership comes back once
/// the executor shuts down. Runs no user code.
pub(crate) fn spawn<A: Actor + Send, T: Membership<A>>(
    core: &Core,
    capacity: u32,
    membership: T,
) -> Result<(ActorRef<A>, Task), Refused<T>> {
    if core.forked() {
        return Err(Refused { membership, counted: false });
    }
    Local::with(&core.scheduler, |local| {
        if local.is_none() && core.draining() && !core.on_crew() {
            return Err(Refused { membership, counted: false });
        }
        let shard = core.shard_here(local);
        let mut membership = Some(membership);
        let mut cold = core.timing.then(Cold::timed);
        // Its parts are written where they stay: the state's place may be large, and is left as it is.
        let member = core.with_heap(|heap| memory::place::<Member<A, T>>(heap, Kind::Cell));
        let make = |id, place| {
            let header = Header::new(&Member::<A, T>::VTABLE, shard, id, place, capacity, cold.take());
            let membership = membership.take().expect("called at most once");
            // SAFETY: the memory is ours alone; the header is its first part.
            unsafe {
                (&raw mut (*member.as_ptr()).made).write(Cell::new(false));
                (&raw mut (*member.as_ptr()).membership)
                    .write(UnsafeCell::new(ManuallyDrop::new(membership)));
                member.cast::<Header>().write(header);
            }
            member.cast()
        };
        // Counted first: whoever closes the shards either refuses this one there, or sees that it lives.
        core.count(local, |tally| &tally.spawned, 1);
        match shard.enroll(make) {
            // SAFETY: a new cell comes with one reference and one runnable, which these are.
            Some(header) => unsafe {
                Ok((ActorRef::from_strong(Strong::from_raw(header)), Header::runnable(header)))
            },
            None => {
                // SAFETY: it came from there, and nothing was written into it.
                Local::with_heap(|here| unsafe { memory::free(here, Kind::Cell, member, core.held()) });
                let membership = membership.take().expect("no cell was made of it");
                Err(Refused { membership, counted: true })
            }
        }
    })
}

/// A membership that was refused.
#[must_use = "the executor may have to be told"]
pub(crate) struct Refused<T> {
    membership: T,
    /// It was counted as spawned.
    counted: bool,
}

impl<T> Refused<T> {
    /// Gives the membership back. May run user code: if no actor is left, whoever waits for the crew's end is told.
    pub(crate) fn settle(self, core: &Core) -> T {
        if self.counted {
            core.ended();
        }
        self.membership
    }
}

//! The supervisor of a cell, which decides on successors, and the part of a cell that has one.
//!
//! The steps after the loss of a state are in [`restart`](super::restart).

use super::event::ReplicaFailure;
use super::header::Header;
use super::sharing::Sharing;
use crate::error::StopReason;
use crate::sched::timers::Key;
use crate::sync::{AtomicBool, AtomicUsize, Ordering::*};
use crate::time::Duration;
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

/// The step after the end of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterLoss {
    /// A successor, after this time.
    Replace(Duration),
    /// The actor's end.
    End,
}

/// A cell's supervisor. Called in the actor's turns only, outside all locks but for
/// `on_successor_delayed`.
pub(crate) trait Supervisor: Send {
    /// Decides what follows, after a state was lost or could not be made.
    fn on_state_lost(&self, loss: &ReplicaFailure) -> AfterLoss;

    /// Puts a new state into the cell. May run user code, which may panic. Then there is no state.
    ///
    /// # Safety
    /// Called in the turn of the supervisor's own cell, which is vacant.
    unsafe fn make_state(&self, this: NonNull<Header>) -> Result<(), String>;

    /// Called under the timers' lock with the key of the timer for which the successor waits, so
    /// that a pool that stops at once can cancel the wait.
    fn on_successor_delayed(&self, key: Key);

    /// Called once, when the actor has ended for good and its state word says so. Returns the
    /// wakers of waiters that this end concerns.
    fn on_actor_ended(&self, reason: &StopReason) -> Vec<Waker>;
}

/// The additional part of a cell with a supervisor.
pub(crate) struct Supervised {
    /// The supervisor, for the holder of the runnable. `None` after the actor has ended.
    pub(super) supervisor: Cell<Option<Box<dyn Supervisor>>>,
    /// Whether a turn handles messages. For statistics only.
    in_turn: AtomicBool,
    /// The queue from which the actor takes. For a queue, the queue's own part.
    pub(crate) sharing: Arc<Sharing>,
    queue: bool,
    /// The member's place in the list, under the lock of `sharing`.
    pub(super) place: AtomicUsize,
}

// SAFETY: only the holder of the runnable touches `supervisor`, and a supervisor is `Send`. The
// other fields are `Sync`.
unsafe impl Sync for Supervised {}

impl std::fmt::Debug for Supervised {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervised").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Supervised {
    /// Makes the part of an actor that takes from `sharing`.
    pub(crate) fn for_replica(supervisor: Box<dyn Supervisor>, sharing: Arc<Sharing>) -> Box<Self> {
        Supervised::new(supervisor, sharing, false)
    }

    /// Makes the part of the queue itself.
    pub(crate) fn for_queue(supervisor: Box<dyn Supervisor>, sharing: Arc<Sharing>) -> Box<Self> {
        Supervised::new(supervisor, sharing, true)
    }

    fn new(supervisor: Box<dyn Supervisor>, sharing: Arc<Sharing>, queue: bool) -> Box<Self> {
        Box::new(Supervised {
            supervisor: Cell::new(Some(supervisor)),
            in_turn: AtomicBool::new(false),
            sharing,
            queue,
            place: AtomicUsize::new(0),
        })
    }

    /// Lists the cell at the queue. Returns `false` if its first turn must not be scheduled.
    #[must_use]
    pub(crate) fn list_at_queue(&self, cell: NonNull<Header>) -> bool {
        self.sharing.list_cell(cell, self.queue)
    }

    /// Returns `true` if this cell is a queue, and not an actor.
    pub(crate) fn is_queue(&self) -> bool {
        self.queue
    }

    /// Returns `true` if a turn handles messages. A snapshot.
    pub(crate) fn in_turn(&self) -> bool {
        self.in_turn.load(Relaxed)
    }

    /// Begins a turn that handles messages.
    pub(super) fn enter_turn(&self) -> InTurn<'_> {
        self.in_turn.store(true, Relaxed);
        InTurn(self)
    }

    /// Calls `question` with the supervisor, if there is one. For the holder of the runnable.
    pub(super) fn with_supervisor<R>(
        &self,
        question: impl FnOnce(&dyn Supervisor) -> R,
    ) -> Option<R> {
        // Taken out for the call, since the supervisor may run user code that comes back here.
        let lent = Lent { supervisor: Some(self.supervisor.take()?), to: &self.supervisor };
        lent.supervisor.as_deref().map(question)
    }
}

/// A supervisor on loan, put back even if the call panics.
struct Lent<'a> {
    supervisor: Option<Box<dyn Supervisor>>,
    to: &'a Cell<Option<Box<dyn Supervisor>>>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.to.set(self.supervisor.take());
    }
}

/// A turn that handles messages.
pub(super) struct InTurn<'a>(&'a Supervised);

impl InTurn<'_> {
    /// Ends the turn.
    pub(super) fn leave_turn(self) {
        self.0.in_turn.store(false, Relaxed);
    }
}

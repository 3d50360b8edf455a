//! Restart: the replacement of an actor's state after a panic or a stop, in the same cell.
//!
//! A restart moves no message. Mailbox, references, id and runnable stay as they are. So the new
//! state (the *successor*) handles what waits, in order and once, by construction. The message that
//! panicked counts as handled, and its asker has the panic's text. The cell's *supervisor*
//! ([`Keeper`]) decides whether and when there is a successor, and makes it. The supervisor lies in
//! the cold part, so actors without one pay nothing.
//!
//! | phase | event | phase then | what happens |
//! |---|---|---|---|
//! | new, running | panic, `stop`, `stop_now` | vacant | `stopped` (1), the state is dropped |
//! | new, running | the same, but no successor (2) | ending | as for any actor |
//! | vacant | at once | new | the supervisor makes a state, next turn: `started` |
//! | vacant | later | vacant | the *runnable* goes to a timer |
//! | vacant | no state could be made, and no other try | ending | what waits becomes dead letters |
//!
//! (1) `stopped` runs only if `started` had returned. (2) The supervisor refuses, or the mailbox is
//! closed and empty, or the actor is killed.
//! The `started` of a successor runs before all that waits.
//!
//! **While a successor is awaited** the word says `SCHEDULED`. Senders are accepted within the
//! capacity and push nothing, because the timer holds the one runnable. So the actor has no turn,
//! and no thread polls. A timer that is cancelled (the pool stops at once, or the executor shuts
//! down) gives the runnable back too. The scheduler counts such runnables. With such a runnable the
//! executor is not quiescent, since messages may wait behind it.
//!
//! **A stop** of such an actor is not the end of its mailbox but of its state, after the message in
//! hand. The state word's `RETIRE` says so. The step that sets the flag makes a turn where there is
//! none, and the last step of a turn sees it. So no stop is lost, whenever it comes. Turns look at
//! a hint beside the flag after each message ([`Header::killed`]). A stop that comes while the cell
//! is vacant was meant for the old state, and is forgotten.
//!
//! Loom model: `models::retire`. Needed orderings: `scripts/weaken-orderings.sh`, group `retire`.

use super::end;
use super::event::{Event, PanicPlace, ReplicaFailure};
use super::header::{Header, Phase, Reason};
use super::room;
use super::shared::{self, Sharing};
use super::turn::{count_panic, fail};
use crate::error::{AskError, StopReason};
use crate::panics::PanicText;
use crate::sched::runnable::After;
use crate::sched::timers::{Key, Timed};
use crate::sync::{AtomicBool, AtomicUsize, Ordering::*};
use crate::time::{self, Duration};
use crate::user::{self, Site};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

/// What follows the end of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A successor, after this time.
    Replace(Duration),
    /// The actor's end.
    End,
}

/// A cell's supervisor. Called in the actor's turns only, outside all locks but for `waits`.
pub(crate) trait Keeper: Send {
    /// Decides what follows, after a state was lost or could not be made.
    fn lost(&self, loss: &ReplicaFailure) -> Verdict;

    /// Puts a new state into the cell. May run user code, which may panic. Then there is no state.
    ///
    /// # Safety
    /// Called in the turn of the supervisor's own cell, which is vacant.
    unsafe fn renew(&self, this: NonNull<Header>) -> Result<(), String>;

    /// Called under the timers' lock with the key of the timer for which the successor waits, so
    /// that a pool that stops at once can cancel the wait.
    fn waits(&self, key: Key);

    /// Called once, when the actor has ended for good.
    fn ended(&self, reason: &StopReason);
}

/// The additional part of a cell with a supervisor.
pub(crate) struct Kept {
    /// The supervisor, for the holder of the runnable. `None` after the actor has ended.
    keeper: Cell<Option<Box<dyn Keeper>>>,
    /// Whether a turn handles messages. For statistics only.
    in_turn: AtomicBool,
    /// Address of the message that this actor has taken from the queue and not handled yet, or 0.
    taken: AtomicUsize,
    /// Address of the message in hand, or 0. For the holder of the runnable.
    in_hand: Cell<usize>,
    /// The queue from which the actor takes. For a queue, the queue's own part.
    pub(crate) sharing: Arc<Sharing>,
    queue: bool,
}

// SAFETY: only the holder of the runnable touches `keeper` and `in_hand`, and a supervisor is
// `Send`. The other fields are `Sync`.
unsafe impl Sync for Kept {}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Kept {
    /// Makes the part of an actor that takes from `sharing`.
    pub(crate) fn replica(keeper: Box<dyn Keeper>, sharing: Arc<Sharing>) -> Box<Self> {
        Kept::new(keeper, sharing, false)
    }

    /// Makes the part of the queue itself.
    pub(crate) fn queue(keeper: Box<dyn Keeper>, sharing: Arc<Sharing>) -> Box<Self> {
        Kept::new(keeper, sharing, true)
    }

    fn new(keeper: Box<dyn Keeper>, sharing: Arc<Sharing>, queue: bool) -> Box<Self> {
        Box::new(Kept {
            keeper: Cell::new(Some(keeper)),
            in_turn: AtomicBool::new(false),
            taken: AtomicUsize::new(0),
            in_hand: Cell::new(0),
            sharing,
            queue,
        })
    }

    /// Lists the cell at the queue. Returns `false` if its first turn must not be scheduled.
    #[must_use]
    pub(crate) fn join(&self, cell: NonNull<Header>) -> bool {
        self.sharing.join(cell, self.queue)
    }

    /// Returns `true` if this cell is a queue, and not an actor.
    pub(crate) fn is_queue(&self) -> bool {
        self.queue
    }

    /// Returns `true` if a turn handles messages. A snapshot.
    pub(crate) fn in_turn(&self) -> bool {
        self.in_turn.load(Relaxed)
    }

    /// Notes, under the queue's lock, that the actor has taken a message.
    pub(super) fn takes(&self, message: usize) {
        self.taken.store(message, Relaxed);
    }

    /// Returns `true` if the actor has taken the message and not handled it yet. Called under the
    /// queue's lock.
    pub(super) fn has_taken(&self, message: usize) -> bool {
        // Relaxed: the caller asks on behalf of an actor that waits. If that actor waits for this
        // one too, this one is still in the handler before which the address was stored.
        self.taken.load(Relaxed) == message
    }

    /// Notes, for the holder of the runnable, that `message` comes next and the last one is
    /// handled.
    pub(super) fn next_in_hand(&self, message: usize) {
        let handled = self.in_hand.replace(message);
        if handled != 0 && handled == self.taken.load(Relaxed) {
            // The memory may soon hold another message, not taken by this actor.
            self.taken.store(0, Relaxed);
        }
    }

    /// Begins a turn that handles messages.
    pub(super) fn enter(&self) -> InTurn<'_> {
        self.in_turn.store(true, Relaxed);
        InTurn(self)
    }

    /// Calls `question` with the supervisor, if there is one. For the holder of the runnable.
    fn ask<R>(&self, question: impl FnOnce(&dyn Keeper) -> R) -> Option<R> {
        // Taken out for the call, since the supervisor may run user code that comes back here.
        let lent = Lent { keeper: Some(self.keeper.take()?), to: &self.keeper };
        lent.keeper.as_deref().map(question)
    }
}

/// A supervisor on loan, put back even if the call panics.
struct Lent<'a> {
    keeper: Option<Box<dyn Keeper>>,
    to: &'a Cell<Option<Box<dyn Keeper>>>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.to.set(self.keeper.take());
    }
}

/// A turn that handles messages.
pub(super) struct InTurn<'a>(&'a Kept);

impl InTurn<'_> {
    /// Ends the turn.
    pub(super) fn leave(self) {
        self.0.in_turn.store(false, Relaxed);
        self.0.next_in_hand(0);
    }
}

/// Ends the state after the message in hand. The actor goes on if its supervisor has another state.
pub(super) fn retire(this: NonNull<Header>, kill: bool) {
    // SAFETY: the caller holds a reference to the cell.
    let header = unsafe { this.as_ref() };
    match header.state.retire() {
        // The mailbox is closed already, so this is the actor's last state.
        None => Header::close(this, kill),
        Some(schedule) => {
            // After the flag, which the step above has set: see `Header::killed`.
            header.hint_stop();
            if schedule {
                // SAFETY: the caller's reference keeps the cell, and the transition made this
                // thread the one to push the runnable.
                unsafe { Header::schedule(this) };
            }
        }
    }
}

/// Handles the end of a state, after a panic or a stop. Returns what follows the turn, or `None` if
/// there is no successor. Then the turn goes on to the actor's end, or has nothing to replace.
///
/// # Safety
/// The caller holds the runnable, gives it up with the result, and does not touch the cell
/// afterwards. `owed` places are not given back yet.
#[cold]
pub(super) unsafe fn over(this: NonNull<Header>, panic: Option<PanicText>, owed: &mut u32) -> Option<After> {
    // SAFETY: the caller's runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    let loss = panic.clone().map_or(ReplicaFailure::Stopped, ReplicaFailure::Panicked);
    if let Some(kept) = header.kept()
        && goes_on(header, owed)
    {
        // Before the supervisor decides. Stops until now were meant for the state that ends here.
        header.forget_stop();
        if let Some(Verdict::Replace(after)) = kept.ask(|keeper| keeper.lost(&loss)) {
            // The owed places may have made room. The successor may take long, so waiting senders
            // are served now.
            if header.state.peek().in_line() {
                room::serve(this);
            }
            empty(this, panic);
            // SAFETY: the caller gave up the runnable, and the cell is vacant now.
            return Some(unsafe { replace(this, kept, after) });
        }
        // A panic without a successor is reported by `fail` below.
        if panic.is_none() {
            give_up(header, &loss);
        }
    }
    if let Some(text) = panic {
        fail(header, text);
    }
    None
}

/// Gives the owed places back, then returns `true` if the actor may still have a successor.
fn goes_on(header: &Header, owed: &mut u32) -> bool {
    let now = header.state.give_back(std::mem::take(owed));
    let over = now.killed() || (now.closed() && now.len() == 0);
    !over
}

/// Ends the old state: `stopped`, then the drop of the state.
fn empty(this: NonNull<Header>, panic: Option<PanicText>) {
    // SAFETY: the caller's runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    let (reason, cause) = match panic {
        None => (StopReason::Stopped, AskError::Stopped),
        Some(text) => {
            let place =
                if header.phase.get() == Phase::New { PanicPlace::Started } else { PanicPlace::Handler };
            count_panic(header, place, text.clone());
            (StopReason::Panicked(text.clone()), AskError::Panicked(text))
        }
    };
    if header.phase.get() == Phase::Running {
        // SAFETY: in the actor's turn, on a state whose `started` has returned.
        if let Err(text) = user::guard(Site::Stopped, || unsafe { (header.vtable().stopped)(this, &reason) })
        {
            count_panic(header, PanicPlace::Stopped, text);
        }
    }
    // Vacant before the drop runs, so that a panic there cannot lead to a second drop.
    header.phase.set(Phase::Vacant);
    // SAFETY: in the actor's turn, once, and nothing uses the state afterwards.
    if let Err(text) = user::guard_for(Site::Drop, &cause, || unsafe { (header.vtable().drop_state)(this) }) {
        count_panic(header, PanicPlace::StateDrop, text);
    }
    let cause = match reason {
        StopReason::Panicked(text) => ReplicaFailure::Panicked(text),
        _ => ReplicaFailure::Stopped,
    };
    tell_of(header, cause);
}

/// Tells the event hook that another state is to be made, and why.
fn tell_of(header: &Header, cause: ReplicaFailure) {
    header.core().emit(|| Event::Replaced { actor: header.id(), type_name: header.type_name(), cause });
}

/// Runs the turn of a vacant cell: the delay has passed, or the wait was cancelled.
///
/// # Safety
/// The caller holds the runnable, and does not touch the cell if the result is `Gone`.
#[cold]
pub(super) unsafe fn resume(this: NonNull<Header>) -> After {
    // SAFETY: the caller's runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    match header.kept() {
        // SAFETY: the caller gave up the runnable, and the cell is vacant.
        Some(kept) if goes_on(header, &mut 0) => unsafe { make(this, kept) },
        // SAFETY: the caller gave up the runnable, and the cell has no state.
        _ => unsafe { finish(this) },
    }
}

/// Makes the successor now, or gives the runnable to a timer.
///
/// # Safety
/// The caller holds the runnable of a vacant cell and gives it up.
unsafe fn replace(this: NonNull<Header>, kept: &Kept, after: Duration) -> After {
    // SAFETY: the caller gave up the runnable. After a `wait` that returns `false` the runnable is
    // back.
    unsafe {
        if after.is_zero() {
            make(this, kept)
        } else if wait(this, kept, after) {
            After::Gone
        } else {
            // No timer can be armed, or the actor was killed. `resume` decides in the next turn.
            After::Requeue
        }
    }
}

/// Makes the successor. After a failure the supervisor decides again.
///
/// # Safety
/// The caller holds the runnable of a vacant cell and gives it up.
unsafe fn make(this: NonNull<Header>, kept: &Kept) -> After {
    // SAFETY: the caller's runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    // A stop in the meantime was meant for the old state.
    header.forget_stop();
    let mut made = Ok(());
    let panic = user::guard(Site::Factory, || {
        // SAFETY: in the turn of the supervisor's own cell, which is vacant.
        if let Some(result) = kept.ask(|keeper| unsafe { keeper.renew(this) }) {
            made = result;
        }
    });
    let loss = match (panic, made) {
        (Ok(()), Ok(())) => {
            header.phase.set(Phase::New);
            // The next turn begins with `started`.
            return After::Requeue;
        }
        (Ok(()), Err(text)) => ReplicaFailure::Factory(text),
        (Err(text), _) => {
            count_panic(header, PanicPlace::Factory, text.clone());
            ReplicaFailure::Factory(text.to_string())
        }
    };
    match kept.ask(|keeper| keeper.lost(&loss)) {
        Some(Verdict::Replace(after)) => {
            tell_of(header, loss);
            if after.is_zero() {
                // By way of a queue, so a factory that always fails does not keep the worker.
                After::Requeue
            } else {
                // SAFETY: the runnable is still held, and the cell is still vacant.
                unsafe { replace(this, kept, after) }
            }
        }
        _ => {
            give_up(header, &loss);
            // SAFETY: the runnable is still held, and the cell has no state.
            unsafe { finish(this) }
        }
    }
}

/// Closes the actor for good. Nothing is accepted any more, and waiting messages are not handled.
fn give_up(header: &Header, loss: &ReplicaFailure) {
    if let ReplicaFailure::Panicked(text) = loss {
        header.reason.set(Reason::Panicked);
        *header.cold().panic.lock() = Some(text.clone());
    } else {
        header.reason.set(Reason::Stopped);
    }
    let scheduled = header.state.close(true);
    debug_assert!(!scheduled, "we hold the runnable");
}

/// Ends an actor that has no state.
///
/// # Safety
/// The caller holds the runnable, and does not touch the cell if the result is `Gone`.
unsafe fn finish(this: NonNull<Header>) -> After {
    // SAFETY: the caller gave up the runnable, and `begin` is called before `proceed`.
    unsafe {
        end::begin(this.as_ref());
        end::proceed(this)
    }
}

/// Tells the queue and the supervisor of the actor's end, in the last turn.
pub(super) fn ended(this: NonNull<Header>, kept: &Kept) {
    shared::leave(this, kept);
    if let Some(keeper) = kept.keeper.take() {
        // SAFETY: the caller's runnable keeps the cell.
        let reason = end::reason(unsafe { this.as_ref() });
        user::contain(Site::Keeper, || keeper.ended(&reason));
        user::contain(Site::Drop, || drop(keeper));
    }
}

/// A runnable that waits for an instant. Dropping this value pushes the runnable, so the runnable
/// is never lost.
struct Delayed {
    cell: NonNull<Header>,
}

// SAFETY: a runnable may be on any thread.
unsafe impl Send for Delayed {}

/// Gives the runnable to a timer. Returns `false` if no timers are accepted any more, or if the
/// actor was killed.
///
/// # Safety
/// The caller holds the runnable, and gives it up if the result is `true`.
unsafe fn wait(this: NonNull<Header>, kept: &Kept, after: Duration) -> bool {
    // SAFETY: the caller's runnable keeps the cell until the timer has it.
    let core = unsafe { this.as_ref() }.core();
    // Counted before the runnable is given away, so that the executor never looks quiescent in
    // between.
    core.scheduler.delay();
    // From the arming on this thread does not touch the cell. So the key is published before that,
    // under the timers' lock.
    let armed = core.scheduler.arm(
        time::after(after),
        // A pool that stops at once first kills and then looks for timers. So either the pool finds
        // the timer, or this check sees the kill.
        || {
            // SAFETY: the timer is not armed yet, so the caller's runnable still keeps the cell.
            let header = unsafe { this.as_ref() };
            !header.state.peek().killed()
        },
        |key| {
            kept.ask(|keeper| keeper.waits(key));
            Box::new(Delayed { cell: this })
        },
    );
    if !armed {
        core.scheduler.undelay();
    }
    armed
}

impl Timed for Delayed {
    fn fire(self: Box<Self>) -> Result<(), Box<dyn Timed>> {
        drop(self);
        Ok(())
    }

    fn undeliverable(self: Box<Self>) {}
}

impl Drop for Delayed {
    fn drop(&mut self) {
        // SAFETY: the value owns the runnable and pushes it once, and until then the runnable keeps
        // the cell. A thread outside the crew holds the core itself, since the actor may end as
        // soon as the runnable is pushed.
        unsafe {
            let core = self.cell.as_ref().core();
            // A thread outside passes the gate, so the executor does not look quiescent between the
            // count and the push.
            let held = (!core.on_crew()).then(|| core.share());
            let _pass = held.as_ref().map(|core| core.scheduler.gate.enter());
            core.scheduler.undelay();
            Header::schedule(self.cell);
        }
    }
}

//! A successor for an actor's state: after a panic, or after a stop, the cell stays and only the state is replaced.
//!
//! No message is moved for that. Mailbox, references, id and runnable stay as they are, so what waits is handled by the
//! successor, in order and once, by construction; the message that panicked was handled (its asker has the panic's text).
//! Who decides whether and when, and who makes the new state, is the cell's *keeper*, in its cold part: who has none pays
//! nothing.
//!
//! | phase | event | phase then | what happens |
//! |---|---|---|---|
//! | new, running | panic · `stop`, `stop_now` | vacant | `stopped` runs (if `started` had returned), the state is dropped |
//! | new, running | the same, and the keeper says no, or the mailbox is closed and empty, or killed | ending | as for any actor |
//! | vacant | at once | new | the keeper makes a state; `started` runs in the next turn, before what waits |
//! | vacant | later | vacant | the *runnable* goes to a timer, which gives it back when it fires, or is dropped |
//! | vacant | the keeper fails, and says no to another try | ending | what waits becomes dead letters |
//!
//! **While a successor is waited for** the word says `SCHEDULED`: senders are accepted within the capacity, and push nothing,
//! because the one runnable is in the timer's hands. So there is no turn, and nobody polls. A timer that is cancelled (the
//! pool stops at once; the executor shuts down) gives the runnable back too. The scheduler counts such runnables: with
//! one of them nothing is quiet, since messages may wait behind it.
//!
//! **A stop** of such an actor is not the end of its mailbox but that of its state, after the message in hand. The state word's
//! `RETIRE` says so: the step that sets it makes a turn where there is none, and the last step of a turn sees it. So no stop is
//! lost, whenever it comes (`models::retire`). Turns look at a hint beside it after each message ([`Header::killed`]).
//! A stop that comes while the cell is vacant was meant for the state that is gone, and is forgotten.

use super::end;
use super::event::{Event, Loss, PanicPlace};
use super::header::{Header, Phase, Reason};
use super::room;
use super::shared::{self, Sharing};
use super::turn::{count_panic, fail};
use crate::error::{AskError, StopReason};
use crate::panics::PanicText;
use crate::sched::task::After;
use crate::sched::timers::{Key, Timed};
use crate::sync::{AtomicBool, AtomicUsize, Ordering::*};
use crate::time::{self, Duration};
use crate::user::{self, Site};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;

/// What is to follow the end of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A successor, after this time.
    Replace(Duration),
    /// The actor's end.
    End,
}

/// Who keeps an actor going. Called in the actor's turns only, outside all locks.
pub(crate) trait Keeper: Send {
    /// A state is lost, or could not be made.
    fn lost(&self, loss: &Loss) -> Verdict;

    /// Puts a new state into the cell. May run user code, which may panic; then no state is there.
    ///
    /// # Safety
    /// In the turn of the vacant cell that this keeper was made for.
    unsafe fn renew(&self, this: NonNull<Header>) -> Result<(), String>;

    /// The successor comes after a time: this key is its timer's, for whoever will not wait so long. Under the timers' lock.
    fn waits(&self, key: Key);

    /// The actor has ended, for good.
    fn ended(&self, reason: &StopReason);
}

/// What a cell with a keeper has more than others.
pub(crate) struct Kept {
    /// For the holder of the runnable; gone when the actor has ended.
    keeper: Cell<Option<Box<dyn Keeper>>>,
    /// In a turn that handles messages, for who wants to know.
    in_turn: AtomicBool,
    /// The address of the message that this actor has taken from the queue, until it is handled; or 0.
    taken: AtomicUsize,
    /// The address of the message that this actor handles now. For the holder of the runnable.
    in_hand: Cell<usize>,
    /// The queue that this actor takes from, or that this cell is.
    pub(crate) sharing: Arc<Sharing>,
    queue: bool,
}

// SAFETY: the keeper is Send, and touched by the holder of the runnable only; the rest is Sync.
unsafe impl Sync for Kept {}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("queue", &self.queue).finish_non_exhaustive()
    }
}

impl Kept {
    /// Of an actor that takes from `sharing`.
    pub(crate) fn replica(keeper: Box<dyn Keeper>, sharing: Arc<Sharing>) -> Box<Self> {
        Kept::new(keeper, sharing, false)
    }

    /// Of the queue itself.
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

    /// The cell is there; its first turn is not scheduled yet, and will not be if this is false.
    #[must_use]
    pub(crate) fn join(&self, cell: NonNull<Header>) -> bool {
        self.sharing.join(cell, self.queue)
    }

    pub(crate) fn is_queue(&self) -> bool {
        self.queue
    }

    /// Is a message in work?
    pub(crate) fn in_turn(&self) -> bool {
        self.in_turn.load(Relaxed)
    }

    /// Under the queue's lock: this actor has that message to handle.
    pub(super) fn takes(&self, message: usize) {
        self.taken.store(message, Relaxed);
    }

    /// Under the queue's lock: has this actor taken that message, and not handled it yet?
    pub(super) fn has_taken(&self, message: usize) -> bool {
        // Relaxed: it is asked on behalf of an actor that waits. If this one is to be found waiting too, it is still in the
        // handler before which this was stored.
        self.taken.load(Relaxed) == message
    }

    /// For the holder of the runnable: the message in hand is handled, and this one comes next.
    pub(super) fn next_in_hand(&self, message: usize) {
        let handled = self.in_hand.replace(message);
        if handled != 0 && handled == self.taken.load(Relaxed) {
            // Its memory may be another message's soon, which this actor has not taken.
            self.taken.store(0, Relaxed);
        }
    }

    /// The beginning of a turn.
    pub(super) fn enter(&self) -> InTurn<'_> {
        self.in_turn.store(true, Relaxed);
        InTurn(self)
    }

    /// For the holder of the runnable. A cell that has ended has no keeper.
    fn ask<R>(&self, question: impl FnOnce(&dyn Keeper) -> R) -> Option<R> {
        let lent = Lent { keeper: Some(self.keeper.take()?), to: &self.keeper };
        lent.keeper.as_deref().map(question)
    }
}

/// A keeper that goes back to its place, also if what it is asked panics.
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
    /// Its end.
    pub(super) fn leave(self) {
        self.0.in_turn.store(false, Relaxed);
        self.0.next_in_hand(0);
    }
}

/// Ends the state after the message in hand; the actor goes on with another, if its keeper has one.
pub(super) fn retire(this: NonNull<Header>, kill: bool) {
    // SAFETY: the caller holds a reference.
    let header = unsafe { this.as_ref() };
    match header.state.retire() {
        None => Header::close(this, kill), // its last state
        Some(schedule) => {
            header.hint_stop();
            if schedule {
                // SAFETY: the caller's reference keeps the cell; the transition made the runnable ours to push.
                unsafe { Header::schedule(this) };
            }
        }
    }
}

/// A state is at its end: by this panic, or because it was retired. `None`: the actor is not kept going, and the turn ends
/// it, or has nothing to replace; else what follows the turn.
///
/// # Safety
/// The caller holds the runnable, which is given up with the result; then the cell must not be touched. `owed` places are
/// not given back yet.
#[cold]
pub(super) unsafe fn over(this: NonNull<Header>, panic: Option<PanicText>, owed: &mut u32) -> Option<After> {
    // SAFETY: the runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    let loss = panic.clone().map_or(Loss::Stopped, Loss::Panicked);
    if let Some(kept) = header.kept()
        && goes_on(header, owed)
    {
        header.forget_stop();
        if let Some(Verdict::Replace(after)) = kept.ask(|keeper| keeper.lost(&loss)) {
            if header.state.peek().in_line() {
                room::serve(this);
            }
            empty(this, panic);
            // SAFETY: the caller's.
            return Some(unsafe { replace(this, kept, after) });
        }
        if panic.is_none() {
            give_up(header, &loss);
        }
    }
    if let Some(text) = panic {
        fail(header, text);
    }
    None
}

/// Has it still got anything to do? Gives back what the turn owes.
fn goes_on(header: &Header, owed: &mut u32) -> bool {
    let now = header.state.give_back(std::mem::take(owed));
    let over = now.killed() || (now.closed() && now.len() == 0);
    !over
}

/// The end of the state that was.
fn empty(this: NonNull<Header>, panic: Option<PanicText>) {
    // SAFETY: the runnable, which the caller holds, keeps the cell.
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
        // SAFETY: in the actor's turn.
        if let Err(text) = user::guard(Site::Stopped, || unsafe { (header.vtable().stopped)(this, &reason) })
        {
            count_panic(header, PanicPlace::Stopped, text);
        }
    }
    header.phase.set(Phase::Vacant);
    // SAFETY: in the actor's turn, once, and nothing uses the state afterwards.
    if let Err(text) = user::guard_for(Site::Drop, &cause, || unsafe { (header.vtable().drop_state)(this) }) {
        count_panic(header, PanicPlace::StateDrop, text);
    }
    let cause = match reason {
        StopReason::Panicked(text) => Loss::Panicked(text),
        _ => Loss::Stopped,
    };
    tell_of(header, cause);
}

/// Tells the event hook that another state is to be made, because of this.
fn tell_of(header: &Header, cause: Loss) {
    header.core().emit(|| Event::Replaced { actor: header.id(), type_name: header.type_name(), cause });
}

/// The turn of a vacant cell: the time has come, or nobody waits for it any more.
///
/// # Safety
/// As for [`over`].
#[cold]
pub(super) unsafe fn resume(this: NonNull<Header>) -> After {
    // SAFETY: the runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    match header.kept() {
        // SAFETY: the caller's.
        Some(kept) if goes_on(header, &mut 0) => unsafe { make(this, kept) },
        // SAFETY: the caller's.
        _ => unsafe { finish(this) },
    }
}

/// # Safety
/// As for [`over`].
unsafe fn replace(this: NonNull<Header>, kept: &Kept, after: Duration) -> After {
    // SAFETY: the caller's.
    unsafe {
        if after.is_zero() {
            make(this, kept)
        } else if wait(this, kept, after) {
            After::Gone
        } else {
            After::Requeue
        }
    }
}

/// # Safety
/// As for [`over`].
unsafe fn make(this: NonNull<Header>, kept: &Kept) -> After {
    // SAFETY: the runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    header.forget_stop(); // a stop in the meantime was meant for the state that is gone
    let mut made = Ok(());
    let panic = user::guard(Site::Factory, || {
        // SAFETY: in the vacant cell's turn.
        if let Some(result) = kept.ask(|keeper| unsafe { keeper.renew(this) }) {
            made = result;
        }
    });
    let loss = match (panic, made) {
        (Ok(()), Ok(())) => {
            header.phase.set(Phase::New);
            return After::Requeue; // whose turn begins with `started`
        }
        (Ok(()), Err(text)) => Loss::Factory(text),
        (Err(text), _) => {
            count_panic(header, PanicPlace::Factory, text.clone());
            Loss::Factory(text.to_string())
        }
    };
    match kept.ask(|keeper| keeper.lost(&loss)) {
        Some(Verdict::Replace(after)) => {
            tell_of(header, loss);
            if after.is_zero() {
                After::Requeue
            } else {
                // SAFETY: the caller's.
                unsafe { replace(this, kept, after) }
            }
        }
        _ => {
            give_up(header, &loss);
            // SAFETY: the caller's.
            unsafe { finish(this) }
        }
    }
}

/// No successor any more: nothing is accepted, and what waits is not handled.
fn give_up(header: &Header, loss: &Loss) {
    if let Loss::Panicked(text) = loss {
        header.reason.set(Reason::Panicked);
        *header.cold().panic.lock() = Some(text.clone());
    } else {
        header.reason.set(Reason::Stopped);
    }
    let scheduled = header.state.close(true);
    debug_assert!(!scheduled, "we hold the runnable");
}

/// # Safety
/// As for [`over`].
unsafe fn finish(this: NonNull<Header>) -> After {
    // SAFETY: the caller's.
    unsafe {
        end::begin(this.as_ref());
        end::proceed(this)
    }
}

/// The actor has ended but for its memory.
pub(super) fn ended(this: NonNull<Header>, kept: &Kept) {
    shared::leave(this, kept);
    if let Some(keeper) = kept.keeper.take() {
        // SAFETY: the runnable, which the caller holds, keeps the cell.
        let reason = end::reason(unsafe { this.as_ref() });
        user::contain(Site::Keeper, || keeper.ended(&reason));
        user::contain(Site::Drop, || drop(keeper));
    }
}

/// A runnable that waits for an instant. Whatever becomes of this, the runnable is pushed then.
struct Delayed {
    cell: NonNull<Header>,
}

// SAFETY: a runnable may be on any thread.
unsafe impl Send for Delayed {}

/// Gives the runnable to a timer. False: there are no timers any more.
///
/// # Safety
/// As for [`over`], if the result is true.
unsafe fn wait(this: NonNull<Header>, kept: &Kept, after: Duration) -> bool {
    // SAFETY: the caller holds the runnable, which keeps the cell until the timer has it.
    let core = unsafe { this.as_ref() }.core();
    core.scheduler.delay();
    // From the arming on the cell is not ours: the key is made known under the timers' lock, before that.
    let armed = core.scheduler.arm(
        time::after(after),
        // A pool that stops at once kills first, then looks for timers: so it finds this one, or this sees that it has.
        || {
            // SAFETY: as above.
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
        // SAFETY: the runnable is ours, keeps the cell until it is pushed, and was given up for this. The core is held for
        // what follows the push.
        unsafe {
            let core = self.cell.as_ref().core();
            let held = (!core.on_crew()).then(|| core.share());
            let _pass = held.as_ref().map(|core| core.scheduler.gate.enter());
            core.scheduler.undelay();
            Header::schedule(self.cell);
        }
    }
}

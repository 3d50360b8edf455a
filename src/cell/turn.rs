//! One turn: drains a mailbox within its budget, and decides what comes next.
//!
//! A turn takes no more messages than waited when it began, so an actor that tells itself something cannot keep its
//! worker, and what a flood brings in is handled while it is still in the cache. Within that it ends at the budget of
//! messages, or of time: the clock is read rarely as long as turns are short, and after every message on a worker whose
//! messages have lately been long.
//!
//! A panic in a message fails the actor: the turn goes on to the actor's end.
//!
//! User code may block, and its thread come back without the worker that it was ([`crate::sched::spares`]). So nothing here
//! keeps a reference to the worker across user code: each look at it is a look-up of its own.

use super::batch::{self, Timed};
use super::end;
use super::envelope::{Envelope, EnvelopeVtable};
use super::event::{Event, PanicPlace};
use super::header::{Cold, Header, Phase, Reason};
use super::prepaid;
use super::restart::{self, Kept};
use super::room;
use super::shared;
use super::stopwatch::{Lap, Stopwatch};
use crate::mailbox::inbox::{Node, Popped};
use crate::mailbox::state::EndTurn;
use crate::panics::PanicText;
use crate::sched::local::Local;
use crate::sched::member::Current;
use crate::sched::task::{After, TaskHeader};
use crate::sync::Ordering::Relaxed;
use crate::time::{self, Instant};
use crate::user::{self, Site};
use std::cell::Cell;
use std::ptr::NonNull;

/// Room is given back after this part of the capacity, in a turn that is long enough: senders have to be met for it.
const GIVE_BACK_PART: u32 = 8;
/// The fewest messages after which room is given back.
const GIVE_BACK_EVERY: u32 = 32;
/// Short messages handled between two readings of the clock.
const CLOCK_EVERY: u32 = 16;
/// A message longer than this makes the worker read the clock after each one.
const LONG_MESSAGE_NS: u64 = 2_000;

/// The scheduler's way in.
///
/// # Safety
/// `task` is the header of a cell whose runnable the caller gives up.
pub(crate) unsafe fn run(task: NonNull<TaskHeader>) -> After {
    let this: NonNull<Header> = task.cast();
    let _current = Current::of(this);
    // SAFETY: the caller's.
    unsafe { turn(this) }
}

/// # Safety
/// As for [`run`]. When the result is `Gone` the cell must not be touched.
unsafe fn turn(this: NonNull<Header>) -> After {
    // SAFETY: the runnable keeps the cell alive until a transition gives it up.
    let header = unsafe { this.as_ref() };
    // SAFETY: we hold the runnable.
    unsafe { header.inbox.prefetch() };
    let begun = header.state.begin_turn();
    let waiting = if begun.stops() { 0 } else { begun.len() };
    if !matches!(header.phase.get(), Phase::New | Phase::Running) {
        // SAFETY: the caller's.
        return unsafe {
            match header.phase.get() {
                Phase::Vacant => restart::resume(this),
                Phase::Queue => shared::turn(this),
                _ => end::proceed(this),
            }
        };
    }
    if waiting > header.most_waiting.load(Relaxed) {
        header.most_waiting.store(waiting, Relaxed);
    }
    let drained = match header.cold_if_any() {
        None => drain(this, waiting, header.core().limits.messages, None, |run| run.message(), || ()),
        Some(cold) => drain_with_ticks(this, waiting, cold),
    };
    let handled = drained.total - prepaid::take_noted(header);
    header.count_handled(handled);
    header.core().count_in_turn(|tally| &tally.handled, u64::from(handled));
    if drained.outcome.is_ok() && header.state.end_idle(drained.total - drained.given) {
        return After::Gone;
    }
    // SAFETY: the caller's.
    unsafe { finish(this, waiting, drained) }
}

/// The end of a turn after which there is more to do.
///
/// # Safety
/// As for [`run`].
#[inline(never)]
unsafe fn finish(this: NonNull<Header>, waiting: u32, drained: Drained) -> After {
    // SAFETY: the runnable keeps the cell alive until a transition gives it up.
    let header = unsafe { this.as_ref() };
    let Drained { total, given, outcome } = drained;
    let mut owed = total - given;
    if let Err(text) = outcome {
        // SAFETY: the caller's.
        if let Some(after) = unsafe { restart::over(this, Some(text), &mut owed) } {
            return after;
        }
    }
    let mut served = false;
    loop {
        header.clear_stop_hint(); // before the step that looks at the flags
        match header.state.end_turn(owed, served) {
            EndTurn::Idle => return After::Gone,
            // The mark of an outside sender is lost here, which costs that sender one round of the local queue.
            EndTurn::More { .. } if total == 0 && waiting > 0 => return After::RequeueGap,
            EndTurn::More { from_outside: true } => return After::RequeueOutside,
            EndTurn::More { from_outside: false } => return After::Requeue,
            EndTurn::ServeRoom => room::serve(this),
            EndTurn::Wanted => {
                shared::look(this);
                if header.state.peek().in_line() {
                    room::serve(this);
                }
            }
            EndTurn::Retire => {
                // SAFETY: the caller's.
                if let Some(after) = unsafe { restart::over(this, None, &mut 0) } {
                    return after;
                }
                // It is closed by now, or killed, or its keeper gave it up: the next step says so.
            }
            EndTurn::Ending => break,
            EndTurn::Unreferenced => {
                header.reason.set(Reason::Unreferenced);
                break;
            }
        }
        owed = 0;
        served = true;
    }
    end::begin(header);
    // SAFETY: the caller's; both endings leave the runnable with us.
    unsafe { end::proceed(this) }
}

/// What a turn did with the messages.
struct Drained {
    /// Handled, or come to too late.
    total: u32,
    /// Of those, the places given back already.
    given: u32,
    outcome: Result<(), PanicText>,
}

/// The turn of an actor that has a cold part, and perhaps timers. Ticks that wait were counted when the turn began, so
/// their cold part was there; apart, so that the others do not look for ticks before each message.
#[inline(never)]
fn drain_with_ticks(this: NonNull<Header>, waiting: u32, cold: &Cold) -> Drained {
    // SAFETY: we hold the runnable, which keeps the cell.
    let limit = unsafe { this.as_ref() }.limits().messages;
    let turn = cold.kept.as_deref().map(Kept::enter);
    let drained = match &cold.stopwatch {
        None => {
            // SAFETY: as above.
            let next = |run: &Run<'_>| unsafe {
                let popped = cold.ticks.pop_or(this, Popped::Node, || run.message());
                if let Some(kept) = &cold.kept {
                    kept.next_in_hand(popped.as_ref().map_or(0, Popped::addr));
                }
                popped
            };
            drain(this, waiting, limit, None, next, || ())
        }
        Some(stopwatch) => drain_timed(this, waiting, limit, cold, stopwatch),
    };
    if let Some(turn) = turn {
        turn.leave();
    }
    drained
}

/// The turn of a timed actor, which may have timers too.
#[inline(never)]
fn drain_timed(
    this: NonNull<Header>,
    waiting: u32,
    limit: u32,
    cold: &Cold,
    stopwatch: &Stopwatch,
) -> Drained {
    // SAFETY: we hold the runnable, which keeps the cell.
    let header = unsafe { this.as_ref() };
    let lap = Lap::begin(header, stopwatch);
    // SAFETY: as above: all nodes are of this mailbox, whose receiver we are.
    let next = |run: &Run<'_>| unsafe {
        // What is in a slot was sent to an actor that nobody timed, which this one is.
        let node = cold.ticks.pop_or(this, Popped::Node, || run.message())?.into_node(this.cast());
        if let Some(kept) = &cold.kept {
            kept.next_in_hand(node.addr());
        }
        lap.start(Envelope::sent(Envelope::from_node(node)), run.rest.get(), cold.ticks.inbox().begin());
        Some(Popped::Node(node))
    };
    let drained = drain(this, waiting, limit, Some((&lap, cold)), next, || lap.stop());
    lap.end();
    drained
}

/// For the holder of the runnable: handles what `next` gives, within the budget; `done` is called after each that did not
/// panic.
#[inline(always)]
fn drain(
    this: NonNull<Header>,
    waiting: u32,
    limit: u32,
    timed: Option<Timed<'_>>,
    next: impl Fn(&Run<'_>) -> Option<Popped>,
    done: impl Fn(),
) -> Drained {
    // SAFETY: the runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    // SAFETY: we hold the runnable.
    let rest = Cell::new(unsafe { header.inbox.begin() });
    let run = Run { header, total: Cell::new(0), given: Cell::new(0), rest };
    let outcome = user::guard(Site::Turn, || run.messages(this, waiting, limit, timed, next, done));
    // SAFETY: as above.
    unsafe { header.inbox.end(run.rest.get()) };
    Drained { total: run.total.get(), given: run.given.get(), outcome }
}

/// A panic ends the actor: nothing more is accepted or handled.
pub(super) fn fail(header: &Header, text: PanicText) {
    header.reason.set(Reason::Panicked);
    *header.cold().panic.lock() = Some(text.clone());
    let scheduled = header.state.close(true);
    debug_assert!(!scheduled, "we hold the runnable");
    let place = if header.phase.get() == Phase::New { PanicPlace::Started } else { PanicPlace::Handler };
    count_panic(header, place, text);
}

/// Counts a panic, and tells the hook.
pub(super) fn count_panic(header: &Header, place: PanicPlace, text: PanicText) {
    let core = header.core();
    core.count_here(|tally| &tally.panicked, 1);
    core.emit(|| Event::Panicked { actor: header.id(), type_name: header.type_name(), place, text });
}

/// One turn's counts, which survive a panic.
struct Run<'a> {
    header: &'a Header,
    /// Handled in this turn.
    total: Cell<u32>,
    /// Of those, the places given back already.
    given: Cell<u32>,
    /// What was taken off the inbox and not handled yet.
    rest: Cell<*mut Node>,
}

impl Run<'_> {
    /// The next message; for the holder of the runnable.
    #[inline(always)]
    fn message(&self) -> Option<Popped> {
        // SAFETY: so says `drain`.
        unsafe { self.header.inbox.pop_from(&self.rest) }
    }

    #[inline(always)]
    fn messages(
        &self,
        this: NonNull<Header>,
        waiting: u32,
        limit: u32,
        timed: Option<Timed<'_>>,
        next: impl Fn(&Self) -> Option<Popped>,
        done: impl Fn(),
    ) {
        let header = self.header;
        if header.phase.get() == Phase::New && !self.start(this) {
            return;
        }
        let most = waiting.min(limit);
        let mut total = 0;
        let mut watch = Watch { started: None, step: CLOCK_EVERY };
        if Local::long_messages() {
            watch = Watch { started: Some(time::now()), step: 1 };
        }
        loop {
            let next_stop = most.min(total + watch.step);
            while total < next_stop {
                let Some(popped) = next(self) else { return };
                total += 1;
                self.total.set(total);
                // SAFETY: popped from this actor's inbox, inside its turn.
                unsafe {
                    match popped {
                        Popped::Node(node) => {
                            let envelope = Envelope::from_node(node);
                            match Envelope::batched(envelope) {
                                None => Envelope::handle(envelope, this),
                                Some(batched) => {
                                    // By value both ways, panics included: so this run is in registers.
                                    let rest = self.rest.get();
                                    let after =
                                        batch::handle(envelope, batched, this, total, most, rest, timed);
                                    self.rest.set(after.rest);
                                    self.total.set(after.total);
                                    total = after.total;
                                    if let Err(payload) = after.outcome {
                                        user::resume(payload);
                                    }
                                }
                            }
                        }
                        Popped::Slot(kind, at) => EnvelopeVtable::handle_in_slot(kind, at, this),
                    }
                }
                done();
                if header.killed() {
                    return;
                }
            }
            if total == most && watch.started.is_none() {
                return;
            }
            if total - self.given.get() >= (header.capacity / GIVE_BACK_PART).max(GIVE_BACK_EVERY) {
                self.give_back(this);
            }
            // Also after the last one: perhaps it was a single long message, or the worker is over its long ones.
            let goes_on = watch.look(self, total);
            if total == most || !goes_on {
                return;
            }
        }
    }

    /// The first turn. False: there is nothing to handle.
    #[cold]
    fn start(&self, this: NonNull<Header>) -> bool {
        let header = self.header;
        // The word and not the hint, which may be of a stop that the last state was meant by.
        if header.state.peek().stops() {
            return false;
        }
        // SAFETY: in the actor's turn.
        unsafe { (header.vtable().started)(this) };
        header.phase.set(Phase::Running);
        !header.state.peek().stops()
    }

    #[cold]
    fn give_back(&self, this: NonNull<Header>) {
        let total = self.total.get();
        prepaid::settle_here(self.header);
        let now = self.header.state.give_back(total - self.given.replace(total));
        if now.room_wait() && !now.closed() {
            room::serve(this);
        }
    }
}

/// A turn's view of the clock.
struct Watch {
    started: Option<Instant>,
    /// Messages until the next look.
    step: u32,
}

impl Watch {
    /// Is there time left?
    #[cold]
    fn look(&mut self, run: &Run<'_>, total: u32) -> bool {
        user::answer_caught();
        let now = time::now();
        Local::saw_clock_here(now);
        let Some(started) = self.started else {
            // The first look is where the measuring begins.
            *self = Watch { started: Some(now), step: 1 };
            return true;
        };
        let passed = now - started;
        let each = passed.as_nanos() as u64 / u64::from(total.max(1));
        let long = if Local::long_messages() { each > LONG_MESSAGE_NS / 2 } else { each > LONG_MESSAGE_NS };
        Local::set_long_messages(long);
        self.step = if long { 1 } else { CLOCK_EVERY };
        passed < run.header.limits().time
    }
}

//! One turn: drains a mailbox within its budget, and decides what comes next.
//!
//! A turn takes no more messages than waited when it began. So an actor that tells itself something
//! cannot keep its worker, and the messages of a flood are handled while they are still in the
//! cache. Within that bound a turn ends at its budget of messages or of time. The clock is read
//! rarely as long as messages are short, and after every message on a worker with long messages
//! lately.
//!
//! A panic in a message fails the actor: the turn goes on to the actor's end.
//!
//! User code may block, and the thread may come back without its worker ([`crate::sched::spares`]).
//! So this file keeps no reference to the worker across user code, and looks the worker up each
//! time.
//!
//! Loom models: `models::mailbox` and `models::retire`, which copy this loop's steps. Needed
//! orderings: `cargo xtask weaken`, groups `state` and `retire`.

use super::batch::{self, TimedTurn};
use super::cold::Cold;
use super::end;
use super::envelope::{Envelope, EnvelopeVtable};
use super::fail::CaughtPanic;
use super::header::{Header, Phase, Reason};
use super::lap::TurnTimer;
use super::restart;
use super::room;
use super::settle;
use super::shared;
use super::stopwatch::Stopwatch;
use super::supervisor::Supervised;
use crate::mailbox::inbox::Popped;
use crate::mailbox::link::Node;
use crate::mailbox::state::EndTurn;
use crate::panics::PanicText;
use crate::sched::crew_thread::Current;
use crate::sched::runnable::{After, RunnableHeader};
use crate::sched::worker::Worker;
use crate::sync::Ordering::Relaxed;
use crate::time::{self, Instant};
use crate::user;
use std::cell::Cell;
use std::ptr::NonNull;

/// Room is given back after this part of the capacity, in a turn that is long enough. Doing so
/// touches the cache line of the senders.
const GIVE_BACK_PART: u32 = 8;
/// The fewest messages after which room is given back.
const GIVE_BACK_EVERY: u32 = 32;
/// Short messages handled between two readings of the clock. A reading costs about as much as a
/// message.
const CLOCK_EVERY: u32 = 16;
/// A message longer than this makes the worker read the clock after each message.
const LONG_MESSAGE_NS: u64 = 2_000;

/// Runs one turn of a cell. The scheduler calls it through `RunnableVtable::run`.
///
/// # Safety
/// `task` is the header of a cell, and the caller gives up the cell's runnable.
pub(crate) unsafe fn run_cell(task: NonNull<RunnableHeader>) -> After {
    let this: NonNull<Header> = task.cast();
    let _current = Current::of_actor(this);
    // SAFETY: `task` is the first field of a cell's header, and the runnable was given up to this
    // call.
    unsafe { run_turn(this) }
}

/// # Safety
/// The caller gives up the runnable. If the result is `Gone` the caller does not touch the cell any
/// more.
unsafe fn run_turn(this: NonNull<Header>) -> After {
    // SAFETY: the runnable keeps the cell alive until a transition gives it up.
    let header = unsafe { this.as_ref() };
    // SAFETY: this turn holds the runnable and so is the receiver.
    unsafe { header.inbox.prefetch_taken() };
    let begun = header.state.begin_turn();
    // A stopped or killed actor handles no message. The transition at the end of this turn sees the
    // same flags and leads on to the end.
    let waiting = if begun.ends_state() { 0 } else { begun.len() };
    if !matches!(header.phase.get(), Phase::New | Phase::Running) {
        // SAFETY: this turn holds the runnable, and hands it over.
        return unsafe { other_turn(this) };
    }
    if waiting > header.most_waiting.load(Relaxed) {
        header.most_waiting.store(waiting, Relaxed);
    }
    // Without a cold part there are no ticks, no stopwatch and no limits of the actor's own, so
    // this loop looks at none of them.
    let drained = match header.cold_if_any() {
        None => drain_mailbox(
            this,
            waiting,
            header.core().limits.messages,
            None,
            |run| run.pop_message(),
            || (),
        ),
        Some(cold) => drain_with_ticks(this, waiting, cold),
    };
    // The notes are settled before places are given back: see the order in `prepaid`.
    let handled = drained.total - settle::take_noted(header);
    header.count_handled(handled);
    header.core().count_in_turn(|tally| &tally.handled, u64::from(handled));
    // The usual end of a turn, as a short step that is inlined. Everything else is out of line in
    // `finish_turn`: one transition for both was too long for the compiler to inline. `end_idle`
    // may also fail by chance, and then `finish_turn` decides anew.
    if drained.outcome.is_ok() && header.state.end_idle(drained.total - drained.given) {
        return After::Gone;
    }
    // SAFETY: this turn still holds the runnable, since `end_idle` changed nothing.
    unsafe { finish_turn(this, waiting, drained) }
}

/// Runs the turn of a cell that is no running actor. Out of line, or its registers and its stack
/// would be those of every turn.
///
/// # Safety
/// The caller gives up the runnable. If the result is `Gone` the caller does not touch the cell any
/// more.
#[cold]
#[inline(never)]
unsafe fn other_turn(this: NonNull<Header>) -> After {
    // SAFETY: the caller holds the runnable, and each function below takes it over.
    unsafe {
        match this.as_ref().phase.get() {
            Phase::Vacant => restart::resume_vacant(this),
            Phase::Queue => shared::run_queue_turn(this),
            _ => end::run_ending_turn(this),
        }
    }
}

/// Ends a turn with more to do, or after a panic.
///
/// # Safety
/// The caller gives up the runnable. If the result is `Gone` the caller does not touch the cell any
/// more.
#[inline(never)]
unsafe fn finish_turn(this: NonNull<Header>, waiting: u32, drained: TurnOutcome) -> After {
    // SAFETY: the runnable keeps the cell alive until a transition gives it up.
    let header = unsafe { this.as_ref() };
    let TurnOutcome { total, given, outcome } = drained;
    let mut owed = total - given;
    if let Err(text) = outcome {
        let panic = CaughtPanic::of_turn(text);
        // SAFETY: this turn gives the runnable up with the result.
        if let Some(after) = unsafe { restart::on_state_ended(this, Some(panic), &mut owed) } {
            return after;
        }
    }
    let mut served = false;
    loop {
        // Before the step that looks at the flags, so no stop is lost: see
        // `Header::stop_is_hinted`.
        header.clear_stop_hint();
        match header.state.end_turn(owed, served) {
            EndTurn::Idle => return After::Gone,
            // Places were reserved when the turn began, and nothing could be taken: a sender has
            // not linked its message yet. The turn ends at this gap, and the worker lets other
            // threads run. The mark of an outside sender is lost here, at the cost of a round of
            // the local queue for that sender.
            EndTurn::More { .. } if total == 0 && waiting > 0 => return After::RequeueGap,
            EndTurn::More { from_outside: true } => return After::RequeueOutside,
            EndTurn::More { from_outside: false } => return After::Requeue,
            EndTurn::ServeRoom => room::serve_line(this),
            EndTurn::CheckQueue => {
                shared::check_queue(this);
                if header.state.load_snapshot().has_waiters() {
                    room::serve_line(this);
                }
            }
            EndTurn::Retire => {
                // SAFETY: this turn gives the runnable up with the result.
                if let Some(after) = unsafe { restart::on_state_ended(this, None, &mut 0) } {
                    return after;
                }
                // The actor is closed or killed now, or given up by the supervisor. The next step
                // sees that.
            }
            EndTurn::Ending => break,
            EndTurn::Unreferenced => {
                header.reason.set(Reason::Unreferenced);
                break;
            }
        }
        // The first step has given the owed places back.
        owed = 0;
        served = true;
    }
    end::begin_ending(header);
    // SAFETY: both endings leave the runnable with this turn, and `begin_ending` was called.
    unsafe { end::run_ending_turn(this) }
}

/// A turn's work on the messages.
struct TurnOutcome {
    /// Messages that were handled, or found to be too late.
    total: u32,
    /// Of those, the number with places given back already.
    given: u32,
    outcome: Result<(), PanicText>,
}

/// Drains the mailbox of an actor that has a cold part, and perhaps timers. Apart from
/// `drain_mailbox`'s other caller, so that actors without a cold part do not look for ticks before
/// each message. Ticks that wait were counted when the turn began, so the cold part was there by
/// then.
#[inline(never)]
fn drain_with_ticks(this: NonNull<Header>, waiting: u32, cold: &Cold) -> TurnOutcome {
    // SAFETY: this turn holds the runnable and so keeps the cell.
    let limit = unsafe { this.as_ref() }.limits().messages;
    let turn = cold.supervised.as_deref().map(Supervised::enter_turn);
    let drained = match &cold.stopwatch {
        None => {
            // SAFETY: this turn holds the runnable and so is the receiver of both inboxes.
            let next = |run: &TurnProgress<'_>| unsafe {
                cold.ticks.pop_or(this.cast(), Popped::Node, || run.pop_message())
            };
            drain_mailbox(this, waiting, limit, None, next, || ())
        }
        Some(stopwatch) => drain_timed(this, waiting, limit, cold, stopwatch),
    };
    if let Some(turn) = turn {
        turn.leave_turn();
    }
    drained
}

/// Drains the mailbox of a timed actor, which may have timers too.
#[inline(never)]
fn drain_timed(
    this: NonNull<Header>,
    waiting: u32,
    limit: u32,
    cold: &Cold,
    stopwatch: &Stopwatch,
) -> TurnOutcome {
    // SAFETY: this turn holds the runnable and so keeps the cell.
    let header = unsafe { this.as_ref() };
    let lap = TurnTimer::begin_turn(header, stopwatch);
    // SAFETY: this turn holds the runnable and so is the receiver. All nodes are envelopes of this
    // mailbox.
    let next = |run: &TurnProgress<'_>| unsafe {
        // Messages in slots were sent before the actor was timed, and have no instant. Such
        // messages are moved into envelopes, so the loop has a single kind.
        let node = cold
            .ticks
            .pop_or(this.cast(), Popped::Node, || run.pop_message())?
            .into_node(this.cast());
        lap.begin_message(
            Envelope::sent_at(Envelope::from_node(node)),
            run.rest.get(),
            cold.ticks.inbox().load_taken(),
        );
        Some(Popped::Node(node))
    };
    let drained =
        drain_mailbox(this, waiting, limit, Some((&lap, cold)), next, || lap.end_message());
    lap.end_turn();
    drained
}

/// Handles the messages that `next` returns, within the budget. Calls `done` after each message
/// that did not panic. For the holder of the runnable.
#[inline(always)]
fn drain_mailbox(
    this: NonNull<Header>,
    waiting: u32,
    limit: u32,
    timed: Option<TimedTurn<'_>>,
    next: impl Fn(&TurnProgress<'_>) -> Option<Popped>,
    done: impl Fn(),
) -> TurnOutcome {
    // SAFETY: the caller's runnable keeps the cell.
    let header = unsafe { this.as_ref() };
    // The head of the list of taken messages lies on the turn's stack, so a pop touches no line
    // that senders write.
    // SAFETY: the caller holds the runnable and so is the receiver.
    let rest = Cell::new(unsafe { header.inbox.load_taken() });
    let run = TurnProgress { header, total: Cell::new(0), given: Cell::new(0), rest };
    let outcome =
        user::run_turn_guarded(|| run.handle_messages(this, waiting, limit, timed, next, done));
    // SAFETY: the caller is still the receiver, and `rest` is what `load_taken` returned, less what
    // was popped.
    unsafe { header.inbox.store_taken(run.rest.get()) };
    TurnOutcome { total: run.total.get(), given: run.given.get(), outcome }
}

/// One turn's counts. The counts lie outside the guarded call and so survive a panic.
struct TurnProgress<'a> {
    header: &'a Header,
    /// Messages handled in this turn.
    total: Cell<u32>,
    /// Of those, the number with places given back already.
    given: Cell<u32>,
    /// Messages that were taken off the inbox and not handled yet.
    rest: Cell<*mut Node>,
}

impl TurnProgress<'_> {
    /// Pops the next message.
    #[inline(always)]
    fn pop_message(&self) -> Option<Popped> {
        // SAFETY: only `drain_mailbox` makes a `TurnProgress`, for the holder of the runnable: the
        // receiver.
        unsafe { self.header.inbox.pop_from(&self.rest) }
    }

    #[inline(always)]
    fn handle_messages(
        &self,
        this: NonNull<Header>,
        waiting: u32,
        limit: u32,
        timed: Option<TimedTurn<'_>>,
        next: impl Fn(&Self) -> Option<Popped>,
        done: impl Fn(),
    ) {
        let header = self.header;
        // Before the first message and inside the same guarded call, so a message that comes before
        // the first turn shares that turn.
        if header.phase.get() == Phase::New && !self.run_started(this) {
            return;
        }
        let most = waiting.min(limit);
        // A local copy of the count, which stays in a register.
        let mut total = 0;
        let mut watch = TurnClock { started: None, step: CLOCK_EVERY };
        if Worker::long_messages() {
            // On a worker of long messages the time of the first message counts too. Otherwise the
            // first reading comes after `CLOCK_EVERY` messages, and a short turn reads no clock.
            watch = TurnClock { started: Some(time::now()), step: 1 };
        }
        loop {
            let next_stop = most.min(total + watch.step);
            while total < next_stop {
                let Some(popped) = next(self) else { return };
                // Counted before the handler runs: after a panic the message counts as handled.
                total += 1;
                self.total.set(total);
                // SAFETY: the message was popped from the actor's inbox, inside the actor's turn,
                // and no other pointer to it exists.
                unsafe {
                    // Handlers are called at two places on purpose. One place that is told where
                    // the message lies took more instructions for each message.
                    match popped {
                        Popped::Node(node) => {
                            let envelope = Envelope::from_node(node);
                            match Envelope::batch_table(envelope) {
                                None => Envelope::handle_message(envelope, this),
                                Some(batched) => {
                                    // The turn's counts go in and come back by value, panics
                                    // included. A reference to them would keep them out of
                                    // registers in turns without batches too.
                                    let rest = self.rest.get();
                                    let after = batch::handle_batch(
                                        envelope, batched, this, total, most, rest, timed,
                                    );
                                    self.rest.set(after.rest);
                                    self.total.set(after.total);
                                    total = after.total;
                                    if let Err(payload) = after.outcome {
                                        // The batch caught the panic to bring the counts back. The
                                        // panic goes on as that of any other message.
                                        user::resume_panic(payload);
                                    }
                                }
                            }
                        }
                        Popped::Slot(kind, at) => EnvelopeVtable::handle_in_slot(kind, at, this),
                    }
                }
                done();
                // The hint, not the word: senders on other cores write the word's cache line.
                if header.stop_is_hinted() {
                    return;
                }
            }
            // The usual turn ends here, without a reading of the clock.
            if total == most && watch.started.is_none() {
                return;
            }
            if total - self.given.get() >= (header.capacity / GIVE_BACK_PART).max(GIVE_BACK_EVERY) {
                self.give_room_back(this);
            }
            // The clock is read after the last message too: the turn may have been a single long
            // message, or the worker's messages may have become short again.
            let goes_on = watch.has_time_left(self, total);
            if total == most || !goes_on {
                return;
            }
        }
    }

    /// Runs `started`, in the first turn of a state. Returns `false` if no message may be handled.
    #[cold]
    fn run_started(&self, this: NonNull<Header>) -> bool {
        let header = self.header;
        // The word is read instead of the hint, which may be left over from a stop of the last
        // state.
        if header.state.load_snapshot().ends_state() {
            return false;
        }
        // SAFETY: in the actor's turn, with a new state on which `started` has not run.
        unsafe { (header.vtable().started)(this) };
        header.phase.set(Phase::Running);
        // `started` may have stopped the actor.
        !header.state.load_snapshot().ends_state()
    }

    /// Gives room back in the middle of a turn, and serves senders that wait for it.
    #[cold]
    fn give_room_back(&self, this: NonNull<Header>) {
        let total = self.total.get();
        // Prepaid messages leave the count before they leave `LEN`: see the order in `prepaid`.
        settle::settle_here(self.header);
        let now = self.header.state.give_places_back(total - self.given.replace(total));
        if now.has_room_wait() && !now.is_closed() {
            room::serve_line(this);
        }
    }
}

/// A turn's view of the clock.
struct TurnClock {
    started: Option<Instant>,
    /// Number of messages until the next reading.
    step: u32,
}

impl TurnClock {
    /// Reads the clock, and returns `true` if the turn has time left.
    #[cold]
    fn has_time_left(&mut self, run: &TurnProgress<'_>, total: u32) -> bool {
        // A reply that was dropped by a panic, which the handler then caught, is answered here at
        // the latest.
        user::answer_caught();
        let now = time::now();
        Worker::saw_clock_here(now);
        let Some(started) = self.started else {
            // The measured time begins here: a turn of short messages has not read the clock
            // before.
            *self = TurnClock { started: Some(now), step: 1 };
            return true;
        };
        let passed = now - started;
        let each = passed.as_nanos() as u64 / u64::from(total.max(1));
        // The threshold for going back is half of the threshold for going on, so a worker near it
        // does not change its mode with each turn.
        let long = if Worker::long_messages() {
            each > LONG_MESSAGE_NS / 2
        } else {
            each > LONG_MESSAGE_NS
        };
        Worker::set_long_messages(long);
        self.step = if long { 1 } else { CLOCK_EVERY };
        passed < run.header.limits().time
    }
}

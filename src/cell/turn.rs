//! One turn: drains a mailbox within its budget, and decides what comes next.
//!
//! A turn takes no more messages than waited when it began, so an actor that tells itself something cannot keep its
//! worker, and what a flood brings in is handled while it is still in the cache. Within that it ends at the budget of
//! messages, or of time: the clock is read rarely as long as turns are short, and after every message on a worker whose
//! messages have lately been long.
//!
//! A panic in a message fails the actor: the turn goes on to the actor's end.

use super::end;
use super::envelope::Envelope;
use super::event::{Event, PanicPlace};
use super::header::{Header, Phase, Reason};
use super::room;
use super::ticks::{self, Ticks};
use crate::error::AskError;
use crate::mailbox::inbox::Node;
use crate::mailbox::state::EndTurn;
use crate::panics::{self, PanicText};
use crate::sched::local::Local;
use crate::sched::task::{After, TaskHeader};
use crate::sync::Ordering::Relaxed;
use crate::time::{self, Instant};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

/// Room is given back after this many messages of a long turn.
const GIVE_BACK_EVERY: u32 = 32;
/// Short messages handled between two readings of the clock.
const CLOCK_EVERY: u32 = 16;
/// A message longer than this makes the worker read the clock after each one.
const LONG_MESSAGE_NS: u64 = 2_000;

thread_local! {
    static SCOPE: Scope = const { Scope { depth: Cell::new(0), cause: RefCell::new(None), orphans: RefCell::new(Vec::new()) } };
}

/// What a reply that is dropped unanswered wants to know about where it is dropped.
struct Scope {
    depth: Cell<u32>,
    /// Set while an actor's leftovers are dropped.
    cause: RefCell<Option<AskError>>,
    /// Replies dropped by a panic that is still unwinding: answered when its text is known.
    orphans: RefCell<Vec<Orphan>>,
}

/// A reply that waits for the reason of its being dropped.
pub(crate) type Orphan = Box<dyn FnOnce(AskError)>;

/// The error that a reply dropped here and now means, or `None` if it was given to the turn to be answered later.
pub(crate) fn cause_of_drop(later: impl FnOnce() -> Orphan) -> Option<AskError> {
    let known = SCOPE.try_with(|scope| {
        if let Some(cause) = scope.cause.borrow().as_ref() {
            Some(cause.clone())
        } else if scope.depth.get() > 0 && std::thread::panicking() {
            scope.orphans.borrow_mut().push(later());
            None
        } else {
            Some(AskError::NoReply)
        }
    });
    known.unwrap_or(Some(AskError::NoReply))
}

/// Runs user code; replies that its panic drops learn the panic's text.
pub(crate) fn guarded(f: impl FnOnce()) -> Result<(), PanicText> {
    SCOPE.with(|scope| scope.depth.set(scope.depth.get() + 1));
    let result = panics::guard(f);
    let orphaned = SCOPE.with(|scope| {
        scope.depth.set(scope.depth.get() - 1);
        !scope.orphans.borrow().is_empty()
    });
    if orphaned {
        answer_orphans(result.as_ref().err());
    }
    result
}

/// `None`: the code caught its panic itself.
#[cold]
fn answer_orphans(text: Option<&PanicText>) {
    for orphan in SCOPE.with(|scope| scope.orphans.take()) {
        panics::contain(|| orphan(text.cloned().map_or(AskError::NoReply, AskError::Panicked)));
    }
}

/// Runs user code; replies that it drops unanswered are told `cause`.
pub(crate) fn guarded_for(cause: &AskError, f: impl FnOnce()) -> Result<(), PanicText> {
    let before = SCOPE.with(|scope| scope.cause.replace(Some(cause.clone())));
    let result = panics::guard(f);
    SCOPE.with(|scope| scope.cause.replace(before));
    result
}

/// The scheduler's way in.
///
/// # Safety
/// `task` is the header of a cell whose runnable the caller gives up.
pub(crate) unsafe fn run(task: NonNull<TaskHeader>, local: &Local) -> After {
    let this: NonNull<Header> = task.cast();
    local.set_current(this.as_ptr().cast_const().cast());
    // SAFETY: the caller's.
    let after = unsafe { turn(this, local) };
    local.set_current(std::ptr::null());
    after
}

/// # Safety
/// As for [`run`]. When the result is `Gone` the cell must not be touched.
unsafe fn turn(this: NonNull<Header>, local: &Local) -> After {
    // SAFETY: the runnable keeps the cell alive until a transition gives it up.
    let header = unsafe { this.as_ref() };
    let waiting = header.state.begin_turn().len();
    if !matches!(header.phase.get(), Phase::New | Phase::Running) {
        // SAFETY: the caller's.
        return unsafe { end::proceed(this, local) };
    }
    if waiting > header.most_waiting.load(Relaxed) {
        header.most_waiting.store(waiting, Relaxed);
    }
    let run = Run::new(header, local, waiting);
    let outcome = guarded(|| run.messages(this));
    let total = run.total.get();
    let handled = u64::from(total - ticks::unhandled(header));
    header.handled.add(handled);
    header.core().count(Some(local), |tally| &tally.handled, handled);
    if let Err(text) = outcome {
        fail(header, local, text);
    }
    let mut owed = run.owed.get();
    let mut served = false;
    loop {
        match header.state.end_turn(owed, served) {
            EndTurn::Idle => return After::Gone,
            EndTurn::More if total == 0 && waiting > 0 => return After::RequeueGap,
            EndTurn::More => return After::Requeue,
            EndTurn::ServeRoom => room::serve(this),
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
    unsafe { end::proceed(this, local) }
}

/// A panic ends the actor: nothing more is accepted or handled.
fn fail(header: &Header, local: &Local, text: PanicText) {
    let core = header.core();
    core.count(Some(local), |tally| &tally.panicked, 1);
    header.reason.set(Reason::Panicked);
    *header.cold().panic.lock() = Some(text.clone());
    let scheduled = header.state.close(true);
    debug_assert!(!scheduled, "we hold the runnable");
    let place = if header.phase.get() == Phase::New { PanicPlace::Started } else { PanicPlace::Handler };
    core.emit(|| Event::Panicked { actor: header.id(), type_name: header.type_name(), place, text });
}

/// The counts of one turn; they survive a panic.
struct Run<'a> {
    header: &'a Header,
    local: &'a Local,
    /// Only of an actor that has (or had) timers, or another need of a cold part.
    ticks: Option<&'a Ticks>,
    most: u32,
    /// Handled in this turn.
    total: Cell<u32>,
    /// Of those, the places not given back yet.
    owed: Cell<u32>,
    started: Cell<Option<Instant>>,
}

impl<'a> Run<'a> {
    fn new(header: &'a Header, local: &'a Local, waiting: u32) -> Self {
        let (messages, ticks) = match header.cold_if_any() {
            None => (header.core().limits.messages, None),
            Some(cold) => (header.limits().messages, Some(&cold.ticks)),
        };
        Run {
            header,
            local,
            ticks,
            most: waiting.min(messages),
            total: Cell::new(0),
            owed: Cell::new(0),
            started: Cell::new(local.long_messages().then(time::now)),
        }
    }

    /// The next message: what came in order, or a tick that goes before it.
    ///
    /// # Safety
    /// For the holder of the runnable.
    #[inline]
    unsafe fn next(&self) -> Option<*mut Node> {
        // SAFETY: the caller's.
        unsafe {
            match self.ticks {
                None => self.header.inbox.pop(),
                Some(ticks) => ticks.pop_or(&self.header.inbox),
            }
        }
    }

    fn messages(&self, this: NonNull<Header>) {
        let header = self.header;
        if header.phase.get() == Phase::New {
            if header.state.peek().killed() {
                return;
            }
            // SAFETY: in the actor's turn.
            unsafe { (header.vtable().started)(this) };
            header.phase.set(Phase::Running);
        }
        let mut next_look = if self.started.get().is_some() { 1 } else { CLOCK_EVERY };
        while self.total.get() < self.most && !header.state.peek().killed() {
            // SAFETY: we hold the runnable.
            let Some(node) = (unsafe { self.next() }) else { return };
            self.total.set(self.total.get() + 1);
            self.owed.set(self.owed.get() + 1);
            // SAFETY: popped from this actor's inbox, inside its turn.
            unsafe { Envelope::handle(Envelope::from_node(node), this) };
            if self.owed.get() >= GIVE_BACK_EVERY {
                self.give_back(this);
            }
            if self.total.get() >= next_look && self.total.get() < self.most {
                match self.time_left() {
                    Some(after) => next_look = self.total.get() + after,
                    None => return,
                }
            }
        }
        if self.started.get().is_some() {
            let _ = self.time_left(); // a single long message, or a worker that is over its long ones
        }
    }

    #[cold]
    fn give_back(&self, this: NonNull<Header>) {
        let now = self.header.state.give_back(self.owed.replace(0));
        if now.room_wait() && !now.closed() {
            room::serve(this);
        }
    }

    /// How many messages until the next look at the clock; `None` when the turn's time is up.
    #[cold]
    fn time_left(&self) -> Option<u32> {
        let now = time::now();
        self.local.saw_clock(now);
        let Some(started) = self.started.get() else {
            // The first look is where the measuring begins.
            self.started.set(Some(now));
            return Some(1);
        };
        let passed = now - started;
        let each = passed.as_nanos() as u64 / u64::from(self.total.get().max(1));
        let long =
            if self.local.long_messages() { each > LONG_MESSAGE_NS / 2 } else { each > LONG_MESSAGE_NS };
        self.local.set_long_messages(long);
        (passed < self.header.limits().time).then_some(if long { 1 } else { CLOCK_EVERY })
    }
}

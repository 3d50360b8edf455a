//! A mailbox that several actors take from: a pool's shared queue.
//!
//! The queue is a cell of its own whose actor does not exist. So bound, close, waiting for room, references and accounts are
//! those of any mailbox, and senders notice no difference. Only its turn is another one: it hands each message to an idle
//! *member*, which handles it as if it had been sent there (the members are of one type, for which the envelopes are made).
//!
//! A message is never put behind another of a member: it is given to an idle one, or taken by one at the end of a turn of
//! its, and in both cases goes where ticks go, before what waits in the member's own mailbox. So it waits in the queue as
//! long as all are busy, and for nothing but a worker from then on. A member whose own mailbox is never empty takes one at
//! each turn's end; so neither keeps the other waiting.
//!
//! Both ends decide by one word, the member's own:
//!
//! | the queue's turn | the member's word | so |
//! |---|---|---|
//! | `reserve_idle` | idle | scheduled, with one message: the queue's turn pushes its runnable |
//! | all are scheduled: `want` sets `WANTED` in each | scheduled | its turn cannot end idle without a look at the queue |
//! | | it went idle just before | `want` says so: `reserve_idle` |
//! | (nobody was idle) keeps the runnable: *held* | | whoever looks finds it |
//!
//! A member that looks, under the lock, finds the queue held: it takes one message, and the runnable stays held as long as
//! more wait; or it finds it not held (nothing waits, or the queue's turn is still to come, and will see this member
//! idle, or want it again): it clears `WANTED`.
//!
//! **The right to take** is the lock, and nothing of a user's runs under it. **While it is held** the queue's runnable is in nobody's
//! queue; whoever closes it, or leaves, pushes it. A crew with a held queue is not quiet, since its members are all scheduled.

use super::end;
use super::envelope::Envelope;
use super::header::{Header, Strong};
use super::restart::Kept;
use super::room;
use crate::id::ActorId;
use crate::mailbox::inbox::Node;
use crate::mailbox::state::{EndTurn, Reserve};
use crate::sched::task::After;
use crate::sync::{Mutex, chaos};
use std::ptr::NonNull;

/// What a queue and its members have in common.
#[derive(Debug)]
pub(crate) struct Sharing(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// As long as it has not ended.
    queue: Option<NonNull<Header>>,
    /// The queue's runnable is here.
    held: bool,
    /// As long as they have not ended.
    members: Vec<NonNull<Header>>,
    /// Who is looked at first.
    from: usize,
    /// It gives nothing to anybody, but is emptied into one mailbox at once: see [`Sharing::move_to`].
    hold: Option<Hold>,
}

/// Whom a hold waits for, and whom it is emptied into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hold {
    pub(crate) from: ActorId,
    pub(crate) into: ActorId,
}

/// Which actors have to do something before a message of a queue is handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doers {
    One(ActorId),
    Any(Vec<ActorId>),
    All(Vec<ActorId>),
}

// SAFETY: headers are Sync; those that are listed have not ended, since an ending cell takes itself off under the lock.
unsafe impl Send for Inner {}

impl Sharing {
    pub(crate) fn new() -> Self {
        Sharing::with(None)
    }

    /// Of a queue that keeps what it gets until it is moved.
    pub(crate) fn hold(hold: Hold) -> Self {
        Sharing::with(Some(hold))
    }

    /// Returns which actors have to do something before the message in this envelope is handled; before there is room, if
    /// that is 0.
    pub(super) fn doers(&self, envelope: usize) -> Doers {
        let inner = self.0.lock();
        match inner.hold {
            Some(Hold { from, into }) if inner.held => Doers::All(vec![from, into]),
            Some(Hold { into, .. }) => Doers::One(into),
            None => {
                // SAFETY: listed, so they live.
                let headers = || inner.members.iter().map(|member| unsafe { member.as_ref() });
                let took = |header: &&Header| header.kept().is_some_and(|kept| kept.has_taken(envelope));
                match headers().find(took) {
                    Some(header) if envelope != 0 => Doers::One(header.id()),
                    _ => Doers::Any(headers().map(Header::id).collect()),
                }
            }
        }
    }

    fn with(hold: Option<Hold>) -> Self {
        Sharing(Mutex::new(Inner { queue: None, held: false, members: Vec::new(), from: 0, hold }))
    }

    /// The cell joins, before its first turn: as the queue, or as a member. False: that turn is not to be scheduled, since
    /// the runnable is held here.
    #[must_use]
    pub(super) fn join(&self, cell: NonNull<Header>, queue: bool) -> bool {
        let mut inner = self.0.lock();
        if queue {
            inner.queue = Some(cell);
            inner.held = inner.hold.is_some();
        } else {
            inner.members.push(cell);
            inner.release(); // there may be something for it
        }
        !(queue && inner.hold.is_some())
    }

    /// Moves all that a hold has into a mailbox, behind what is there, and ends the hold. What waits for room in the hold is
    /// refused, and so is what comes later; the caller sees to it that nobody is on the way into it.
    pub(crate) fn move_to(&self, to: &Strong) {
        let target = to.header();
        let mut inner = self.0.lock();
        let Some(queue) = inner.queue.filter(|_| inner.held) else { return }; // killed: what it has is dead
        inner.held = false;
        // SAFETY: it has not ended, and its runnable is ours now, until it is scheduled.
        unsafe {
            let hold = queue.as_ref();
            let mut moved = 0;
            while let Some(node) = hold.inbox.pop(queue.cast()) {
                let Reserve::Accepted { schedule } = target.state.reserve_exempt() else {
                    hold.inbox.put_back(node);
                    break;
                };
                let sent = Envelope::sent(Envelope::from_node(node));
                if target.inbox.push(node)
                    && let (Some(stopwatch), Some(sent)) = (target.stopwatch(), sent)
                {
                    stopwatch.pushed_first(sent);
                }
                moved += 1;
                if schedule {
                    Header::schedule(to.as_ptr());
                }
            }
            let rest = hold.state.give_back(moved);
            let scheduled = hold.state.close(rest.len() > 0);
            debug_assert!(!scheduled, "we hold the runnable");
            Header::schedule(queue);
        }
    }
}

/// What the queue's turn found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// All that was linked has been given away: so many.
    Given(u32),
    /// Nobody is idle; held.
    AllBusy,
    /// Nobody will ever come.
    Nobody,
}

impl Inner {
    /// Pushes the queue's runnable, if it is here.
    fn release(&mut self) {
        if std::mem::take(&mut self.held) {
            let queue = self.queue.expect("a queue that is held has not ended");
            // SAFETY: held, so it is ours to push.
            unsafe { Header::schedule(queue) };
        }
    }

    /// For the holder of the queue's runnable: gives messages to members as long as some are idle.
    fn give(&mut self, queue: &Header) -> Found {
        if self.members.is_empty() {
            return if queue.state.peek().len() > 0 { Found::Nobody } else { Found::Given(0) };
        }
        let mut given = 0;
        let found = loop {
            // SAFETY: under the lock, with the runnable.
            let Some(node) = (unsafe { queue.inbox.pop(NonNull::from(queue).cast()) }) else {
                break Found::Given(given);
            };
            match self.idle_member() {
                // SAFETY: the place is reserved; the transition made its runnable ours to push.
                Some(member) => unsafe {
                    put(member, node);
                    Header::schedule(member);
                    given += 1;
                },
                None => {
                    // SAFETY: as above.
                    unsafe { queue.inbox.put_back(node) };
                    break Found::AllBusy;
                }
            }
        };
        // SAFETY: as above.
        unsafe { watch(queue) };
        if given > 0 && queue.state.give_back(given).in_line() {
            return Found::Given(given); // those who wait first
        }
        self.held = found == Found::AllBusy;
        found
    }

    /// One that is idle, and has a place reserved now. `None`: all have a turn at whose end they will look.
    fn idle_member(&mut self) -> Option<NonNull<Header>> {
        let all = self.members.len();
        debug_assert!(all > 0, "asked for before");
        let at = |i: usize| (self.from + i) % all;
        // SAFETY: listed, so they live.
        let state = |i: usize| unsafe { &self.members[at(i)].as_ref().state };
        let idle = (0..all)
            .find(|&i| state(i).reserve_idle())
            .or_else(|| (0..all).find(|&i| state(i).want() && state(i).reserve_idle()))?;
        let member = self.members[at(idle)];
        self.from = at(idle + 1);
        Some(member)
    }

    /// For a member in its turn: one message of the held queue. False: nothing for it.
    fn take(&mut self, member: NonNull<Header>) -> bool {
        let Some(queue) = self.queue.filter(|_| self.held) else { return false };
        // SAFETY: both live: the member is in its turn, the queue has not ended. The queue's receiving end is ours under the
        // lock, while it is held.
        unsafe {
            let state = &member.as_ref().state;
            let Reserve::Accepted { .. } = state.reserve_exempt() else { return false };
            let Some(node) = queue.as_ref().inbox.pop(queue.cast()) else {
                // Reserved, and not linked yet: the queue's own turn waits for that.
                let _still_scheduled = state.give_back(1);
                self.release();
                return false;
            };
            put(member, node);
            watch(queue.as_ref());
            let rest = queue.as_ref().state.give_back(1);
            if rest.len() == 0 || rest.in_line() || rest.killed() {
                self.release(); // its turn decides
            }
        }
        true
    }
}

/// Where a member finds it before its own.
///
/// # Safety
/// A place is reserved for it, and the only pointer to it is given up.
unsafe fn put(member: NonNull<Header>, node: *mut Node) {
    // SAFETY: the reserved place keeps the member; the rest is the caller's.
    unsafe {
        let cold = member.as_ref().cold();
        if let Some(kept) = &cold.kept {
            kept.takes(node.addr());
        }
        if let Some(stopwatch) = &cold.stopwatch {
            stopwatch.pushing_tick(cold.ticks.inbox(), Envelope::sent(Envelope::from_node(node)));
        }
        cold.ticks.inbox().push(node);
    }
}

/// A timed queue's stopwatch looks at what is first now.
///
/// # Safety
/// With the right to take.
unsafe fn watch(queue: &Header) {
    if let Some(stopwatch) = queue.stopwatch() {
        // SAFETY: the caller's.
        unsafe { stopwatch.first_is(queue.inbox.begin()) };
    }
}

/// The turn of a queue.
///
/// # Safety
/// The caller holds the runnable, which is given up. When the result is `Gone` the cell must not be touched.
pub(super) unsafe fn turn(this: NonNull<Header>) -> After {
    // SAFETY: the runnable keeps the cell until it is held, or a transition gives it up.
    let header = unsafe { this.as_ref() };
    let sharing = &header.kept().expect("set before its first turn").sharing;
    let now = header.state.begin_turn();
    if now.in_line() && !now.closed() {
        room::serve(this);
    }
    let mut given = 0;
    if !now.killed() {
        chaos();
        // Bound before the match, or its lock would be held in there.
        let found = sharing.0.lock().give(header);
        match found {
            Found::AllBusy => return After::Gone,
            Found::Given(messages) => given = messages,
            Found::Nobody => {
                let scheduled = header.state.close(true);
                debug_assert!(!scheduled, "we hold the runnable");
            }
        }
    }
    match header.state.end_turn(0, true) {
        EndTurn::Idle => return After::Gone,
        EndTurn::More { .. } if given == 0 => return After::RequeueGap,
        EndTurn::More { from_outside: true } => return After::RequeueOutside,
        EndTurn::More { from_outside: false } | EndTurn::ServeRoom => return After::Requeue,
        EndTurn::Ending | EndTurn::Unreferenced => {}
        EndTurn::Wanted | EndTurn::Retire => unreachable!("a queue is no member, and has no state"),
    }
    // SAFETY: the caller's; these endings leave the runnable with us.
    unsafe {
        end::begin(header);
        end::proceed(this)
    }
}

/// A member's look at the queue, at the end of its turn: it has one message more then, or is not wanted any more.
pub(super) fn look(this: NonNull<Header>) {
    // SAFETY: the caller holds the runnable, which keeps the cell.
    let header = unsafe { this.as_ref() };
    let Some(kept) = header.kept() else { return };
    chaos();
    let mut inner = kept.sharing.0.lock();
    if !inner.take(this) {
        header.state.unwant();
    }
}

/// The queue was closed: it may have to go on.
pub(super) fn nudge(kept: &Kept) {
    if kept.is_queue() {
        kept.sharing.0.lock().release();
    }
}

/// A cell has ended.
pub(super) fn leave(this: NonNull<Header>, kept: &Kept) {
    let mut inner = kept.sharing.0.lock();
    if kept.is_queue() {
        inner.queue = None;
        debug_assert!(!inner.held, "it ended in its turn");
    } else {
        inner.members.retain(|&member| member != this);
        inner.release(); // if nobody is left, the queue ends
    }
}

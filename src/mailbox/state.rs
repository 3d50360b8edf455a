//! The state word: every decision about one actor is a transition of this one atomic, so no two can contradict.
//!
//! ```text
//!  63            38 37            11 10     0
//! +----------------+----------------+--------+
//! |  STRONG (26)   |    LEN (27)    | flags  |
//! +----------------+----------------+--------+
//! ```
//!
//! `STRONG` counts references that keep the actor alive. `LEN` counts reserved places in the mailbox: a sender first
//! reserves, then links its envelope, so for a moment `LEN` may exceed what can be taken ("the gap"). Flags:
//!
//! | flag | set by | cleared by | means |
//! |---|---|---|---|
//! | `SCHEDULED` | whoever finds it clear and has a reason for a turn | the turn that ends idle | one runnable exists; its holder is the only one who may run a turn |
//! | `CLOSED` | `stop`, collecting, failing, shutdown | never | nothing is accepted any more |
//! | `KILLED` | `stop_now`, failing | never | what waits is not handled |
//! | `DEAD` | the last turn | never | the state is dropped; only memory is left |
//! | `ROOM_WAIT` | who waits for room (under the list's lock) | the server of the list (same lock) | plain sends may not barge |
//! | `NOTICES` | the server of the list, where not all get their notice of room at once | the same (same lock) | plain sends may; no turn ends idle |
//! | `STOP_WAIT` | `wait_stopped` | never | the last turn has someone to tell |
//! | `DETACHED` | `detach` | never | the actor lives without references |
//! | `RETIRE` | `stop` of an actor whose state is replaced | the turn that ends the state, or makes its successor | the state ends after the message in hand; no turn ends idle |
//! | `OUTSIDE` | a thread outside the crew that reserves a place while a runnable exists | the turn's end | the runnable goes where outside work goes, if the local queue is long |
//! | `WANTED` | a pool's queue that finds no idle replica | the replica that finds the queue empty (under the queue's lock) | no turn ends idle without a look at the queue |
//!
//! | from | event | to | who must act |
//! |---|---|---|---|
//! | idle | reserve, close, last reference dropped | scheduled | that thread pushes the runnable |
//! | scheduled | the same | scheduled | nobody: the turn's end looks again |
//! | scheduled | turn ends, `LEN` = 0, referenced | idle | nobody; the cell is no longer ours to touch |
//! | scheduled | turn ends, `LEN` > 0, or somebody is still in line for room | scheduled, `OUTSIDE` cleared | the worker requeues it |
//! | scheduled | turn ends, `LEN` = 0, unreferenced | scheduled + closed | the turn goes on to the actor's end |
//! | scheduled | turn ends, closed and `LEN` = 0, or killed | scheduled | the same |
//! | idle | `retire` | scheduled | that thread pushes the runnable |
//! | scheduled | turn ends, `RETIRE` | scheduled, flag cleared | the turn ends the state (see `cell::restart`) |
//! | scheduled + closed | the end is reached | dead | frees the cell if `STRONG` = 0, else the last reference does |
//!
//! **Why no wake-up is lost**: "empty, so idle" and "a message more" are compare-and-swaps of the same word; one of
//! them comes second and sees the first. **Why nothing is collected too early**: the same holds for "unreferenced,
//! so end" against `upgrade`, a clone made inside the turn, or a message.
//!
//! Ordering: transitions are AcqRel read-modify-writes, so all of them form one release sequence; a turn begins
//! with an Acquire load that reads from it, which makes whatever an earlier turn (its `end_turn`) and any dropped
//! reference (its `release_ref`) did happen before. Messages themselves are published by the inbox.

use crate::sync::{AtomicU64, Ordering::*, chaos, contended};

const SCHEDULED: u64 = 1;
const CLOSED: u64 = 1 << 1;
const KILLED: u64 = 1 << 2;
const DEAD: u64 = 1 << 3;
const ROOM_WAIT: u64 = 1 << 4;
const STOP_WAIT: u64 = 1 << 5;
const DETACHED: u64 = 1 << 6;
const WANTED: u64 = 1 << 7;
const NOTICES: u64 = 1 << 8;
const RETIRE: u64 = 1 << 9;

const OUTSIDE: u64 = 1 << 10;

const LEN_SHIFT: u32 = 11;
const LEN_ONE: u64 = 1 << LEN_SHIFT;
const STRONG_SHIFT: u32 = 38;
const STRONG_ONE: u64 = 1 << STRONG_SHIFT;

/// The most messages that any mailbox holds, and what "unbounded" means: 2^27 - 1.
pub(crate) const MAX_LEN: u32 = (1 << (STRONG_SHIFT - LEN_SHIFT)) - 1;
/// References beyond this, some 67 million, abort the process, as `Arc` does. The rest of the field is left for threads that
/// count at the same time: each of them adds one at most before it aborts.
const MAX_STRONG: u64 = (1 << 26) - (1 << 20);

/// The word. See the page above.
#[derive(Debug)]
pub(crate) struct State(AtomicU64);

/// A reading of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(u64);

impl Snapshot {
    pub(crate) fn len(self) -> u32 {
        (self.0 >> LEN_SHIFT) as u32 & MAX_LEN
    }
    pub(crate) fn closed(self) -> bool {
        self.0 & CLOSED != 0
    }
    pub(crate) fn killed(self) -> bool {
        self.0 & KILLED != 0
    }
    /// Returns `true` if no further message is for the present state: the actor was killed, or its state is to end.
    pub(crate) fn stops(self) -> bool {
        self.0 & (KILLED | RETIRE) != 0
    }
    pub(crate) fn dead(self) -> bool {
        self.0 & DEAD != 0
    }
    pub(crate) fn room_wait(self) -> bool {
        self.0 & ROOM_WAIT != 0
    }
    /// Is anybody on the room list, whether or not plain sends must stand back?
    pub(crate) fn in_line(self) -> bool {
        self.0 & (ROOM_WAIT | NOTICES) != 0
    }
    fn strong(self) -> u64 {
        self.0 >> STRONG_SHIFT
    }
    fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }
}

/// What became of a request for a place.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserve {
    /// The place is the caller's: it links its envelope, then pushes the runnable if `schedule`.
    Accepted {
        schedule: bool,
    },
    Full,
    Closed,
}

/// What the one that let go of a reference must do.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    Nothing,
    /// Push the runnable: the actor's final turn.
    Schedule,
    /// Nothing will ever use the cell again but weak references.
    Free,
}

/// What follows a turn.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndTurn {
    /// The cell is no longer ours to touch.
    Idle,
    /// To the back of a queue. `from_outside`: since the turn before ended, a thread outside the crew has sent a message
    /// to the scheduled actor.
    More { from_outside: bool },
    /// A shared queue has something: look there, serve who waits for room, then ask again.
    Wanted,
    /// Somebody waits for room and may get some: serve who does, then ask again.
    ServeRoom,
    /// The state is to end, and the actor to go on with another. The flag is cleared: this is said once.
    Retire,
    /// Stopped or killed: go on to the end.
    Ending,
    /// Nobody can reach it any more, and it is closed now: go on to the end.
    Unreferenced,
}

/// What a sender that wants to wait for room finds.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomWait {
    /// There is room after all.
    Room,
    /// The flag is set; the turn that gives room back will look at the list.
    Waiting,
    Closed,
}

/// What the last turn must do for others.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) tell_waiters: bool,
    pub(crate) free: bool,
}

impl State {
    /// A new actor: one reference, and a first turn that the creator must push.
    pub(crate) fn new() -> Self {
        State(AtomicU64::new(STRONG_ONE | SCHEDULED))
    }

    /// Relaxed: for readers that only report (`len`, `is_running`).
    pub(crate) fn peek(&self) -> Snapshot {
        Snapshot(self.0.load(Relaxed))
    }

    /// The reading that a turn begins with. Acquire: pairs with every transition, above all the last `end_turn`.
    pub(crate) fn begin_turn(&self) -> Snapshot {
        let snapshot = Snapshot(self.0.load(Acquire));
        debug_assert!(snapshot.has(SCHEDULED) && !snapshot.dead(), "a turn without its flag: {snapshot:?}");
        snapshot
    }

    /// A compare-and-swap loop: `step` gives the next value and the result, or a result without a change.
    #[inline]
    fn transition<R>(&self, step: impl Fn(Snapshot) -> Result<(u64, R), R>) -> R {
        let mut current = self.0.load(Relaxed);
        loop {
            chaos();
            match step(Snapshot(current)) {
                Err(unchanged) => return unchanged,
                Ok((next, result)) => match self.0.compare_exchange_weak(current, next, AcqRel, Relaxed) {
                    Ok(_) => return result,
                    Err(_) => {
                        contended();
                        current = self.0.load(Relaxed);
                    }
                },
            }
        }
    }

    /// A place for an ordinary message. `outside`: its sender is no worker of the crew.
    #[inline]
    pub(crate) fn reserve(&self, capacity: u32, outside: bool) -> Reserve {
        self.transition(|now| {
            if now.closed() {
                Err(Reserve::Closed)
            } else if now.len() >= capacity || now.room_wait() {
                Err(Reserve::Full)
            } else {
                let schedule = !now.has(SCHEDULED);
                // A runnable that the sender pushes itself goes where outside work goes already.
                let mark = if outside && !schedule { OUTSIDE } else { 0 };
                Ok(((now.0 + LEN_ONE) | SCHEDULED | mark, Reserve::Accepted { schedule }))
            }
        })
    }

    /// A place for what its owner prepaid: exempt from capacity, not from order.
    pub(crate) fn reserve_exempt(&self) -> Reserve {
        self.transition(|now| {
            if now.closed() {
                Err(Reserve::Closed)
            } else if now.len() == MAX_LEN {
                Err(Reserve::Full)
            } else {
                Ok(((now.0 + LEN_ONE) | SCHEDULED, Reserve::Accepted { schedule: !now.has(SCHEDULED) }))
            }
        })
    }

    /// A place for a message out of a shared queue, if the actor is idle: then the caller pushes the runnable.
    #[must_use]
    pub(crate) fn reserve_idle(&self) -> bool {
        self.transition(|now| {
            if now.has(SCHEDULED) || now.closed() {
                Err(false)
            } else {
                Ok(((now.0 + LEN_ONE) | SCHEDULED, true))
            }
        })
    }

    /// A shared queue has something for this actor: its turn will look before it ends. True: it is idle, and has no turn that
    /// would look.
    #[must_use]
    pub(crate) fn want(&self) -> bool {
        !Snapshot(self.0.fetch_or(WANTED, AcqRel)).has(SCHEDULED)
    }

    /// It has not, any more.
    pub(crate) fn unwant(&self) {
        self.0.fetch_and(!WANTED, AcqRel);
    }

    /// Asks for the end of the present state. `None`: the actor is closed, and its present state the last. `Some(true)`: push the
    /// runnable.
    ///
    /// The flag and `SCHEDULED` are set in one step, so a turn either sees the flag in its last step or has ended before, and
    /// then this step makes another turn.
    #[must_use]
    pub(crate) fn retire(&self) -> Option<bool> {
        self.transition(|now| {
            if now.closed() { Err(None) } else { Ok((now.0 | RETIRE | SCHEDULED, Some(!now.has(SCHEDULED)))) }
        })
    }

    /// In a turn: whatever stop was asked for until now has found its state.
    pub(crate) fn forget_retire(&self) -> Snapshot {
        // AcqRel: what the turn did before this happens-before any later stop; see `Header::forget_stop`.
        Snapshot(self.0.fetch_and(!RETIRE, AcqRel) & !RETIRE)
    }

    /// Counts places as taken, in a test, so that the mailbox holds all that it can.
    #[cfg(all(test, not(heist_loom)))]
    pub(crate) fn fill(&self) -> u32 {
        let places = MAX_LEN - self.peek().len();
        self.0.fetch_add(u64::from(places) << LEN_SHIFT, AcqRel);
        places
    }

    /// Gives back `handled` places in the middle of a turn.
    pub(crate) fn give_back(&self, handled: u32) -> Snapshot {
        let taken = u64::from(handled) << LEN_SHIFT;
        // Release, as in end_turn: a sender that gets the place must come after the turn's reads of it.
        Snapshot(self.0.fetch_sub(taken, AcqRel) - taken)
    }

    /// Ends a turn that took `handled` messages in the usual way: [`EndTurn::Idle`], where the actor is referenced, its mailbox
    /// empty, and nobody wants anything. False: nothing was changed; ask [`end_turn`](Self::end_turn).
    #[must_use]
    #[inline]
    pub(crate) fn end_idle(&self, handled: u32) -> bool {
        let now = self.0.load(Relaxed);
        chaos();
        let rest = now - (u64::from(handled) << LEN_SHIFT);
        // Where the messages came from no longer matters once they are handled.
        rest & (STRONG_ONE - 1) & !OUTSIDE == SCHEDULED
            && rest >= STRONG_ONE
            // Release: as in `end_turn`; nothing of the others is looked at any more.
            && self.0.compare_exchange_weak(now, rest & !(SCHEDULED | OUTSIDE), Release, Relaxed).is_ok()
    }

    /// Ends a turn that took `handled` messages. `served`: the room list, or the shared queue, was looked at since the last
    /// message.
    pub(crate) fn end_turn(&self, handled: u32, served: bool) -> EndTurn {
        let taken = u64::from(handled) << LEN_SHIFT;
        self.transition(|now| {
            let rest = Snapshot(now.0 - taken);
            let empty = rest.len() == 0;
            Ok(if rest.killed() || (rest.closed() && empty) {
                (rest.0, EndTurn::Ending)
            } else if rest.has(RETIRE) {
                (rest.0 & !RETIRE, EndTurn::Retire)
            } else if rest.has(WANTED) && !rest.closed() && (empty || !served) {
                (rest.0, EndTurn::Wanted)
            } else if rest.in_line() && !rest.closed() && !served {
                (rest.0, EndTurn::ServeRoom)
            } else if !empty || rest.in_line() {
                (rest.0 & !OUTSIDE, EndTurn::More { from_outside: rest.has(OUTSIDE) })
            } else if rest.strong() == 0 && !rest.has(DETACHED) {
                (rest.0 | CLOSED, EndTurn::Unreferenced)
            } else {
                (rest.0 & !(SCHEDULED | OUTSIDE), EndTurn::Idle)
            })
        })
    }

    /// Refuses everything from now on; with `kill`, what waits is not handled either. True: push the runnable.
    #[must_use]
    pub(crate) fn close(&self, kill: bool) -> bool {
        let flags = if kill { CLOSED | KILLED } else { CLOSED };
        self.transition(|now| {
            if now.dead() || now.0 & flags == flags {
                Err(false)
            } else {
                Ok((now.0 | flags | SCHEDULED, !now.has(SCHEDULED)))
            }
        })
    }

    /// The end of the last turn. `None`, and nothing is changed, when somebody waits for the end and the caller is
    /// not `secured`: from this step on the memory may go at any moment, so whoever has to tell the waiters must
    /// have a weak count of its own first.
    pub(crate) fn set_dead(&self, secured: bool) -> Option<Dead> {
        self.transition(|now| {
            debug_assert!(now.has(SCHEDULED) && now.closed() && now.len() == 0, "not at its end: {now:?}");
            if now.has(STOP_WAIT) && !secured {
                return Err(None);
            }
            let dead = Dead { tell_waiters: now.has(STOP_WAIT), free: now.strong() == 0 };
            Ok(((now.0 | DEAD) & !SCHEDULED, Some(dead)))
        })
    }

    /// One more reference, by one who holds one (or is inside the actor's turn).
    #[inline]
    pub(crate) fn add_ref(&self) {
        // Relaxed: whoever clones already has what the first holder published.
        let old = Snapshot(self.0.fetch_add(STRONG_ONE, Relaxed));
        if old.strong() >= MAX_STRONG {
            std::process::abort();
        }
    }

    /// One reference less.
    #[inline]
    pub(crate) fn release_ref(&self) -> Release {
        self.transition(|now| {
            let rest = now.0 - STRONG_ONE;
            Ok(if now.strong() > 1 {
                (rest, Release::Nothing)
            } else if now.dead() {
                (rest, Release::Free)
            } else if now.has(SCHEDULED) || now.has(DETACHED) {
                (rest, Release::Nothing)
            } else {
                (rest | SCHEDULED, Release::Schedule)
            })
        })
    }

    /// A weak reference asks for a strong one; refused once the actor is closed.
    #[must_use]
    pub(crate) fn upgrade(&self) -> bool {
        self.transition(|now| {
            if now.closed() {
                Err(false)
            } else if now.strong() >= MAX_STRONG {
                std::process::abort()
            } else {
                Ok((now.0 + STRONG_ONE, true))
            }
        })
    }

    /// The actor stays until it is stopped.
    pub(crate) fn detach(&self) {
        self.0.fetch_or(DETACHED, AcqRel);
    }

    /// Called under the room list's lock by one who will put itself on the list. With `at_most`: not if at most so many
    /// messages wait. `None` is for those who come behind others: the flag is set already, and stays.
    pub(crate) fn wait_for_room(&self, at_most: Option<u32>) -> RoomWait {
        self.transition(|now| {
            if now.closed() {
                Err(RoomWait::Closed)
            } else if at_most.is_some_and(|at_most| now.len() <= at_most) {
                Err(RoomWait::Room)
            } else {
                Ok((now.0 | ROOM_WAIT, RoomWait::Waiting))
            }
        })
    }

    /// Under the room list's lock, when the list is empty.
    pub(crate) fn clear_room_wait(&self) {
        self.0.fetch_and(!(ROOM_WAIT | NOTICES), AcqRel);
    }

    /// Under the room list's lock, in a turn: some got their notices, others are to come, and plain sends may use the room.
    pub(crate) fn notices_to_come(&self) {
        self.transition(|now| Ok(((now.0 | NOTICES) & !ROOM_WAIT, ())));
    }

    /// Under the stop list's lock: false when the actor is dead already.
    #[must_use]
    pub(crate) fn wait_for_stop(&self) -> bool {
        !Snapshot(self.0.fetch_or(STOP_WAIT, AcqRel)).dead()
    }

    /// What freeing is to a model: an access that must come after every other one.
    ///
    /// # Safety
    /// `this` points to a live value.
    #[cfg(all(test, heist_loom))]
    pub(crate) unsafe fn freed(this: *mut Self) {
        // SAFETY: the caller's; that nobody else uses it is what loom checks.
        unsafe { (*this).0.with_mut(|_| ()) }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests;

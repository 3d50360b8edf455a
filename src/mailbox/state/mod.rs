//! The state word: every decision about one actor is a transition of this atomic, so no two can
//! contradict.
//!
//! ```text
//!  63            38 37            11 10     0
//! +----------------+----------------+--------+
//! |  STRONG (26)   |    LEN (27)    | flags  |
//! +----------------+----------------+--------+
//! ```
//!
//! `STRONG` counts references that keep the actor alive. `LEN` counts reserved places in the
//! mailbox. A sender first reserves, then links its envelope, so for a moment `LEN` may exceed the
//! linked messages ("the gap"). Flags:
//!
//! | flag | set by | cleared by | means |
//! |---|---|---|---|
//! | `SCHEDULED` | (a) | a turn that ends idle | one runnable exists; only its holder runs turns |
//! | `CLOSED` | `stop`, collecting, failing, shutdown | never | no message is accepted any more |
//! | `KILLED` | `stop_now`, failing | never | waiting messages are not handled |
//! | `DEAD` | the last turn | never | the state is dropped; only memory is left |
//! | `ROOM_WAIT` | a waiter for room (b) | the list's server (b) | plain sends may not barge |
//! | `NOTICES` | the list's server (b) (c) | the same (b) | plain sends may; no turn ends idle |
//! | `STOP_WAIT` | `wait_stopped` | never | the last turn has waiters to tell |
//! | `DETACHED` | `detach` | never | the actor lives without references |
//! | `RETIRE` | `stop` of a replaceable state | (d) | the state ends; no turn ends idle |
//! | `OUTSIDE` | (e) | the turn's end | the runnable requeues as outside work |
//! | `CHECK_QUEUE` | a pool's queue (f) | a replica (f) | no turn ends idle without a look there |
//!
//! - (a) The thread that finds the flag clear and has a reason for a turn.
//! - (b) Under the room list's lock.
//! - (c) Where not all waiters get their notice of room at once.
//! - (d) The turn that ends the state, or makes its successor. The state ends after the message in
//!   hand.
//! - (e) A thread outside the crew that reserves a place while a runnable exists, or the turn into
//!   which such a thread's message comes from a list of waiting senders or a pool's queue. The
//!   runnable goes where outside work goes, if the local queue is long.
//! - (f) A queue that finds no idle replica sets it. The replica that finds the queue empty clears
//!   it, under the queue's lock.
//!
//! | from | event | to | next |
//! |---|---|---|---|
//! | idle | reserve, close, last reference dropped | scheduled | that thread pushes the runnable |
//! | scheduled | the same | scheduled | nothing: the turn's end looks again |
//! | scheduled | turn ends, `LEN` = 0, referenced | idle | the cell is off limits to the turn |
//! | scheduled | turn ends, `LEN` > 0 or a line for room | scheduled, no `OUTSIDE` | requeue |
//! | scheduled | turn ends, `LEN` = 0, unreferenced | scheduled + closed | the actor's end |
//! | scheduled | turn ends, closed and `LEN` = 0, or killed | scheduled | the actor's end |
//! | idle | `request_retire` | scheduled | that thread pushes the runnable |
//! | scheduled | turn ends, `RETIRE` | scheduled, flag cleared | the state's end: `cell::restart` |
//! | scheduled + closed | the end is reached | dead | freed now or with the last reference |
//!
//! **Why no wake-up is lost**: "empty, so idle" and "a message more" are compare-and-swaps of the
//! same word. One of them comes second and sees the first. **Why nothing is collected too early**:
//! the same holds for "unreferenced, so end" against `upgrade`, a clone made inside the turn, or a
//! message.
//!
//! Ordering: transitions are AcqRel read-modify-writes, so all of them form one release sequence. A
//! turn begins with an Acquire load that reads from it. Everything done by earlier turns (before
//! their `end_turn`) and by threads that dropped references (before their `release_ref`) happens
//! before the turn. The inbox publishes the messages themselves.
//!
//! Loom models: `models::mailbox`, `models::references`, `models::retire`, `models::room` and
//! `models::shared`. Needed orderings: `cargo xtask weaken state`, and `retire` and `room`
//! for these flags.

mod word;

pub(crate) use word::{MAX_LEN, Snapshot};

use crate::sync::{AtomicU64, Ordering::*, back_off, chaos};
use word::*;

/// The word: see the page above.
#[derive(Debug)]
pub(crate) struct State(AtomicU64);

/// Result of a request for a place.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserve {
    /// The caller has the place, links its envelope, then pushes the runnable if `schedule`.
    Accepted {
        schedule: bool,
    },
    Full,
    Closed,
}

/// The duty of the caller of `release_ref`.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    Nothing,
    /// Push the runnable, for the actor's final turn.
    Schedule,
    /// Free the cell: nothing uses it any more, except for weak references.
    Free,
}

/// The step after a turn.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndTurn {
    /// Nothing: the turn may not touch the cell any more.
    Idle,
    /// Requeue. `from_outside`: a thread outside the crew has sent a message to the scheduled actor
    /// since the previous turn ended.
    More { from_outside: bool },
    /// Look at the shared queue, which has something, serve waiters for room, then ask again.
    CheckQueue,
    /// Serve waiters for room, since there may be some room, then ask again.
    ServeRoom,
    /// End the state; the actor goes on with another. The flag is cleared, so each request is
    /// reported once.
    Retire,
    /// Go on to the end: the actor was stopped or killed.
    Ending,
    /// Go on to the end: the actor is unreachable, and is closed now.
    Unreferenced,
}

/// Result for a sender that wants to wait for room.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomWait {
    /// There is room after all.
    Room,
    /// The flag is set. The turn that gives room back will look at the list.
    Waiting,
    Closed,
}

/// The duties of the last turn.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dead {
    pub(crate) tell_waiters: bool,
    pub(crate) free: bool,
}

impl State {
    /// Makes the word of a new actor: one reference, and a first turn that the creator must push.
    pub(crate) fn new() -> Self {
        State(AtomicU64::new(STRONG_ONE | SCHEDULED))
    }

    /// Reads the word. Relaxed: for readers that only report (`len`, `is_running`).
    pub(crate) fn load_snapshot(&self) -> Snapshot {
        Snapshot(self.0.load(Relaxed))
    }

    /// Reads the word at the beginning of a turn. Acquire: pairs with every transition, above all
    /// the last `end_turn`.
    pub(crate) fn begin_turn(&self) -> Snapshot {
        let snapshot = Snapshot(self.0.load(Acquire));
        debug_assert!(
            snapshot.has(SCHEDULED) && !snapshot.is_dead(),
            "a turn without its flag: {snapshot:?}"
        );
        snapshot
    }

    /// Runs a compare-and-swap loop. `step` returns the next value and the result, or a result
    /// without a change.
    #[inline]
    fn transition<R>(&self, step: impl Fn(Snapshot) -> Result<(u64, R), R>) -> R {
        let mut current = self.0.load(Relaxed);
        loop {
            chaos();
            match step(Snapshot(current)) {
                Err(unchanged) => return unchanged,
                Ok((next, result)) => {
                    match self.0.compare_exchange_weak(current, next, AcqRel, Relaxed) {
                        Ok(_) => return result,
                        // Read again after the pause: by then the word has usually changed once
                        // more.
                        Err(_) => {
                            back_off();
                            current = self.0.load(Relaxed);
                        }
                    }
                }
            }
        }
    }

    /// Reserves a place for an ordinary message. `outside`: its sender is no worker of the crew.
    #[inline]
    pub(crate) fn reserve_place(&self, capacity: u32, outside: bool) -> Reserve {
        self.transition(|now| {
            if now.is_closed() {
                Err(Reserve::Closed)
            } else if now.len() >= capacity || now.has_room_wait() {
                Err(Reserve::Full)
            } else {
                let schedule = !now.has(SCHEDULED);
                // A runnable that the sender pushes itself goes where outside work goes anyway.
                let mark = if outside && !schedule { OUTSIDE } else { 0 };
                Ok(((now.0 + LEN_ONE) | SCHEDULED | mark, Reserve::Accepted { schedule }))
            }
        })
    }

    /// Marks a message from a thread outside that came into the mailbox by way of a list of waiting
    /// senders or of another queue. Called in a turn of this actor.
    pub(crate) fn mark_outside(&self) {
        // Relaxed: only the end of this thread's own turn reads it.
        self.0.fetch_or(OUTSIDE, Relaxed);
    }

    /// Reserves a place that its owner prepaid: exempt from capacity, not from order.
    pub(crate) fn reserve_exempt(&self) -> Reserve {
        self.transition(|now| {
            if now.is_closed() {
                Err(Reserve::Closed)
            } else if now.len() == MAX_LEN {
                Err(Reserve::Full)
            } else {
                Ok((
                    (now.0 + LEN_ONE) | SCHEDULED,
                    Reserve::Accepted { schedule: !now.has(SCHEDULED) },
                ))
            }
        })
    }

    /// Reserves a place for a message out of a shared queue, if the actor is idle. Then the caller
    /// pushes the runnable.
    #[must_use]
    pub(crate) fn reserve_idle(&self) -> bool {
        self.transition(|now| {
            if now.has(SCHEDULED) || now.is_closed() {
                Err(false)
            } else {
                Ok(((now.0 + LEN_ONE) | SCHEDULED, true))
            }
        })
    }

    /// Makes the actor's turn look at its shared queue before it ends. Returns `true` if the actor
    /// is idle, and so has no turn that would look.
    #[must_use]
    pub(crate) fn request_queue_check(&self) -> bool {
        !Snapshot(self.0.fetch_or(CHECK_QUEUE, AcqRel)).has(SCHEDULED)
    }

    /// Clears `CHECK_QUEUE`: the shared queue has nothing for this actor.
    pub(crate) fn clear_queue_check(&self) {
        self.0.fetch_and(!CHECK_QUEUE, AcqRel);
    }

    /// Asks for the end of the present state. Returns `None` if the actor is closed, and so has its
    /// last state, and `Some(true)` if the caller must push the runnable.
    ///
    /// The flag and `SCHEDULED` are set in one step. So a turn either sees the flag in its last
    /// step, or has ended before, and then this step makes another turn.
    #[must_use]
    pub(crate) fn request_retire(&self) -> Option<bool> {
        self.transition(|now| {
            if now.is_closed() {
                Err(None)
            } else {
                Ok((now.0 | RETIRE | SCHEDULED, Some(!now.has(SCHEDULED))))
            }
        })
    }

    /// Clears `RETIRE`, in a turn: every stop requested until now has found its state.
    pub(crate) fn clear_retire(&self) -> Snapshot {
        // AcqRel: everything done by the turn before happens before any later stop; see
        // `Header::forget_stop`.
        Snapshot(self.0.fetch_and(!RETIRE, AcqRel) & !RETIRE)
    }

    /// Counts all free places as taken, in a test, so that the mailbox holds as much as it can.
    #[cfg(all(test, not(heist_loom)))]
    pub(crate) fn reserve_all_places(&self) -> u32 {
        let places = MAX_LEN - self.load_snapshot().len();
        self.0.fetch_add(u64::from(places) << LEN_SHIFT, AcqRel);
        places
    }

    /// Gives back `handled` places in the middle of a turn.
    pub(crate) fn give_places_back(&self, handled: u32) -> Snapshot {
        let taken = u64::from(handled) << LEN_SHIFT;
        // Release, as in `end_turn`: a sender that gets the place comes after the turn's reads of
        // it.
        Snapshot(self.0.fetch_sub(taken, AcqRel) - taken)
    }

    /// Ends a turn that took `handled` messages in the usual way: with [`EndTurn::Idle`], if the
    /// actor is referenced, its mailbox is empty, and no flag asks for more. Otherwise changes
    /// nothing and returns `false`; the caller calls [`end_turn`](Self::end_turn).
    ///
    /// A function of its own, short enough to be inlined, since nearly every turn ends this way.
    #[must_use]
    #[inline]
    pub(crate) fn end_idle(&self, handled: u32) -> bool {
        let now = self.0.load(Relaxed);
        chaos();
        let rest = now - (u64::from(handled) << LEN_SHIFT);
        // The origin of messages does not matter once they are handled.
        rest & (STRONG_ONE - 1) & !OUTSIDE == SCHEDULED
            && rest >= STRONG_ONE
            // Release: as in `end_turn`. No Acquire: an idle end reads nothing of other threads.
            && self.0.compare_exchange_weak(now, rest & !(SCHEDULED | OUTSIDE), Release, Relaxed).is_ok()
    }

    /// Ends a turn that took `handled` messages. `served`: the room list, or the shared queue, was
    /// looked at since the last message.
    pub(crate) fn end_turn(&self, handled: u32, served: bool) -> EndTurn {
        let taken = u64::from(handled) << LEN_SHIFT;
        self.transition(|now| {
            let rest = Snapshot(now.0 - taken);
            let empty = rest.len() == 0;
            // The order of the tests is the order of precedence: a kill ends even a state that is
            // to retire.
            Ok(if rest.is_killed() || (rest.is_closed() && empty) {
                (rest.0, EndTurn::Ending)
            } else if rest.has(RETIRE) {
                (rest.0 & !RETIRE, EndTurn::Retire)
            } else if rest.has(CHECK_QUEUE) && !rest.is_closed() && (empty || !served) {
                (rest.0, EndTurn::CheckQueue)
            } else if rest.has_waiters() && !rest.is_closed() && !served {
                (rest.0, EndTurn::ServeRoom)
            } else if !empty || rest.has_waiters() {
                (rest.0 & !OUTSIDE, EndTurn::More { from_outside: rest.has(OUTSIDE) })
            } else if rest.strong_count() == 0 && !rest.has(DETACHED) {
                (rest.0 | CLOSED, EndTurn::Unreferenced)
            } else {
                (rest.0 & !(SCHEDULED | OUTSIDE), EndTurn::Idle)
            })
        })
    }

    /// Refuses all further messages. With `kill`, waiting messages are not handled either. Returns
    /// `true` if the caller must push the runnable.
    #[must_use]
    pub(crate) fn set_closed(&self, kill: bool) -> bool {
        let flags = if kill { CLOSED | KILLED } else { CLOSED };
        self.transition(|now| {
            if now.is_dead() || now.0 & flags == flags {
                Err(false)
            } else {
                Ok((now.0 | flags | SCHEDULED, !now.has(SCHEDULED)))
            }
        })
    }

    /// Ends the last turn. From this step on the memory may be freed at any moment. A caller that
    /// has waiters to tell must therefore hold a weak count of its own first, and say so by
    /// `secured`. Returns `None`, and changes nothing, if there are waiters and the caller is not
    /// `secured`.
    pub(crate) fn set_dead(&self, secured: bool) -> Option<Dead> {
        self.transition(|now| {
            debug_assert!(
                now.has(SCHEDULED) && now.is_closed() && now.len() == 0,
                "not at its end: {now:?}"
            );
            if now.has(STOP_WAIT) && !secured {
                return Err(None);
            }
            let dead = Dead { tell_waiters: now.has(STOP_WAIT), free: now.strong_count() == 0 };
            Ok(((now.0 | DEAD) & !SCHEDULED, Some(dead)))
        })
    }

    /// Adds a reference. The caller holds one, or is inside the actor's turn.
    #[inline]
    pub(crate) fn add_ref(&self) {
        // Relaxed: a thread that clones a reference already has everything published by the first
        // holder.
        let old = Snapshot(self.0.fetch_add(STRONG_ONE, Relaxed));
        if old.strong_count() >= MAX_STRONG {
            std::process::abort();
        }
    }

    /// Removes a reference.
    #[inline]
    pub(crate) fn release_ref(&self) -> Release {
        self.transition(|now| {
            let rest = now.0 - STRONG_ONE;
            Ok(if now.strong_count() > 1 {
                (rest, Release::Nothing)
            } else if now.is_dead() {
                (rest, Release::Free)
            } else if now.has(SCHEDULED) || now.has(DETACHED) {
                // The turn under way sees at its end that no reference is left; a detached actor
                // needs none.
                (rest, Release::Nothing)
            } else {
                (rest | SCHEDULED, Release::Schedule)
            })
        })
    }

    /// Upgrades a weak reference to a strong one. Returns `false` once the actor is closed.
    #[must_use]
    pub(crate) fn try_upgrade(&self) -> bool {
        self.transition(|now| {
            if now.is_closed() {
                Err(false)
            } else if now.strong_count() >= MAX_STRONG {
                std::process::abort()
            } else {
                Ok((now.0 + STRONG_ONE, true))
            }
        })
    }

    /// Makes the actor live until it is stopped.
    pub(crate) fn set_detached(&self) {
        self.0.fetch_or(DETACHED, AcqRel);
    }

    /// Registers a sender that will put itself on the room list, under the list's lock. With
    /// `at_most`, refuses if at most so many messages wait. `None` is for a sender behind others:
    /// the flag is set already, and stays.
    pub(crate) fn wait_for_room(&self, at_most: Option<u32>) -> RoomWait {
        self.transition(|now| {
            if now.is_closed() {
                Err(RoomWait::Closed)
            } else if at_most.is_some_and(|at_most| now.len() <= at_most) {
                Err(RoomWait::Room)
            } else {
                Ok((now.0 | ROOM_WAIT, RoomWait::Waiting))
            }
        })
    }

    /// Clears the flags of the room list, under its lock, when it is empty.
    pub(crate) fn clear_room_wait(&self) {
        self.0.fetch_and(!(ROOM_WAIT | NOTICES), AcqRel);
    }

    /// Records, in a turn and under the room list's lock, that some senders got their notices and
    /// others are to come. Plain sends may use the room.
    pub(crate) fn set_notices_to_come(&self) {
        self.transition(|now| Ok(((now.0 | NOTICES) & !ROOM_WAIT, ())));
    }

    /// Registers a waiter for the end, under the stop list's lock. Returns `false` if the actor is
    /// dead already.
    #[must_use]
    pub(crate) fn wait_for_stop(&self) -> bool {
        !Snapshot(self.0.fetch_or(STOP_WAIT, AcqRel)).is_dead()
    }

    /// Marks the word as freed for a model: an access that must come after every other one.
    ///
    /// # Safety
    /// `this` points to a live value.
    #[cfg(all(test, heist_loom))]
    pub(crate) unsafe fn mark_freed(this: *mut Self) {
        // SAFETY: `this` points to a live value. loom reports any access that is not ordered before
        // this one.
        unsafe { (*this).0.with_mut(|_| ()) }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests;

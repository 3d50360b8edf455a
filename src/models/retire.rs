//! State word: a stop that ends an actor's state but not the actor.
//!
//! Covers: a stop is never lost, whether it meets an idle actor, a running turn, the end of a turn,
//! or another stop. A later state handles every message sent after a stop has returned. The hint
//! read by turns after each message never hides a stop, and a leftover hint ends at most one turn
//! early.
//!
//! Does not cover: the keeper, delays before the next state, panics. The turn, the hint and the
//! making of the next state are copies of `cell::turn`'s, `cell::header`'s and `cell::restart`'s.
//! Messages are places only, in the order of their reservation.

use super::{explore, spawn};
use crate::mailbox::state::{EndTurn, Reserve, State};
use crate::sync::{AtomicBool, Ordering::*};
use loom::cell::UnsafeCell;
use loom::sync::Arc;

/// Number of messages in a turn.
const BUDGET: u32 = 2;

struct Cell {
    state: State,
    /// Like `Header::stop_is_hinted`.
    hint: AtomicBool,
    /// Whether a stop of the first state has returned.
    returned: AtomicBool,
    inner: UnsafeCell<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Number of messages handled by each state.
    handled: Vec<u32>,
    /// Number of states made after the first.
    made: usize,
    turns: u32,
    ended: bool,
}

impl Cell {
    /// Makes a cell with its first turn over.
    fn new() -> Arc<Self> {
        let inner = Inner { handled: vec![0], ..Inner::default() };
        let cell = Cell {
            state: State::new(),
            hint: AtomicBool::new(false),
            returned: AtomicBool::new(false),
            inner: UnsafeCell::new(inner),
        };
        // A new word is scheduled; the creator's turn ends here.
        assert!(cell.state.end_idle(0));
        Arc::new(cell)
    }

    fn touch<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        // SAFETY: only the runnable's holder gets here while threads run; loom's cell reports a
        // second one.
        self.inner.with_mut(|inner| f(unsafe { &mut *inner }))
    }

    fn tell(&self) -> u32 {
        match self.state.reserve_place(9, false) {
            Reserve::Accepted { schedule } => {
                if schedule {
                    self.turns();
                }
                1
            }
            Reserve::Full | Reserve::Closed => 0,
        }
    }

    /// Reserves `messages` places without running a turn. Returns `true` if the caller must
    /// schedule one.
    fn reserve(&self, messages: u32) -> bool {
        let schedule =
            |_| matches!(self.state.reserve_place(9, false), Reserve::Accepted { schedule: true });
        (0..messages).map(schedule).fold(false, |any, schedule| any | schedule)
    }

    /// Like `restart::retire_state`, and like `Header::close_mailbox` if the state is the last.
    fn stop(&self) {
        match self.state.request_retire() {
            None => {}
            // The hint comes after the word, so a turn that reads the hint and ends finds the stop.
            Some(schedule) => {
                self.hint.store(true, Relaxed);
                if schedule {
                    self.turns();
                }
            }
        }
    }

    fn close(&self, kill: bool) {
        let schedule = self.state.set_closed(kill);
        if kill {
            self.hint.store(true, Relaxed);
        }
        if schedule {
            self.turns();
        }
    }

    fn turns(&self) {
        loop {
            let begun = self.state.begin_turn();
            // A stop that was there before the turn ends the state without a message.
            let waiting = if begun.ends_state() { 0 } else { begun.len().min(BUDGET) };
            let mut total = 0;
            self.touch(|inner| {
                assert!(!inner.ended, "a turn after the end");
                inner.turns += 1;
            });
            while total < waiting {
                self.touch(|inner| *inner.handled.last_mut().expect("there is a state") += 1);
                total += 1;
                // Read before the hint: if the stop had returned, the hint must be there.
                let returned = self.returned.load(Acquire);
                if self.hint.load(Relaxed) {
                    break;
                }
                // Unless the state has been replaced, which clears the hint.
                self.touch(|inner| assert!(!returned || inner.made > 0, "the hint was lost"));
            }
            if self.state.end_idle(total) {
                return;
            }
            // Before the step that looks at the word, so the hint of a later stop survives.
            self.hint.store(false, Relaxed);
            match self.state.end_turn(total, false) {
                EndTurn::Idle => return,
                EndTurn::More { .. } => {}
                EndTurn::Retire => {
                    self.forget_stop();
                    self.touch(|inner| {
                        inner.made += 1;
                        inner.handled.push(0);
                    });
                }
                EndTurn::Ending => {
                    let _leftovers = self.state.give_places_back(self.state.load_snapshot().len());
                    self.touch(|inner| inner.ended = true);
                    let dead = self.state.set_dead(false).expect("nobody waits for the end");
                    assert!(!dead.free, "the reference is held");
                    return;
                }
                other => unreachable!("{other:?}"),
            }
        }
    }

    /// Like `Header::forget_stop`.
    fn forget_stop(&self) {
        self.hint.store(false, Relaxed);
        // The store above may have erased the hint of a kill, so the hint is set again.
        if self.state.clear_retire().is_killed() {
            self.hint.store(true, Relaxed);
        }
    }

    /// Returns how many states were made and what each handled, after all threads have ended.
    fn settle(&self) -> (usize, Vec<u32>) {
        assert_eq!(self.state.load_snapshot().len(), 0, "left in the mailbox");
        assert!(
            self.state.load_snapshot().is_dead() || !self.state.load_snapshot().ends_state(),
            "a stop that nobody acts on"
        );
        self.touch(|inner| (inner.made, inner.handled.clone()))
    }
}

#[test]
fn a_stop_against_the_end_of_a_turn() {
    explore(3, || {
        let cell = Cell::new();
        let teller = spawn(&cell, Cell::tell);
        cell.stop();
        let after = cell.tell();
        let before = teller.join().unwrap();
        assert_eq!((before, after), (1, 1));
        let (made, handled) = cell.settle();
        assert_eq!(made, 1, "the stop was lost");
        assert!(handled[0] <= 1, "what was sent after the stop met the old state");
        assert_eq!(handled.iter().sum::<u32>(), 2);
    });
}

#[test]
fn two_stops_and_a_message_after_each() {
    explore(3, || {
        let cell = Cell::new();
        let other = spawn(&cell, |cell| {
            cell.stop();
            cell.tell()
        });
        cell.stop();
        let mine = cell.tell();
        assert_eq!((mine, other.join().unwrap()), (1, 1));
        let (made, handled) = cell.settle();
        assert!((1..=2).contains(&made), "{made} states for two stops");
        assert_eq!(handled[0], 0, "what was sent after a stop met the first state");
        assert_eq!(handled.iter().sum::<u32>(), 2);
    });
}

/// The message in hand when a stop returns is the state's last one, even where one turn follows
/// another.
#[test]
fn a_stop_ends_the_turn_that_runs() {
    explore(3, || {
        let cell = Cell::new();
        // Five messages are three turns (two, two and one), so the stop may meet the end of one.
        assert!(cell.reserve(5));
        let worker = spawn(&cell, Cell::turns);
        cell.stop();
        cell.returned.store(true, Release);
        worker.join().unwrap();
        let (made, handled) = cell.settle();
        assert_eq!((made, handled.iter().sum::<u32>()), (1, 5));
    });
}

/// A hint set after its stop was acted on ends one turn early, and no more.
#[test]
fn a_hint_that_is_left_over_ends_one_turn() {
    explore(3, || {
        let cell = Cell::new();
        let stopper = spawn(&cell, Cell::stop);
        let told = cell.tell();
        stopper.join().unwrap();
        let before = cell.touch(|inner| inner.turns);
        assert!(cell.reserve(5));
        cell.turns();
        let turns = cell.touch(|inner| inner.turns) - before;
        // Three with a leftover hint too: one, two and two messages.
        assert!(turns <= 3, "{turns} turns for five messages");
        assert_eq!(cell.settle().1.iter().sum::<u32>(), told + 5);
    });
}

/// The actor is closed for good while a state is being replaced. With `kill`, waiting messages are
/// not handled.
#[test]
fn a_close_against_a_stop() {
    for kill in [false, true] {
        explore(3, move || {
            let cell = Cell::new();
            let stopper = spawn(&cell, |cell| {
                cell.stop();
                cell.tell()
            });
            cell.close(kill);
            let told = stopper.join().unwrap();
            let (_, handled) = cell.settle();
            assert!(cell.state.load_snapshot().is_dead(), "it has not ended");
            let handled = handled.iter().sum::<u32>();
            assert!(handled <= told && (kill || handled == told), "{handled} of {told} handled");
        });
    }
}

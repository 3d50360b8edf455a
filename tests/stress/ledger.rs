//! Keeps the test's own record of messages: one row for each message, with its fate as bits, each
//! set at most once.
//!
//! A loss and a duplicate cannot cancel out, because every message has a row of its own. All
//! accesses are `Relaxed`, so that the bookkeeping orders nothing that the executor should have
//! ordered.

use crate::fail;
use heist::stats::Stats;
use std::cell::Cell;
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

const CREATED: u8 = 1;
/// The send returned `Ok`. For an answer: the asker received the answer.
const ACCEPTED: u8 = 1 << 1;
const HANDLED: u8 = 1 << 2;
/// The message came back inside an error.
const REFUSED: u8 = 1 << 3;
const DROPPED: u8 = 1 << 4;
const CALLBACK: u8 = 1 << 5;
const ANSWER: u8 = 1 << 6;
/// The message belongs to a timer. Acceptance happens when the timer is due, and no caller learns
/// about it.
const TIMER: u8 = 1 << 7;

const ROWS: usize = 1 << 18;

impl Fates {
    /// Returns `true` if the executor's counts equal the counts of the rows.
    pub fn agree_with(&self, stats: &Stats) -> bool {
        let dead = stats.dead_letters.total();
        stats.handled == self.handled
            && (self.dead..=self.dead + self.thrown_away).contains(&dead)
            && stats.accepted == self.handled + dead
    }
}

/// The rows of one round.
pub struct Ledger {
    rows: Box<[AtomicU8]>,
    next: AtomicU32,
    /// Counts all progress, for the watchdog.
    pub progress: AtomicU64,
}

/// The fates of all messages, counted row by row.
#[derive(Debug, Default)]
pub struct Fates {
    pub handled: u64,
    pub dead: u64,
    pub refused: u64,
    /// Callbacks still without an answer.
    pub pending: u64,
    pub answers: u64,
    /// Timer messages that were not handled. Only `stats()` tells a cancelled message from a dead
    /// letter.
    pub thrown_away: u64,
}

impl Ledger {
    pub fn new() -> Arc<Self> {
        let rows = (0..ROWS).map(|_| AtomicU8::new(0)).collect();
        Arc::new(Ledger { rows, next: AtomicU32::new(0), progress: AtomicU64::new(0) })
    }

    /// Returns `true` if the round has used up its share of rows and should begin nothing new.
    pub fn spent(&self) -> bool {
        self.next.load(Relaxed) as usize > ROWS / 2
    }

    pub fn used(&self) -> u32 {
        self.next.load(Relaxed)
    }

    fn token(self: &Arc<Self>, kind: u8, bomb: bool) -> Token {
        let id = self.next.fetch_add(1, Relaxed);
        if id as usize >= ROWS {
            fail("the ledger is full: the round's messages breed without bound");
        }
        self.mark(id, CREATED | kind);
        Token { ledger: Arc::clone(self), id, bomb }
    }

    /// Makes the token of a message.
    pub fn message(self: &Arc<Self>, bomb: bool) -> Token {
        self.token(0, bomb)
    }

    /// Makes the token of an `ask_then` callback, which becomes a message when the answer is given.
    pub fn callback(self: &Arc<Self>, bomb: bool) -> Token {
        self.token(CALLBACK, bomb)
    }

    /// Makes the token of a message that a timer will send.
    pub fn timer(self: &Arc<Self>, bomb: bool) -> Token {
        self.token(TIMER, bomb)
    }

    pub fn answer(self: &Arc<Self>, bomb: bool) -> Token {
        self.token(ANSWER, bomb)
    }

    fn mark(&self, id: u32, bits: u8) {
        let old = self.rows[id as usize].fetch_or(bits, Relaxed);
        if old & bits != 0 {
            fail(&format!("message {id}: {} once more (it was {})", words(bits), words(old)));
        }
    }

    /// Records that the send of the message returned `Ok`.
    pub fn accepted(&self, id: u32) {
        self.mark(id, ACCEPTED);
        self.progress.fetch_add(1, Relaxed);
    }

    /// Settles a send that was given up half way. Records the message as accepted unless the caller
    /// got it back.
    pub fn settle(&self, id: u32) {
        if self.rows[id as usize].load(Relaxed) & REFUSED == 0 {
            self.accepted(id);
        }
    }

    /// Checks that every row has reached its end. With `quiet`, callbacks may still wait for their
    /// answers.
    pub fn close(&self, quiet: bool) -> Fates {
        let mut fates = Fates::default();
        for id in 0..self.used() {
            let row = self.rows[id as usize].load(Relaxed);
            let kind = row & (CALLBACK | ANSWER | TIMER);
            let fate = row & !(CALLBACK | ANSWER | TIMER | CREATED);
            match (kind, fate) {
                (ANSWER, f) if f & !ACCEPTED == DROPPED => fates.answers += 1,
                (ANSWER, f) if quiet && f & DROPPED == 0 => fates.answers += 1, // ready inside an ask, not yet taken
                (CALLBACK, ACCEPTED) if quiet => fates.pending += 1,
                (TIMER, DROPPED) => fates.thrown_away += 1,
                (0 | CALLBACK | TIMER, f) if f == ACCEPTED | HANDLED | DROPPED => {
                    fates.handled += 1
                }
                (0 | CALLBACK, f) if f == ACCEPTED | DROPPED => fates.dead += 1,
                (0 | CALLBACK | TIMER, f) if f == REFUSED | DROPPED => fates.refused += 1,
                _ => fail(&format!("message {id} ended as: {}", words(row))),
            }
        }
        fates
    }

    /// Returns the rows that have not reached their end, for the watchdog.
    pub fn open(&self) -> Vec<String> {
        let row = |id: &u32| self.rows[*id as usize].load(Relaxed);
        let open = (0..self.used()).filter(|id| row(id) & DROPPED == 0);
        open.map(|id| format!("{id}: {}", words(row(&id)))).collect()
    }
}

fn words(row: u8) -> String {
    const NAMES: [(u8, &str); 8] = [
        (CREATED, "created"),
        (ACCEPTED, "accepted"),
        (HANDLED, "handled"),
        (REFUSED, "refused"),
        (DROPPED, "dropped"),
        (CALLBACK, "callback"),
        (ANSWER, "answer"),
        (TIMER, "timer"),
    ];
    NAMES
        .iter()
        .filter(|(bit, _)| row & bit != 0)
        .map(|(_, name)| *name)
        .collect::<Vec<_>>()
        .join(" ")
}

/// A payload that records its own drop in the ledger and may panic in the drop.
pub struct Token {
    ledger: Arc<Ledger>,
    pub id: u32,
    bomb: bool,
}

thread_local!(static TAKING_BACK: Cell<bool> = const { Cell::new(false) });

/// Records values dropped inside `call` on this thread as given back instead of sent.
pub fn taking_back<R>(call: impl FnOnce() -> R) -> R {
    TAKING_BACK.set(true);
    let result = call();
    TAKING_BACK.set(false);
    result
}

impl Token {
    pub fn handled(&self) {
        let timer = self.ledger.rows[self.id as usize].load(Relaxed) & TIMER != 0;
        self.ledger.mark(self.id, if timer { ACCEPTED | HANDLED } else { HANDLED });
        self.ledger.progress.fetch_add(1, Relaxed);
    }

    /// Records that the message came back to the caller.
    pub fn refused(mut self) {
        self.bomb = false;
        self.ledger.mark(self.id, REFUSED);
        self.ledger.progress.fetch_add(1, Relaxed);
    }

    /// Records that the answer has reached its asker.
    pub fn got(mut self) {
        self.bomb = false;
        self.ledger.accepted(self.id);
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let back = TAKING_BACK.get();
        self.ledger.mark(self.id, if back { REFUSED | DROPPED } else { DROPPED });
        if self.bomb && !back && !std::thread::panicking() {
            explode(self.id);
        }
    }
}

/// Panics with one of several kinds of payload, some of which panic again when dropped.
pub fn explode(kind: u32) -> ! {
    match kind % 5 {
        0 => panic!("planned"),
        1 => panic_any(String::from("planned, with a payload of its own")),
        2 => panic_any(Grenade::<0>),
        3 => panic_any(Grenade::<1>),
        _ => panic_any(Grenade::<2>),
    }
}

/// A payload that panics `N` times in a row when dropped. Zero-sized, because heist leaks a payload
/// that never stops panicking.
struct Grenade<const N: u8>;

impl<const N: u8> Drop for Grenade<N> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        match N {
            0 => {}
            1 => panic_any(Grenade::<0>),
            _ => panic_any(Grenade::<1>),
        }
    }
}

/// Returns `true` if the payload belongs to a panic of the test itself.
pub fn is_planned(payload: &(dyn std::any::Any + Send)) -> bool {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or(payload.downcast_ref::<String>().map(String::as_str));
    text.is_some_and(|text| text.starts_with("planned"))
        || payload.is::<Grenade<0>>()
        || payload.is::<Grenade<1>>()
        || payload.is::<Grenade<2>>()
}

//! The idle protocol: who searches, who sleeps, who is woken, and why nothing is forgotten.
//!
//! # In prose
//!
//! A worker that runs out of work first *searches* (its own inbox, the injector, its siblings' queues), then parks. At
//! most half of the awake workers search at a time. Whoever makes work visible *notifies*: if nobody searches and
//! somebody is parked, one parked worker is woken, and it wakes up searching. So one message wakes at most one worker,
//! and a flood wakes one after the other: a searcher that finds work stops searching, and if it was the last one and
//! sees more work, it notifies in its turn.
//!
//! Filling a LIFO slot, or pushing a little onto the own queue, notifies nobody, and no search or rescan takes so little away
//! ([`Slot::wants_thieves`](super::queue::Slot::wants_thieves)): the owner is awake and gets to it, usually within a
//! microsecond. If it does not (a long turn), the *sentinel* does: while anybody is awake, one of
//! the parked workers parks with a timeout, and takes what has waited behind a turn for too long. When nobody runs any
//! more the sentinel lingers for a few timeouts (so that bursts in quick succession do not appoint it each time), then
//! parks without one: from then on all threads sleep.
//!
//! # The word
//!
//! One atomic holds the number of parked workers `S`, of searching workers `Q`, whether a sentinel is parked `T`, and
//! an epoch `E` that grows with each unparking. `S`, `T`, `E` and the list of parked workers change together under a
//! mutex; `Q` changes without it. All changes are read-modify-writes, so they are totally ordered.
//!
//! | event | `S` | `Q` | `T` | `E` | |
//! |---|---|---|---|---|---|
//! | starts to search | | +1 | | | if `2Q` < awake workers |
//! | stops searching, found work | | -1 | | | if now `Q` = 0: rescan, then notify |
//! | parks | +1 | -1 if it searched | 1 if none is and others are awake | | then **always** rescans |
//! | rescan finds work, or the sentinel does | -1 | +1 | 0 if it was the sentinel | +1 | unless somebody was quicker |
//! | notified | -1 | +1 | 0 if it was the sentinel | +1 | by the notifier, before it wakes |
//! | its own inbox got work | -1 | | 0 if it was the sentinel | +1 | by the sender |
//! | its thread blocks and leaves the slot | +1 | | 1 if none is and others are awake | | then **always** rescans; nobody is in the bed: see `idle/vacant.rs` |
//! | that thread comes back first | -1 | | another's if it was the sentinel | +1 | unless somebody was quicker |
//! | appointed sentinel | | | 1 | | stays parked, now with a timeout |
//! | the sentinel resigns | | | 0 | | only while `S` = all workers |
//! | the keeper gets up for the alarm | -1 | | 0 if it was the sentinel | +1 | unless somebody was quicker; see [`alarm`](super::alarm) |
//!
//! # Why no wake-up is lost
//!
//! A notifier publishes its work `P`, passes a SeqCst fence, and reads the word. A parker changes the word, passes a
//! SeqCst fence, and rescans. By the fences, either the notifier reads the parker's change or a later one, or the
//! rescan sees `P`.
//!
//! 1. *The notifier reads `S` > 0 and `Q` = 0*: it wakes one (a compare-and-swap checks both again). If that
//!    fails because `Q` > 0 by now, case 2 holds at that later moment; if `S` = 0 by now, case 3.
//! 2. *It reads `Q` > 0*: some worker searches at that point of the word's history. The step after it that brings `Q`
//!    back to 0 is followed by a rescan (both lines of the table), which sees `P` since the notifier read the word
//!    before that step. So `P` is taken, or a worker is woken for it, or another searcher is there, for which the same holds.
//! 3. *It reads `S` = 0*: all workers are awake. Each of them parks, if it ever does, after that point, and rescans:
//!    it sees `P`.
//!
//! The same argument with "`k` is parked" (a flag for each worker, written before the fence) holds for a worker's own
//! inbox. Stopping is one more kind of work: the flag is published, then all are unparked; the rescan reads the flag
//! first.
//!
//! # Why the sentinel is there when it is needed
//!
//! While somebody is parked and somebody is awake, `T` = 1, or an awake thread that runs no user code is on its way to appoint
//! one. This is so after each step:
//!
//! 1. *Somebody parks, or leaves its slot*: it appoints one under the same lock, if others are awake and none watches. So this
//!    covers work that lay there before, behind a turn whose worker saw nobody parked and therefore appointed nobody.
//! 2. *The sentinel gets up* (for work, its inbox, the alarm, what it has caught): if others are parked it appoints one of
//!    them before it runs anything, and before it puts its memory in order (`Local::until_work`, `Local::park`).
//! 3. *The thread of a vacant sentinel comes back*: it appoints another one under the same lock.
//! 4. *The sentinel resigns*: only while `S` = all workers, under the lock. Then nothing lies anywhere. A worker that fills
//!    its LIFO slot later is awake; its own unparking is in the word's history before its read of the word, so it
//!    cannot read the `T` of a time when all slept: it sees that nobody watches, and appoints.
//!
//! A thread that keeps its slot while it blocks is not parked, and gives what waits there to the others.

mod duties;
mod vacant;

pub(crate) use vacant::Watched;

use super::alarm::Alarm;
use super::spares::Spare;
use crate::sync::{AtomicBool, AtomicU64, Mutex, Ordering::*, Padded, Parker, chaos, fence};
use crate::time::{self, Duration};
use std::sync::Arc;

const PARKED_ONE: u64 = 1;
const SEARCHING_ONE: u64 = 1 << 16;
const SENTINEL: u64 = 1 << 32;
const EPOCH_ONE: u64 = 1 << 33;
const FIELD: u64 = 0xffff;

/// The sentinel's first timeout, and the longest it backs off to. Twice the longest bounds how long work waits behind
/// a long turn while somebody is parked.
const WATCH_FIRST: Duration = Duration::from_millis(1);
const WATCH_LONGEST: Duration = Duration::from_millis(4);
/// Timeouts with nobody awake before the sentinel gives up its timeout. A model need not see it wait.
const LINGER: u32 = if cfg!(heist_loom) { 1 } else { 4 };

/// More workers than this are refused by the builder.
pub(crate) const MAX_WORKERS: usize = 1 << 12;

/// A reading of the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crew(u64);

impl Crew {
    fn parked(self) -> u64 {
        self.0 & FIELD
    }
    fn searching(self) -> u64 {
        self.0 >> 16 & FIELD
    }
    fn watched(self) -> bool {
        self.0 & SENTINEL != 0
    }
}

/// Why a parked worker is awake again.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// It counts as searching.
    Searching,
    /// The sentinel saw work that waits behind a long turn; it counts as searching.
    Caught,
    /// There may be something in its own inbox, or the crew is stopping.
    Running,
    /// It was the keeper, and the alarm has gone off.
    Alarm,
}

#[derive(Clone, Copy, Debug)]
enum Token {
    Search,
    Run,
    /// Still parked: what it waits for has changed.
    Look,
}

#[derive(Debug, Default)]
struct List {
    parked: Vec<usize>,
    /// Of those, the ones that nobody lies in, each with the spare that is reserved for it: see [`vacant`].
    vacant: Vec<(usize, Arc<Spare>)>,
    sentinel: Option<usize>,
    /// Waits for the alarm. There is one while anybody sleeps, but when the last one has just got up for it.
    keeper: Option<usize>,
}

/// The protocol's shared part.
#[derive(Debug)]
pub(crate) struct Idle {
    word: Padded<AtomicU64>,
    list: Padded<Mutex<List>>,
    beds: Box<[Padded<Bed>]>,
    stopping: AtomicBool,
    pub(crate) alarm: Padded<Alarm>,
}

#[derive(Debug)]
struct Bed {
    parked: AtomicBool,
    parker: Parker<Token>,
}

impl Idle {
    /// All workers are awake, and none searches.
    pub(crate) fn new(workers: usize) -> Self {
        Idle {
            word: Padded(AtomicU64::new(0)),
            list: Padded(Mutex::new(List::default())),
            beds: (0..workers)
                .map(|_| Padded(Bed { parked: AtomicBool::new(false), parker: Parker::new() }))
                .collect(),
            stopping: AtomicBool::new(false),
            alarm: Padded(Alarm::new()),
        }
    }

    fn all(&self) -> u64 {
        self.beds.len() as u64
    }

    pub(crate) fn stopping(&self) -> bool {
        // Acquire: pairs with the Release half of the store in `stop`.
        self.stopping.load(Acquire)
    }

    /// After work that any worker may take was made visible. Returns `true` if nobody is free for it.
    #[inline]
    pub(crate) fn notify(&self) -> bool {
        fence(SeqCst);
        let now = Crew(self.word.load(Relaxed));
        if now.searching() == 0 && now.parked() > 0 {
            self.wake_one();
            return false;
        }
        now.searching() == 0
    }

    /// Could a notification wake anybody? A hint without a fence, for a worker that is awake itself.
    #[inline]
    pub(crate) fn somebody_to_wake(&self) -> bool {
        let now = Crew(self.word.load(Relaxed));
        now.searching() == 0 && now.parked() > 0
    }

    #[cold]
    fn wake_one(&self) {
        chaos();
        let mut list = self.list.lock();
        // The sentinel only if nobody else is parked, rather not the keeper, and rather one who sleeps than a vacant slot.
        let is = |duty: Option<usize>, worker: usize| duty == Some(worker);
        let without_duty = |&worker: &usize| !is(list.sentinel, worker) && !is(list.keeper, worker);
        let asleep = |worker: &usize| without_duty(worker) && !list.is_vacant(*worker);
        let place = list.parked.iter().rposition(asleep);
        let place = place.or_else(|| list.parked.iter().rposition(without_duty));
        let place = place.or_else(|| list.parked.iter().rposition(|&worker| !is(list.sentinel, worker)));
        let Some(place) = place.or(list.parked.len().checked_sub(1)) else { return };
        let worker = list.parked[place];
        let relieve = if list.sentinel == Some(worker) { SENTINEL } else { 0 };
        let step = |word: u64| {
            (Crew(word).searching() == 0)
                .then(|| (word - PARKED_ONE + SEARCHING_ONE - relieve).wrapping_add(EPOCH_ONE))
        };
        if self.word.fetch_update(SeqCst, Relaxed, step).is_err() {
            return; // somebody searches by now
        }
        list.parked.remove(place);
        list.see_to(worker);
        if relieve != 0 {
            list.sentinel = None;
        }
        self.beds[worker].parked.store(false, Relaxed);
        self.hand_over(&mut list, worker);
        drop(list);
        chaos();
        self.beds[worker].parker.unpark(Token::Search);
    }

    /// After work that only `worker` may take was made visible.
    pub(crate) fn notify_worker(&self, worker: usize) {
        fence(SeqCst);
        if self.beds[worker].parked.load(Relaxed) && self.leave(worker, false) {
            chaos();
            self.beds[worker].parker.unpark(Token::Run);
        }
    }

    /// Wants to search; refused when enough others do.
    #[must_use]
    pub(crate) fn try_search(&self) -> bool {
        let all = self.all();
        let step = |word: u64| {
            let now = Crew(word);
            (2 * now.searching() < all - now.parked()).then_some(word + SEARCHING_ONE)
        };
        self.word.fetch_update(SeqCst, Relaxed, step).is_ok()
    }

    /// Stops searching, with work found. True for the last searcher: it must rescan, and notify if there is more.
    #[must_use]
    pub(crate) fn end_search(&self) -> bool {
        let before = Crew(self.word.fetch_sub(SEARCHING_ONE, SeqCst));
        fence(SeqCst);
        before.searching() == 1
    }

    /// Parks worker `me` until there is a reason not to.
    ///
    /// `has_work` is the rescan; `stuck` the sentinel's look at what waits behind long turns; `all_parked` is called when
    /// this worker was the last to park, and says whether there is a reason to get up again. None of them runs user code.
    pub(crate) fn park(
        &self,
        me: usize,
        searching: bool,
        may_watch: bool,
        has_work: impl Fn() -> bool,
        stuck: impl FnMut() -> bool,
        all_parked: impl FnOnce() -> bool,
    ) -> Woken {
        let (watching, keeping, last) = self.enter(me, searching, may_watch);
        fence(SeqCst);
        chaos();
        if (self.stopping() || has_work() || (last && all_parked())) && self.leave(me, true) {
            // Appointed in between: off the list nobody leaves a token, and this one must not outlive the bed.
            let _ = self.beds[me].parker.take();
            return Woken::Searching;
        } // else there is nothing to do, or somebody was quicker and the token is on its way
        self.sleep(me, watching, keeping, stuck)
    }

    /// In bed, on the list or with a token on the way.
    fn sleep(
        &self,
        me: usize,
        mut watching: bool,
        mut keeping: bool,
        mut stuck: impl FnMut() -> bool,
    ) -> Woken {
        let mut patience = WATCH_FIRST;
        let mut quiet_looks = 0;
        if watching {
            stuck();
        }
        loop {
            let watch = if watching { time::after(patience) } else { None };
            let alarm = if keeping { self.alarm.instant() } else { None };
            let until = [watch, alarm].into_iter().flatten().min();
            chaos();
            match self.beds[me].parker.park(until) {
                Some(Token::Search) => return Woken::Searching,
                Some(Token::Run) => return Woken::Running,
                Some(Token::Look) => {
                    let watched = watching;
                    (watching, keeping) = self.duties(me);
                    if watching && !watched {
                        patience = WATCH_FIRST;
                        quiet_looks = 0;
                        stuck();
                    }
                }
                None if keeping && self.alarm.due(time::now()) => {
                    if self.leave_for_alarm(me) {
                        return Woken::Alarm;
                    }
                    keeping = false; // somebody was quicker
                }
                None if !watching => {} // not quite yet
                None if Crew(self.word.load(SeqCst)).parked() == self.all() => {
                    quiet_looks += 1;
                    patience = (patience * 2).min(WATCH_LONGEST);
                    if quiet_looks >= LINGER && self.resign(me) {
                        watching = false;
                    }
                }
                None => {
                    quiet_looks = 0;
                    patience = (patience * 2).min(WATCH_LONGEST);
                    if stuck() && self.leave(me, true) {
                        return Woken::Caught;
                    }
                }
            }
        }
    }

    /// Onto the list. Says whether it is the sentinel now, or the keeper, and whether everybody is parked.
    fn enter(&self, me: usize, searching: bool, may_watch: bool) -> (bool, bool, bool) {
        let mut list = self.list.lock();
        list.parked.push(me);
        self.beds[me].parked.store(true, Relaxed);
        let last = list.parked.len() as u64 == self.all();
        let watching = may_watch && !last && list.sentinel.is_none();
        let mut step = PARKED_ONE;
        if watching {
            list.sentinel = Some(me);
            step += SENTINEL;
        }
        if searching {
            step = step.wrapping_sub(SEARCHING_ONE);
        }
        self.word.fetch_add(step, SeqCst);
        (watching, *list.keeper.get_or_insert(me) == me, last)
    }

    /// Off the list again, unless somebody took `worker` off it already.
    #[must_use]
    fn leave(&self, worker: usize, searching: bool) -> bool {
        let mut list = self.list.lock();
        let left = self.take_off(&mut list, worker, searching);
        if left {
            self.hand_over(&mut list, worker);
        }
        left
    }

    /// The keeper gets up for the alarm; it will see to a new one itself, once it has fired what is due.
    fn leave_for_alarm(&self, me: usize) -> bool {
        let mut list = self.list.lock();
        let left = self.take_off(&mut list, me, false);
        if left && list.keeper == Some(me) {
            list.keeper = None;
        }
        left
    }

    fn take_off(&self, list: &mut List, worker: usize, searching: bool) -> bool {
        let Some(place) = list.parked.iter().rposition(|&parked| parked == worker) else { return false };
        list.parked.remove(place);
        list.see_to(worker);
        self.beds[worker].parked.store(false, Relaxed);
        let mut step = EPOCH_ONE - PARKED_ONE;
        if list.sentinel == Some(worker) {
            list.sentinel = None;
            step -= SENTINEL;
        }
        if searching {
            step += SEARCHING_ONE;
        }
        self.word.fetch_add(step, SeqCst);
        true
    }

    /// The word if all workers are parked; equal readings mean that none was unparked in between.
    pub(crate) fn all_parked(&self) -> Option<Crew> {
        let now = Crew(self.word.load(SeqCst));
        let parked = now.parked() == self.all() && now.searching() == 0;
        // The sentinel comes and goes without anybody running.
        parked.then_some(Crew(now.0 & !SENTINEL))
    }

    /// Tells everybody to end once they have nothing to do, and wakes all.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, SeqCst);
        fence(SeqCst);
        for (worker, bed) in self.beds.iter().enumerate() {
            if self.leave(worker, false) {
                bed.parker.unpark(Token::Run);
            }
        }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    /// Else the next park would take it for a new one, and go on with timeouts when everybody sleeps.
    #[test]
    fn an_appointment_that_comes_too_late_is_forgotten() {
        let idle = Idle::new(2);
        let sees_work_after_being_appointed = || {
            idle.ensure_watched();
            true
        };
        let woken = idle.park(0, false, false, sees_work_after_being_appointed, || false, || false);
        assert_eq!(woken, Woken::Searching);
        assert!(idle.beds[0].parker.take().is_none(), "a token is left");
    }
}

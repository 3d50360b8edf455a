//! The idle protocol: which workers search, sleep and are woken, and why no work is forgotten.
//!
//! # In prose
//!
//! A worker without work first *searches* (its own inbox, the injector, its siblings' queues), then
//! parks. At most half of the awake workers search at a time. A thread that makes work visible
//! *notifies*: if no worker searches and some worker is parked, a parked worker is woken, and wakes
//! up searching. So a message wakes at most one worker, and a flood wakes worker after worker. A
//! searcher that finds work stops searching. The last searcher to stop notifies in turn if more
//! work is visible.
//!
//! Filling a LIFO slot, or pushing a little onto a worker's own queue, notifies no worker. No
//! search or rescan takes so little away
//! ([`Slot::wants_thieves`](super::queue::Slot::wants_thieves)): the owner is awake and gets to it,
//! usually within a microsecond. If it does not (a long turn), the *sentinel* does. While any
//! worker is awake, one of the parked workers has a timeout, and takes work that has waited too
//! long behind a turn. When no worker runs any more the sentinel lingers for a few timeouts, so
//! that quick bursts do not appoint a new one each time. Then the sentinel parks without a timeout,
//! and from then on all threads sleep.
//!
//! # The word
//!
//! One atomic holds the number of parked workers `S`, of searching workers `Q`, whether a sentinel
//! is parked `T`, and an epoch `E` that grows with each unparking. `S`, `T`, `E` and the list of
//! parked workers change together under a mutex. `Q` changes without it. All changes are
//! read-modify-writes, so they are totally ordered.
//!
//! | event | `S` | `Q` | `T` | `E` | |
//! |---|---|---|---|---|---|
//! | starts to search | | +1 | | | if `2Q` < awake workers |
//! | stops searching, found work | | -1 | | | if now `Q` = 0: rescan, then notify |
//! | parks | +1 | -1 if it searched | (a) | | then **always** rescans |
//! | rescan or sentinel finds work | -1 | +1 | (b) | +1 | unless another was quicker |
//! | notified | -1 | +1 | (b) | +1 | by the notifier, before it wakes |
//! | its own inbox got work | -1 | | (b) | +1 | by the sender |
//! | its thread blocks, leaves the slot | +1 | | (a) | | **always** rescans; see `idle/vacant.rs` |
//! | that thread comes back first | -1 | | (c) | +1 | unless another was quicker |
//! | appointed sentinel | | | 1 | | stays parked, now with a timeout |
//! | the sentinel resigns | | | 0 | | only while `S` = all workers |
//! | the timer waiter gets up for the alarm | -1 | | (b) | +1 | as above; see [`alarm`](super::alarm) |
//!
//! (a) becomes 1 if there is no sentinel and others are awake. (b) becomes 0 if it was the
//! sentinel. (c) another becomes the sentinel if it was.
//!
//! # Why no wake-up is lost
//!
//! A notifier publishes its work `P`, passes a SeqCst fence, and reads the word. A parker changes
//! the word, passes a SeqCst fence, and rescans. By the fences, either the notifier reads the
//! parker's change or a later one, or the rescan sees `P`.
//!
//! 1. *The notifier reads `S` > 0 and `Q` = 0*: it wakes a worker (a compare-and-swap checks both
//!    again). If that fails because `Q` > 0 by now, case 2 holds at that later moment; if `S` = 0
//!    by now, case 3.
//! 2. *It reads `Q` > 0*: some worker searches at that point of the word's history. The step after
//!    it that brings `Q` back to 0 is followed by a rescan (both lines of the table). The rescan
//!    sees `P`, since the notifier read the word before that step. So `P` is taken, or a worker is
//!    woken for it, or another searcher is there, for which the same holds.
//! 3. *It reads `S` = 0*: all workers are awake. Any later parking comes after that point, and the
//!    rescan sees `P`.
//!
//! The same argument with "`k` is parked" (a flag for each worker, written before the fence) holds
//! for a worker's own inbox. Stopping is one more kind of work: the flag is published, then all
//! workers are unparked; the rescan reads the flag first.
//!
//! # Why the sentinel is there when it is needed
//!
//! While one worker is parked and another is awake, `T` = 1, or an awake thread that runs no user
//! code is about to appoint a sentinel. The claim holds after each step:
//!
//! 1. *A worker parks, or leaves its slot*: it appoints a sentinel under the same lock, if others
//!    are awake and none watches. The appointment covers earlier work behind a turn of a worker
//!    that saw no parked worker and therefore appointed none.
//! 2. *The sentinel gets up* (for work, its inbox, the alarm, a catch): it appoints another parked
//!    worker before it runs anything, and before it tidies memory (`Worker::until_work`,
//!    `Worker::park_until_woken`).
//! 3. *The thread of a vacant sentinel comes back*: it appoints another one under the same lock.
//! 4. *The sentinel resigns*: only while `S` = all workers, under the lock. Then no queue holds
//!    anything. A worker that fills its LIFO slot later is awake. The worker's unparking is in the
//!    word's history before its read of the word. So it cannot read the `T` of a time when all
//!    slept, sees that none watches, and appoints.
//!
//! A thread that blocks with its slot is not parked, and gives the waiting work to others.
//!
//! Loom models: `models::idle`, and `models::spares` for vacant slots. Needed orderings:
//! `cargo xtask weaken idle`, and `parker` for the tokens.

mod roles;
pub(crate) mod vacant;

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

/// The sentinel's first and longest timeout. Twice the longest bounds how long work waits behind a
/// long turn while a worker is parked.
const WATCH_FIRST: Duration = Duration::from_millis(1);
const WATCH_LONGEST: Duration = Duration::from_millis(4);
/// Timeouts without an awake worker before the sentinel gives up its timeout. A model need not see
/// it wait.
const LINGER: u32 = if cfg!(heist_loom) { 1 } else { 4 };

/// Maximal number of workers that the builder accepts: a field of the word has room for more.
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

/// The reason why a parked worker is awake again.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// A notification, or work found by the rescan. The worker counts as searching.
    Searching,
    /// The sentinel saw work that waits behind a long turn. The worker counts as searching.
    Caught,
    /// The worker's own inbox may have work, or the crew is stopping.
    Running,
    /// The worker was the timer waiter, and the alarm has gone off.
    Alarm,
}

#[derive(Clone, Copy, Debug)]
enum Token {
    Search,
    Run,
    /// The worker stays parked, but its duties have changed.
    Look,
}

#[derive(Debug, Default)]
struct IdleList {
    parked: Vec<usize>,
    /// Parked slots without a thread, each with the spare reserved for it: see [`vacant`].
    vacant: Vec<(usize, Arc<Spare>)>,
    sentinel: Option<usize>,
    /// The worker that waits for the alarm. Present while any worker sleeps, except when the last
    /// timer waiter has just got up for the alarm.
    timer_waiter: Option<usize>,
}

/// The protocol's shared state.
#[derive(Debug)]
pub(crate) struct Idle {
    word: Padded<AtomicU64>,
    list: Padded<Mutex<IdleList>>,
    park_spots: Box<[Padded<ParkSpot>]>,
    stopping: AtomicBool,
    pub(crate) alarm: Padded<Alarm>,
}

#[derive(Debug)]
struct ParkSpot {
    parked: AtomicBool,
    parker: Parker<Token>,
}

impl Idle {
    /// Makes the state of a crew with all workers awake and none searching.
    pub(crate) fn new(workers: usize) -> Self {
        Idle {
            word: Padded(AtomicU64::new(0)),
            list: Padded(Mutex::new(IdleList::default())),
            park_spots: (0..workers)
                .map(|_| Padded(ParkSpot { parked: AtomicBool::new(false), parker: Parker::new() }))
                .collect(),
            stopping: AtomicBool::new(false),
            alarm: Padded(Alarm::new()),
        }
    }

    fn all_workers(&self) -> u64 {
        self.park_spots.len() as u64
    }

    pub(crate) fn is_stopping(&self) -> bool {
        // Acquire: pairs with the Release half of the store in `stop_workers`.
        self.stopping.load(Acquire)
    }

    /// Wakes a worker after work for any worker was made visible. Returns `true` if no worker is
    /// free for it.
    #[inline]
    pub(crate) fn notify_any(&self) -> bool {
        // Pairs with the fences in `park_worker` and `end_search`: the rescan there sees the work,
        // or the word is read as changed.
        fence(SeqCst);
        let now = Crew(self.word.load(Relaxed));
        if now.searching() == 0 && now.parked() > 0 {
            self.wake_one();
            return false;
        }
        now.searching() == 0
    }

    /// Returns `true` if a notification could wake a worker. A hint without a fence, for an awake
    /// worker.
    #[inline]
    pub(crate) fn somebody_to_wake(&self) -> bool {
        let now = Crew(self.word.load(Relaxed));
        now.searching() == 0 && now.parked() > 0
    }

    #[cold]
    fn wake_one(&self) {
        chaos();
        let mut list = self.list.lock();
        // The sentinel only if no other worker is parked, preferably not the timer waiter, and
        // preferably a sleeper rather than a vacant slot.
        let is = |duty: Option<usize>, worker: usize| duty == Some(worker);
        let without_duty =
            |&worker: &usize| !is(list.sentinel, worker) && !is(list.timer_waiter, worker);
        let asleep = |worker: &usize| without_duty(worker) && !list.is_vacant(*worker);
        let place = list.parked.iter().rposition(asleep);
        let place = place.or_else(|| list.parked.iter().rposition(without_duty));
        let place =
            place.or_else(|| list.parked.iter().rposition(|&worker| !is(list.sentinel, worker)));
        let Some(place) = place.or(list.parked.len().checked_sub(1)) else { return };
        let worker = list.parked[place];
        let relieve = if list.sentinel == Some(worker) { SENTINEL } else { 0 };
        let step = |word: u64| {
            // The epoch is the topmost field, so it may wrap around.
            (Crew(word).searching() == 0)
                .then(|| (word - PARKED_ONE + SEARCHING_ONE - relieve).wrapping_add(EPOCH_ONE))
        };
        if self.word.fetch_update(SeqCst, Relaxed, step).is_err() {
            // Another worker searches by now, and will see the work.
            return;
        }
        list.parked.remove(place);
        list.see_to(worker);
        if relieve != 0 {
            list.sentinel = None;
        }
        self.park_spots[worker].parked.store(false, Relaxed);
        self.hand_over(&mut list, worker);
        drop(list);
        chaos();
        // After the lock: off the list, the worker gets no other token.
        self.park_spots[worker].parker.unpark(Token::Search);
    }

    /// Wakes `worker` after work for this worker only was made visible.
    pub(crate) fn notify_worker(&self, worker: usize) {
        // Pairs with the fence in `park_worker`, for the flag of one worker instead of the word.
        fence(SeqCst);
        if self.park_spots[worker].parked.load(Relaxed) && self.remove_parked(worker, false) {
            chaos();
            self.park_spots[worker].parker.unpark(Token::Run);
        }
    }

    /// Starts to search, unless enough others do. Returns `true` on success.
    #[must_use]
    pub(crate) fn try_search(&self) -> bool {
        let all = self.all_workers();
        let step = |word: u64| {
            let now = Crew(word);
            (2 * now.searching() < all - now.parked()).then_some(word + SEARCHING_ONE)
        };
        self.word.fetch_update(SeqCst, Relaxed, step).is_ok()
    }

    /// Stops searching, with work found. Returns `true` for the last searcher, which must rescan,
    /// and notify if there is more.
    #[must_use]
    pub(crate) fn end_search(&self) -> bool {
        let before = Crew(self.word.fetch_sub(SEARCHING_ONE, SeqCst));
        // Pairs with the fence in `notify_any`: the caller's rescan sees what a notifier left to
        // this search.
        fence(SeqCst);
        before.searching() == 1
    }

    /// Parks worker `me` until there is a reason not to.
    ///
    /// `has_work` is the rescan. `stuck` is the sentinel's look at work behind long turns.
    /// `all_parked` is called by the last worker to park, and returns `true` if there is a reason
    /// to get up again. None of them runs user code.
    pub(crate) fn park_worker(
        &self,
        me: usize,
        searching: bool,
        may_watch: bool,
        has_work: impl Fn() -> bool,
        stuck: impl FnMut() -> bool,
        all_parked: impl FnOnce() -> bool,
    ) -> Woken {
        let (watching, keeping, last) = self.add_parked(me, searching, may_watch);
        fence(SeqCst);
        chaos();
        if (self.is_stopping() || has_work() || (last && all_parked()))
            && self.remove_parked(me, true)
        {
            // An appointment may have come in between. Off the list no thread leaves a token, and
            // this token must not survive until the next park.
            let _ = self.park_spots[me].parker.take_token();
            return Woken::Searching;
        }
        // There is nothing to do, or another thread was quicker, with a token on its way.
        self.sleep_until_woken(me, watching, keeping, stuck)
    }

    /// Sleeps on the list, or with a token on its way.
    fn sleep_until_woken(
        &self,
        me: usize,
        mut watching: bool,
        mut keeping: bool,
        mut stuck: impl FnMut() -> bool,
    ) -> Woken {
        let mut patience = WATCH_FIRST;
        let mut quiet_looks = 0;
        if watching {
            // The first look has nothing to compare with; it only records the queues' pace.
            stuck();
        }
        loop {
            let watch = if watching { time::instant_after(patience) } else { None };
            let alarm = if keeping { self.alarm.next_instant() } else { None };
            let until = [watch, alarm].into_iter().flatten().min();
            chaos();
            match self.park_spots[me].parker.park(until) {
                Some(Token::Search) => return Woken::Searching,
                Some(Token::Run) => return Woken::Running,
                Some(Token::Look) => {
                    let watched = watching;
                    (watching, keeping) = self.duties_of(me);
                    if watching && !watched {
                        patience = WATCH_FIRST;
                        quiet_looks = 0;
                        stuck();
                    }
                }
                None if keeping && self.alarm.may_be_due(time::now()) => {
                    if self.leave_for_alarm(me) {
                        return Woken::Alarm;
                    }
                    // Another thread was quicker, with a token on its way.
                    keeping = false;
                }
                // The wait ended a little early.
                None if !watching => {}
                None if Crew(self.word.load(SeqCst)).parked() == self.all_workers() => {
                    quiet_looks += 1;
                    patience = (patience * 2).min(WATCH_LONGEST);
                    if quiet_looks >= LINGER && self.resign_sentinel(me) {
                        watching = false;
                    }
                }
                None => {
                    quiet_looks = 0;
                    patience = (patience * 2).min(WATCH_LONGEST);
                    if stuck() && self.remove_parked(me, true) {
                        return Woken::Caught;
                    }
                }
            }
        }
    }

    /// Puts the worker onto the list. Returns whether the worker is the sentinel now, whether it is
    /// the timer waiter, and whether all are parked.
    fn add_parked(&self, me: usize, searching: bool, may_watch: bool) -> (bool, bool, bool) {
        let mut list = self.list.lock();
        list.parked.push(me);
        // Before the fence in `park_worker`: see `notify_worker`.
        self.park_spots[me].parked.store(true, Relaxed);
        let last = list.parked.len() as u64 == self.all_workers();
        let watching = may_watch && !last && list.sentinel.is_none();
        let mut step = PARKED_ONE;
        if watching {
            list.sentinel = Some(me);
            step += SENTINEL;
        }
        if searching {
            step = step.wrapping_sub(SEARCHING_ONE);
        }
        // One step for all fields: no reader sees the worker both searching and parked.
        self.word.fetch_add(step, SeqCst);
        (watching, *list.timer_waiter.get_or_insert(me) == me, last)
    }

    /// Takes `worker` off the list, unless another thread has already.
    #[must_use]
    fn remove_parked(&self, worker: usize, searching: bool) -> bool {
        let mut list = self.list.lock();
        let left = self.take_off(&mut list, worker, searching);
        if left {
            self.hand_over(&mut list, worker);
        }
        left
    }

    /// Takes the timer waiter off the list when it gets up for the alarm. The caller appoints a new
    /// timer waiter after firing due timers.
    fn leave_for_alarm(&self, me: usize) -> bool {
        let mut list = self.list.lock();
        let left = self.take_off(&mut list, me, false);
        if left && list.timer_waiter == Some(me) {
            list.timer_waiter = None;
        }
        left
    }

    fn take_off(&self, list: &mut IdleList, worker: usize, searching: bool) -> bool {
        let Some(place) = list.parked.iter().rposition(|&parked| parked == worker) else {
            return false;
        };
        list.parked.remove(place);
        list.see_to(worker);
        self.park_spots[worker].parked.store(false, Relaxed);
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

    /// Returns the word if all workers are parked. Equal readings mean that none was unparked in
    /// between.
    pub(crate) fn all_parked(&self) -> Option<Crew> {
        let now = Crew(self.word.load(SeqCst));
        let parked = now.parked() == self.all_workers() && now.searching() == 0;
        // The sentinel comes and goes without a worker running.
        parked.then_some(Crew(now.0 & !SENTINEL))
    }

    /// Tells all workers to end once they have no work, and wakes them.
    pub(crate) fn stop_workers(&self) {
        self.stopping.store(true, SeqCst);
        // As after any work, although the lock would do: a worker that is not on the list yet
        // enters the list later, and reads the flag.
        fence(SeqCst);
        for (worker, spot) in self.park_spots.iter().enumerate() {
            if self.remove_parked(worker, false) {
                spot.parker.unpark(Token::Run);
            }
        }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    /// A token left behind would look like a new appointment to the next park, which would then use
    /// timeouts while all sleep.
    #[test]
    fn an_appointment_that_comes_too_late_is_forgotten() {
        let idle = Idle::new(2);
        let sees_work_after_being_appointed = || {
            idle.ensure_watched();
            true
        };
        let woken =
            idle.park_worker(0, false, false, sees_work_after_being_appointed, || false, || false);
        assert_eq!(woken, Woken::Searching);
        assert!(idle.park_spots[0].parker.take_token().is_none(), "a token is left");
    }
}

//! The duties of parked workers: to watch (the sentinel), and to wait for the alarm (the timer
//! waiter).

use super::{Crew, Idle, IdleList, SENTINEL, Token};
use crate::sync::{Ordering::*, chaos, fence};

impl Idle {
    /// Makes another sleeper wait for the alarm, if `worker`, which leaves the list, was the
    /// timer waiter.
    pub(super) fn hand_over(&self, list: &mut IdleList, worker: usize) {
        if list.timer_waiter != Some(worker) {
            return;
        }
        fence(SeqCst); // for the look at the alarm: see `vacant`
        let set = self.alarm.is_set();
        // A spare is called to a vacant slot only for an alarm that is set.
        list.timer_waiter =
            list.last_parked().or_else(|| list.parked.last().copied().filter(|_| set));
        if let Some(next) = list.timer_waiter
            && set
        {
            list.see_to(next);
            self.park_spots[next].parker.unpark(Token::Look);
        }
    }

    /// Makes a parked worker wait for the alarm, after the alarm was lowered.
    pub(crate) fn alarm_lowered(&self) {
        fence(SeqCst);
        if Crew(self.word.load(Relaxed)).parked() > 0 {
            self.tell_timer_waiter(true);
        }
    }

    /// Ensures that there is a timer waiter, after due timers were fired. An existing timer waiter
    /// will get up early enough, and look again.
    pub(crate) fn ensure_timer_waiter(&self) {
        fence(SeqCst);
        if self.alarm.is_set() && Crew(self.word.load(Relaxed)).parked() > 0 {
            self.tell_timer_waiter(false);
        }
    }

    #[cold]
    fn tell_timer_waiter(&self, also_an_old_one: bool) {
        chaos();
        let mut list = self.list.lock();
        let Some(&last) = list.parked.last() else { return };
        if also_an_old_one || list.timer_waiter.is_none() {
            let best = list.last_parked().unwrap_or(last);
            let timer_waiter = *list.timer_waiter.get_or_insert(best);
            list.see_to(timer_waiter);
            // Under the lock, as in `appoint_one_of`.
            self.park_spots[timer_waiter].parker.unpark(Token::Look);
        }
    }

    /// Returns whether this worker is the sentinel, and whether it is the timer waiter.
    pub(super) fn duties_of(&self, me: usize) -> (bool, bool) {
        let list = self.list.lock();
        (list.sentinel == Some(me), list.timer_waiter == Some(me))
    }

    /// Gives up the sentinel's timeout, if still no worker is awake. Returns `true` if it did.
    pub(super) fn resign_sentinel(&self, me: usize) -> bool {
        let mut list = self.list.lock();
        let alone = list.parked.len() as u64 == self.all_workers() && list.sentinel == Some(me);
        if alone {
            list.sentinel = None;
            self.word.fetch_sub(SENTINEL, SeqCst);
        }
        alone
    }

    /// Ensures that a sentinel watches, after a runnable was put where only its owner looks.
    #[inline]
    pub(crate) fn ensure_watched(&self) {
        // Relaxed: see case 4 of the proof on `idle`'s page.
        let now = Crew(self.word.load(Relaxed));
        if now.parked() > 0 && !now.watched() {
            self.appoint_sentinel();
        }
    }

    #[cold]
    fn appoint_sentinel(&self) {
        chaos();
        self.appoint_one_of(&mut self.list.lock());
    }

    /// Makes a parked worker the sentinel, if there is none.
    pub(super) fn appoint_one_of(&self, list: &mut IdleList) {
        let (Some(&last), None) = (list.parked.last(), list.sentinel) else { return };
        let Some(best) = list.last_parked() else { return self.watch_at(list, last) };
        // One worker has both duties, so that it is woken once. A timer waiter has a thread: a
        // vacant slot that becomes it gets its spare under the same lock.
        let worker = *list.timer_waiter.get_or_insert(best);
        debug_assert!(!list.is_vacant(worker), "a vacant slot waits for the alarm");
        list.sentinel = Some(worker);
        self.word.fetch_add(SENTINEL, SeqCst);
        // Under the lock: a notifier that takes the worker off the list must leave its token later.
        self.park_spots[worker].parker.unpark(Token::Look);
    }
}

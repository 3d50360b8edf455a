//! Who of those who sleep has a duty: to watch (the sentinel), or to wait for the alarm (the keeper).

use super::{Crew, Idle, List, SENTINEL, Token};
use crate::sync::{Ordering::*, chaos, fence};

impl Idle {
    /// Whoever was the keeper leaves: another sleeper waits for the alarm from now on.
    pub(super) fn hand_over(&self, list: &mut List, worker: usize) {
        if list.keeper != Some(worker) {
            return;
        }
        fence(SeqCst); // for the look at the alarm: see `vacant`
        let set = self.alarm.is_set();
        // Nobody is called to a vacant slot for an alarm that is not set.
        list.keeper = list.sleeper().or_else(|| list.parked.last().copied().filter(|_| set));
        if let Some(next) = list.keeper
            && set
        {
            list.see_to(next);
            self.beds[next].parker.unpark(Token::Look);
        }
    }

    /// After the alarm was lowered: one of those who sleep must wait for it.
    pub(crate) fn alarm_lowered(&self) {
        fence(SeqCst);
        if Crew(self.word.load(Relaxed)).parked() > 0 {
            self.tell_keeper(true);
        }
    }

    /// After what was due has been fired: a keeper there is will get up early enough, and look again.
    pub(crate) fn ensure_kept(&self) {
        fence(SeqCst);
        if self.alarm.is_set() && Crew(self.word.load(Relaxed)).parked() > 0 {
            self.tell_keeper(false);
        }
    }

    #[cold]
    fn tell_keeper(&self, also_an_old_one: bool) {
        chaos();
        let mut list = self.list.lock();
        let Some(&last) = list.parked.last() else { return };
        if also_an_old_one || list.keeper.is_none() {
            let best = list.sleeper().unwrap_or(last);
            let keeper = *list.keeper.get_or_insert(best);
            list.see_to(keeper);
            self.beds[keeper].parker.unpark(Token::Look); // under the lock, as in `appoint`
        }
    }

    /// Is this worker the sentinel, and is it the keeper?
    pub(super) fn duties(&self, me: usize) -> (bool, bool) {
        let list = self.list.lock();
        (list.sentinel == Some(me), list.keeper == Some(me))
    }

    /// The sentinel gives up its timeout, if still nobody is awake.
    pub(super) fn resign(&self, me: usize) -> bool {
        let mut list = self.list.lock();
        let alone = list.parked.len() as u64 == self.all() && list.sentinel == Some(me);
        if alone {
            list.sentinel = None;
            self.word.fetch_sub(SENTINEL, SeqCst);
        }
        alone
    }

    /// After something was put where only its owner looks: is anybody watching?
    #[inline]
    pub(crate) fn ensure_watched(&self) {
        // Relaxed: see the page's last paragraph.
        let now = Crew(self.word.load(Relaxed));
        if now.parked() > 0 && !now.watched() {
            self.appoint();
        }
    }

    #[cold]
    fn appoint(&self) {
        chaos();
        self.appoint_one_of(&mut self.list.lock());
    }

    /// One of those who are parked watches from now on, if nobody does.
    pub(super) fn appoint_one_of(&self, list: &mut List) {
        let (Some(&last), None) = (list.parked.last(), list.sentinel) else { return };
        let Some(best) = list.sleeper() else { return self.watch_at(list, last) };
        // Both duties for one, so that it is woken once.
        let worker = *list.keeper.get_or_insert(best);
        list.see_to(worker);
        list.sentinel = Some(worker);
        self.word.fetch_add(SENTINEL, SeqCst);
        // Under the lock: a notifier that takes this worker off the list must leave its token after this one.
        self.beds[worker].parker.unpark(Token::Look);
    }
}

//! Vacant slots: on the list of parked workers, but without a thread.
//!
//! To other threads a vacant slot is parked: it counts as such, and is woken when there is work.
//! There are two differences. Waking it calls the spare reserved for it
//! ([`spares`](super::super::spares)). A vacant slot does not wait for the alarm: where no worker
//! sleeps, making the slot the timer waiter calls the spare.
//!
//! | event | the line in `vacant` | |
//! |---|---|---|
//! | a thread leaves its slot | in | with the parking; **always** rescans and reads the alarm |
//! | the slot is woken, or waits for the alarm | out | its spare is called |
//! | the slot is the sentinel | stays | its spare [watches](Idle::watch_as_spare), told to if need be |
//! | its spare sees stuck work | out | with the unparking; the spare holds it |
//! | a thread comes back, or a rescan finds work | out | with the unparking; it gets the spare |
//!
//! Several threads may have left one slot, each at a time when it held the slot. So the line says
//! which spare is reserved, and not the returning thread. A thread that finds no line after a
//! rescan that found work wakes the slot, since the line may be out for a duty.
//!
//! No wake-up is lost for the same reason as with sleepers (see the page above), since leaving is
//! parking: publish the change of the word, fence, rescan. For the alarm: a thread that lowers the
//! alarm and sees a parked worker finds a timer waiter, or makes one, calling a spare if need be. A
//! thread that leaves its slot reads the alarm after the fence, and sees to a timer waiter if there
//! is none.
//!
//! Leaving appoints a sentinel while another worker is awake, as parking does. A worker in a long
//! turn may have filled its LIFO slot while none was parked. The worker appointed none then, and
//! does not look again. If no worker sleeps, the reserved spare sleeps with the sentinel's timeout
//! from then on, without the slot. The spare goes on for a few timeouts after the slot was taken
//! back, so repeated blocking wakes no thread.
//!
//! Loom model: `models::spares`. Needed orderings: `cargo xtask weaken spares`.

use super::{Idle, IdleList, LINGER, PARKED_ONE, SENTINEL, WATCH_FIRST, WATCH_LONGEST, Woken};
use crate::sched::spares::{Assignment, Spare};
use crate::sync::{Ordering::*, chaos, fence};
use crate::time;
use std::sync::Arc;

/// The next step of a watching spare.
enum Look {
    /// Watches on: the slot reserved for it is the sentinel.
    On(usize),
    /// Does not look now, but perhaps again soon.
    Off,
    /// Stops watching.
    Over,
}

/// The end of a watch.
#[derive(Debug)]
pub(crate) enum Watched {
    /// The spare was told something else.
    Called(Assignment),
    /// The spare holds this slot, awake, and has [caught](Woken::Caught) stuck work.
    Caught(usize),
    /// The spare is not needed.
    Over,
}

impl IdleList {
    pub(super) fn is_vacant(&self, worker: usize) -> bool {
        self.vacant.iter().any(|&(vacant, _)| vacant == worker)
    }

    fn occupy_slot(&mut self, worker: usize) -> Option<Arc<Spare>> {
        let place = self.vacant.iter().position(|&(vacant, _)| vacant == worker)?;
        Some(self.vacant.swap_remove(place).1)
    }

    /// Calls the spare of a vacant slot, which must have a thread from now on. Does nothing for
    /// other slots.
    pub(super) fn see_to(&mut self, worker: usize) {
        if let Some(spare) = self.occupy_slot(worker) {
            spare.call_to(Assignment::Park(worker));
        }
    }

    /// Returns the worker that parked last, vacant slots aside.
    pub(super) fn last_parked(&self) -> Option<usize> {
        self.parked.iter().rfind(|&&worker| !self.is_vacant(worker)).copied()
    }
}

impl Idle {
    /// Leaves slot `me` to `spare`, parked. With `may_watch` a sentinel is appointed as by a worker
    /// that parks.
    ///
    /// Returns a reserved spare if there is work; then slot `me` is the caller's again. The spare
    /// may differ from the given one: an earlier holder may have taken the slot back and left it
    /// again meanwhile.
    #[must_use]
    pub(crate) fn vacate_slot(
        &self,
        me: usize,
        spare: Arc<Spare>,
        may_watch: bool,
        has_work: impl Fn() -> bool,
    ) -> Option<Arc<Spare>> {
        let mut list = self.list.lock();
        list.parked.push(me);
        list.vacant.push((me, spare));
        self.park_spots[me].parked.store(true, Relaxed);
        self.word.fetch_add(PARKED_ONE, SeqCst);
        if may_watch && (list.parked.len() as u64) < self.all_workers() {
            self.appoint_one_of(&mut list);
        }
        drop(list);
        fence(SeqCst);
        chaos();
        if self.is_stopping() || has_work() {
            if let Some(spare) = self.take_back(me) {
                return Some(spare);
            }
            // Another thread has the slot. If its spare was called for a duty only, it will sleep,
            // and does not look for work first.
            self.notify_worker(me);
        }
        chaos();
        self.ensure_timer_waiter();
        None
    }

    /// Takes back slot `me`, awake, for a thread that left it. Returns the spare, which is still
    /// reserved, or `None` if the slot is held.
    #[must_use]
    pub(crate) fn take_back(&self, me: usize) -> Option<Arc<Spare>> {
        let mut list = self.list.lock();
        let spare = list.occupy_slot(me)?;
        let watched = list.sentinel == Some(me);
        let parked = self.take_off(&mut list, me, false);
        debug_assert!(parked, "what is vacant is parked");
        // The caller is awake now, so the other parked workers need a sentinel.
        if watched {
            self.appoint_one_of(&mut list);
        }
        Some(spare)
    }

    /// Makes a vacant slot the sentinel: its spare sleeps with a timeout.
    pub(super) fn watch_at(&self, list: &mut IdleList, worker: usize) {
        list.sentinel = Some(worker);
        self.word.fetch_add(SENTINEL, SeqCst);
        if let Some((_, spare)) = list.vacant.iter().find(|&&(vacant, _)| vacant == worker)
            && !spare.watches.load(Relaxed)
        {
            spare.call_to(Assignment::Watch);
        }
    }

    /// Watches, on the thread of a spare that was told to. Looks for stuck work as long as a vacant
    /// slot reserved for the spare is the sentinel, and for a few timeouts more.
    pub(crate) fn watch_as_spare(
        &self,
        spare: &Arc<Spare>,
        mut stuck: impl FnMut() -> bool,
    ) -> Watched {
        let mut patience = WATCH_FIRST;
        let (mut idle_looks, mut on) = (0, false);
        spare.watches.store(true, Relaxed);
        loop {
            match self.look_on(spare, idle_looks) {
                Look::On(_) if !on => {
                    // The first look only records what the next one is compared with.
                    stuck();
                    (idle_looks, on, patience) = (0, true, WATCH_FIRST);
                }
                Look::On(slot) if stuck() && self.catch_at(slot, spare) => {
                    return Watched::Caught(slot);
                }
                Look::On(_) => {}
                Look::Off => {
                    idle_looks += 1;
                    on = false;
                }
                Look::Over => return Watched::Over,
            }
            chaos();
            match spare.listen_until(time::instant_after(patience)) {
                None | Some(Assignment::Idle | Assignment::Watch) => {}
                Some(call) => {
                    // Under the lock, so that a thread that appoints a vacant slot knows whether
                    // the spare needs a call.
                    let _list = self.list.lock();
                    spare.watches.store(false, Relaxed);
                    return Watched::Called(call);
                }
            }
            patience = (patience * 2).min(WATCH_LONGEST);
        }
    }

    fn look_on(&self, spare: &Arc<Spare>, idle_looks: u32) -> Look {
        let mut list = self.list.lock();
        let mine = |&&(slot, ref reserved): &&(usize, Arc<Spare>)| {
            list.sentinel == Some(slot) && Arc::ptr_eq(reserved, spare)
        };
        let mine = list.vacant.iter().find(mine).map(|&(slot, _)| slot);
        match mine {
            // Another worker is awake.
            Some(slot) if (list.parked.len() as u64) < self.all_workers() => return Look::On(slot),
            _ if idle_looks < LINGER => return Look::Off,
            Some(_) => {
                list.sentinel = None;
                self.word.fetch_sub(SENTINEL, SeqCst);
            }
            None => {}
        }
        spare.watches.store(false, Relaxed);
        Look::Over
    }

    /// Takes the spare's slot for the watching spare, unless another thread has the slot by now.
    fn catch_at(&self, slot: usize, spare: &Arc<Spare>) -> bool {
        let mut list = self.list.lock();
        let line = |(vacant, reserved): &(usize, Arc<Spare>)| {
            *vacant == slot && Arc::ptr_eq(reserved, spare)
        };
        let Some(place) = list.vacant.iter().position(line) else { return false };
        // Taken out directly, so that no spare is called.
        list.vacant.swap_remove(place);
        spare.watches.store(false, Relaxed);
        let parked = self.take_off(&mut list, slot, true);
        debug_assert!(parked, "what is vacant is parked");
        self.hand_over(&mut list, slot);
        true
    }

    /// Sleeps at slot `me`, on the thread of a spare that was called there, until there is a reason
    /// to wake, as in `park`.
    pub(crate) fn park_at_slot(&self, me: usize, stuck: impl FnMut() -> bool) -> Woken {
        let (watching, keeping) = self.duties_of(me);
        self.sleep_until_woken(me, watching, keeping, stuck)
    }
}

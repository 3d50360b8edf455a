//! Vacant slots: on the list of those who sleep, with nobody in the bed.
//!
//! To everybody else a vacant slot is parked: it is counted as such, and is woken when there is work. What is different
//! is that its waking calls the spare that is reserved for it ([`spares`](super::super::spares)), and that it does not wait for the
//! alarm: whoever makes it the keeper all the same, since nobody else sleeps, calls the spare.
//!
//! | event | the line in `vacant` | |
//! |---|---|---|
//! | a thread leaves its slot | in | with the parking; then **always** rescans, and reads the alarm |
//! | the slot is woken, or waits for the alarm | out | its spare is called |
//! | the slot is the sentinel | stays | its spare [watches](Idle::watch) where it is; it is told to if it does not yet |
//! | its spare sees work that is stuck | out | with the unparking; the spare holds the slot |
//! | a thread that left it comes back, or a rescan finds work | out | with the unparking; the spare is that thread's |
//!
//! One slot may have been left by several threads, each at a time when it held it. So what a line says, and not who comes, tells which
//! spare is reserved; and who finds no line after a rescan that found work wakes the slot, since the line may be out for a duty.
//!
//! That no wake-up is lost follows as for those who sleep (see the page above), since leaving is parking: publish the
//! change of the word, fence, rescan. The alarm: whoever lowers it and sees somebody parked finds a keeper, or makes one, calling a spare
//! if need be; whoever leaves its slot reads the alarm after its fence, and sees to a keeper if there is none.
//!
//! Leaving appoints a sentinel while anybody else is awake, as parking does: a worker that is in a long turn may have filled its LIFO
//! slot while nobody was parked, so it appointed nobody, and it does not look again. If nobody sleeps in a bed, the spare that is reserved
//! sleeps with the sentinel's timeout from then on, without the slot. It goes on so for a few timeouts after its slot was taken
//! back, so threads that block again and again wake nobody.

use super::{Idle, LINGER, List, PARKED_ONE, SENTINEL, WATCH_FIRST, WATCH_LONGEST, Woken};
use crate::sched::spares::{Call, Spare};
use crate::sync::{Ordering::*, chaos, fence};
use crate::time;
use std::sync::Arc;

/// What a spare that watches is to do next.
enum Look {
    /// Its slot is the sentinel.
    On(usize),
    /// Not now, but perhaps again soon.
    Off,
    /// No more.
    Over,
}

/// How a watch ended.
#[derive(Debug)]
pub(crate) enum Watched {
    /// The spare was told something else.
    Called(Call),
    /// It holds this slot, awake, and has [caught](Woken::Caught) what is stuck.
    Caught(usize),
    /// Nobody needs it.
    Over,
}

impl List {
    pub(super) fn is_vacant(&self, worker: usize) -> bool {
        self.vacant.iter().any(|&(vacant, _)| vacant == worker)
    }

    fn occupy(&mut self, worker: usize) -> Option<Arc<Spare>> {
        let place = self.vacant.iter().position(|&(vacant, _)| vacant == worker)?;
        Some(self.vacant.swap_remove(place).1)
    }

    /// Somebody must be in this bed from now on.
    pub(super) fn see_to(&mut self, worker: usize) {
        if let Some(spare) = self.occupy(worker) {
            spare.call(Call::Lie(worker));
        }
    }

    /// Of those who sleep in their beds, who lay down last.
    pub(super) fn sleeper(&self) -> Option<usize> {
        self.parked.iter().rfind(|&&worker| !self.is_vacant(worker)).copied()
    }
}

impl Idle {
    /// Worker `me` leaves its slot to `spare`, parked. With `may_watch` a sentinel is appointed as by a worker that parks. `Some`: there is work, and slot `me` is the caller's again, with a spare
    /// that is reserved. It may be another one: meanwhile who had left the slot before may have taken it back, and left it again.
    #[must_use]
    pub(crate) fn vacate(
        &self,
        me: usize,
        spare: Arc<Spare>,
        may_watch: bool,
        has_work: impl Fn() -> bool,
    ) -> Option<Arc<Spare>> {
        let mut list = self.list.lock();
        list.parked.push(me);
        list.vacant.push((me, spare));
        self.beds[me].parked.store(true, Relaxed);
        self.word.fetch_add(PARKED_ONE, SeqCst);
        if may_watch && (list.parked.len() as u64) < self.all() {
            self.appoint_one_of(&mut list);
        }
        drop(list);
        fence(SeqCst);
        chaos();
        if self.stopping() || has_work() {
            if let Some(spare) = self.take_back(me) {
                return Some(spare);
            }
            // Somebody has it. If its spare was called for a duty only it will sleep, and does not look for work first.
            self.notify_worker(me);
        }
        chaos();
        self.ensure_kept();
        None
    }

    /// Whoever left slot `me`, or some other thread since, takes it back, awake; with the spare, which is still reserved.
    #[must_use]
    pub(crate) fn take_back(&self, me: usize) -> Option<Arc<Spare>> {
        let mut list = self.list.lock();
        let spare = list.occupy(me)?;
        let watched = list.sentinel == Some(me);
        let parked = self.take_off(&mut list, me, false);
        debug_assert!(parked, "what is vacant is parked");
        if watched {
            self.appoint_one_of(&mut list); // the caller is awake
        }
        Some(spare)
    }

    /// A vacant slot is the sentinel from now on: its spare sleeps with a timeout.
    pub(super) fn watch_at(&self, list: &mut List, worker: usize) {
        list.sentinel = Some(worker);
        self.word.fetch_add(SENTINEL, SeqCst);
        if let Some((_, spare)) = list.vacant.iter().find(|&&(vacant, _)| vacant == worker)
            && !spare.watches.load(Relaxed)
        {
            spare.call(Call::Watch);
        }
    }

    /// By a spare that was told to watch: looks for work that is stuck as long as a vacant slot that it is reserved for is the
    /// sentinel, and for a few timeouts more.
    pub(crate) fn watch(&self, spare: &Arc<Spare>, mut stuck: impl FnMut() -> bool) -> Watched {
        let mut patience = WATCH_FIRST;
        let (mut idle_looks, mut on) = (0, false);
        spare.watches.store(true, Relaxed);
        loop {
            match self.look_on(spare, idle_looks) {
                Look::On(_) if !on => {
                    // The first look tells nothing but what to compare the next one with.
                    stuck();
                    (idle_looks, on, patience) = (0, true, WATCH_FIRST);
                }
                Look::On(slot) if stuck() && self.catch_at(slot, spare) => return Watched::Caught(slot),
                Look::On(_) => {}
                Look::Off => {
                    idle_looks += 1;
                    on = false;
                }
                Look::Over => return Watched::Over,
            }
            chaos();
            match spare.listen(time::after(patience)) {
                None | Some(Call::Free | Call::Watch) => {}
                Some(call) => {
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
            // Somebody is awake.
            Some(slot) if (list.parked.len() as u64) < self.all() => return Look::On(slot),
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

    /// The spare that watches gets up for its slot, unless somebody else has the slot by now.
    fn catch_at(&self, slot: usize, spare: &Arc<Spare>) -> bool {
        let mut list = self.list.lock();
        let line = |(vacant, reserved): &(usize, Arc<Spare>)| *vacant == slot && Arc::ptr_eq(reserved, spare);
        let Some(place) = list.vacant.iter().position(line) else { return false };
        list.vacant.swap_remove(place); // nobody is called
        spare.watches.store(false, Relaxed);
        let parked = self.take_off(&mut list, slot, true);
        debug_assert!(parked, "what is vacant is parked");
        self.hand_over(&mut list, slot);
        true
    }

    /// A spare that was called to lie down at slot `me`: asleep there until there is a reason not to, as in `park`.
    pub(crate) fn lie_down(&self, me: usize, stuck: impl FnMut() -> bool) -> Woken {
        let (watching, keeping) = self.duties(me);
        self.sleep(me, watching, keeping, stuck)
    }
}

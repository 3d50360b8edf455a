//! Vacant slots: on the list of those who sleep, with nobody in the bed.
//!
//! To everybody else a vacant slot is parked: it is counted as such, and is woken when there is work. What is different
//! is that its waking calls the spare that is reserved for it ([`spares`](super::super::spares)), and that it has no duty:
//! nobody is there who could wait with a timeout. Whoever gives it one all the same, since nobody else sleeps, calls the spare.
//!
//! | event | the line in `vacant` | |
//! |---|---|---|
//! | a thread leaves its slot | in | with the parking; then **always** rescans, and reads the alarm |
//! | the slot is woken, or gets a duty | out | its spare is called |
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
//! slot while nobody was parked, so it appointed nobody, and it does not look again.

use super::{Idle, List, PARKED_ONE, Woken};
use crate::sched::spares::{Call, Spare};
use crate::sync::{Ordering::*, chaos, fence};
use std::sync::Arc;

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
        let parked = self.take_off(&mut list, me, false);
        debug_assert!(parked, "what is vacant is parked");
        Some(spare)
    }

    /// A spare that was called to lie down at slot `me`: asleep there until there is a reason not to, as in `park`.
    pub(crate) fn lie_down(&self, me: usize, stuck: impl FnMut() -> bool) -> Woken {
        let (watching, keeping) = self.duties(me);
        self.sleep(me, watching, keeping, stuck)
    }
}

//! A crew at rest: the look for quiescence, its announcement, and the crew's stop.

use super::idle::Crew;
use super::quiescence::Quiescence;
use super::scheduler::Scheduler;
use crate::sync::Ordering::*;
use crate::user::Site;
use std::task::Waker;

impl Scheduler {
    /// Tells the crew to end once it has no work. Does nothing in a forked child, where there is no
    /// crew, and where a thread of the parent may hold each lock for ever.
    pub(crate) fn stop_crew(&self) {
        if self.is_forked() {
            return;
        }
        // First the wakers: a worker that sees the stop also sees their errands in a queue. One
        // errand for each waker, where every worker looks: a waker that blocks holds up no other.
        self.quiet.end_all_waits(|wakers| {
            let errands = wakers
                .into_iter()
                .filter_map(|waker| self.make_errand(Site::Waker, vec![waker], Waker::wake));
            errands.for_each(|errand| self.inject(errand));
        });
        self.idle.stop_workers();
        self.spares.end_free_spares();
    }

    /// Tells waiting threads if the crew is quiet now, after a turn on a thread that is no worker.
    pub(super) fn announce_from_elsewhere(&self) {
        self.quiet.announce_rest(
            || self.check_quiescence(),
            |wakers| {
                if wakers.is_empty() {
                    // A sender is entering. The worker of this errand parks afterwards, and looks
                    // again.
                    self.wake_all(vec![Waker::noop().clone()]);
                } else {
                    self.wake_all(wakers);
                }
            },
        );
    }

    /// Looks whether everything accepted before the call is over, with all consequences.
    ///
    /// All workers are parked in one and the same epoch before and after all queues were seen
    /// empty. So none was awake in between, and none left anything behind. The same goes for the
    /// [dedicated threads](super::dedicated). Senders on their way in are seen first (see
    /// [`gate`](super::gate)). After leaving the gate a sender's runnable is in a queue, or has
    /// woken a worker, which moves the epoch. No turn is elsewhere, after the first reading of the
    /// epoch, and none began in this epoch, so none has been since.
    ///
    /// A crew that has been told to stop has no work left, and parks no more.
    pub(crate) fn check_quiescence(&self) -> Quiescence {
        if self.idle.is_stopping() {
            return Quiescence::Quiet;
        }
        let still = || Some((self.idle.all_parked()?, self.apart.word_if_asleep()?));
        let Some(before) = still() else { return Quiescence::Busy };
        if self.elsewhere.any_elsewhere() {
            return Quiescence::Busy;
        }
        // After turns, which could have given a runnable away, and before senders, which could be
        // about to push. Acquire: pairs with `uncount_delayed`.
        if self.delayed.load(Acquire) > 0 {
            return Quiescence::Busy;
        }
        if self.gate.any_inside() {
            return Quiescence::Entering;
        }
        let empty = self.injector.is_empty()
            && self.slots.iter().all(|slot| {
                slot.inbox.is_empty() && slot.stealer.is_empty() && slot.lifo.is_empty()
            });
        let after: Option<(Crew, u64)> = still();
        if !empty {
            // Pushed, and the pusher is about to notify.
            Quiescence::Entering
        } else if after == Some(before) {
            Quiescence::Quiet
        } else {
            Quiescence::Busy
        }
    }

    /// Counts the current turn's runnable, which is about to be given to a timer. Until it comes
    /// back nothing is quiet.
    pub(crate) fn count_delayed(&self) {
        // Relaxed: seeing the turn over, with the worker parked, includes seeing the count.
        self.delayed.fetch_add(1, Relaxed);
    }

    /// Counts out such a runnable, which is about to be pushed: by a worker, or by a thread inside
    /// the gate.
    pub(crate) fn uncount_delayed(&self) {
        // Release: where the count misses the runnable, its pusher is awake or inside the gate, or
        // the runnable is in a queue.
        self.delayed.fetch_sub(1, Release);
    }
}

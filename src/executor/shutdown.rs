//! The shutdown of an executor.
//!
//! | step | `shutdown` | `shutdown_now` |
//! |---|---|---|
//! | sends and spawns from outside are refused | yes | yes |
//! | timers are cancelled, and no new ones armed; waiting ticks are ordinary messages | yes | yes |
//! | accepted messages, and all consequences, are handled | until quiet, or 7/8 of the time | no |
//! | actors are closed; leftovers become dead letters; `stopped` runs; states go | yes | yes |
//! | the threads end when the last actor has ended | yes | yes |
//! | at the deadline: actors that have not ended are named, and threads in other user code | yes | yes |
//!
//! All user code runs on the crew, in ordinary turns. Work that is not over at the deadline goes
//! on, and the caller does not wait for it. A late handler finds its actor killed, and the crew
//! ends with the last actor.
//!
//! **Why the deadline holds.** The caller runs no user code, and each of its waits has a limit:
//!
//! | slow work | done by |
//! |---|---|
//! | handlers, hooks, drops of states | the crew |
//! | destructors of thread-locals | the crew's threads: see [`threads`](crate::cell::threads) |
//! | closing a million actors | the caller, in steps of 256; after its time `heist-shutdown` |
//! | counting and naming actors that are left | the caller, 1,000 at most |
//! | the event hook, told of stuck actors | `heist-shutdown`, in the last 64th of the time |
//! | another shutdown at the same time | its own caller; both share locks for moments only |

use super::Executor;
use crate::cell::event::{Event, ShutdownReport, UnfinishedActor};
use crate::drops;
use crate::error::WaitError;
use crate::fork::Birth;
use crate::sched::blocking::Blocking;
use crate::sync::Mutex;
use crate::time::{self, Duration, Instant};
use crate::user;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Number of stuck actors that are named.
const NAMED: usize = 1000;

/// The event hook is told of stuck actors in the last 64th of the time, and in no more than this.
const MOST_FOR_HOOK: Duration = Duration::from_millis(20);

impl Executor {
    /// Cancels all timers, has all accepted messages handled, and ends the executor. Blocks until
    /// all actors have ended and all threads of the crew are gone, for at most `deadline`. What
    /// would not drain within seven eighths of that time is stopped as by
    /// [`shutdown_now`](Self::shutdown_now).
    ///
    /// At the deadline the report names what is left ([`ShutdownReport::unfinished`],
    /// [`ShutdownReport::unfinished_threads`]); that ends later, by itself. Several calls, also at
    /// the same time, are fine.
    ///
    /// What may take longer than the caller waits is done by threads `heist-shutdown`: closing very
    /// many actors, and telling the event hook of stuck actors. The report names them too.
    ///
    /// # Errors
    /// [`WaitError::OnCrew`] on a thread of this executor's crew; [`WaitError::NoSpare`] in a
    /// handler of another executor that has no spare left; [`WaitError::Forked`] in a forked child.
    /// Nothing is shut down then.
    pub fn shutdown(&self, deadline: Duration) -> Result<ShutdownReport, WaitError> {
        self.end_unless_frozen(deadline, false)
    }

    /// Stops all actors now: messages that wait become dead letters. Blocks until all actors have
    /// ended and all threads of the crew are gone, for at most `deadline`. The report names what is
    /// left then.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown).
    pub fn shutdown_now(&self, deadline: Duration) -> Result<ShutdownReport, WaitError> {
        self.end_unless_frozen(deadline, true)
    }

    /// Begins a [`shutdown`](Self::shutdown) at once, and returns a future of its report. The
    /// shutdown goes on whether or not the future is awaited. Use it in async tasks, since the drop
    /// of an executor blocks the task's thread.
    ///
    /// A thread `heist-shutdown` waits for the end, and ends itself soon after the future is ready.
    /// After an incomplete shutdown the same thread drops the executor, and waits once more. (If
    /// the system can start no thread, this call blocks as `shutdown` does.)
    ///
    /// The future resolves to [`WaitError::OnCrew`] if this is called on a thread of the executor's
    /// own crew: then the executor stops now, as if dropped there. In a forked child it resolves to
    /// [`WaitError::Forked`].
    ///
    /// ```
    /// # use heist::{Executor, WaitError};
    /// # use std::time::Duration;
    /// # async fn end(executor: Executor) -> Result<(), WaitError> {
    /// let report = executor.shutdown_async(Duration::from_secs(10)).await?;
    /// assert!(report.complete);
    /// # Ok(())
    /// # }
    /// # futures::executor::block_on(end(Executor::new())).unwrap();
    /// ```
    pub fn shutdown_async(self, deadline: Duration) -> Shutdown {
        Shutdown::start_aside(self, deadline, false)
    }

    /// Begins a [`shutdown_now`](Self::shutdown_now) at once, and returns a future of its report.
    /// See [`shutdown_async`](Self::shutdown_async) for all else.
    pub fn shutdown_now_async(self, deadline: Duration) -> Shutdown {
        Shutdown::start_aside(self, deadline, true)
    }

    fn end_unless_frozen(
        &self,
        deadline: Duration,
        now: bool,
    ) -> Result<ShutdownReport, WaitError> {
        if self.core().is_forked() {
            return Err(WaitError::Forked);
        }
        if self.core().ends_after_this_thread() {
            return Err(WaitError::OnCrew);
        }
        // Before a spare is started, which may run the user's handler.
        let begun = time::now();
        let blocking = Blocking::unless_frozen().ok_or(WaitError::NoSpare)?;
        self.end_crew(begun, deadline, now, blocking)
    }

    /// Ends the executor within `deadline` from `begun` on. `blocking` says what became of this
    /// thread's slot, if the thread is another executor's worker.
    pub(super) fn end_crew(
        &self,
        begun: Instant,
        deadline: Duration,
        now: bool,
        blocking: Blocking,
    ) -> Result<ShutdownReport, WaitError> {
        let core = self.core();
        if core.is_forked() {
            return Err(WaitError::Forked);
        }
        if core.ends_after_this_thread() {
            return Err(WaitError::OnCrew);
        }
        let end = begun.checked_add(deadline);
        // Three instants: messages drain until `soft`, actors and threads may end until `last`, and
        // the hook has the rest until `end`.
        let soft = begun.checked_add(deadline - deadline / 8);
        let for_hook =
            if core.has_hook() { (deadline / 64).min(MOST_FOR_HOOK) } else { Duration::ZERO };
        let last = begun.checked_add(deadline - for_hook);
        core.start_draining();
        let drained = !now && self.wait_idle_until(soft).is_ok();
        let closed = drained && core.close_all(false, soft);
        let mut closing = None;
        // Work that did not drain by the soft deadline is killed in the rest of the time.
        if (!closed || !is_over_by(&self.gone, soft)) && !core.close_all(true, last) {
            // There are more actors than the time allows to close. The caller's deadline passes,
            // and a thread closes the rest.
            let core = core.share();
            closing = Some(run_aside(move || {
                let _all_of_them = core.close_all(true, None);
            }));
        }
        let complete = is_over_by(&self.gone, last)
            && core.threads.join_all(last)
            && closing.as_ref().is_none_or(|closing| is_over_by(closing, last));
        let mut report = self.take_stock(complete);
        // Before the hook is told, which may look at the report.
        *core.report.lock() = Some(report.clone());
        let telling = self.tell_of_stuck(&report, end);
        for aside in [closing, telling].into_iter().flatten() {
            if !is_over_by(&aside, Some(begun)) {
                report.unfinished_threads.push(ASIDE.to_string());
            }
        }
        *core.report.lock() = Some(report.clone());
        drop(blocking);
        Ok(report)
    }

    /// Counts what was handled, and names what is left if the end is not `complete`.
    fn take_stock(&self, complete: bool) -> ShutdownReport {
        let core = self.core();
        let mut report = ShutdownReport {
            handled: core.total_of(|tally| &tally.handled),
            dead_letters: self.dead_letters(),
            complete,
            ..ShutdownReport::default()
        };
        if complete {
            return report;
        }
        report.unfinished_threads = core.threads.exiting_names();
        report.unfinished_threads.append(&mut core.scheduler.actorless.thread_names());
        let live = core.live_actors();
        // Stops at the number that is named: a walk over a million actors would take longer than a
        // deadline may.
        core.visit_unfinished(|header| {
            let more = report.unfinished.len() < NAMED;
            if more {
                report.unfinished.push(UnfinishedActor {
                    id: header.id(),
                    name: header.name(),
                    type_name: header.type_name(),
                });
            }
            more
        });
        // With fewer than `NAMED` the list is complete, while `live` may have changed meanwhile.
        let named = report.unfinished.len();
        report.unfinished_count =
            if named < NAMED { named } else { usize::try_from(live).unwrap_or(named).max(named) };
        report
    }

    /// Tells the event hook of stuck actors, on a thread of its own, since a hook may take its
    /// time. Waits for the hook until then, and returns the channel of that thread.
    fn tell_of_stuck(
        &self,
        report: &ShutdownReport,
        until: Option<Instant>,
    ) -> Option<Receiver<Infallible>> {
        if report.unfinished.is_empty() || !self.core().has_hook() {
            return None;
        }
        let (core, stuck) = (self.core().share(), report.unfinished.clone());
        let telling = run_aside(move || {
            for UnfinishedActor { id: actor, name, type_name } in stuck {
                core.emit_event(|| Event::Stuck { actor, name, type_name });
            }
        });
        let _told_by_then = is_over_by(&telling, until);
        Some(telling)
    }
}

/// Name of the threads on which a shutdown does what may take longer than its caller waits.
const ASIDE: &str = "heist-shutdown";

/// Waits until the other side of the channel is gone. Returns `false` if the time is over first.
fn is_over_by(running: &Receiver<Infallible>, until: Option<Instant>) -> bool {
    match until {
        Some(until) => {
            matches!(running.recv_deadline(until), Err(RecvTimeoutError::Disconnected))
        }
        None => running.recv().is_err(),
    }
}

/// Runs `f` on a new thread, or here if the system cannot start one. The channel's other side is
/// gone when `f` has returned.
fn run_aside(f: impl FnOnce() + Send + 'static) -> Receiver<Infallible> {
    let (running, over) = crossbeam_channel::bounded::<Infallible>(0);
    let f = move || {
        f();
        drop(running);
    };
    // Shared, since `spawn` drops its closure on failure: whichever side gets here takes `f`.
    let ours = Arc::new(Mutex::new(Some(f)));
    let theirs = Arc::clone(&ours);
    let thread = std::thread::Builder::new().name(ASIDE.to_string());
    if thread.spawn(move || run_once(&theirs)).is_err() {
        run_once(&ours);
    }
    over
}

fn run_once(f: &Mutex<Option<impl FnOnce()>>) {
    // A statement of its own, so that the lock is released before `f` runs.
    let f = f.lock().take();
    if let Some(f) = f {
        f();
    }
}

/// A shutdown, to be awaited. From [`Executor::shutdown_async`]. The shutdown goes on if this is
/// dropped or forgotten.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited; the shutdown goes on without it"]
pub struct Shutdown {
    shared: Arc<Mutex<ShutdownOutcome>>,
    /// In a forked child the thread that shuts down is not there, and may hold the lock for ever.
    birth: Birth,
}

#[derive(Debug, Default)]
struct ShutdownOutcome {
    result: Option<Result<ShutdownReport, WaitError>>,
    waker: Option<Waker>,
}

impl Shutdown {
    fn start_aside(executor: Executor, deadline: Duration, now: bool) -> Self {
        let shared = Arc::new(Mutex::new(ShutdownOutcome::default()));
        let birth = executor.core().scheduler.birth.clone();
        if birth.is_forked() {
            return Shutdown { shared, birth };
        }
        if executor.core().ends_after_this_thread() {
            shared.lock().result = Some(Err(WaitError::OnCrew));
            // The drop stops the executor now, without waiting.
            drop(executor);
            return Shutdown { shared, birth };
        }
        let (theirs, begun) = (Arc::clone(&shared), time::now());
        run_aside(move || {
            let result = executor.end_crew(begun, deadline, now, Blocking::at_any_rate());
            let mut outcome = theirs.lock();
            outcome.result = Some(result);
            let waker = outcome.waker.take();
            drop(outcome);
            if let Some(waker) = waker {
                user::wake_waker(waker);
            }
            // After an incomplete end this drop waits once more.
            drop(executor);
        });
        Shutdown { shared, birth }
    }
}

/// Dropped before it is ready, the future leaves no waker behind.
impl Drop for Shutdown {
    fn drop(&mut self) {
        if self.birth.is_forked() {
            return;
        }
        let own = self.shared.lock().waker.take();
        // Outside the lock, since the drop of a waker is user code.
        drops::drop_waker(own);
    }
}

impl Future for Shutdown {
    type Output = Result<ShutdownReport, WaitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.birth.is_forked() {
            return Poll::Ready(Err(WaitError::Forked));
        }
        // Cloned before the lock is taken, since a clone runs user code.
        let waker = user::clone_waker(cx.waker());
        let mut outcome = self.shared.lock();
        let (poll, unused) = match outcome.result.clone() {
            Some(result) => (Poll::Ready(result), Some(waker)),
            None => (Poll::Pending, outcome.waker.replace(waker)),
        };
        drop(outcome);
        // Outside the lock, since the drop of a waker is user code.
        drops::drop_waker(unused);
        poll
    }
}

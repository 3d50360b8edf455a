//! The end of an executor.
//!
//! | step | `shutdown` | `shutdown_now` |
//! |---|---|---|
//! | sends and spawns from outside are refused | yes | yes |
//! | timers are cancelled, and no new ones armed; ticks that wait already are messages like others | yes | yes |
//! | what is accepted, and all that it causes inside, is handled | until quiet, or 7/8 of the time are over | no |
//! | every actor is closed; leftovers become dead letters; `stopped` runs, states are dropped | yes | yes |
//! | the threads end when the last actor has ended | yes | yes |
//! | at the deadline: who has not ended is named | yes | yes |
//!
//! All user code runs on the crew, in ordinary turns. What is not over at the deadline goes on without being waited for: a
//! handler that returns late finds its actor killed, and the crew ends with the last one.
//!
//! **Why the deadline holds.** The caller runs no user code and waits with a limit only:
//!
//! | what could take long | who does it |
//! |---|---|
//! | handlers, hooks, drops of states | the crew |
//! | destructors of the crew's thread-locals | their threads, which count as alive until then ([`threads`](crate::cell::threads)) |
//! | closing a million actors | the caller, 256 at a time, until the time is over; then a thread `heist-shutdown` |
//! | counting and naming those that are left | the caller, 1,000 at most |
//! | the event hook, told of stuck actors | a thread `heist-shutdown`, for which the last 64th of the time is kept |
//! | another shutdown at the same time | its own caller: they share no lock but for single steps |

use super::executor::Executor;
use crate::cell::event::{Event, Report, Unfinished};
use crate::drops;
use crate::error::WaitError;
use crate::sched::blocking::Blocking;
use crate::sync::Mutex;
use crate::time::{self, Duration, Instant};
use crate::user;
use crossbeam_channel::RecvTimeoutError;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// How many stuck actors are named.
const NAMED: usize = 1000;

/// The event hook is told of stuck actors in the last 64th of the time, and in no more than this.
const MOST_FOR_HOOK: Duration = Duration::from_millis(20);

impl Executor {
    /// Has everything handled, then ends. Blocks until all actors have ended and all threads are gone, or the time is
    /// over. Timers are cancelled. The last eighth of the time is kept for stopping at once what would not drain.
    ///
    /// Calling it again is fine; so is calling it from several threads.
    ///
    /// # Errors
    /// [`WaitError::OnCrew`] on a worker of this executor, [`WaitError::NoSpare`] on one of another's that has no spare left;
    /// nothing is shut down then.
    pub fn shutdown(&self, deadline: Duration) -> Result<Report, WaitError> {
        self.end_unless_frozen(deadline, false)
    }

    /// Stops now: what waits becomes dead letters. Blocks until all actors have ended and all threads are gone, or the
    /// time is over.
    ///
    /// # Errors
    /// [`WaitError::OnCrew`] on a worker of this executor, [`WaitError::NoSpare`] on one of another's that has no spare left;
    /// nothing is shut down then.
    pub fn shutdown_now(&self, deadline: Duration) -> Result<Report, WaitError> {
        self.end_unless_frozen(deadline, true)
    }

    /// [`shutdown`](Self::shutdown), to be awaited. A thread of its own, `heist-shutdown`, waits for the deadline. (Where the
    /// system has no thread to give, this blocks as `shutdown` does.)
    ///
    /// It begins at once, and goes on whether or not it is awaited. In a task it is the way to end an executor, since to drop
    /// one blocks the task's thread.
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
        Shutdown::start(self, deadline, false)
    }

    /// [`shutdown_now`](Self::shutdown_now), to be awaited; as [`shutdown_async`](Self::shutdown_async).
    pub fn shutdown_now_async(self, deadline: Duration) -> Shutdown {
        Shutdown::start(self, deadline, true)
    }

    fn end_unless_frozen(&self, deadline: Duration, now: bool) -> Result<Report, WaitError> {
        if self.core().forked() {
            return Err(WaitError::Forked);
        }
        if self.core().ends_after_this_thread() {
            return Err(WaitError::OnCrew);
        }
        let blocking = Blocking::unless_frozen().ok_or(WaitError::NoSpare)?;
        self.end(deadline, now, blocking)
    }

    /// Ends the executor. `blocking` says what became of the slot of this thread, if it is another executor's worker.
    pub(super) fn end(&self, deadline: Duration, now: bool, blocking: Blocking) -> Result<Report, WaitError> {
        let core = self.core();
        if core.forked() {
            return Err(WaitError::Forked);
        }
        if core.ends_after_this_thread() {
            return Err(WaitError::OnCrew);
        }
        let begun = time::now();
        let end = begun.checked_add(deadline);
        let soft = begun.checked_add(deadline - deadline / 8);
        let for_hook = if core.has_hook() { (deadline / 64).min(MOST_FOR_HOOK) } else { Duration::ZERO };
        let last = begun.checked_add(deadline - for_hook);
        core.start_draining();
        let drained = !now && self.wait_idle_until(soft).is_ok();
        let closed = drained && core.close_all(false, soft);
        if (!closed || !self.gone_by(soft)) && !core.close_all(true, last) {
            // More actors than can be reached in that time. The deadline is the caller's; this is not.
            let core = core.share();
            run_aside(move || {
                let _all_of_them = core.close_all(true, None);
            });
        }
        let complete = self.gone_by(last) && core.threads.join(last);
        let report = self.take_stock(complete);
        *core.report.lock() = Some(report.clone());
        self.tell_of_stuck(&report, end);
        drop(blocking);
        Ok(report)
    }

    /// Waits until all threads of the crew have ended. Returns `false` if the time is over before.
    fn gone_by(&self, until: Option<Instant>) -> bool {
        match until {
            Some(until) => matches!(self.gone.recv_deadline(until), Err(RecvTimeoutError::Disconnected)),
            None => self.gone.recv().is_err(),
        }
    }

    fn take_stock(&self, complete: bool) -> Report {
        let core = self.core();
        let mut report = Report {
            handled: core.total(|tally| &tally.handled),
            dead_letters: self.dead_letters(),
            complete,
            ..Report::default()
        };
        if complete {
            return report;
        }
        report.unfinished_threads = core.threads.left();
        let live = core.live();
        // No more of them are looked at than are named: a million would take longer than a deadline may.
        core.unfinished(|header| {
            let more = report.unfinished.len() < NAMED;
            if more {
                report.unfinished.push(Unfinished { id: header.id(), type_name: header.type_name() });
            }
            more
        });
        let named = report.unfinished.len();
        report.unfinished_count =
            if named < NAMED { named } else { usize::try_from(live).unwrap_or(named).max(named) };
        report
    }

    /// Tells the event hook which actors are stuck: on a thread of its own, since a hook may take its time.
    fn tell_of_stuck(&self, report: &Report, until: Option<Instant>) {
        if report.unfinished.is_empty() || !self.core().has_hook() {
            return;
        }
        let (telling, told) = crossbeam_channel::bounded::<Infallible>(0);
        let (core, stuck) = (self.core().share(), report.unfinished.clone());
        run_aside(move || {
            for Unfinished { id: actor, type_name } in stuck {
                core.emit(|| Event::Stuck { actor, type_name });
            }
            drop(telling);
        });
        let _told_by_then = match until {
            Some(until) => told.recv_deadline(until).is_err(),
            None => told.recv().is_err(),
        };
    }
}

/// Runs `f` on a thread of its own, or here if the system has none to give.
fn run_aside(f: impl FnOnce() + Send + 'static) {
    let ours = Arc::new(Mutex::new(Some(f)));
    let theirs = Arc::clone(&ours);
    let thread = std::thread::Builder::new().name("heist-shutdown".to_string());
    if thread.spawn(move || run_once(&theirs)).is_err() {
        run_once(&ours);
    }
}

fn run_once(f: &Mutex<Option<impl FnOnce()>>) {
    let f = f.lock().take();
    if let Some(f) = f {
        f();
    }
}

/// A shutdown, to be awaited. It goes on if this is dropped, or forgotten.
#[derive(Debug)]
#[must_use = "a future does nothing unless it is awaited; the shutdown goes on without it"]
pub struct Shutdown {
    shared: Arc<Mutex<Outcome>>,
}

#[derive(Debug, Default)]
struct Outcome {
    result: Option<Result<Report, WaitError>>,
    waker: Option<Waker>,
}

impl Shutdown {
    fn start(executor: Executor, deadline: Duration, now: bool) -> Self {
        let shared = Arc::new(Mutex::new(Outcome::default()));
        if executor.core().forked() {
            shared.lock().result = Some(Err(WaitError::Forked));
            return Shutdown { shared };
        }
        if executor.core().ends_after_this_thread() {
            shared.lock().result = Some(Err(WaitError::OnCrew));
            drop(executor); // which stops now, without waiting
            return Shutdown { shared };
        }
        let theirs = Arc::clone(&shared);
        run_aside(move || {
            let result = executor.end(deadline, now, Blocking::at_any_rate());
            let mut outcome = theirs.lock();
            outcome.result = Some(result);
            let waker = outcome.waker.take();
            drop(outcome);
            if let Some(waker) = waker {
                user::wake(waker);
            }
            drop(executor); // after an incomplete end this waits once more
        });
        Shutdown { shared }
    }
}

/// Dropped unfinished it leaves nothing behind with the thread that waits.
impl Drop for Shutdown {
    fn drop(&mut self) {
        let own = self.shared.lock().waker.take();
        drops::waker(own); // not under the lock
    }
}

impl Future for Shutdown {
    type Output = Result<Report, WaitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = user::clone_waker(cx.waker());
        let mut outcome = self.shared.lock();
        let (poll, unused) = match outcome.result.clone() {
            Some(result) => (Poll::Ready(result), Some(waker)),
            None => (Poll::Pending, outcome.waker.replace(waker)),
        };
        drop(outcome);
        drops::waker(unused); // not under the lock
        poll
    }
}

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

use super::executor::Executor;
use crate::cell::event::{Event, Report, Unfinished};
use crate::error::WaitError;
use crate::sync::Mutex;
use crate::time::{self, Duration, Instant};
use crate::user;
use crossbeam_channel::RecvTimeoutError;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// How many stuck actors are named.
const NAMED: usize = 1000;

impl Executor {
    /// Has everything handled, then ends. Blocks until all actors have ended and all threads are gone, or the time is
    /// over. Timers are cancelled. The last eighth of the time is kept for stopping at once what would not drain.
    ///
    /// Calling it again is fine; so is calling it from several threads.
    ///
    /// # Errors
    /// [`WaitError::OnCrew`] on a worker of this executor; nothing is shut down then.
    pub fn shutdown(&self, deadline: Duration) -> Result<Report, WaitError> {
        self.end(deadline, false)
    }

    /// Stops now: what waits becomes dead letters. Blocks until all actors have ended and all threads are gone, or the
    /// time is over.
    ///
    /// # Errors
    /// [`WaitError::OnCrew`] on a worker of this executor; nothing is shut down then.
    pub fn shutdown_now(&self, deadline: Duration) -> Result<Report, WaitError> {
        self.end(deadline, true)
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

    fn end(&self, deadline: Duration, now: bool) -> Result<Report, WaitError> {
        let core = self.core();
        if core.on_crew() {
            return Err(WaitError::OnCrew);
        }
        if core.forked() {
            return Err(WaitError::Forked);
        }
        let end = time::after(deadline);
        let soft = time::after(deadline - deadline / 8);
        core.start_draining();
        let drained = !now && self.wait_idle_until(soft).is_ok();
        if drained {
            core.close_all(false);
        }
        if !drained || !self.gone_by(soft) {
            core.close_all(true);
        }
        let complete = self.gone_by(end);
        if complete {
            self.join();
        }
        let report = self.take_stock(complete);
        *core.report.lock() = Some(report.clone());
        Ok(report)
    }

    /// Have all workers gone by then?
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
        if !complete {
            core.unfinished(|header| {
                report.unfinished_count += 1;
                if report.unfinished.len() < NAMED {
                    report.unfinished.push(Unfinished { id: header.id(), type_name: header.type_name() });
                }
            });
        }
        for &Unfinished { id: actor, type_name } in &report.unfinished {
            core.emit(|| Event::Stuck { actor, type_name });
        }
        report
    }
}

/// A shutdown, to be awaited. It goes on if this is dropped.
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
        if executor.core().on_crew() {
            shared.lock().result = Some(Err(WaitError::OnCrew));
            drop(executor); // which stops now, without waiting
            return Shutdown { shared };
        }
        let theirs = Arc::clone(&shared);
        let executor = Arc::new(executor);
        let run = move |executor: Arc<Executor>, shared: Arc<Mutex<Outcome>>| {
            let result = executor.end(deadline, now);
            let mut outcome = shared.lock();
            outcome.result = Some(result);
            let waker = outcome.waker.take();
            drop(outcome);
            if let Some(waker) = waker {
                user::wake(waker);
            }
            drop(executor); // after an incomplete end this waits once more
        };
        let ours = Arc::clone(&executor);
        let thread = std::thread::Builder::new().name("heist-shutdown".to_string());
        if thread.spawn(move || run(executor, theirs)).is_err() {
            run(ours, Arc::clone(&shared)); // no thread to be had: then here, blocking
        }
        Shutdown { shared }
    }
}

impl Future for Shutdown {
    type Output = Result<Report, WaitError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let waker = user::clone_waker(cx.waker());
        let mut outcome = self.shared.lock();
        match outcome.result.clone() {
            Some(result) => Poll::Ready(result),
            None => {
                let old = outcome.waker.replace(waker);
                drop(outcome);
                user::drop_waker(old); // not under the lock
                Poll::Pending
            }
        }
    }
}

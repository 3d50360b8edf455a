//! The receiving end of the channel of events.

use crate::cell::event::Event;
use crate::fork::Birth;
use crate::sync::{RecvError, RecvTimeoutError, TryRecvError};
use crate::time::Duration;
use crossbeam_channel::{Receiver, Sender};
use std::fmt;
use std::iter::{self, FusedIterator};
use std::mem;

/// The events of an executor, in a channel. From
/// [`ExecutorBuilder::event_channel`](crate::ExecutorBuilder::event_channel).
///
/// An event that finds the channel full is lost, and no thread waits for room. After the drop of
/// this value all later events are lost. When the last thread of the crew has ended, the events
/// that are left can be received, and then the channel is *disconnected*: each call returns an
/// error, and iteration ends.
///
/// Iteration blocks until the executor's end. [`try_iter`](Self::try_iter) takes what is there.
///
/// ```
/// # use heist::{Actor, Context, Event, Executor, Handler};
/// # struct Parser;
/// # impl Actor for Parser {}
/// # struct Line(&'static str);
/// # impl Handler<Line> for Parser {
/// #     type Reply = i64;
/// #     fn handle(&mut self, Line(line): Line, _: &mut Context<Self>) -> i64 {
/// #         line.parse().expect("a number")
/// #     }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let (builder, events) = Executor::builder().event_channel(100);
/// let executor = builder.build()?;
/// let logger = std::thread::spawn(move || {
///     let mut panics = 0;
///     for event in events { // ends with the executor
///         eprintln!("{event}");
///         panics += usize::from(matches!(event, Event::Panicked { .. }));
///     }
///     panics
/// });
/// let parser = executor.spawn(Parser);
/// assert!(parser.ask(Line("one"))?.wait().is_err());
/// drop(executor);
/// assert_eq!(logger.join().expect("the logger does not panic"), 1);
/// # Ok(())
/// # }
/// ```
///
/// # Limits
/// A handler that waits here keeps its worker, and its executor cannot end meanwhile. Let a thread
/// outside the crew receive the events. In a [forked child](crate#limits) the channel is
/// disconnected and empty.
#[doc(alias("Receiver", "EventStream", "subscribe"))]
pub struct Events {
    /// Leaked in a forked child, where a thread of the parent may hold the channel's lock.
    receiver: Receiver<Event>,
    birth: Birth,
}

impl Events {
    /// Makes a channel for at most `capacity` events.
    pub(super) fn new_channel(capacity: usize) -> (Sender<Event>, Self) {
        let (sender, receiver) = crossbeam_channel::bounded(capacity);
        (sender, Events { receiver, birth: Birth::in_this_process() })
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// [`RecvError`] if the channel is disconnected: the executor has ended, or its builder was
    /// dropped.
    pub fn recv(&self) -> Result<Event, RecvError> {
        if self.birth.is_forked() {
            return Err(RecvError);
        }
        self.receiver.recv().map_err(|_| RecvError)
    }

    /// Waits for the next event, for at most `timeout`.
    ///
    /// # Errors
    /// [`RecvTimeoutError::Timeout`] if no event came in time, and
    /// [`RecvTimeoutError::Disconnected`] as for [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        if self.birth.is_forked() {
            return Err(RecvTimeoutError::Disconnected);
        }
        self.receiver.recv_timeout(timeout).map_err(|error| match error {
            crossbeam_channel::RecvTimeoutError::Timeout => RecvTimeoutError::Timeout,
            crossbeam_channel::RecvTimeoutError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }

    /// Returns the next event, if there is one.
    ///
    /// # Errors
    /// [`TryRecvError::Empty`] if there is none, and [`TryRecvError::Disconnected`] as for
    /// [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Event, TryRecvError> {
        if self.birth.is_forked() {
            return Err(TryRecvError::Disconnected);
        }
        self.receiver.try_recv().map_err(|error| match error {
            crossbeam_channel::TryRecvError::Empty => TryRecvError::Empty,
            crossbeam_channel::TryRecvError::Disconnected => TryRecvError::Disconnected,
        })
    }

    /// Returns an iterator over the events that are there. It never blocks, and ends when it finds
    /// the channel empty.
    pub fn try_iter(&self) -> impl Iterator<Item = Event> + '_ {
        iter::from_fn(|| self.try_recv().ok())
    }

    /// Returns how many events are in the channel.
    #[must_use]
    pub fn len(&self) -> usize {
        if self.birth.is_forked() { 0 } else { self.receiver.len() }
    }

    /// Returns `true` if no event is in the channel.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Blocks until the next event. Ends when the channel is disconnected.
impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.recv().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), None)
    }
}

impl FusedIterator for Events {}

impl Drop for Events {
    fn drop(&mut self) {
        if self.birth.is_forked() {
            // `never` has no channel, so its drop takes no lock.
            mem::forget(mem::replace(&mut self.receiver, crossbeam_channel::never()));
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("len", &self.len()).finish_non_exhaustive()
    }
}

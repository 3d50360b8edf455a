//! Waiting: each wait is a future, and its blocking form polls that future on the calling thread.
//! The table of waits is in [`waits`](crate::cell::waits).

use crate::cell::event::Event;
use crate::cell::header::Header;
use crate::cell::waits::{Outer, WaitTarget};
use crate::drops;
use crate::error::WaitError;
use crate::id::{WaitCycle, WaitingActor};
use crate::sched::blocking::Blocking;
use crate::sched::crew_thread;
use crate::sync::ThreadWaker;
use crate::time::{self, Instant};
use crate::user;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Blocks the calling thread until the future is ready, for an event that no single actor brings
/// about. Returns `None` if the instant passes first. A thread of another executor's crew leaves
/// its worker's slot to a spare thread meanwhile.
///
/// # Errors
/// [`WaitRefused::NoSpare`] if that crew would be left without a thread.
pub(crate) fn wait<F: Future + Unpin>(
    future: &mut F,
    until: Option<Instant>,
) -> Result<Option<F::Output>, WaitRefused> {
    block_on(future, until, leave_slot)
}

/// Polls a future on the calling thread until it is ready. Returns `None` if the instant passes
/// first. If the future is not ready at once, `slot` decides about this thread's worker slot, and
/// its result is held while the thread blocks.
fn block_on<F: Future + Unpin, G>(
    future: &mut F,
    until: Option<Instant>,
    slot: impl FnOnce() -> Result<G, WaitRefused>,
) -> Result<Option<F::Output>, WaitRefused> {
    let_go_before_wait();
    thread_local!(static WAKER: RefCell<Option<Arc<ThreadWaker>>> = const { RefCell::new(None) });
    // The waker is taken out while it is in use. A nested wait, or a wait in a destructor of an
    // ending thread, makes another waker.
    let cached = WAKER.try_with(|cached| cached.take()).ok().flatten();
    let parker = cached.unwrap_or_else(ThreadWaker::new);
    let waker = parker.to_waker();
    let mut cx = Context::from_waker(&waker);
    let mut poll = || match Pin::new(&mut *future).poll(&mut cx) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    };
    let wait = || {
        if let Some(output) = poll() {
            return Ok(Some(output));
        }
        let _slot = slot()?;
        loop {
            let rung = parker.park_until(until);
            // Polled also when the time is over, since the answer may have come with the bell.
            if let Some(output) = poll() {
                return Ok(Some(output));
            }
            // A future that asks to be polled again at once, for ever, has a deadline all the same.
            if !rung || is_over(until) {
                return Ok(None);
            }
        }
    };
    let result = wait();
    // Fails where the thread is ending, and then the waker is simply dropped.
    let _ = WAKER.try_with(|cached| cached.replace(Some(parker)));
    result
}

/// Completes what this thread owes to others. The awaited answer may come from the asker of a reply
/// that this handler has dropped.
#[inline]
fn let_go_before_wait() {
    user::answer_caught();
    drops::run_before_wait();
}

/// Returns `true` if the instant has passed.
fn is_over(until: Option<Instant>) -> bool {
    until.is_some_and(|until| time::now() >= until)
}

/// Why a thread of the crew may not wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WaitRefused {
    /// These actors would wait for one another.
    WouldDeadlock(WaitCycle),
    NoSpare,
}

/// A future that a single actor makes ready, so the table of waits can name the actor.
///
/// The target is borrowed from the future, which keeps the target's cell. A poll takes the future
/// mutably and so ends that borrow. The future may then turn to another target and let go of the
/// one before.
pub(crate) trait Awaits: Future + Unpin {
    /// Returns the actor that must act. Called only while the future is not ready.
    fn target(&self) -> &Header;

    /// Returns the address of the ask that the target must answer, or 0 if it must do something
    /// else.
    fn ask(&self) -> usize {
        0
    }

    /// Looks briefly whether the wait is over already, before the thread sleeps.
    fn spin(&self, _until: Option<Instant>) {}
}

/// Polls a future on the calling thread until it is ready. Returns `None` if the instant passes
/// first. In a turn, refuses the wait if the [target](Awaits::target) waits for this actor, or if
/// no thread would be left to run anything.
///
/// After a refusal the caller takes the polled future back.
pub(crate) fn wait_for<F: Awaits>(
    future: &mut F,
    until: Option<Instant>,
) -> Result<Option<F::Output>, WaitRefused> {
    let_go_before_wait();
    let me: *const Header = crew_thread::current_actor().cast();
    // SAFETY: the turn that runs here keeps its cell, and without a turn the pointer is null. A
    // child forked inside the turn has no crew, and leaves the crew's locks alone.
    let Some(header) = (unsafe { me.as_ref() }).filter(|header| !header.core().is_forked()) else {
        return wait_between_turns(future, until);
    };
    let mut blocking = None;
    loop {
        // Polled first: only an actor that has left a bell can be told to wait no more. The bell
        // hangs from this poll on, and an answering actor rings the bell before it goes on. A
        // second poll would take the bell down for a moment. For an actor that answers in that
        // moment this wait would still look unanswered.
        let bell = ThreadWaker::new();
        if let Some(output) = poll_with(future, &bell) {
            return Ok(Some(output));
        }
        // The line is written before the thread sleeps, and followed at once, so the actor that
        // writes the last line of a cycle is refused.
        let line = RecordedWait::begin(header, future.target(), future.ask(), &bell)?;
        // The slot is left once, however often the wait begins anew.
        if blocking.is_none() {
            blocking = Some(leave_slot()?);
            future.spin(until);
        }
        // The clock counts even if the bell rang: one that rings at once, for ever, has a deadline
        // too.
        if !bell.park_until(until) || is_over(until) {
            // The time is over, so this wait ends whatever the last poll says. Marked before the
            // poll, as the line stands until the return, and must not close a cycle any more.
            bell.mark_rung();
            return Ok(poll_with(future, &bell));
        }
        drop(line);
        // A rung bell says that the wait is over, and most often it is. Otherwise the future may
        // have turned to another target. Then the wait is written down anew, with a new bell.
        if let Some(output) = poll_with(future, &bell) {
            return Ok(Some(output));
        }
    }
}

/// Waits on a thread that runs no turn. The table of waits does not know such waits.
fn wait_between_turns<F: Awaits>(
    future: &mut F,
    until: Option<Instant>,
) -> Result<Option<F::Output>, WaitRefused> {
    // Without a spare a wait for another crew keeps the slot, since that crew runs by itself.
    let on_its_crew = future.target().core().on_crew();
    // Polled first: what is over needs no slot and no spare.
    if on_its_crew && let Some(output) = poll_with(future, &ThreadWaker::new()) {
        return Ok(Some(output));
    }
    let _blocking = if on_its_crew { leave_slot()? } else { Blocking::at_any_rate() };
    future.spin(until);
    block_on(future, until, || Ok(()))
}

fn poll_with<F: Future + Unpin>(future: &mut F, bell: &Arc<ThreadWaker>) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(&bell.to_waker())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Leaves this thread's slot to a spare thread. That another crew brings about the awaited event
/// makes no difference: its actor may wait for this crew in the same way, and then neither crew
/// would have a thread left.
fn leave_slot() -> Result<Blocking, WaitRefused> {
    Blocking::unless_frozen().ok_or(WaitRefused::NoSpare)
}

/// A line in the table of waits, perhaps in the place of the line of an outer wait of the same
/// actor: the user code that starts a spare thread for that wait may wait itself.
struct RecordedWait<'a> {
    who: &'a Header,
    outer: Option<Outer>,
}

impl<'a> RecordedWait<'a> {
    /// Writes down a wait for `target`.
    fn begin(
        who: &'a Header,
        target: &Header,
        ask: usize,
        bell: &Arc<ThreadWaker>,
    ) -> Result<Self, WaitRefused> {
        let (actor, whom) = (WaitingActor::from_header(who), WaitingActor::from_header(target));
        match who.core().waits.register_wait(
            actor,
            whom,
            WaitTarget::from_header(target, ask),
            bell,
        ) {
            Ok(outer) => Ok(RecordedWait { who, outer }),
            Err(cycle) => {
                who.core().emit_event(|| Event::WaitRefused { cycle: cycle.clone() });
                Err(WaitRefused::WouldDeadlock(cycle))
            }
        }
    }
}

impl From<WaitRefused> for WaitError {
    fn from(refused: WaitRefused) -> Self {
        match refused {
            WaitRefused::WouldDeadlock(_) => WaitError::WouldDeadlock,
            WaitRefused::NoSpare => WaitError::NoSpare,
        }
    }
}

impl Drop for RecordedWait<'_> {
    fn drop(&mut self) {
        self.who.core().waits.unregister_wait(self.who.id(), self.outer.take());
    }
}

/// Runs `f`, once, on this thread: for code in a handler or a hook that blocks its thread.
///
/// Meanwhile the crew goes on. A spare thread takes over this worker's slot and all that waits
/// behind the running turn (see
/// [`ExecutorBuilder::max_spares`](crate::ExecutorBuilder::max_spares)). When `f` has returned the
/// turn goes on, on the same thread, with or without a worker's slot. If no spare is left `f` runs
/// all the same, and this worker does nothing else until `f` has returned; the other workers take
/// what waits behind the turn, where the policy allows it.
///
/// Outside of handlers and hooks, and inside another `blocking`, this just calls `f`. A panic in
/// `f` unwinds through the call.
///
/// The actor itself stays busy: its messages wait. For the answer of another actor use
/// [`Ask::wait`](crate::Ask::wait), which does the same and detects cycles, or better
/// [`Context::ask_then`](crate::Context::ask_then).
///
/// A handler that blocks in another way keeps its worker. Other workers take what waits behind it,
/// and for that one parked worker wakes up every 1 to 4 ms for as long as the turn takes.
///
/// # Limits
/// A cycle of waits through `f` is not detected. In particular, do not wait here for a job of a
/// thread pool if the jobs of that pool ask actors that use the same pool: once all of its threads
/// wait for actors, no thread is left to run the job. Use another pool, or a wait with a timeout.
///
/// # Costs
/// If nothing waits for this worker, the call costs some hundred nanoseconds to a few microseconds,
/// and no other thread does anything (except that the first call starts one). If something waits, a
/// spare thread is woken, and takes some ten microseconds to arrive.
///
/// ```
/// use heist::{Actor, Context, Executor, Handler};
///
/// struct Disk;
/// impl Actor for Disk {}
///
/// struct Read(std::path::PathBuf);
/// impl Handler<Read> for Disk {
///     type Reply = std::io::Result<Vec<u8>>;
///     fn handle(&mut self, Read(path): Read, _: &mut Context<Self>) -> std::io::Result<Vec<u8>> {
///         heist::blocking(|| std::fs::read(path))
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let executor = Executor::new();
/// let disk = executor.spawn(Disk);
/// assert!(disk.ask(Read("no such file".into()))?.wait()?.is_err());
/// # Ok(())
/// # }
/// ```
#[doc(alias("block_in_place", "spawn_blocking", "unblock"))]
pub fn blocking<R>(f: impl FnOnce() -> R) -> R {
    let_go_before_wait();
    let _blocking = Blocking::at_any_rate();
    f()
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use crate::time::Duration;

    /// Asks to be polled again at once, for ever.
    struct Restless;

    impl Future for Restless {
        type Output = ();
        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }

    #[test]
    fn a_restless_future_has_a_deadline() {
        assert_eq!(wait(&mut Restless, time::instant_after(Duration::from_millis(1))), Ok(None));
    }

    #[test]
    fn what_is_ready_needs_no_slot() {
        let refused = || Err::<(), _>(WaitRefused::NoSpare);
        assert_eq!(block_on(&mut std::future::ready(7), None, refused), Ok(Some(7)));
        assert_eq!(block_on(&mut Restless, None, refused), Err(WaitRefused::NoSpare));
    }
}

//! Delivery: how a message comes into a mailbox, and its actor into a queue.

use super::core::{Core, Tally};
use super::envelope::{Envelope, SentAt};
use super::header::Header;
use super::stopwatch::Stopwatch;
use crate::error::Refusal;
use crate::mailbox::state::{MAX_LEN, Reserve};
use crate::memory::Heap;
use crate::sched::Scheduler;
use crate::sched::runnable::Runnable;
use crate::sched::worker::Worker;
use crate::time;
use std::ptr::NonNull;

/// Whether a message counts against the mailbox's capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Accepted within the capacity. From outside the crew not while the executor drains.
    Ordinary,
    /// Accepted whatever the capacity, and counted in the length: an answer, or a message that has
    /// waited in line for room.
    Exempt,
    /// Prepaid by the receiver, and does not count against other messages. Its handling is
    /// [noted](super::prepaid::note_in_hand).
    Prepaid,
}

/// A message before its envelope exists. The place is reserved first, so a refusal costs no memory.
pub(crate) trait Parcel: Sized {
    /// The sender's return value.
    type Receipt;

    fn receipt_for(envelope: NonNull<Envelope>) -> Self::Receipt;
    /// Makes the envelope, in memory of the sending side.
    fn into_envelope(self, heap: &Heap) -> NonNull<Envelope>;
    /// Puts the message into an actor's mailbox, behind all others. By default in an envelope of
    /// its own.
    ///
    /// # Safety
    /// A place is reserved in the mailbox. The message is made for the actor of `to`, which is not
    /// timed.
    #[inline]
    unsafe fn put_into_mailbox(self, to: &Header, from: &impl Origin) -> Self::Receipt {
        // SAFETY: a place is reserved in the mailbox of `to`, and the parcel is made for its type.
        Self::receipt_for(unsafe { push_alone(self, to, from) })
    }

    /// Makes the envelope with room for the instant of sending, for a timed actor.
    fn into_dated_envelope(self, heap: &Heap) -> NonNull<Envelope>;
}

/// Packs a message and pushes it, in an envelope of its own.
///
/// # Safety
/// A place is reserved in the mailbox of `to`, and the parcel is made for the type of that actor.
#[inline]
pub(crate) unsafe fn push_alone<P: Parcel>(
    parcel: P,
    to: &Header,
    from: &impl Origin,
) -> NonNull<Envelope> {
    let envelope = from.with_heap(|heap| parcel.into_envelope(heap));
    // SAFETY: a place is reserved. The envelope was just packed, so it is on no queue and no other
    // thread knows it.
    unsafe { to.inbox.push(Envelope::node_of(envelope)) };
    envelope
}

/// A message that has waited for room. Its envelope was made for the actor, so it is dated if the
/// actor is timed.
impl Parcel for NonNull<Envelope> {
    type Receipt = ();

    fn receipt_for(_: NonNull<Envelope>) {}
    fn into_envelope(self, _: &Heap) -> NonNull<Envelope> {
        self
    }
    fn into_dated_envelope(self, _: &Heap) -> NonNull<Envelope> {
        self
    }
}

fn stopped_or_shutdown(header: &Header) -> Refusal {
    if header.core().is_closing() { Refusal::ShuttingDown } else { Refusal::Stopped }
}

/// Puts a message into a mailbox, and the actor into a queue if it was idle. If refused, the parcel
/// comes back.
///
/// # Safety
/// The caller holds a strong reference to the cell, or its runnable. The parcel's envelope is made
/// for the actor's type, and the caller gives up the only pointer to it.
#[inline]
pub(crate) unsafe fn deliver<P: Parcel>(
    header: NonNull<Header>,
    parcel: P,
    lane: Lane,
) -> Result<P::Receipt, (P, Refusal)> {
    // SAFETY: the caller's reference or runnable keeps the cell alive.
    let core = unsafe { header.as_ref() }.core();
    Worker::with(&core.scheduler, |worker| match worker {
        Some(worker) => {
            // SAFETY: the caller keeps the cell alive and gives up the parcel, which is made for
            // it.
            let done = unsafe { push_message(header, parcel, lane, worker) };
            if done.is_ok() {
                Tally::of_worker(worker).accepted.add(1);
            }
            done
        }
        // SAFETY: the caller keeps the cell alive and gives up the parcel, which is made for it.
        None => unsafe { deliver_from_outside(header, parcel, lane) },
    })
}

/// Delivers a message from a thread outside the crew's workers. Out of line, so that the way of a
/// worker stays short.
///
/// # Safety
/// The same as for [`deliver`].
#[cold]
unsafe fn deliver_from_outside<P: Parcel>(
    header: NonNull<Header>,
    parcel: P,
    lane: Lane,
) -> Result<P::Receipt, (P, Refusal)> {
    // SAFETY: the caller's reference or runnable keeps the cell alive.
    let core = unsafe { header.as_ref() }.core();
    // The pass comes before the look at the flag. A thread that sets the flag and then waits for
    // quiescence waits for all earlier passes, so every message let in here is waited for.
    let mut pass = core.scheduler.gate.enter_gate();
    if !core.scheduler.birth.is_open()
        && let Some(refusal) = closed_to_outside(core, lane)
    {
        return Err((parcel, refusal));
    }
    // SAFETY: the caller keeps the cell alive and gives up the parcel, which is made for it.
    let done = unsafe { push_message(header, parcel, lane, &core.scheduler) };
    if done.is_ok() {
        pass.count_accepted();
    }
    done
}

/// Puts a mark into a mailbox, as [`deliver`] puts an exempt message. A mark is not counted as
/// accepted.
///
/// # Safety
/// The same as for [`deliver`].
#[cold]
pub(super) unsafe fn deliver_uncounted(
    header: NonNull<Header>,
    mark: NonNull<Envelope>,
) -> Result<(), NonNull<Envelope>> {
    // SAFETY: the caller's reference or runnable keeps the cell alive.
    let core = unsafe { header.as_ref() }.core();
    let done = Worker::with(&core.scheduler, |worker| match worker {
        // SAFETY: the caller keeps the cell alive and gives up the mark, which is made for it.
        Some(worker) => unsafe { push_message(header, mark, Lane::Exempt, worker) },
        None => {
            let _pass = core.scheduler.gate.enter_gate();
            // SAFETY: the caller keeps the cell alive and gives up the mark, which is made for it.
            unsafe { push_message(header, mark, Lane::Exempt, &core.scheduler) }
        }
    });
    done.map_err(|(mark, _)| mark)
}

/// Returns why a message from outside is refused, if it is. Called only while the crew is not
/// plainly open.
#[cold]
fn closed_to_outside(core: &Core, lane: Lane) -> Option<Refusal> {
    if core.is_forked() {
        Some(Refusal::Forked)
    } else {
        // Exempt messages are accepted, and a thread of the crew may still send: draining goes on
        // until the crew is quiescent.
        (lane == Lane::Ordinary && core.is_draining() && !core.on_crew())
            .then_some(Refusal::ShuttingDown)
    }
}

/// The sending side: a worker of the crew, or any other thread.
pub(crate) trait Origin {
    fn with_heap<R>(&self, f: impl FnOnce(&Heap) -> R) -> R;
    fn schedule(&self, task: Runnable);
    /// Returns `true` if the sender is no worker of the crew.
    fn is_outside(&self) -> bool;
}

impl Origin for Worker {
    #[inline(always)]
    fn with_heap<R>(&self, f: impl FnOnce(&Heap) -> R) -> R {
        f(self.heap())
    }
    #[inline(always)]
    fn schedule(&self, task: Runnable) {
        self.push(task);
    }
    #[inline(always)]
    fn is_outside(&self) -> bool {
        false
    }
}

impl Origin for Scheduler {
    #[inline(always)]
    fn with_heap<R>(&self, f: impl FnOnce(&Heap) -> R) -> R {
        self.memory.with_outside_heap(f)
    }
    #[inline(always)]
    fn schedule(&self, task: Runnable) {
        self.push_from_outside(task);
    }
    #[inline(always)]
    fn is_outside(&self) -> bool {
        true
    }
}

/// Reserves a place, links the message and schedules the actor if it was idle. One copy for each
/// kind of sender.
///
/// # Safety
/// The same as for [`deliver`].
#[inline]
unsafe fn push_message<P: Parcel>(
    header: NonNull<Header>,
    parcel: P,
    lane: Lane,
    from: &impl Origin,
) -> Result<P::Receipt, (P, Refusal)> {
    // SAFETY: the caller's reference or runnable keeps the cell alive.
    let this = unsafe { header.as_ref() };
    // The first step writes the word, which another core may have.
    crate::sync::prefetch(&raw const this.state);
    let reserved = match lane {
        Lane::Ordinary => match this.state.reserve_place(this.capacity, from.is_outside()) {
            // `LEN` counts prepaid messages too, so the mailbox may have room where `LEN` says
            // full. Only this refusal pays for the look at the count.
            Reserve::Full => reserve_beside(this, from.is_outside()),
            reserved => reserved,
        },
        Lane::Exempt => this.state.reserve_exempt(),
        Lane::Prepaid => {
            let reserved = this.state.reserve_exempt();
            // In this order, so the count of prepaid messages is never ahead of `LEN`.
            if matches!(reserved, Reserve::Accepted { .. }) {
                this.cold().prepaid.add_one();
            }
            reserved
        }
    };
    match reserved {
        Reserve::Accepted { schedule: idle } => {
            // SAFETY: the parcel was given up to this call and goes to the inbox. The transition
            // said whether this sender schedules the actor. If so, the receiver's end belongs to
            // this sender until the runnable is pushed. Otherwise the reserved place keeps the
            // actor.
            unsafe {
                // Three ways, since the usual ones must not pay for timing. A timed actor needs an
                // envelope with an instant. The message that wakes an idle actor skips the stack.
                // All others go onto it, where told messages may share a segment.
                let receipt = if this.stopwatch().is_some() {
                    P::receipt_for(push_dated(this, parcel, idle))
                } else if idle {
                    let envelope = from.with_heap(|heap| parcel.into_envelope(heap));
                    this.inbox.put_first(Envelope::node_of(envelope));
                    P::receipt_for(envelope)
                } else {
                    parcel.put_into_mailbox(this, from)
                };
                // Only now: as soon as the runnable is pushed another thread may run the turn.
                if idle {
                    from.schedule(Header::runnable(header));
                }
                Ok(receipt)
            }
        }
        Reserve::Full => Err((parcel, Refusal::Full)),
        Reserve::Closed => Err((parcel, stopped_or_shutdown(this))),
    }
}

/// Packs and links a message for a timed actor. If the actor was `idle`, the caller makes it
/// runnable next.
///
/// # Safety
/// A place is reserved, the caller keeps the cell alive, and the parcel is made for its type.
#[cold]
#[inline(never)]
unsafe fn push_dated<P: Parcel>(this: &Header, parcel: P, idle: bool) -> NonNull<Envelope> {
    let envelope = this.core().with_heap(|heap| parcel.into_dated_envelope(heap));
    let stopwatch = this.stopwatch().expect("it is timed");
    // SAFETY: the place is reserved, and the envelope was just packed.
    unsafe { link_dated(this, stopwatch, envelope, idle) };
    envelope
}

/// # Safety
/// A place is reserved, the caller keeps the cell alive, and no other thread knows the envelope. If
/// `idle`, the caller has just scheduled the actor and has not pushed its runnable.
unsafe fn link_dated(
    this: &Header,
    stopwatch: &Stopwatch,
    envelope: NonNull<Envelope>,
    idle: bool,
) {
    let now = time::now();
    // SAFETY: no other thread knows the envelope until it is pushed. The caller keeps the cell
    // alive after that.
    unsafe {
        debug_assert!(Envelope::is_dated(envelope), "made for a timed actor");
        // A mistake in a table must not write outside the envelope, so release builds check this
        // too.
        if Envelope::is_dated(envelope) {
            Envelope::sent_pointer(envelope).write(SentAt(Some(now)));
        }
        if idle {
            stopwatch.runnable_since(now);
            stopwatch.put_first(now);
            this.inbox.put_first(Envelope::node_of(envelope));
        } else if this.inbox.push(Envelope::node_of(envelope)) {
            stopwatch.pushed_first(now);
        }
    }
}

/// Reserves a place for an ordinary message where `LEN` alone says that the mailbox is full.
/// `outside` says that the sender is no worker of the crew.
#[cold]
fn reserve_beside(header: &Header, outside: bool) -> Reserve {
    let Some(cold) = header.cold_if_any().filter(|cold| cold.prepaid.has_any()) else {
        return Reserve::Full;
    };
    // Under the lock the count cannot fall between its reading and the step of the word, so no more
    // ordinary messages are accepted than the capacity allows. A count that rises meanwhile refuses
    // too much at worst.
    let _list = cold.room.lock();
    header.state.reserve_place(
        header.capacity.saturating_add(cold.prepaid.read_count()).min(MAX_LEN),
        outside,
    )
}

/// Puts a tick into a mailbox, and the actor into a queue if it was idle. Returns `false` if the
/// actor has closed. Then the envelope comes back to the caller. Runs no user code.
///
/// # Safety
/// Called on a worker of the crew, which keeps the core. The caller holds a strong or weak count of
/// the cell, which may go with the envelope. The caller gives up the only pointer to an envelope
/// made for the cell. The actor has its cold part.
#[must_use]
pub(crate) unsafe fn deliver_tick(header: NonNull<Header>, envelope: NonNull<Envelope>) -> bool {
    // SAFETY: the caller's count keeps the memory. From the reservation on, the reserved place
    // keeps the actor until the envelope is handled. After the push the actor is touched only with
    // the runnable.
    unsafe {
        let this = header.as_ref();
        let core = this.core();
        // In this order, so the count of prepaid messages is never ahead of `LEN`.
        let cold = this.cold_if_any().expect("made when the timer was armed");
        let Reserve::Accepted { schedule } = this.state.reserve_exempt() else { return false };
        cold.prepaid.add_one();
        core.count_here(|tally| &tally.accepted, 1);
        // Before the push, since the stopwatch looks whether the stack is empty.
        if let Some(stopwatch) = &cold.stopwatch {
            stopwatch.pushing_tick(cold.ticks.inbox(), Envelope::sent_at(envelope));
        }
        cold.ticks.inbox().push(Envelope::node_of(envelope));
        if schedule {
            Header::schedule(header);
        }
    }
    true
}

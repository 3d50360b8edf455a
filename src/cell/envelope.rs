//! What waits in a mailbox, and its way there.

use super::batch::Batched;
use super::core::{Core, Tally};
use super::header::{Header, Strong};
use super::prepaid;
use super::stopwatch::Stopwatch;
use super::ticks;
use crate::drops;
use crate::error::{AskError, Refusal};
use crate::mailbox::inbox::Node;
use crate::mailbox::segment;
use crate::mailbox::state::Reserve;
use crate::memory::{Heap, Held};
use crate::sched::Scheduler;
use crate::sched::local::Local;
use crate::sched::task::Task;
use crate::time::{self, Instant};
use crate::user::{self, Site};
use std::ptr::NonNull;

/// The front of every message in a mailbox; the message lies behind it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Envelope {
    node: Node,
    vtable: &'static EnvelopeVtable,
}

/// Where a message lies that is to be handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In an envelope of its own, which is freed.
    Own,
    /// In a slot of a segment, which is not: in front of the message there is no envelope, and what lies there is not to be looked
    /// at.
    Slot,
}

/// What can be done with an envelope; either call frees it.
#[derive(Debug)]
pub(crate) struct EnvelopeVtable {
    /// Handles the message, inside its actor's turn. May panic.
    pub(crate) handle: unsafe fn(NonNull<Envelope>, NonNull<Header>, Place),
    /// Drops the message unhandled; an asker is told the error. May panic. The proof is of the pool that the envelope is from.
    pub(crate) discard: unsafe fn(NonNull<Envelope>, AskError, Held<'_>),
    /// Where in the envelope it is said when it was sent; 0: nowhere. See [`place_of`].
    pub(crate) sent: usize,
    /// If it may be in a batch: how. Then it is handled by that.
    pub(crate) batched: Option<Batched>,
}

/// What an envelope has for the instant of sending: nothing, or [`Sent`] if it is made for a timed actor.
pub(crate) trait Dating: Copy + Send + 'static {
    const BLANK: Self;
}

impl Dating for () {
    const BLANK: () = ();
}

/// When a message was accepted, or when a tick was due.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Sent(pub(crate) Option<Instant>);

impl Dating for Sent {
    const BLANK: Sent = Sent(None);
}

/// An [`EnvelopeVtable::sent`]: of an envelope that has its `S` at `offset`.
pub(crate) const fn place_of<S: Dating>(offset: usize) -> usize {
    if size_of::<S>() == 0 { 0 } else { offset }
}

impl EnvelopeVtable {
    /// Handles a message in a slot.
    ///
    /// # Safety
    /// In a turn of the actor it was addressed to, which has just popped it.
    #[inline]
    pub(super) unsafe fn handle_in_slot(kind: &segment::Kind, slot: NonNull<()>, header: NonNull<Header>) {
        // SAFETY: the only ones that make segments, told messages, give their kind such a table. In front of a slot lie the segment's
        // front or other slots, which together are of an envelope's size at least.
        unsafe {
            let table: &Self = &*kind.table().cast();
            (table.handle)(slot.byte_sub(size_of::<Envelope>()).cast(), header, Place::Slot);
        }
    }
}

impl Envelope {
    pub(crate) fn new(vtable: &'static EnvelopeVtable) -> Self {
        Envelope { node: Node::new(), vtable }
    }

    /// # Safety
    /// In a turn of the actor it was addressed to, with the only pointer to it.
    #[inline]
    pub(crate) unsafe fn handle(this: NonNull<Envelope>, header: NonNull<Header>) {
        // SAFETY: the caller's.
        unsafe { (this.as_ref().vtable.handle)(this, header, Place::Own) }
    }

    /// # Safety
    /// With the only pointer to it; `held` is of the pool that it is from.
    pub(crate) unsafe fn discard(this: NonNull<Envelope>, why: AskError, held: Held<'_>) {
        // SAFETY: the caller's.
        unsafe { (this.as_ref().vtable.discard)(this, why, held) }
    }

    /// How it is handled in a batch, if it may be in one.
    ///
    /// # Safety
    /// The envelope is its actor's, in a turn.
    #[inline]
    pub(super) unsafe fn batched(this: NonNull<Envelope>) -> Option<&'static Batched> {
        // SAFETY: the caller's.
        unsafe { this.as_ref() }.vtable.batched.as_ref()
    }

    /// Has it got room for the instant of sending?
    ///
    /// # Safety
    /// The envelope is the caller's, or its actor's in a turn.
    pub(crate) unsafe fn is_dated(this: NonNull<Envelope>) -> bool {
        // SAFETY: the caller's.
        unsafe { this.as_ref() }.vtable.sent != 0
    }

    /// # Safety
    /// As above; it is dated.
    unsafe fn date(this: NonNull<Envelope>) -> NonNull<Sent> {
        // SAFETY: the table says where in the allocation it is, whose provenance the pointer has.
        unsafe { this.byte_add(this.as_ref().vtable.sent).cast() }
    }

    /// When it was sent, if it says so.
    ///
    /// # Safety
    /// As above.
    pub(crate) unsafe fn sent(this: NonNull<Envelope>) -> Option<Instant> {
        // SAFETY: the caller's.
        unsafe { if Self::is_dated(this) { Self::date(this).read().0 } else { None } }
    }

    /// # Safety
    /// `node` came out of an inbox that holds envelopes only.
    #[inline]
    pub(crate) unsafe fn from_node(node: *mut Node) -> NonNull<Envelope> {
        // SAFETY: the node is the envelope's first field, and never null.
        unsafe { NonNull::new_unchecked(node).cast() }
    }

    #[inline]
    pub(crate) fn node(this: NonNull<Envelope>) -> *mut Node {
        this.cast().as_ptr()
    }
}

/// By which right a message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Within the capacity, and not while the executor drains if it comes from outside.
    Ordinary,
    /// Whatever the capacity, and counted in the length: an answer; what has waited in line for its place.
    Exempt,
    /// Prepaid by the receiver: does not count against the others. Its handling is [noted](prepaid::in_hand).
    Prepaid,
}

/// What becomes an envelope once a place is reserved for it, so that a refusal costs no memory.
pub(crate) trait Parcel: Sized {
    /// What its sender gets for it.
    type Receipt;

    fn receipt(envelope: NonNull<Envelope>) -> Self::Receipt;
    /// The envelope, in memory of the sending side.
    fn pack(self, heap: &Heap) -> NonNull<Envelope>;
    /// Puts it into an actor's mailbox, behind all others: in an envelope.
    ///
    /// # Safety
    /// A place was reserved there for it, and it is made for that actor, which is not timed.
    #[inline]
    unsafe fn put(self, to: &Header, from: &impl Origin) -> Self::Receipt {
        // SAFETY: the caller's.
        Self::receipt(unsafe { push_alone(self, to, from) })
    }

    /// The same with room for the instant of sending: for a timed actor.
    fn pack_dated(self, heap: &Heap) -> NonNull<Envelope>;
}

/// Packs a message and pushes it, in an envelope of its own.
///
/// # Safety
/// As for [`Parcel::put`].
#[inline]
pub(crate) unsafe fn push_alone<P: Parcel>(parcel: P, to: &Header, from: &impl Origin) -> NonNull<Envelope> {
    let envelope = from.with_heap(|heap| parcel.pack(heap));
    // SAFETY: the caller's; an envelope that was just packed is on no queue.
    unsafe { to.inbox.push(Envelope::node(envelope)) };
    envelope
}

/// One that waited. It was made for its actor, so it is dated if need be.
impl Parcel for NonNull<Envelope> {
    type Receipt = ();

    fn receipt(_: NonNull<Envelope>) {}
    fn pack(self, _: &Heap) -> NonNull<Envelope> {
        self
    }
    fn pack_dated(self, _: &Heap) -> NonNull<Envelope> {
        self
    }
}

fn stopped_or_shutdown(header: &Header) -> Refusal {
    if header.core().closing() { Refusal::ShuttingDown } else { Refusal::Stopped }
}

/// Puts a message into a mailbox, and the actor into a queue if it was idle. Refused: the parcel is the caller's again.
///
/// # Safety
/// The caller holds a strong reference to the cell; the parcel's envelope is made for its type, and the only pointer to it
/// is given up.
#[inline]
pub(crate) unsafe fn deliver<P: Parcel>(
    header: NonNull<Header>,
    parcel: P,
    lane: Lane,
) -> Result<P::Receipt, (P, Refusal)> {
    // SAFETY: the caller's reference keeps it alive.
    let core = unsafe { header.as_ref() }.core();
    Local::with(&core.scheduler, |local| match local {
        Some(local) => {
            // SAFETY: the caller's.
            let done = unsafe { push(header, parcel, lane, local) };
            if done.is_ok() {
                Tally::of(local).accepted.add(1);
            }
            done
        }
        // SAFETY: the caller's.
        None => unsafe { deliver_from_outside(header, parcel, lane) },
    })
}

/// # Safety
/// As for [`deliver`].
#[cold]
unsafe fn deliver_from_outside<P: Parcel>(
    header: NonNull<Header>,
    parcel: P,
    lane: Lane,
) -> Result<P::Receipt, (P, Refusal)> {
    // SAFETY: the caller's reference keeps it alive.
    let core = unsafe { header.as_ref() }.core();
    let mut pass = core.scheduler.gate.enter();
    if !core.scheduler.birth.is_open()
        && let Some(refusal) = closed_to_outside(core, lane)
    {
        return Err((parcel, refusal));
    }
    // SAFETY: the caller's.
    let done = unsafe { push(header, parcel, lane, &core.scheduler) };
    if done.is_ok() {
        pass.count();
    }
    done
}

/// Why a message from outside is refused, if it is, where something is the matter.
#[cold]
fn closed_to_outside(core: &Core, lane: Lane) -> Option<Refusal> {
    if core.forked() {
        Some(Refusal::Forked)
    } else {
        (lane == Lane::Ordinary && core.draining() && !core.on_crew()).then_some(Refusal::ShuttingDown)
    }
}

/// Where a message is sent from: a worker of the crew, or anywhere else.
pub(crate) trait Origin {
    fn with_heap<R>(&self, f: impl FnOnce(&Heap) -> R) -> R;
    fn schedule(&self, task: Task);
    /// Returns `true` if the sender is no worker of the crew.
    fn is_outside(&self) -> bool;
}

impl Origin for Local {
    #[inline(always)]
    fn with_heap<R>(&self, f: impl FnOnce(&Heap) -> R) -> R {
        f(self.heap())
    }
    #[inline(always)]
    fn schedule(&self, task: Task) {
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
        self.memory.outside(f)
    }
    #[inline(always)]
    fn schedule(&self, task: Task) {
        self.push_from_outside(task);
    }
    #[inline(always)]
    fn is_outside(&self) -> bool {
        true
    }
}

/// # Safety
/// As for [`deliver`].
#[inline]
unsafe fn push<P: Parcel>(
    header: NonNull<Header>,
    parcel: P,
    lane: Lane,
    from: &impl Origin,
) -> Result<P::Receipt, (P, Refusal)> {
    // SAFETY: the caller's reference keeps it alive.
    let this = unsafe { header.as_ref() };
    crate::sync::prefetch(&raw const this.state);
    let reserved = match lane {
        Lane::Ordinary => match this.state.reserve(this.capacity, from.is_outside()) {
            Reserve::Full => prepaid::reserve_beside(this, from.is_outside()),
            reserved => reserved,
        },
        Lane::Exempt => this.state.reserve_exempt(),
        Lane::Prepaid => {
            let reserved = this.state.reserve_exempt();
            if matches!(reserved, Reserve::Accepted { .. }) {
                this.cold().prepaid.add_one();
            }
            reserved
        }
    };
    match reserved {
        Reserve::Accepted { schedule: idle } => {
            // SAFETY: ours until now, the inbox's from now on; the transition said whether to schedule, and that the
            // receiver's end is ours until then.
            unsafe {
                let receipt = if this.stopwatch().is_some() {
                    P::receipt(push_dated(this, parcel, idle))
                } else if idle {
                    let envelope = from.with_heap(|heap| parcel.pack(heap));
                    this.inbox.put_first(Envelope::node(envelope));
                    P::receipt(envelope)
                } else {
                    parcel.put(this, from)
                };
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

/// Packs and links a message for a timed actor, which the caller is about to make runnable if it was `idle`.
///
/// # Safety
/// As for [`deliver`].
#[cold]
#[inline(never)]
unsafe fn push_dated<P: Parcel>(this: &Header, parcel: P, idle: bool) -> NonNull<Envelope> {
    let envelope = this.core().with_heap(|heap| parcel.pack_dated(heap));
    let stopwatch = this.stopwatch().expect("it is timed");
    // SAFETY: the caller's.
    unsafe { link_dated(this, stopwatch, envelope, idle) };
    envelope
}

/// # Safety
/// As for [`deliver`].
unsafe fn link_dated(this: &Header, stopwatch: &Stopwatch, envelope: NonNull<Envelope>, idle: bool) {
    let now = time::now();
    // SAFETY: the envelope is ours until it is pushed; what the caller holds keeps the actor after that.
    unsafe {
        debug_assert!(Envelope::is_dated(envelope), "made for a timed actor");
        if Envelope::is_dated(envelope) {
            Envelope::date(envelope).write(Sent(Some(now)));
        }
        if idle {
            stopwatch.runnable(now);
            stopwatch.put_first(now);
            this.inbox.put_first(Envelope::node(envelope));
        } else if this.inbox.push(Envelope::node(envelope)) {
            stopwatch.pushed_first(now);
        }
    }
}

/// An exempt message: what the actor prepaid. If it has closed meanwhile the message is a dead letter, and is dropped here: an answer
/// with its callback, of which another reply may be a part, and so on.
///
/// # Safety
/// The envelope is made for an actor of the owner's type, and the only pointer to it is given up.
pub(crate) unsafe fn deliver_exempt(owner: Strong, envelope: NonNull<Envelope>, lane: Lane) {
    // SAFETY: `owner` is a strong reference; the rest is the caller's.
    if unsafe { deliver(owner.as_ptr(), envelope, lane) }.is_ok() {
        return; // the message keeps the actor, so the owner may go
    }
    ticks::undeliverable(owner.header());
    drops::run(move || {
        let held = owner.header().held();
        // SAFETY: refused, so the only pointer is this call's again; the owner keeps its pool.
        let _ = user::guard_for(Site::Drop, &AskError::Stopped, || unsafe {
            Envelope::discard(envelope, AskError::Stopped, held);
        });
    });
}

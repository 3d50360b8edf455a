//! What waits in a mailbox, and its way there.

use super::core::Tally;
use super::header::Header;
use crate::error::{AskError, Refusal};
use crate::mailbox::inbox::Node;
use crate::mailbox::state::Reserve;
use crate::memory::Heap;
use crate::sched::local::Local;
use crate::sched::task::Task;
use std::ptr::NonNull;

/// The front of every message in a mailbox; the message lies behind it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Envelope {
    node: Node,
    vtable: &'static EnvelopeVtable,
}

/// What can be done with an envelope; either call frees it.
#[derive(Debug)]
pub(crate) struct EnvelopeVtable {
    /// Handles the message, inside its actor's turn. May panic.
    pub(crate) handle: unsafe fn(NonNull<Envelope>, NonNull<Header>),
    /// Drops the message unhandled; an asker is told the error. May panic.
    pub(crate) discard: unsafe fn(NonNull<Envelope>, AskError),
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
        unsafe { (this.as_ref().vtable.handle)(this, header) }
    }

    /// # Safety
    /// With the only pointer to it.
    pub(crate) unsafe fn discard(this: NonNull<Envelope>, why: AskError) {
        // SAFETY: the caller's.
        unsafe { (this.as_ref().vtable.discard)(this, why) }
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
    /// Prepaid by the receiver.
    Exempt,
}

/// What becomes an envelope once a place is reserved for it, so that a refusal costs no memory.
pub(crate) trait Parcel: Sized {
    /// The envelope, in memory of the sending side.
    fn pack(self, heap: &Heap) -> NonNull<Envelope>;
}

/// One that waited.
impl Parcel for NonNull<Envelope> {
    fn pack(self, _: &Heap) -> NonNull<Envelope> {
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
) -> Result<NonNull<Envelope>, (P, Refusal)> {
    // SAFETY: the caller's reference keeps it alive.
    let core = unsafe { header.as_ref() }.core();
    Local::with(&core.scheduler, |local| match local {
        Some(local) => {
            // SAFETY: the caller's.
            let done = unsafe {
                push(header, parcel, lane, |parcel| parcel.pack(local.heap()), |task| local.push(task))
            };
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
) -> Result<NonNull<Envelope>, (P, Refusal)> {
    // SAFETY: the caller's reference keeps it alive.
    let core = unsafe { header.as_ref() }.core();
    let mut pass = core.scheduler.gate.enter();
    if lane == Lane::Ordinary && core.draining() && !core.on_crew() {
        return Err((parcel, Refusal::ShuttingDown));
    }
    // SAFETY: the caller's.
    let done = unsafe {
        let pack = |parcel: P| core.scheduler.memory.outside(|heap| parcel.pack(heap));
        push(header, parcel, lane, pack, |task| core.scheduler.push_from_outside(task))
    };
    if done.is_ok() {
        pass.count();
    }
    done
}

/// # Safety
/// As for [`deliver`].
#[inline]
unsafe fn push<P>(
    header: NonNull<Header>,
    parcel: P,
    lane: Lane,
    pack: impl FnOnce(P) -> NonNull<Envelope>,
    schedule: impl FnOnce(Task),
) -> Result<NonNull<Envelope>, (P, Refusal)> {
    // SAFETY: the caller's reference keeps it alive.
    let this = unsafe { header.as_ref() };
    crate::sync::prefetch(&raw const this.state);
    let reserved = match lane {
        Lane::Ordinary => this.state.reserve(this.capacity),
        Lane::Exempt => this.state.reserve_exempt(),
    };
    match reserved {
        Reserve::Accepted { schedule: idle } => {
            let envelope = pack(parcel);
            // SAFETY: ours until now, the inbox's from now on; the transition said whether to schedule, and that the
            // receiver's end is ours until then.
            unsafe {
                if idle {
                    this.inbox.put_first(Envelope::node(envelope));
                    schedule(Header::runnable(header));
                } else {
                    this.inbox.push(Envelope::node(envelope));
                }
            }
            Ok(envelope)
        }
        Reserve::Full => Err((parcel, Refusal::Full)),
        Reserve::Closed => Err((parcel, stopped_or_shutdown(this))),
    }
}

/// An exempt message: what the actor prepaid. If it has closed meanwhile the message is a dead letter.
///
/// # Safety
/// As for [`deliver`].
pub(crate) unsafe fn deliver_exempt(header: NonNull<Header>, envelope: NonNull<Envelope>) {
    // SAFETY: the caller's.
    unsafe {
        if deliver(header, envelope, Lane::Exempt).is_err() {
            let core = header.as_ref().core();
            core.count_here(|tally| &tally.accepted, 1);
            core.count_dead(super::event::DeadLetterReason::Stopped, 1);
            crate::panics::contain(|| Envelope::discard(envelope, AskError::Stopped));
        }
    }
}

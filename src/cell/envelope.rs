//! What waits in a mailbox, and its way there.

use super::header::Header;
use crate::error::{AskError, Refusal};
use crate::mailbox::inbox::Node;
use crate::mailbox::state::Reserve;
use crate::sched::local::Local;
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

/// Would an ordinary message be refused now? Saves the envelope; the answer may be out of date.
#[inline]
pub(crate) fn refused_already(header: &Header) -> Option<Refusal> {
    let now = header.state.peek();
    if now.closed() {
        Some(stopped_or_shutdown(header))
    } else if now.len() >= header.capacity || now.room_wait() {
        Some(Refusal::Full)
    } else {
        None
    }
}

fn stopped_or_shutdown(header: &Header) -> Refusal {
    if header.core().closing() { Refusal::ShuttingDown } else { Refusal::Stopped }
}

/// Puts an envelope into a mailbox, and the actor into a queue if it was idle. Refused: it is the caller's again.
///
/// # Safety
/// The caller holds a strong reference to the cell, and gives up the only pointer to an envelope made for it.
#[inline]
pub(crate) unsafe fn deliver(
    header: NonNull<Header>,
    envelope: NonNull<Envelope>,
    lane: Lane,
) -> Result<(), Refusal> {
    // SAFETY: the caller's reference keeps it alive.
    let this = unsafe { header.as_ref() };
    let core = this.core();
    Local::with(&core.scheduler, |local| match local {
        // SAFETY: the caller's.
        Some(local) => unsafe {
            push(header, envelope, lane)?;
            core.count(Some(local), |tally| &tally.accepted, 1);
            Ok(())
        },
        None => {
            let mut pass = core.scheduler.gate.enter();
            if lane == Lane::Ordinary && core.draining() {
                return Err(Refusal::ShuttingDown);
            }
            // SAFETY: the caller's.
            unsafe { push(header, envelope, lane)? };
            pass.count();
            Ok(())
        }
    })
}

/// # Safety
/// As for [`deliver`].
#[inline]
unsafe fn push(header: NonNull<Header>, envelope: NonNull<Envelope>, lane: Lane) -> Result<(), Refusal> {
    // SAFETY: the caller's reference keeps it alive.
    let this = unsafe { header.as_ref() };
    let reserved = match lane {
        Lane::Ordinary => this.state.reserve(this.capacity),
        Lane::Exempt => this.state.reserve_exempt(),
    };
    match reserved {
        Reserve::Accepted { schedule } => {
            // SAFETY: ours until now, the inbox's from now on; the transition said whether to schedule.
            unsafe {
                this.inbox.push(Envelope::node(envelope));
                if schedule {
                    Header::schedule(header);
                }
            }
            Ok(())
        }
        Reserve::Full => Err(Refusal::Full),
        Reserve::Closed => Err(stopped_or_shutdown(this)),
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
            Local::with(&core.scheduler, |local| {
                core.count(local, |tally| &tally.accepted, 1);
                core.count_dead(local, super::event::DeadLetterReason::Stopped, 1);
            });
            crate::panics::contain(|| Envelope::discard(envelope, AskError::Stopped));
        }
    }
}

/// A message into the actor's own mailbox or on behalf of one who waited: by the turn itself, already counted in.
///
/// # Safety
/// As for [`deliver`]; the calling thread is a worker of the crew.
pub(crate) unsafe fn deliver_in_turn(
    header: NonNull<Header>,
    envelope: NonNull<Envelope>,
) -> Result<(), Refusal> {
    // SAFETY: the caller's.
    unsafe { deliver(header, envelope, Lane::Exempt) }
}

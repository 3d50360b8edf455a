//! Envelopes, the messages of a mailbox.

use super::batch::Taking;
use super::header::Header;
use crate::error::AskError;
use crate::mailbox::link::Node;
use crate::mailbox::segment;
use crate::memory::Held;
use crate::time::Instant;
use std::any::TypeId;
use std::ptr::NonNull;

/// The front of every message in a mailbox. The message lies behind it.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Envelope {
    node: Node,
    vtable: &'static EnvelopeVtable,
}

/// An envelope, for code without the message's type.
pub(crate) type AnyEnvelope = NonNull<Envelope>;

/// Where the message to handle is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In an envelope of its own, which the handler frees.
    Boxed,
    /// In a slot of a segment, which the handler does not free. There is no envelope in front of
    /// the message, so the memory there must not be read.
    SegmentSlot,
}

/// The functions for an envelope. Either call frees it.
#[derive(Debug)]
pub(crate) struct EnvelopeVtable {
    /// Handles the message, inside its actor's turn. May panic.
    pub(crate) handle: unsafe fn(NonNull<Envelope>, NonNull<Header>, Storage),
    /// Drops the message unhandled. An asker is told the error. May panic. The proof is of the pool
    /// that the envelope is from.
    pub(crate) discard: unsafe fn(NonNull<Envelope>, AskError, Held<'_>),
    /// Offset of the [`SentAt`] in the envelope, or 0 if it has none. See [`timestamp_offset`].
    pub(crate) sent: usize,
    /// How the envelope takes part in a batch. If set, the message is handled only in this way.
    pub(crate) batched: Option<Batched>,
    /// Marks an ask's slot, so the side that frees the slot has the note of [`Sharing`] removed.
    /// Set only if the envelope is the ask that its asker may wait for.
    ///
    /// [`Sharing`]: super::sharing::Sharing
    pub(crate) mark_taken: Option<unsafe fn(NonNull<Envelope>)>,
    /// Returns the name of the message's type, for events. For an answer, the name of its type.
    pub(crate) message_type: fn() -> &'static str,
    /// Whether the envelope counts as a message: accepted, and then handled or dead. A mark does
    /// not.
    pub(crate) counted: bool,
}

/// The part of an envelope for the instant of sending: nothing, or [`SentAt`] if the envelope is
/// made for a timed actor.
pub(crate) trait Timestamp: Copy + Send + 'static {
    const BLANK: Self;
}

impl Timestamp for () {
    const BLANK: () = ();
}

/// When a message was accepted, or when a tick was due.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct SentAt(pub(crate) Option<Instant>);

impl Timestamp for SentAt {
    const BLANK: SentAt = SentAt(None);
}

/// Returns the [`EnvelopeVtable::sent`] of an envelope with an `S` at `offset`.
pub(crate) const fn timestamp_offset<S: Timestamp>(offset: usize) -> usize {
    if size_of::<S>() == 0 { 0 } else { offset }
}

/// How an envelope takes part in a batch. Part of the envelope's table.
#[derive(Debug)]
pub(crate) struct Batched {
    /// The message's type.
    pub(crate) message: TypeId,
    /// Writes message and reply to the given place, with the layout that the actor's type and the
    /// message's type determine. Frees the envelope.
    pub(crate) open: unsafe fn(NonNull<Envelope>, &Header, NonNull<()>),
    /// Returns `true` if the message's deadline has passed.
    pub(crate) expired: unsafe fn(NonNull<Envelope>) -> bool,
    /// Handles a batch that begins with this envelope. May panic.
    pub(crate) handle: unsafe fn(NonNull<Envelope>, &'static Batched, &Taking<'_>),
}

impl EnvelopeVtable {
    /// Makes the table of a message that comes in no batch and has no asker that waits for it.
    pub(crate) const fn of_single(
        handle: unsafe fn(NonNull<Envelope>, NonNull<Header>, Storage),
        discard: unsafe fn(NonNull<Envelope>, AskError, Held<'_>),
        sent: usize,
        message_type: fn() -> &'static str,
    ) -> Self {
        EnvelopeVtable {
            handle,
            discard,
            sent,
            batched: None,
            mark_taken: None,
            message_type,
            counted: true,
        }
    }

    /// Makes the table one of an envelope that does not count as a message.
    pub(crate) const fn uncounted(self) -> Self {
        EnvelopeVtable { counted: false, ..self }
    }

    /// Handles a message in a slot.
    ///
    /// # Safety
    /// Called in a turn of the actor that the message was addressed to, just after the pop of the
    /// message.
    #[inline]
    pub(super) unsafe fn handle_in_slot(
        kind: &segment::SegmentKind,
        slot: NonNull<()>,
        header: NonNull<Header>,
    ) {
        // SAFETY: only told messages make segments, and their kinds have an `EnvelopeVtable` as
        // their table. The pointer stays inside the segment: in front of a slot lie the segment's
        // front or other slots, which together have at least the size of an envelope. With
        // `Storage::SegmentSlot` the function reads nothing in front of the message.
        unsafe {
            let table: &Self = &*kind.table().cast();
            (table.handle)(
                slot.byte_sub(size_of::<Envelope>()).cast(),
                header,
                Storage::SegmentSlot,
            );
        }
    }
}

impl Envelope {
    pub(crate) fn new(vtable: &'static EnvelopeVtable) -> Self {
        Envelope { node: Node::new(), vtable }
    }

    /// Handles the message.
    ///
    /// # Safety
    /// Called in a turn of the actor that the message was addressed to, with the only pointer to
    /// the envelope.
    #[inline]
    pub(crate) unsafe fn handle_message(this: NonNull<Envelope>, header: NonNull<Header>) {
        // SAFETY: the envelope is alive, no other pointer exists, and the table was made for its
        // type. A turn of its actor runs.
        unsafe { (this.as_ref().vtable.handle)(this, header, Storage::Boxed) }
    }

    /// Drops the message unhandled.
    ///
    /// # Safety
    /// `this` is the only pointer to the envelope, and `held` is of the pool that the envelope is
    /// from.
    pub(crate) unsafe fn discard_message(this: NonNull<Envelope>, why: AskError, held: Held<'_>) {
        // SAFETY: the envelope is alive, no other pointer exists, and `held` proves that the pool
        // lives.
        unsafe { (this.as_ref().vtable.discard)(this, why, held) }
    }

    /// Marks the message as taken from a shared queue. Returns `true` if it is an ask that an actor
    /// may wait for.
    ///
    /// # Safety
    /// `this` is the only pointer to the envelope.
    pub(super) unsafe fn mark_if_ask(this: NonNull<Envelope>) -> bool {
        // SAFETY: the envelope is alive, no other pointer exists, and the table was made for its
        // type.
        unsafe { this.as_ref().vtable.mark_taken.map(|mark| mark(this)) }.is_some()
    }

    /// Returns the name of the message's type.
    ///
    /// # Safety
    /// The envelope belongs to the caller.
    pub(crate) unsafe fn message_type(this: NonNull<Envelope>) -> &'static str {
        // SAFETY: the caller owns the envelope, so it is alive.
        (unsafe { this.as_ref() }.vtable.message_type)()
    }

    /// Returns `true` if the envelope counts as a message.
    ///
    /// # Safety
    /// The envelope belongs to the caller.
    pub(super) unsafe fn is_counted(this: NonNull<Envelope>) -> bool {
        // SAFETY: the caller owns the envelope, so it is alive.
        unsafe { this.as_ref() }.vtable.counted
    }

    /// Returns how a batch handles the message, if batches may contain it.
    ///
    /// # Safety
    /// The envelope belongs to an actor's turn that runs here, so it is alive.
    #[inline]
    pub(super) unsafe fn batch_table(this: NonNull<Envelope>) -> Option<&'static Batched> {
        // SAFETY: the turn that runs here owns the envelope.
        unsafe { this.as_ref() }.vtable.batched.as_ref()
    }

    /// Returns `true` if the envelope has room for the instant of sending.
    ///
    /// # Safety
    /// The envelope belongs to the caller, or to an actor in its turn here.
    pub(crate) unsafe fn is_dated(this: NonNull<Envelope>) -> bool {
        // SAFETY: the caller or the turn that runs here owns the envelope, so it is alive.
        unsafe { this.as_ref() }.vtable.sent != 0
    }

    /// # Safety
    /// The envelope belongs to the caller, or to an actor in its turn here, and is dated.
    pub(super) unsafe fn sent_pointer(this: NonNull<Envelope>) -> NonNull<SentAt> {
        // SAFETY: the envelope is alive. Its table gives the offset inside the allocation, and the
        // pointer has the provenance of the whole allocation.
        unsafe { this.byte_add(this.as_ref().vtable.sent).cast() }
    }

    /// Returns when the message was sent, if the envelope says so.
    ///
    /// # Safety
    /// The envelope belongs to the caller, or to an actor in its turn here.
    pub(crate) unsafe fn sent_at(this: NonNull<Envelope>) -> Option<Instant> {
        // SAFETY: the caller or the turn that runs here owns the envelope. `sent_pointer` is called
        // only for a dated one.
        unsafe { if Self::is_dated(this) { Self::sent_pointer(this).read().0 } else { None } }
    }

    /// # Safety
    /// `node` came out of an inbox that holds envelopes only.
    #[inline]
    pub(crate) unsafe fn from_node(node: *mut Node) -> NonNull<Envelope> {
        // SAFETY: an inbox never yields null, and the node is the first field of an envelope.
        unsafe { NonNull::new_unchecked(node).cast() }
    }

    #[inline]
    pub(crate) fn node_of(this: NonNull<Envelope>) -> *mut Node {
        this.cast().as_ptr()
    }
}

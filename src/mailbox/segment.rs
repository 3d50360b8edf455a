//! Segments: several messages of one type behind one link of an inbox.
//!
//! A backlog of messages with a block each touches cold memory twice: when they are sent, and when
//! they are read. So a sender that finds many waiting messages pushes a segment, a node with slots
//! for up to [`SLOTS`] messages and its own message in the first slot. Later senders write into the
//! next slots, as long as the segment is on top and of the same type. (Segmented queues are common;
//! crossbeam's `SegQueue` and tokio's channels have them. Here segments lie on a stack that is
//! taken whole.)
//!
//! A link to a segment says how many slots are claimed (see `link.rs`). The stack's top is such a
//! link. One compare-and-swap therefore shows both facts: the segment is still on top, and the slot
//! is the caller's.
//!
//! | a slot is | becomes | by |
//! |---|---|---|
//! | free | claimed | a sender's step on the stack's top; the first slot: its first sender |
//! | claimed | filled | its sender, if the segment is of the right type |
//! | claimed | void | its sender, if not: only a claimed slot allows a look at the type |
//! | filled, void | passed | the receiver, in order; a message stays until it comes again |
//!
//! - A sender with a claimed slot may read the segment until the slot is marked. The receiver
//!   passes only marked slots, and frees the segment after passing all of them. So no sender is in
//!   a freed segment, and no sender has to announce a departure.
//! - A claimed slot without a mark is a gap, like a place that was reserved in the state word and
//!   is not linked yet. To the receiver nothing is linked there, and its turn ends. No sender ever
//!   waits for another.
//! - There is no ABA problem. The segment on top may be taken, freed, begun anew and pushed again
//!   between a sender's look and its step. Then the sender has claimed a slot of the new segment,
//!   and checks the new segment's type.
//!
//! Loom model: `models::segments`. Needed orderings: `cargo xtask weaken segments`.

use super::link::{self, ALIGN, MOST_CLAIMED, Node, claimed_slots, is_segment};
use crate::memory::{self, Heap, Held};
use crate::sync::{AtomicU8, Ordering::*, UnsafeCell, chaos};
use std::any::TypeId;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// Maximal number of messages in a segment. The number fits into the free bits of a link, and the
/// marks, with the receiver's position, fit into two words.
const SLOTS: usize = 15;
/// Number of slots of a segment of larger messages. Such a segment has the last slots, so every
/// segment is full when [`SLOTS`] are claimed.
const FEW: usize = if cfg!(heist_loom) { 2 } else { 7 };
const _: () = assert!(SLOTS == MOST_CLAIMED);

const FREE: u8 = 0;
const FILLED: u8 = 1;
const VOID: u8 = 2;

/// A segment's front. The slots lie behind it.
#[derive(Debug)]
#[repr(C, align(32))]
pub(crate) struct Segment {
    pub(super) node: Node,
    kind: UnsafeCell<&'static SegmentKind>,
    marks: [AtomicU8; SLOTS],
    /// The slot that the receiver passes next.
    next: Cell<u8>,
}

const _: () = assert!(align_of::<Segment>() == ALIGN);

/// Message type of a segment: layout, and the functions that handle, unpack and free.
#[derive(Debug)]
pub(crate) struct SegmentKind {
    /// The type that the messages are handled as. A mailbox belongs to one actor, so this type
    /// determines the kind. The address of the `SegmentKind` would not, since the compiler may
    /// duplicate it. Nor would the type in the slots: a box may stand for its content.
    handled_as: TypeId,
    size: usize,
    /// Number of the first slot.
    first: usize,
    /// Table with which the floors above handle a message in a slot.
    table: *const (),
    /// Moves a message from its slot to a node of its own. The second argument names the mailbox,
    /// as the floors above know it.
    unpack: unsafe fn(NonNull<()>, NonNull<()>) -> *mut Node,
    /// Gives a segment's memory back: see [`free_memory`].
    free: unsafe fn(NonNull<Segment>),
}

impl SegmentKind {
    /// Returns the kind of messages that lie in slots as an `M` and are handled as `handled_as`,
    /// which determines `M`. Returns `None` if they are too large, or aligned too strictly.
    pub(crate) const fn for_message<M: 'static>(
        handled_as: TypeId,
        table: *const (),
        unpack: unsafe fn(NonNull<()>, NonNull<()>) -> *mut Node,
        free: unsafe fn(NonNull<Segment>),
    ) -> Option<Self> {
        let (first, size) = (first_slot_for::<M>(), size_of::<M>());
        if first == SLOTS || align_of::<M>() > 2 * size_of::<usize>() {
            return None;
        }
        Some(SegmentKind { handled_as, size, first, table, unpack, free })
    }

    #[inline]
    pub(crate) fn table(&self) -> *const () {
        self.table
    }

    /// Moves a message from its slot to a node of its own.
    ///
    /// # Safety
    /// `slot` is a filled slot of this kind. The caller moves the message out, in the receiver's
    /// turn.
    pub(super) unsafe fn unpack(&self, slot: NonNull<()>, whose: NonNull<()>) -> *mut Node {
        // SAFETY: the slot is of this kind, and its message is read out once.
        unsafe { (self.unpack)(slot, whose) }
    }

    /// Returns a pointer to a slot.
    ///
    /// # Safety
    /// The segment is of this kind, and has the slot.
    #[inline]
    unsafe fn slot_at(&self, segment: NonNull<Segment>, number: usize) -> NonNull<()> {
        // SAFETY: slots follow the segment's front without a gap, starting with number `first`, so
        // the pointer stays inside the segment.
        unsafe { segment.add(1).byte_add((number - self.first) * self.size) }.cast()
    }
}

/// Returns the number of the first slot for messages of type `M`. A segment takes a block of at
/// most 256 bytes.
const fn first_slot_for<M>() -> usize {
    match size_of::<M>() {
        0..=8 if !cfg!(heist_loom) => 0,
        0..=32 => SLOTS - FEW,
        _ => SLOTS,
    }
}

/// A segment with its slots, as memory knows it.
#[repr(C)]
struct Slots<M, const N: usize> {
    front: Segment,
    slots: [MaybeUninit<M>; N],
}

/// Makes a segment with its first message, to be [pushed](super::inbox::Inbox::push_segment).
///
/// # Safety
/// `kind` is the kind of messages of type `M`, and the caller holds the heap.
#[inline]
pub(crate) unsafe fn new_with_first<M: 'static>(
    heap: &Heap,
    kind: &'static SegmentKind,
    message: M,
) -> NonNull<Segment> {
    debug_assert_eq!(kind.size, size_of::<M>());
    let first = first_slot_for::<M>();
    let segment: NonNull<Segment> = if first == 0 {
        memory::alloc_uninit::<Slots<M, SLOTS>>(heap, memory::Kind::Message).cast()
    } else {
        memory::alloc_uninit::<Slots<M, FEW>>(heap, memory::Kind::Message).cast()
    };
    // Built by a function, since loom's atomics are not constants.
    let marks =
        std::array::from_fn(|slot| AtomicU8::new(if slot == first { FILLED } else { FREE }));
    let next = Cell::new(first as u8);
    // SAFETY: the memory is new and large enough for the front and the slots, and `first` is one of
    // them. Senders write the other slots when they claim them.
    unsafe {
        segment.write(Segment { node: Node::new(), kind: UnsafeCell::new(kind), marks, next });
        kind.slot_at(segment, first).cast::<M>().write(message);
    }
    segment
}

/// Gives a segment's memory back, without dropping any message in it.
///
/// # Safety
/// The segment comes from [`new_with_first`], for messages of type `M`, and all its slots were
/// passed. `here`, if given, is a heap that the caller holds. `held` is of the pool that the
/// segment came from.
pub(crate) unsafe fn free_memory<M>(
    here: Option<&Heap>,
    segment: NonNull<Segment>,
    held: Held<'_>,
) {
    // SAFETY: `new_with_first` took the memory as this type, and the receiver has passed all slots,
    // so no thread uses it.
    unsafe {
        if first_slot_for::<M>() == 0 {
            memory::free_without_drop(
                here,
                memory::Kind::Message,
                segment.cast::<Slots<M, SLOTS>>(),
                held,
            );
        } else {
            memory::free_without_drop(
                here,
                memory::Kind::Message,
                segment.cast::<Slots<M, FEW>>(),
                held,
            );
        }
    }
}

/// A claimed slot. Its sender must mark it.
#[must_use = "the receiver waits for it"]
pub(super) struct SlotClaim {
    segment: NonNull<Segment>,
    slot: usize,
}

impl SlotClaim {
    /// Puts the message into the slot. If the segment is of another type, the slot becomes void and
    /// the message comes back.
    ///
    /// # Safety
    /// `kind` is the kind of messages of type `M`.
    #[inline]
    pub(super) unsafe fn fill_slot<M>(
        self,
        kind: &'static SegmentKind,
        message: M,
    ) -> Result<(), M> {
        // SAFETY: the slot is claimed and not marked, so the segment is not freed.
        let segment = unsafe { self.segment.as_ref() };
        let mark = &segment.marks[self.slot];
        // SAFETY: written before the segment was pushed, and not again.
        let its = segment.kind.with(|its| unsafe { *its });
        // Addresses first: the usual case is one comparison. Two different addresses may still be
        // one kind.
        if !ptr::eq(its, kind) && its.handled_as != kind.handled_as {
            // Release: as below.
            mark.store(VOID, Release);
            return Err(message);
        }
        // SAFETY: the sender alone has the slot until it is marked, and the segment's kind has
        // slots for `M`.
        unsafe { kind.slot_at(self.segment, self.slot).cast::<M>().write(message) };
        chaos();
        // Release: pairs with the Acquire in `next_filled`. The message is complete before it is
        // read, and this sender's accesses come before the segment is freed.
        mark.store(FILLED, Release);
        Ok(())
    }
}

/// Returns the link to a segment that was just begun.
#[inline]
pub(super) fn link_to_new(segment: NonNull<Segment>) -> *mut Node {
    // SAFETY: the segment was begun and not pushed, so the caller alone has it.
    let first = unsafe { segment.as_ref().kind.with(|kind| (*kind).first) };
    link::to_segment(segment.as_ptr().cast(), first + 1)
}

/// Returns the slot that [`link::claim_one_more`] claims.
#[inline]
pub(super) fn slot_to_claim(link: *mut Node) -> SlotClaim {
    SlotClaim { segment: segment_of(link), slot: claimed_slots(link) }
}

/// Returns the segment that a link leads to.
#[inline]
fn segment_of(link: *mut Node) -> NonNull<Segment> {
    // SAFETY: `link_to_new` made the link from a pointer that is not null, and clearing the low
    // bits restores it.
    unsafe { NonNull::new_unchecked(link::segment_node(link).cast()) }
}

/// The outcome of a look at a segment's next slot.
pub(super) enum NextSlot {
    /// A message, which stays in its slot until the receiver comes again.
    Slot(&'static SegmentKind, NonNull<()>),
    /// A slot that its sender has not marked yet.
    Gap,
    /// The end. The segment has been freed, and this is the link that followed.
    Over(*mut Node),
}

/// Passes the next filled slot. Frees the segment if all slots were passed.
///
/// # Safety
/// The caller is the receiver, and has taken the link, which leads to a segment.
#[inline]
pub(super) unsafe fn next_filled(link: *mut Node) -> NextSlot {
    let segment = segment_of(link);
    // SAFETY: the receiver has taken the segment, and only the receiver frees it.
    let this = unsafe { segment.as_ref() };
    loop {
        let slot = usize::from(this.next.get());
        if slot == claimed_slots(link) {
            // SAFETY: the receiver has taken the segment, and has passed all claimed slots.
            return NextSlot::Over(unsafe { free_passed(segment) });
        }
        // Acquire: pairs with the Release in `fill_slot`.
        let mark = this.marks[slot].load(Acquire);
        if mark == FREE {
            return NextSlot::Gap;
        }
        this.next.set(slot as u8 + 1);
        if mark == FILLED {
            // SAFETY: the kind was written before the segment was pushed, and the segment has this
            // slot, since it was claimed.
            return unsafe {
                let kind = this.kind.with(|kind| *kind);
                NextSlot::Slot(kind, kind.slot_at(segment, slot))
            };
        }
    }
}

/// Returns the list without the segment at its head, if all slots of that segment were passed. The
/// segment is freed then.
///
/// # Safety
/// The caller is the receiver, and has taken the list.
#[inline]
pub(super) unsafe fn without_the_passed(list: *mut Node) -> *mut Node {
    // SAFETY: the receiver has taken the segment, and only the receiver frees it. `free_passed` is
    // called once all its slots were passed.
    unsafe {
        if is_segment(list)
            && usize::from(segment_of(list).as_ref().next.get()) == claimed_slots(list)
        {
            return free_passed(segment_of(list));
        }
    }
    list
}

/// Frees a segment and returns the link that follows.
///
/// # Safety
/// The caller is the receiver, and has passed all slots of the segment.
unsafe fn free_passed(segment: NonNull<Segment>) -> *mut Node {
    // SAFETY: all slots were passed, so no sender is in the segment, and the receiver alone has it.
    unsafe {
        let after = segment.as_ref().node.next.get();
        // `with_mut`, so that loom reports a sender that still reads the kind.
        let kind = segment.as_ref().kind.with_mut(|kind| *kind);
        (kind.free)(segment);
        after
    }
}

//! Segments: several messages of one type behind one link of an inbox.
//!
//! A backlog of messages with a block each comes from cold memory twice: when they are sent, and when they are read. So a
//! sender that finds many waiting pushes a segment, a node with slots for up to [`SLOTS`] messages and its own in the first of them. Who
//! sends after it writes into the next slot, as long as the segment is on top and of the same type. (Segmented queues are
//! usual, crossbeam's `SegQueue` and tokio's channels have them; here they lie on a stack that is taken whole.)
//!
//! How many slots are claimed is said by the links that lead to a segment, in bits that its alignment leaves free. The stack's top
//! is such a link, so one compare-and-swap is both: the segment is on top still, and the slot is mine.
//!
//! | a slot is | becomes | by |
//! |---|---|---|
//! | free | claimed | a sender's step on the stack's top; the first: by whoever begins the segment |
//! | claimed | filled | its sender, if the segment is of the right type |
//! | claimed | void | its sender, if not: nobody can look at what a segment is of before a slot keeps it |
//! | filled, void | passed | the receiver, in order; a message stays in its slot until the receiver comes again |
//!
//! - Who claimed a slot may look into the segment until it has marked the slot. The receiver passes only marked slots, and frees the
//!   segment when it has passed all. So no sender is in a segment that is freed, and none has to say that it is gone.
//! - A slot that is claimed and not marked is a gap, as a place is that was reserved in the state word and is not linked yet: to the
//!   receiver nothing is linked there, and its turn ends. No sender ever waits for another.
//! - There is no ABA problem. If the segment on top was taken, freed, begun anew and pushed once more between a sender's look and its
//!   step, then what it has claimed is a slot of the new one, and it looks at that one's type.

use super::inbox::Node;
use crate::memory::{self, Heap, Held};
use crate::sync::{AtomicU8, Ordering::*, UnsafeCell, chaos};
use std::any::TypeId;
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// The most messages in a segment: their number fits into the free bits of a link, and their marks, with the receiver's
/// place, into two words.
const SLOTS: usize = 15;
/// Slots of a segment of larger messages. They are the last ones, so every segment is full when [`SLOTS`] are claimed.
const FEW: usize = if cfg!(heist_loom) { 2 } else { 7 };
const ALIGN: usize = 32;

/// In a link's address: it leads to a segment.
const IS_SEGMENT: usize = 1;
/// One slot of that is claimed.
const CLAIMED: usize = 2;

const _: () = assert!(IS_SEGMENT + CLAIMED * SLOTS == ALIGN - 1);

const FREE: u8 = 0;
const FILLED: u8 = 1;
const VOID: u8 = 2;

/// A segment's front; its slots lie behind it.
#[derive(Debug)]
#[repr(C, align(32))]
pub(crate) struct Segment {
    pub(super) node: Node,
    kind: UnsafeCell<&'static Kind>,
    marks: [AtomicU8; SLOTS],
    /// The slot that the receiver comes to next.
    next: Cell<u8>,
}

const _: () = assert!(align_of::<Segment>() == ALIGN);

/// What a segment is of.
#[derive(Debug)]
pub(crate) struct Kind {
    /// The type that the messages are handled as. A mailbox is one actor's, so this says all. (The kind's address would not: the
    /// compiler may make several of one. Nor would what lies in the slots: a box may stand for what is in it.)
    handled_as: TypeId,
    size: usize,
    /// The number of its first slot.
    first: usize,
    /// How the floors above handle a message in a slot.
    table: *const (),
    /// Moves a message from its slot to a node of its own; for whose mailbox, as the floors above know it.
    unpack: unsafe fn(NonNull<()>, NonNull<()>) -> *mut Node,
    /// Gives a segment's memory up: see [`free`].
    free: unsafe fn(NonNull<Segment>),
}

impl Kind {
    /// Of messages that lie there as an `M` and are handled as this type, which determines `M`; `None` if they are too large, or
    /// aligned too strictly.
    pub(crate) const fn of<M: 'static>(
        handled_as: TypeId,
        table: *const (),
        unpack: unsafe fn(NonNull<()>, NonNull<()>) -> *mut Node,
        free: unsafe fn(NonNull<Segment>),
    ) -> Option<Self> {
        let (first, size) = (first::<M>(), size_of::<M>());
        if first == SLOTS || align_of::<M>() > 2 * size_of::<usize>() {
            return None;
        }
        Some(Kind { handled_as, size, first, table, unpack, free })
    }

    #[inline]
    pub(crate) fn table(&self) -> *const () {
        self.table
    }

    /// # Safety
    /// The slot is of this kind, and its message the caller's, to be moved; in the receiver's turn.
    pub(super) unsafe fn unpack(&self, slot: NonNull<()>, whose: NonNull<()>) -> *mut Node {
        // SAFETY: the caller's.
        unsafe { (self.unpack)(slot, whose) }
    }

    /// # Safety
    /// The segment is of this kind, and has that slot.
    #[inline]
    unsafe fn slot(&self, segment: NonNull<Segment>, number: usize) -> NonNull<()> {
        // SAFETY: the caller's.
        unsafe { segment.add(1).byte_add((number - self.first) * self.size) }.cast()
    }
}

/// The first slot's number for messages of this type: a segment takes a block of 256 bytes at the most.
const fn first<M>() -> usize {
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

/// A segment with its first message, to be [pushed](super::inbox::Inbox::push_segment).
///
/// # Safety
/// The kind is of this type of message, and the caller holds the heap.
#[inline]
pub(crate) unsafe fn begin<M: 'static>(heap: &Heap, kind: &'static Kind, message: M) -> NonNull<Segment> {
    debug_assert_eq!(kind.size, size_of::<M>());
    let first = first::<M>();
    let segment: NonNull<Segment> = if first == 0 {
        memory::place::<Slots<M, SLOTS>>(heap, memory::Kind::Message).cast()
    } else {
        memory::place::<Slots<M, FEW>>(heap, memory::Kind::Message).cast()
    };
    // One by one, since loom's atomics are not constants.
    let marks = std::array::from_fn(|slot| AtomicU8::new(if slot == first { FILLED } else { FREE }));
    let next = Cell::new(first as u8);
    // SAFETY: ours until it is pushed, and large enough for the slots. The others are written one by one.
    unsafe {
        segment.write(Segment { node: Node::new(), kind: UnsafeCell::new(kind), marks, next });
        kind.slot(segment, first).cast::<M>().write(message);
    }
    segment
}

/// Gives up a segment's memory, and nothing in it.
///
/// # Safety
/// [`begin`] made it, of this type of message; all its slots were passed. `here` is a heap that the caller holds, if any, and
/// `held` is of the pool that it came from.
pub(crate) unsafe fn free<M>(here: Option<&Heap>, segment: NonNull<Segment>, held: Held<'_>) {
    // SAFETY: the caller's.
    unsafe {
        if first::<M>() == 0 {
            memory::free(here, memory::Kind::Message, segment.cast::<Slots<M, SLOTS>>(), held);
        } else {
            memory::free(here, memory::Kind::Message, segment.cast::<Slots<M, FEW>>(), held);
        }
    }
}

/// A slot whose sender has yet to mark it.
#[must_use = "the receiver waits for it"]
pub(super) struct Claim {
    segment: NonNull<Segment>,
    slot: usize,
}

impl Claim {
    /// Puts the message into the slot. If the segment is of another type, the slot becomes void and the message comes back.
    ///
    /// # Safety
    /// The kind is of this type of message.
    #[inline]
    pub(super) unsafe fn fill<M>(self, kind: &'static Kind, message: M) -> Result<(), M> {
        // SAFETY: claimed, so the segment is not freed before the mark.
        let segment = unsafe { self.segment.as_ref() };
        let mark = &segment.marks[self.slot];
        // SAFETY: written before the segment was pushed, and not again.
        let its = segment.kind.with(|its| unsafe { *its });
        if !ptr::eq(its, kind) && its.handled_as != kind.handled_as {
            mark.store(VOID, Release); // as below
            return Err(message);
        }
        // SAFETY: this slot is ours alone until it is marked.
        unsafe { kind.slot(self.segment, self.slot).cast::<M>().write(message) };
        chaos();
        // Release: pairs with the Acquire in `next`. The message is whole before it is read, and we are out of the segment before
        // it is freed.
        mark.store(FILLED, Release);
        Ok(())
    }
}

/// A link to a segment that was just begun.
#[inline]
pub(super) fn link(segment: NonNull<Segment>) -> *mut Node {
    // SAFETY: begun, and not pushed, so it is the caller's.
    let first = unsafe { segment.as_ref().kind.with(|kind| (*kind).first) };
    segment.as_ptr().cast::<Node>().map_addr(|at| at + IS_SEGMENT + CLAIMED * (first + 1))
}

#[inline]
pub(super) fn is_segment(link: *mut Node) -> bool {
    link.addr() & IS_SEGMENT != 0
}

/// Does it lead to a segment with a slot left?
#[inline]
pub(super) fn is_open(link: *mut Node) -> bool {
    is_segment(link) && link.addr() % ALIGN != ALIGN - 1
}

/// The link once the next slot is claimed.
#[inline]
pub(super) fn one_more(link: *mut Node) -> *mut Node {
    link.map_addr(|at| at + CLAIMED)
}

/// The slot that [`one_more`] claims.
#[inline]
pub(super) fn next_slot(link: *mut Node) -> Claim {
    Claim { segment: of(link), slot: claimed(link) }
}

#[inline]
fn claimed(link: *mut Node) -> usize {
    link.addr() % ALIGN / CLAIMED
}

/// The segment that a link leads to.
#[inline]
fn of(link: *mut Node) -> NonNull<Segment> {
    debug_assert!(is_segment(link));
    // SAFETY: made by `link` from what is not null.
    unsafe { NonNull::new_unchecked(link.map_addr(|at| at & !(ALIGN - 1)).cast()) }
}

/// The node that a link leads to; a segment's is its first field.
#[inline]
pub(super) fn node(link: *mut Node) -> *mut Node {
    if is_segment(link) {
        unlikely();
        return of(link).as_ptr().cast();
    }
    link
}

#[cold]
#[inline(always)]
fn unlikely() {}

/// What the receiver finds in a segment.
pub(super) enum Next {
    /// A message, which stays there until it comes again.
    Slot(&'static Kind, NonNull<()>),
    /// The slot's sender is still at it.
    Gap,
    /// Nothing any more. The segment has been freed, and this is the link that followed.
    Over(*mut Node),
}

/// # Safety
/// For the receiver, with a link to a segment that it has taken.
#[inline]
pub(super) unsafe fn next(link: *mut Node) -> Next {
    let segment = of(link);
    // SAFETY: the caller's; only the receiver frees it.
    let this = unsafe { segment.as_ref() };
    loop {
        let slot = usize::from(this.next.get());
        if slot == claimed(link) {
            // SAFETY: as above, and all were passed.
            return Next::Over(unsafe { end(segment) });
        }
        // Acquire: pairs with the Release in `fill`.
        let mark = this.marks[slot].load(Acquire);
        if mark == FREE {
            return Next::Gap;
        }
        this.next.set(slot as u8 + 1);
        if mark == FILLED {
            // SAFETY: written before the segment was pushed, and it has this slot.
            return unsafe {
                let kind = this.kind.with(|kind| *kind);
                Next::Slot(kind, kind.slot(segment, slot))
            };
        }
    }
}

/// A list without the segment at its head, if all of that was passed; it is freed then.
///
/// # Safety
/// For the receiver, with what it has taken.
#[inline]
pub(super) unsafe fn without_the_passed(list: *mut Node) -> *mut Node {
    // SAFETY: the caller's.
    unsafe {
        if is_segment(list) && usize::from(of(list).as_ref().next.get()) == claimed(list) {
            return end(of(list));
        }
    }
    list
}

/// # Safety
/// For the receiver, which has passed all its slots.
unsafe fn end(segment: NonNull<Segment>) -> *mut Node {
    // SAFETY: the caller's: so it is ours alone.
    unsafe {
        let after = segment.as_ref().node.next.get();
        let kind = segment.as_ref().kind.with_mut(|kind| *kind);
        (kind.free)(segment);
        after
    }
}

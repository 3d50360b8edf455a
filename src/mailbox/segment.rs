//! Segments: several messages of one kind in one link of an inbox's stack.
//!
//! A backlog that is linked message by message takes a block for each, and each comes from cold memory, when it is sent and
//! once more when it is read. So a sender that finds others waiting may push a segment, a link with room for [`SLOTS`]
//! messages and its own in the first; those that follow are written into it, as long as it is on top and they are of its kind. The
//! idea is that of segmented queues (SCQ, crossbeam's `SegQueue`, tokio's block lists), here inside a stack that is taken whole.
//!
//! How many slots of a segment are claimed is part of every pointer to it, in bits that its alignment leaves free. The pointer is the
//! stack's top, so one compare-and-swap is both: the segment is still there, and the slot is mine.
//!
//! | a slot is | written by | becomes |
//! |---|---|---|
//! | free | whoever makes the segment | claimed: a sender's step on the stack's top |
//! | claimed | its sender | filled, by a message; or void, since the segment is of another kind, which could not be known before |
//! | filled, void | | the receiver's, in order |
//!
//! - Nobody looks into a segment that is not his to look into: a sender does once it has claimed, and then the receiver, who must pass
//!   each claimed slot, waits for it. So a segment is freed after its last slot was passed, and no sender is left in it.
//! - A top that was taken, freed, made anew and pushed again between a sender's look and its step (ABA) is as good as the
//!   first: what is claimed is a slot of what lies there now, and what that is of is looked at afterwards.
//! - A slot that is claimed and not filled is a gap, as is a place reserved in the state word and not linked yet: to the receiver nothing
//!   is linked from there on, and its turn ends. Senders never wait for each other.

use super::inbox::Node;
use crate::memory::{self, Heap};
use crate::sync::{AtomicU8, Ordering::*, chaos};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};

/// The most messages in a segment: their count fits in the bits of a pointer, and their marks in two words.
const SLOTS: usize = 15;
/// The slots of a segment of larger messages, its last ones: so any segment is full when `SLOTS` are claimed.
const FEW: usize = 7;
const ALIGN: usize = 32;

/// In a link's address: it leads to a segment.
const IS_SEGMENT: usize = 1;
/// One slot of it that is claimed.
const CLAIMED: usize = 2;

const _: () = assert!(IS_SEGMENT | (CLAIMED * SLOTS) == ALIGN - 1);

const FREE: u8 = 0;
const FILLED: u8 = 1;
const VOID: u8 = 2;

/// A segment's front; its slots lie behind it.
#[derive(Debug)]
#[repr(C, align(32))]
pub(crate) struct Segment {
    pub(super) node: Node,
    kind: &'static Kind,
    marks: [AtomicU8; SLOTS],
    /// The slot that the receiver comes to next.
    next: Cell<u8>,
}

/// What a segment is of; told apart by address. (The compiler may have two of one, whose segments then part; or merge two whose
/// contents are the same, and then either will do.)
#[derive(Debug)]
pub(crate) struct Kind {
    /// Bytes from a message to the next.
    size: usize,
    /// The number of its first slot.
    first: usize,
    /// How the floors above handle a message in a slot.
    table: *const (),
    /// Moves a message out of its slot into a node of its own; for whose mailbox it is, as the floors above know it.
    unpack: unsafe fn(NonNull<()>, NonNull<()>) -> *mut Node,
    /// Gives up the memory of a segment, and nothing in it.
    free: unsafe fn(NonNull<Segment>),
}

impl Kind {
    /// Of messages of type `M`; `None` if they are too large, or aligned too strictly.
    pub(crate) const fn of<M>(
        table: *const (),
        unpack: unsafe fn(NonNull<()>, NonNull<()>) -> *mut Node,
        free: unsafe fn(NonNull<Segment>),
    ) -> Option<Self> {
        let (first, size) = (first::<M>(), size_of::<M>());
        if first == SLOTS || align_of::<M>() > 2 * size_of::<usize>() {
            return None;
        }
        Some(Kind { size, first, table, unpack, free })
    }

    /// # Safety
    /// The segment is of this kind, and has that slot.
    #[inline]
    unsafe fn slot(&self, segment: NonNull<Segment>, number: usize) -> NonNull<()> {
        // SAFETY: the caller's.
        unsafe { segment.add(1).byte_add((number - self.first) * self.size) }.cast()
    }

    #[inline]
    pub(crate) fn table(&self) -> *const () {
        self.table
    }

    /// # Safety
    /// A slot of this kind, with a message that is the caller's, and is moved; in its receiver's turn.
    pub(super) unsafe fn unpack(&self, slot: NonNull<()>, whose: NonNull<()>) -> *mut Node {
        // SAFETY: the caller's.
        unsafe { (self.unpack)(slot, whose) }
    }
}

/// The number of the first slot for messages of this type: a segment, front included, takes a block of 256 bytes at most.
const fn first<M>() -> usize {
    match size_of::<M>() {
        0..=8 => 0,
        9..=32 => SLOTS - FEW,
        _ => SLOTS,
    }
}

/// A segment with its slots, as memory knows it.
#[repr(C)]
struct Slots<M, const N: usize> {
    front: Segment,
    slots: [MaybeUninit<M>; N],
}

/// A segment with its first message, for [`Inbox::push_segment`](super::inbox::Inbox::push_segment).
///
/// # Safety
/// The kind is of this type of message. The caller holds the heap.
#[inline]
pub(crate) unsafe fn begin<M>(heap: &Heap, kind: &'static Kind, message: M) -> NonNull<Segment> {
    let segment: NonNull<Segment> = if first::<M>() == 0 {
        memory::place::<Slots<M, SLOTS>>(heap, memory::Kind::Message).cast()
    } else {
        memory::place::<Slots<M, FEW>>(heap, memory::Kind::Message).cast()
    };
    let marks = [const { AtomicU8::new(FREE) }; SLOTS];
    let first = first::<M>();
    marks[first].store(FILLED, Relaxed); // published by the push
    // SAFETY: ours until it is pushed; the first slot is one of it. The others are written one by one.
    unsafe {
        segment.write(Segment { node: Node::new(), kind, marks, next: Cell::new(first as u8) });
        kind.slot(segment, first).cast::<M>().write(message);
    }
    segment
}

/// Frees a segment, and nothing in it.
///
/// # Safety
/// [`begin`] made it of this type of message; nothing is in it, and nobody knows it. `here` is a heap that the caller holds, if any.
pub(crate) unsafe fn free<M>(here: Option<&Heap>, segment: NonNull<Segment>) {
    // SAFETY: the caller's.
    unsafe {
        if first::<M>() == 0 {
            memory::free(here, memory::Kind::Message, segment.cast::<Slots<M, SLOTS>>());
        } else {
            memory::free(here, memory::Kind::Message, segment.cast::<Slots<M, FEW>>());
        }
    }
}

/// A slot that its claimant has yet to fill.
#[must_use = "the receiver waits for it"]
#[derive(Debug)]
pub(crate) struct Claim {
    segment: NonNull<Segment>,
    slot: usize,
}

impl Claim {
    /// Puts the message into the slot, if the segment is of its kind; or gives the slot up, and the message back.
    ///
    /// # Safety
    /// The kind is of this type of message.
    #[inline]
    pub(crate) unsafe fn fill<M>(self, kind: &'static Kind, message: M) -> Result<(), M> {
        // SAFETY: claimed, so it is freed after the mark at the earliest.
        unsafe {
            let mark = &(*self.segment.as_ptr()).marks[self.slot];
            if !ptr::eq((*self.segment.as_ptr()).kind, kind) {
                mark.store(VOID, Release); // as below
                return Err(message);
            }
            kind.slot(self.segment, self.slot).cast::<M>().write(message);
            chaos();
            // Release: pairs with the Acquire in `pop`: the message is whole before it is read, and we are out of the segment
            // before it is freed.
            mark.store(FILLED, Release);
            Ok(())
        }
    }
}

/// A link to a new segment, for the stack.
///
/// # Safety
/// The segment is the caller's.
#[inline]
pub(super) unsafe fn link(segment: NonNull<Segment>) -> *mut Node {
    // SAFETY: the caller's.
    let first = unsafe { segment.as_ref() }.kind.first;
    segment.as_ptr().cast::<Node>().map_addr(|at| at | IS_SEGMENT | CLAIMED * (first + 1))
}

#[inline]
pub(super) fn is_segment(link: *mut Node) -> bool {
    link.addr() & IS_SEGMENT != 0
}

/// Is there a slot left in the segment that a link leads to?
#[inline]
pub(super) fn is_open(link: *mut Node) -> bool {
    is_segment(link) && link.addr() & (ALIGN - 1) != ALIGN - 1
}

/// The link once one more slot is claimed.
#[inline]
pub(super) fn one_more(link: *mut Node) -> *mut Node {
    link.map_addr(|at| at + CLAIMED)
}

/// The slot that [`one_more`] claims.
#[inline]
pub(super) fn next_slot(link: *mut Node) -> Claim {
    // SAFETY: what a segment's link leads to is never null.
    Claim { segment: unsafe { of(link) }, slot: claimed(link) }
}

fn claimed(link: *mut Node) -> usize {
    link.addr() % ALIGN / CLAIMED
}

/// # Safety
/// The link leads to a segment.
#[inline]
unsafe fn of(link: *mut Node) -> NonNull<Segment> {
    // SAFETY: the caller's.
    unsafe { NonNull::new_unchecked(link.map_addr(|at| at & !(ALIGN - 1)).cast()) }
}

/// What leads here is not expected.
#[cold]
#[inline(always)]
fn cold() {}

/// Where a link leads: also the segment's first field.
#[inline]
pub(super) fn target(link: *mut Node) -> *mut Node {
    if is_segment(link) {
        cold();
        return link.map_addr(|at| at & !(ALIGN - 1));
    }
    link
}

/// What a taken segment has next.
pub(super) enum Next {
    /// A message, which stays in its slot until the receiver comes again.
    Slot(&'static Kind, NonNull<()>),
    /// The slot's sender is still at it.
    Gap,
    /// Nothing more: it has been freed, and this link is what followed.
    Over(*mut Node),
}

/// # Safety
/// For the receiver, with the link to a segment that it has taken.
#[inline]
pub(super) unsafe fn next(link: *mut Node) -> Next {
    // SAFETY: the caller's: taken, and freed only here.
    unsafe {
        let segment = of(link);
        let this = segment.as_ref();
        loop {
            let slot = usize::from(this.next.get());
            if slot == claimed(link) {
                return Next::Over(end(segment));
            }
            // Acquire: pairs with the Release in `fill`.
            match this.marks[slot].load(Acquire) {
                FREE => return Next::Gap,
                mark => {
                    this.next.set(slot as u8 + 1);
                    if mark == FILLED {
                        return Next::Slot(this.kind, this.kind.slot(segment, slot));
                    }
                }
            }
        }
    }
}

/// # Safety
/// As for [`next`], and all its slots were passed.
unsafe fn end(segment: NonNull<Segment>) -> *mut Node {
    // SAFETY: the caller's.
    unsafe {
        let after = segment.as_ref().node.next.get();
        (segment.as_ref().kind.free)(segment);
        after
    }
}

/// Frees a segment of which nothing is left; gives what is left of the list.
///
/// # Safety
/// As for [`next`].
#[inline]
pub(super) unsafe fn without_the_empty(link: *mut Node) -> *mut Node {
    if !is_segment(link) {
        return link;
    }
    // SAFETY: the caller's.
    unsafe {
        let segment = of(link);
        if usize::from(segment.as_ref().next.get()) == claimed(link) { end(segment) } else { link }
    }
}

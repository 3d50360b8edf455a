//! The queue of envelopes: any thread pushes, the turn takes.
//!
//! A stack that senders push onto with one compare-and-swap, and that the receiver takes whole and turns around (the
//! inbox of CAF's actors; Treiber, 1986, is the stack). Against an exchange-based queue (Vyukov, MCS) it has no link
//! that is claimed but not made (a segment's slot may be claimed and not filled), needs no dummy node, and lets a reader on another core take a whole batch with one
//! cache-line transfer. There is no ABA problem because nobody ever takes a single node off the stack. Several messages may lie
//! behind one link, in a [segment]; to put one more there is a step on the stack, too.
//!
//! Order: pushes are ordered by the compare-and-swaps; a push that happens before another lies below it, and comes
//! out first. What was taken earlier comes before all that is still on the stack.
//!
//! The message that wakes an idle actor does not go over the stack at all. Whoever made the actor scheduled holds its
//! runnable, and with it the receiver's end, until the runnable is pushed: so it leaves its node there, by a plain store
//! ([`put_first`](Inbox::put_first)). A turn that has only this message neither reads nor writes the stack.

use super::segment::{self, Kind, Next, Segment};
use crate::sync::{AtomicPtr, Ordering::*, chaos, contended, prefetch};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// The link inside each envelope, its first field.
#[derive(Debug)]
pub(crate) struct Node {
    pub(super) next: Cell<*mut Node>,
}

impl Node {
    pub(crate) const fn new() -> Self {
        Node { next: Cell::new(ptr::null_mut()) }
    }
}

/// The queue. Whoever drops it must have emptied it.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Newest first. This and all links may lead to segments: see [`segment`].
    stack: AtomicPtr<Node>,
    /// Oldest first; touched by the receiver only.
    taken: Cell<*mut Node>,
}

/// What became of a message for the segment on top.
#[must_use]
pub(crate) enum Filled<M> {
    Done,
    /// There is none with a slot left.
    NoSegment(M),
    /// Another sender was quicker.
    Contended(M),
    /// It is of another type.
    OtherType(M),
}

/// What comes out.
#[derive(Debug)]
pub(crate) enum Popped {
    Node(*mut Node),
    /// A message in its slot, until the receiver pops again.
    Slot(&'static Kind, NonNull<()>),
}

impl Popped {
    /// The address of what is in a node of its own; 0 for what is in a slot.
    pub(crate) fn addr(&self) -> usize {
        match self {
            Popped::Node(node) => node.addr(),
            Popped::Slot(..) => 0,
        }
    }

    /// In a node of its own; for whose mailbox it came from, as the floors above know it.
    ///
    /// # Safety
    /// For the receiver, which has popped nothing since.
    pub(crate) unsafe fn into_node(self, whose: NonNull<()>) -> *mut Node {
        match self {
            Popped::Node(node) => node,
            // SAFETY: so the message is there still.
            Popped::Slot(kind, at) => unsafe { kind.unpack(at, whose) },
        }
    }
}

// SAFETY: `taken` and the links of taken nodes are touched only by `pop` and `put_first`, whose contracts make their callers
// one at a time; a pushed node's link is written before the Release push and read after the Acquire take.
unsafe impl Sync for Inbox {}
// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Inbox {}

impl Inbox {
    pub(crate) fn new() -> Self {
        Inbox { stack: AtomicPtr::new(ptr::null_mut()), taken: Cell::new(ptr::null_mut()) }
    }

    /// Adds an envelope behind all others. `true`: nothing else had been pushed since the last take.
    ///
    /// # Safety
    /// `node` is valid, on no queue, and given up by the caller until `pop` returns it.
    #[inline]
    pub(crate) unsafe fn push(&self, node: *mut Node) -> bool {
        // SAFETY: the caller's.
        unsafe { self.push_link(node) }
    }

    /// The same, of a segment with its first message.
    ///
    /// # Safety
    /// As for [`push`](Self::push).
    #[inline]
    pub(crate) unsafe fn push_segment(&self, segment: NonNull<Segment>) {
        // SAFETY: the caller's.
        unsafe { self.push_link(segment::link(segment)) };
    }

    #[inline]
    unsafe fn push_link(&self, link: *mut Node) -> bool {
        let mut top = self.stack.load(Relaxed);
        loop {
            chaos();
            // SAFETY: the node is ours until the exchange below succeeds.
            unsafe { (*segment::node(link)).next.set(top) };
            // Release: pairs with the Acquire in `pop`; the envelope is whole before it can be taken.
            match self.stack.compare_exchange_weak(top, link, Release, Relaxed) {
                Ok(_) => return top.is_null(),
                Err(_) => {
                    contended();
                    top = self.stack.load(Relaxed);
                }
            }
        }
    }

    /// Puts a message into the segment on top, behind all others. One attempt: whoever fails pushes instead.
    ///
    /// # Safety
    /// The kind is of this type of message.
    #[inline]
    pub(crate) unsafe fn fill<M>(&self, kind: &'static Kind, message: M) -> Filled<M> {
        let top = self.stack.load(Relaxed);
        if !segment::is_open(top) {
            return Filled::NoSegment(message);
        }
        chaos();
        // Acquire: pairs with the Release of whoever pushed the segment, which we are going to look at. What we write is
        // published by the slot's mark.
        if self.stack.compare_exchange(top, segment::one_more(top), Acquire, Relaxed).is_err() {
            contended();
            return Filled::Contended(message);
        }
        // SAFETY: the caller's.
        match unsafe { segment::next_slot(top).fill(kind, message) } {
            Ok(()) => Filled::Done,
            Err(message) => Filled::OtherType(message),
        }
    }

    /// Adds the first envelope of an actor that was idle.
    ///
    /// # Safety
    /// As for [`push`](Self::push). The caller has just made the actor scheduled, from idle: so nothing is in the queue, what others
    /// push comes later, and nobody else is at the receiver's end until the caller gives the runnable up.
    #[inline]
    pub(crate) unsafe fn put_first(&self, node: *mut Node) {
        debug_assert!(self.taken.get().is_null(), "an idle actor had a message");
        // SAFETY: the node is ours.
        unsafe { (*node).next.set(ptr::null_mut()) };
        self.taken.set(node);
    }

    /// Has nothing been pushed since the last take? For whoever asks; out of date at once.
    pub(crate) fn nothing_pushed(&self) -> bool {
        self.stack.load(Relaxed).is_null()
    }

    /// What was taken in an earlier turn, oldest first. The caller keeps it, for a turn's time, where senders' accesses do not
    /// take the cache line away.
    ///
    /// # Safety
    /// Receivers are one at a time, as for all that follows.
    #[inline]
    pub(crate) unsafe fn begin(&self) -> *mut Node {
        self.taken.get()
    }

    /// Asks for what [`begin`](Self::begin) will give.
    ///
    /// # Safety
    /// As above.
    #[inline]
    pub(crate) unsafe fn prefetch(&self) {
        prefetch(self.taken.get());
    }

    /// What [`begin`](Self::begin) and [`pop_from`](Self::pop_from) have left. (If all that was accepted has been handled, that
    /// is nothing at all: a slot that was given up lies below the message that found it of another kind.)
    ///
    /// # Safety
    /// As above; what was popped last has been moved out of its slot.
    #[inline]
    pub(crate) unsafe fn end(&self, rest: *mut Node) {
        // SAFETY: the caller's.
        self.taken.set(unsafe { segment::without_the_passed(rest) });
    }

    /// The oldest: of `rest`, or else of all that was pushed since, the others of which are `rest` then. `None`: nothing
    /// is linked.
    ///
    /// # Safety
    /// As above; `rest` is what the last call left, and what that gave has been moved out of its slot.
    #[inline(always)]
    pub(crate) unsafe fn pop_from(&self, rest: &Cell<*mut Node>) -> Option<Popped> {
        loop {
            let first = self.first_link(rest);
            if first.is_null() {
                return None;
            }
            if !segment::is_segment(first) {
                // SAFETY: a taken node is ours alone.
                rest.set(unsafe { (*first).next.get() });
                return Some(Popped::Node(first));
            }
            // SAFETY: a taken segment is the receiver's.
            match unsafe { segment::next(first) } {
                Next::Slot(kind, at) => return Some(Popped::Slot(kind, at)),
                Next::Gap => return None,
                Next::Over(after) => rest.set(after),
            }
        }
    }

    /// `rest`, or else all that was pushed since.
    #[inline(always)]
    fn first_link(&self, rest: &Cell<*mut Node>) -> *mut Node {
        if rest.get().is_null() && !self.stack.load(Relaxed).is_null() {
            chaos();
            // Acquire: pairs with the Release in `push` of every node below the top (their exchanges form one
            // release sequence).
            rest.set(reverse(self.stack.swap(ptr::null_mut(), Acquire)));
        }
        rest.get()
    }

    /// What [`pop_from`](Self::pop_from) would give, if that is a node; it stays where it is.
    ///
    /// # Safety
    /// As there.
    pub(crate) unsafe fn first_of(&self, rest: &Cell<*mut Node>) -> Option<*mut Node> {
        // SAFETY: the caller's.
        rest.set(unsafe { segment::without_the_passed(rest.get()) });
        let first = self.first_link(rest);
        (!first.is_null() && !segment::is_segment(first)).then_some(first)
    }

    /// Puts the node that was popped last back to where it was.
    ///
    /// # Safety
    /// As above.
    pub(crate) unsafe fn put_back(&self, node: *mut Node) {
        // SAFETY: a popped node is ours alone.
        unsafe { (*node).next.set(self.taken.replace(node)) };
    }

    /// The oldest, in a node of its own.
    ///
    /// # Safety
    /// As above.
    #[inline]
    pub(crate) unsafe fn pop(&self, whose: NonNull<()>) -> Option<*mut Node> {
        // SAFETY: the caller's.
        unsafe {
            let node = self.pop_from(&self.taken)?.into_node(whose);
            self.end(self.taken.get());
            Some(node)
        }
    }

    /// Uses the room of an inbox that has ended: a link to anything.
    pub(crate) fn set_link(&self, to: *mut ()) {
        self.taken.set(to.cast());
    }

    /// See [`set_link`](Self::set_link).
    pub(crate) fn link(&self) -> *mut () {
        self.taken.get().cast()
    }
}

/// Turns a taken stack around.
///
/// The way through the nodes is a chain of cache misses when senders have filled many mailboxes at once. Memory is handed
/// out in order, so a mailbox's nodes often lie at equal distances: what would come a few nodes later is asked for ahead.
fn reverse(mut node: *mut Node) -> *mut Node {
    const AHEAD: isize = 6;
    let mut reversed = ptr::null_mut();
    while !node.is_null() {
        // SAFETY: all nodes of a taken stack are ours alone.
        let next = unsafe { (*segment::node(node)).next.replace(reversed) };
        let step = next.addr().wrapping_sub(node.addr()) as isize;
        prefetch(next.wrapping_byte_offset(step.wrapping_mul(AHEAD)));
        reversed = node;
        node = next;
    }
    reversed
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn first_in_first_out_across_takes() {
        let inbox = Inbox::new();
        let nodes: Vec<Node> = (0..6).map(|_| Node::new()).collect();
        let at = |i: usize| ptr::from_ref(&nodes[i]).cast_mut();
        // SAFETY: each node is pushed once at a time, and one thread does everything.
        unsafe {
            assert!(inbox.nothing_pushed());
            (0..3).for_each(|i| assert_eq!(inbox.push(at(i)), i == 0));
            assert!(!inbox.nothing_pushed());
            assert_eq!(inbox.pop(NonNull::dangling()), Some(at(0)));
            assert!(inbox.nothing_pushed());
            let rest = Cell::new(inbox.begin());
            assert_eq!(inbox.first_of(&rest), Some(at(1)));
            assert_eq!(inbox.first_of(&rest), Some(at(1)));
            (3..6).for_each(|i| assert_eq!(inbox.push(at(i)), i == 3));
            let rest: Vec<_> = std::iter::from_fn(|| inbox.pop(NonNull::dangling())).collect();
            assert_eq!(rest, (1..6).map(at).collect::<Vec<_>>());
        }
    }
}

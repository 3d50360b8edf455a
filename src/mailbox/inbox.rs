//! The queue of envelopes: any thread pushes, the turn takes.
//!
//! Senders push onto a stack with one compare-and-swap. The receiver takes the whole stack and
//! reverses it. (The inbox of CAF's actors works the same way; the stack is Treiber's, 1986.)
//! Compared with an exchange-based queue (Vyukov, MCS), the stack has no link that is claimed but
//! not made, although a segment's slot may be claimed and not filled. The stack needs no dummy
//! node, and a reader on another core takes a whole batch with one cache-line transfer. There is no
//! ABA problem, because no thread takes a single node off the stack. Several messages may lie
//! behind one link, in a [segment]. Adding a message to a segment is a step on the stack, too.
//!
//! Order: the compare-and-swaps order the pushes. A push that happens before another one lies below
//! it and comes out first. Nodes taken earlier come before all nodes on the stack.
//!
//! The message that wakes an idle actor does not go over the stack at all. The sender that made the
//! actor scheduled holds the runnable until the push of the runnable, and with it the receiver's
//! end. So this sender leaves the node there with a plain store ([`put_first`](Inbox::put_first)).
//! A turn with only this message neither reads nor writes the stack.
//!
//! Loom models: `models::mailbox`, and `models::segments` for segments. Needed orderings:
//! `cargo xtask weaken`, groups `inbox` and `segments`.

use super::link::{Node, claim_one_more, is_open, is_segment, node_of};
use super::segment::{self, NextSlot, Segment, SegmentKind};
use crate::sync::{AtomicPtr, Ordering::*, back_off, chaos, prefetch};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// The queue. Must be empty when it is dropped.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Newest first. This and all links may lead to segments: see [`segment`].
    stack: AtomicPtr<Node>,
    /// Oldest first. Only the receiver touches it.
    taken: Cell<*mut Node>,
}

/// The outcome of an attempt to fill the segment on top.
#[must_use]
pub(crate) enum Filled<M> {
    /// The message is in a slot.
    Done,
    /// No segment with a free slot is on top.
    NoSegment(M),
    /// Another sender changed the top first.
    Contended(M),
    /// The segment holds messages of another type.
    OtherType(M),
}

/// A popped message.
#[derive(Debug)]
pub(crate) enum Popped {
    /// An envelope of its own.
    Node(*mut Node),
    /// A message in its slot, valid until the receiver pops again.
    Slot(&'static SegmentKind, NonNull<()>),
}

impl Popped {
    /// Moves the message into a node of its own, if it is not in one. `whose` names the mailbox, as
    /// the floors above know it.
    ///
    /// # Safety
    /// The caller is the receiver and has popped nothing since.
    pub(crate) unsafe fn into_node(self, whose: NonNull<()>) -> *mut Node {
        match self {
            Popped::Node(node) => node,
            // SAFETY: the receiver has popped nothing since, so the message is still in its slot,
            // and it is read out once.
            Popped::Slot(kind, at) => unsafe { kind.unpack(at, whose) },
        }
    }
}

// SAFETY: only the receiver touches `taken` and the links of taken nodes, and the contracts of the
// methods below admit one receiver at a time. A pushed node's link is written before the Release
// push and read after the Acquire take.
unsafe impl Sync for Inbox {}
// SAFETY: nothing in an inbox belongs to a thread.
unsafe impl Send for Inbox {}

impl Inbox {
    pub(crate) fn new() -> Self {
        Inbox { stack: AtomicPtr::new(ptr::null_mut()), taken: Cell::new(ptr::null_mut()) }
    }

    /// Adds an envelope behind all others. Returns `true` if nothing else was pushed since the last
    /// take.
    ///
    /// # Safety
    /// `node` is valid, on no queue, and given up by the caller until `pop` returns it.
    #[inline]
    pub(crate) unsafe fn push(&self, node: *mut Node) -> bool {
        // SAFETY: `node` is valid, on no queue, and given up by the caller.
        unsafe { self.push_link(node) }
    }

    /// Adds a segment with its first message behind all others.
    ///
    /// # Safety
    /// `segment` was just begun, is on no queue, and is given up by the caller.
    #[inline]
    pub(crate) unsafe fn push_segment(&self, segment: NonNull<Segment>) {
        // SAFETY: the segment is new and given up by the caller, and its first field is a node.
        unsafe { self.push_link(segment::link_to_new(segment)) };
    }

    #[inline]
    /// # Safety
    /// The node behind `link` is valid, on no queue, and given up by the caller.
    unsafe fn push_link(&self, link: *mut Node) -> bool {
        let mut top = self.stack.load(Relaxed);
        loop {
            chaos();
            // SAFETY: the caller alone has the node until the exchange below succeeds.
            unsafe { (*node_of(link)).next.set(top) };
            // Release: pairs with the Acquire in `first_link`, so the envelope is complete before
            // it can be taken.
            match self.stack.compare_exchange_weak(top, link, Release, Relaxed) {
                Ok(_) => return top.is_null(),
                Err(_) => {
                    // Read again after the pause: by then the top has usually changed once more.
                    back_off();
                    top = self.stack.load(Relaxed);
                }
            }
        }
    }

    /// Puts a message into the segment on top, behind all others. Makes one attempt: a sender that
    /// fails pushes instead.
    ///
    /// # Safety
    /// `kind` is the kind of messages of type `M`.
    #[inline]
    pub(crate) unsafe fn fill_top_segment<M>(
        &self,
        kind: &'static SegmentKind,
        message: M,
    ) -> Filled<M> {
        // Whether to claim, to begin a segment, or to push is decided by the pointer alone. Reading
        // the segment first would touch its cache line, and nothing keeps it alive before the
        // claim.
        let top = self.stack.load(Relaxed);
        if !is_open(top) {
            return Filled::NoSegment(message);
        }
        chaos();
        // Acquire: pairs with the Release in `push_link`, since the caller reads the segment next.
        // The slot's mark publishes what the caller writes.
        if self.stack.compare_exchange(top, claim_one_more(top), Acquire, Relaxed).is_err() {
            back_off();
            return Filled::Contended(message);
        }
        // SAFETY: the exchange claimed the slot, which keeps the segment alive, and `kind` is the
        // kind of `M`.
        match unsafe { segment::slot_to_claim(top).fill_slot(kind, message) } {
            Ok(()) => Filled::Done,
            Err(message) => Filled::OtherType(message),
        }
    }

    /// Adds the first envelope of an actor that was idle, without a step on the stack.
    ///
    /// # Safety
    /// `node` is valid, on no queue, and given up by the caller until `pop` returns it. The caller
    /// has just made the actor scheduled, from idle. So the queue is empty, and other pushes come
    /// later. No other thread is at the receiver's end until the caller gives the runnable up.
    #[inline]
    pub(crate) unsafe fn put_first(&self, node: *mut Node) {
        debug_assert!(self.taken.get().is_null(), "an idle actor had a message");
        // SAFETY: the caller has just given up the node and no other thread knows it.
        unsafe { (*node).next.set(ptr::null_mut()) };
        self.taken.set(node);
    }

    /// Returns `true` if nothing was pushed since the last take. A snapshot, possibly stale.
    pub(crate) fn has_nothing_pushed(&self) -> bool {
        self.stack.load(Relaxed).is_null()
    }

    /// Returns the nodes taken in an earlier turn, oldest first. The caller keeps the list on its
    /// stack for a turn, where senders' accesses do not take the cache line away.
    ///
    /// # Safety
    /// The caller is the receiver, and there is one receiver at a time.
    #[inline]
    pub(crate) unsafe fn load_taken(&self) -> *mut Node {
        self.taken.get()
    }

    /// Prefetches the list that [`load_taken`](Self::load_taken) returns.
    ///
    /// # Safety
    /// The caller is the receiver.
    #[inline]
    pub(crate) unsafe fn prefetch_taken(&self) {
        prefetch(self.taken.get());
    }

    /// Stores the rest of a list from [`load_taken`](Self::load_taken) after
    /// [`pop_from`](Self::pop_from). If every accepted message has been handled, the rest is empty:
    /// a slot given up as void lies below the message that found its segment of another kind.
    ///
    /// # Safety
    /// The caller is the receiver, and the message popped last has been moved out of its slot.
    #[inline]
    pub(crate) unsafe fn store_taken(&self, rest: *mut Node) {
        // SAFETY: the caller is the receiver and has taken the list, and no message in a passed
        // slot is in use.
        self.taken.set(unsafe { segment::without_the_passed(rest) });
    }

    /// Pops the oldest message: of `rest`, or else of everything pushed since, the remainder of
    /// which becomes `rest`. Returns `None` if nothing is linked.
    ///
    /// # Safety
    /// The caller is the receiver. `rest` is as the last call left it, and the message that the
    /// call returned has been moved out of its slot.
    #[inline(always)]
    pub(crate) unsafe fn pop_from(&self, rest: &Cell<*mut Node>) -> Option<Popped> {
        loop {
            let first = self.first_link(rest);
            if first.is_null() {
                return None;
            }
            if !is_segment(first) {
                // SAFETY: the receiver alone has a taken node.
                rest.set(unsafe { (*first).next.get() });
                return Some(Popped::Node(first));
            }
            // SAFETY: `first` leads to a segment that the receiver has taken.
            match unsafe { segment::next_filled(first) } {
                NextSlot::Slot(kind, at) => return Some(Popped::Slot(kind, at)),
                NextSlot::Gap => return None,
                NextSlot::Over(after) => rest.set(after),
            }
        }
    }

    /// Returns the first link of `rest`. If there is none, takes everything that was pushed since.
    #[inline(always)]
    fn first_link(&self, rest: &Cell<*mut Node>) -> *mut Node {
        // A load before the exchange: an empty stack is the usual case, and an exchange would take
        // the line from the senders.
        if rest.get().is_null() && !self.stack.load(Relaxed).is_null() {
            chaos();
            // Acquire: pairs with the Release in `push_link` of every node below the top. Their
            // exchanges form one release sequence.
            rest.set(reverse_stack(self.stack.swap(ptr::null_mut(), Acquire)));
        }
        rest.get()
    }

    /// Returns the node that [`pop_from`](Self::pop_from) would return, without taking it. Returns
    /// `None` if a segment comes first.
    ///
    /// # Safety
    /// The caller is the receiver. `rest` is as the last call left it, and the message that the
    /// call returned has been moved out of its slot.
    pub(crate) unsafe fn peek_node(&self, rest: &Cell<*mut Node>) -> Option<*mut Node> {
        // SAFETY: the caller is the receiver and has taken the list, and no message in a passed
        // slot is in use.
        rest.set(unsafe { segment::without_the_passed(rest.get()) });
        let first = self.first_link(rest);
        (!first.is_null() && !is_segment(first)).then_some(first)
    }

    /// Puts the node that was popped last back to the front.
    ///
    /// # Safety
    /// The caller is the receiver. `node` was popped last, and the caller gives it up.
    pub(crate) unsafe fn put_back(&self, node: *mut Node) {
        // SAFETY: the receiver alone has a popped node.
        unsafe { (*node).next.set(self.taken.replace(node)) };
    }

    /// Pops the oldest message, in a node of its own. `whose` names the mailbox, as the floors
    /// above know it.
    ///
    /// # Safety
    /// The caller is the receiver.
    #[inline]
    pub(crate) unsafe fn pop(&self, whose: NonNull<()>) -> Option<*mut Node> {
        // SAFETY: the caller is the receiver. `taken` is as the last call left it, and `into_node`
        // moves the message out of its slot before `store_taken`.
        unsafe {
            let node = self.pop_from(&self.taken)?.into_node(whose);
            self.store_taken(self.taken.get());
            Some(node)
        }
    }

    /// Reuses the field of a dead cell's inbox as a link to anything, for the list of dead cells.
    pub(crate) fn set_dead_link(&self, to: *mut ()) {
        self.taken.set(to.cast());
    }

    /// Returns the pointer stored by [`set_dead_link`](Self::set_dead_link).
    pub(crate) fn dead_link(&self) -> *mut () {
        self.taken.get().cast()
    }
}

/// Reverses a taken stack.
///
/// The walk through the nodes is a chain of cache misses when senders have filled many mailboxes at
/// once. Memory is handed out in order, so a mailbox's nodes often lie at equal distances. The node
/// a few steps ahead is therefore prefetched by extrapolation.
fn reverse_stack(mut node: *mut Node) -> *mut Node {
    const AHEAD: isize = 6;
    let mut reversed = ptr::null_mut();
    while !node.is_null() {
        // SAFETY: the receiver alone has all nodes of a taken stack.
        let next = unsafe { (*node_of(node)).next.replace(reversed) };
        let step = next.addr().wrapping_sub(node.addr()) as isize;
        // A wrong guess is harmless, since a prefetch does not fault.
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
        // SAFETY: each node is pushed once at a time and outlives the inbox, and one thread does
        // everything.
        unsafe {
            assert!(inbox.has_nothing_pushed());
            (0..3).for_each(|i| assert_eq!(inbox.push(at(i)), i == 0));
            assert!(!inbox.has_nothing_pushed());
            assert_eq!(inbox.pop(NonNull::dangling()), Some(at(0)));
            assert!(inbox.has_nothing_pushed());
            let rest = Cell::new(inbox.load_taken());
            assert_eq!(inbox.peek_node(&rest), Some(at(1)));
            assert_eq!(inbox.peek_node(&rest), Some(at(1)));
            (3..6).for_each(|i| assert_eq!(inbox.push(at(i)), i == 3));
            let rest: Vec<_> = std::iter::from_fn(|| inbox.pop(NonNull::dangling())).collect();
            assert_eq!(rest, (1..6).map(at).collect::<Vec<_>>());
        }
    }
}

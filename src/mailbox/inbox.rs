//! The queue of envelopes: any thread pushes, the turn takes.
//!
//! A stack that senders push onto with one compare-and-swap, and that the receiver takes whole and turns around (the
//! inbox of CAF's actors; Treiber, 1986, is the stack). Against an exchange-based queue (Vyukov, MCS) it has no place
//! that is claimed but not linked, needs no dummy node, and lets a reader on another core take a whole batch with one
//! cache-line transfer. There is no ABA problem because nobody ever takes a single node off the stack.
//!
//! Order: pushes are ordered by the compare-and-swaps; a push that happens before another lies below it, and comes
//! out first. What was taken earlier comes before all that is still on the stack.
//!
//! The message that wakes an idle actor does not go over the stack at all. Whoever made the actor scheduled holds its
//! runnable, and with it the receiver's end, until the runnable is pushed: so it leaves its node there, by a plain store
//! ([`put_first`](Inbox::put_first)). A turn that has only this message neither reads nor writes the stack.

use crate::sync::{AtomicPtr, Ordering::*, chaos, contended, prefetch};
use std::cell::Cell;
use std::ptr;

/// The link inside each envelope, its first field.
#[derive(Debug)]
pub(crate) struct Node {
    next: Cell<*mut Node>,
}

impl Node {
    pub(crate) const fn new() -> Self {
        Node { next: Cell::new(ptr::null_mut()) }
    }
}

/// The queue. Whoever drops it must have emptied it.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// Newest first.
    stack: AtomicPtr<Node>,
    /// Oldest first; touched by the receiver only.
    taken: Cell<*mut Node>,
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
        let mut top = self.stack.load(Relaxed);
        loop {
            chaos();
            // SAFETY: the node is ours until the exchange below succeeds.
            unsafe { (*node).next.set(top) };
            // Release: pairs with the Acquire in `pop`; the envelope is whole before it can be taken.
            match self.stack.compare_exchange_weak(top, node, Release, Relaxed) {
                Ok(_) => return top.is_null(),
                Err(_) => {
                    contended();
                    top = self.stack.load(Relaxed);
                }
            }
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

    /// What [`begin`](Self::begin) and [`pop_from`](Self::pop_from) have left.
    ///
    /// # Safety
    /// As above.
    #[inline]
    pub(crate) unsafe fn end(&self, rest: *mut Node) {
        self.taken.set(rest);
    }

    /// The oldest node: of `rest`, or else of all that was pushed since, the others of which are `rest` then. `None`: nothing
    /// is linked.
    ///
    /// # Safety
    /// As above; `rest` is what the last call left.
    #[inline]
    pub(crate) unsafe fn pop_from(&self, rest: &Cell<*mut Node>) -> Option<*mut Node> {
        let mut first = rest.get();
        if first.is_null() {
            if self.stack.load(Relaxed).is_null() {
                return None;
            }
            chaos();
            // Acquire: pairs with the Release in `push` of every node below the top (their exchanges form one
            // release sequence).
            first = reverse(self.stack.swap(ptr::null_mut(), Acquire));
        }
        // SAFETY: a taken node is ours alone.
        rest.set(unsafe { (*first).next.get() });
        Some(first)
    }

    /// What [`pop_from`](Self::pop_from) would give; it stays where it is.
    ///
    /// # Safety
    /// As there.
    pub(crate) unsafe fn first_of(&self, rest: &Cell<*mut Node>) -> Option<*mut Node> {
        // SAFETY: the caller's.
        let first = unsafe { self.pop_from(rest) }?;
        rest.set(first); // which still leads to the others
        Some(first)
    }

    /// Puts the node that was popped last back to where it was.
    ///
    /// # Safety
    /// As above.
    pub(crate) unsafe fn put_back(&self, node: *mut Node) {
        // SAFETY: a popped node is ours alone.
        unsafe { (*node).next.set(self.taken.replace(node)) };
    }

    /// The oldest node.
    ///
    /// # Safety
    /// As above.
    #[inline]
    pub(crate) unsafe fn pop(&self) -> Option<*mut Node> {
        // SAFETY: the caller's.
        unsafe { self.pop_from(&self.taken) }
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
        let next = unsafe { (*node).next.replace(reversed) };
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
            assert_eq!(inbox.pop(), Some(at(0)));
            assert!(inbox.nothing_pushed());
            let rest = Cell::new(inbox.begin());
            assert_eq!(inbox.first_of(&rest), Some(at(1)));
            assert_eq!(inbox.first_of(&rest), Some(at(1)));
            (3..6).for_each(|i| assert_eq!(inbox.push(at(i)), i == 3));
            let rest: Vec<_> = std::iter::from_fn(|| inbox.pop()).collect();
            assert_eq!(rest, (1..6).map(at).collect::<Vec<_>>());
        }
    }
}

//! The links of an inbox's lists: a link leads to a node, or to a segment, which begins with a
//! node.
//!
//! A link to a segment says how many slots of the segment are claimed, in bits of the address left
//! free by the segment's alignment. The stack's top is a link too, so one compare-and-swap of the
//! top can claim a slot.

use std::cell::Cell;
use std::ptr;

/// Alignment of a segment.
pub(super) const ALIGN: usize = 32;

/// Bit of a link's address: the link leads to a segment.
const IS_SEGMENT: usize = 1;
/// Step of a link's address: one more slot is claimed.
const CLAIMED: usize = 2;
/// Number of claimed slots in the link to a segment without a free one.
pub(super) const MOST_CLAIMED: usize = (ALIGN - 1 - IS_SEGMENT) / CLAIMED;

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

/// Returns the link to a segment, given by its node, of which so many slots are claimed.
#[inline]
pub(super) fn to_segment(node: *mut Node, claimed: usize) -> *mut Node {
    node.map_addr(|at| at + IS_SEGMENT + CLAIMED * claimed)
}

/// Returns `true` if the link leads to a segment.
#[inline]
pub(super) fn is_segment(link: *mut Node) -> bool {
    link.addr() & IS_SEGMENT != 0
}

/// Returns `true` if the link leads to a segment with a free slot.
#[inline]
pub(super) fn is_open(link: *mut Node) -> bool {
    is_segment(link) && link.addr() % ALIGN != ALIGN - 1
}

/// Returns the link with one more slot claimed.
#[inline]
pub(super) fn claim_one_more(link: *mut Node) -> *mut Node {
    link.map_addr(|at| at + CLAIMED)
}

/// Returns how many slots of the segment are claimed.
#[inline]
pub(super) fn claimed_slots(link: *mut Node) -> usize {
    link.addr() % ALIGN / CLAIMED
}

/// Returns the node of the segment that a link leads to.
#[inline]
pub(super) fn segment_node(link: *mut Node) -> *mut Node {
    debug_assert!(is_segment(link));
    link.map_addr(|at| at & !(ALIGN - 1))
}

/// Returns the node that a link leads to. A segment's node is its first field.
#[inline]
pub(super) fn node_of(link: *mut Node) -> *mut Node {
    if is_segment(link) {
        // Marks the branch as cold: most links lead to nodes.
        cold_path();
        return segment_node(link);
    }
    link
}

#[cold]
#[inline(always)]
fn cold_path() {}

//! The members of a shared queue, each of which knows its place in the list.
//!
//! The list has two parts: first the members that were not *asked* to look at the queue, then the
//! asked ones, with `CHECK_QUEUE` in their words. A member changes its part under the queue's lock,
//! where its flag changes too. A member that was asked is not touched again until it has looked. So
//! a search costs a constant, and one step for each member that has looked since the last one.

use super::header::Header;
use super::supervisor::Supervised;
use crate::id::ActorId;
use crate::mailbox::state::State;
use crate::sync::Ordering::*;
use std::ops::Range;
use std::ptr::NonNull;

/// Members that a search passes over before it asks those that are busy.
const LOOKED_AT: usize = 32;

/// The list. See the header of this file.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// The cells, as long as they have not ended.
    cells: Vec<NonNull<Header>>,
    /// Number of members that were not asked. These come first.
    unasked: usize,
    /// Index of the member that is looked at first.
    from: usize,
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(super) fn add(&mut self, cell: NonNull<Header>) {
        self.cells.push(cell);
        self.set_place(self.len() - 1);
        self.note_looked(cell);
    }

    /// Removes a member that ends, in a time that does not grow with the list.
    pub(super) fn remove_member(&mut self, cell: NonNull<Header>) {
        let mut at = self.place_of(cell);
        if at < self.unasked {
            at = self.note_asked(at);
        }
        self.swap(at, self.len() - 1);
        self.cells.pop();
    }

    /// Notes that a member has looked, and that its flag is clear.
    pub(super) fn note_looked(&mut self, cell: NonNull<Header>) {
        self.swap(self.place_of(cell), self.unasked);
        self.unasked += 1;
    }

    /// Returns an idle member with a place reserved. Returns `None` if each member has a turn, and
    /// will look at the queue at its end.
    pub(super) fn reserve_idle(&mut self) -> Option<NonNull<Header>> {
        // First only a look, since a member that was asked takes the lock at its turn's end.
        for _ in 0..self.unasked.min(LOOKED_AT) {
            let at = self.next_unasked();
            if self.state(at).reserve_idle() {
                return Some(self.cells[at]);
            }
        }
        // Each member that has a turn is told to look at the end of its turn. A member that went
        // idle just before would not look, and is reserved after all.
        while self.unasked > 0 {
            let at = self.next_unasked();
            let member = self.cells[at];
            if self.state(at).reserve_idle() {
                return Some(member);
            }
            let idle = self.state(at).request_queue_check() && self.state(at).reserve_idle();
            self.note_asked(at);
            if idle {
                return Some(member);
            }
        }
        None
    }

    /// Returns the ids of the members with these places, as far as there are so many.
    pub(super) fn ids(&self, places: Range<usize>) -> Vec<ActorId> {
        let end = places.end.min(self.len());
        // SAFETY: listed cells have not ended, and none can end while the list is locked.
        let id = |member: &NonNull<Header>| unsafe { member.as_ref() }.id();
        self.cells[places.start.min(end)..end].iter().map(id).collect()
    }

    /// Returns the index of an unasked member. Round robin, so that messages are spread.
    fn next_unasked(&mut self) -> usize {
        let at = if self.from < self.unasked { self.from } else { 0 };
        self.from = at + 1;
        at
    }

    /// Returns how many members were not asked, after a check of each member's place and flag.
    #[cfg(all(test, not(heist_loom), feature = "pool"))]
    pub(super) fn check_places(&self) -> usize {
        for (at, &member) in self.cells.iter().enumerate() {
            assert_eq!(self.place_of(member), at);
            assert_eq!(self.state(at).load_snapshot().has_queue_check(), at >= self.unasked);
        }
        self.unasked
    }

    /// Moves an unasked member to the asked ones. Returns its index there.
    fn note_asked(&mut self, at: usize) -> usize {
        self.unasked -= 1;
        self.swap(at, self.unasked);
        self.unasked
    }

    fn swap(&mut self, a: usize, b: usize) {
        if a != b {
            self.cells.swap(a, b);
            self.set_place(a);
            self.set_place(b);
        }
    }

    fn set_place(&self, at: usize) {
        // SAFETY: listed cells have not ended, and none can end while the list is locked.
        let member = unsafe { self.cells[at].as_ref() };
        // Relaxed, here and below: the queue's lock guards the number.
        supervised_part(member).place.store(at, Relaxed);
    }

    fn place_of(&self, cell: NonNull<Header>) -> usize {
        // SAFETY: the caller's cell is listed, so it has not ended.
        let at = supervised_part(unsafe { cell.as_ref() }).place.load(Relaxed);
        debug_assert_eq!(self.cells[at], cell, "another's place");
        at
    }

    fn state(&self, at: usize) -> &State {
        // SAFETY: listed cells have not ended, and none can end while the list is locked.
        unsafe { &self.cells[at].as_ref().state }
    }
}

fn supervised_part(member: &Header) -> &Supervised {
    member.supervised().expect("each member has a supervisor")
}

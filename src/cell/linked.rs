//! A list of what waits, oldest first, from which each entry is removed in constant time.
//!
//! The entries are in a slab and know their neighbours, so nothing is walked and nothing moves: 160,000 that wait can each give
//! up in the same time, and the place of one that has is used again by the next.

use slab::Slab;

/// No entry.
const NONE: usize = usize::MAX;
/// An empty list of more places than this gives its memory back.
const KEPT: usize = 64;

/// See the page above.
#[derive(Debug)]
pub(super) struct Linked<T> {
    entries: Slab<Entry<T>>,
    first: usize,
    last: usize,
}

#[derive(Debug)]
struct Entry<T> {
    value: T,
    before: usize,
    after: usize,
}

impl<T> Default for Linked<T> {
    fn default() -> Self {
        Linked { entries: Slab::new(), first: NONE, last: NONE }
    }
}

impl<T> Linked<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds an entry behind all others. Returns its key, which is its own until it is removed.
    pub(super) fn push(&mut self, value: T) -> usize {
        let key = self.entries.insert(Entry { value, before: self.last, after: NONE });
        match self.entries.get_mut(self.last) {
            Some(last) => last.after = key,
            None => self.first = key,
        }
        self.last = key;
        key
    }

    /// The oldest.
    pub(super) fn front(&self) -> Option<&T> {
        self.entries.get(self.first).map(|entry| &entry.value)
    }

    /// Removes the oldest.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.remove(self.first)
    }

    /// Removes the entry under a key, if there is one.
    pub(super) fn remove(&mut self, key: usize) -> Option<T> {
        let Entry { value, before, after } = self.entries.try_remove(key)?;
        match self.entries.get_mut(before) {
            Some(entry) => entry.after = after,
            None => self.first = after,
        }
        match self.entries.get_mut(after) {
            Some(entry) => entry.before = before,
            None => self.last = before,
        }
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = Slab::new();
        }
        Some(value)
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};
    use std::collections::VecDeque;

    /// Beside a queue that is walked.
    #[test]
    fn it_does_what_a_queue_does() {
        let mut rng = SmallRng::seed_from_u64(3);
        let (mut list, mut queue) = (Linked::default(), VecDeque::new());
        for number in 0..10_000 {
            match rng.random_range(0..5) {
                0..2 => {
                    let key = list.push(number);
                    queue.push_back((key, number));
                }
                2 => assert_eq!(list.pop(), queue.pop_front().map(|(_, number)| number)),
                _ if queue.is_empty() => assert!(list.is_empty()),
                _ => {
                    let at = rng.random_range(0..queue.len());
                    let (key, number) = queue.remove(at).unwrap();
                    assert_eq!((list.remove(key), list.is_empty()), (Some(number), queue.is_empty()));
                }
            }
            assert_eq!(list.front(), queue.front().map(|(_, number)| number));
        }
        while list.pop().is_some() {}
        assert!(list.entries.capacity() <= KEPT, "its memory went back");
    }
}

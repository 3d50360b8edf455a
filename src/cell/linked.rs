//! A list of waiting entries, oldest first, from which each entry is removed in constant time.
//!
//! The entries lie in a slab and know their neighbours. So a removal walks over nothing and moves
//! nothing: each of 160,000 waiting entries can be given up in the same time, and its place is used
//! again.

use slab::Slab;

/// Key of no entry.
const NONE: usize = usize::MAX;
/// An empty list with more places than this gives its memory back.
const KEPT: usize = 64;

/// The list. See the header of this file.
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

    /// Adds an entry behind all others. Returns the entry's key, which is valid until the entry is
    /// removed.
    pub(super) fn push(&mut self, value: T) -> usize {
        let key = self.entries.insert(Entry { value, before: self.last, after: NONE });
        // `NONE` is no key of the slab, so the ends of the list need no flag.
        match self.entries.get_mut(self.last) {
            Some(last) => last.after = key,
            None => self.first = key,
        }
        self.last = key;
        key
    }

    /// Returns the oldest entry.
    pub(super) fn front(&self) -> Option<&T> {
        self.entries.get(self.first).map(|entry| &entry.value)
    }

    /// Removes and returns the oldest entry.
    pub(super) fn pop(&mut self) -> Option<T> {
        self.remove(self.first)
    }

    /// Removes and returns the entry under a key, if there is one.
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
        // A burst of waiters would otherwise keep its memory in the actor for ever.
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

    /// Compares the list with a queue that is walked.
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
                    assert_eq!(
                        (list.remove(key), list.is_empty()),
                        (Some(number), queue.is_empty())
                    );
                }
            }
            assert_eq!(list.front(), queue.front().map(|(_, number)| number));
        }
        while list.pop().is_some() {}
        assert!(list.entries.capacity() <= KEPT, "its memory went back");
    }
}

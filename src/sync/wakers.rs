//! A set of wakers in which each wait has an entry of its own.
//!
//! A waiting future keeps the key of its entry and removes the entry when the future is dropped, in
//! constant time. An abandoned wait therefore leaves nothing behind, however long its target lives.
//!
//! The set has no lock; the caller keeps it under the lock of whatever is waited for. Cloning,
//! waking and dropping a waker runs user code. So each method takes or returns wakers by value, and
//! the caller clones and drops them outside the lock.

use slab::Slab;
use std::task::Waker;

/// Wakers by the keys of their waits.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    entries: Slab<(u64, Waker)>,
    last_id: u64,
}

/// Names one entry. Keys are never reused, so a key that outlives its entry finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WakerKey {
    index: usize,
    id: u64,
}

impl Wakers {
    /// Adds a waker.
    pub(crate) fn insert(&mut self, waker: Waker) -> WakerKey {
        // Indices are reused, so the id tells the entries of one index apart.
        self.last_id += 1;
        WakerKey { index: self.entries.insert((self.last_id, waker)), id: self.last_id }
    }

    /// Replaces the waker of an entry and returns the old one. Returns the new waker as an error if
    /// the entry is gone.
    pub(crate) fn replace(&mut self, key: WakerKey, waker: Waker) -> Result<Waker, Waker> {
        match self.entries.get_mut(key.index) {
            Some((id, old)) if *id == key.id => Ok(std::mem::replace(old, waker)),
            _ => Err(waker),
        }
    }

    /// Enters a waker for one wait: under its key, or under a new key, which is stored in `key`.
    /// Returns the replaced waker, which the caller drops after it has released the lock.
    pub(crate) fn insert_or_replace(
        &mut self,
        key: &mut Option<WakerKey>,
        waker: Waker,
    ) -> Option<Waker> {
        let waker = match *key {
            None => waker,
            Some(key) => match self.replace(key, waker) {
                Ok(old) => return Some(old),
                Err(waker) => waker,
            },
        };
        *key = Some(self.insert(waker));
        None
    }

    /// Removes an entry and returns its waker, or `None` if the entry is gone.
    pub(crate) fn remove(&mut self, key: WakerKey) -> Option<Waker> {
        let (id, _) = self.entries.get(key.index)?;
        // An old key may name an index that belongs to another wait by now.
        let waker = (*id == key.id).then(|| self.entries.remove(key.index).1);
        if self.entries.is_empty() {
            self.entries = Slab::new(); // a burst of waits gives its memory back
        }
        waker
    }

    /// Takes all wakers. The caller wakes them after it has released the lock.
    pub(crate) fn take_all(&mut self) -> Vec<Waker> {
        // Takes the slab itself, so a burst's memory goes with it.
        std::mem::take(&mut self.entries).into_iter().map(|(_, (_, waker))| waker).collect()
    }

    /// Returns `true` if there is no entry.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing() {
        let mut wakers = Wakers::default();
        let first = wakers.insert(Waker::noop().clone());
        assert!(wakers.replace(first, Waker::noop().clone()).is_ok());
        assert!(wakers.remove(first).is_some());
        let second = wakers.insert(Waker::noop().clone());
        assert_ne!(first, second);
        assert!(wakers.remove(first).is_none(), "its place belongs to another wait");
        let mut key = Some(second);
        assert!(wakers.insert_or_replace(&mut key, Waker::noop().clone()).is_some());
        assert_eq!((key, wakers.take_all().len()), (Some(second), 1));
        assert!(
            wakers.insert_or_replace(&mut key, Waker::noop().clone()).is_none(),
            "its entry was taken"
        );
        assert_ne!(key, Some(second));
        assert_eq!(wakers.take_all().len(), 1);
        assert!(wakers.replace(second, Waker::noop().clone()).is_err());
        assert!(wakers.is_empty());
    }
}

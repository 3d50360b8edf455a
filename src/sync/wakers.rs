//! A set of wakers in which each has an entry of its own.
//!
//! A future that waits keeps the key of its entry and removes the entry when it is dropped, in constant time. So an
//! abandoned wait leaves nothing behind, however long its target lives.
//!
//! The set has no lock: it lies under the lock of whatever is waited for. Cloning, waking and dropping a waker is user
//! code, so each method takes or returns wakers by value, and the caller clones and drops them outside that lock.

use slab::Slab;
use std::task::Waker;

/// Wakers under the keys of those who wait.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    entries: Slab<(u64, Waker)>,
    last_id: u64,
}

/// Names one entry. It is never used again, so a key that outlives its entry finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WakerKey {
    index: usize,
    id: u64,
}

impl Wakers {
    /// Adds a waker.
    pub(crate) fn insert(&mut self, waker: Waker) -> WakerKey {
        self.last_id += 1;
        WakerKey { index: self.entries.insert((self.last_id, waker)), id: self.last_id }
    }

    /// Replaces the waker of an entry and returns the old one. The new one comes back if the entry is gone.
    pub(crate) fn replace(&mut self, key: WakerKey, waker: Waker) -> Result<Waker, Waker> {
        match self.entries.get_mut(key.index) {
            Some((id, old)) if *id == key.id => Ok(std::mem::replace(old, waker)),
            _ => Err(waker),
        }
    }

    /// Enters a waker for one wait: under its key, or under a new one, which is left there. Returns the waker that it replaces,
    /// which the caller drops after it has let go of the lock.
    pub(crate) fn enter(&mut self, key: &mut Option<WakerKey>, waker: Waker) -> Option<Waker> {
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

    /// Removes an entry and returns its waker. `None` if it has been taken already.
    pub(crate) fn remove(&mut self, key: WakerKey) -> Option<Waker> {
        let (id, _) = self.entries.get(key.index)?;
        let waker = (*id == key.id).then(|| self.entries.remove(key.index).1);
        if self.entries.is_empty() {
            self.entries = Slab::new(); // a burst of waits gives its memory back
        }
        waker
    }

    /// Takes all wakers, which the caller wakes after it has let go of the lock.
    pub(crate) fn take_all(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.entries).into_iter().map(|(_, (_, waker))| waker).collect()
    }

    /// Returns `true` if nobody waits.
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
        assert!(wakers.enter(&mut key, Waker::noop().clone()).is_some());
        assert_eq!((key, wakers.take_all().len()), (Some(second), 1));
        assert!(wakers.enter(&mut key, Waker::noop().clone()).is_none(), "its entry was taken");
        assert_ne!(key, Some(second));
        assert_eq!(wakers.take_all().len(), 1);
        assert!(wakers.replace(second, Waker::noop().clone()).is_err());
        assert!(wakers.is_empty());
    }
}

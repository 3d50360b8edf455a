//! A hash table that gives its memory back when it becomes empty.
//!
//! A table of waits or of waiters is empty most of the time. A plain `HashMap` keeps the memory of
//! its largest burst for ever. All tables of the crate that live as long as an actor, a pool or an
//! executor are of this type.

use std::collections::HashMap;
use std::hash::Hash;

/// Capacity up to which an empty table keeps its memory.
const KEPT: usize = 128;

/// The table. See the header of this file.
#[derive(Debug)]
pub(crate) struct ShrinkingMap<K, V>(HashMap<K, V>);

impl<K, V> Default for ShrinkingMap<K, V> {
    fn default() -> Self {
        ShrinkingMap(HashMap::new())
    }
}

impl<K: Eq + Hash, V> ShrinkingMap<K, V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn value_of(&self, key: &K) -> Option<&V> {
        self.0.get(key)
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values()
    }

    /// Sets the value of a key. Returns the value before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.0.insert(key, value)
    }

    /// Removes a key. Returns its value.
    pub(crate) fn remove_key(&mut self, key: &K) -> Option<V> {
        let value = self.0.remove(key);
        if self.0.is_empty() && self.0.capacity() > KEPT {
            self.0 = HashMap::new();
        }
        value
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_burst_gives_its_memory_back() {
        let mut map = ShrinkingMap::default();
        for round in 0..2 {
            (0..100_000).for_each(|n| assert_eq!(map.insert(n, round), None));
            assert!(map.0.capacity() >= 100_000);
            (0..100_000).for_each(|n| assert_eq!(map.remove_key(&n), Some(round)));
            assert!(map.is_empty() && map.0.capacity() <= KEPT);
        }
        map.insert(1, 1);
        let before = map.0.capacity();
        map.remove_key(&1);
        assert_eq!(map.0.capacity(), before, "a small table stays");
    }
}

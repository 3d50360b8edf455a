//! The registry: all cells of one executor. Each worker has a shard, and all other threads share
//! one, so spawning threads seldom meet.
//!
//! A shard gives out ids and holds a place for each cell until the cell's memory goes (8 bytes a
//! cell, places are used again). A shard with cells keeps the core alive. One reference counts for
//! all cells of a shard, so a spawn touches no shared count.
//!
//! Loom model: `models::registry`. Needed orderings: `cargo xtask weaken`, group
//! `registry`.

use super::core::Core;
use super::header::Header;
use crate::id::ActorId;
use crate::sync::{AtomicPtr, Mutex, Ordering::*, Padded};
use std::num::NonZeroU64;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// An id is `sequence << SHARD_BITS | shard`, with sequences from 1.
const SHARD_BITS: u32 = 13;
/// End of the list of free places. Fits into a word of 32 bits beside the bit that marks a free
/// place.
const NO_PLACE: u32 = u32::MAX >> 1;

/// One part of the registry.
#[derive(Debug)]
pub(crate) struct Shard {
    core: AtomicPtr<Core>,
    index: u32,
    inner: Padded<Mutex<ShardCells>>,
}

#[derive(Debug)]
struct ShardCells {
    places: Vec<RegistryEntry>,
    first_free: u32,
    cells: usize,
    sequence: u64,
    closed: bool,
}

/// A cell's address, or the number of the next free place with the lowest bit set.
#[derive(Clone, Copy, Debug)]
struct RegistryEntry(usize);

impl RegistryEntry {
    fn occupied_by(header: NonNull<Header>) -> Self {
        RegistryEntry(header.as_ptr() as usize)
    }
    fn free_before(next: u32) -> Self {
        RegistryEntry((next as usize) << 1 | 1)
    }
    fn header(self) -> Option<NonNull<Header>> {
        if self.0 & 1 == 1 { None } else { NonNull::new(ptr::with_exposed_provenance_mut(self.0)) }
    }
    fn next_free(self) -> u32 {
        (self.0 >> 1) as u32
    }
}

impl ShardCells {
    fn free_place(&mut self, place: u32) {
        self.places[place as usize] = RegistryEntry::free_before(self.first_free);
        self.first_free = place;
        self.cells -= 1;
        // A burst of actors would otherwise keep the memory of its places for ever.
        if self.cells == 0 {
            self.places = Vec::new();
            self.first_free = NO_PLACE;
        }
    }
}

impl Shard {
    pub(crate) fn new(index: usize) -> Self {
        Shard {
            core: AtomicPtr::new(ptr::null_mut()),
            index: index as u32,
            inner: Padded(Mutex::new(ShardCells {
                places: Vec::new(),
                first_free: NO_PLACE,
                cells: 0,
                sequence: 0,
                closed: false,
            })),
        }
    }

    /// Sets the core that contains the shard. Called once, before the first cell.
    pub(crate) fn belong_to(&self, core: &Arc<Core>) {
        self.core.store(Arc::as_ptr(core).cast_mut(), Release);
    }

    #[inline]
    pub(crate) fn core(&self) -> &Core {
        // Relaxed: set before the first cell was made, and each caller got a cell since.
        // SAFETY: the shard is part of the core, so the core lives while the shard is borrowed.
        unsafe { &*self.core.load(Relaxed) }
    }

    /// Returns another counted reference to the core around the shard.
    pub(crate) fn share_core(&self) -> Arc<Core> {
        let core = self.core.load(Relaxed);
        // SAFETY: the pointer is an `Arc`'s, with the provenance of its whole allocation. The shard
        // is borrowed, and with it the core, so at least one reference is counted.
        unsafe {
            Arc::increment_strong_count(core);
            Arc::from_raw(core)
        }
    }

    /// Adds a new cell, built by `make` from id and place. Returns `None` if the shard is closed.
    /// Then `make` was not called.
    pub(crate) fn add_cell(
        &self,
        make: impl FnOnce(ActorId, u32) -> NonNull<Header>,
    ) -> Option<NonNull<Header>> {
        let mut inner = self.inner.lock();
        if inner.closed {
            drop(inner); // before `make`, which may own user values
            return None;
        }
        Some(self.add_locked(&mut inner, make))
    }

    /// Adds a cell that will never be alive, even if the shard is closed.
    pub(crate) fn add_cell_even_closed(
        &self,
        make: impl FnOnce(ActorId, u32) -> NonNull<Header>,
    ) -> NonNull<Header> {
        self.add_locked(&mut self.inner.lock(), make)
    }

    fn add_locked(
        &self,
        inner: &mut ShardCells,
        make: impl FnOnce(ActorId, u32) -> NonNull<Header>,
    ) -> NonNull<Header> {
        let place = match inner.first_free {
            NO_PLACE => {
                // All places are taken, so the vector grows by one.
                let place =
                    u32::try_from(inner.places.len()).ok().filter(|&place| place < NO_PLACE);
                let place = place.expect("fewer than 2^31 actors in a shard");
                // A free place until the cell is there, so a walk never sees half a cell.
                inner.places.push(RegistryEntry::free_before(NO_PLACE));
                place
            }
            free => {
                inner.first_free = inner.places[free as usize].next_free();
                free
            }
        };
        inner.sequence += 1;
        let raw = inner.sequence << SHARD_BITS | u64::from(self.index);
        let id = ActorId::from_raw(NonZeroU64::new(raw).expect("sequences begin at 1"));
        let header = make(id, place);
        // The place keeps the address in a word, and `header` gets the pointer back from it.
        header.as_ptr().expose_provenance();
        inner.places[place as usize] = RegistryEntry::occupied_by(header);
        inner.cells += 1;
        // The first cell takes the shard's one reference to the core.
        if inner.cells == 1 {
            // SAFETY: the pointer is an `Arc`'s, and the caller borrows the core, so a reference is
            // counted.
            unsafe { Arc::increment_strong_count(self.core.load(Relaxed)) };
        }
        header
    }

    /// Takes a cell off the registry. Returns a reference to the core, which the caller keeps until
    /// it has given the cell's memory back. The cell itself keeps nothing any more, and other
    /// threads may drop the last other reference at any moment.
    #[must_use = "the cell's memory is the core's"]
    pub(crate) fn forget_cell(&self, place: u32) -> Arc<Core> {
        let mut inner = self.inner.lock();
        inner.free_place(place);
        let core = self.core.load(Relaxed);
        // SAFETY: the first cell took a reference for the shard, and under the lock no other thread
        // gives that reference up.
        unsafe {
            if inner.cells > 0 {
                Arc::increment_strong_count(core);
            } // otherwise the shard has no cell left and hands over its own reference
            Arc::from_raw(core)
        }
    }

    /// Takes several cells off the registry. The caller has read the places before, so the lock is
    /// held briefly: other threads need it to spawn.
    ///
    /// # Safety
    /// Called on a worker's thread, which holds the core. The cells belong to this shard and are
    /// dead, and no other thread knows the cells.
    pub(crate) unsafe fn forget_some(&self, places: &[u32]) {
        let mut inner = self.inner.lock();
        places.iter().for_each(|&place| inner.free_place(place));
        if inner.cells == 0 && !places.is_empty() {
            // SAFETY: the shard's first cell took the reference. The worker's thread holds another,
            // so the count stays above 0.
            unsafe { Arc::decrement_strong_count(self.core.load(Relaxed)) };
        }
    }

    /// Refuses new cells from now on.
    pub(crate) fn refuse_new_cells(&self) {
        self.inner.lock().closed = true;
    }

    /// Calls `f` with every cell that exists throughout the call. The walk goes in parts, so that
    /// no thread waits long for the lock. Before each further part `go_on` is asked. Returns
    /// `false` if it ended the walk.
    ///
    /// `f` runs under the lock, and must not run user code or release a reference to a cell.
    pub(crate) fn for_each(
        &self,
        mut f: impl FnMut(NonNull<Header>),
        mut go_on: impl FnMut() -> bool,
    ) -> bool {
        const PART: usize = 256;
        let mut from = 0;
        loop {
            // Not asked before the first part, so a walk without time left still sees some cells.
            if from > 0 && !go_on() {
                return false;
            }
            let inner = self.inner.lock();
            let Some(rest) = inner.places.get(from..).filter(|rest| !rest.is_empty()) else {
                return true;
            };
            rest.iter().take(PART).filter_map(|place| place.header()).for_each(&mut f);
            // A cell never changes its place, so a cell that exists throughout is met exactly once.
            from += PART;
        }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;

    /// Holds also where a word has 32 bits.
    #[test]
    fn a_free_place_and_the_end_of_the_free_ones_fit_into_32_bits() {
        for next in [0, 1, NO_PLACE - 1, NO_PLACE] {
            let place = RegistryEntry::free_before(next);
            assert!(u32::try_from(place.0).is_ok(), "{place:?}");
            assert_eq!(place.next_free(), next);
            assert!(place.header().is_none());
        }
    }
}

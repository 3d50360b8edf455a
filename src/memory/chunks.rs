//! Chunks: 2 MiB from the system at a time, handed out as slabs.
//!
//! Slabs come from the lowest chunk with a free slab, so that chunks at the other end become empty.
//! An empty chunk goes back to the system, except for one. From the second chunk on the system is
//! asked for huge pages: a first touch then costs less, and a large crew of actors needs few
//! entries of the processor's address cache. A small program stays small.

use super::poison;
use crate::fork::Birth;
use crate::sync::Mutex;
use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::ptr::{self, NonNull};

/// Bytes in a slab.
pub(super) const SLAB: usize = 64 << 10;
/// Bytes in a chunk, and its alignment.
pub(super) const CHUNK: usize = 2 << 20;
/// Slabs in a chunk.
pub(super) const SLABS: usize = CHUNK / SLAB;

const ALL: u32 = u32::MAX;
const _: () = assert!(SLABS == ALL.count_ones() as usize);

/// The chunks of a pool.
///
/// In a forked child the list's lock may be locked for ever. So a child takes each slab from a
/// chunk of its own and gives none back.
#[derive(Debug)]
pub(super) struct Chunks {
    list: Mutex<ChunkList>,
    birth: Birth,
}

#[derive(Debug, Default)]
struct ChunkList {
    /// Chunks by address, with a bit for each slab that is here.
    chunks: BTreeMap<usize, Chunk>,
    /// Number of chunks with all slabs present.
    whole: usize,
    /// No chunk below this address has a slab.
    lowest: usize,
}

#[derive(Debug)]
struct Chunk {
    memory: system::ChunkMemory,
    here: u32,
}

impl Chunks {
    pub(super) fn new(birth: Birth) -> Self {
        Chunks { list: Mutex::default(), birth }
    }

    /// Returns `true` in a child that was forked since the pool was made.
    pub(super) fn is_forked(&self) -> bool {
        self.birth.is_forked()
    }

    /// Takes a slab. Returns its chunk and its index in the chunk.
    pub(super) fn take_slab(&self) -> (NonNull<u8>, usize) {
        if self.is_forked() {
            // Leaked: the list that would keep the chunk is locked, perhaps for ever.
            return (ManuallyDrop::new(system::ChunkMemory::new(false)).base_pointer(), 0);
        }
        let mut inner = self.list.lock();
        let lowest = inner.lowest;
        // `lowest` saves a walk over chunks without free slabs.
        let found = inner.chunks.range_mut(lowest..).find(|(_, chunk)| chunk.here != 0);
        let (address, chunk) = match found {
            Some((&address, chunk)) => (address, chunk),
            None => {
                // Under the lock, so that two threads do not both map a chunk.
                let memory = system::ChunkMemory::new(!inner.chunks.is_empty());
                let address = memory.base_pointer().addr().get();
                inner.whole += 1;
                (address, inner.chunks.entry(address).or_insert(Chunk { memory, here: ALL }))
            }
        };
        let was_whole = chunk.here == ALL;
        let slab = chunk.here.trailing_zeros();
        chunk.here &= !(1 << slab);
        let taken = (chunk.memory.base_pointer(), slab as usize);
        inner.whole -= usize::from(was_whole);
        inner.lowest = address;
        taken
    }

    /// Takes back a slab, given by its chunk's address and its index in the chunk.
    ///
    /// # Safety
    /// The slab came from [`take_slab`](Self::take_slab), and no block of the slab is in use.
    pub(super) unsafe fn give_slab_back(&self, address: usize, index: usize) {
        if self.is_forked() {
            return; // leaked, as the page says
        }
        poison::unpoison(ptr::without_provenance_mut(address + index * SLAB), SLAB);
        let mut inner = self.list.lock();
        // The chunk has a slab again, so the search must not begin above the chunk.
        inner.lowest = inner.lowest.min(address);
        let chunk = inner.chunks.get_mut(&address).expect("a slab of ours");
        chunk.here |= 1 << index;
        if chunk.here == ALL {
            // One whole chunk is kept, so that a crew at a chunk's edge does not map and unmap in
            // turn.
            let surplus = if inner.whole > 0 { inner.chunks.remove(&address) } else { None };
            inner.whole += usize::from(surplus.is_none());
            drop(inner);
            // After the lock: unmapping is a system call, which may take long.
            drop(surplus);
        }
    }

    pub(super) fn held_bytes(&self) -> usize {
        if self.is_forked() { 0 } else { self.list.lock().chunks.len() * CHUNK }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::CHUNK;
    use std::ptr::{self, NonNull};

    /// A chunk's memory. Mapped rather than allocated, since chunks must be aligned and must go
    /// back to the system when dropped.
    #[derive(Debug)]
    pub(super) struct ChunkMemory(NonNull<u8>);

    // SAFETY: the memory belongs to no thread.
    unsafe impl Send for ChunkMemory {}

    impl ChunkMemory {
        pub(super) fn new(huge: bool) -> Self {
            let (access, kind) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: the mapping is new and twice as long as needed, so an aligned chunk lies
            // inside. Only the unused parts before and behind the chunk are unmapped.
            unsafe {
                let wide = libc::mmap(ptr::null_mut(), 2 * CHUNK, access, kind, -1, 0);
                if wide == libc::MAP_FAILED {
                    std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; CHUNK]>());
                }
                // `mmap` aligns to pages only.
                let before = wide.align_offset(CHUNK);
                let start = wide.byte_add(before);
                if before > 0 {
                    libc::munmap(wide, before);
                }
                libc::munmap(start.byte_add(CHUNK), CHUNK - before);
                if huge {
                    libc::madvise(start, CHUNK, libc::MADV_HUGEPAGE); // advice; may be refused
                }
                ChunkMemory(NonNull::new_unchecked(start.cast()))
            }
        }

        pub(super) fn base_pointer(&self) -> NonNull<u8> {
            self.0
        }
    }

    impl Drop for ChunkMemory {
        fn drop(&mut self) {
            // SAFETY: `new` mapped the memory, and no slab of a dropped chunk is in use.
            unsafe { libc::munmap(self.0.as_ptr().cast(), CHUNK) };
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::CHUNK;
    use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
    use std::ptr::NonNull;

    /// A chunk's memory.
    #[derive(Debug)]
    pub(super) struct ChunkMemory(NonNull<u8>);

    // SAFETY: the memory belongs to no thread.
    unsafe impl Send for ChunkMemory {}

    fn chunk_layout() -> Layout {
        Layout::from_size_align(CHUNK, CHUNK).expect("a power of two")
    }

    impl ChunkMemory {
        pub(super) fn new(_huge: bool) -> Self {
            // SAFETY: the layout's size is not 0.
            let start = unsafe { alloc(chunk_layout()) };
            ChunkMemory(NonNull::new(start).unwrap_or_else(|| handle_alloc_error(chunk_layout())))
        }

        pub(super) fn base_pointer(&self) -> NonNull<u8> {
            self.0
        }
    }

    impl Drop for ChunkMemory {
        fn drop(&mut self) {
            // SAFETY: `new` allocated the memory with this layout, and no slab of a dropped chunk
            // is in use.
            unsafe { dealloc(self.0.as_ptr(), chunk_layout()) };
        }
    }
}

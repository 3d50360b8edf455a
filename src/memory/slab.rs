//! A slab: 64 KiB of blocks of one size. Only the heap's holder touches it.
//!
//! The header lies at the beginning of the chunk, together with the headers of the neighbours.
//! Blocks therefore follow each other without gaps. Blocks handed out in order lie in order, and
//! the processor can predict the next address.

use super::chunks::{CHUNK, SLAB, SLABS};
use super::heap::Heap;
use super::returns::Block;
use std::cell::Cell;
use std::num::NonZero;
use std::ptr::{self, NonNull};

/// Bytes in a header.
const HEADER: usize = 64;
/// Bytes of fresh blocks linked at a time. Few, so that memory is not touched long before use.
const CARVE: usize = 2 << 10;

/// A slab's header.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Slab {
    pub(super) home: *const Heap,
    /// Start of the chunk, with the provenance of all of it. Pointers to blocks, and mutable
    /// pointers to this header, are derived from it.
    chunk: NonNull<u8>,
    /// Blocks neither out nor fresh.
    free: Cell<*mut Block>,
    free_count: Cell<u32>,
    /// Number of blocks out: in use, on a size class's list, or on their way home.
    out: Cell<u32>,
    /// Offset of the first block never handed out. `end` is where the last block ends. Both count
    /// from the chunk's beginning.
    fresh: Cell<u32>,
    end: u32,
    size: u32,
    pub(super) class: u16,
    /// Whether the slab is on its size class's list.
    pub(super) listed: Cell<bool>,
    pub(super) next: Cell<*const Slab>,
    pub(super) previous: Cell<*const Slab>,
}

const _: () = assert!(size_of::<Slab>() == HEADER);

/// Blocks linked from `first` to a null pointer.
pub(super) struct Chain {
    pub(super) first: *mut Block,
    pub(super) count: u32,
}

impl Slab {
    /// Writes the header of a slab with no block out.
    ///
    /// # Safety
    /// `at` is a slab's header, and the caller alone has slab and header.
    pub(super) unsafe fn init_header<'a>(
        at: NonNull<Slab>,
        home: &Heap,
        class: usize,
        size: usize,
    ) -> &'a Slab {
        let index = (at.addr().get() & (CHUNK - 1)) / HEADER;
        // The chunk's headers take the beginning of its first slab.
        let from = if index == 0 { SLABS * HEADER } else { index * SLAB };
        let slab = Slab {
            home,
            chunk: at
                .map_addr(|address| {
                    NonZero::new(address.get() & !(CHUNK - 1)).expect("no null pointer")
                })
                .cast(),
            free: Cell::new(ptr::null_mut()),
            free_count: Cell::new(0),
            out: Cell::new(0),
            fresh: Cell::new(from as u32),
            end: ((index + 1) * SLAB) as u32,
            size: size as u32,
            class: class as u16,
            listed: Cell::new(false),
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
        };
        // SAFETY: the caller alone has the header, which lies inside a chunk and is aligned to 64
        // bytes.
        unsafe {
            at.write(slab);
            at.as_ref()
        }
    }

    /// Returns a pointer to a chunk's `index`th header.
    pub(super) fn header_at(chunk: NonNull<u8>, index: usize) -> NonNull<Slab> {
        // SAFETY: `index` is below `SLABS`, so the header lies inside the chunk.
        unsafe { chunk.byte_add(index * HEADER).cast() }
    }

    /// Returns a pointer through which the header may be written anew. A pointer made from `&self`
    /// would be valid for the header's bytes only, and mostly for reads.
    pub(super) fn as_ptr(&self) -> NonNull<Slab> {
        self.chunk.map_addr(|_| NonNull::from(self).addr()).cast()
    }

    /// Returns the address of this header's chunk, and the header's index in it.
    pub(super) fn place_in_chunk(header: NonNull<Slab>) -> (usize, usize) {
        let address = header.addr().get();
        (address & !(CHUNK - 1), (address & (CHUNK - 1)) / HEADER)
    }

    /// Returns the header of a block's slab.
    #[inline]
    pub(super) fn of_block(block: *mut Block) -> *const Slab {
        block
            // `map_addr` keeps the provenance; `carve_chain` derived the pointer from the whole
            // chunk, headers included.
            .map_addr(|address| (address & !(CHUNK - 1)) + (address & (CHUNK - 1)) / SLAB * HEADER)
            .cast_const()
            .cast()
    }

    /// Hands out all returned blocks, or else some fresh blocks. Returns `None` if the slab is
    /// exhausted.
    pub(super) fn take_some(&self) -> Option<Chain> {
        let chain = match self.free_count.replace(0) {
            // Fresh blocks only when none came back, so that new memory is touched as late as
            // possible.
            0 => self.carve_chain()?,
            count => Chain { first: self.free.replace(ptr::null_mut()), count },
        };
        self.out.set(self.out.get() + chain.count);
        Some(chain)
    }

    fn carve_chain(&self) -> Option<Chain> {
        let (size, from) = (self.size as usize, self.fresh.get() as usize);
        // The rest of a slab that is too short for another block stays unused.
        let count = ((self.end as usize - from) / size).min(CARVE / size);
        if count == 0 {
            return None;
        }
        let chunk = self.chunk.as_ptr();
        let mut first = ptr::null_mut();
        // Backwards, so that blocks are handed out in the order of their addresses.
        for i in (0..count).rev() {
            // SAFETY: the block lies inside the slab, beyond all blocks handed out before. Only its
            // first field is written, since `below` and `count` are set when a chain is sent.
            unsafe {
                let block = chunk.add(from + i * size).cast::<Block>();
                (&raw mut (*block).next).write(first);
                first = block;
            }
        }
        self.fresh.set((from + count * size) as u32);
        Some(Chain { first, count: count as u32 })
    }

    /// Takes a block back. Returns how many are still out.
    ///
    /// # Safety
    /// The block belongs to the slab, and the caller gives it up.
    #[inline]
    pub(super) unsafe fn put_block(&self, block: *mut Block) -> u32 {
        // SAFETY: the caller gave the block up, so the heap's holder alone has it.
        unsafe { (*block).next = self.free.get() };
        self.free.set(block);
        self.free_count.set(self.free_count.get() + 1);
        let out = self.out.get() - 1;
        self.out.set(out);
        out
    }

    pub(super) fn is_unused(&self) -> bool {
        self.out.get() == 0
    }
}

//! A slab: 64 KiB of blocks of one size. Its header lies at the beginning of its chunk, with those of its neighbours, so
//! that blocks follow each other without gaps (what is handed out in order lies in order, which the processor can guess).
//! All of it belongs to the heap's holder.

use super::heap::Heap;
use super::returns::Block;
use std::cell::Cell;
use std::num::NonZero;
use std::ptr::{self, NonNull};

/// Bytes in a slab.
pub(super) const SLAB: usize = 64 << 10;
/// Bytes in a chunk, and its alignment.
pub(super) const CHUNK: usize = 2 << 20;
/// Slabs in a chunk.
pub(super) const SLABS: usize = CHUNK / SLAB;
/// Bytes of a header.
const HEADER: usize = 64;
/// Fresh blocks are linked this many bytes at a time, so that memory is not touched long before it is used.
const CARVE: usize = 2 << 10;

/// The header.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Slab {
    pub(super) home: *const Heap,
    /// Where the chunk begins, with the provenance of all of it: from here blocks are made, and other pointers to this header.
    chunk: NonNull<u8>,
    /// Blocks that are neither out nor fresh.
    free: Cell<*mut Block>,
    free_count: Cell<u32>,
    /// Blocks that are out: with somebody, on a shelf's list, or on their way home.
    out: Cell<u32>,
    /// Where the first block lies that was never handed out, and where the last one ends; from the chunk's beginning.
    fresh: Cell<u32>,
    end: u32,
    size: u32,
    pub(super) shelf: u16,
    /// On its shelf's list.
    pub(super) listed: Cell<bool>,
    pub(super) next: Cell<*const Slab>,
    pub(super) previous: Cell<*const Slab>,
}

const _: () = assert!(size_of::<Slab>() == HEADER);

/// Blocks linked from `first` to a null.
pub(super) struct Chain {
    pub(super) first: *mut Block,
    pub(super) count: u32,
}

impl Slab {
    /// Begins a slab.
    ///
    /// # Safety
    /// `at` is a slab's header, and slab and header are the caller's alone.
    pub(super) unsafe fn begin<'a>(at: NonNull<Slab>, home: &Heap, shelf: usize, size: usize) -> &'a Slab {
        let index = (at.addr().get() & (CHUNK - 1)) / HEADER;
        let from = if index == 0 { SLABS * HEADER } else { index * SLAB };
        let slab = Slab {
            home,
            chunk: at
                .map_addr(|address| NonZero::new(address.get() & !(CHUNK - 1)).expect("no null pointer"))
                .cast(),
            free: Cell::new(ptr::null_mut()),
            free_count: Cell::new(0),
            out: Cell::new(0),
            fresh: Cell::new(from as u32),
            end: ((index + 1) * SLAB) as u32,
            size: size as u32,
            shelf: shelf as u16,
            listed: Cell::new(false),
            next: Cell::new(ptr::null()),
            previous: Cell::new(ptr::null()),
        };
        // SAFETY: the caller's.
        unsafe {
            at.write(slab);
            at.as_ref()
        }
    }

    /// A chunk's `index`th header.
    pub(super) fn header(chunk: NonNull<u8>, index: usize) -> NonNull<Slab> {
        // SAFETY: inside the chunk.
        unsafe { chunk.byte_add(index * HEADER).cast() }
    }

    /// A pointer through which the header may be begun anew. (A reference is only good for its own bytes, and for reading most of
    /// these.)
    pub(super) fn as_ptr(&self) -> NonNull<Slab> {
        self.chunk.map_addr(|_| NonNull::from(self).addr()).cast()
    }

    /// The chunk of this header, and its place there.
    pub(super) fn place(header: NonNull<Slab>) -> (usize, usize) {
        let address = header.addr().get();
        (address & !(CHUNK - 1), (address & (CHUNK - 1)) / HEADER)
    }

    /// The slab in which a block lies.
    #[inline]
    pub(super) fn of(block: *mut Block) -> *const Slab {
        block
            .map_addr(|address| (address & !(CHUNK - 1)) + (address & (CHUNK - 1)) / SLAB * HEADER)
            .cast_const()
            .cast()
    }

    /// Hands out all that came back, or else some fresh blocks; none if the slab is exhausted.
    pub(super) fn take_some(&self) -> Option<Chain> {
        let chain = match self.free_count.replace(0) {
            0 => self.carve()?,
            count => Chain { first: self.free.replace(ptr::null_mut()), count },
        };
        self.out.set(self.out.get() + chain.count);
        Some(chain)
    }

    fn carve(&self) -> Option<Chain> {
        let (size, from) = (self.size as usize, self.fresh.get() as usize);
        let count = ((self.end as usize - from) / size).min(CARVE / size);
        if count == 0 {
            return None;
        }
        let chunk = self.chunk.as_ptr();
        let mut first = ptr::null_mut();
        // Backwards, so that they are handed out in the order of their addresses.
        for i in (0..count).rev() {
            // SAFETY: inside the slab, beyond all that was handed out before.
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
    /// It is this slab's, and the caller's to give up.
    #[inline]
    pub(super) unsafe fn put(&self, block: *mut Block) -> u32 {
        // SAFETY: the caller's.
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

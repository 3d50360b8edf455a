//! Floor 0: memory for messages and cells, at a few nanoseconds apiece and without a lock.
//!
//! Why not the system's allocator: a message is allocated on one core and freed on another, all the time, which is what
//! general allocators are worst at; and the crew knows who it is, when it is idle, and how long everything lives.
//!
//! ```text
//!  pool (one for each executor)
//!   |-- chunks: 2 MiB from the system, cut into slabs of 64 KiB            chunks.rs
//!   |-- heap of worker 0, 1, ...       each heap owns slabs, a shelf of    heap.rs, trim.rs
//!   '-- heap of stripe 0, 1, ...       them for each size                  slab.rs
//! ```
//!
//! A slab holds blocks of one size, and begins with a header that a block finds by masking its own address. Blocks are
//! taken and given back by the heap's holder alone, with plain loads and stores. Who frees a block of another heap
//! collects up to 64 of one slab in a chain, and pushes the chain onto the owner's stack of returns with one
//! compare-and-swap; the owner takes that stack whole and hangs each chain into its slab's free list in one step.
//!
//! | a heap's holder | how |
//! |---|---|
//! | its worker, as long as it is awake | claims it when it wakes, lets go of it before it parks |
//! | for a stripe: a thread from outside, for one block | claims it for that time |
//! | a worker about to park, for the heaps of all workers that are not awake | tries to claim; takes in what was returned |
//! | a thread that has no heap, after it has sent some 250 blocks home | tries to claim the heap of the last one; takes in a bounded part of what was returned |
//!
//! **What is given back, and when**: an empty slab goes back to the pool at once, but for the one that each shelf takes
//! from and a few more; before a worker parks those go too, and so do its unfinished chains. A chunk whose slabs are all
//! back goes to the system; one is kept. So a burst's memory is the system's again when the crew is idle, and what stays
//! is what is in use, at most a slab (64 KiB) partly used for each size and heap, and one chunk.
//!
//! **How long it lives**: a pool is part of the executor's shared part, the core, which references, threads of the crew and
//! handles keep alive. Giving a block back touches the block's slab and its heap, so the pool must outlive that call. [`Held`]
//! is the proof: [`free`] and [`unboxed`] take one, and it borrows whatever keeps the core. Sizes above [`LARGEST`] bytes, and
//! alignments above [`STRICTEST`], come from the system's allocator; the type decides, so both ends agree.
//!
//! The scheme is mimalloc's (Leijen, Zorn, de Moura, 2019) in small: pages that are found by masking, free lists for
//! each page, a list of their own for what other threads free.

mod chunks;
mod heap;
mod poison;
pub(crate) mod returns;
mod slab;
mod trim;

pub(crate) use heap::Heap;

use chunks::Chunks;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

/// The largest block in bytes.
pub(crate) const LARGEST: usize = 256;
/// Sizes are multiples of this, and blocks are aligned to it; but for the smallest.
const GRANULE: usize = 16;
/// The strictest alignment of a type that has blocks: its size is a multiple of that, and a slab's blocks begin at one too.
const STRICTEST: usize = 2 * GRANULE;
/// What a message of up to a word takes, and what a free block needs. Aligned to words only.
const SMALLEST: usize = 24;
/// Sizes: 24, 32, 48, 64, ... bytes.
const SIZES: usize = LARGEST / GRANULE;

const _: () = assert!(size_of::<returns::Block>() <= SMALLEST);
/// Heaps for threads from outside.
const STRIPES: usize = if cfg!(heist_loom) { 1 } else { 16 };

/// What a block is for: long-lived cells do not share slabs with messages, which come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Message,
    Cell,
}

/// The memory of one executor.
#[derive(Debug)]
pub(crate) struct Pool {
    heaps: Box<[Heap]>,
    chunks: Arc<Chunks>,
    workers: usize,
}

impl Pool {
    pub(crate) fn new(workers: usize) -> Self {
        let chunks = Arc::new(Chunks::default());
        let heaps = (0..workers + STRIPES).map(|_| Heap::new(&chunks)).collect();
        Pool { heaps, chunks, workers }
    }

    /// The proof that this pool lives as long as the borrow.
    #[inline]
    pub(crate) fn held(&self) -> Held<'_> {
        Held {
            #[cfg(debug_assertions)]
            chunks: Arc::as_ptr(&self.chunks),
            pool: PhantomData,
        }
    }

    /// A worker's heap, to be claimed by that worker.
    pub(crate) fn of_worker(&self, worker: usize) -> &Heap {
        &self.heaps[worker]
    }

    /// Calls `f` with a heap for a thread that is not of the crew: its own stripe's, or another one that is free. (In a child
    /// made by `fork` a stripe may be claimed for good by a thread that is not there.)
    pub(crate) fn outside<R>(&self, f: impl FnOnce(&Heap) -> R) -> R {
        let stripes = &self.heaps[self.workers..];
        let own = crate::sync::thread_stripe(STRIPES);
        let free = (own..own + STRIPES).map(|i| &stripes[i % STRIPES]).find(|heap| heap.try_claim());
        let heap = free.unwrap_or_else(|| {
            stripes[own].claim();
            &stripes[own]
        });
        let result = f(heap);
        // SAFETY: claimed above.
        unsafe { heap.let_go() };
        result
    }

    /// Takes in what was returned to heaps whose holders sleep, until `stop` says that there is something better to do.
    ///
    /// Nothing is left lying when the last worker goes to sleep: it comes here after it has left its own heap, and if somebody
    /// else holds a heap just then, that one looks again when it has let go.
    pub(crate) fn tidy(&self, stop: impl Fn() -> bool) {
        for heap in &self.heaps {
            while heap.has_returns() && !heap.is_wanted() && !stop() && heap.try_claim() {
                heap.trim(&stop);
                // SAFETY: claimed above.
                unsafe { heap.let_go() };
            }
        }
    }

    /// Bytes that the pool holds now.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.bytes()
    }
}

/// The proof that a pool lives for `'a`, needed to give back its blocks.
///
/// A `Held` borrows from what keeps the core: a reference to an actor, a handle, a turn's cell. So a caller that lets go of its
/// last reference first, and gives memory back afterwards, does not compile. Debug builds check that the block is this pool's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<'a> {
    /// Null if the holder of the proof does not know the pool.
    #[cfg(debug_assertions)]
    chunks: *const Chunks,
    pool: PhantomData<&'a Pool>,
}

impl Held<'_> {
    /// The proof for code that is far from any reference.
    ///
    /// # Safety
    /// The pool of whatever is given back with it lives until then, for a reason that the caller states.
    #[inline]
    pub(crate) unsafe fn promised<'a>() -> Held<'a> {
        Held {
            #[cfg(debug_assertions)]
            chunks: std::ptr::null(),
            pool: PhantomData,
        }
    }

    /// May it be of this pool? For checks.
    fn is_of(self, chunks: &Arc<Chunks>) -> bool {
        #[cfg(debug_assertions)]
        return self.chunks.is_null() || std::ptr::eq(self.chunks, Arc::as_ptr(chunks));
        #[cfg(not(debug_assertions))]
        {
            let _ = chunks;
            true
        }
    }
}

/// Does the pool have blocks for this type?
const fn pooled<T>() -> bool {
    size_of::<T>() <= LARGEST && align_of::<T>() <= STRICTEST && !cfg!(heist_plain_memory)
}

/// Where blocks of this type lie in a heap.
const fn shelf<T>(kind: Kind) -> usize {
    let small = size_of::<T>() <= SMALLEST && align_of::<T>() <= align_of::<returns::Block>();
    let granules = if size_of::<T>() <= GRANULE { 2 } else { size_of::<T>().div_ceil(GRANULE) };
    let of_its_kind = if small { 0 } else { granules - 1 };
    of_its_kind + if matches!(kind, Kind::Cell) { SIZES } else { 0 }
}

/// The size of a shelf's blocks.
const fn block_size(shelf: usize) -> usize {
    match shelf % SIZES {
        0 => SMALLEST,
        others => (others + 1) * GRANULE,
    }
}

/// Memory of the heap, which the caller holds, for a value of this type. To be given up by [`free`].
#[inline]
pub(crate) fn place<T>(heap: &Heap, kind: Kind) -> NonNull<T> {
    if pooled::<T>() {
        let block = heap.take(shelf::<T>(kind));
        poison::unpoison(block.as_ptr(), block_size(shelf::<T>(kind)));
        block.cast()
    } else {
        NonNull::from(Box::leak(Box::new(std::mem::MaybeUninit::<T>::uninit()))).cast()
    }
}

/// Puts a value into memory of the heap, which the caller holds.
#[inline]
pub(crate) fn boxed<T>(heap: &Heap, kind: Kind, value: T) -> NonNull<T> {
    let at = place::<T>(heap, kind);
    // SAFETY: large enough and aligned for its type, and ours alone.
    unsafe { at.write(value) };
    at
}

/// The value back; its memory is given up.
///
/// # Safety
/// `at` came from [`boxed`], of the same kind, and is not used any more. `here` is a heap that the caller holds, if any, and `held`
/// is of the pool that it came from.
#[inline]
pub(crate) unsafe fn unboxed<T>(here: Option<&Heap>, kind: Kind, at: NonNull<T>, held: Held<'_>) -> T {
    // SAFETY: the caller's.
    unsafe {
        let value = at.read();
        free(here, kind, at, held);
        value
    }
}

/// Gives memory up without looking at what is in it.
///
/// # Safety
/// As for [`unboxed`].
#[inline]
pub(crate) unsafe fn free<T>(here: Option<&Heap>, kind: Kind, at: NonNull<T>, held: Held<'_>) {
    // SAFETY: the caller's; the type decides where its memory is from.
    unsafe {
        if pooled::<T>() {
            poison::poison(at.as_ptr().cast(), block_size(shelf::<T>(kind)));
            Heap::give(here, shelf::<T>(kind), at.cast(), held);
        } else {
            drop(Box::from_raw(at.as_ptr().cast::<std::mem::MaybeUninit<T>>()));
        }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests;

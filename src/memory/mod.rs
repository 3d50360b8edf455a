//! Floor 0: memory for messages and cells, at a few nanoseconds apiece and without a lock.
//!
//! Small blocks do not come from the system's allocator. A message is allocated on one core and
//! freed on another all the time, which is the worst case of a general allocator. The crew also
//! knows its own threads, when each is idle, and how long everything lives.
//!
//! ```text
//!  pool (one for each executor)
//!   |-- chunks: 2 MiB from the system, cut into slabs of 64 KiB            chunks.rs
//!   |-- heap of worker 0, 1, ...       each heap owns slabs, a list of     heap.rs, trim.rs
//!   '-- heap of stripe 0, 1, ...       them for each size                  slab.rs
//! ```
//!
//! A slab holds blocks of one size. A block finds its slab's header by masking its own address.
//! Only the heap's holder takes and gives back blocks, with plain loads and stores. A thread that
//! frees a block of another heap collects up to 64 blocks of one heap and size in a chain. It
//! pushes the chain onto the owner's stack of returns with one compare-and-swap. The owner takes
//! the whole stack at once and keeps each chain for its size class, or takes it apart into its
//! slabs.
//!
//! | a heap's holder | how |
//! |---|---|
//! | its worker, while awake | claims the heap when it wakes, releases it before it parks |
//! | of a stripe: a thread from outside, for one block | claims the heap for that time |
//! | a worker about to park, for the heaps of parked workers | tries to claim; takes in returns |
//! | a thread without a heap, after some 250 blocks sent home | tries to claim; takes in a part |
//!
//! In the last row, the heap is the last block's, and the part is bounded.
//!
//! **What is given back, and when**: an empty slab goes back to the pool at once, except for the
//! slab that each size class takes from and a few more. Before a worker parks, those go back too,
//! and its unfinished chains go home. A chunk with all slabs back goes to the system, except for
//! one. When the crew is idle a burst's memory has therefore returned to the system. The memory in
//! use stays, with at most one partly used slab (64 KiB) for each size and heap, and one chunk.
//!
//! **How long it lives**: a pool is part of the executor's shared part, the core, which references,
//! threads of the crew and handles keep alive. Giving a block back touches the block's slab and its
//! heap, so the pool must outlive that call. [`Held`] is the proof. [`free_without_drop`] and
//! [`take_and_free`] take one, and a `Held` borrows from something that keeps the core. Sizes above
//! [`LARGEST`](sizes::LARGEST) bytes, and alignments above [`STRICTEST`](sizes::STRICTEST), come
//! from the system's allocator. The type decides, so both ends agree.
//!
//! **In a forked child** threads of the parent may hold the chunks' lock and any heap for ever. A
//! child waits for neither: a freed block is pushed and not taken in, a slab is mapped for the
//! child alone and never given back. The calls that would need much memory are refused before.
//!
//! The scheme is a small version of mimalloc's (Leijen, Zorn, de Moura, 2019): pages that are found
//! by masking, free lists for each page, and a separate list for blocks that other threads free.
//!
//! Loom model of the stack of returns: `models::returns`. Needed orderings:
//! `cargo xtask weaken returns`.

mod chunks;
mod heap;
mod held;
mod poison;
pub(crate) mod returns;
mod sizes;
mod slab;
mod trim;

pub(crate) use heap::Heap;
pub(crate) use held::Held;
pub(crate) use sizes::Kind;

use crate::fork::Birth;
use chunks::Chunks;
use sizes::{block_size, class_of, is_pooled};
use std::ptr::NonNull;
use std::sync::Arc;

/// Number of heaps for threads from outside.
const STRIPES: usize = if cfg!(heist_loom) { 1 } else { 16 };

/// The memory of one executor.
#[derive(Debug)]
pub(crate) struct MemoryPool {
    workers: Box<[Heap]>,
    /// An array, so that a sender from outside needs no check of its stripe's number.
    stripes: Box<[Heap; STRIPES]>,
    chunks: Arc<Chunks>,
}

impl MemoryPool {
    /// Makes a pool for a crew of so many workers. `birth` marks the crew's process.
    pub(crate) fn new(workers: usize, birth: Birth) -> Self {
        let chunks = Arc::new(Chunks::new(birth));
        let heaps = |count| (0..count).map(|_| Heap::new(&chunks)).collect::<Box<[Heap]>>();
        let stripes = heaps(STRIPES).try_into().expect("as many as the array has");
        MemoryPool { workers: heaps(workers), stripes, chunks }
    }

    /// Returns the proof that this pool lives as long as the borrow.
    #[inline]
    pub(crate) fn pool_held(&self) -> Held<'_> {
        Held::of(&self.chunks)
    }

    /// Returns a worker's heap, for the worker to claim.
    pub(crate) fn of_worker(&self, worker: usize) -> &Heap {
        &self.workers[worker]
    }

    /// Calls `f` with a heap for a thread outside the crew: the heap of the thread's own stripe, or
    /// another free one.
    pub(crate) fn with_outside_heap<R>(&self, f: impl FnOnce(&Heap) -> R) -> R {
        let own = crate::sync::thread_stripe(STRIPES);
        let heap = &self.stripes[own];
        let heap = if heap.try_claim() { heap } else { self.claim_another(own) };
        // Without a guard for the claim: `f` moves a value into a block, and runs no user code.
        let result = f(heap);
        // SAFETY: claimed above, and `f` only borrowed it.
        unsafe { heap.release_claim() };
        result
    }

    /// Claims a heap for a thread outside the crew when another thread has claimed its own stripe.
    #[cold]
    fn claim_another(&self, own: usize) -> &Heap {
        let mut others = (own + 1..own + STRIPES).map(|i| &self.stripes[i % STRIPES]);
        others.find(|heap| heap.try_claim()).unwrap_or_else(|| {
            let heap = if self.chunks.is_forked() {
                // Threads of the parent hold every stripe, for ever. Leaked, like all memory that a
                // child takes here.
                Box::leak(Box::new(Heap::new(&self.chunks)))
            } else {
                &self.stripes[own]
            };
            heap.claim_or_wait();
            heap
        })
    }

    /// Takes in what was returned to heaps of sleeping workers, until `stop` returns `true`.
    ///
    /// Nothing is left over when the last worker parks. The worker comes here after the release of
    /// its own heap. If another thread holds a heap at that moment, the other thread checks for
    /// returns again after its own release.
    pub(crate) fn tidy_sleeping_heaps(&self, stop: impl Fn() -> bool) {
        for heap in self.workers.iter().chain(&*self.stripes) {
            // A loop, not an `if`: other threads skip a claimed heap, so a chain pushed meanwhile
            // is this thread's to find after the release.
            while heap.has_returns() && !heap.is_wanted() && !stop() && heap.try_claim() {
                heap.trim_unused(&stop);
                // SAFETY: the loop's condition claimed the heap, and `trim` is done with it.
                unsafe { heap.release_claim() };
            }
        }
    }

    /// Returns the number of bytes held by the pool.
    pub(crate) fn held_bytes(&self) -> usize {
        self.chunks.held_bytes()
    }
}

/// Allocates uninitialized memory for a `T` from `heap`, which the caller holds.
/// [`free_without_drop`] gives it back.
#[inline]
pub(crate) fn alloc_uninit<T>(heap: &Heap, kind: Kind) -> NonNull<T> {
    if is_pooled::<T>() {
        let block = heap.take_block(class_of::<T>(kind));
        poison::unpoison(block.as_ptr(), block_size(class_of::<T>(kind)));
        block.cast()
    } else {
        NonNull::from(Box::leak(Box::new(std::mem::MaybeUninit::<T>::uninit()))).cast()
    }
}

/// Allocates memory from `heap`, which the caller holds, and moves what `make` returns into it.
#[inline]
pub(crate) fn alloc_with<T>(heap: &Heap, kind: Kind, make: impl FnOnce() -> T) -> NonNull<T> {
    let at = alloc_uninit::<T>(heap, kind);
    // SAFETY: `alloc_uninit` returned memory large enough and aligned for a `T`, with no other
    // pointer to it.
    unsafe { at.write(make()) };
    at
}

/// Moves the value out and gives its memory back.
///
/// # Safety
/// `at` came from [`alloc_with`] with the same kind, and is not used afterwards. `here`, if given,
/// is a heap that the caller holds. `held` is of the pool that `at` came from.
#[inline]
pub(crate) unsafe fn take_and_free<T>(
    here: Option<&Heap>,
    kind: Kind,
    at: NonNull<T>,
    held: Held<'_>,
) -> T {
    // SAFETY: `at` points to a value that `alloc_with` wrote, and the caller gives it up. After
    // `read` the memory is only freed, once, so the value is not dropped twice.
    unsafe {
        let value = at.read();
        free_without_drop(here, kind, at, held);
        value
    }
}

/// Gives memory back without dropping the value in it.
///
/// # Safety
/// `at` came from [`alloc_uninit`] or [`alloc_with`] with the same kind, and is not used
/// afterwards. `here`, if given, is a heap that the caller holds. `held` is of the pool that `at`
/// came from.
#[inline]
pub(crate) unsafe fn free_without_drop<T>(
    here: Option<&Heap>,
    kind: Kind,
    at: NonNull<T>,
    held: Held<'_>,
) {
    // SAFETY: `is_pooled` depends on the type alone, so this memory came from the branch of
    // `alloc_uninit` that matches. The caller gives it up, so it is freed once.
    unsafe {
        if is_pooled::<T>() {
            poison::poison(at.as_ptr().cast(), block_size(class_of::<T>(kind)));
            Heap::give_block_back(here, class_of::<T>(kind), at.cast(), held);
        } else {
            drop(Box::from_raw(at.as_ptr().cast::<std::mem::MaybeUninit<T>>()));
        }
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests;

//! The heap by itself: a block has a single user, comes back from any freeing thread, and memory
//! returns to the system.

use super::*;
use crate::fork::Birth;
use crate::sync::{AtomicUsize, Ordering::Relaxed};
use std::collections::HashSet;
use std::thread;

/// A chunk in use, a chunk kept whole, and a chunk for the few slabs that a heap keeps.
const FEW_CHUNKS: usize = 3 * (2 << 20);

/// Returns a pool for two workers, with worker 0's heap claimed.
fn pool() -> MemoryPool {
    let pool = MemoryPool::new(2, Birth::in_this_process());
    pool.of_worker(0).claim_or_wait();
    pool
}

/// A message of `WORDS` words, all set to the message's number.
struct Marked<const WORDS: usize>([u64; WORDS]);

fn boxed_many<const WORDS: usize>(
    heap: &Heap,
    from: u64,
    count: u64,
) -> Vec<NonNull<Marked<WORDS>>> {
    (from..from + count).map(|i| alloc_with(heap, Kind::Message, || Marked([i; WORDS]))).collect()
}

/// Checks that each block is unchanged, and frees the blocks.
fn give_back<const WORDS: usize>(
    here: Option<&Heap>,
    blocks: Vec<NonNull<Marked<WORDS>>>,
    from: u64,
) {
    for (i, at) in (from..).zip(blocks) {
        // SAFETY: `boxed_many` allocated the block, it is freed once, and `pool` outlives this
        // call.
        let marked = unsafe { take_and_free(here, Kind::Message, at, Held::promised()) };
        assert!(marked.0.iter().all(|&word| word == i), "block {i} was overwritten");
    }
}

fn check_size<const WORDS: usize>() {
    let pool = pool();
    let heap = pool.of_worker(0);
    let first = boxed_many::<WORDS>(heap, 0, 5_000);
    let distinct: HashSet<_> = first.iter().map(|at| at.addr()).collect();
    assert_eq!(distinct.len(), first.len());
    assert!(first.iter().all(|at| at.addr().get() % align_of::<u64>() == 0));
    give_back(Some(heap), first, 0);
    let bytes = pool.held_bytes();
    for round in 0..100 {
        let again = boxed_many::<WORDS>(heap, round, 5_000);
        give_back(Some(heap), again, round);
    }
    assert_eq!(pool.held_bytes(), bytes, "what came back is used again");
}

#[test]
fn blocks_of_each_size_are_their_holders_alone_and_used_again() {
    check_size::<1>();
    check_size::<3>();
    check_size::<4>();
    check_size::<9>();
    check_size::<31>();
    check_size::<32>();
    check_size::<33>(); // from the system
}

/// Includes the blocks at a chunk's beginning, behind the headers.
#[test]
fn blocks_are_aligned_as_strictly_as_their_types() {
    #[repr(align(32))]
    struct Strict<const BYTES: usize>([u8; BYTES]);
    fn check<const BYTES: usize>(heap: &Heap) {
        assert!(is_pooled::<Strict<BYTES>>());
        let blocks: Vec<_> =
            (0..10_000).map(|_| alloc_with(heap, Kind::Message, || Strict([1; BYTES]))).collect();
        assert!(blocks.iter().all(|at| at.addr().get() % 32 == 0));
        // SAFETY: each block was allocated above and is freed once, and the pool outlives this
        // call.
        blocks.into_iter().for_each(|at| unsafe {
            free_without_drop(Some(heap), Kind::Message, at, Held::promised())
        });
    }
    let pool = pool();
    let heap = pool.of_worker(0);
    check::<1>(heap);
    check::<33>(heap);
    check::<96>(heap);
    check::<160>(heap);
    check::<256>(heap);
}

/// The smallest blocks are aligned to words only, so a stricter type must not get such a block.
#[test]
fn what_wants_a_stricter_alignment_gets_it() {
    let pool = pool();
    let heap = pool.of_worker(0);
    let wide: Vec<_> =
        (0..1_000).map(|i| alloc_with(heap, Kind::Message, || u128::from(i as u64))).collect();
    let words = boxed_many::<2>(heap, 0, 1_000);
    for (i, at) in wide.into_iter().enumerate() {
        assert_eq!(at.addr().get() % align_of::<u128>(), 0);
        // SAFETY: each block was allocated above and is freed once, and the pool outlives this
        // call.
        let word = unsafe { take_and_free(Some(heap), Kind::Message, at, Held::promised()) };
        assert_eq!(word, i as u128);
    }
    give_back(Some(heap), words, 0);
}

/// A block on its way to another thread.
struct CarriedAcross(NonNull<Marked<4>>);

// SAFETY: the block's content is `Send`, and the sending thread does not keep the pointer.
unsafe impl Send for CarriedAcross {}

#[test]
fn what_others_free_comes_home() {
    let pool = pool();
    let (heap, rounds) = (pool.of_worker(0), 200);
    let mut most = 0;
    for round in 0..rounds {
        let blocks = boxed_many::<4>(heap, round, 2_000);
        let blocks: Vec<CarriedAcross> = blocks.into_iter().map(CarriedAcross).collect();
        thread::scope(|scope| {
            scope.spawn(|| {
                let there = pool.of_worker(1);
                there.claim_or_wait();
                // A worker sends some blocks in chains; a thread without a heap sends the others
                // one by one.
                for (i, CarriedAcross(at)) in blocks.into_iter().enumerate() {
                    let here = (i % 3 < 2).then_some(there);
                    // SAFETY: `boxed_many` allocated the block, it is freed once, and the pool
                    // outlives this scope.
                    let marked =
                        unsafe { take_and_free(here, Kind::Message, at, Held::promised()) };
                    assert_eq!(marked.0, [round + i as u64; 4]);
                }
                there.send_all();
                // SAFETY: claimed above, on this thread.
                unsafe { there.release_claim() };
            });
        });
        most = most.max(pool.held_bytes());
    }
    assert_eq!(most, 2 << 20, "{rounds} rounds fit into the first chunk");
}

#[test]
fn a_bursts_memory_goes_back_to_the_system() {
    let pool = pool();
    let heap = pool.of_worker(0);
    let burst = boxed_many::<2>(heap, 0, 1_000_000);
    let kept = boxed_many::<2>(heap, 0, 1);
    let high = pool.held_bytes();
    assert!((24_000_000..28_000_000).contains(&high), "{high} bytes for a million of 16");
    give_back(Some(heap), burst, 0);
    heap.trim_unused(|| false);
    assert!(pool.held_bytes() <= FEW_CHUNKS, "{} bytes are kept of {high}", pool.held_bytes());
    give_back(Some(heap), kept, 0);
}

/// The holder sleeps, so another thread tidies its heap.
#[test]
fn a_sleepers_heap_is_tidied_by_others() {
    let pool = pool();
    let sleeper = pool.of_worker(0);
    let burst = boxed_many::<2>(sleeper, 0, 500_000);
    // SAFETY: `pool` claimed the heap, and the test does not use the heap under the claim any more.
    unsafe { sleeper.release_claim() };
    let there = pool.of_worker(1);
    there.claim_or_wait();
    give_back(Some(there), burst, 0);
    there.send_all();
    let high = pool.held_bytes();
    pool.tidy_sleeping_heaps(|| true);
    assert!(pool.held_bytes() > FEW_CHUNKS, "stopped at once, so most of it is left");
    pool.tidy_sleeping_heaps(|| false);
    assert!(pool.held_bytes() <= FEW_CHUNKS, "{} bytes are kept of {high}", pool.held_bytes());
}

/// A thread without a heap gives a burst back while the holder sleeps, and no other thread comes
/// later.
#[test]
fn a_sleepers_heap_is_tidied_by_the_thread_that_sends_its_blocks_home() {
    let pool = pool();
    let sleeper = pool.of_worker(0);
    let burst = boxed_many::<2>(sleeper, 0, 500_000);
    // SAFETY: `pool` claimed the heap, and the test does not use the heap under the claim any more.
    unsafe { sleeper.release_claim() };
    let high = pool.held_bytes();
    give_back(None, burst, 0);
    assert!(pool.held_bytes() <= FEW_CHUNKS, "{} bytes are kept of {high}", pool.held_bytes());
}

/// A worker that wakes up does not wait until its heap is tidy.
#[test]
fn whoever_tidies_a_sleepers_heap_lets_go_when_the_holder_wants_it() {
    let interrupted = (0..20).any(|_| {
        let pool = pool();
        let sleeper = pool.of_worker(0);
        let burst = boxed_many::<2>(sleeper, 0, 500_000);
        let there = pool.of_worker(1);
        there.claim_or_wait();
        give_back(Some(there), burst, 0);
        there.send_all();
        // SAFETY: `pool` claimed the heap, and the test does not use the heap under the claim any
        // more.
        unsafe { sleeper.release_claim() };
        let looks = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                pool.tidy_sleeping_heaps(|| {
                    looks.fetch_add(1, Relaxed);
                    false
                });
            });
            // The first look comes before the claim, the second one after a step with it.
            while looks.load(Relaxed) < 2 {
                crate::sync::spin_hint();
            }
            sleeper.claim_or_wait();
            // Interrupted before the end: much of what was returned has not been taken in.
            pool.held_bytes() > FEW_CHUNKS
        })
    });
    assert!(interrupted, "each time all was taken in first");
}

#[test]
fn threads_from_outside_share_stripes() {
    let pool = MemoryPool::new(1, Birth::in_this_process());
    thread::scope(|scope| {
        for thread in 0..8 {
            let pool = &pool;
            scope.spawn(move || {
                for round in 0..200 {
                    let from = thread * 1_000_000 + round * 100;
                    let blocks: Vec<_> = (from..from + 100)
                        .map(|i| {
                            pool.with_outside_heap(|heap| {
                                alloc_with(heap, Kind::Message, || Marked([i; 5]))
                            })
                        })
                        .collect();
                    give_back(None, blocks, from);
                }
            });
        }
    });
    assert!(pool.held_bytes() <= 2 << 20, "{} bytes", pool.held_bytes());
}

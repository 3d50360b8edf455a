//! Tests P12, small: what a reference keeps of an ended executor. The allocator counts bytes for
//! the whole process, so this file has only one test.
#![allow(clippy::print_stdout)] // prints the sizes

mod common;

use common::live_bytes::*;
use common::*;
use heist::ActorRef;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The size of a chunk of the executor's memory.
const CHUNK: u64 = 2 << 20;
/// More than the remains of an executor with eight workers: queues, counts, heaps, the registry.
const KEPT: i64 = 256 << 10;
/// Less than the remains of an executor with a single worker.
const LEAST: i64 = 16 << 10;

#[test]
fn p12_a_reference_that_outlives_its_executor_keeps_little() {
    for workers in CREWS {
        let before = live_bytes();
        let executor = crew(workers);
        let actors: Vec<ActorRef<Puppet>> =
            (0..1000).map(|_| executor.spawn(Puppet::default())).collect();
        actors.iter().for_each(|actor| assert_eq!(answer(actor.ask(Note(1)).unwrap()), Ok(1)));
        let leftover = actors[500].clone();
        drop(actors);
        let handle = executor.handle();
        shut_down(&executor);
        drop(executor);
        let (chunks, kept) = (handle.stats().memory, live_bytes() - before);
        drop(handle);
        println!("{workers} workers: {kept} bytes, and {chunks} in chunks, beside one reference");
        assert!(chunks <= 2 * CHUNK, "{chunks} bytes in chunks");
        assert!((LEAST..=KEPT).contains(&kept), "{kept} bytes are left beside one reference");
        assert!(leftover.tell(Note(2)).is_err());
        // A weak reference keeps as much.
        let weak = leftover.downgrade();
        drop(leftover);
        let beside_weak = live_bytes() - before;
        drop(weak);
        // Old buffers of queues stay until crossbeam's collector frees them.
        let left = live_bytes() - before;
        println!("{workers} workers: {left} bytes without a reference");
        assert!(left + LEAST <= beside_weak, "{left} bytes are left of {kept}, {beside_weak}");
    }
}

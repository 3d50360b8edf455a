//! One processor: a thread outside that asks gives way to the worker that answers, instead of spinning while no one can answer,
//! and instead of sleeping for each answer.
//!
//! Counted by the kernel, as context switches of the asking thread: a yield that lets another thread run is an involuntary one, a
//! sleep a voluntary one. Where another process keeps the core busy a yield gives it a whole slice, so an asker sleeps rather. Then
//! only a bound that holds there too is asserted.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout)] // why nothing was tested, and what was counted

mod common;

use common::*;
use std::time::{Duration, Instant};

/// Lets this thread, and those that it starts from now on, run on one core only. Returns that core.
fn bind_to_one_core() -> Option<usize> {
    // SAFETY: all bits zero is a valid, empty set.
    let mut cores: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size of the set into it; 0 is the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&cores), &raw mut cores) } != 0 {
        return None;
    }
    // SAFETY: the index is below the set's size.
    let core = (0..libc::CPU_SETSIZE as usize).find(|&core| unsafe { libc::CPU_ISSET(core, &cores) })?;
    // SAFETY: all bits zero is a valid, empty set.
    let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the index is below the set's size.
    unsafe { libc::CPU_SET(core, &mut one) };
    // SAFETY: the kernel reads the set; 0 is the calling thread.
    (unsafe { libc::sched_setaffinity(0, size_of_val(&one), &raw const one) } == 0).then_some(core)
}

/// What the kernel has counted of the calling thread.
#[derive(Clone, Copy, Debug)]
struct Counted {
    sleeps: u64,
    yields: u64,
}

impl Counted {
    fn now() -> Self {
        // SAFETY: all bits zero is a valid value.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes into memory that is ours.
        assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
        Counted { sleeps: usage.ru_nvcsw as u64, yields: usage.ru_nivcsw as u64 }
    }

    fn since(self, before: Counted) -> Self {
        Counted { sleeps: self.sleeps - before.sleeps, yields: self.yields - before.yields }
    }
}

/// Returns `true` if something else than this process uses the core: while the crew sleeps, yields let it run.
fn shared() -> bool {
    const YIELDS: u64 = 40;
    let before = Counted::now();
    (0..YIELDS).for_each(|_| std::thread::yield_now());
    Counted::now().since(before).yields > YIELDS / 8
}

#[test]
fn an_ask_from_outside_gives_way_on_one_processor() {
    const ASKS: u64 = 1000;
    let Some(core) = bind_to_one_core() else {
        println!("skipped: this thread cannot be bound to a core");
        return;
    };
    assert_eq!(std::thread::available_parallelism().unwrap().get(), 1, "bound to core {core}");
    for workers in [1, 2] {
        let executor = crew(workers);
        let puppet = executor.spawn(Puppet::default());
        let ask = |n| assert_eq!(answer(puppet.ask(Note(n)).unwrap()), Ok(n));
        let limit = Instant::now() + Duration::from_secs(LONG / 6);
        loop {
            let before = Counted::now();
            (0..ASKS).for_each(ask);
            let counted = Counted::now().since(before);
            println!("{workers} workers, {ASKS} asks: {counted:?}");
            // Whatever else runs here, an ask sleeps once at most.
            assert!(counted.sleeps <= ASKS + ASKS / 10, "{counted:?} in {ASKS} asks");
            if counted.sleeps <= ASKS / 2 {
                break;
            }
            // A yield that took long has made the asker sleep for a while: it will try again.
            if Instant::now() >= limit {
                settle(&executor);
                assert!(shared(), "an asker sleeps for each answer: {counted:?} in {ASKS} asks");
                println!("not shown: another process keeps core {core} busy");
                break;
            }
        }
        shut_down(&executor);
    }
}

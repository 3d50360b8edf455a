//! Tests a single processor: an outside thread that asks yields to the answering worker, instead of
//! spinning while no worker can answer and instead of sleeping for each answer.
//!
//! The kernel counts the context switches of the asking thread. A yield that lets another thread
//! run is an involuntary switch, and a sleep is a voluntary one. Where another process keeps the
//! core busy, a yield costs a whole time slice, so the asker sleeps instead. Then the test asserts
//! only a bound that holds there too.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout)] // says why nothing was tested, and what was counted

mod common;

use common::*;
use std::time::{Duration, Instant};

/// Restricts this thread, and threads that it starts later, to one core. Returns that core.
fn bind_to_one_core() -> Option<usize> {
    // SAFETY: all bits zero is a valid, empty set.
    let mut cores: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the size of the set, and 0 names the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&cores), &raw mut cores) } != 0 {
        return None;
    }
    // SAFETY: the index is below the size of the set.
    let core =
        (0..libc::CPU_SETSIZE as usize).find(|&core| unsafe { libc::CPU_ISSET(core, &cores) })?;
    // SAFETY: all bits zero is a valid, empty set.
    let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the index is below the size of the set.
    unsafe { libc::CPU_SET(core, &mut one) };
    // SAFETY: the kernel only reads the set, and 0 names the calling thread.
    (unsafe { libc::sched_setaffinity(0, size_of_val(&one), &raw const one) } == 0).then_some(core)
}

/// The kernel's counts for the calling thread.
#[derive(Clone, Copy, Debug)]
struct Counted {
    sleeps: u64,
    yields: u64,
}

impl Counted {
    fn now() -> Self {
        // SAFETY: all bits zero is a valid `rusage`.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is valid memory for the kernel to write.
        assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) }, 0);
        Counted { sleeps: usage.ru_nvcsw as u64, yields: usage.ru_nivcsw as u64 }
    }

    fn since(self, before: Counted) -> Self {
        Counted { sleeps: self.sleeps - before.sleeps, yields: self.yields - before.yields }
    }
}

/// Returns `true` if another process uses the core. Yields let such a process run while the crew
/// sleeps.
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
            // An ask sleeps at most once, whatever else runs here.
            assert!(counted.sleeps <= ASKS + ASKS / 10, "{counted:?} in {ASKS} asks");
            if counted.sleeps <= ASKS / 2 {
                break;
            }
            // A slow yield has made the asker sleep for a while, and the asker will try again.
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

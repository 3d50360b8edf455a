//! Tests the threads of a crew that a program starts itself: handlers that fail or panic, workers
//! that are given up, and workers that run inside user code.

mod common;

use common::*;
use heist::Executor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Panics when dropped, except while a panic unwinds.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("a drop that panics");
        }
    }
}

/// Threads that a spawn handler started before it panicked have no executor to end them.
#[test]
fn p10_a_panic_of_the_spawn_handler_ends_the_threads_started_before() {
    quiet_panics();
    // The last time only the drop of the handler panics.
    for failing in 0..=3 {
        let ended = Arc::new(AtomicUsize::new(0));
        let bomb = (failing == 3).then(|| Bomb);
        let theirs = Arc::clone(&ended);
        let builder = Executor::builder().workers(3).spawn_handler(move |worker| {
            let _owned = &bomb;
            assert!(worker.index() != failing, "a handler that panics");
            let ended = Arc::clone(&theirs);
            thread::spawn(move || {
                worker.run().expect("a new thread works for nobody yet");
                ended.fetch_add(1, Relaxed);
            });
            Ok(())
        });
        assert!(catch_unwind(AssertUnwindSafe(|| builder.build())).is_err());
        within(LONG, "the started threads end", || ended.load(Relaxed) == failing);
    }
}

/// The last thread of a crew drops what the spare handler owns. A panic there ends nothing else.
#[test]
fn p06_a_panic_in_the_drop_of_the_spare_handler_is_contained() {
    quiet_panics();
    let bomb = Bomb;
    let (sender, ended) = mpsc::channel();
    let executor = Executor::builder()
        .workers(1)
        .spawn_handler(move |worker| {
            let sender = sender.clone();
            thread::spawn(move || {
                let ran = catch_unwind(AssertUnwindSafe(|| worker.run()));
                sender.send(ran.is_ok()).unwrap();
            });
            Ok(())
        })
        .spare_handler(move |spare| {
            let _owned = &bomb;
            thread::spawn(|| spare.run());
            Ok(())
        })
        .build()
        .unwrap();
    shut_down(&executor);
    assert!(ended.recv_timeout(Duration::from_secs(LONG)).unwrap(), "`run` returns");
}

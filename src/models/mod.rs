//! loom models. Each model runs a protocol of this crate through every interleaving, and every
//! reading that the memory orderings allow, up to a number of preemptions.
//!
//! ```text
//! RUSTFLAGS="--cfg heist_loom" LOOM_MAX_PREEMPTIONS=3 cargo test --release --lib models
//! ```
//!
//! | model | runs the real | stands in for |
//! |---|---|---|
//! | [`mailbox`] | state word, inbox | turn; queues, as each turn runs where it was scheduled |
//! | [`references`] | state word | the same, and the cell's weak count |
//! | [`prepaid`] | state word, count of prepaid messages | inbox; list of waiters, by its lock |
//! | [`retire`] | state word | the turn, its hint, and the making of the next state |
//! | [`room`] | state word, inbox | the list of waiters |
//! | [`segments`] | inbox, segments | when a segment is begun; memory, by the system's |
//! | [`shared`] | state word, inbox | the shared queue's turn, lock and members' looks |
//! | [`idle`] | idle protocol, parker | queues, by counts with relaxed loads; the worker's loop |
//! | [`alarm`] | alarm, idle protocol, parker | table of timers, by a count; the worker's loop |
//! | [`errands`] | count of chores | queues and timers, by counts under locks; the last loop |
//! | [`apart`] | apart, gate, idle protocol, quiescence waiters, parker | queues, look, turn |
//! | [`quiet`] | gate, idle protocol, quiescence waiters | the queues; the look for quiescence |
//! | [`reply`] | reply slot | what is around it |
//! | [`lifo`] | LIFO slot | what is around it |
//! | [`spares`] | vacant slots, spares, idle, alarm, turns elsewhere | queues, timers, loop |
//! | [`closing`] | closing | shards, by a flag under a lock; the actors, by their counts |
//! | [`registry`] | nothing | shard, graves, the core's count: copies |
//! | [`returns`] | stack of returned blocks | the heap, by a counter; its claim |
//! | [`waits`] | tables of waits | the actors |
//!
//! A stand-in is a copy, and must be kept like its original.
//!
//! A model finds: two threads that touch the same thing unsynchronized (the things are loom's
//! `UnsafeCell`s), a lost wake-up (all threads sleep, and loom reports a deadlock), and violations
//! of its assertions. `cargo xtask weaken` shows for each ordering which model needs it.
//!
//! No model sees: crossbeam's queues; more than a few threads and messages; executions with more
//! preemptions than the bound; time (a timed wait may end at any moment, and does). loom makes a
//! SeqCst fence synchronize with all later fences, which is more than SeqCst promises. loom takes
//! SeqCst loads and stores for Acquire and Release, which is less.

mod alarm;
mod apart;
mod closing;
mod errands;
mod idle;
mod lifo;
mod mailbox;
mod prepaid;
mod quiet;
mod references;
mod registry;
mod reply;
mod retire;
mod returns;
mod room;
mod segments;
mod shared;
mod spares;
mod waits;

use crate::sched::idle::{Idle, Woken};
use crate::sched::quiescence::Quiescence;
use crate::sched::quiescence::QuiescenceWaiters;
use crate::sync::ThreadWaker;
use loom::sync::Arc;
use loom::thread::{self, JoinHandle};
use std::task::Waker;

/// Runs `model` with up to `most` preemptions, or fewer if the environment asks for fewer.
fn explore(most: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    // A search that ends early would pass without having proved anything.
    assert!(
        builder.max_duration.is_none() && builder.max_permutations.is_none(),
        "half a search proves nothing"
    );
    // Each model has an affordable bound; the environment may only lower it.
    builder.preemption_bound = Some(builder.preemption_bound.map_or(most, |asked| asked.min(most)));
    // loom panics in a longer run. Its default is 1,000.
    builder.max_branches = 20_000;
    builder.check(model);
}

/// Spawns a thread with a reference to the model's state.
fn spawn<T: 'static, R: 'static>(
    shared: &Arc<T>,
    f: impl FnOnce(&T) -> R + 'static,
) -> JoinHandle<R> {
    let shared = Arc::clone(shared);
    thread::spawn(move || f(&shared))
}

/// Runs the loop of a crew's only worker. The worker has run dry whenever `work` returns.
fn only_worker(
    idle: &Idle,
    quiet: &QuiescenceWaiters,
    look: impl Fn() -> Quiescence,
    has_work: impl Fn() -> bool,
    work: impl Fn(),
) {
    loop {
        work();
        // Wakers are called after `park`, as in the crate: they may be user code.
        let mut wakers = None;
        let announce = || quiet.announce_rest(&look, |told| wakers = Some(told));
        match idle.park_worker(0, false, false, &has_work, || false, announce) {
            // The only worker ends its search like one of many, or no thread would notify any more.
            Woken::Searching => {
                if idle.end_search() && has_work() {
                    idle.notify_any();
                }
            }
            Woken::Running => {}
            Woken::Caught | Woken::Alarm => unreachable!("nobody watches"),
        }
        if let Some(wakers) = wakers {
            if wakers.is_empty() {
                // A thread is entering: the search goes on after it.
                thread::yield_now();
            }
            wakers.into_iter().for_each(Waker::wake);
        }
        if idle.is_stopping() && !has_work() {
            return;
        }
    }
}

/// Waits for quiescence like `WaitIdle`, for a model with a look of its own.
fn wait_idle(quiet: &QuiescenceWaiters, look: impl Fn() -> Quiescence) {
    let waker = ThreadWaker::new();
    let mut ticket = None;
    let mut want = false;
    loop {
        // The look comes again after the registration: quiescence may have come in between, with no
        // announcement left to make.
        if want && quiet.register_wait(&mut ticket, &waker.to_waker()) {
            return;
        }
        match look() {
            Quiescence::Quiet => return quiet.unregister_wait(ticket),
            // Neither quiet nor busy for long: a sender is between two steps.
            Quiescence::Entering => thread::yield_now(),
            Quiescence::Busy if want => {
                waker.park_until(None);
            }
            // Registers before it sleeps: the next turn of the loop looks once more.
            Quiescence::Busy => want = true,
        }
    }
}

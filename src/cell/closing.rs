//! The crew's end: after an executor was closed, the end of its last actor stops the crew.
//!
//! # In prose
//!
//! Each thread counts the actors that it spawned and those that are gone, each count with one
//! writer. So "no actor is left" is a sum over counts that change meanwhile, and two threads may
//! come to it: the one that closes the executor, and the one on which the last actor ends. At least
//! one of them must see it, and neither may see it early.
//!
//! | | the thread that closes | a thread on which an actor ends |
//! |---|---|---|
//! | 1 | closes the shards, so no spawn is counted later that goes through | counts the actor as gone |
//! | 2 | sets the flag | fence |
//! | 3 | closes all actors | reads the flag |
//! | 4 | fence | if it is set: sums up |
//! | 5 | sums up | |
//!
//! *At least one*: the fences are in one order. If the closing thread's is the later one, its sum
//! contains the other thread's count; otherwise the other thread reads the flag.
//!
//! *Not early*: a sum reads the gone before the spawned. A thread that reads an actor as gone also
//! reads it as spawned (release before the count, acquire between the two sums). A thread that
//! reads the flag also reads each spawn that went through (release with the flag, and the same
//! acquire).
//!
//! Loom model: `models::closing`. Needed orderings: `cargo xtask weaken closing`.

use crate::sync::{AtomicBool, Ordering::*, fence};

/// Whether the executor was closed, so that its crew ends with its last actor.
#[derive(Debug)]
pub(crate) struct Closing(AtomicBool);

impl Closing {
    pub(crate) fn new() -> Self {
        Closing(AtomicBool::new(false))
    }

    /// Returns `true` if the executor was closed. Relaxed: for texts and reasons of errors, which
    /// depend on nothing that happened before.
    pub(crate) fn is_begun(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Closes the executor, after its shards have begun to refuse new cells. Returns `true` if no
    /// actor was left after `close_actors`, so that the caller stops the crew.
    #[must_use]
    pub(crate) fn close(
        &self,
        close_actors: impl FnOnce(),
        count_living: impl FnOnce() -> u64,
    ) -> bool {
        // Release: pairs with the fence in `count_living`, for the spawns that went through.
        self.0.store(true, Release);
        close_actors();
        // Pairs with the fence in `count_gone`: either the last actor's thread reads the flag, or
        // this thread sees that actor counted.
        fence(SeqCst);
        count_living() == 0
    }

    /// Counts an actor by `count`. Returns `true` if it was the last one of a closed executor, so
    /// that the caller stops the crew.
    #[must_use]
    pub(crate) fn count_gone(
        &self,
        count: impl FnOnce(),
        count_living: impl FnOnce() -> u64,
    ) -> bool {
        count_after_spawn(count);
        // Pairs with the fence in `close`.
        fence(SeqCst);
        // Relaxed: the fence between the two sums makes it an Acquire.
        self.0.load(Relaxed) && count_living() == 0
    }
}

/// Counts an actor as ended or gone by `count`, so that a thread that sees the count sees the
/// actor's spawn too.
#[inline]
pub(crate) fn count_after_spawn(count: impl FnOnce()) {
    // Pairs with the fence in `count_living`.
    fence(Release);
    count();
}

/// Returns the number of spawned actors less those that are counted by `ended`. A living actor is
/// not missed if the caller sees its spawn.
pub(crate) fn count_living(ended: impl FnOnce() -> u64, spawned: impl FnOnce() -> u64) -> u64 {
    let ended = ended();
    // Pairs with the fence in `count_after_spawn`: each of the ended is among the spawned. Pairs
    // with the flag in `close` too, which the caller has read.
    fence(Acquire);
    spawned().saturating_sub(ended)
}

//! The cases that fail as the code is now. Each is to be mended, and leaves this list then.

/// Cases by name. A place followed by `/*` stands for each of its acts: none of them passes.
pub const KNOWN: &[&str] = &[
    // The worker that parks last runs wakers while it counts as a sleeper.
    "waker/idle/wake/ask",
    "waker/idle/wake/block",
    "waker/idle/wake/blocking",
    "waker/idle/drop-after-wake/ask",
    "waker/idle/drop-after-wake/block",
    "waker/idle/drop-after-wake/blocking",
    // A future that is given up, or polled with another waker, leaves its waker behind.
    "waker/stopped/drop-with-it/*",
    "waker/stopped/drop-replaced/*",
    "waker/pool-stopped/drop-with-it/*",
    "waker/pool-stopped/drop-replaced/*",
    "waker/shutdown/drop-with-it/*",
];

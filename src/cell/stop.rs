//! The ways to stop an actor: its mailbox is closed, or a supervised actor's state is retired.

use super::core::Core;
use super::header::Header;
use super::registry::Shard;
use super::sharing;
use crate::time::{self, Instant};
use std::ptr::NonNull;

impl Header {
    /// Closes the mailbox. With `kill`, waiting messages are not handled.
    pub(crate) fn close_mailbox(this: NonNull<Header>, kill: bool) {
        // SAFETY: the caller holds a reference or the registry's lock. The transition says to push.
        unsafe {
            let schedule = this.as_ref().state.set_closed(kill);
            if kill {
                // After the flag, which the step above has set: see `stop_is_hinted`.
                this.as_ref().hint_stop();
            }
            if schedule {
                Header::schedule(this);
            } else if let Some(supervised) = this.as_ref().supervised()
                && !this.as_ref().core().is_forked()
            {
                // A held queue has no turn that would see the close.
                sharing::release_closed(supervised);
            }
        }
    }

    /// Stops the actor, or the state of a supervised actor, as a reference's `stop` does.
    pub(crate) fn stop_actor(this: NonNull<Header>, kill: bool) {
        // SAFETY: the caller holds a reference to the cell.
        match unsafe { this.as_ref() }.supervised() {
            Some(supervised) if !supervised.is_queue() => retire_state(this, kill),
            _ => Header::close_mailbox(this, kill),
        }
    }
}

/// Ends the state after the message in hand. The actor goes on if its supervisor has another state.
fn retire_state(this: NonNull<Header>, kill: bool) {
    // SAFETY: the caller holds a reference to the cell.
    let header = unsafe { this.as_ref() };
    match header.state.request_retire() {
        // The mailbox is closed already, so this is the actor's last state.
        None => Header::close_mailbox(this, kill),
        Some(schedule) => {
            // After the flag, which the step above has set: see `Header::stop_is_hinted`.
            header.hint_stop();
            if schedule {
                // SAFETY: the caller's reference keeps the cell, and the transition made this
                // thread the one to push the runnable.
                unsafe { Header::schedule(this) };
            }
        }
    }
}

impl Core {
    /// Closes all actors and refuses new ones. May be called again, to kill.
    ///
    /// Returns `false` if the time was over before each actor was reached. The caller sees to the
    /// rest.
    #[must_use]
    pub(crate) fn close_all(&self, kill: bool, until: Option<Instant>) -> bool {
        // In this order: threads, shards, the flag, the actors. Nothing begins behind the walk's
        // back.
        self.dedicated.refuse_threads();
        self.shards.iter().for_each(Shard::refuse_new_cells);
        // The shards are closed, so the walk misses no actor, and the crew does not end before the
        // last spawn. The turns of the closed actors do the rest.
        let in_time = || until.is_none_or(|until| time::now() < until);
        let close = |header| Header::close_mailbox(header, kill);
        let mut all = false;
        let walk = || all = self.shards.iter().all(|shard| shard.for_each(close, in_time));
        if self.closing.close(walk, || self.count_not_gone()) {
            self.scheduler.stop_crew();
        }
        all
    }
}

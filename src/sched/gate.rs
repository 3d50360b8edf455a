//! The gate: where threads from outside the crew come in.
//!
//! A sender from outside first makes an actor scheduled and then pushes its runnable. Between the two the actor's
//! mailbox is not empty, yet no queue holds it, so whoever asks "is everything quiet?" in that moment would be told
//! yes too early. Therefore an outside sender passes the gate: it is counted in before its first step and out after
//! its last. The same word counts what it sent, so that this costs no further instruction. A worker passes it too while it runs
//! wakers as the last to park: they may send, and it counts as parked already.
//!
//! The counts are striped over cache lines by thread, since outside threads may be many. A stripe is read as a
//! whole, and a sender is counted in and out on one stripe, so a sender that is inside during the whole of a
//! reader's pass over the stripes is always seen.

use crate::sync::{AtomicU64, Ordering::*, Padded, thread_stripe};

const STRIPES: usize = if cfg!(heist_loom) { 2 } else { 16 };
const INSIDE_BITS: u32 = 16;
const INSIDE: u64 = (1 << INSIDE_BITS) - 1;

/// The stripes. Low 16 bits of each: senders inside. The rest: messages accepted from them.
#[derive(Debug)]
pub(crate) struct Gate {
    /// An array, so that a sender needs no check of its stripe's number.
    stripes: Box<[Padded<AtomicU64>; STRIPES]>,
}

/// One sender inside; leaving is dropping it.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    stripe: &'a AtomicU64,
    accepted: u64,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Gate { stripes: Box::new(std::array::from_fn(|_| Padded(AtomicU64::new(0)))) }
    }

    /// Counts the calling thread in.
    #[inline]
    pub(crate) fn enter(&self) -> Pass<'_> {
        self.enter_at(thread_stripe(STRIPES))
    }

    /// The same on a given stripe.
    #[inline]
    pub(crate) fn enter_at(&self, stripe: usize) -> Pass<'_> {
        let stripe = &self.stripes[stripe].0;
        // SeqCst, with the fence in `inside`: a reader that saw nobody inside comes before this step, so what this
        // sender does is not yet accepted at that moment.
        stripe.fetch_add(1, SeqCst);
        Pass { stripe, accepted: 0 }
    }

    /// Is anybody inside?
    pub(crate) fn inside(&self) -> bool {
        crate::sync::fence(SeqCst);
        // Acquire: pairs with the Release in `Pass::drop`; what those who left have pushed is visible.
        self.stripes.iter().any(|stripe| stripe.load(Acquire) & INSIDE != 0)
    }

    /// Messages accepted from outside so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.load(Relaxed) >> INSIDE_BITS).sum()
    }
}

impl Pass<'_> {
    /// One message was accepted.
    pub(crate) fn count(&mut self) {
        self.accepted += 1;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.stripe.fetch_add((self.accepted << INSIDE_BITS).wrapping_sub(1), SeqCst);
    }
}

//! The gate: the entry for threads outside the crew.
//!
//! A sender from outside first makes an actor scheduled and then pushes its runnable. Between the
//! two steps the actor's mailbox is not empty, but no queue holds the runnable. A look for
//! quiescence in that moment would say "quiet" too early. An outside sender therefore passes the
//! gate, counted in before the first step and out after the last. The same word counts the
//! messages, at no further instruction.
//!
//! The counts are striped over cache lines by thread, since outside threads may be many. A stripe
//! is read as a whole, and a sender is counted in and out on one stripe. So a sender that is inside
//! during a reader's whole pass over the stripes is always seen.
//!
//! Loom model: `models::quiet`. Needed orderings: `cargo xtask weaken gate`.

use crate::sync::{AtomicU64, Ordering::*, Padded, thread_stripe};

// Two in a model: senders on one stripe and on two is all that differs.
const STRIPES: usize = if cfg!(heist_loom) { 2 } else { 16 };
const INSIDE_BITS: u32 = 16;
const INSIDE: u64 = (1 << INSIDE_BITS) - 1;

/// The stripes. The low 16 bits of each count senders inside, the rest messages accepted from them.
#[derive(Debug)]
pub(crate) struct Gate {
    /// An array, so that a sender needs no check of its stripe's number.
    stripes: Box<[Padded<AtomicU64>; STRIPES]>,
}

/// A sender inside the gate. Dropping it leaves the gate.
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
    pub(crate) fn enter_gate(&self) -> Pass<'_> {
        self.enter_at(thread_stripe(STRIPES))
    }

    /// Like [`enter_gate`](Self::enter_gate), on a given stripe.
    #[inline]
    pub(crate) fn enter_at(&self, stripe: usize) -> Pass<'_> {
        let stripe = &self.stripes[stripe].0;
        // SeqCst, together with the fence in `any_inside`: a reader that saw no sender inside comes
        // before this step, when the message was not accepted yet.
        stripe.fetch_add(1, SeqCst);
        Pass { stripe, accepted: 0 }
    }

    /// Returns `true` if a sender may be inside.
    pub(crate) fn any_inside(&self) -> bool {
        crate::sync::fence(SeqCst);
        // Acquire: pairs with the Release in `Pass::drop`, so everything pushed by senders that
        // left is visible.
        self.stripes.iter().any(|stripe| stripe.load(Acquire) & INSIDE != 0)
    }

    /// Returns the number of messages accepted from outside so far.
    pub(crate) fn accepted_messages(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.load(Relaxed) >> INSIDE_BITS).sum()
    }
}

impl Pass<'_> {
    /// Counts an accepted message.
    pub(crate) fn count_accepted(&mut self) {
        self.accepted += 1;
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        // One step counts the messages and leaves.
        self.stripe.fetch_add((self.accepted << INSIDE_BITS).wrapping_sub(1), SeqCst);
    }
}

//! Floor 1: where messages wait, and what decides about an actor. It never names a scheduler or an actor's type.
//!
//! - [`state`]: the one word in which sending, scheduling, stopping and collecting are decided
//! - [`inbox`]: the queue of envelopes, many senders and one receiver
//! - [`segment`]: several messages in one link of that queue
//! - [`reply`]: the slot through which one answer travels

pub(crate) mod inbox;
pub(crate) mod reply;
pub(crate) mod segment;
pub(crate) mod state;

//! Floor 1: where messages wait, and the word that decides about an actor. Names neither a
//! scheduler nor an actor's type.
//!
//! - [`state`]: the word in which sending, scheduling, stopping and collecting are decided
//! - [`inbox`]: the queue of envelopes, with many senders and one receiver
//! - [`segment`]: several messages in one link of the queue
//! - [`link`]: what lies between two nodes of the queue
//! - [`reply_slot`]: the slot through which one answer travels

pub(crate) mod inbox;
pub(crate) mod link;
pub(crate) mod reply_slot;
pub(crate) mod segment;
pub(crate) mod state;

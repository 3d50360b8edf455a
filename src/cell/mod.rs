//! Floor 2: the cell, which is one actor's one block of memory, and the turn, which drains its mailbox.
//!
//! - [`header`]: the cell's untyped front, its references and its memory; [`counted`]: pointers that hold such a reference
//! - [`envelope`]: what waits in a mailbox, and how it gets there
//! - [`turn`]: one turn within its budget; [`end`]: an actor's last turns
//! - [`batch`]: messages of one type that are handled together
//! - [`restart`]: a new state in the old one's place; [`shared`]: a mailbox that several actors take from
//! - [`room`]: those who wait for room in a mailbox, in a [`linked`] list; [`prepaid`]: what does not count against the capacity; [`ticks`]: what timers send, which overtakes
//! - [`stopwatch`]: what a timed actor measures; [`times`]: how that is kept and read
//! - [`dedicated`]: actors on threads of their own
//! - [`threads`]: the executor's threads
//! - [`hook`]: the user's event hook
//! - [`core`]: what the cells of one executor share; [`registry`]: all of them; [`graves`]: the dead ones
//! - [`waits`]: which actors block until others have done something

pub(crate) mod batch;
pub(crate) mod core;
mod counted;
pub(crate) mod dedicated;
pub(crate) mod end;
pub(crate) mod envelope;
pub(crate) mod event;
pub(crate) mod graves;
pub(crate) mod header;
pub(crate) mod hook;
mod linked;
pub(crate) mod prepaid;
pub(crate) mod registry;
pub(crate) mod restart;
pub(crate) mod room;
pub(crate) mod shared;
pub(crate) mod stopwatch;
pub(crate) mod threads;
pub(crate) mod ticks;
pub(crate) mod times;
pub(crate) mod turn;
pub(crate) mod waits;

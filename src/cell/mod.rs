//! Floor 2: the cell (an actor's block of memory) and the turn (a run over its mailbox).
//!
//! - [`header`]: the untyped front of a cell, reference counts, memory
//! - [`cold`]: the part of a cell that most actors never need
//! - [`counted`]: pointers that own a counted reference
//! - [`envelope`]: the messages of a mailbox
//! - [`deliver`]: delivery of messages and ticks
//! - [`dead_letters`]: messages that are not handled after all
//! - [`exempt`]: delivery of prepaid messages
//! - [`turn`]: a turn within its budget
//! - [`fail`]: what a panic leads to
//! - [`stop`]: the ways to stop an actor
//! - [`end`]: an actor's last turns
//! - [`batch`]: several messages in a single call
//! - [`restart`]: a new state in the place of the old one
//! - [`supervisor`]: the supervisor, and the part of a cell that has one
//! - [`shared`]: a mailbox from which several actors take, with its common part, [`sharing`], and
//!   the list of its [`members`]
//! - [`room`]: senders and actors that wait for room in a mailbox, in a [`room_list`], which is
//!   [`linked`]
//! - [`prepaid`]: messages that do not count against the capacity; [`settle`]: the turn's account
//! - [`ticks`]: messages of timers, which overtake
//! - [`stopwatch`]: measurements of a timed actor; [`lap`]: those of one turn
//! - [`times`]: how measurements are kept and read
//! - [`dedicated`]: actors on dedicated threads
//! - [`threads`]: the threads of an executor
//! - [`hook`]: the user's event hook
//! - [`core`]: the common part of all cells of an executor
//! - [`registry`]: all cells of one executor
//! - [`closing`]: the crew's end after the last actor's
//! - [`dead_cells`]: dead cells that await removal from the registry
//! - [`shrinking_map`]: a table that gives its memory back
//! - [`waits`]: actors that block until other actors have done something

pub(crate) mod batch;
mod buckets;
pub(crate) mod closing;
pub(crate) mod cold;
pub(crate) mod core;
pub(crate) mod counted;
pub(crate) mod dead_cells;
pub(crate) mod dead_letters;
pub(crate) mod dedicated;
pub(crate) mod deliver;
pub(crate) mod end;
pub(crate) mod envelope;
pub(crate) mod event;
mod event_text;
pub(crate) mod exempt;
pub(crate) mod fail;
pub(crate) mod header;
pub(crate) mod hook;
mod lap;
mod linked;
mod members;
pub(crate) mod prepaid;
pub(crate) mod registry;
pub(crate) mod restart;
pub(crate) mod room;
pub(crate) mod room_list;
mod settle;
mod shared;
pub(crate) mod sharing;
pub(crate) mod shrinking_map;
mod stop;
pub(crate) mod stopwatch;
pub(crate) mod supervisor;
pub(crate) mod threads;
pub(crate) mod ticks;
pub(crate) mod times;
pub(crate) mod turn;
pub(crate) mod waits;

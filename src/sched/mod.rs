//! Floor 1: the scheduler. The room moves runnables between workers and never names an actor or a
//! message.
//!
//! - [`runnable`]: the runnables
//! - [`scheduler`]: the shared state of a crew
//! - [`queue`], [`lifo`]: where runnables wait; the policies; [`affinity`]: runnables that must run
//!   in one place
//! - [`worker`]: one worker, from taking a runnable to the end of its turn; [`search`]: from
//!   running dry to parking; [`pace`]: readings of the clock
//! - [`dedicated`]: threads with one actor each; [`dedicated_turns`]: the count of their turns
//! - [`errand`]: user code that belongs to no actor's turn, as a runnable, with its [`chores`]
//! - [`idle`]: the idle protocol and its proof; [`turn_rates`]: the sentinel's memory;
//!   [`steal_threshold`]: which work is worth stealing
//! - [`crew_thread`]: a thread of the crew; [`spares`]: threads that take over from a thread that
//!   blocks; [`blocking`]: the blocked thread
//! - [`gate`]: the entry for outside threads; [`quiescence`]: waits for quiescence; [`rest`]: the
//!   look for it
//! - [`alarm`]: the instant of the next timer, and the worker that wakes for it; [`timers`]: armed
//!   timers

pub(crate) mod affinity;
pub(crate) mod alarm;
pub(crate) mod blocking;
pub(crate) mod chores;
pub(crate) mod crew_thread;
pub(crate) mod dedicated;
pub(crate) mod dedicated_turns;
pub(crate) mod errand;
pub(crate) mod gate;
pub(crate) mod habit;
pub(crate) mod idle;
pub(crate) mod lifo;
mod pace;
pub(crate) mod queue;
pub(crate) mod quiescence;
mod rest;
pub(crate) mod runnable;
pub(crate) mod scheduler;
mod search;
pub(crate) mod spares;
pub(crate) mod start;
mod steal_threshold;
pub(crate) mod timers;
mod turn_rates;
pub(crate) mod worker;

pub(crate) use scheduler::Scheduler;

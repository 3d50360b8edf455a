//! A work-stealing actor executor: millions of lightweight actors on a handful of worker threads, each handled one
//! message at a time, balanced by stealing.

mod actor;
mod cell;
mod error;
mod front;
mod id;
mod mailbox;
mod panics;
mod sched;
mod sync;
mod time;

pub use actor::ask::{Ask, WaitAskError};
pub use actor::context::Context;
pub use actor::handle::{Handle, WaitIdle};
pub use actor::recipient::{Asker, Recipient};
pub use actor::refs::{ActorRef, ActorStats, Stopped, WeakRef};
pub use actor::reply::Reply;
pub use actor::send::Sending;
pub use actor::spawn::{SpawnBuilder, SpawnError};
pub use actor::{Actor, Handler, Receive};
pub use cell::event::{DeadLetterReason, DeadLetters, Event, PanicPlace, Report, Unfinished};
pub use error::{AskError, Flat, FlatError, Refusal, SendError, StopReason, TellManyError, WaitError};
pub use front::builder::{BuildError, Builder, DEFAULT_CAPACITY, WorkerThread};
pub use front::executor::Executor;
pub use front::shutdown::Shutdown;
pub use front::stats::{Stats, WorkerStats};
pub use id::ActorId;
pub use panics::PanicText;
pub use sched::queue::Policy;

//! A work-stealing actor executor: millions of lightweight actors on a handful of worker threads,
//! each handling one message at a time, balanced by stealing.
//!
//! heist suits programs with far more actors than threads: one for each account, connection,
//! aircraft or key. Every core is kept busy, with neither locks in user code nor an async runtime.
//!
//! ```
//! use heist::{Actor, Context, Executor, Handler};
//! use std::time::Duration;
//!
//! struct Account { balance: i64 }
//! impl Actor for Account {}
//!
//! struct Deposit(i64);
//! impl Handler<Deposit> for Account {
//!     type Reply = i64;
//!     fn handle(&mut self, Deposit(amount): Deposit, _: &mut Context<Self>) -> i64 {
//!         self.balance += amount;
//!         self.balance
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let executor = Executor::new();                        // a worker for each core
//! let account = executor.spawn(Account { balance: 0 });
//! account.tell(Deposit(20))?;                            // never blocks
//! assert_eq!(account.ask(Deposit(22))?.wait()?, 42);     // or .await in any runtime
//! executor.shutdown(Duration::from_secs(5))?;            // handles every message, then ends
//! # Ok(())
//! # }
//! ```
//!
//! # Getting started
//!
//! 1. Make an [`Executor`], or several. [`Executor::builder`] has the settings. Dropping the
//!    executor shuts it down.
//! 2. Write an [`Actor`]: its state, and a [`Handler`] for each type of message. An actor that
//!    answers later implements [`Receive`] and keeps the [`Reply`]. So does an actor that takes
//!    [many messages at once](Receive::receive_batch).
//! 3. [`spawn`](Handle::spawn) the actor, from outside or inside other actors, and keep the
//!    [`ActorRef`].
//! 4. [`tell`], [`ask`] or [`send`] it messages.
//! 5. End it by [`stop`](ActorRef::stop), or by dropping the last reference.
//! 6. Where one actor is not enough, make a [`Pool`]: see [`Handle::pool`], and [`strategy`] for
//!    the choice of a replica.
//! 7. End everything by [`shutdown`](Executor::shutdown), which reports the outcome.
//!
//! # Which way to send
//!
//! | | mailbox has room | full | stopped |
//! |---|---|---|---|
//! | [`tell`] | accepted | refused: [`Refusal::Full`] | refused: [`Refusal::Stopped`] |
//! | [`ask`] | accepted; the answer is a future | refused | refused, or [`AskError::Stopped`] |
//! | [`send`] | accepted | waits for room, oldest first | refused, also while waiting |
//! | [`tell_self`], to itself | accepted | accepted, once | refused |
//! | [`tell_after`], [`tell_at`], [`tell_every`] | a [`Timer`] | exempt | refused or dead letter |
//!
//! All of these work inside a handler too, with some additions:
//!
//! - [`Context::ask_then`] handles the answer later, instead of waiting for it.
//! - [`send`] is refused in a cycle of waits, and without a spare thread for the last worker.
//!   [`Context::when_room`] waits for room without a thread.
//! - [`tell_self`] exists only there.
//! - [`Context::tell_after`] keeps the actor alive until the timer fires.
//!
//! [`Pool::tell`], [`Pool::ask`] and [`Pool::send`] are the same with a [strategy] that chooses the
//! replica.
//!
//! A refused message always comes back inside the error. Mailboxes hold [`DEFAULT_CAPACITY`]
//! messages unless the builder, or the [spawn builder](Handle::build), says otherwise.
//!
//! A handler that meets a full mailbox has two options without waiting: keep the message and ask to
//! be told when there is room ([`Context::when_room`]), or drop the message. A full mailbox cannot
//! stop the crew.
//!
//! [`tell`]: ActorRef::tell
//! [`ask`]: ActorRef::ask
//! [`send`]: ActorRef::send
//! [`tell_self`]: Context::tell_self
//! [`tell_after`]: ActorRef::tell_after
//! [`tell_at`]: ActorRef::tell_at
//! [`tell_every`]: ActorRef::tell_every
//!
//! ```
//! use heist::{Actor, ActorRef, Context, Executor, Handler};
//! use std::collections::VecDeque;
//!
//! /// Passes lines on to a slower actor, in order, however slow it is.
//! struct Relay { to: ActorRef<Writer>, held: VecDeque<String> }
//! impl Actor for Relay {}
//!
//! struct Line(String);
//! struct Room;
//!
//! impl Relay {
//!     fn pass_on(&mut self, ctx: &mut Context<Self>) {
//!         while let Some(line) = self.held.pop_front() {
//!             match self.to.tell(line) {
//!                 Ok(()) => {}
//!                 Err(full) if full.is_full() => {
//!                     self.held.push_front(full.into_message());
//!                     let _ = ctx.when_room(&self.to, Room); // refused if already under way
//!                     return;
//!                 }
//!                 Err(_stopped) => return ctx.stop(), // there will be no room any more
//!             }
//!         }
//!     }
//! }
//! impl Handler<Line> for Relay {
//!     type Reply = ();
//!     fn handle(&mut self, Line(line): Line, ctx: &mut Context<Self>) {
//!         self.held.push_back(line);
//!         if self.held.len() == 1 {
//!             self.pass_on(ctx);
//!         }
//!     }
//! }
//! impl Handler<Room> for Relay {
//!     type Reply = ();
//!     fn handle(&mut self, _: Room, ctx: &mut Context<Self>) {
//!         self.pass_on(ctx);
//!     }
//! }
//!
//! #[derive(Default)]
//! struct Writer { written: usize }
//! impl Actor for Writer {}
//! impl Handler<String> for Writer {
//!     type Reply = ();
//!     fn handle(&mut self, line: String, _: &mut Context<Self>) {
//!         self.written += line.len();
//!     }
//! }
//! struct Written;
//! impl Handler<Written> for Writer {
//!     type Reply = usize;
//!     fn handle(&mut self, _: Written, _: &mut Context<Self>) -> usize {
//!         self.written
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! let executor = Executor::new();
//! let writer = executor.build(Writer::default()).capacity(4).spawn();
//! let relay = executor.spawn(Relay { to: writer.clone(), held: VecDeque::new() });
//! for _ in 0..1000 {
//!     relay.send(Line("abc".to_string()))?;
//! }
//! executor.wait_idle()?;
//! assert_eq!(writer.ask(Written)?.wait()?, 3000);
//! # Ok(())
//! # }
//! ```
//!
//! # Many messages, one commit
//!
//! Some work costs as much for many messages as for one: a commit, a write to disk, a look at the
//! clock. Such work can be done once for all waiting messages. An actor that implements [`Receive`]
//! itself declares how many messages of a type may come at once ([`Receive::BATCH`]). The messages
//! come in [`receive_batch`](Receive::receive_batch): consecutive messages at the head of its
//! mailbox, in order, each with its own [`Reply`]. Nothing waits for a batch to fill, so a
//! [`Batch`] has one message under little load and many under much load.
//!
//! ```
//! use heist::{Actor, Batch, Context, Executor, Receive, Reply};
//!
//! struct Journal { commits: u64 }
//! impl Actor for Journal {}
//!
//! struct Entry(String);
//! impl Receive<Entry> for Journal {
//!     type Reply = u64;
//!     const BATCH: usize = 256;
//!
//!     fn receive(&mut self, entry: Entry, reply: Reply<u64>, ctx: &mut Context<Self>) {
//!         self.receive_batch(Batch::of_one(entry, reply), ctx);
//!     }
//!
//!     fn receive_batch(&mut self, batch: Batch<'_, Entry, u64>, _: &mut Context<Self>) {
//!         // A panic in here answers all remaining askers with its text.
//!         let (entries, replies): (Vec<Entry>, Vec<Reply<u64>>) = batch.unzip();
//!         let _written: usize = entries.iter().map(|Entry(line)| line.len()).sum();
//!         self.commits += 1; // one for all of them
//!         replies.into_iter().for_each(|reply| reply.send(self.commits));
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let executor = Executor::new();
//! let journal = executor.spawn(Journal { commits: 0 });
//! let asks = (0..100).map(|n| journal.ask(Entry(format!("entry {n}"))));
//! let asks: Vec<_> = asks.collect::<Result<_, _>>()?;
//! for mut ask in asks {
//!     assert!(ask.wait()? <= 100);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Timing
//!
//! Counts are always kept ([`Handle::stats`], [`ActorRef::stats`]). Times cost readings of the
//! clock, so they are measured on request: for all actors of an executor
//! ([`ExecutorBuilder::timing`]) or for single ones ([`SpawnBuilder::timing`]). Timing shows how
//! long messages waited and handlers took ([`ActorRef::timing`]), how long runnable actors were
//! queued on each worker ([`Stats`]), and which actors are the busiest or have the oldest messages
//! ([`Handle::top`]). A handler may ask for the age of its message ([`Context::message_age`]).
//!
//! [`Stats`]: stats::Stats
//!
//! ```
//! # use heist::{Actor, Context, Executor, Handler};
//! # struct Parser;
//! # impl Actor for Parser {}
//! # impl Handler<String> for Parser {
//! #     type Reply = ();
//! #     fn handle(&mut self, _: String, _: &mut Context<Self>) {}
//! # }
//! # #[cfg(not(feature = "timing"))]
//! # fn main() {}
//! # #[cfg(feature = "timing")]
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let executor = Executor::new();
//! let parser = executor.build(Parser).name("parser").timing(true).spawn();
//! parser.tell("a line".to_string())?;
//! executor.wait_idle()?;
//! let timing = parser.timing().expect("it is timed");
//! println!("waited {:?}, p99 {:?}", timing.wait.mean(), timing.wait.p99);
//! println!("took {:?}", timing.handling.mean());
//! for actor in executor.top(10).busiest {
//!     println!("{:?} {}: {:?}", actor.name, actor.type_name, actor.handling);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Actors by key
//!
//! A [`Directory`] has an actor for each key in use, spawned when the first message comes and ended
//! when it is idle. The next actor of a key begins when the previous one has stored its state.
//! Senders do not notice the change.
//!
//! # In async code
//!
//! Handlers are synchronous, and [`tell`] and [`ask`] never wait, so tasks may call them. Each
//! blocking call has an awaited form for any runtime, which never blocks the runtime's thread:
//!
//! | blocks | is awaited |
//! |---|---|
//! | [`Ask::wait`], with or without timeout | the [`Ask`] itself |
//! | [`ActorRef::send`], with or without timeout | [`ActorRef::send_async`] |
//! | [`Directory::send`], with or without timeout | [`Directory::send_async`] |
//! | [`Pool::send`], with or without timeout | [`Pool::send_async`] |
//! | [`Broadcast::wait`], with or without timeout | the [`Broadcast`] itself |
//! | [`ActorRef::wait_stopped`], with or without timeout | [`ActorRef::wait_stopped_async`] |
//! | [`Pool::wait_stopped`], with or without timeout | [`Pool::wait_stopped_async`] |
//! | [`Handle::wait_idle`], with or without timeout | [`Handle::wait_idle_async`] |
//! | [`Executor::shutdown`] | [`Executor::shutdown_async`] |
//! | [`Executor::shutdown_now`], dropping an [`Executor`] | [`Executor::shutdown_now_async`] |
//! | [`event_channel`](ExecutorBuilder::event_channel) | your runtime's channel, filled by [`on_event`](ExecutorBuilder::on_event) |
//!
//! [`Broadcast`]: pool::Broadcast
//! [`Broadcast::wait`]: pool::Broadcast::wait
//! [cancel]: future::Sending::cancel
//!
//! Timeouts are the runtime's own. After a timeout nothing is lost: an [`Ask`] can be awaited
//! again, and a send [gives its message back][cancel]. Where the blocking form would be
//! refused (on a worker, in a forked child), the awaited form is not, since awaiting blocks no
//! thread. Only a shutdown is refused: on a thread of its own crew it resolves to
//! [`WaitError::OnCrew`]. In a [forked child](#limits) a shutdown, and a send that begins there,
//! resolve to an error. Nothing else resolves there that was not over before the fork.
//!
//! ```
//! # use heist::{Actor, Context, Executor, Handler};
//! # use std::time::Duration;
//! # struct Doubler;
//! # impl Actor for Doubler {}
//! # impl Handler<u32> for Doubler {
//! #     type Reply = u32;
//! #     fn handle(&mut self, n: u32, _: &mut Context<Self>) -> u32 { 2 * n }
//! # }
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
//! # runtime.block_on(async {
//! let executor = Executor::new();
//! let doubler = executor.spawn(Doubler);
//! let mut ask = doubler.ask(21)?;
//! match tokio::time::timeout(Duration::from_secs(5), &mut ask).await {
//!     Ok(answer) => assert_eq!(answer?, 42),
//!     Err(_elapsed) => eprintln!("late, but still on its way: {ask:?}"),
//! }
//! // Dropping the executor here would block the thread.
//! executor.shutdown_async(Duration::from_secs(5)).await?;
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! `examples/embed` is a web service under tokio with its state in actors.
//! `docs/cookbook.md` has recipes: awaiting in a handler, entering a runtime on the workers,
//! supervising, conflating, draining, testing.
//!
//! # Where actors run
//!
//! | | runs | for |
//! |---|---|---|
//! | [`spawn`](Handle::spawn) | wherever a worker has time | nearly everything |
//! | [`on_worker(k)`](SpawnBuilder::on_worker) | on worker `k` | actors tied to a core or worker |
//! | [`spawn_dedicated`](Handle::spawn_dedicated) | its own thread | not `Send`, or blocking |
//!
//! [`ExecutorBuilder::pin_workers`] pins the workers themselves to cores. The promises hold
//! wherever an actor runs.
//!
//! # Blocking
//!
//! Handlers should not block, but may: in [`blocking`], in [`Ask::wait`], in [`ActorRef::send`].
//! Meanwhile a spare thread takes over the worker's slot ([`ExecutorBuilder::max_spares`]), so the
//! crew goes on, and only the actor itself is busy.
//!
//! A wait that can never finish is refused; the ask stays, the message comes back: a wait for
//! oneself, in a cycle, or on the last thread that could make progress. Cycles are seen through
//! actors of other executors, [forwarded](Context::forward) requests and pools too. The error
//! [names](AskError::WouldDeadlock) the actors in the cycle, and [`Handle::waits`] lists all waits.
//! Cycles through another executor's `wait_idle`, `shutdown` or `Pool::wait_stopped` are not seen.
//!
//! | | with a spare | without a spare |
//! |---|---|---|
//! | [`blocking`] | the spare gets the slot when there is work | its worker does nothing else |
//! | [`Ask::wait`], [`ActorRef::send`] | likewise | wait, or refused if no thread would be left |
//! | waits for the handler's own crew | refused | refused |
//! | waits for another executor | likewise | wait, or refused if no thread would be left |
//!
//! The last two rows are [`wait_stopped`](ActorRef::wait_stopped), [`wait_idle`](Handle::wait_idle)
//! and [`shutdown`](Executor::shutdown). The errors are [`AskError::NoSpare`],
//! [`Refusal::NoSpare`], [`WaitError::NoSpare`], and [`WaitError::OnCrew`] for the own crew.
//!
//! # What is promised
//!
#![doc = include_str!("../docs/promises.md")]
//!
//! `docs/rules.md` has the promises in full, `docs/traceability.md` the tests that show them.
//!
//! # Features
//!
//! All are on by default; `default-features = false` leaves them out.
//!
//! | feature | has | without it, one dependency less |
//! |---|---|---|
//! | `pool` | [`Pool`], [`Handle::pool`], [`strategy`] | |
//! | `directory` | [`Directory`] | hashbrown |
//! | `timing` | [`ExecutorBuilder::timing`] and its like; otherwise times are `None` | hdrhistogram |
//!
//! # Limits
//!
//! `docs/limits.md` has a table of them, with what happens, the error, and the remedy.
//!
//! Handlers are synchronous. Async code meets actors at the edge, where an [`Ask`] is a future like
//! any other. There are no priorities, no supervision except for a [`Pool`]'s replicas, and no
//! network. A handler that blocks in any other way than those above keeps its worker. An actor
//! bound to one worker waits for as long as that worker's turns take.
//!
//! In a child that was forked without `exec`, executors of the parent are frozen. Sends, asks,
//! spawns and waits return errors (`Forked`, or as if the executor shut down), counts and lists are
//! empty, stops and drops do nothing, and nothing waits for the parent's threads or locks. A child
//! forked inside a handler should call `exec` or `_exit` and not return.

#![cfg_attr(
    not(all(feature = "directory", feature = "pool")),
    allow(
        dead_code,
        unused_imports,
        reason = "what only directories and pools use lies in rooms below them"
    )
)]

#[cfg(not(target_has_atomic = "64"))]
compile_error!(
    "heist needs 64-bit atomics: an actor's state is one word of 64 bits (see docs/platforms.md)"
);

mod actor;
mod cell;
mod cores;
#[cfg(feature = "directory")]
pub mod directory;
mod drops;
pub mod error;
mod executor;
mod fork;
mod id;
mod mailbox;
mod memory;
// A build has either: loom's types work only inside its models, and models only with them.
#[cfg(all(test, heist_loom))]
mod models;
mod panics;
#[cfg(feature = "pool")]
pub mod pool;
mod sched;
mod sync;
#[cfg(all(test, not(heist_loom)))]
mod tests;
mod time;
mod user;
mod variance;

pub use actor::ask::Ask;
pub use actor::ask::forward::ForwardError;
pub use actor::batch::Batch;
pub use actor::context::Context;
pub use actor::handle::Handle;
pub use actor::recipient::{Asker, Recipient, WeakRecipient};
pub use actor::refs::{ActorRef, WeakRef};
pub use actor::reply::Reply;
pub use actor::spawn::SpawnBuilder;
pub use actor::spawn_error::SpawnError;
pub use actor::timers::Timer;
pub use actor::wait::blocking;
pub use actor::{Actor, Handler, Receive};
pub use cell::event::Event;
#[cfg(feature = "directory")]
pub use directory::Directory;
pub use error::{AskError, Refusal, SendError, StopReason, WaitError};
pub use executor::Executor;
pub use executor::builder::{DEFAULT_CAPACITY, ExecutorBuilder};
pub use executor::error::BuildError;
pub use id::ActorId;
#[cfg(feature = "pool")]
pub use pool::Pool;
#[cfg(feature = "pool")]
pub use pool::strategy;
pub use sched::queue::Policy;

/// Events, and the reports that they carry.
pub mod event {
    pub use crate::cell::event::{
        DeadLetterReason, PanicPlace, ReplicaFailure, ShutdownReport, UnfinishedActor,
    };
    pub use crate::executor::events::Events;
    pub use crate::panics::PanicText;
}

/// Futures that the awaited forms of calls return.
pub mod future {
    pub use crate::actor::handle::WaitIdle;
    pub use crate::actor::send::Sending;
    pub use crate::actor::stopped::{Stopped, WeakStopped};
    pub use crate::executor::shutdown::Shutdown;
}

/// Statistics of executors and actors, and of the waits between actors.
pub mod stats {
    pub use crate::actor::refs::ActorStats;
    pub use crate::cell::event::DeadLetterCounts;
    pub use crate::cell::times::{CrewTiming, DurationStats, Timing};
    pub use crate::cell::waits::Waiting;
    pub use crate::executor::stats::{SpareStats, Stats, WorkerStats};
    pub use crate::executor::top::{Top, TopActor};
}

/// Threads of a crew, started by the program itself or for one actor.
pub mod thread {
    pub use crate::actor::dedicated::Dedicated;
    pub use crate::executor::builder::DEFAULT_STACK_SIZE;
    pub use crate::executor::threads::{RunError, WorkerThread};
}

/// Types that timers take and return.
pub mod timer {
    #[doc(no_inline)]
    pub use crate::Timer;
    pub use crate::actor::timers::{IntervalMode, Tick, TimerError};
}

/// Makes README's examples doctests.
#[cfg(all(doctest, feature = "directory", feature = "pool", feature = "timing"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// The cookbook's recipes are tests.
#[cfg(all(doctest, feature = "directory", feature = "pool", feature = "timing"))]
#[doc = include_str!("../docs/cookbook.md")]
struct Cookbook;

//! A work-stealing actor executor: millions of lightweight actors on a handful of worker threads, each handled one
//! message at a time, balanced by stealing.
//!
//! A program that has far more actors than threads (one for each account, connection, aircraft or key) gets every core
//! busy, needs no locks of its own, and no async runtime that it did not ask for.
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
//! let executor = Executor::new();                            // a worker for each core
//! let account = executor.spawn(Account { balance: 0 });
//! account.tell(Deposit(20))?;                                // never blocks; an error hands the message back
//! assert_eq!(account.ask(Deposit(22))?.wait()?, 42);         // or .wait_timeout(d), or .await in any runtime
//! executor.shutdown(Duration::from_secs(5))?;                // handles all that was accepted, then ends
//! # Ok(())
//! # }
//! ```
//!
//! # The way through
//!
//! 1. Make an [`Executor`], or several; [`Executor::builder`] has the settings. Whoever owns it ends it.
//! 2. Write an [`Actor`]: its state, and a [`Handler`] for each type of message. One that answers later implements
//!    [`Receive`] and keeps the [`Reply`]; so does one that takes [many at once](Receive::receive_batch).
//! 3. [`spawn`](Handle::spawn) it, from outside or inside other actors, and keep the [`ActorRef`].
//! 4. [`tell`](ActorRef::tell), [`ask`](ActorRef::ask) or [`send`](ActorRef::send) it messages.
//! 5. End it by [`stop`](ActorRef::stop), or by dropping the last reference.
//! 6. Where one actor is not enough, make a [`Pool`] of them: see [`Handle::pool`], and [`strategy`] for who gets what.
//! 7. End everything by [`shutdown`](Executor::shutdown), which reports what became of it all.
//!
//! # Which way to send
//!
//! | | mailbox has room | full | stopped | from inside a handler |
//! |---|---|---|---|---|
//! | [`tell`](ActorRef::tell) | accepted | refused: [`Refusal::Full`] | refused: [`Refusal::Stopped`] | the same |
//! | [`ask`](ActorRef::ask) | accepted; the answer is a future | refused | refused; if it stops before its turn: [`AskError::Stopped`] | the same; rather than wait: [`Context::ask_then`] |
//! | [`send`](ActorRef::send) | accepted | waits for room, oldest first | refused, also while it waits | the same; refused in a cycle, and without a spare thread for the last worker: [`Context::when_room`] |
//! | [`Context::again`] (to oneself) | accepted | accepted, once | refused | only there |
//! | [`tell_after`](ActorRef::tell_after), [`tell_at`](ActorRef::tell_at), [`tell_every`](ActorRef::tell_every) | a [`Timer`] | the same: ticks are exempt | refused; if it stops before they are due: dead letters | the same; [`Context::tell_after`] keeps the actor alive |
//!
//! [`Pool::tell`], [`Pool::ask`] and [`Pool::send`] are the same with a [strategy] that says to whom.
//!
//! A refused message always comes back inside the error. Mailboxes hold [`DEFAULT_CAPACITY`] messages unless the
//! builder, or the [spawn builder](Handle::build), says otherwise.
//!
//! A handler that meets a full mailbox has two ways on without waiting: keep the message and ask to be told when there is room
//! ([`Context::when_room`]), or drop it. A full mailbox cannot stop the crew.
//!
//! ```
//! use heist::{Actor, ActorRef, Context, Executor, Handler};
//! use std::collections::VecDeque;
//!
//! /// Passes lines on to a slower actor, in order, however slow that one is.
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
//!                     let _ = ctx.when_room(&self.to, Room); // refused if it is on its way already
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
//! What costs as much for many messages as for one (a commit, a write to disk, a look at the clock) can be done once for
//! all that wait. An actor that implements [`Receive`] itself and says how many messages of a type may come at once
//! ([`Receive::BATCH`]) gets them in [`receive_batch`](Receive::receive_batch): those that lie one behind the other at the head of
//! its mailbox, in order, each with its own [`Reply`]. Nothing is waited for, so under little load there is one message
//! in a [`Batch`], and under much load many.
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
//!         // A panic in here answers whoever has no answer yet with its text.
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
//! let asks: Vec<_> = (0..100).map(|n| journal.ask(Entry(format!("entry {n}")))).collect::<Result<_, _>>()?;
//! for ask in asks {
//!     assert!(ask.wait()? <= 100);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What takes the time
//!
//! Counts are always there ([`Handle::stats`], [`ActorRef::stats`]). Times cost readings of the clock, so they are taken where
//! they are asked for: of all actors of an executor ([`Builder::timing`]) or of single ones ([`SpawnBuilder::timing`]). Then
//! there is how long messages waited and handlers took ([`ActorRef::timing`]), how long runnable actors were queued on each
//! worker ([`Stats`]), who is the busiest and who is behind ([`Handle::top`]), and a handler may ask how old its message is
//! ([`Context::message_age`]).
//!
//! ```
//! # use heist::{Actor, Context, Executor, Handler};
//! # struct Parser;
//! # impl Actor for Parser {}
//! # impl Handler<String> for Parser { type Reply = (); fn handle(&mut self, _: String, _: &mut Context<Self>) {} }
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let executor = Executor::new();
//! let parser = executor.build(Parser).name("parser").timing(true).spawn();
//! parser.tell("a line".to_string())?;
//! executor.wait_idle()?;
//! let timing = parser.timing().expect("it is timed");
//! println!("waited for {:?}, p99 {:?}; took {:?}", timing.wait.mean(), timing.wait.p99, timing.handling.mean());
//! for actor in executor.top(10).busiest {
//!     println!("{:?} {}: {:?}", actor.name, actor.type_name, actor.handling);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Actors by key
//!
//! A [`Directory`] has an actor for each key that is used: spawned when the first message comes, ended when it is idle, and the
//! next one begins when the last has stored what it knows. Nobody who sends sees the gap.
//!
//! # In async code
//!
//! Handlers are synchronous, and [`tell`](ActorRef::tell) and [`ask`](ActorRef::ask) never wait, so tasks may call them. Whatever
//! blocks has a form that is awaited, in any runtime, and never blocks the runtime's thread:
//!
//! | blocks | is awaited |
//! |---|---|
//! | [`Ask::wait`], [`Ask::wait_timeout`] | the [`Ask`] itself |
//! | [`ActorRef::send`], [`ActorRef::send_timeout`] | [`ActorRef::send_async`] |
//! | [`ActorRef::wait_stopped`], [`ActorRef::wait_stopped_timeout`] | [`ActorRef::wait_stopped_async`] |
//! | [`Handle::wait_idle`], [`Handle::wait_idle_timeout`] | [`Handle::wait_idle_async`] |
//! | [`Executor::shutdown`] | [`Executor::shutdown_async`] |
//! | [`Executor::shutdown_now`], dropping an [`Executor`] | [`Executor::shutdown_now_async`] |
//! | receiving from [`Builder::event_channel`] | a channel of your runtime's, filled by [`Builder::on_event`] |
//!
//! Timeouts are the runtime's own. What timed out is still there: an [`Ask`] can be awaited again, a send
//! [gives its message back](Sending::cancel). Where the blocking form would be refused (on a worker, in a forked child) there is nothing
//! to refuse: awaiting blocks nobody. In a [forked child](#limits) nothing resolves but shutdowns, to an error.
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
//! executor.shutdown_async(Duration::from_secs(5)).await?; // dropping it here would block the thread
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! `examples/embed` is a web service under tokio whose state lives in actors.
//!
//! # Where actors run
//!
//! | | runs | for |
//! |---|---|---|
//! | [`spawn`](Handle::spawn) | wherever a worker has time | nearly everything |
//! | [`on_worker(k)`](SpawnBuilder::on_worker) | on worker `k`, always | what belongs to one core or one worker |
//! | [`spawn_dedicated`](Handle::spawn_dedicated) | on a thread of its own, where it is made | what is not `Send`, or blocks as a matter of course |
//!
//! [`Builder::pin_workers`] pins the workers themselves to cores. What is promised holds wherever an actor runs.
//!
//! # Blocking
//!
//! Handlers should not block, but may: in [`blocking`], in [`Ask::wait`], in [`ActorRef::send`]. Meanwhile a spare thread takes
//! over what the worker had to do ([`Builder::spares`]), so the crew goes on, and only the actor itself is busy. A wait that could
//! not end is refused, and hands the ask or the message back: one for oneself, one in a cycle, one that would leave no thread
//! to run what is waited for. Cycles are seen through actors of other executors, [forwarded](Context::forward) requests and pools too, and the
//! error [names](WaitAskError::cycle) the actors in them; [`Handle::waits`] lists who waits for whom.
//!
//! | | a spare is to be had | none is |
//! |---|---|---|
//! | [`blocking`] | runs; its worker's place goes to the spare when there is something to do | runs; its worker does nothing else meanwhile |
//! | [`Ask::wait`], [`ActorRef::send`] | wait, likewise | wait, or are refused ([`AskError::NoSpare`], [`Refusal::NoSpare`]) where nobody would be left |
//! | [`wait_stopped`](ActorRef::wait_stopped), [`wait_idle`](Handle::wait_idle), [`shutdown`](Executor::shutdown) of the own crew | refused: [`WaitError::OnCrew`] | the same |
//! | the same of another executor | wait, likewise | wait, or are refused ([`WaitError::NoSpare`]) where nobody of this crew would be left |
//!
//! # What is promised
//!
#![doc = include_str!("../docs/promises.md")]
//!
//! `docs/rules.md` has the promises in full, `docs/traceability.md` the tests that show them.
//!
//! # Limits
//!
//! `docs/limits.md` has a table of them, with what happens, the error, and the remedy.
//!
//! Handlers are synchronous; async code meets actors at the edge, where an [`Ask`] is a future like any other. There are
//! no priorities, no supervision but for a [`Pool`]'s replicas, and no network here. A handler that blocks, other than by the ways
//! above, keeps its worker. In a child that was forked without `exec`, executors of the parent are frozen: sends, asks, spawns and waits
//! return errors (`Forked`, or as if the executor shut down), counts and lists are empty, stops and drops do nothing, and nothing waits for
//! the parent's threads or locks. A child that is forked inside a handler should call `exec` or `_exit` and not return. An actor that is
//! kept on one worker waits for as long as that worker's turns take.

#[cfg(not(target_has_atomic = "64"))]
compile_error!("heist needs 64-bit atomics: an actor's state is one word of 64 bits (see docs/platforms.md)");

mod actor;
mod cell;
mod cores;
mod drops;
mod error;
mod fork;
mod front;
mod id;
mod mailbox;
mod memory;
#[cfg(all(test, heist_loom))]
mod models;
mod panics;
mod sched;
mod sync;
mod time;
mod user;
mod variance;

pub use actor::ask::forward::ForwardError;
pub use actor::ask::{Ask, WaitAskError};
pub use actor::batch::Batch;
pub use actor::context::Context;
pub use actor::dedicated::Dedicated;
pub use actor::handle::{Handle, WaitIdle};
pub use actor::recipient::{Asker, Recipient};
pub use actor::refs::{ActorRef, ActorStats, Stopped, WeakRef};
pub use actor::reply::Reply;
pub use actor::send::Sending;
pub use actor::spawn::{SpawnBuilder, SpawnError};
pub use actor::timers::{Fixed, Tick, Timer, TimerError};
pub use actor::wait::blocking;
pub use actor::{Actor, Handler, Receive};
pub use cell::event::{DeadLetterReason, DeadLetters, Event, Loss, PanicPlace, Report, Unfinished};
pub use cell::times::{CrewTiming, Times, Timing};
pub use cell::waits::{Waiting, WaitingActor};
pub use error::{AskError, Flat, FlatError, Refusal, SendError, StopReason, TellManyError, WaitError};
pub use front::build_error::BuildError;
pub use front::builder::{Builder, DEFAULT_CAPACITY, DEFAULT_STACK_SIZE};
pub use front::directory::builder::{DirectoryBuilder, DirectoryError};
pub use front::directory::{Directory, DirectoryStats};
pub use front::executor::Executor;
pub use front::pool::broadcast::{Broadcast, NoAnswer};
pub use front::pool::builder::PoolBuilder;
pub use front::pool::counts::{PoolStats, ReplicaStats};
pub use front::pool::send::PoolSending;
pub use front::pool::{Pool, PoolEnd, PoolError, PoolStopped};
pub use front::shutdown::Shutdown;
pub use front::stats::{SpareStats, Stats, WorkerStats};
pub use front::top::{Top, TopActor};
pub use front::worker::{RunError, WorkerThread};
pub use id::ActorId;
pub use panics::PanicText;
pub use sched::queue::Policy;

/// Whom a message to a [`Pool`] goes to.
///
/// ```
/// # use heist::{Actor, Context, Executor, Handler};
/// # struct Worker;
/// # impl Actor for Worker {}
/// # impl Handler<u32> for Worker { type Reply = u32; fn handle(&mut self, n: u32, _: &mut Context<Self>) -> u32 { n } }
/// use heist::strategy::{ByKey, LeastLoaded, PoolDefault, Random, RoundRobin, SharedQueue, ToIndex, TwoChoices};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let executor = Executor::new();
/// let pool = executor.pool(3, |_| Worker).build()?;
/// pool.tell(RoundRobin, 1)?;
/// pool.tell(Random, 2)?;
/// pool.tell(LeastLoaded, 3)?;
/// pool.tell(TwoChoices, 4)?;
/// pool.tell(PoolDefault, 5)?;
/// pool.tell(ByKey("a key"), 6)?;
/// pool.tell(ToIndex(2), 7)?;
/// pool.tell(SharedQueue, 8)?;
/// assert!(pool.tell(ToIndex(3), 9).is_err());
/// # Ok(())
/// # }
/// ```
pub mod strategy {
    pub use crate::front::pool::strategy::{
        ByKey, LeastLoaded, PoolDefault, Random, Replicas, RoundRobin, Route, SharedQueue, Strategy, ToId,
        ToIndex, TwoChoices,
    };
}

/// README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

//! Defines the acts of the matrix: everything that user code may do where heist calls it.

use crate::rig::{Ping, World, crew, poll_once};
use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Wake, Waker};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Blocks the thread until the prober has finished its work.
    Block,
    /// Blocks the thread in the same way inside `heist::blocking`.
    Blocking,
    Panic,
    /// Panics with a payload that panics when dropped, twice in a row.
    Bomb,
    /// Sends in each way that waits only briefly or not at all.
    Send,
    /// Asks an actor of the same executor and waits for the answer.
    Ask,
    /// Asks an actor of another executor and waits for the answer.
    AskFar,
    /// Spawns actors of each kind and sends to them.
    Spawn,
    /// Stops the actor that the place belongs to, and another actor.
    Stop,
    /// Drops the last reference to an actor.
    DropActor,
    /// Drops the last pool and the last directory.
    DropPool,
    /// Drops the executor.
    DropExecutor,
    /// Drops another executor.
    DropFar,
    /// Polls futures inline. In a waker, polls the waker's own future too.
    Poll,
    /// Waits in each way that heist refuses on crew threads.
    Wait,
    /// Makes, uses and ends a nested executor.
    Nested,
}

impl Act {
    pub const ALL: [Act; 16] = [
        Act::Block,
        Act::Blocking,
        Act::Panic,
        Act::Bomb,
        Act::Send,
        Act::Ask,
        Act::AskFar,
        Act::Spawn,
        Act::Stop,
        Act::DropActor,
        Act::DropPool,
        Act::DropExecutor,
        Act::DropFar,
        Act::Poll,
        Act::Wait,
        Act::Nested,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Act::Block => "block",
            Act::Blocking => "blocking",
            Act::Panic => "panic",
            Act::Bomb => "bomb",
            Act::Send => "send",
            Act::Ask => "ask",
            Act::AskFar => "ask-far",
            Act::Spawn => "spawn",
            Act::Stop => "stop",
            Act::DropActor => "drop-actor",
            Act::DropPool => "drop-pool",
            Act::DropExecutor => "drop-executor",
            Act::DropFar => "drop-far",
            Act::Poll => "poll",
            Act::Wait => "wait",
            Act::Nested => "nested",
        }
    }

    pub fn named(name: &str) -> Act {
        Act::ALL.into_iter().find(|act| act.name() == name).expect("an act")
    }

    pub fn blocks(self) -> bool {
        matches!(self, Act::Block | Act::Blocking)
    }

    pub fn panics(self) -> bool {
        matches!(self, Act::Panic | Act::Bomb)
    }

    pub fn perform(self, world: &Arc<World>) {
        match self {
            Act::Block => world.release.wait(),
            Act::Blocking => heist::blocking(|| world.release.wait()),
            Act::Panic => panic!("planned"),
            Act::Bomb => panic_any(Bomb::<2>),
            Act::Send => {
                let _ = world.friend.tell(Ping);
                let _ = world.friend.tell_many([Ping, Ping]);
                let _ = world.friend.ask(Ping).map(drop);
                let _ = world.friend.send_timeout(Ping, Duration::from_millis(5));
                let _ = world
                    .friend
                    .tell_after(Duration::from_micros(50), Ping)
                    .map(heist::Timer::detach);
                let _ = world.far.tell(Ping);
            }
            Act::Ask => drop(world.friend.ask(Ping).map(|mut ask| ask.wait())),
            Act::AskFar => drop(world.far.ask(Ping).map(|mut ask| ask.wait())),
            Act::Spawn => {
                let actor = world.handle.spawn(crate::rig::Puppet::default());
                let _ = actor.tell(Ping);
                let _ = world.handle.spawn_dedicated(crate::rig::Puppet::default).map(|actor| {
                    let _ = actor.tell(Ping);
                    actor.detach();
                });
                drop(actor);
            }
            Act::Stop => {
                let own = world.stop.lock().take();
                if let Some(stop) = own {
                    stop();
                }
                world.friend.stop_now();
            }
            Act::DropActor => drop(world.last.lock().take()),
            Act::DropPool => {
                let (pool, directory) = (world.pool.lock().take(), world.directory.lock().take());
                drop((pool, directory));
            }
            Act::DropExecutor => {
                let executor = world.executor.lock().take();
                drop(executor);
            }
            Act::DropFar => {
                let far = world.far_executor.lock().take();
                drop(far);
            }
            Act::Poll => poll(world),
            Act::Wait => {
                let short = Duration::from_millis(1);
                let _ = world.handle.wait_idle_timeout(short);
                let _ = world.friend.wait_stopped_timeout(short);
                let pool = world.pool.lock().clone();
                let _ = pool.map(|pool| pool.wait_stopped_timeout(short));
            }
            Act::Nested => {
                let executor = crew(1);
                let actor = executor.spawn(crate::rig::Puppet::default());
                let _ = actor.ask(Ping).map(|mut ask| ask.wait());
            }
        }
    }
}

/// Polls each kind of future, with a waker that does nothing and with a waker that polls again
/// inside `wake`.
fn poll(world: &Arc<World>) {
    let own = world.inline.lock().take();
    if let Some(own) = own {
        own();
    }
    for waker in [Waker::noop().clone(), Waker::from(Arc::new(Again(Arc::clone(world))))] {
        let _ = world.friend.ask(Ping).map(|mut ask| poll_once(&mut ask, &waker));
        let _ = poll_once(&mut world.handle.wait_idle_async(), &waker);
        let _ = poll_once(&mut world.friend.wait_stopped_async(), &waker);
        let _ = poll_once(&mut world.friend.send_async(Ping), &waker);
        let pool = world.pool.lock().clone();
        let _ = pool.map(|pool| poll_once(&mut pool.wait_stopped_async(), &waker).is_ready());
    }
}

/// A waker that polls the executor again inside `wake`, as an inline runtime does.
struct Again(Arc<World>);

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        let _ = poll_once(&mut self.0.handle.wait_idle_async(), Waker::noop());
        let _ = poll_once(&mut self.0.friend.wait_stopped_async(), Waker::noop());
    }
}

/// A payload that panics `N` times in a row when dropped. Zero-sized, because heist leaks a payload
/// that never stops panicking.
struct Bomb<const N: u8>;

impl<const N: u8> Drop for Bomb<N> {
    fn drop(&mut self) {
        match N {
            _ if std::thread::panicking() => {}
            0 => {}
            1 => panic_any(Bomb::<0>),
            _ => panic_any(Bomb::<1>),
        }
    }
}

/// Returns `true` if the payload belongs to a panic of the matrix itself.
pub fn is_planned(payload: &(dyn std::any::Any + Send)) -> bool {
    payload.downcast_ref::<&str>() == Some(&"planned")
        || payload.is::<Bomb<0>>()
        || payload.is::<Bomb<1>>()
        || payload.is::<Bomb<2>>()
}

/// Number of payloads made minus number of payloads dropped.
#[derive(Default)]
pub struct Balance(pub std::sync::atomic::AtomicI64);

/// A payload counted in the balance.
pub struct Token(Arc<Balance>);

impl Token {
    pub fn new(balance: &Arc<Balance>) -> Self {
        balance.0.fetch_add(1, Relaxed);
        Token(Arc::clone(balance))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

//! Provides the environment of a running program: actors, kept values, and the books.

use crate::fail;
use crate::program::{Letter, Life, Script};
use heist::future::{Sending, Stopped, WaitIdle};
use heist::pool::PoolSending;
use heist::{
    Actor, ActorRef, Ask, Batch, Context, Directory, Handle, Handler, Pool, Receive, Reply,
    StopReason, Timer, WeakRef,
};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

const ROWS: usize = 1 << 14;

const MADE: u8 = 1;
const HANDLED: u8 = 1 << 1;
const REFUSED: u8 = 1 << 2;
const DROPPED: u8 = 1 << 3;

/// Maximum number of steps of a program. Further steps do nothing, so that every program ends.
const FUEL: i32 = 150;

/// Kept values of one kind. No code of heist runs under the lock.
pub struct Kept<T>(Mutex<VecDeque<T>>);

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept(Mutex::default())
    }
}

impl<T> Kept<T> {
    pub fn put(&self, thing: T) {
        self.0.lock().push_back(thing);
    }
    pub fn take(&self) -> Option<T> {
        self.0.lock().pop_front()
    }
    pub fn all(&self) -> VecDeque<T> {
        std::mem::take(&mut *self.0.lock())
    }
}

pub struct World {
    pub handle: Handle,
    pub seed: u64,
    fuel: AtomicI32,
    rows: Box<[AtomicU8]>,
    next: AtomicU32,
    /// Number of handlers, callbacks and tick handlers that have begun.
    pub handled: AtomicU64,
    /// Set when a directory's sweeper or a pool's resize may have sent messages that the books do
    /// not count.
    pub marks: AtomicBool,
    pub slots: [Mutex<Option<ActorRef<Node>>>; crate::program::SLOTS as usize],
    pub weak: Kept<WeakRef<Node>>,
    pub asks: Kept<Ask<Token>>,
    pub replies: Kept<Reply<Token>>,
    pub timers: Kept<Timer>,
    pub sendings: Kept<Sending<Node, Msg>>,
    pub pool_sendings: Kept<PoolSending<Node, heist::strategy::Route, Msg>>,
    pub stopped: Kept<Stopped<Node>>,
    pub idle: Kept<WaitIdle>,
    pub broadcasts: Kept<heist::pool::Broadcast<Token>>,
    pub pool: Mutex<Option<Pool<Node>>>,
    pub directory: Mutex<Option<Directory<u8, Node>>>,
}

impl World {
    pub fn new(seed: u64, handle: Handle) -> Arc<Self> {
        Arc::new(World {
            handle,
            seed,
            fuel: AtomicI32::new(FUEL),
            rows: (0..ROWS).map(|_| AtomicU8::new(0)).collect(),
            next: AtomicU32::new(0),
            handled: AtomicU64::new(0),
            marks: AtomicBool::new(false),
            slots: Default::default(),
            weak: Kept::default(),
            asks: Kept::default(),
            replies: Kept::default(),
            timers: Kept::default(),
            sendings: Kept::default(),
            pool_sendings: Kept::default(),
            stopped: Kept::default(),
            idle: Kept::default(),
            broadcasts: Kept::default(),
            pool: Mutex::new(None),
            directory: Mutex::new(None),
        })
    }

    /// Consumes one unit of fuel. Returns `true` if the program may run another step.
    pub fn may_step(&self) -> bool {
        self.fuel.fetch_sub(1, Relaxed) > 0
    }

    pub fn run_dry(&self) {
        self.fuel.store(0, Relaxed);
    }

    pub fn token(self: &Arc<Self>, on_drop: Script) -> Token {
        let id = self.next.fetch_add(1, Relaxed);
        if id as usize >= ROWS {
            fail(self.seed, "the program breeds without bound");
        }
        let token = Token { world: Arc::clone(self), id, on_drop };
        token.mark(MADE);
        token
    }

    pub fn msg(self: &Arc<Self>, letter: &Letter) -> Msg {
        Msg {
            token: self.token(letter.on_drop.clone()),
            handle: letter.handle.clone(),
            keep: letter.keep,
        }
    }

    pub fn node(self: &Arc<Self>, life: &Life) -> Node {
        Node {
            token: self.token(Vec::new()),
            life: life.clone(),
            stage: Stage::Made,
            in_turn: Arc::default(),
        }
    }

    pub fn at(&self, slot: u8) -> Option<ActorRef<Node>> {
        self.slots[slot as usize].lock().clone()
    }

    /// Drops all kept values, in an order that `first` selects.
    pub fn clear(&self, first: u64) {
        for round in 0..14 {
            match (first + round) % 14 {
                0 => drop(self.asks.all()),
                1 => drop(self.replies.all()),
                2 => drop(self.timers.all()),
                3 => drop(self.sendings.all()),
                4 => drop(self.pool_sendings.all()),
                5 => drop(self.stopped.all()),
                6 => drop(self.idle.all()),
                7 => drop(self.broadcasts.all()),
                8 => drop(self.weak.all()),
                9 => drop(self.pool.lock().take()),
                10 => drop(self.directory.lock().take()),
                _ => self.slots.iter().for_each(|slot| {
                    let actor = slot.lock().take();
                    drop(actor);
                }),
            }
        }
    }

    /// Checks that every payload was dropped and that no message was both handled and given back.
    pub fn close(&self) -> Result<(), String> {
        for id in 0..self.next.load(Relaxed) {
            let row = self.rows[id as usize].load(Relaxed);
            if row & DROPPED == 0 {
                return Err(format!("payload {id} was never dropped ({row:#b})"));
            }
            if row & HANDLED != 0 && row & REFUSED != 0 {
                return Err(format!("message {id} was handled and came back"));
            }
        }
        Ok(())
    }

    /// Returns the number of payloads that are alive.
    pub fn alive(&self) -> usize {
        let made = self.next.load(Relaxed) as usize;
        self.rows[..made].iter().filter(|row| row.load(Relaxed) & DROPPED == 0).count()
    }
}

/// A payload with a row in the books.
pub struct Token {
    pub world: Arc<World>,
    id: u32,
    on_drop: Script,
}

impl Token {
    fn mark(&self, bit: u8) {
        let old = self.world.rows[self.id as usize].fetch_or(bit, Relaxed);
        if old & bit != 0 {
            fail(
                self.world.seed,
                &format!("payload {}: bit {bit:#b} once more, it was {old:#b}", self.id),
            );
        }
    }
    pub fn refused(&self) {
        self.mark(REFUSED);
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.mark(DROPPED);
        let script = std::mem::take(&mut self.on_drop);
        crate::exec::run(&self.world, &script, None);
    }
}

pub struct Msg {
    pub token: Token,
    pub handle: Script,
    pub keep: bool,
}

/// A boxed message, small enough for a segment.
pub struct Small(pub Box<Msg>);

/// A message that may be handled in batches.
pub struct Several(pub Msg);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Made,
    Started,
    Stopped,
}

pub struct Node {
    token: Token,
    life: Life,
    stage: Stage,
    in_turn: Arc<AtomicBool>,
}

/// Marks the actor's code as running until dropped.
struct Turn(Arc<AtomicBool>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

impl Node {
    fn enter(&self, what: &str) -> Turn {
        if self.in_turn.swap(true, Relaxed) {
            fail(self.world().seed, &format!("two turns of one actor overlap: {what}"));
        }
        Turn(Arc::clone(&self.in_turn))
    }

    fn world(&self) -> &Arc<World> {
        &self.token.world
    }

    fn handle(&mut self, msg: &mut Msg, ctx: &mut Context<Self>) {
        let _turn = self.enter("a handler");
        msg.token.mark(HANDLED);
        self.world().handled.fetch_add(1, Relaxed);
        if self.stage != Stage::Started {
            fail(
                self.world().seed,
                &format!("a message is handled when the actor is {:?}", self.stage),
            );
        }
        let script = std::mem::take(&mut msg.handle);
        crate::exec::run(self.world(), &script, Some(ctx));
    }

    pub fn tick(&mut self, msg: &mut Msg, ctx: &mut Context<Self>) {
        self.handle(msg, ctx);
    }

    /// Handles a tick that is not in the books.
    pub fn empty_tick(&mut self) {
        let _turn = self.enter("a tick");
        self.world().handled.fetch_add(1, Relaxed);
    }

    /// Runs the script of an `ask_then` callback.
    pub fn called_back(&mut self, token: &Token, script: &Script, ctx: &mut Context<Self>) {
        let _turn = self.enter("a callback");
        token.mark(HANDLED);
        self.world().handled.fetch_add(1, Relaxed);
        crate::exec::run(self.world(), script, Some(ctx));
    }
}

impl Actor for Node {
    fn started(&mut self, ctx: &mut Context<Self>) {
        let _turn = self.enter("started");
        if self.stage != Stage::Made {
            fail(self.world().seed, "started runs twice");
        }
        let script = std::mem::take(&mut self.life.started);
        crate::exec::run(&Arc::clone(self.world()), &script, Some(ctx));
        self.stage = Stage::Started;
    }

    fn stopped(&mut self, reason: &StopReason) {
        let _turn = self.enter("stopped");
        if self.stage != Stage::Started {
            fail(
                self.world().seed,
                &format!("stopped ({reason}) runs when the actor is {:?}", self.stage),
            );
        }
        self.stage = Stage::Stopped;
        let script = std::mem::take(&mut self.life.stopped);
        crate::exec::run(&Arc::clone(self.world()), &script, None);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _turn = self.enter("the state's drop");
        if self.stage == Stage::Started {
            fail(self.world().seed, "a state is dropped before stopped ran");
        }
        if self.stage == Stage::Stopped {
            let script = std::mem::take(&mut self.life.on_drop);
            crate::exec::run(&Arc::clone(self.world()), &script, None);
        }
    }
}

impl Receive<Msg> for Node {
    type Reply = Token;
    fn receive(&mut self, mut msg: Msg, reply: Reply<Token>, ctx: &mut Context<Self>) {
        self.handle(&mut msg, ctx);
        if msg.keep {
            self.world().replies.put(reply);
        } else {
            reply.send(self.world().token(Vec::new()));
        }
    }
}

impl Handler<Small> for Node {
    type Reply = Token;
    fn handle(&mut self, Small(mut msg): Small, ctx: &mut Context<Self>) -> Token {
        Node::handle(self, &mut msg, ctx);
        drop(msg);
        self.world().token(Vec::new())
    }
}

impl Receive<Several> for Node {
    type Reply = Token;
    const BATCH: usize = 3;
    fn receive(&mut self, _: Several, _: Reply<Token>, _: &mut Context<Self>) {
        fail(self.world().seed, "a message that may come in batches came alone");
    }
    fn receive_batch(&mut self, batch: Batch<'_, Several, Token>, ctx: &mut Context<Self>) {
        for (Several(mut msg), reply) in batch {
            self.handle(&mut msg, ctx);
            reply.send(self.world().token(Vec::new()));
        }
    }
}

/// Panics with one of several kinds of payload. Does nothing while the thread unwinds already.
pub fn explode(kind: u8) {
    if std::thread::panicking() {
        return;
    }
    match kind % 4 {
        0 => panic!("planned"),
        1 => panic_any(Grenade::<0>),
        2 => panic_any(Grenade::<1>),
        _ => panic_any(Grenade::<2>),
    }
}

/// A payload that panics `N` times in a row when dropped. Zero-sized, because heist leaks a payload
/// that never stops panicking.
pub struct Grenade<const N: u8>;

impl<const N: u8> Drop for Grenade<N> {
    fn drop(&mut self) {
        match N {
            _ if std::thread::panicking() => {}
            0 => {}
            1 => panic_any(Grenade::<0>),
            _ => panic_any(Grenade::<1>),
        }
    }
}

/// Returns `true` if the payload belongs to a panic of the fuzzer itself.
pub fn is_planned(payload: &(dyn std::any::Any + Send)) -> bool {
    payload.downcast_ref::<&str>() == Some(&"planned")
        || payload.is::<Grenade<0>>()
        || payload.is::<Grenade<1>>()
        || payload.is::<Grenade<2>>()
}

/// Runs `f` and contains panics, as a careful caller would.
pub fn careful(f: impl FnOnce()) {
    let mut result = catch_unwind(AssertUnwindSafe(f));
    while let Err(payload) = result {
        result = catch_unwind(AssertUnwindSafe(|| drop(payload)));
    }
}

//! Holds the state shared by the actors and threads of one round.

use crate::fail;
use crate::ledger::{Ledger, Token, explode};
use crate::node::{Node, Placed};
use heist::{ActorRef, Ask, AskError, Handle, Receive, Reply, SendError, WeakRef};
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

/// Number of slots for actors. Handlers wait only for actors in higher slots, so that no cycle of
/// waits arises.
pub const SLOTS: usize = 20;

/// A seeded generator (xorshift64*). Each party has its own, seeded from the round's seed.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The content of every message.
pub struct Letter {
    pub token: Token,
    pub from: u64,
    /// Increases with each letter from one sender to one receiver. 0 marks a letter that is out of
    /// order on purpose.
    pub seq: u32,
    /// A sender and number that had been accepted before this letter was sent, and must therefore
    /// be handled first.
    pub after: Option<(u64, u32)>,
    /// A proof of causal order to pass on: the target had accepted the given number before this
    /// letter was sent.
    pub pass_on: Option<(ActorRef<Node>, (u64, u32))>,
    /// Number of generations that may still follow.
    pub ttl: u8,
    /// Set if the asker waits without a timeout, so that the receiver must not keep the reply.
    pub prompt: bool,
    /// Earliest instant at which a timer's letter may arrive.
    pub due: Option<Instant>,
}

/// For [`heist::Receive`]. The receiver may move the reply anywhere.
pub struct Note(pub Letter);
/// For [`heist::Handler`]. Small enough to share a segment with other messages of the type.
pub struct Small(pub Box<Letter>);

/// For [`heist::Receive`] in batches.
pub struct Several(pub Letter);

/// An answer that names its question, so that a mix-up is noticed.
pub struct Answer {
    pub to: u32,
    pub token: Token,
}

/// Records the final result of an ask.
pub fn ended(asked: u32, result: Result<Answer, AskError>) {
    match result {
        Ok(answer) if answer.to == asked => answer.token.got(),
        Ok(answer) => fail(&format!("the ask {asked} got the answer to {}", answer.to)),
        Err(AskError::Stopped | AskError::Panicked(_) | AskError::NoReply) => {}
        Err(error) => fail(&format!("the ask {asked} ended with {error:?}")),
    }
}

/// A queue of values handed to a thread.
pub struct Post<T> {
    queue: Mutex<(VecDeque<T>, bool)>,
    arrived: Condvar,
    /// Number of values handed in but not yet processed.
    pub open: AtomicUsize,
}

impl<T> Post<T> {
    fn new() -> Self {
        Post {
            queue: Mutex::new((VecDeque::new(), false)),
            arrived: Condvar::new(),
            open: AtomicUsize::new(0),
        }
    }
    pub fn put(&self, thing: T) {
        self.open.fetch_add(1, Relaxed);
        self.queue.lock().0.push_back(thing);
        self.arrived.notify_one();
    }
    /// Takes the next value. Returns `None` once the queue is closed and empty.
    pub fn take(&self) -> Option<T> {
        let mut queue = self.queue.lock();
        loop {
            match queue.0.pop_front() {
                Some(thing) => return Some(thing),
                None if queue.1 => return None,
                None => self.arrived.wait(&mut queue),
            }
        }
    }
    pub fn close(&self) {
        self.queue.lock().1 = true;
        self.arrived.notify_all();
    }
}

pub struct World {
    pub seed: u64,
    pub ledger: Arc<Ledger>,
    pub handle: Handle,
    pub slots: Vec<Mutex<Option<ActorRef<Node>>>>,
    pub weak: Mutex<Vec<WeakRef<Node>>>,
    /// Replies for the answering thread.
    pub replies: Post<(u32, Reply<Answer>)>,
    /// Asks for the waiting threads.
    pub asks: Post<(u32, Ask<Answer>)>,
    /// Replies to answer after the executor's end.
    pub late: Mutex<Vec<(u32, Reply<Answer>)>>,
    pub made: AtomicU64,
    pub dropped: AtomicU64,
    /// The last operation of each driver, for the watchdog's report.
    pub doing: Vec<AtomicU8>,
    pub over: AtomicBool,
    pub timing: Timing,
}

/// Which actors are timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    None,
    Some,
    All,
}

impl World {
    pub fn new(seed: u64, handle: Handle, drivers: usize, timing: Timing) -> Arc<Self> {
        Arc::new(World {
            seed,
            ledger: Ledger::new(),
            handle,
            slots: (0..SLOTS).map(|_| Mutex::new(None)).collect(),
            weak: Mutex::new(Vec::new()),
            replies: Post::new(),
            asks: Post::new(),
            late: Mutex::new(Vec::new()),
            made: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            doing: (0..drivers).map(|_| AtomicU8::new(0)).collect(),
            over: AtomicBool::new(false),
            timing,
        })
    }

    /// Returns the actor in a slot, replaced if the old one has ended. Returns `None` once the
    /// executor shuts down.
    pub fn at(self: &Arc<Self>, slot: usize, rng: &mut Rng) -> Option<ActorRef<Node>> {
        let old = self.slots[slot].lock().clone();
        match old {
            Some(actor) if actor.is_running() => Some(actor),
            _ => self.replace(slot, rng),
        }
    }

    /// Puts a new actor into a slot and drops the slot's reference to the old one.
    pub fn replace(self: &Arc<Self>, slot: usize, rng: &mut Rng) -> Option<ActorRef<Node>> {
        if rng.one_in(8) {
            return self.replace_by_dedicated(slot, rng);
        }
        let kept = rng.one_in(5).then(|| rng.below(self.handle.workers() as u64) as usize);
        let placed = kept.map_or(Placed::Anywhere, Placed::Worker);
        let mut builder = self.handle.build(Node::new(self, slot, placed));
        if let Some(k) = kept {
            builder = builder.on_worker(k);
        }
        let fresh = match rng.below(4) {
            0 => builder.capacity(1 + rng.below(3) as usize).try_spawn(),
            1 => builder
                .capacity(16)
                .name("sixteen")
                .budget_messages(1 + rng.below(4) as u32)
                .try_spawn(),
            2 if self.timing == Timing::Some => builder.timing(true).try_spawn(),
            _ => builder.try_spawn(),
        };
        match fresh {
            Ok(actor) => Some(self.put(actor, slot, rng)),
            Err(error) => {
                if !error.is_shutting_down() {
                    fail(&format!("{error}"));
                }
                error.into_actor().never_spawned();
                None
            }
        }
    }

    fn put(&self, actor: ActorRef<Node>, slot: usize, rng: &mut Rng) -> ActorRef<Node> {
        if rng.one_in(4) {
            self.weak.lock().push(actor.downgrade());
        }
        let old = self.slots[slot].lock().replace(actor.clone());
        drop(old); // outside the lock
        actor
    }

    /// Like `replace`, with a dedicated actor. Its factory may panic.
    fn replace_by_dedicated(
        self: &Arc<Self>,
        slot: usize,
        rng: &mut Rng,
    ) -> Option<ActorRef<Node>> {
        let (world, panics) = (Arc::clone(self), rng.one_in(20));
        let builder = self.handle.build_dedicated(move || {
            if panics {
                explode(slot as u32);
            }
            Node::new(&world, slot, Placed::Own(std::thread::current().id()))
        });
        match builder.capacity(1 + rng.below(16) as usize).try_spawn() {
            Ok(actor) => Some(self.put(actor, slot, rng)),
            Err(error) if error.is_shutting_down() => None,
            Err(error) => fail(&format!("{error}")),
        }
    }

    pub fn pick(self: &Arc<Self>, rng: &mut Rng) -> Option<ActorRef<Node>> {
        self.at(rng.below(SLOTS as u64) as usize, rng)
    }

    pub fn upgrade(&self, rng: &mut Rng) -> Option<ActorRef<Node>> {
        let weak = self.weak.lock();
        if weak.is_empty() {
            return None;
        }
        let chosen = weak[rng.below(weak.len() as u64) as usize].clone();
        drop(weak);
        chosen.upgrade()
    }
}

/// A sender's last numbers, one for each receiver.
pub struct Sender {
    pub me: u64,
    pub world: Arc<World>,
    numbers: HashMap<u64, u32>,
}

impl Sender {
    pub fn new(me: u64, world: &Arc<World>) -> Self {
        Sender { me, world: Arc::clone(world), numbers: HashMap::new() }
    }

    pub fn letter(&mut self, to: &ActorRef<Node>, rng: &mut Rng, ttl: u8) -> Letter {
        let seq = self.numbers.entry(to.id().get()).or_insert(0);
        *seq += 1;
        Letter {
            token: self.world.ledger.message(rng.one_in(200)),
            from: self.me,
            seq: *seq,
            after: None,
            pass_on: None,
            ttl,
            prompt: false,
            due: None,
        }
    }

    /// Records the result of a send for the message with the given id.
    pub fn said<T, M: Into<Letter>>(&self, id: u32, result: Result<T, SendError<M>>) -> Option<T> {
        match result {
            Ok(value) => {
                self.world.ledger.accepted(id);
                Some(value)
            }
            Err(error) => {
                self.refuse(id, error.into_message().into());
                None
            }
        }
    }

    pub fn refuse(&self, id: u32, back: Letter) {
        if back.token.id != id {
            fail(&format!("message {} came back in place of {id}", back.token.id));
        }
        back.token.refused();
    }

    pub fn tell(&mut self, to: &ActorRef<Node>, rng: &mut Rng, ttl: u8) -> Option<(u64, u32)> {
        let letter = self.letter(to, rng, ttl);
        let (id, number) = (letter.token.id, (letter.from, letter.seq));
        let done = match rng.below(8) {
            0..3 => self.said(id, to.tell(Note(letter))),
            3..5 => self.said(id, to.tell(Several(letter))),
            5 => self.said(id, to.recipient().tell(Small::of(letter))),
            _ => self.said(id, to.tell(Small::of(letter))),
        };
        done.map(|()| number)
    }

    pub fn tell_many(&mut self, to: &ActorRef<Node>, rng: &mut Rng, ttl: u8) {
        match rng.below(4) {
            0..2 => self.many(2 + rng.below(6), Several, to, rng, ttl),
            2 => self.many(2 + rng.below(6), Small::of, to, rng, ttl),
            // Enough messages to fill several segments.
            _ => self.many(20 + rng.below(20), Small::of, to, rng, 0),
        }
    }

    fn many<M: Into<Letter> + Send + 'static>(
        &mut self,
        many: u64,
        wrap: fn(Letter) -> M,
        to: &ActorRef<Node>,
        rng: &mut Rng,
        ttl: u8,
    ) where
        Node: Receive<M>,
    {
        let mut ids = Vec::new();
        let letters = std::iter::from_fn(|| {
            (ids.len() < many as usize).then(|| {
                let letter = self.letter(to, rng, ttl);
                ids.push(letter.token.id);
                wrap(letter)
            })
        });
        let (accepted, back) = match to.tell_many(letters) {
            Ok(accepted) => (accepted, None),
            Err(error) => (error.accepted(), Some(error.into_parts().0)),
        };
        if ids.len() != accepted + usize::from(back.is_some()) {
            fail(&format!("tell_many took {} messages and accounts for {accepted}", ids.len()));
        }
        ids[..accepted].iter().for_each(|&id| self.world.ledger.accepted(id));
        if let Some(back) = back {
            self.refuse(ids[accepted], back.into());
        }
    }

    /// Asks an actor. Returns `None` if the message was refused.
    pub fn ask(
        &mut self,
        to: &ActorRef<Node>,
        rng: &mut Rng,
        ttl: u8,
        prompt: bool,
    ) -> Option<(u32, Ask<Answer>)> {
        let mut letter = self.letter(to, rng, ttl);
        letter.prompt = prompt;
        let id = letter.token.id;
        let ask = match rng.below(4) {
            0 => self.said(id, to.ask(Note(letter))),
            1 => self.said(id, to.asker().ask(Small::of(letter))),
            2 => self.said(id, to.ask(Several(letter))),
            _ => self.said(id, to.ask(Small::of(letter))),
        };
        ask.map(|ask| (id, ask))
    }

    /// Sends the triangle: one letter to `to`, then one by way of `by`, which must be handled
    /// second.
    pub fn triangle(&mut self, to: &ActorRef<Node>, by: &ActorRef<Node>, rng: &mut Rng) {
        if let Some(first) = self.tell(to, rng, 0) {
            let mut letter = self.letter(by, rng, 1);
            letter.pass_on = Some((to.clone(), first));
            let id = letter.token.id;
            self.said(id, by.tell(Note(letter)));
        }
    }
}

impl From<Note> for Letter {
    fn from(Note(letter): Note) -> Self {
        letter
    }
}

impl From<Several> for Letter {
    fn from(Several(letter): Several) -> Self {
        letter
    }
}

impl Small {
    pub fn of(letter: Letter) -> Self {
        Small(Box::new(letter))
    }
}

impl From<Small> for Letter {
    fn from(Small(letter): Small) -> Self {
        *letter
    }
}

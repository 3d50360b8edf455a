//! The actor of the mesh: checks what it is promised in every turn, and does something at random.

use crate::fail;
use crate::ledger::{explode, taking_back};
use crate::world::{Answer, Letter, Note, Rng, SLOTS, Sender, Several, Small, World, ended};
use heist::{
    Actor, ActorRef, Ask, AskError, Batch, Context, Handler, Receive, Reply, StopReason, Timer, WaitAskError,
    WaitError,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

pub struct Node {
    world: Arc<World>,
    slot: usize,
    rng: Rng,
    sender: Sender,
    in_turn: Arc<AtomicBool>,
    /// The last number from each sender.
    seen: HashMap<u64, u32>,
    peers: Vec<(usize, ActorRef<Node>)>,
    held: Vec<ActorRef<Node>>,
    kept: Vec<(u32, Reply<Answer>)>,
    asks: Vec<(u32, Ask<Answer>)>,
    /// By the number of their messages.
    timers: Vec<(u32, Timer)>,
    /// Those that must not come any more.
    cancelled: Vec<u32>,
    started: bool,
    stopped: bool,
    on_crew: bool,
    bad: Bad,
    placed: Placed,
}

/// Where its turns must run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    Anywhere,
    Worker(usize),
    /// On one thread, known from the state's making on.
    Own(ThreadId),
}

/// Where this one panics, besides its handlers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bad {
    No,
    Started,
    Stopped,
    Drop,
}

/// One stay inside an actor's turn. Hooks, handlers, callbacks and the drop of the state make one each.
struct Turn(Arc<AtomicBool>);

impl Turn {
    fn enter(flag: &Arc<AtomicBool>, what: &str) -> Self {
        // Relaxed: the flag must not order turns for the executor.
        if flag.swap(true, Relaxed) {
            fail(&format!("two turns of one actor overlap: {what}"));
        }
        Turn(Arc::clone(flag))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

impl Node {
    pub fn new(world: &Arc<World>, slot: usize, placed: Placed) -> Self {
        let made = world.made.fetch_add(1, Relaxed);
        let mut rng = Rng::new(world.seed ^ made << 20);
        let bad = match rng.below(60) {
            0 => Bad::Started,
            1..4 => Bad::Stopped,
            4..7 => Bad::Drop,
            _ => Bad::No,
        };
        Node {
            world: Arc::clone(world),
            slot,
            rng,
            sender: Sender::new(0, world),
            in_turn: Arc::new(AtomicBool::new(false)),
            seen: HashMap::new(),
            peers: Vec::new(),
            held: Vec::new(),
            kept: Vec::new(),
            asks: Vec::new(),
            timers: Vec::new(),
            cancelled: Vec::new(),
            started: false,
            stopped: false,
            on_crew: true,
            bad,
            placed,
        }
    }

    /// It came back from a refused spawn.
    pub fn never_spawned(mut self) {
        self.on_crew = false;
        self.bad = Bad::No;
    }

    fn enter(&self, what: &str) -> Turn {
        Turn::enter(&self.in_turn, what)
    }

    fn at_home(&self, ctx: &Context<Self>) {
        let right = match self.placed {
            Placed::Anywhere => true,
            // A turn may lose its worker, but not go on with another.
            Placed::Worker(k) => ctx.worker().is_none_or(|worker| worker == k),
            Placed::Own(thread) => std::thread::current().id() == thread && ctx.worker().is_none(),
        };
        if !right {
            fail(&format!(
                "placed {:?}, and found on {:?}, {:?}",
                self.placed,
                ctx.worker(),
                std::thread::current()
            ));
        }
    }

    /// Takes note of a message that is being handled.
    fn check(&mut self, letter: &Letter, ctx: &Context<Self>) {
        self.at_home(ctx);
        letter.token.handled();
        if !self.started || self.stopped {
            fail("a message was handled outside started ..= stopped");
        }
        if letter.due.is_some_and(|due| Instant::now() < due) {
            fail(&format!("the timer of message {} is early", letter.token.id));
        }
        if self.cancelled.contains(&letter.token.id) {
            fail(&format!("the timer of message {} was cancelled before", letter.token.id));
        }
        if letter.seq > 0 {
            let last = self.seen.entry(letter.from).or_insert(0);
            if letter.seq <= *last {
                fail(&format!("out of order from {}: {} after {last}", letter.from, letter.seq));
            }
            *last = letter.seq;
        }
        if let Some((from, seq)) = letter.after
            && self.seen.get(&from).copied().unwrap_or(0) < seq
        {
            fail(&format!("out of causal order: number {seq} from {from} was not handled yet"));
        }
    }

    fn work(&mut self, letter: &mut Letter, ctx: &mut Context<Self>) {
        if self.rng.one_in(300) {
            explode(letter.token.id);
        }
        if let Some((to, first)) = letter.pass_on.take() {
            let mut second = self.sender.letter(&to, &mut self.rng, 0);
            second.after = Some(first);
            let id = second.token.id;
            self.sender.said(id, to.tell(Small(second)));
        }
        if letter.ttl > 0 && !self.world.ledger.spent() {
            (0..self.rng.below(3)).for_each(|_| self.act(letter.ttl - 1, ctx));
        }
        if self.rng.one_in(400) {
            explode(letter.token.id);
        }
    }

    /// A peer: remembered (which keeps it alive) or looked up.
    fn peer(&mut self) -> Option<(usize, ActorRef<Node>)> {
        if self.peers.len() == 6 || (!self.peers.is_empty() && self.rng.one_in(8)) {
            let gone = self.rng.below(self.peers.len() as u64) as usize;
            self.peers.swap_remove(gone);
        }
        if self.peers.is_empty() || self.rng.one_in(3) {
            let slot = self.rng.below(SLOTS as u64) as usize;
            let actor = self.world.at(slot, &mut self.rng)?;
            self.peers.push((slot, actor));
        }
        let chosen = self.rng.below(self.peers.len() as u64) as usize;
        Some(self.peers[chosen].clone())
    }

    fn act(&mut self, ttl: u8, ctx: &mut Context<Self>) {
        let Some((slot, to)) = self.peer() else { return };
        match self.rng.below(60) {
            0..12 => {
                if self.sender.tell(&to, &mut self.rng, ttl).is_none() {
                    self.when_room(&to, ttl, ctx);
                }
            }
            12..15 => self.sender.tell_many(&to, &mut self.rng, ttl),
            15..17 => drop(self.sender.ask(&to, &mut self.rng, ttl, false)),
            17..19 => {
                if let Some(ask) = self.sender.ask(&to, &mut self.rng, ttl, false) {
                    self.world.asks.put(ask);
                }
            }
            19 => {
                self.asks.truncate(4);
                self.asks.extend(self.sender.ask(&to, &mut self.rng, ttl, false));
            }
            20..25 => self.ask_then(&to, ttl, ctx),
            25..28 => {
                let letter = self.sender.letter(ctx.me(), &mut self.rng, ttl);
                let id = letter.token.id;
                if self.rng.one_in(2) {
                    let result = ctx.again(Small(letter));
                    self.sender.said(id, result);
                } else {
                    let result = ctx.again(Several(letter));
                    self.sender.said(id, result);
                }
            }
            28..30 => self.when_room(&to, ttl, ctx),
            30..32 if slot > self.slot => self.wait_inside(&to, ttl),
            32 if slot > self.slot => {
                let letter = self.sender.letter(&to, &mut self.rng, ttl);
                let id = letter.token.id;
                self.sender.said(id, to.send_timeout(Note(letter), Duration::from_millis(5)));
            }
            33 => self.wait_for_myself(ctx),
            34 => to.stop(),
            35 if ttl.is_multiple_of(2) => to.stop_now(),
            36 if ttl.is_multiple_of(2) => ctx.stop(),
            37 => drop(self.world.replace(slot, &mut self.rng)),
            38 => {
                if let Some(up) = self.world.upgrade(&mut self.rng) {
                    self.sender.tell(&up, &mut self.rng, ttl);
                }
            }
            39..41 => {
                let child = ctx.spawn(Node::new(&self.world, self.slot, Placed::Anywhere));
                self.sender.tell(&child, &mut self.rng, ttl);
                match self.rng.below(8) {
                    0 => child.detach(),
                    1..4 => drop(child),
                    _ => self.held.push(child),
                }
            }
            41 => self.held.truncate(1),
            42..44 => {
                for (id, reply) in std::mem::take(&mut self.kept) {
                    self.answer(id, reply);
                }
            }
            44 => {
                if self.world.handle.wait_idle_timeout(Duration::ZERO) != Err(WaitError::OnCrew) {
                    fail("a worker may wait for its own crew");
                }
            }
            45 => {
                let by = self.peer();
                if let Some((_, by)) = by {
                    self.sender.triangle(&to, &by, &mut self.rng);
                }
            }
            46 => spin(Duration::from_micros(self.rng.below(300))),
            47..50 => self.arm(&to, ttl, ctx),
            50..52 => self.cancel(),
            52..54 => self.block(),
            // What is done meanwhile is done by a thread without a worker's place, for all it knows.
            54..56 => heist::blocking(|| self.act(ttl, ctx)),
            56 if slot > self.slot => {
                let letter = self.sender.letter(&to, &mut self.rng, ttl);
                let id = letter.token.id;
                self.sender.said(id, to.send(Note(letter)));
            }
            57 if self.rng.one_in(4) => heist::blocking(|| explode(self.slot as u32)),
            _ => drop((to.len(), to.stats(), to.timing(), ctx.message_age(), self.world.handle.stats())),
        }
    }

    fn when_room(&mut self, target: &ActorRef<Node>, ttl: u8, ctx: &mut Context<Self>) {
        let mut letter = self.sender.letter(ctx.me(), &mut self.rng, ttl);
        letter.seq = 0; // it comes when it comes
        let id = letter.token.id;
        let result = ctx.when_room(target, Small(letter));
        self.sender.said(id, result);
    }

    /// A timer for itself or for a peer. Kept ones end with this actor.
    fn arm(&mut self, to: &ActorRef<Node>, ttl: u8, ctx: &mut Context<Self>) {
        let delay = Duration::from_micros(self.rng.below(2000));
        let own = self.rng.one_in(2);
        let mut letter = self.sender.letter(if own { ctx.me() } else { to }, &mut self.rng, ttl);
        let token = self.world.ledger.timer(self.rng.one_in(50));
        std::mem::replace(&mut letter.token, token).refused();
        (letter.seq, letter.due) = (0, Some(Instant::now() + delay)); // it overtakes
        let id = letter.token.id;
        let armed =
            if own { ctx.tell_after(delay, Small(letter)) } else { to.tell_after(delay, Small(letter)) };
        match armed {
            Ok(timer) if self.rng.one_in(2) => timer.detach(),
            Ok(timer) => {
                self.timers.truncate(20);
                self.timers.push((id, timer));
            }
            Err(error) => self.sender.refuse(id, error.into_message().0),
        }
    }

    fn cancel(&mut self) {
        if let Some((id, timer)) = self.timers.pop()
            && timer.cancel()
        {
            self.cancelled.push(id);
        }
    }

    fn ask_then(&mut self, to: &ActorRef<Node>, ttl: u8, ctx: &mut Context<Self>) {
        let letter = self.sender.letter(to, &mut self.rng, ttl);
        let id = letter.token.id;
        let callback = self.world.ledger.callback(self.rng.one_in(200));
        let back = callback.id;
        let then = move |me: &mut Node, result, ctx: &mut Context<Node>| {
            let _turn = me.enter("a callback");
            me.at_home(ctx);
            callback.handled();
            ended(id, result);
            if me.rng.one_in(100) {
                explode(callback.id);
            }
            if ttl > 0 {
                me.act(ttl - 1, ctx);
            }
        };
        let result = taking_back(|| ctx.ask_then(to, Note(letter), then));
        if self.sender.said(id, result).is_some() {
            self.world.ledger.accepted(back);
        }
    }

    /// To a higher slot only.
    fn wait_inside(&mut self, to: &ActorRef<Node>, ttl: u8) {
        let patient = self.rng.one_in(2);
        let Some((id, ask)) = self.sender.ask(to, &mut self.rng, ttl, patient) else { return };
        let result = if patient { ask.wait() } else { ask.wait_timeout(Duration::from_micros(200)) };
        if let Some(ask) = conclude(id, result) {
            match self.rng.below(3) {
                0 => drop(ask),
                1 => self.world.asks.put((id, ask)),
                _ => self.asks.push((id, ask)),
            }
        }
    }

    fn wait_for_myself(&mut self, ctx: &mut Context<Self>) {
        let Some((_, ask)) = self.sender.ask(ctx.me(), &mut self.rng, 0, false) else { return };
        match ask.wait() {
            Err(error) if *error.error() == AskError::WouldDeadlock => {}
            Err(error) => fail(&format!("an actor waited for itself and got {error:?}")),
            Ok(_) => fail("an actor answered inside its own turn"),
        }
    }

    fn block(&mut self) {
        let time = Duration::from_micros(self.rng.below(100));
        match self.rng.below(4) {
            0 => heist::blocking(|| ()),
            1 => heist::blocking(|| heist::blocking(std::thread::yield_now)),
            2 => heist::blocking(|| spin(time)),
            _ => heist::blocking(|| std::thread::sleep(time)),
        }
    }

    fn answer(&mut self, to: u32, reply: Reply<Answer>) {
        if self.rng.one_in(12) {
            drop(reply);
        } else {
            reply.send(answer_to(&self.world, to, &mut self.rng));
        }
    }
}

/// An answer, sometimes one that panics when it is dropped.
pub fn answer_to(world: &Arc<World>, to: u32, rng: &mut Rng) -> Answer {
    Answer { to, token: world.ledger.answer(rng.one_in(200)) }
}

/// The end of a wait, or the ask back where it may go on.
pub fn conclude(id: u32, result: Result<Answer, WaitAskError<Answer>>) -> Option<Ask<Answer>> {
    match result {
        Ok(answer) => ended(id, Ok(answer)),
        Err(error) => match error.error().clone() {
            AskError::TimedOut | AskError::NoSpare => match error.into_ask() {
                Some(ask) => return Some(ask),
                None => fail("a wait that was given up lost its ask"),
            },
            end => ended(id, Err(end)),
        },
    }
    None
}

pub fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

impl Actor for Node {
    fn started(&mut self, ctx: &mut Context<Self>) {
        let _turn = self.enter("started");
        self.at_home(ctx);
        if self.started {
            fail("started runs twice");
        }
        self.sender.me = ctx.id().get();
        if self.bad == Bad::Started {
            explode(self.slot as u32);
        }
        if self.rng.one_in(3) {
            self.act(1, ctx); // may panic too
        }
        self.started = true;
    }

    fn stopped(&mut self, reason: &StopReason) {
        let _turn = self.enter("stopped");
        if !self.started || self.stopped {
            fail(&format!("stopped ({reason:?}) runs twice, or without started"));
        }
        if self.rng.one_in(8) {
            self.block();
        }
        self.stopped = true;
        self.world.ledger.progress.fetch_add(1, Relaxed);
        if self.bad == Bad::Stopped {
            explode(self.slot as u32);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let flag = Arc::clone(&self.in_turn);
        let _turn = Turn::enter(&flag, "the state's drop");
        if self.started && !self.stopped {
            fail("the state is dropped before stopped ran");
        }
        let on_crew = self.world.handle.wait_idle_timeout(Duration::ZERO) == Err(WaitError::OnCrew);
        if self.on_crew && !on_crew {
            fail("an actor's state is dropped outside the crew");
        }
        if matches!(self.placed, Placed::Own(own) if own != std::thread::current().id()) {
            fail("the state of an actor with a thread of its own is dropped elsewhere");
        }
        if self.rng.one_in(8) {
            self.block();
        }
        self.world.dropped.fetch_add(1, Relaxed);
        if self.bad == Bad::Drop && !std::thread::panicking() {
            explode(self.slot as u32);
        }
    }
}

impl Receive<Note> for Node {
    type Reply = Answer;

    fn receive(&mut self, Note(mut letter): Note, reply: Reply<Answer>, ctx: &mut Context<Self>) {
        let _turn = self.enter("receive");
        self.check(&letter, ctx);
        self.work(&mut letter, ctx);
        let id = letter.token.id;
        if letter.prompt {
            return self.answer(id, reply);
        }
        match self.rng.below(16) {
            0..10 => self.answer(id, reply),
            10 => self.kept.push((id, reply)),
            11..14 => self.world.replies.put((id, reply)),
            14 if self.rng.one_in(8) => self.world.late.lock().push((id, reply)),
            14 => drop((reply.wanted(), reply)),
            // The reply is dropped by a panic that the handler catches itself: told at once, and not the actor's end.
            _ => {
                let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                    let _reply = reply;
                    explode(0);
                }));
                drop(caught);
            }
        }
    }
}

/// Answers when all are taken: some of those that wait, or as many as may be.
impl Receive<Several> for Node {
    type Reply = Answer;
    const BATCH: usize = 5;

    fn receive(&mut self, _: Several, _: Reply<Answer>, _: &mut Context<Self>) {
        fail("a message that may come in batches came alone");
    }

    fn receive_batch(&mut self, batch: Batch<'_, Several, Answer>, ctx: &mut Context<Self>) {
        let _turn = self.enter("a batch");
        let most = 1 + self.rng.below(6) as usize;
        let mut replies = Vec::new();
        for (Several(mut letter), reply) in batch.take(most) {
            self.check(&letter, ctx);
            replies.push((letter.token.id, reply));
            self.work(&mut letter, ctx);
        }
        if replies.len() > <Self as Receive<Several>>::BATCH {
            fail("a batch has more than its type says");
        }
        replies.into_iter().for_each(|(id, reply)| self.answer(id, reply));
    }
}

impl Handler<Small> for Node {
    type Reply = Answer;

    fn handle(&mut self, Small(mut letter): Small, ctx: &mut Context<Self>) -> Answer {
        let _turn = self.enter("handle");
        self.check(&letter, ctx);
        self.work(&mut letter, ctx);
        let id = letter.token.id;
        // Before there is a value to return: rustc leaks that when a local's drop panics (rust#47949).
        drop(letter);
        answer_to(&self.world, id, &mut self.rng)
    }
}

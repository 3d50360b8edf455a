//! Defines the actor of the mesh. Every turn checks the promises; `acts` holds the random actions.

mod acts;

use crate::fail;
use crate::ledger::explode;
use crate::world::{Answer, Letter, Note, Rng, Sender, Several, Small, World, ended};
use heist::{
    Actor, ActorRef, Ask, AskError, Batch, Context, Handler, Receive, Reply, StopReason, Timer,
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
    /// Timers with the numbers of their messages.
    timers: Vec<(u32, Timer)>,
    /// Numbers of timer messages that must not arrive any more.
    cancelled: Vec<u32>,
    started: bool,
    stopped: bool,
    on_crew: bool,
    bad: Bad,
    placed: Placed,
}

/// Where the actor's turns must run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    Anywhere,
    Worker(usize),
    /// On one thread only, recorded when the state is made.
    Own(ThreadId),
}

/// Where an actor panics besides its handlers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bad {
    No,
    Started,
    Stopped,
    Drop,
}

/// Marks the actor's code as running. Hooks, handlers, callbacks and the drop of the state make one
/// mark each.
struct Turn(Arc<AtomicBool>);

impl Turn {
    fn enter(flag: &Arc<AtomicBool>, what: &str) -> Self {
        // `Relaxed`, because the flag must not order turns on the executor's behalf.
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

    /// Marks a state that came back from a refused spawn.
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
            // A turn may lose its worker but must not continue on another worker.
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

    /// Records and checks a message that is being handled.
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
            self.sender.said(id, to.tell(Small::of(second)));
        }
        if letter.ttl > 0 && !self.world.ledger.spent() {
            (0..self.rng.below(3)).for_each(|_| self.act(letter.ttl - 1, ctx));
        }
        if self.rng.one_in(400) {
            explode(letter.token.id);
        }
    }
}

/// Makes an answer, which occasionally panics when dropped.
pub fn answer_to(world: &Arc<World>, to: u32, rng: &mut Rng) -> Answer {
    Answer { to, token: world.ledger.answer(rng.one_in(200)) }
}

/// Waits for an ask and evaluates the result. Returns the ask if the wait may continue.
pub fn conclude(
    id: u32,
    mut ask: Ask<Answer>,
    wait: impl FnOnce(&mut Ask<Answer>) -> Result<Answer, AskError>,
) -> Option<Ask<Answer>> {
    match wait(&mut ask) {
        Err(AskError::TimedOut | AskError::NoSpare) => return Some(ask),
        end => ended(id, end),
    }
    None
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
            self.act(1, ctx); // may panic
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
            14 => drop((reply.is_wanted(), reply)),
            // A panic that the handler catches drops the reply. The asker must be told at once, and
            // the actor must go on.
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

/// Handles a batch and answers afterwards. Takes either some or all of the waiting messages.
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
        // Dropped before the return value exists: rustc leaks the value when the drop of a local
        // panics (rust#47949).
        drop(letter);
        answer_to(&self.world, id, &mut self.rng)
    }
}

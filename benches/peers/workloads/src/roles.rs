//! Defines the actors of every workload, written once as a message type and a handler each. A
//! peer's program wraps a role in the library's own actor type and defines how to spawn and tell.
//! The compiler merges both.
//!
//! heist's program does not use these roles. Its actors are written by hand, as in any program that
//! uses heist.

use std::sync::Arc;

use crate::load::{Dice, Done, FJCREATE_STEP, SKEW_STEP, WORK_500_NS, work};

/// A library that runs actors.
pub trait Peer: Sized + Send + Sync + 'static {
    type Ref<R: Role<Self>>: Clone + Send + Sync + 'static;

    fn spawn<R: Role<Self>>(role: R) -> Self::Ref<R>;
    fn tell<R: Role<Self>>(to: &Self::Ref<R>, message: R::Message);
    /// Spawns an actor that answers each number with the same number. Returns a function that asks
    /// from outside and waits.
    fn echo() -> impl FnMut(u64) -> u64 + Send + 'static;
}

pub trait Role<P: Peer>: Sized + Send + Sync + 'static {
    type Message: Send + 'static;

    /// Handles a message. `me` makes a reference to this actor.
    fn handle(&mut self, message: Self::Message, me: impl Fn() -> P::Ref<Self>) -> Next;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Go,
    Stop,
}

pub struct Ping<P: Peer> {
    pub pong: P::Ref<Pong<P>>,
    pub left: u64,
    pub got: u64,
    pub done: Done,
}

pub enum PingMessage {
    Start,
    Pong,
}

impl<P: Peer> Role<P> for Ping<P> {
    type Message = PingMessage;

    fn handle(&mut self, message: PingMessage, _: impl Fn() -> P::Ref<Self>) -> Next {
        if let PingMessage::Pong = message {
            self.got += 1;
        }
        if self.left == 0 {
            P::tell(&self.pong, PongMessage::Stop);
            self.done.send(self.got);
            return Next::Stop;
        }
        self.left -= 1;
        P::tell(&self.pong, PongMessage::Ping);
        Next::Go
    }
}

pub struct Pong<P: Peer> {
    pub ping: Option<P::Ref<Ping<P>>>,
}

pub enum PongMessage<P: Peer> {
    Wire(P::Ref<Ping<P>>),
    Ping,
    Stop,
}

impl<P: Peer> Role<P> for Pong<P> {
    type Message = PongMessage<P>;

    fn handle(&mut self, message: PongMessage<P>, _: impl Fn() -> P::Ref<Self>) -> Next {
        match message {
            PongMessage::Wire(ping) => self.ping = Some(ping),
            PongMessage::Ping => P::tell(self.ping.as_ref().expect("wired first"), PingMessage::Pong),
            PongMessage::Stop => return Next::Stop,
        }
        Next::Go
    }
}

pub struct Counter {
    pub left: u64,
    pub sum: u64,
    pub done: Done,
}

impl<P: Peer> Role<P> for Counter {
    type Message = u64;

    fn handle(&mut self, n: u64, _: impl Fn() -> P::Ref<Self>) -> Next {
        self.sum += n;
        self.left -= 1;
        if self.left > 0 {
            return Next::Go;
        }
        self.done.send(self.sum);
        Next::Stop
    }
}

pub struct Producer<P: Peer> {
    pub counter: P::Ref<Counter>,
    pub messages: u64,
}

impl<P: Peer> Role<P> for Producer<P> {
    type Message = ();

    fn handle(&mut self, _: (), _: impl Fn() -> P::Ref<Self>) -> Next {
        for n in 0..self.messages {
            P::tell(&self.counter, n);
        }
        Next::Stop
    }
}

/// The target of fjthrput, with `work` iterations for each message.
pub struct Leaf {
    pub work: u32,
    pub got: u64,
    pub expect: u64,
    pub done: Done,
}

impl<P: Peer> Role<P> for Leaf {
    type Message = ();

    fn handle(&mut self, _: (), _: impl Fn() -> P::Ref<Self>) -> Next {
        if self.work > 0 {
            work(self.work);
        }
        self.got += 1;
        if self.got < self.expect {
            return Next::Go;
        }
        self.done.send(self.got);
        Next::Stop
    }
}

pub struct Root<P: Peer> {
    pub leaves: Vec<P::Ref<Leaf>>,
    pub rounds: u64,
}

impl<P: Peer> Role<P> for Root<P> {
    type Message = ();

    fn handle(&mut self, _: (), _: impl Fn() -> P::Ref<Self>) -> Next {
        for _ in 0..self.rounds {
            for leaf in &self.leaves {
                P::tell(leaf, ());
            }
        }
        Next::Stop
    }
}

pub struct Spawner<P: Peer> {
    pub left: u64,
    pub collector: P::Ref<Counter>,
}

impl<P: Peer> Role<P> for Spawner<P> {
    type Message = ();

    fn handle(&mut self, _: (), me: impl Fn() -> P::Ref<Self>) -> Next {
        let now = self.left.min(FJCREATE_STEP);
        for _ in 0..now {
            let child = P::spawn(Child::<P> { collector: self.collector.clone() });
            P::tell(&child, ());
        }
        self.left -= now;
        if self.left == 0 {
            return Next::Stop;
        }
        P::tell(&me(), ());
        Next::Go
    }
}

pub struct Child<P: Peer> {
    pub collector: P::Ref<Counter>,
}

impl<P: Peer> Role<P> for Child<P> {
    type Message = ();

    fn handle(&mut self, _: (), _: impl Fn() -> P::Ref<Self>) -> Next {
        P::tell(&self.collector, 1);
        Next::Stop
    }
}

pub struct Node<P: Peer> {
    pub id: u64,
    pub next: Option<P::Ref<Node<P>>>,
    pub done: Done,
}

pub enum NodeMessage<P: Peer> {
    Wire(P::Ref<Node<P>>),
    Token(u64),
    Stop,
}

impl<P: Peer> Role<P> for Node<P> {
    type Message = NodeMessage<P>;

    fn handle(&mut self, message: NodeMessage<P>, _: impl Fn() -> P::Ref<Self>) -> Next {
        match message {
            NodeMessage::Wire(next) => self.next = Some(next),
            NodeMessage::Token(0) => self.done.send(self.id),
            NodeMessage::Token(left) => {
                P::tell(self.next.as_ref().expect("wired first"), NodeMessage::Token(left - 1));
            }
            NodeMessage::Stop => return Next::Stop,
        }
        Next::Go
    }
}

/// All actors of big, by their ids.
type Bigs<P> = Arc<Vec<<P as Peer>::Ref<Big<P>>>>;

pub struct Big<P: Peer> {
    pub id: u64,
    pub all: Option<Bigs<P>>,
    pub dice: Dice,
    pub left: u64,
    pub acked: u64,
    pub done: Done,
}

pub enum BigMessage<P: Peer> {
    Wire(Bigs<P>),
    Start,
    Ping(u32),
    Pong,
    Stop,
}

impl<P: Peer> Big<P> {
    fn ping(&mut self) {
        if self.left == 0 {
            self.done.send(self.acked);
            return;
        }
        self.left -= 1;
        let all = self.all.as_ref().expect("wired first");
        let other = self.dice.other(all.len() as u64, self.id);
        P::tell(&all[other as usize], BigMessage::Ping(self.id as u32));
    }
}

impl<P: Peer> Role<P> for Big<P> {
    type Message = BigMessage<P>;

    fn handle(&mut self, message: BigMessage<P>, _: impl Fn() -> P::Ref<Self>) -> Next {
        match message {
            BigMessage::Wire(all) => self.all = Some(all),
            BigMessage::Start => self.ping(),
            BigMessage::Ping(from) => {
                let all = self.all.as_ref().expect("wired first");
                P::tell(&all[from as usize], BigMessage::Pong);
            }
            BigMessage::Pong => {
                self.acked += 1;
                self.ping();
            }
            BigMessage::Stop => return Next::Stop,
        }
        Next::Go
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Blue,
    Red,
    Yellow,
}

impl Colour {
    pub fn of(id: u64) -> Colour {
        [Colour::Blue, Colour::Red, Colour::Yellow][id as usize % 3]
    }

    /// Returns the colour of two that have met: the same if they are alike, otherwise the third
    /// colour.
    pub fn with(self, other: Colour) -> Colour {
        match (self, other) {
            (a, b) if a == b => a,
            (Colour::Blue, Colour::Red) | (Colour::Red, Colour::Blue) => Colour::Yellow,
            (Colour::Blue, Colour::Yellow) | (Colour::Yellow, Colour::Blue) => Colour::Red,
            _ => Colour::Blue,
        }
    }
}

pub struct Mall<P: Peer> {
    pub waiting: Option<P::Ref<Chameneo<P>>>,
    pub left: u64,
    pub chameneos: u64,
    pub met: u64,
    pub done: Done,
}

pub enum MallMessage<P: Peer> {
    Meet(Colour, P::Ref<Chameneo<P>>),
    Met(u64),
}

impl<P: Peer> Role<P> for Mall<P> {
    type Message = MallMessage<P>;

    fn handle(&mut self, message: MallMessage<P>, _: impl Fn() -> P::Ref<Self>) -> Next {
        match message {
            MallMessage::Meet(_, who) if self.left == 0 => P::tell(&who, ChameneoMessage::Over),
            MallMessage::Meet(colour, who) => match self.waiting.take() {
                None => self.waiting = Some(who),
                Some(first) => {
                    self.left -= 1;
                    P::tell(&first, ChameneoMessage::Meet(colour, who));
                }
            },
            MallMessage::Met(n) => {
                self.met += n;
                self.chameneos -= 1;
                if self.chameneos == 0 {
                    self.done.send(self.met);
                    return Next::Stop;
                }
            }
        }
        Next::Go
    }
}

pub struct Chameneo<P: Peer> {
    pub colour: Colour,
    pub met: u64,
    pub mall: P::Ref<Mall<P>>,
}

pub enum ChameneoMessage<P: Peer> {
    Start,
    Meet(Colour, P::Ref<Chameneo<P>>),
    Change(Colour),
    Over,
}

impl<P: Peer> Role<P> for Chameneo<P> {
    type Message = ChameneoMessage<P>;

    fn handle(&mut self, message: ChameneoMessage<P>, me: impl Fn() -> P::Ref<Self>) -> Next {
        match message {
            ChameneoMessage::Start => {}
            ChameneoMessage::Meet(colour, other) => {
                self.colour = self.colour.with(colour);
                self.met += 1;
                P::tell(&other, ChameneoMessage::Change(self.colour));
            }
            ChameneoMessage::Change(colour) => {
                self.colour = colour;
                self.met += 1;
            }
            ChameneoMessage::Over => {
                P::tell(&self.mall, MallMessage::Met(self.met));
                return Next::Stop;
            }
        }
        P::tell(&self.mall, MallMessage::Meet(self.colour, me()));
        Next::Go
    }
}

pub struct SkewProducer<P: Peer> {
    pub targets: Vec<u32>,
    pub at: usize,
    pub all: Arc<Vec<Option<P::Ref<SkewTarget>>>>,
}

impl<P: Peer> Role<P> for SkewProducer<P> {
    type Message = ();

    fn handle(&mut self, _: (), me: impl Fn() -> P::Ref<Self>) -> Next {
        let end = (self.at + SKEW_STEP).min(self.targets.len());
        for &target in &self.targets[self.at..end] {
            P::tell(self.all[target as usize].as_ref().expect("one that gets messages exists"), ());
        }
        self.at = end;
        if end == self.targets.len() {
            return Next::Stop;
        }
        P::tell(&me(), ());
        Next::Go
    }
}

pub struct SkewTarget {
    pub id: u64,
    pub left: u64,
    pub sum: u64,
    pub done: Done,
}

impl<P: Peer> Role<P> for SkewTarget {
    type Message = ();

    fn handle(&mut self, _: (), _: impl Fn() -> P::Ref<Self>) -> Next {
        work(WORK_500_NS);
        self.sum += self.id;
        self.left -= 1;
        if self.left > 0 {
            return Next::Go;
        }
        self.done.send(self.sum);
        Next::Stop
    }
}

pub enum Parent<P: Peer> {
    Call(P::Ref<Fib<P>>),
    Main(Done),
}

pub struct Fib<P: Peer> {
    pub parent: Parent<P>,
    pub waiting: u8,
    pub sum: u64,
}

pub enum FibMessage {
    Call(u64),
    Value(u64),
}

impl<P: Peer> Role<P> for Fib<P> {
    type Message = FibMessage;

    fn handle(&mut self, message: FibMessage, me: impl Fn() -> P::Ref<Self>) -> Next {
        match message {
            FibMessage::Call(n) if n < 2 => self.sum = n,
            FibMessage::Call(n) => {
                for m in [n - 1, n - 2] {
                    let child = P::spawn(Fib::<P> { parent: Parent::Call(me()), waiting: 2, sum: 0 });
                    P::tell(&child, FibMessage::Call(m));
                }
                return Next::Go;
            }
            FibMessage::Value(value) => {
                self.sum += value;
                self.waiting -= 1;
                if self.waiting > 0 {
                    return Next::Go;
                }
            }
        }
        match &self.parent {
            Parent::Call(parent) => P::tell(parent, FibMessage::Value(self.sum)),
            Parent::Main(done) => done.send(self.sum),
        }
        Next::Stop
    }
}

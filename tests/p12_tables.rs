//! Tests P12, small: tables of waits and waiters keep nothing of a burst. The allocator counts bytes
//! for the whole process, so this file has only one test.
#![allow(clippy::print_stdout)] // prints the sizes

mod common;

use common::live_bytes::*;
use common::*;
use heist::{Actor, ActorRef, Context, Handler, Receive, Reply};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Entries of a table at the same time.
const BURST: usize = 100_000;
/// Less than the table of such a burst, and more than queues of the executor grow by.
const KEPT: i64 = 512 << 10;

/// Keeps all replies until it is told to let go of them.
struct Keeper(Vec<Reply<()>>);

impl Actor for Keeper {}

#[derive(Clone, Copy)]
struct Question;
struct LetGo;

impl Receive<Question> for Keeper {
    type Reply = ();
    fn receive(&mut self, _: Question, reply: Reply<()>, _: &mut Context<Self>) {
        self.0.push(reply);
    }
}

impl Handler<LetGo> for Keeper {
    type Reply = ();
    fn handle(&mut self, _: LetGo, _: &mut Context<Self>) {
        self.0 = Vec::new();
    }
}

struct Forwarder(ActorRef<Keeper>);

impl Actor for Forwarder {}

impl Receive<Question> for Forwarder {
    type Reply = ();
    fn receive(&mut self, question: Question, reply: Reply<()>, ctx: &mut Context<Self>) {
        ctx.forward(&self.0, question, reply).map_err(|_| ()).unwrap();
    }
}

/// Asks the target for a notice of room.
struct Owner(ActorRef<Puppet>);

impl Actor for Owner {}

struct Queue;

impl Handler<Queue> for Owner {
    type Reply = ();
    fn handle(&mut self, _: Queue, ctx: &mut Context<Self>) {
        ctx.when_room(&self.0.clone(), LetGo).unwrap();
    }
}

impl Handler<LetGo> for Owner {
    type Reply = ();
    fn handle(&mut self, _: LetGo, _: &mut Context<Self>) {}
}

#[test]
fn tables_of_waits_keep_no_burst() {
    let executor = crew(2);
    let target = executor.build(Puppet::default()).capacity(2).spawn();
    settle(&executor);
    let before = live_bytes();

    let keeper = executor.build(Keeper(Vec::new())).unbounded().spawn();
    let forwarder = executor.build(Forwarder(keeper.clone())).unbounded().spawn();
    let asks: Vec<_> = (0..BURST).map(|_| forwarder.ask(Question).unwrap()).collect();
    settle(&executor);
    let during = live_bytes() - before;
    keeper.tell(LetGo).unwrap();
    asks.into_iter().for_each(|ask| assert!(answer(ask).is_err()));
    drop((keeper, forwarder));
    settle(&executor);
    let forwards = live_bytes() - before;
    println!("{during} bytes beside the forwards, {forwards} afterwards");
    assert!(forwards < KEPT, "{forwards} bytes are left of the forwards");

    let others = crew(2);
    let held = Held::hold(&target);
    target.tell(Note(1)).unwrap();
    let owners: Vec<_> = (0..BURST).map(|_| others.spawn(Owner(target.clone()))).collect();
    owners.iter().for_each(|owner| owner.tell(Queue).unwrap());
    settle(&others);
    held.release();
    drop(owners);
    settle(&executor);
    shut_down(&others);
    drop(others);
    settle(&executor);
    let notices = live_bytes() - before;
    println!("{notices} bytes after the notices");
    assert!(notices < KEPT, "{notices} bytes are left of the notices");
}

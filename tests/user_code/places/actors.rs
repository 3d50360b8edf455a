//! Defines places in actors: handlers, hooks, callbacks, and the drop of a state.

use crate::Place;
use crate::acts::{Act, Token};
use crate::rig::{Latch, Outcome, Ping, Puppet, Rig, Run, Trap, within};
use heist::{
    Actor, ActorRef, AskError, Batch, Context, Executor, Handler, Receive, Reply, StopReason,
};
use std::panic::panic_any;
use std::time::Duration;

pub const PLACES: &[Place] = &[
    ("actor/started", started),
    ("actor/handler", handler),
    ("actor/again", again),
    ("actor/batch", batch),
    ("actor/stopped", stopped),
    ("actor/stopped-unreferenced", stopped_unreferenced),
    ("actor/stopped-shutdown", stopped_shutdown),
    ("actor/state-drop", state_drop),
    ("actor/state-drop-killed", state_drop_killed),
    ("actor/local-drop-unwinding", local_drop_unwinding),
    ("actor/payload-drop", payload_drop),
    ("actor/callback", callback),
    ("actor/callback-no-answer", callback_no_answer),
    ("actor/when-room", when_room),
    ("actor/reply-dropped", reply_dropped),
    ("actor/tell-many-iterator", tell_many_iterator),
    ("dedicated/factory", dedicated_factory),
    ("dedicated/handler", dedicated_handler),
    ("dedicated/state-drop", dedicated_state_drop),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Started,
    Stopped,
    Handler,
    Batch,
    Drop,
}

/// An actor that springs its trap at one point of its life.
struct Subject {
    at: At,
    trap: Trap,
    _token: Token,
}

impl Subject {
    fn new(rig: &Rig, at: At) -> Self {
        Subject { at, trap: rig.trap(), _token: Token::new(&rig.world.balance) }
    }
    fn spring(&self, at: At) {
        if self.at == at {
            self.trap.spring();
        }
    }
}

impl Actor for Subject {
    fn started(&mut self, _: &mut Context<Self>) {
        self.spring(At::Started);
    }
    fn stopped(&mut self, _: &StopReason) {
        self.spring(At::Stopped);
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.spring(At::Drop);
    }
}

impl Handler<Ping> for Subject {
    type Reply = ();
    fn handle(&mut self, _: Ping, _: &mut Context<Self>) {
        self.spring(At::Handler);
    }
}

struct Item;

impl Receive<Item> for Subject {
    type Reply = ();
    const BATCH: usize = 4;
    fn receive(&mut self, _: Item, reply: Reply<()>, _: &mut Context<Self>) {
        reply.send(());
    }
    fn receive_batch(&mut self, batch: Batch<'_, Item, ()>, _: &mut Context<Self>) {
        for (_, reply) in batch {
            self.spring(At::Batch);
            reply.send(());
        }
    }
}

/// Checks that a panic ended the actor and was counted.
fn ends_by_panic<A: Actor>(rig: &Rig, actor: &ActorRef<A>) {
    if rig.act().panics() {
        let reason = actor.wait_stopped().expect("from outside");
        assert!(matches!(reason, StopReason::Panicked(_)), "{reason:?}");
        assert_eq!(rig.handle().stats().panicked, 1);
    }
}

fn counts_a_panic(rig: &Rig) {
    if rig.act().panics() {
        within("the panic is counted", || rig.handle().stats().panicked == 1);
    }
}

/// Checks that a panic in `stopped` or in the state's drop was counted and is the stop reason.
fn ends_stopped<A: Actor>(rig: &Rig, actor: &ActorRef<A>) {
    match actor.wait_stopped().expect("from outside") {
        StopReason::Stopped => assert!(!rig.act().panics()),
        StopReason::Panicked(_) => assert!(rig.act().panics()),
        other => panic!("{other:?}"),
    }
    counts_a_panic(rig);
}

fn started(rig: &Rig) -> Outcome {
    rig.arm();
    let actor = rig.handle().spawn(Subject::new(rig, At::Started));
    rig.stops(&actor);
    rig.sprung();
    ends_by_panic(rig, &actor);
    Outcome::Done
}

fn handler(rig: &Rig) -> Outcome {
    let actor = rig.handle().spawn(Subject::new(rig, At::Handler));
    rig.stops(&actor);
    rig.arm();
    let mut ask = actor.ask(Ping).expect("room");
    let answer = ask.wait();
    rig.sprung();
    match answer {
        Err(AskError::Panicked(_)) => assert!(rig.act().panics()),
        other => assert!(other.is_ok() && !rig.act().panics(), "{other:?}"),
    }
    ends_by_panic(rig, &actor);
    Outcome::Done
}

fn again(rig: &Rig) -> Outcome {
    let (actor, trap) = (rig.puppet(), rig.trap());
    rig.stops(&actor);
    let run = Run(move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
        let later = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| trap.spring());
        assert!(ctx.tell_self(later).is_ok());
    });
    rig.arm();
    actor.tell(run).expect("room");
    rig.sprung();
    ends_by_panic(rig, &actor);
    Outcome::Done
}

fn batch(rig: &Rig) -> Outcome {
    let actor = rig.handle().spawn(Subject::new(rig, At::Batch));
    rig.stops(&actor);
    rig.arm();
    let asks: Vec<_> = (0..4).filter_map(|_| actor.ask(Item).ok()).collect();
    for answer in asks.into_iter().map(|mut ask| ask.wait()) {
        assert!(
            answer.is_ok() || rig.act().panics() || !rig.alive() || rig.act() == Act::Stop,
            "{answer:?}"
        );
    }
    rig.sprung();
    ends_by_panic(rig, &actor);
    Outcome::Done
}

fn stopped(rig: &Rig) -> Outcome {
    let actor = rig.handle().spawn(Subject::new(rig, At::Stopped));
    rig.arm();
    actor.stop();
    rig.sprung();
    ends_stopped(rig, &actor);
    Outcome::Done
}

fn stopped_unreferenced(rig: &Rig) -> Outcome {
    let actor = rig.handle().spawn(Subject::new(rig, At::Stopped));
    rig.arm();
    drop(actor);
    rig.sprung();
    counts_a_panic(rig);
    Outcome::Done
}

fn shut_down(rig: &Rig) -> Option<Executor> {
    rig.world.closing.store(true, std::sync::atomic::Ordering::Release);
    rig.world.executor.lock().take()
}

fn stopped_shutdown(rig: &Rig) -> Outcome {
    if !rig.alive() {
        return Outcome::Skip("the executor is being shut down");
    }
    rig.handle().spawn(Subject::new(rig, At::Stopped)).detach();
    rig.handle().wait_idle().expect("from outside");
    let executor = shut_down(rig).expect("one");
    rig.arm();
    let report = executor.shutdown(Duration::from_secs(15)).expect("from outside");
    assert!(report.complete, "{report:?}");
    Outcome::Done
}

fn state_drop(rig: &Rig) -> Outcome {
    let actor = rig.handle().spawn(Subject::new(rig, At::Drop));
    rig.arm();
    actor.stop();
    rig.sprung();
    ends_stopped(rig, &actor);
    Outcome::Done
}

fn state_drop_killed(rig: &Rig) -> Outcome {
    let actor = rig.handle().spawn(Subject::new(rig, At::Drop));
    let asks: Vec<_> = (0..3).filter_map(|_| actor.ask(Ping).ok()).collect();
    rig.arm();
    actor.stop_now();
    drop(actor);
    rig.sprung();
    counts_a_panic(rig);
    asks.into_iter().for_each(|mut ask| drop(ask.wait()));
    Outcome::Done
}

struct OnDrop(Trap);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.spring();
    }
}

fn local_drop_unwinding(rig: &Rig) -> Outcome {
    if rig.act().panics() {
        return Outcome::Skip("a second panic while unwinding ends the process, by Rust's rule");
    }
    let (actor, trap) = (rig.puppet(), rig.trap());
    rig.stops(&actor);
    rig.arm();
    let run = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        let _local = OnDrop(trap);
        panic!("planned");
    });
    let mut ask = actor.ask(run).expect("room");
    rig.sprung();
    assert!(matches!(ask.wait(), Err(AskError::Panicked(_))));
    Outcome::Done
}

fn payload_drop(rig: &Rig) -> Outcome {
    let (actor, trap) = (rig.puppet(), rig.trap());
    rig.stops(&actor);
    rig.arm();
    let run = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        let payload = OnDrop(trap);
        std::panic::set_hook(Box::new(|_| ()));
        panic_any(payload);
    });
    let mut ask = actor.ask(run).expect("room");
    rig.sprung();
    assert!(matches!(ask.wait(), Err(AskError::Panicked(_))));
    Outcome::Done
}

fn callback_of(rig: &Rig, asked: &ActorRef<Puppet>) -> ActorRef<Puppet> {
    let (actor, trap, asked) = (rig.puppet(), rig.trap(), asked.clone());
    rig.stops(&actor);
    let told = Latch::default();
    let asking = told.clone();
    let run = Run(move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
        let sent = ctx.ask_then(&asked, Ping, move |_, _, _| trap.spring());
        assert!(sent.is_ok());
        asking.open();
    });
    actor.tell(run).expect("room");
    told.wait();
    actor
}

fn callback(rig: &Rig) -> Outcome {
    let other = rig.puppet();
    rig.arm();
    let actor = callback_of(rig, &other);
    rig.sprung();
    ends_by_panic(rig, &actor);
    Outcome::Done
}

fn callback_no_answer(rig: &Rig) -> Outcome {
    let other = rig.puppet();
    let held = rig.hold(&other);
    rig.arm();
    let actor = callback_of(rig, &other);
    other.stop_now();
    held.open();
    rig.sprung();
    ends_by_panic(rig, &actor);
    Outcome::Done
}

fn when_room(rig: &Rig) -> Outcome {
    let target = rig.handle().build(Puppet::default()).capacity(1).spawn();
    let held = rig.hold(&target);
    rig.fill(&target);
    let (actor, trap, told) = (rig.puppet(), rig.trap(), Latch::default());
    let (to, asked) = (target.clone(), told.clone());
    rig.stops(&actor);
    let run = Run(move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
        let notice = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| trap.spring());
        assert!(ctx.when_room(&to, notice).is_ok());
        asked.open();
    });
    actor.tell(run).expect("room");
    told.wait();
    rig.arm();
    held.open();
    rig.sprung();
    ends_by_panic(rig, &actor);
    Outcome::Done
}

struct Keep;

/// Keeps a reply, so that the drop of its state answers the ask.
struct Keeper(Option<Reply<()>>);

impl Actor for Keeper {}

impl Receive<Keep> for Keeper {
    type Reply = ();
    fn receive(&mut self, _: Keep, reply: Reply<()>, _: &mut Context<Self>) {
        self.0 = Some(reply);
    }
}

/// The state of a dying actor drops the reply, which runs the asker's callback.
fn reply_dropped(rig: &Rig) -> Outcome {
    let keeper = rig.handle().spawn(Keeper(None));
    let (actor, trap, to) = (rig.puppet(), rig.trap(), keeper.clone());
    let told = Latch::default();
    let asking = told.clone();
    let run = Run(move |_: &mut Puppet, ctx: &mut Context<Puppet>| {
        let sent = ctx.ask_then(&to, Keep, move |_, answer, _| {
            assert!(matches!(answer, Err(AskError::NoReply | AskError::Stopped)));
            trap.spring();
        });
        assert!(sent.is_ok());
        asking.open();
    });
    actor.tell(run).expect("room");
    told.wait();
    rig.handle().wait_idle().expect("from outside");
    rig.arm();
    keeper.stop();
    rig.sprung();
    ends_by_panic(rig, &actor);
    Outcome::Done
}

fn tell_many_iterator(rig: &Rig) -> Outcome {
    let (actor, trap) = (rig.puppet(), rig.trap());
    rig.stops(&actor);
    rig.arm();
    let sent = (0..8).map(|n| {
        if n == 4 {
            trap.spring();
        }
        Ping
    });
    let _ = rig.caught(|| actor.tell_many(sent).map_err(drop));
    Outcome::Done
}

fn dedicated_factory(rig: &Rig) -> Outcome {
    let trap = rig.trap();
    rig.arm();
    let factory = move || {
        trap.spring();
        Puppet::default()
    };
    let actor = rig.handle().spawn_dedicated(factory).expect("a thread");
    let ask = actor.ask(Ping);
    rig.sprung();
    let _ = ask.map(|mut ask| ask.wait());
    if rig.act().panics() {
        assert!(matches!(actor.wait_stopped(), Ok(StopReason::Panicked(_))));
    }
    Outcome::Done
}

fn dedicated_handler(rig: &Rig) -> Outcome {
    let trap = rig.trap();
    let actor = rig.handle().spawn_dedicated(Puppet::default).expect("a thread");
    rig.stops(&actor);
    rig.arm();
    actor.tell(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| trap.spring())).expect("room");
    rig.sprung();
    ends_by_panic(rig, &actor);
    Outcome::Done
}

fn dedicated_state_drop(rig: &Rig) -> Outcome {
    let state = Subject::new(rig, At::Drop);
    let actor = rig.handle().spawn_dedicated(move || state).expect("a thread");
    actor.ask(Ping).expect("room").wait().expect("an answer");
    rig.arm();
    actor.stop();
    rig.sprung();
    ends_stopped(rig, &actor);
    Outcome::Done
}

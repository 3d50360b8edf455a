//! Runs the steps of a program, inside a turn with a context or from any other user code that heist
//! calls.

use crate::fail;
use crate::program::{Form, Letter, Op, Route, Script, Way};
use crate::world::{Msg, Node, Several, Small, Token, World, explode};
use heist::strategy;
use heist::timer::IntervalMode;
use heist::{ActorRef, AskError, Context, Directory, SendError, Timer};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(2);

pub fn run(world: &Arc<World>, script: &Script, mut ctx: Option<&mut Context<Node>>) {
    for op in script {
        if !world.may_step() {
            return;
        }
        step(world, op, ctx.as_deref_mut());
    }
}

/// Marks the message of a failed send as given back.
fn back<T>(result: Result<T, SendError<Msg>>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            error.into_message().token.refused();
            None
        }
    }
}

fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Option<F::Output> {
    match std::pin::Pin::new(future).poll(&mut std::task::Context::from_waker(waker)) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

/// Runs the script's first step on each wake and the other steps on drop.
struct Bell {
    world: Arc<World>,
    script: Script,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        run(&self.world, &self.script, None);
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        let script = std::mem::take(&mut self.script);
        run(&self.world, &script[script.len().min(1)..].to_vec(), None);
    }
}

fn bell(world: &Arc<World>, script: &Script) -> Waker {
    Waker::from(Arc::new(Bell { world: Arc::clone(world), script: script.clone() }))
}

fn way(route: Route, world: &World) -> strategy::Route {
    match route {
        Route::RoundRobin => strategy::Route::RoundRobin,
        Route::Queue => strategy::Route::SharedQueue,
        Route::Key => strategy::Route::Key(world.seed),
        Route::Loaded => strategy::Route::LeastLoaded,
        Route::Index => strategy::Route::Index(1),
        Route::Own => strategy::Route::TwoChoices,
    }
}

fn step(world: &Arc<World>, op: &Op, ctx: Option<&mut Context<Node>>) {
    match op {
        Op::Spawn { slot, way, capacity, life } => {
            let node = world.node(life);
            let build = world.handle.build(node).capacity(*capacity as usize);
            let spawned = match way {
                Way::Plain => build.try_spawn().ok(),
                Way::OnWorker => {
                    build.on_worker(*capacity as usize % world.handle.workers()).try_spawn().ok()
                }
                Way::Timed => build.timing(true).try_spawn().ok(),
                Way::Dedicated => {
                    let _other = build.try_spawn().ok(); // dropped at once, without a reference kept
                    let (theirs, life) = (Arc::clone(world), life.clone());
                    let factory = move || theirs.node(&life);
                    world
                        .handle
                        .build_dedicated(factory)
                        .capacity(*capacity as usize)
                        .try_spawn()
                        .ok()
                }
            };
            if let Some(actor) = spawned {
                let old = world.slots[*slot as usize].lock().replace(actor);
                drop(old);
            }
        }
        Op::Detach(slot) => drop(world.slots[*slot as usize].lock().take().map(ActorRef::detach)),
        Op::Clear(slot) => {
            let old = world.slots[*slot as usize].lock().take();
            drop(old);
        }
        Op::Weaken(slot) => {
            if let Some(actor) = world.at(*slot) {
                world.weak.put(actor.downgrade());
            }
        }
        Op::Upgrade(slot) => {
            let upgraded = world.weak.take().and_then(|weak| weak.upgrade());
            if upgraded.is_some() {
                let old = std::mem::replace(&mut *world.slots[*slot as usize].lock(), upgraded);
                drop(old);
            }
        }
        Op::Look => {
            let _ = (world.handle.stats(), world.handle.top(3));
            let actors: Vec<_> =
                (0..crate::program::SLOTS as u8).filter_map(|slot| world.at(slot)).collect();
            for actor in &actors {
                let _ = (
                    actor.stats(),
                    actor.len(),
                    actor.is_running(),
                    actor.timing(),
                    format!("{actor:?}"),
                );
            }
        }
        Op::Panic(kind) => explode(*kind),
        Op::Spin(times) => (0..*times).for_each(|_| std::thread::yield_now()),
        Op::Blocking(script) => heist::blocking(|| run(world, script, ctx)),
        Op::Poll(script) => poll_all(world, script),
        Op::Forget(which) => match which {
            0 => drop(world.asks.take()),
            1 => drop((world.sendings.take(), world.pool_sendings.take())),
            2 => drop((world.stopped.take(), world.broadcasts.take())),
            _ => drop((world.idle.take(), world.timers.take())),
        },
        Op::Reply(answer) => {
            if let Some(reply) = world.replies.take() {
                let _ = reply.is_wanted();
                if *answer { reply.send(world.token(Vec::new())) } else { drop(reply) }
            }
        }
        Op::AwaitIdle => world.idle.put(world.handle.wait_idle_async()),
        Op::WaitIdle => drop(world.handle.wait_idle_timeout(SHORT)),
        Op::StopSelf => {
            if let Some(ctx) = ctx {
                ctx.stop();
            }
        }
        Op::Again(letter) => {
            if let Some(ctx) = ctx {
                back(ctx.tell_self(world.msg(letter)));
            }
        }
        Op::OwnAfter { micros, letter } => {
            if let Some(ctx) = ctx {
                let armed =
                    ctx.tell_after(Duration::from_micros(u64::from(*micros)), world.msg(letter));
                back(armed).into_iter().for_each(|timer| world.timers.put(timer));
            }
        }
        Op::Cancel => drop(world.timers.take().map(Timer::cancel)),
        Op::DetachTimer => drop(world.timers.take().map(Timer::detach)),
        Op::Pool { .. }
        | Op::PoolTell(..)
        | Op::PoolAsk(..)
        | Op::PoolSend(..)
        | Op::PoolSendAsync(..)
        | Op::Broadcast(..)
        | Op::Resize(..)
        | Op::PoolStop(..)
        | Op::PoolDrop => pool(world, op),
        Op::Directory { .. }
        | Op::KeyTell(..)
        | Op::KeyAsk(..)
        | Op::KeySpawn(..)
        | Op::Passivate(..)
        | Op::DirectoryDrop => directory(world, op),
        _ => to_actor(world, op, ctx),
    }
}

/// Runs the steps that act on the actor of a slot.
fn to_actor(world: &Arc<World>, op: &Op, ctx: Option<&mut Context<Node>>) {
    let (Op::Tell(slot, ..)
    | Op::TellMany(slot, ..)
    | Op::Ask(slot, ..)
    | Op::AskBy(slot, ..)
    | Op::AskWait(slot, ..)
    | Op::AskThen(slot, ..)
    | Op::WhenRoom(slot, ..)
    | Op::Send(slot, ..)
    | Op::SendTimeout(slot, ..)
    | Op::SendAsync(slot, ..)
    | Op::Stop(slot)
    | Op::StopNow(slot)
    | Op::StopAndWait(slot)
    | Op::AwaitStopped(slot)
    | Op::After { slot, .. }
    | Op::Every { slot, .. }) = op
    else {
        return;
    };
    let Some(actor) = world.at(*slot) else { return };
    match op {
        Op::Tell(_, Form::Plain, letter) => drop(back(actor.tell(world.msg(letter)))),
        Op::Tell(_, Form::Boxed, letter) => {
            if let Err(error) = actor.tell(Small(Box::new(world.msg(letter)))) {
                error.into_message().0.token.refused();
            }
        }
        Op::Tell(_, Form::Batched, letter) => {
            if let Err(error) = actor.tell(Several(world.msg(letter))) {
                error.into_message().0.token.refused();
            }
        }
        Op::TellMany(_, many, letter) => {
            let letters = (0..*many).map(|_| Small(Box::new(world.msg(letter))));
            if let Err(error) = actor.tell_many(letters) {
                error.into_parts().0.0.token.refused();
            }
        }
        Op::Ask(_, letter) => {
            back(actor.ask(world.msg(letter))).into_iter().for_each(|ask| world.asks.put(ask))
        }
        Op::AskBy(_, letter) => {
            let asked =
                actor.ask_deadline(world.msg(letter), Instant::now() + Duration::from_micros(200));
            back(asked).into_iter().for_each(|ask| world.asks.put(ask));
        }
        Op::AskWait(_, letter) => {
            let prompt = Letter { keep: false, ..letter.clone() };
            let Some(mut ask) = back(actor.ask(world.msg(&prompt))) else { return };
            if ask.wait().is_err_and(|error| error == AskError::TimedOut) {
                fail(world.seed, "a wait without a timeout timed out");
            }
        }
        Op::AskThen(_, letter, script) => {
            let Some(ctx) = ctx else { return };
            let (token, script) = (world.token(Vec::new()), script.clone());
            let then =
                move |node: &mut Node, answer: Result<Token, AskError>, ctx: &mut Context<Node>| {
                    drop(answer);
                    node.called_back(&token, &script, ctx);
                };
            back(ctx.ask_then(&actor, world.msg(letter), then));
        }
        Op::WhenRoom(_, letter) => {
            if let Some(ctx) = ctx {
                back(ctx.when_room(&actor, world.msg(letter)));
            }
        }
        Op::Send(_, letter) => drop(back(actor.send(world.msg(letter)))),
        Op::SendTimeout(_, letter) => drop(back(actor.send_timeout(world.msg(letter), SHORT))),
        Op::SendAsync(_, letter, script) => {
            let mut sending = actor.send_async(world.msg(letter));
            match poll(&mut sending, &bell(world, script)) {
                Some(result) => drop(back(result)),
                None if world.seed.is_multiple_of(3) => {
                    // The send is given up at once, by `cancel` or by dropping the future.
                    if let Some(msg) = sending.cancel() {
                        msg.token.refused();
                    }
                }
                None => world.sendings.put(sending),
            }
        }
        Op::Stop(_) => actor.stop(),
        Op::StopNow(_) => actor.stop_now(),
        Op::StopAndWait(_) => {
            actor.stop();
            let _ = actor.wait_stopped();
        }
        Op::AwaitStopped(_) => world.stopped.put(actor.wait_stopped_async()),
        Op::After { micros, letter, .. } => {
            let armed =
                actor.tell_after(Duration::from_micros(u64::from(*micros)), world.msg(letter));
            back(armed).into_iter().for_each(|timer| world.timers.put(timer));
        }
        Op::Every { micros, rate, letter, .. } => {
            let (period, fixed) = (
                Duration::from_micros(u64::from(*micros)),
                [IntervalMode::FixedDelay, IntervalMode::FixedRate],
            );
            let (weak, letter) = (Arc::downgrade(world), letter.clone());
            let made = actor.tell_every(period, fixed[usize::from(*rate)], move |_| {
                let world = weak.upgrade().expect("a program outlives its timers");
                // An interval ticks until the program ends. Only the first ticks are in the books.
                Tick(world.may_step().then(|| Box::new(world.msg(&letter))))
            });
            made.into_iter().for_each(|timer| world.timers.put(timer));
        }
        _ => {}
    }
}

/// The message of an interval.
pub struct Tick(Option<Box<Msg>>);

impl heist::Handler<Tick> for Node {
    type Reply = ();
    fn handle(&mut self, Tick(msg): Tick, ctx: &mut Context<Self>) {
        match msg {
            Some(mut msg) => self.tick(&mut msg, ctx),
            None => self.empty_tick(),
        }
    }
}

/// Polls each kept future once and drops the ready futures.
fn poll_all(world: &Arc<World>, script: &Script) {
    let waker = bell(world, script);
    for mut ask in world.asks.all() {
        if poll(&mut ask, &waker).is_none() {
            world.asks.put(ask);
        }
    }
    for mut sending in world.sendings.all() {
        match poll(&mut sending, &waker) {
            Some(result) => drop(back(result)),
            None => world.sendings.put(sending),
        }
    }
    for mut sending in world.pool_sendings.all() {
        match poll(&mut sending, &waker) {
            Some(result) => drop(back(result)),
            None => world.pool_sendings.put(sending),
        }
    }
    for mut stopped in world.stopped.all() {
        if poll(&mut stopped, &waker).is_none() {
            world.stopped.put(stopped);
        }
    }
    for mut idle in world.idle.all() {
        if poll(&mut idle, &waker).is_none() {
            world.idle.put(idle);
        }
    }
    for mut broadcast in world.broadcasts.all() {
        if poll(&mut broadcast, &waker).is_none() {
            world.broadcasts.put(broadcast);
        }
    }
}

fn pool(world: &Arc<World>, op: &Op) {
    if let Op::Pool { replicas, capacity, life } = op {
        let (weak, life) = (Arc::downgrade(world), life.clone());
        let factory = move |_| weak.upgrade().expect("a program outlives its pools").node(&life);
        let builder = world.handle.pool(*replicas as usize, factory).capacity(*capacity as usize);
        let builder =
            builder.queue_capacity(*capacity as usize).backoff(Duration::from_micros(50), SHORT);
        if let Ok(pool) = builder.failure_limit(3, Duration::from_secs(1)).build() {
            let old = world.pool.lock().replace(pool);
            drop(old);
        }
        return;
    }
    if matches!(op, Op::PoolDrop) {
        let old = world.pool.lock().take();
        return drop(old);
    }
    let Some(pool) = world.pool.lock().clone() else { return };
    match op {
        Op::PoolTell(route, letter) => drop(back(pool.tell(way(*route, world), world.msg(letter)))),
        Op::PoolAsk(route, letter) => {
            let asked = back(pool.ask(way(*route, world), world.msg(letter)));
            asked.into_iter().for_each(|ask| world.asks.put(ask));
        }
        Op::PoolSend(route, letter) => {
            let _ = back(pool.send_timeout(way(*route, world), world.msg(letter), SHORT));
        }
        Op::PoolSendAsync(route, letter) => {
            let mut sending = pool.send_async(way(*route, world), world.msg(letter));
            match poll(&mut sending, Waker::noop()) {
                Some(result) => drop(back(result)),
                None => world.pool_sendings.put(sending),
            }
        }
        Op::Broadcast(letter) => world.broadcasts.put(pool.broadcast_with(|_| world.msg(letter))),
        Op::Resize(replicas) => {
            world.marks.store(true, Relaxed);
            drop(pool.resize(*replicas as usize));
        }
        Op::PoolStop(true) => pool.stop_now(),
        Op::PoolStop(false) => pool.stop(),
        _ => {}
    }
}

fn directory(world: &Arc<World>, op: &Op) {
    if let Op::Directory { idle, limit, life } = op {
        let (weak, life) = (Arc::downgrade(world), life.clone());
        let mut builder = Directory::builder(&world.handle).capacity(2);
        if *idle {
            world.marks.store(true, Relaxed);
            builder = builder.idle_timeout(Duration::from_micros(300));
        }
        if *limit > 0 {
            builder = builder.max_actors(*limit as usize);
        }
        let made =
            builder.build(move |_: &u8| weak.upgrade().expect("a program outlives it").node(&life));
        let old = world.directory.lock().replace(made.expect("a valid directory"));
        return drop(old);
    }
    if matches!(op, Op::DirectoryDrop) {
        let old = world.directory.lock().take();
        return drop(old);
    }
    let Some(directory) = world.directory.lock().clone() else { return };
    match op {
        Op::KeyTell(key, letter) => drop(back(directory.tell(key, world.msg(letter)))),
        Op::KeyAsk(key, letter) => {
            back(directory.ask(key, world.msg(letter)))
                .into_iter()
                .for_each(|ask| world.asks.put(ask));
        }
        Op::KeySpawn(key, life) => {
            let (theirs, life) = (Arc::clone(world), life.clone());
            drop(directory.get_or_spawn(key, move || theirs.node(&life)));
        }
        Op::Passivate(key) => {
            drop((directory.passivate(key), directory.find(key), directory.stats()))
        }
        _ => {}
    }
}

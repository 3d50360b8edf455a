//! Provides the equipment of each case: an executor with helper actors, a trap, a prober, and the
//! final checks.

use crate::acts::{Act, Balance, Token};
use heist::{
    Actor, ActorRef, AskError, Context, Directory, Executor, Handle, Handler, Pool, strategy,
};
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Prefix of the thread names of the case's executors.
const THREADS: &str = "mx";
const KEYS: u32 = 16;

pub enum Outcome {
    Done,
    /// The act does not exist at this place. Holds the reason.
    Skip(&'static str),
}

/// A gate that is opened once. Waits without a timeout, because a watchdog observes the whole case.
#[derive(Clone, Default)]
pub struct Latch(Arc<(Mutex<bool>, Condvar)>);

impl Latch {
    pub fn open(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }
    pub fn wait(&self) {
        let mut open = self.0.0.lock();
        while !*open {
            self.0.1.wait(&mut open);
        }
    }
}

/// Polls until `condition` holds. Panics with `what` after 15 seconds.
pub fn within(what: &str, condition: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(15);
    while !condition() {
        assert!(Instant::now() < limit, "in vain: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A scriptable actor.
#[derive(Default)]
pub struct Puppet {
    pub kept: Vec<Box<dyn Any + Send>>,
}

impl Actor for Puppet {}

pub struct Ping;

impl Handler<Ping> for Puppet {
    type Reply = ();
    fn handle(&mut self, _: Ping, _: &mut Context<Self>) {}
}

pub struct Run<F>(pub F);

impl<F: FnOnce(&mut Puppet, &mut Context<Puppet>) + Send + 'static> Handler<Run<F>> for Puppet {
    type Reply = ();
    fn handle(&mut self, Run(f): Run<F>, ctx: &mut Context<Self>) {
        f(self, ctx);
    }
}

pub fn crew(workers: usize) -> Executor {
    let builder = Executor::builder().workers(workers).thread_name(THREADS);
    builder.drop_deadline(Duration::from_secs(2)).build().expect("an executor")
}

pub fn poll_once<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut std::task::Context::from_waker(waker))
}

/// State shared by the act, the place and the prober.
pub struct World {
    pub act: Act,
    pub armed: AtomicBool,
    pub entered: Latch,
    pub release: Latch,
    pub left: Latch,
    pub executor: Mutex<Option<Executor>>,
    pub far_executor: Mutex<Option<Executor>>,
    pub handle: Handle,
    pub friend: ActorRef<Puppet>,
    pub far: ActorRef<Puppet>,
    pub last: Mutex<Option<ActorRef<Puppet>>>,
    pub pool: Mutex<Option<Pool<Puppet>>>,
    pub directory: Mutex<Option<Directory<u32, Puppet>>>,
    /// Stops the actor that the place belongs to.
    pub stop: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Polls the future that the place belongs to.
    pub inline: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Further work of the prober.
    pub also: Mutex<Option<Box<dyn Fn() + Send>>>,
    pub balance: Arc<Balance>,
    over: AtomicBool,
    /// Set where the place belongs to a shutdown, so that sends from outside may be refused.
    pub closing: AtomicBool,
}

/// The trap at a place: performs the act once, after being armed.
#[derive(Clone)]
pub struct Trap(pub Arc<World>);

impl Trap {
    pub fn spring(&self) {
        if !self.0.armed.swap(false, AcqRel) {
            return;
        }
        let _left = Left(self.0.left.clone());
        self.0.entered.open();
        self.0.act.perform(&self.0);
    }
}

struct Left(Latch);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Springs its trap when dropped. As a message, takes `N` bytes and more.
pub struct Springs<const N: usize> {
    trap: Trap,
    _token: Token,
    _bytes: [u8; N],
}

impl<const N: usize> Springs<N> {
    pub fn new(trap: &Trap) -> Self {
        Springs { trap: trap.clone(), _token: Token::new(&trap.0.balance), _bytes: [0; N] }
    }
}

impl<const N: usize> Drop for Springs<N> {
    fn drop(&mut self) {
        self.trap.spring();
    }
}

impl<const N: usize> Handler<Springs<N>> for Puppet {
    type Reply = ();
    fn handle(&mut self, message: Springs<N>, _: &mut Context<Self>) {
        drop(message);
    }
}

pub struct Rig {
    pub world: Arc<World>,
    prober: Mutex<Option<std::thread::JoinHandle<()>>>,
    threads: usize,
}

impl Rig {
    pub fn new(act: Act) -> Self {
        let threads = threads();
        let (executor, far_executor) = (crew(2), crew(1));
        let handle = executor.handle();
        let pool = executor.pool(2, |_| Puppet::default()).build().expect("a pool");
        let directory = Directory::new(&executor, |_: &u32| Puppet::default());
        (0..KEYS).for_each(|key| directory.tell(&key, Ping).expect("room"));
        let world = Arc::new(World {
            act,
            armed: AtomicBool::new(false),
            entered: Latch::default(),
            release: Latch::default(),
            left: Latch::default(),
            friend: executor.spawn(Puppet::default()),
            far: far_executor.spawn(Puppet::default()),
            last: Mutex::new(None),
            pool: Mutex::new(Some(pool)),
            directory: Mutex::new(Some(directory)),
            stop: Mutex::new(None),
            inline: Mutex::new(None),
            also: Mutex::new(None),
            balance: Arc::default(),
            over: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            handle,
            executor: Mutex::new(Some(executor)),
            far_executor: Mutex::new(Some(far_executor)),
        });
        let token = Token::new(&world.balance);
        *world.last.lock() = Some(world.handle.spawn(Puppet { kept: vec![Box::new(token)] }));
        let theirs = Arc::clone(&world);
        let prober = std::thread::spawn(move || {
            theirs.entered.wait();
            if theirs.act.blocks() && !theirs.over.load(Acquire) {
                probe(&theirs);
            }
            theirs.release.open();
        });
        Rig { world, prober: Mutex::new(Some(prober)), threads }
    }

    pub fn act(&self) -> Act {
        self.world.act
    }

    pub fn handle(&self) -> &Handle {
        &self.world.handle
    }

    pub fn trap(&self) -> Trap {
        Trap(Arc::clone(&self.world))
    }

    /// Arms the trap.
    pub fn arm(&self) {
        self.world.armed.store(true, Release);
    }

    /// Waits until the act is over.
    pub fn sprung(&self) {
        self.world.left.wait();
    }

    /// Returns `true` if the executor still runs after the act.
    pub fn alive(&self) -> bool {
        self.act() != Act::DropExecutor
    }

    /// Sets how [`Act::Stop`] stops the actor of the place.
    pub fn stops<A: 'static>(&self, actor: &ActorRef<A>) {
        let weak = actor.downgrade();
        *self.world.stop.lock() = Some(Box::new(move || {
            if let Some(actor) = weak.upgrade() {
                actor.stop();
            }
        }));
    }

    /// Calls a function that runs user code on the calling thread, and contains the planned panic.
    pub fn caught<R>(&self, f: impl FnOnce() -> R) -> Option<R> {
        match catch_unwind(AssertUnwindSafe(f)) {
            Ok(value) => Some(value),
            Err(payload) => {
                assert!(self.act().panics(), "a panic that nobody planned");
                if !payload.is::<&str>() {
                    std::mem::forget(payload); // a bomb, which is zero-sized
                }
                None
            }
        }
    }

    /// Holds the actor in a turn until the returned latch is opened. Returns once the turn has
    /// begun.
    pub fn hold(&self, actor: &ActorRef<Puppet>) -> Latch {
        let (inside, until) = (Latch::default(), Latch::default());
        let (entered, release) = (inside.clone(), until.clone());
        let hold = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            entered.open();
            release.wait();
        });
        actor.tell(hold).expect("room");
        inside.wait();
        until
    }

    /// Sends until the mailbox is full.
    pub fn fill(&self, actor: &ActorRef<Puppet>) {
        while actor.tell(Ping).is_ok() {}
    }

    pub fn puppet(&self) -> ActorRef<Puppet> {
        self.handle().spawn(Puppet::default())
    }

    /// Checks everything that must hold after a case.
    pub fn finish(self, outcome: &Outcome) {
        let world = self.world;
        if matches!(outcome, Outcome::Done) {
            assert!(!world.armed.load(Acquire), "nothing sprang the trap");
            world.left.wait();
        }
        world.over.store(true, Release);
        world.entered.open();
        let prober = self.prober.lock().take();
        prober.expect("one").join().expect("the prober does not panic");
        let closing = world.closing.load(Acquire);
        let executor = world.executor.lock().take();
        if let Some(executor) = executor {
            if !closing {
                let actor = executor.spawn(Puppet::default());
                actor.ask(Ping).expect("a living crew").wait().expect("an answer");
            }
            let report = executor.shutdown(Duration::from_secs(15)).expect("from outside");
            assert!(report.complete, "something is left: {report:?}");
        }
        let far = world.far_executor.lock().take();
        drop(far);
        within("all actors end", || world.handle.stats().live_actors == 0);
        let stats = world.handle.stats();
        assert_eq!(
            stats.accepted,
            stats.handled + stats.dead_letters.total(),
            "accounts differ: {stats:?}"
        );
        assert_eq!(stats.armed_timers, 0, "timers are left");
        drop((world.pool.lock().take(), world.directory.lock().take(), world.last.lock().take()));
        drop((world.stop.lock().take(), world.inline.lock().take(), world.also.lock().take()));
        within("every payload is dropped once", || world.balance.0.load(Relaxed) == 0);
        within("no thread is left", || threads() <= self.threads);
    }
}

/// Counts the threads of all executors in this process.
fn threads() -> usize {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return 0 };
    let name = |task: std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).unwrap_or_default()
    };
    tasks
        .flatten()
        .map(name)
        .filter(|name| name.starts_with(THREADS) || name.starts_with("heist"))
        .count()
}

/// Does what an outside thread may do while user code blocks somewhere. All of it must succeed.
fn probe(world: &World) {
    let handle = &world.handle;
    let closing = world.closing.load(Acquire);
    for _ in 0..3 {
        // Spawns an actor, asks it, and ends it.
        let actor = handle.spawn(Puppet::default());
        match actor.ask(Ping) {
            Ok(mut ask) => match ask.wait() {
                // A shutdown at once ends actors that have accepted messages.
                Err(AskError::Stopped) if closing => {}
                answer => answer.expect("an answer"),
            },
            Err(error) => assert!(closing, "{error}"),
        }
        if let Ok(mut ask) = world.friend.ask(Ping) {
            drop(ask.wait());
        }
        actor.stop();
        if !closing {
            actor.wait_stopped().expect("its end");
        }
        // Lets the crew park, then wakes it by a timer.
        let rung = Latch::default();
        let bell = rung.clone();
        let timed = handle.spawn(Puppet::default());
        let ring = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| bell.open());
        match timed.tell_after(Duration::from_millis(2), ring) {
            Ok(_) if closing => {} // the shutdown cancels the timer
            Ok(_timer) => rung.wait(),
            Err(error) => assert!(closing, "{error}"),
        }
        let _ = (handle.stats(), handle.top(4));
        let pool = world.pool.lock().clone();
        if let Some(pool) = pool {
            for _ in 0..4 {
                let _ = pool.tell(strategy::RoundRobin, Ping);
                let _ = pool.ask(strategy::SharedQueue, Ping).map(|mut ask| ask.wait());
            }
            let _ = pool.stats();
        }
        let directory = world.directory.lock().clone();
        if let Some(directory) = directory {
            for key in 0..2 * KEYS {
                let _ = directory.find(&key);
                let _ = directory.ask(&key, Ping).map(|mut ask| ask.wait());
            }
            let _ = (directory.stats(), directory.passivate(&1));
        }
        let also = world.also.lock().take();
        if let Some(also) = also {
            also();
            *world.also.lock() = Some(also);
        }
    }
}

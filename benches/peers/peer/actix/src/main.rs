//! Runs the workloads on actix: an arbiter for each worker, and actors distributed over the
//! arbiters in turn.

use std::{
    process::ExitCode,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix::prelude::*;
use workloads::{Next, Peer, Role};

static ARBITERS: OnceLock<Vec<ArbiterHandle>> = OnceLock::new();
static TURN: AtomicUsize = AtomicUsize::new(0);

struct Actix;

#[derive(Message)]
#[rtype(result = "()")]
struct Told<M: Send + 'static>(M);

/// Keeps its own address until it stops. Otherwise actix can lose a message: the sender may drop
/// the last address right after its send, and the receiver finds no address left as the message
/// arrives.
struct Shell<R: Role<Actix>> {
    role: R,
    me: Option<Addr<Self>>,
}

/// Roles are never pinned, and actix needs its actors to be `Unpin`.
impl<R: Role<Actix>> Unpin for Shell<R> {}

impl<R: Role<Actix>> Actor for Shell<R> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.me = Some(ctx.address());
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.me = None;
    }
}

impl<R: Role<Actix>> Handler<Told<R::Message>> for Shell<R> {
    type Result = ();

    fn handle(&mut self, message: Told<R::Message>, ctx: &mut Context<Self>) {
        if self.role.handle(message.0, || ctx.address()) == Next::Stop {
            ctx.stop();
        }
    }
}

#[derive(Message)]
#[rtype(result = "u64")]
struct Number(u64);

struct Echo;

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Handler<Number> for Echo {
    type Result = u64;

    fn handle(&mut self, number: Number, _: &mut Context<Self>) -> u64 {
        number.0
    }
}

fn next_arbiter() -> &'static ArbiterHandle {
    let arbiters = ARBITERS.get().expect("started first");
    &arbiters[TURN.fetch_add(1, Ordering::Relaxed) % arbiters.len()]
}

impl Peer for Actix {
    type Ref<R: Role<Self>> = Addr<Shell<R>>;

    fn spawn<R: Role<Self>>(role: R) -> Self::Ref<R> {
        Shell::start_in_arbiter(next_arbiter(), |_| Shell { role, me: None })
    }

    fn tell<R: Role<Self>>(to: &Self::Ref<R>, message: R::Message) {
        to.do_send(Told(message));
    }

    fn echo() -> impl FnMut(u64) -> u64 + Send + 'static {
        let echo = Echo::start_in_arbiter(next_arbiter(), |_| Echo);
        move |n| futures::executor::block_on(echo.send(Number(n))).expect("an answer")
    }
}

fn start(workers: usize) -> Actix {
    // The arbiters have threads of their own and only need the system to exist.
    std::mem::forget(System::new());
    let arbiters = (0..workers).map(|_| {
        let arbiter = Arbiter::new();
        let handle = arbiter.handle();
        std::mem::forget(arbiter);
        handle
    });
    assert!(ARBITERS.set(arbiters.collect()).is_ok(), "started once");
    Actix
}

const LEFT_OUT: [(&str, &str); 5] = [
    ("timeslice", "an actor that always has messages keeps its arbiter: the cold one would never run"),
    ("pingpong-bounded", "do_send ignores the mailbox's capacity"),
    ("counting-bounded", "do_send ignores the mailbox's capacity"),
    ("fanin-bounded", "do_send ignores the mailbox's capacity"),
    ("fjthrput-bounded", "do_send ignores the mailbox's capacity"),
];

fn main() -> ExitCode {
    let mut table = workloads::entries::<Actix>();
    table.retain(|entry| entry.name != "timeslice");
    workloads::main("actix", start, &table, &LEFT_OUT)
}

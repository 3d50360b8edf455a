//! Runs the workloads on kameo: an actor for each role on a multi-threaded tokio runtime. Mailboxes
//! are unbounded except in the bounded workloads.

mod bounded;

use std::{convert::Infallible, process::ExitCode, sync::OnceLock};

use kameo::{mailbox::unbounded, prelude::*};
use tokio::runtime::Runtime;
use workloads::{Next, Peer, Role};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

struct Kameo;

struct Told<M>(M);

struct Shell<R>(R);

impl<R: Role<Kameo>> Actor for Shell<R> {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(role: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(role)
    }
}

impl<R: Role<Kameo>> Message<Told<R::Message>> for Shell<R> {
    type Reply = ();

    async fn handle(&mut self, message: Told<R::Message>, ctx: &mut Context<Self, ()>) {
        if self.0.handle(message.0, || ctx.actor_ref().clone()) == Next::Stop {
            ctx.stop();
        }
    }
}

struct Echo;

impl Actor for Echo {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(echo: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(echo)
    }
}

impl Message<u64> for Echo {
    type Reply = u64;

    async fn handle(&mut self, n: u64, _: &mut Context<Self, u64>) -> u64 {
        n
    }
}

fn runtime() -> &'static Runtime {
    RUNTIME.get().expect("started first")
}

impl Peer for Kameo {
    type Ref<R: Role<Self>> = ActorRef<Shell<R>>;

    fn spawn<R: Role<Self>>(role: R) -> Self::Ref<R> {
        let _inside = runtime().enter();
        Shell::spawn_with_mailbox(Shell(role), unbounded())
    }

    fn tell<R: Role<Self>>(to: &Self::Ref<R>, message: R::Message) {
        to.tell(Told(message)).try_send().ok();
    }

    fn echo() -> impl FnMut(u64) -> u64 + Send + 'static {
        let _inside = runtime().enter();
        let echo = Echo::spawn_with_mailbox(Echo, unbounded());
        move |n| echo.ask(n).blocking_send().expect("an answer")
    }
}

fn start(workers: usize) -> Kameo {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_time().build();
    RUNTIME.set(runtime.expect("a runtime")).expect("started once");
    Kameo
}

fn main() -> ExitCode {
    let mut table = workloads::entries::<Kameo>();
    table.retain(|entry| entry.name != "idle1m");
    table.extend(bounded::entries());
    workloads::main("kameo", start, &table, &[("idle1m", "takes 7 GB of memory; see idle100k")])
}

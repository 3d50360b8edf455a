//! Runs the workloads on ractor: an actor for each role on a multi-threaded tokio runtime.

use std::{marker::PhantomData, process::ExitCode, sync::OnceLock};

use ractor::{Actor, ActorProcessingErr, ActorRef, ActorRuntime, RpcReplyPort};
use tokio::runtime::Runtime;
use workloads::{Next, Peer, Role};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

struct Ractor;

struct Shell<R>(PhantomData<fn() -> R>);

impl<R: Role<Ractor>> Actor for Shell<R> {
    type Msg = R::Message;
    type State = R;
    type Arguments = R;

    async fn pre_start(&self, _: ActorRef<Self::Msg>, role: R) -> Result<R, ActorProcessingErr> {
        Ok(role)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        role: &mut R,
    ) -> Result<(), ActorProcessingErr> {
        if role.handle(message, || myself.clone()) == Next::Stop {
            myself.stop(None);
        }
        Ok(())
    }
}

struct Echo;

enum EchoMessage {
    Number(u64, RpcReplyPort<u64>),
}

impl Actor for Echo {
    type Msg = EchoMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<EchoMessage>, _: ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<EchoMessage>,
        message: EchoMessage,
        _: &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let EchoMessage::Number(n, reply) = message;
        reply.send(n)?;
        Ok(())
    }
}

fn runtime() -> &'static Runtime {
    RUNTIME.get().expect("started first")
}

impl Peer for Ractor {
    type Ref<R: Role<Self>> = ActorRef<R::Message>;

    fn spawn<R: Role<Self>>(role: R) -> Self::Ref<R> {
        let _inside = runtime().enter();
        ActorRuntime::spawn_instant(None, Shell(PhantomData), role).expect("an actor").0
    }

    fn tell<R: Role<Self>>(to: &Self::Ref<R>, message: R::Message) {
        to.send_message(message).ok();
    }

    fn echo() -> impl FnMut(u64) -> u64 + Send + 'static {
        let (echo, _) = runtime().block_on(Actor::spawn(None, Echo, ())).expect("an actor");
        move |n| {
            let answer = runtime().block_on(echo.call(|reply| EchoMessage::Number(n, reply), None));
            answer.expect("accepted").expect("an answer")
        }
    }
}

fn start(workers: usize) -> Ractor {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_time().build();
    RUNTIME.set(runtime.expect("a runtime")).expect("started once");
    Ractor
}

fn main() -> ExitCode {
    let mut table = workloads::entries::<Ractor>();
    table.retain(|entry| entry.name != "idle1m");
    let mut left_out = workloads::NO_BOUNDED.to_vec();
    left_out.push(("idle1m", "takes 8 GB of memory; see idle100k"));
    workloads::main("ractor", start, &table, &left_out)
}

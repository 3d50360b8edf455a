//! Runs the workloads on tokio: a task with an mpsc channel for each actor, the common way to write
//! actors on tokio by hand.

mod bounded;

use std::{process::ExitCode, sync::OnceLock};

use tokio::{
    runtime::Runtime,
    sync::{mpsc, oneshot},
};
use workloads::{Next, Peer, Role};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

struct Tokio;

fn runtime() -> &'static Runtime {
    RUNTIME.get().expect("started first")
}

impl Peer for Tokio {
    type Ref<R: Role<Self>> = mpsc::UnboundedSender<R::Message>;

    fn spawn<R: Role<Self>>(mut role: R) -> Self::Ref<R> {
        let (send, mut receive) = mpsc::unbounded_channel();
        let me = send.clone();
        runtime().spawn(async move {
            while let Some(message) = receive.recv().await {
                if role.handle(message, || me.clone()) == Next::Stop {
                    break;
                }
            }
        });
        send
    }

    fn tell<R: Role<Self>>(to: &Self::Ref<R>, message: R::Message) {
        to.send(message).ok();
    }

    fn echo() -> impl FnMut(u64) -> u64 + Send + 'static {
        let (send, mut receive) = mpsc::unbounded_channel::<(u64, oneshot::Sender<u64>)>();
        runtime().spawn(async move {
            while let Some((n, reply)) = receive.recv().await {
                reply.send(n).ok();
            }
        });
        move |n| {
            let (reply, answer) = oneshot::channel();
            send.send((n, reply)).ok();
            answer.blocking_recv().expect("an answer")
        }
    }
}

fn start(workers: usize) -> Tokio {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_time().build();
    RUNTIME.set(runtime.expect("a runtime")).expect("started once");
    Tokio
}

fn main() -> ExitCode {
    let mut table = workloads::entries::<Tokio>();
    table.extend(bounded::entries());
    workloads::main("tokio", start, &table, &[])
}

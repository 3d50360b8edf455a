//! Runs the workloads on threads: an operating system thread with a crossbeam channel for each
//! actor.

mod bounded;

use std::{process::ExitCode, thread};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use workloads::{Next, Peer, Role};

struct Threads;

impl Peer for Threads {
    type Ref<R: Role<Self>> = Sender<R::Message>;

    fn spawn<R: Role<Self>>(mut role: R) -> Self::Ref<R> {
        let (send, receive): (_, Receiver<R::Message>) = unbounded();
        let me = send.clone();
        actor(move || {
            for message in receive {
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
        let (send, receive): (_, Receiver<(u64, Sender<u64>)>) = unbounded();
        actor(move || {
            for (n, reply) in receive {
                reply.send(n).ok();
            }
        });
        move |n| {
            let (reply, answer) = bounded(1);
            send.send((n, reply)).ok();
            answer.recv().expect("an answer")
        }
    }
}

fn actor(body: impl FnOnce() + Send + 'static) {
    // There are as many threads as actors. The usual stacks of 2 MiB would exhaust the address
    // space first.
    thread::Builder::new().stack_size(64 * 1024).spawn(body).expect("a thread");
}

fn main() -> ExitCode {
    let mut table = workloads::entries::<Threads>();
    table.extend(bounded::entries());
    table.retain(|entry| !LEFT_OUT.iter().any(|(name, _)| *name == entry.name));
    // More threads at once than most machines allow.
    workloads::at_most(&mut table, &[("fjcreate", 200), ("fib", 200), ("idle100k", 20)]);
    workloads::main("threads", |_| Threads, &table, &LEFT_OUT)
}

const LEFT_OUT: [(&str, &str); 2] = [
    ("idle1m", "a machine does not have a million threads"),
    ("burst", "has no workers: each actor has its own thread"),
];

//! Runs the workloads on heist. Its actors are written by hand, one type for each role, as in any
//! program that uses heist.
//!
//! Mailboxes have the default capacity (1,024 messages), except where a workload floods a mailbox
//! from inside a handler. Those are unbounded, like the peers' mailboxes. `bounded.rs` runs the
//! same workloads with the default.

mod asks;
mod bounded;
mod create;
mod idle;
mod messages;
mod ring;
mod skew;

use std::process::ExitCode;

use heist::Executor;
use workloads::{Entry, WORK_205_NS};

fn start(workers: usize) -> Executor {
    Executor::builder().workers(workers).build().expect("threads can be started")
}

fn main() -> ExitCode {
    let table = [
        Entry::new("pingpong", |executor, size, run| messages::pairs(executor, 1, size.messages, run)),
        Entry::new("pairs", |executor, size, run| messages::pairs(executor, size.actors, size.messages, run)),
        Entry::new("counting", messages::produce),
        Entry::new("fanin", messages::produce),
        Entry::new("fjthrput", |executor, size, run| messages::fjthrput(executor, size, run, 0)),
        Entry::new("fjthrput-work", |executor, size, run| {
            messages::fjthrput(executor, size, run, WORK_205_NS)
        }),
        Entry::new("fjcreate", create::fjcreate),
        Entry::new("threadring", ring::threadring),
        Entry::new("big", ring::big),
        Entry::new("chameneos", ring::chameneos),
        Entry::new("ask1", asks::ask),
        Entry::new("ask8", asks::ask),
        Entry::new("skew", skew::skewed),
        Entry::new("fib", create::fib),
        Entry::new("idle100k", idle::idle),
        Entry::new("idle1m", idle::idle),
        Entry::new("timeslice", idle::timeslice),
        Entry::new("burst", idle::burst),
        Entry::new("idlecpu", idle::idlecpu),
        Entry::new("pingpong-bounded", |executor, size, run| {
            messages::pairs(executor, 1, size.messages, run)
        }),
        Entry::new("counting-bounded", bounded::produce),
        Entry::new("fanin-bounded", bounded::produce),
        Entry::new("fjthrput-bounded", bounded::fjthrput),
    ];
    workloads::main("heist", start, &table, &[])
}

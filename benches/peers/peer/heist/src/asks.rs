//! Implements the workloads that ask from outside: ask1 and ask8.

use heist::{Actor, Context, Executor, Handler};
use workloads::{Run, Size, ask_from_threads};

struct Echo;
struct Number(u64);

impl Actor for Echo {}

impl Handler<Number> for Echo {
    type Reply = u64;

    fn handle(&mut self, number: Number, _: &mut Context<Self>) -> u64 {
        number.0
    }
}

pub fn ask(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let asks: Vec<_> = (0..size.actors)
        .map(|_| {
            let echo = executor.spawn(Echo);
            move |n| echo.ask(Number(n)).expect("the actor has room").wait().expect("an answer")
        })
        .collect();
    run.start();
    let asked = ask_from_threads(asks, size.messages);
    run.stop();
    let sum = asked.iter().map(|(sum, _)| sum).sum();
    run.samples = asked.into_iter().flat_map(|(_, samples)| samples).collect();
    sum
}

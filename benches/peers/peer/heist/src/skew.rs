//! Implements the workload skew: few actors get most of the messages.

use std::sync::Arc;

use heist::{Actor, ActorRef, Context, Executor, Handler};
use workloads::{Done, Run, SKEW_STEP, Size, WORK_500_NS, answer, skew, work};

struct Producer {
    targets: Vec<u32>,
    at: usize,
    all: Arc<Vec<Option<ActorRef<Target>>>>,
}

struct More;

impl Actor for Producer {}

impl Handler<More> for Producer {
    type Reply = ();

    fn handle(&mut self, _: More, ctx: &mut Context<Self>) {
        let end = (self.at + SKEW_STEP).min(self.targets.len());
        for &target in &self.targets[self.at..end] {
            let target = self.all[target as usize].as_ref().expect("one that gets messages exists");
            target.tell(Item).expect("the target is unbounded");
        }
        self.at = end;
        if end < self.targets.len() {
            ctx.tell_self(More).expect("one at a time");
        }
    }
}

struct Target {
    id: u64,
    left: u64,
    sum: u64,
    done: Done,
}

struct Item;

impl Actor for Target {}

impl Handler<Item> for Target {
    type Reply = ();

    fn handle(&mut self, _: Item, _: &mut Context<Self>) {
        work(WORK_500_NS);
        self.sum += self.id;
        self.left -= 1;
        if self.left == 0 {
            self.done.send(self.sum);
        }
    }
}

pub fn skewed(executor: &Executor, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let drawn = skew(size);
    let all: Vec<_> = drawn
        .expect
        .iter()
        .enumerate()
        .map(|(id, &left)| {
            let target = Target { id: id as u64, left, sum: 0, done: done.clone() };
            (left > 0).then(|| executor.build(target).unbounded().spawn())
        })
        .collect();
    let all = Arc::new(all);
    let reports = all.iter().flatten().count();
    let producers: Vec<_> = drawn
        .targets
        .into_iter()
        .map(|targets| executor.spawn(Producer { targets, at: 0, all: all.clone() }))
        .collect();
    run.start();
    for producer in &producers {
        producer.tell(More).expect("the producer has room");
    }
    let sum = (0..reports).map(|_| answer.wait()).sum();
    run.stop();
    sum
}

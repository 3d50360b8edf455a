//! Runs workloads on rayon, which is a lower bound and not a peer. Its tasks have no state, no
//! order and no mailbox. For workloads that tasks alone can express, rayon shows the cost of the
//! bare work.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rayon::{ThreadPool, ThreadPoolBuilder};
use workloads::{BURST, Entry, FJCREATE_STEP, Run, Size, WORK_205_NS, WORK_500_NS, answer, skew, work};

fn fjthrput_work(pool: &ThreadPool, size: Size, run: &mut Run) -> u64 {
    let handled = AtomicU64::new(0);
    run.start();
    pool.scope(|scope| {
        for _ in 0..size.actors {
            scope.spawn(|_| {
                for _ in 0..size.messages {
                    work(WORK_205_NS);
                }
                handled.fetch_add(size.messages, Ordering::Relaxed);
            });
        }
    });
    run.stop();
    handled.into_inner()
}

fn fjcreate(pool: &ThreadPool, size: Size, run: &mut Run) -> u64 {
    let made = AtomicU64::new(0);
    run.start();
    let mut left = size.actors;
    while left > 0 {
        let now = left.min(FJCREATE_STEP);
        pool.scope(|scope| {
            for _ in 0..now {
                scope.spawn(|_| {
                    made.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        left -= now;
    }
    run.stop();
    made.into_inner()
}

fn skewed(pool: &ThreadPool, size: Size, run: &mut Run) -> u64 {
    let drawn = skew(size);
    let sum = AtomicU64::new(0);
    run.start();
    pool.scope(|scope| {
        for (id, &messages) in drawn.expect.iter().enumerate() {
            let sum = &sum;
            scope.spawn(move |_| {
                for _ in 0..messages {
                    work(WORK_500_NS);
                }
                sum.fetch_add(id as u64 * messages, Ordering::Relaxed);
            });
        }
    });
    run.stop();
    sum.into_inner()
}

fn fib(pool: &ThreadPool, size: Size, run: &mut Run) -> u64 {
    fn call(n: u64) -> u64 {
        if n < 2 {
            return n;
        }
        let (a, b) = rayon::join(|| call(n - 1), || call(n - 2));
        a + b
    }
    run.start();
    let value = pool.install(|| call(size.messages));
    run.stop();
    value
}

fn burst(pool: &ThreadPool, size: Size, run: &mut Run) -> u64 {
    BURST.drive(size, run, || {
        pool.spawn(move || {
            for _ in 0..size.actors {
                rayon::spawn(|| BURST.handle());
            }
        });
    })
}

fn idlecpu(pool: &ThreadPool, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let made = Arc::new(AtomicU64::new(0));
    for _ in 0..size.actors {
        let (made, done) = (made.clone(), done.clone());
        pool.spawn(move || {
            if made.fetch_add(1, Ordering::Relaxed) + 1 == size.actors {
                done.send(size.actors);
            }
        });
    }
    let handled = answer.wait();
    run.idle(size.messages);
    handled
}

const TABLE: [Entry<ThreadPool>; 6] = [
    Entry::new("fjthrput-work", fjthrput_work),
    Entry::new("fjcreate", fjcreate),
    Entry::new("skew", skewed),
    Entry::new("fib", fib),
    Entry::new("burst", burst),
    Entry::new("idlecpu", idlecpu),
];

fn main() -> ExitCode {
    let left_out: Vec<_> = workloads::WORKLOADS
        .iter()
        .filter(|w| !TABLE.iter().any(|entry| entry.name == w.name))
        .map(|w| (w.name, "tasks have no mailbox"))
        .collect();
    let start = |workers| ThreadPoolBuilder::new().num_threads(workers).build().expect("a pool of threads");
    workloads::main("rayon", start, &TABLE, &left_out)
}

//! Implements the bounded workloads with channels of 1,024 messages, in which a sender blocks its
//! thread until there is room.

use crossbeam_channel::bounded;
use workloads::{CAPACITY, Entry, Run, Size, answer};

use crate::{Threads, actor};

pub fn entries() -> [Entry<Threads>; 4] {
    [
        Entry::new("pingpong-bounded", pingpong),
        Entry::new("counting-bounded", produce),
        Entry::new("fanin-bounded", produce),
        Entry::new("fjthrput-bounded", fjthrput),
    ]
}

fn pingpong(_: &Threads, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let (ping, pings) = bounded::<()>(CAPACITY);
    let (pong, pongs) = bounded::<()>(CAPACITY);
    let start = ping.clone();
    actor(move || {
        for () in pongs {
            if ping.send(()).is_err() {
                break;
            }
        }
    });
    actor(move || {
        pings.recv().expect("the start");
        let mut got = 0;
        for _ in 0..size.messages {
            pong.send(()).expect("pong lives");
            pings.recv().expect("pong lives");
            got += 1;
        }
        done.send(got);
    });
    run.start();
    start.send(()).expect("ping lives");
    let got = answer.wait();
    run.stop();
    got
}

fn produce(_: &Threads, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let (counter, numbers) = bounded(CAPACITY);
    actor(move || {
        let all = size.actors * size.messages;
        done.send((0..all).map(|_| numbers.recv().expect("producers live")).sum());
    });
    let producers: Vec<_> = (0..size.actors)
        .map(|_| {
            let (start, started) = bounded::<()>(CAPACITY);
            let counter = counter.clone();
            actor(move || {
                started.recv().expect("the start");
                for n in 0..size.messages {
                    counter.send(n).expect("the counter lives");
                }
            });
            start
        })
        .collect();
    run.start();
    for producer in &producers {
        producer.send(()).expect("the producer lives");
    }
    let sum = answer.wait();
    run.stop();
    sum
}

fn fjthrput(_: &Threads, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let leaves: Vec<_> = (0..size.actors)
        .map(|_| {
            let (leaf, messages) = bounded::<()>(CAPACITY);
            let done = done.clone();
            actor(move || {
                let mut got = 0;
                while got < size.messages && messages.recv().is_ok() {
                    got += 1;
                }
                done.send(got);
            });
            leaf
        })
        .collect();
    let (root, started) = bounded::<()>(CAPACITY);
    actor(move || {
        started.recv().expect("the start");
        for _ in 0..size.messages {
            for leaf in &leaves {
                leaf.send(()).expect("the leaf lives");
            }
        }
    });
    run.start();
    root.send(()).expect("the root lives");
    let sum = (0..size.actors).map(|_| answer.wait()).sum();
    run.stop();
    sum
}

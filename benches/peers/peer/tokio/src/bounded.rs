//! Implements the bounded workloads with channels of 1,024 messages, in which a sender awaits room.

use tokio::sync::mpsc::{Receiver, channel};
use workloads::{CAPACITY, Entry, Run, Size, answer};

use crate::{Tokio, runtime};

pub fn entries() -> [Entry<Tokio>; 4] {
    [
        Entry::new("pingpong-bounded", pingpong),
        Entry::new("counting-bounded", produce),
        Entry::new("fanin-bounded", produce),
        Entry::new("fjthrput-bounded", fjthrput),
    ]
}

fn pingpong(_: &Tokio, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let (ping, mut pings) = channel::<()>(CAPACITY);
    let (pong, mut pongs) = channel::<()>(CAPACITY);
    let start = ping.clone();
    runtime().spawn(async move {
        while let Some(()) = pongs.recv().await {
            if ping.send(()).await.is_err() {
                break;
            }
        }
    });
    runtime().spawn(async move {
        pings.recv().await;
        let mut got = 0;
        for _ in 0..size.messages {
            pong.send(()).await.expect("pong lives");
            pings.recv().await;
            got += 1;
        }
        done.send(got);
    });
    run.start();
    start.blocking_send(()).expect("ping lives");
    let got = answer.wait();
    run.stop();
    got
}

fn produce(_: &Tokio, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let (counter, mut numbers) = channel(CAPACITY);
    runtime().spawn(async move {
        let mut sum = 0;
        for _ in 0..size.actors * size.messages {
            sum += numbers.recv().await.expect("producers live");
        }
        done.send(sum);
    });
    let producers: Vec<_> = (0..size.actors)
        .map(|_| {
            let (start, mut started) = channel::<()>(CAPACITY);
            let counter = counter.clone();
            runtime().spawn(async move {
                started.recv().await;
                for n in 0..size.messages {
                    counter.send(n).await.expect("the counter lives");
                }
            });
            start
        })
        .collect();
    run.start();
    for producer in &producers {
        producer.blocking_send(()).expect("the producer lives");
    }
    let sum = answer.wait();
    run.stop();
    sum
}

fn fjthrput(_: &Tokio, size: Size, run: &mut Run) -> u64 {
    let (done, answer) = answer();
    let leaves: Vec<_> = (0..size.actors)
        .map(|_| {
            let (leaf, mut messages): (_, Receiver<()>) = channel(CAPACITY);
            let done = done.clone();
            runtime().spawn(async move {
                let mut got = 0;
                while got < size.messages && messages.recv().await.is_some() {
                    got += 1;
                }
                done.send(got);
            });
            leaf
        })
        .collect();
    let (root, mut started) = channel::<()>(CAPACITY);
    runtime().spawn(async move {
        started.recv().await;
        for _ in 0..size.messages {
            for leaf in &leaves {
                leaf.send(()).await.expect("the leaf lives");
            }
        }
    });
    run.start();
    root.blocking_send(()).expect("the root lives");
    let sum = (0..size.actors).map(|_| answer.wait()).sum();
    run.stop();
    sum
}

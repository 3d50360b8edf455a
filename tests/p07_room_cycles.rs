//! Tests P7 and P8: actors pass messages on in cycles, as the guide shows: keep the message, ask
//! for a notice of room, try again. All messages get through, however small the mailboxes are.

mod common;

use common::*;
use heist::{Actor, ActorRef, Context, Executor, Handler, Policy, Refusal};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

struct Token(u32);
struct Room(usize);
struct Peers(Vec<ActorRef<Node>>);
struct Begin;

#[derive(Default)]
struct Counts {
    arrived: AtomicU64,
    notices: AtomicU64,
}

struct Node {
    peers: Vec<ActorRef<Node>>,
    /// For each peer, the messages for which the peer had no room.
    held: Vec<VecDeque<Token>>,
    first: u32,
    steps: u32,
    random: SmallRng,
    counts: Arc<Counts>,
}
impl Actor for Node {}

impl Node {
    fn pass_on(&mut self, to: usize, ctx: &mut Context<Self>) {
        while let Some(token) = self.held[to].pop_front() {
            if let Err(refused) = self.peers[to].tell(token) {
                assert_eq!(refused.refusal(), Refusal::Full);
                self.held[to].push_front(refused.into_message());
                ctx.when_room(&self.peers[to], Room(to))
                    .unwrap_or_else(|_| panic!("one notice at a time"));
                return;
            }
        }
    }
    fn new_token(&mut self, left: u32, ctx: &mut Context<Self>) {
        let to = self.random.random_range(0..self.peers.len());
        self.held[to].push_back(Token(left));
        if self.held[to].len() == 1 {
            self.pass_on(to, ctx);
        }
    }
}
impl Handler<Peers> for Node {
    type Reply = ();
    fn handle(&mut self, Peers(peers): Peers, _: &mut Context<Self>) {
        self.held = peers.iter().map(|_| VecDeque::new()).collect();
        self.peers = peers;
    }
}
impl Handler<Begin> for Node {
    type Reply = ();
    fn handle(&mut self, _: Begin, ctx: &mut Context<Self>) {
        (0..self.first).for_each(|_| self.new_token(self.steps, ctx));
    }
}
impl Handler<Token> for Node {
    type Reply = ();
    fn handle(&mut self, Token(left): Token, ctx: &mut Context<Self>) {
        self.counts.arrived.fetch_add(1, Relaxed);
        if left > 0 {
            self.new_token(left - 1, ctx);
        }
    }
}
impl Handler<Room> for Node {
    type Reply = ();
    fn handle(&mut self, Room(to): Room, ctx: &mut Context<Self>) {
        self.counts.notices.fetch_add(1, Relaxed);
        self.pass_on(to, ctx);
    }
}

/// Runs actors with random peers, possibly including themselves, and random capacities up to
/// `most`.
fn go_round(executor: &Executor, actors: usize, most: usize, seed: u64) {
    let (first, steps) = (4, 20);
    let (mut random, counts) = (SmallRng::seed_from_u64(seed), Arc::new(Counts::default()));
    let node = |n: u64| Node {
        peers: vec![],
        held: vec![],
        first,
        steps,
        random: SmallRng::seed_from_u64(seed ^ n << 32),
        counts: Arc::clone(&counts),
    };
    let nodes: Vec<_> = (0..actors as u64)
        .map(|n| executor.build(node(n)).capacity(random.random_range(1..=most)).spawn())
        .collect();
    for node in &nodes {
        let mut peers = nodes.clone();
        for _ in 0..random.random_range(0..actors) {
            let _other = peers.swap_remove(random.random_range(0..peers.len()));
        }
        node.send(Peers(peers)).unwrap();
    }
    settle(executor);
    nodes.iter().for_each(|node| node.send(Begin).unwrap());
    let all = u64::from(first * (steps + 1)) * actors as u64;
    if executor.wait_idle_timeout(Duration::from_secs(60)).is_err() {
        let (arrived, notices) = (counts.arrived.load(Relaxed), counts.notices.load(Relaxed));
        panic!(
            "seed {seed}, {actors} actors, up to {most}: {arrived} of {all} arrived, {notices} notices"
        );
    }
    assert_eq!(counts.arrived.load(Relaxed), all, "seed {seed}");
    for node in &nodes {
        let most = node.capacity().unwrap();
        assert!(
            node.is_empty() && node.stats().most_waiting <= most + actors,
            "more than it has prepaid"
        );
    }
    // Each notice follows a message that came in between, or is the first of its wait.
    let notices = counts.notices.load(Relaxed);
    assert!(
        notices <= 20 * all,
        "seed {seed}, {actors} actors, up to {most}: {notices} notices for {all}"
    );
}

#[test]
fn p07_cycles_with_small_mailboxes_go_on() {
    for policy in [Policy::Stealing, Policy::Sharded, Policy::SharedQueue] {
        for workers in [1, 2] {
            let executor = build(Executor::builder().workers(workers).policy(policy));
            for seed in 0..40 {
                for most in [1, 2, 4, 8] {
                    go_round(&executor, 2 + seed as usize % 7, most, seed);
                }
            }
            go_round(&executor, 70, 1, 1000);
            shut_down(&executor);
        }
    }
}

/// A full actor waits for room at itself, with one place for messages.
#[test]
fn p07_an_actor_alone_waits_for_room_at_itself() {
    on_every_crew(|executor| {
        for most in 1..=8 {
            go_round(executor, 1, most, most as u64);
        }
    });
}

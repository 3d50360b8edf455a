//! Defines the roles of the workloads that users feel: idle actors, a cold actor beside hot ones, a
//! burst after idleness.

use std::{sync::atomic::Ordering, time::Instant};

use crate::{
    load::{BURST, Done, HANDLED, HOT, WORK_1_US, work},
    roles::{Next, Peer, Role},
};

/// An actor with 16 bytes of state.
#[derive(Debug, Default)]
pub struct Idle(pub [u64; 2]);

pub enum IdleMessage {
    Touch(u64),
    Stop,
}

impl<P: Peer> Role<P> for Idle {
    type Message = IdleMessage;

    fn handle(&mut self, message: IdleMessage, _: impl Fn() -> P::Ref<Self>) -> Next {
        let IdleMessage::Touch(n) = message else { return Next::Stop };
        self.0[0] += n;
        self.0[1] += 1;
        HANDLED.fetch_add(1, Ordering::Relaxed);
        Next::Go
    }
}

pub struct Hot;

impl<P: Peer> Role<P> for Hot {
    type Message = ();

    fn handle(&mut self, _: (), me: impl Fn() -> P::Ref<Self>) -> Next {
        if !HOT.load(Ordering::Relaxed) {
            return Next::Stop;
        }
        work(WORK_1_US);
        P::tell(&me(), ());
        Next::Go
    }
}

pub struct Cold {
    pub samples: Vec<u64>,
    pub expect: usize,
    pub done: Done<Vec<u64>>,
}

impl<P: Peer> Role<P> for Cold {
    type Message = Instant;

    fn handle(&mut self, sent: Instant, _: impl Fn() -> P::Ref<Self>) -> Next {
        self.samples.push(sent.elapsed().as_nanos() as u64);
        if self.samples.len() < self.expect {
            return Next::Go;
        }
        self.done.send(std::mem::take(&mut self.samples));
        Next::Stop
    }
}

pub struct BurstRoot<P: Peer> {
    pub targets: Vec<P::Ref<BurstTarget>>,
}

impl<P: Peer> Role<P> for BurstRoot<P> {
    type Message = ();

    fn handle(&mut self, _: (), _: impl Fn() -> P::Ref<Self>) -> Next {
        for target in &self.targets {
            P::tell(target, ());
        }
        Next::Go
    }
}

pub struct BurstTarget;

impl<P: Peer> Role<P> for BurstTarget {
    type Message = ();

    fn handle(&mut self, _: (), _: impl Fn() -> P::Ref<Self>) -> Next {
        BURST.handle();
        Next::Go
    }
}

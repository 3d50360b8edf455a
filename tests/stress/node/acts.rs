//! Implements the random actions of the mesh's actor: everything an actor may do to itself, to a
//! peer and to the crew.

use super::{Node, Placed, answer_to, conclude};
use crate::fail;
use crate::ledger::{explode, taking_back};
use crate::world::{Answer, Note, SLOTS, Several, Small, ended};
use heist::{ActorRef, AskError, Context, Reply, WaitError};
use std::time::{Duration, Instant};

impl Node {
    /// Returns a peer, either remembered (and thereby kept alive) or looked up.
    fn peer(&mut self) -> Option<(usize, ActorRef<Node>)> {
        if self.peers.len() == 6 || (!self.peers.is_empty() && self.rng.one_in(8)) {
            let gone = self.rng.below(self.peers.len() as u64) as usize;
            drop(self.peers.swap_remove(gone));
        }
        if self.peers.is_empty() || self.rng.one_in(3) {
            let slot = self.rng.below(SLOTS as u64) as usize;
            let actor = self.world.at(slot, &mut self.rng)?;
            self.peers.push((slot, actor));
        }
        let chosen = self.rng.below(self.peers.len() as u64) as usize;
        Some(self.peers[chosen].clone())
    }

    pub(super) fn act(&mut self, ttl: u8, ctx: &mut Context<Self>) {
        let Some((slot, to)) = self.peer() else { return };
        match self.rng.below(60) {
            0..12 => {
                if self.sender.tell(&to, &mut self.rng, ttl).is_none() {
                    self.when_room(&to, ttl, ctx);
                }
            }
            12..15 => self.sender.tell_many(&to, &mut self.rng, ttl),
            15..17 => drop(self.sender.ask(&to, &mut self.rng, ttl, false)),
            17..19 => {
                if let Some(ask) = self.sender.ask(&to, &mut self.rng, ttl, false) {
                    self.world.asks.put(ask);
                }
            }
            19 => {
                self.asks.truncate(4);
                self.asks.extend(self.sender.ask(&to, &mut self.rng, ttl, false));
            }
            20..25 => self.ask_then(&to, ttl, ctx),
            25..28 => {
                let letter = self.sender.letter(ctx.me(), &mut self.rng, ttl);
                let id = letter.token.id;
                if self.rng.one_in(2) {
                    let result = ctx.tell_self(Small::of(letter));
                    self.sender.said(id, result);
                } else {
                    let result = ctx.tell_self(Several(letter));
                    self.sender.said(id, result);
                }
            }
            28..30 => self.when_room(&to, ttl, ctx),
            30..32 if slot > self.slot => self.wait_inside(&to, ttl),
            32 if slot > self.slot => {
                let letter = self.sender.letter(&to, &mut self.rng, ttl);
                let id = letter.token.id;
                self.sender.said(id, to.send_timeout(Note(letter), Duration::from_millis(5)));
            }
            33 => self.wait_for_myself(ctx),
            34 => to.stop(),
            35 if ttl.is_multiple_of(2) => to.stop_now(),
            36 if ttl.is_multiple_of(2) => ctx.stop(),
            37 => drop(self.world.replace(slot, &mut self.rng)),
            38 => {
                if let Some(up) = self.world.upgrade(&mut self.rng) {
                    self.sender.tell(&up, &mut self.rng, ttl);
                }
            }
            39..41 => {
                let child = ctx.spawn(Node::new(&self.world, self.slot, Placed::Anywhere));
                self.sender.tell(&child, &mut self.rng, ttl);
                match self.rng.below(8) {
                    0 => child.detach(),
                    1..4 => drop(child),
                    _ => self.held.push(child),
                }
            }
            41 => self.held.truncate(1),
            42..44 => {
                for (id, reply) in std::mem::take(&mut self.kept) {
                    self.answer(id, reply);
                }
            }
            44 => {
                if self.world.handle.wait_idle_timeout(Duration::ZERO) != Err(WaitError::OnCrew) {
                    fail("a worker may wait for its own crew");
                }
            }
            45 => {
                let by = self.peer();
                if let Some((_, by)) = by {
                    self.sender.triangle(&to, &by, &mut self.rng);
                }
            }
            46 => spin(Duration::from_micros(self.rng.below(300))),
            47..50 => self.arm(&to, ttl, ctx),
            50..52 => self.cancel(),
            52..54 => self.block(),
            // `act` may run here on a thread without a worker's slot.
            54..56 => heist::blocking(|| self.act(ttl, ctx)),
            56 if slot > self.slot => {
                let letter = self.sender.letter(&to, &mut self.rng, ttl);
                let id = letter.token.id;
                self.sender.said(id, to.send(Note(letter)));
            }
            57 if self.rng.one_in(4) => heist::blocking(|| explode(self.slot as u32)),
            _ => drop((
                to.len(),
                to.stats(),
                to.timing(),
                ctx.message_age(),
                self.world.handle.stats(),
            )),
        }
    }

    fn when_room(&mut self, target: &ActorRef<Node>, ttl: u8, ctx: &mut Context<Self>) {
        let mut letter = self.sender.letter(ctx.me(), &mut self.rng, ttl);
        letter.seq = 0; // arrives at an unknown moment
        let id = letter.token.id;
        let result = ctx.when_room(target, Small::of(letter));
        self.sender.said(id, result);
    }

    /// Arms a timer for this actor or for a peer. Kept timers end with this actor.
    fn arm(&mut self, to: &ActorRef<Node>, ttl: u8, ctx: &mut Context<Self>) {
        let delay = Duration::from_micros(self.rng.below(2000));
        let own = self.rng.one_in(2);
        let mut letter = self.sender.letter(if own { ctx.me() } else { to }, &mut self.rng, ttl);
        let token = self.world.ledger.timer(self.rng.one_in(50));
        std::mem::replace(&mut letter.token, token).refused();
        (letter.seq, letter.due) = (0, Some(Instant::now() + delay)); // overtakes other messages
        let id = letter.token.id;
        let armed = if own {
            ctx.tell_after(delay, Small::of(letter))
        } else {
            to.tell_after(delay, Small::of(letter))
        };
        match armed {
            Ok(timer) if self.rng.one_in(2) => timer.detach(),
            Ok(timer) => {
                self.timers.truncate(20);
                self.timers.push((id, timer));
            }
            Err(error) => self.sender.refuse(id, error.into_message().into()),
        }
    }

    fn cancel(&mut self) {
        if let Some((id, timer)) = self.timers.pop()
            && timer.cancel()
        {
            self.cancelled.push(id);
        }
    }

    fn ask_then(&mut self, to: &ActorRef<Node>, ttl: u8, ctx: &mut Context<Self>) {
        let letter = self.sender.letter(to, &mut self.rng, ttl);
        let id = letter.token.id;
        let callback = self.world.ledger.callback(self.rng.one_in(200));
        let back = callback.id;
        let then = move |me: &mut Node, result, ctx: &mut Context<Node>| {
            let _turn = me.enter("a callback");
            me.at_home(ctx);
            callback.handled();
            ended(id, result);
            if me.rng.one_in(100) {
                explode(callback.id);
            }
            if ttl > 0 {
                me.act(ttl - 1, ctx);
            }
        };
        let result = taking_back(|| ctx.ask_then(to, Note(letter), then));
        if self.sender.said(id, result).is_some() {
            self.world.ledger.accepted(back);
        }
    }

    /// Asks an actor in a higher slot and waits for the answer.
    fn wait_inside(&mut self, to: &ActorRef<Node>, ttl: u8) {
        let patient = self.rng.one_in(2);
        let Some((id, ask)) = self.sender.ask(to, &mut self.rng, ttl, patient) else { return };
        let wait = |ask: &mut heist::Ask<_>| {
            if patient { ask.wait() } else { ask.wait_timeout(Duration::from_micros(200)) }
        };
        if let Some(ask) = conclude(id, ask, wait) {
            match self.rng.below(3) {
                0 => drop(ask),
                1 => self.world.asks.put((id, ask)),
                _ => self.asks.push((id, ask)),
            }
        }
    }

    fn wait_for_myself(&mut self, ctx: &mut Context<Self>) {
        let Some((_, mut ask)) = self.sender.ask(ctx.me(), &mut self.rng, 0, false) else { return };
        match ask.wait() {
            Err(AskError::WouldDeadlock(_)) => {}
            Err(error) => fail(&format!("an actor waited for itself and got {error:?}")),
            Ok(_) => fail("an actor answered inside its own turn"),
        }
    }

    pub(super) fn block(&mut self) {
        let time = Duration::from_micros(self.rng.below(100));
        match self.rng.below(4) {
            0 => heist::blocking(|| ()),
            1 => heist::blocking(|| heist::blocking(std::thread::yield_now)),
            2 => heist::blocking(|| spin(time)),
            _ => heist::blocking(|| std::thread::sleep(time)),
        }
    }

    pub(super) fn answer(&mut self, to: u32, reply: Reply<Answer>) {
        if self.rng.one_in(12) {
            drop(reply);
        } else {
            reply.send(answer_to(&self.world, to, &mut self.rng));
        }
    }
}

fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

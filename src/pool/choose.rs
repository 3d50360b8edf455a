//! The choice of a replica by a strategy, and the delivery to that replica.
//!
//! A strategy is user code, and is asked outside all locks. The message is delivered under the
//! stripe's lock, so a change of the roster knows when it has arrived.

use super::life::PoolInner;
use super::roster::{Choice, Roster, Stripe};
use super::strategy::{Replicas, Route, Strategy};
use crate::actor::Actor;
use crate::actor::refs::ActorRef;
use crate::error::Refusal;
use crate::user::{self, Site};
use std::sync::Arc;

impl<A: Actor> PoolInner<A> {
    /// Calls `deliver` with the replica chosen by the strategy, or with the reason why there is
    /// none. `deliver` puts a message into the mailbox, under the stripe's lock, and runs no user
    /// code.
    #[inline]
    pub(super) fn choose_and_deliver<S: Strategy + ?Sized, R>(
        self: &Arc<Self>,
        strategy: &S,
        deliver: impl FnOnce(Result<&ActorRef<A>, Refusal>) -> R,
    ) -> R {
        if self.is_forked() {
            return deliver(Err(Refusal::Forked));
        }
        // Chosen before the user's code runs, which may block and change this thread's slot. Any
        // stripe is right; the own one is only the fastest.
        let stripe = self.own_stripe();
        // `fixed` hashes a key, which is user code, so it runs before the lock is taken.
        let route = match user::run_passing(Site::Strategy, || strategy.fixed()) {
            Some(Route::Default) => match self.usual_route {
                Some(route) => route,
                None => return self.follow_usual(stripe, deliver),
            },
            Some(route) => route,
            None => {
                let ask = |replicas: &Replicas<'_>| match strategy.route(replicas) {
                    Route::Default => self.ask_usual(replicas),
                    route => route,
                };
                return self.ask_and_follow(stripe, ask, deliver);
            }
        };
        let roster = stripe.roster.read();
        self.deliver_to(&roster, stripe.pick_replica(&roster, route), deliver)
    }

    /// Calls `deliver` with the picked destination, under the stripe's lock.
    #[inline]
    fn deliver_to<R>(
        self: &Arc<Self>,
        roster: &Roster<A>,
        picked: Result<Choice<'_, A>, Refusal>,
        deliver: impl FnOnce(Result<&ActorRef<A>, Refusal>) -> R,
    ) -> R {
        match picked {
            Ok(Choice::Actor(actor)) => deliver(Ok(actor)),
            Ok(Choice::Hold { key_move, from, into }) => {
                let hold = self.hold_queue(roster, key_move, from, into);
                deliver(hold.as_ref().map_err(|refusal| *refusal))
            }
            Err(refusal) => deliver(Err(refusal)),
        }
    }

    /// Like `choose_and_deliver`, for the pool's usual strategy if that is the user's.
    fn follow_usual<R>(
        self: &Arc<Self>,
        stripe: &Stripe<A>,
        deliver: impl FnOnce(Result<&ActorRef<A>, Refusal>) -> R,
    ) -> R {
        match user::run_passing(Site::Strategy, || self.usual.fixed()) {
            Some(route) => {
                let roster = stripe.roster.read();
                self.deliver_to(&roster, stripe.pick_replica(&roster, route), deliver)
            }
            None => self.ask_and_follow(stripe, |replicas| self.usual.route(replicas), deliver),
        }
    }

    /// Asks the pool's usual strategy. One that names the default again would loop, so its answer
    /// means two choices, as everywhere.
    fn ask_usual(&self, replicas: &Replicas<'_>) -> Route {
        let usual = &**self.usual;
        self.usual_route.or_else(|| usual.fixed()).unwrap_or_else(|| usual.route(replicas))
    }

    /// Like `choose_and_deliver`, for a strategy that looks at the replicas. `ask` asks it, and is
    /// user code.
    fn ask_and_follow<R>(
        self: &Arc<Self>,
        stripe: &Stripe<A>,
        ask: impl Fn(&Replicas<'_>) -> Route,
        deliver: impl FnOnce(Result<&ActorRef<A>, Refusal>) -> R,
    ) -> R {
        loop {
            let seen = stripe.current_roster();
            if seen.stopped {
                return deliver(Err(Refusal::PoolStopped));
            }
            let route = user::run_passing(Site::Strategy, || ask(&Replicas { view: &*seen }));
            let roster = stripe.roster.read();
            if !Arc::ptr_eq(&roster, &seen) {
                drop(roster);
                // The pool has changed meanwhile, so the route may be wrong.
                continue;
            }
            return self.deliver_to(&roster, stripe.pick_replica(&roster, route), deliver);
        }
    }
}

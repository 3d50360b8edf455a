//! Provides crews with spare threads, and turns that block.

use super::*;
use heist::{ActorRef, Context, Executor, Policy, blocking};

/// A number of spare threads so small that the tests exhaust it.
pub(crate) const FEW: usize = 2;

pub(crate) fn with_spares(workers: usize, policy: Policy, spares: usize) -> Executor {
    build(Executor::builder().workers(workers).policy(policy).max_spares(spares))
}

/// Runs `test` with a crew of each size, under each policy, without spares, with few and with many.
pub(crate) fn on_every_crew_with_spares(test: impl Fn(&Executor, usize)) {
    for policy in POLICIES {
        for workers in CREWS {
            for spares in [0, FEW, 64] {
                let executor = with_spares(workers, policy, spares);
                test(&executor, spares);
                shut_down(&executor);
            }
        }
    }
}

/// Starts a turn that blocks until the guard is dropped. Returns once the turn blocks.
pub(crate) fn blocked(actor: &ActorRef<Puppet>) -> Held {
    let held = blocking_soon(actor);
    held.1.wait();
    held.0
}

/// Like `blocked`, but returns at once. The latch opens when the turn blocks.
pub(crate) fn blocking_soon(actor: &ActorRef<Puppet>) -> (Held, Latch) {
    let (entered, release) = (Latch::new(), Latch::new());
    let (inside, until) = (entered.clone(), release.clone());
    let wait = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        blocking(|| {
            inside.open();
            until.wait();
        });
    });
    actor.tell(wait).unwrap();
    (Held::until(release), entered)
}

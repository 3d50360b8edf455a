//! Crews with spare threads, and turns that block, for the tests about those.

use super::*;
use heist::{ActorRef, Context, Executor, Policy, blocking};

/// So few spares that they run out.
pub(crate) const FEW: usize = 2;

pub(crate) fn with_spares(workers: usize, policy: Policy, spares: usize) -> Executor {
    build(Executor::builder().workers(workers).policy(policy).spares(spares))
}

/// With each number of workers, under each policy, and with no spares, few and many.
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

/// A turn that blocks until this is dropped. Returns once it does.
pub(crate) fn blocked(actor: &ActorRef<Puppet>) -> Held {
    let held = blocking_soon(actor);
    held.1.wait();
    held.0
}

/// Returns at once; the latch opens when the turn blocks.
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

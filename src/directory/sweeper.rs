//! The sweeper, which finds idle actors: an actor that goes round the parts of a directory with an
//! idle time, once in each such time.
//!
//! The sweeper exists only while an actor may become idle. The sweeper is spawned when an unwatched
//! part keeps an actor, and ends when a round finds no kept actor anywhere. Unused actors are let
//! go of in the second round at the latest, so an unused directory has neither a timer nor a
//! sweeper. The sweeper's own timer keeps it alive.
//!
//! A round goes in steps. No part's lock is held for long, and other actors get their turns in
//! between.

use super::shard::Garbage;
use super::table::DirectoryInner;
use crate::actor::context::Context;
use crate::actor::timers::Timer;
use crate::actor::{Actor, Handler};
use std::hash::Hash;
use std::sync::Arc;

/// Number of actors looked at under one lock.
const STEP: usize = 256;

pub(super) struct Sweeper<K: 'static, A: Actor> {
    directory: Arc<DirectoryInner<K, A>>,
    timer: Option<Timer>,
    /// The part for the next step, and the position below which to look.
    shard: usize,
    below: usize,
}

impl<K, A> Sweeper<K, A>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    A: Actor + Send,
{
    /// Spawns a sweeper. Called after [`DirectoryInner::start_watching`] returned `true`.
    pub(super) fn start_sweeper(directory: &Arc<DirectoryInner<K, A>>) {
        let sweeper =
            Sweeper { directory: Arc::clone(directory), timer: None, shard: 0, below: usize::MAX };
        let sweeper = directory.executor.spawn(sweeper);
        directory.sweep.lock().sweeper = Some(sweeper.downgrade().untyped());
    }

    fn wait_for_sweep(&mut self, ctx: &mut Context<Self>) {
        let idle = self.directory.idle.expect("what has no idle time is not swept");
        (self.shard, self.below) = (0, usize::MAX);
        // Refused when the executor shuts down, which ends the sweeper too.
        self.timer = ctx.tell_after(idle, Step).ok();
    }

    /// Looks at some actors. Returns `false` when the round is over.
    fn sweep_step(&mut self) -> bool {
        let Some(shard) = self.directory.shards.get(self.shard) else { return false };
        let mut garbage = Garbage::default();
        let mut shard = shard.0.lock();
        match shard.sweep_ring(self.below, STEP, &mut garbage) {
            Some(below) => self.below = below,
            None => {
                // `MAX` begins at the end of the next ring, however long it is.
                (self.shard, self.below) = (self.shard + 1, usize::MAX);
                // Cleared under the part's lock: an actor kept later finds the part unwatched and
                // calls `sweep`.
                if shard.watched && !shard.keeps_any() {
                    shard.watched = false;
                    self.directory.sweep.lock().shards -= 1;
                }
            }
        }
        drop(shard);
        true
    }
}

impl<K, A> Actor for Sweeper<K, A>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    A: Actor + Send,
{
    fn started(&mut self, ctx: &mut Context<Self>) {
        self.wait_for_sweep(ctx);
    }
}

struct Step;

impl<K, A> Handler<Step> for Sweeper<K, A>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    A: Actor + Send,
{
    type Reply = ();

    fn handle(&mut self, _: Step, ctx: &mut Context<Self>) {
        if self.sweep_step() {
            let _refused_when_stopped = ctx.tell_self(Step);
            return;
        }
        let mut sweep = self.directory.sweep.lock();
        // Under the lock of `sweep`: a part watched from now on either keeps this sweeper or starts
        // another.
        sweep.sweeping = sweep.shards > 0;
        let goes_on = sweep.sweeping;
        drop(sweep);
        if goes_on {
            self.wait_for_sweep(ctx);
        } else {
            // Without its timer nothing keeps the sweeper alive.
            self.timer = None;
        }
    }
}

//! Whether an actor could ever go on: a walk over all tables, along the waits from actor to actor.
//!
//! An actor *goes on* without a wait, or if the awaited actors go on. A wait for any of several
//! actors (a queue's replicas) needs one that goes on, a wait for all of several needs all. The
//! walk marks actors as going on until no more can be marked. The others are stuck.
//!
//! Loom model: `models::waits`. Needed orderings: `cargo xtask weaken`, group `waits`.

use super::{ActorKey, WaitTarget, Waits};
use crate::cell::sharing::{Doers, Sharing};
use crate::id::{ActorId, WaitCycle, WaitingActor};
use crate::sync::chaos;
use std::collections::HashMap;
use std::sync::Arc;

/// The state of one actor, as found by the walk.
#[derive(Debug, PartialEq)]
struct FoundWait {
    place: ActorKey,
    who: Option<WaitingActor>,
    means: Means,
    /// Number of the actor's line, or 0.
    line: u64,
    /// Number of the forward that the wait follows, or 0.
    forward: u64,
}

/// When an actor goes on.
#[derive(Debug, PartialEq)]
enum Means {
    Now,
    /// When this actor goes on.
    With(ActorKey),
    /// When any of these actors goes on.
    WithAny(Vec<ActorKey>),
    /// When all of these actors go on.
    WithAll(Vec<ActorKey>),
}

impl Means {
    fn awaited_actors(&self) -> &[ActorKey] {
        match self {
            Means::Now => &[],
            Means::With(place) => std::slice::from_ref(place),
            Means::WithAny(places) | Means::WithAll(places) => places,
        }
    }
}

/// Returns the cycle for which the wait of `me`, written just before, is refused.
pub(super) fn cycle_of_refused(me: &ActorKey) -> Option<WaitCycle> {
    let stuck = find_stuck_twice(me)?;
    // No actor waits for `me`, so `me` waits for a cycle without `me`. An actor in that cycle sees
    // it and is refused.
    if !stuck.iter().any(|found| found.means.awaited_actors().contains(me)) {
        return None;
    }
    // Inside a single table the last line decides, since the last writer sees the cycle too.
    let plain = |found: &FoundWait| {
        found.line > 0 && found.forward == 0 && Arc::ptr_eq(&found.place.table, &me.table)
    };
    let single = |found: &FoundWait| matches!(found.means, Means::With(_));
    let one_table = stuck.iter().all(|found| plain(found) && single(found));
    let later = stuck.iter().any(|found| found.line > stuck[0].line);
    (!one_table || !later).then(|| actors_of(stuck))
}

/// Returns the cycle closed by the forward of this number: the stuck actors, beginning with the
/// target of the forward.
pub(super) fn cycle_closed_by(forward: u64, to: &ActorKey) -> Option<WaitCycle> {
    let stuck = find_stuck_twice(to)?;
    stuck.iter().any(|found| found.forward == forward).then(|| actors_of(stuck))
}

fn actors_of(stuck: Vec<FoundWait>) -> WaitCycle {
    WaitCycle::new(stuck.into_iter().filter_map(|found| found.who))
}

/// Returns the stuck actors, `me` included, in the order of the walk from `me` on. All of them were
/// stuck at the same instant.
fn find_stuck_twice(me: &ActorKey) -> Option<Vec<FoundWait>> {
    let mut before = find_stuck(me)?;
    loop {
        chaos();
        let now = find_stuck(me)?;
        // Whatever is found twice was there all the time in between: no number is used again, and a
        // bell rings once.
        if now == before {
            return Some(now);
        }
        before = now;
    }
}

/// Collects all actors that `me` depends on, and returns the stuck ones, or `None` if `me` goes on.
fn find_stuck(me: &ActorKey) -> Option<Vec<FoundWait>> {
    let mut known = FoundWaits::default();
    known.visit_actor(me);
    let mut at = 0;
    while at < known.found.len() {
        let others: Vec<ActorKey> = known.found[at].means.awaited_actors().to_vec();
        others.iter().for_each(|place| known.visit_actor(place));
        at += 1;
    }
    let mut goes_on: Vec<bool> =
        known.found.iter().map(|found| found.means == Means::Now).collect();
    loop {
        let mut more = false;
        // Backwards, so a chain takes a single pass.
        for at in (0..known.found.len()).rev() {
            let on = |place: &ActorKey| goes_on[known.index_of(place)];
            let now = match &known.found[at].means {
                Means::Now => true,
                Means::With(place) => on(place),
                Means::WithAny(places) => places.iter().any(on),
                Means::WithAll(places) => places.iter().all(on),
            };
            more |= now && !std::mem::replace(&mut goes_on[at], now);
        }
        if goes_on[0] {
            return None;
        }
        if !more {
            break;
        }
    }
    let mut goes_on = goes_on.into_iter();
    // `me` was found first and stays first.
    known.found.retain(|_| !goes_on.next().expect("one for each"));
    Some(known.found)
}

/// The actors found by a walk.
#[derive(Default)]
struct FoundWaits {
    found: Vec<FoundWait>,
    indices: HashMap<(*const Waits, ActorId), usize>,
}

impl FoundWaits {
    fn index_of(&self, place: &ActorKey) -> usize {
        self.indices[&(Arc::as_ptr(&place.table), place.id)]
    }

    fn visit_actor(&mut self, place: &ActorKey) {
        let key = (Arc::as_ptr(&place.table), place.id);
        if !self.indices.contains_key(&key) {
            self.indices.insert(key, self.found.len());
            self.found.push(read_wait(place));
        }
    }
}

/// Looks at one actor. Takes one lock at a time, so walks from several tables cannot lock each
/// other up.
fn read_wait(place: &ActorKey) -> FoundWait {
    let mut found =
        FoundWait { place: place.clone(), who: None, means: Means::Now, line: 0, forward: 0 };
    let target = {
        let table = place.table.0.lock();
        if let Some(&before) = table.successions.value_of(&place.id) {
            found.means = Means::With(ActorKey { table: Arc::clone(&place.table), id: before });
            return found;
        }
        match table.lines.value_of(&place.id) {
            Some(line) if !line.bell.has_rung() => {
                found.line = line.number;
                found.who = Some(line.who.clone());
                line.target.clone()
            }
            _ => return found,
        }
    };
    chaos();
    if target.ask != 0
        && let Some(forward) = target.at.table.0.lock().forwards.value_of(&target.ask)
    {
        found.forward = forward.number;
        found.means = Means::With(forward.to.clone());
        return found;
    }
    if let Some(sharing) = &target.sharing
        && a_taker_goes_on(sharing, &target)
    {
        return found;
    }
    let beside = |id| ActorKey { table: Arc::clone(&target.at.table), id };
    found.means = match target.sharing.as_ref().map(|sharing| sharing.actors_to_act(target.ask)) {
        None => Means::With(target.at.clone()),
        Some(Doers::One(id)) => Means::With(beside(id)),
        // A queue without members closes in the next turn, which tells the asker.
        Some(Doers::Any(ids)) if ids.is_empty() => Means::Now,
        Some(Doers::Any(ids)) => Means::WithAny(ids.into_iter().map(beside).collect()),
        Some(Doers::All(ids)) => Means::WithAll(ids.into_iter().map(beside).collect()),
    };
    found
}

/// Members of a queue that are looked at under one lock.
const LOOKED_AT: usize = 16;

/// Returns `true` if some member of a queue waits for nothing, and so may answer. Looks at a few
/// members at a time, since a pool may have many and few of them wait. Other members may be
/// missing: the caller then asks for all at once.
fn a_taker_goes_on(sharing: &Sharing, target: &WaitTarget) -> bool {
    for from in (0..).step_by(LOOKED_AT) {
        let takers = sharing.some_takers(target.ask, from..from + LOOKED_AT);
        if takers.is_empty() {
            break;
        }
        let table = target.at.table.0.lock();
        // An actor that begins to wait afterwards walks itself, and finds the line that led here.
        if takers.iter().any(|&id| table.waits_for_nothing(id)) {
            return true;
        }
    }
    false
}

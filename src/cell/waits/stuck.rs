//! Whether an actor could ever go on: what it waits for, and what that waits for, through all tables.
//!
//! An actor *goes on* if it waits for nothing, or if what it waits for goes on. What must be done by one of several (any
//! replica that takes from a queue) goes on with one of them, what must be done by all with all. The actors that do not go on
//! are found as what is left when nothing more can be marked as going on.

use super::{Cycle, Place, WaitingActor, Waits};
use crate::cell::shared::Doers;
use crate::id::ActorId;
use crate::sync::chaos;
use std::collections::HashMap;
use std::sync::Arc;

/// What one actor was found to do.
#[derive(Debug, PartialEq)]
struct Found {
    place: Place,
    who: Option<WaitingActor>,
    means: Means,
    /// The line's number, 0 if there is none.
    line: u64,
    /// The forward's.
    forward: u64,
}

/// When it goes on.
#[derive(Debug, PartialEq)]
enum Means {
    Now,
    /// With this one.
    With(Place),
    /// With any of these.
    WithAny(Vec<Place>),
    /// With all of these.
    WithAll(Vec<Place>),
}

impl Means {
    fn others(&self) -> &[Place] {
        match self {
            Means::Now => &[],
            Means::With(place) => std::slice::from_ref(place),
            Means::WithAny(places) | Means::WithAll(places) => places,
        }
    }
}

/// The cycle for which a wait is refused that has just been written down.
pub(super) fn refused(me: &Place) -> Option<Cycle> {
    let stuck = confirmed(me)?;
    // Where nobody waits for me, I wait for a cycle of others: one of them sees it, and is refused.
    if !stuck.iter().any(|found| found.means.others().contains(me)) {
        return None;
    }
    // Inside one table the last line decides, whose writer sees this cycle too.
    let plain =
        |found: &Found| found.line > 0 && found.forward == 0 && Arc::ptr_eq(&found.place.table, &me.table);
    let single = |found: &Found| matches!(found.means, Means::With(_));
    let one_table = stuck.iter().all(|found| plain(found) && single(found));
    let later = stuck.iter().any(|found| found.line > stuck[0].line);
    (!one_table || !later).then(|| names(stuck))
}

/// The cycle that the forward of this number has closed: those that do not go on, from the actor on that is to answer.
pub(super) fn closed_by(forward: u64, to: &Place) -> Option<Cycle> {
    let stuck = confirmed(to)?;
    stuck.iter().any(|found| found.forward == forward).then(|| names(stuck))
}

fn names(stuck: Vec<Found>) -> Cycle {
    stuck.into_iter().filter_map(|found| found.who).collect()
}

/// Those that do not go on, in the order in which they were found from `me` on, which is one of them. They were so at one
/// instant.
fn confirmed(me: &Place) -> Option<Vec<Found>> {
    let mut before = stuck(me)?;
    loop {
        chaos();
        let now = stuck(me)?;
        // What is there a second time was there all the time between.
        if now == before {
            return Some(now);
        }
        before = now;
    }
}

fn stuck(me: &Place) -> Option<Vec<Found>> {
    let mut known = Known::default();
    known.visit(me);
    let mut at = 0;
    while at < known.found.len() {
        let others: Vec<Place> = known.found[at].means.others().to_vec();
        others.iter().for_each(|place| known.visit(place));
        at += 1;
    }
    let mut goes_on: Vec<bool> = known.found.iter().map(|found| found.means == Means::Now).collect();
    loop {
        let mut more = false;
        // Backwards, so that a chain is done in one pass.
        for at in (0..known.found.len()).rev() {
            let on = |place: &Place| goes_on[known.index_of(place)];
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
    known.found.retain(|_| !goes_on.next().expect("one for each"));
    Some(known.found)
}

/// Those that were looked at.
#[derive(Default)]
struct Known {
    found: Vec<Found>,
    indices: HashMap<(*const Waits, ActorId), usize>,
}

impl Known {
    fn index_of(&self, place: &Place) -> usize {
        self.indices[&(Arc::as_ptr(&place.table), place.id)]
    }

    fn visit(&mut self, place: &Place) {
        let key = (Arc::as_ptr(&place.table), place.id);
        if !self.indices.contains_key(&key) {
            self.indices.insert(key, self.found.len());
            self.found.push(look(place));
        }
    }
}

/// Looks at one actor. Takes one lock at a time.
fn look(place: &Place) -> Found {
    let mut found = Found { place: place.clone(), who: None, means: Means::Now, line: 0, forward: 0 };
    let target = {
        let table = place.table.0.lock();
        if let Some(&before) = table.successions.get(&place.id) {
            found.means = Means::With(Place { table: Arc::clone(&place.table), id: before });
            return found;
        }
        match table.lines.get(&place.id) {
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
        && let Some(forward) = target.at.table.0.lock().forwards.get(&target.ask)
    {
        found.forward = forward.number;
        found.means = Means::With(forward.to.clone());
        return found;
    }
    let beside = |id| Place { table: Arc::clone(&target.at.table), id };
    found.means = match target.sharing.as_ref().map(|sharing| sharing.doers(target.ask)) {
        None => Means::With(target.at.clone()),
        Some(Doers::One(id)) => Means::With(beside(id)),
        Some(Doers::Any(ids)) if ids.is_empty() => Means::Now,
        Some(Doers::Any(ids)) => Means::WithAny(ids.into_iter().map(beside).collect()),
        Some(Doers::All(ids)) => Means::WithAll(ids.into_iter().map(beside).collect()),
    };
    found
}

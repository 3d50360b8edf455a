//! Who waits for whom: so that a circle of actors that wait for each other is refused, and not waited for.
//!
//! An actor that blocks in its turn until another one has done something (answered, made room) is written down here, with
//! the bell that is rung when that is done. Whoever is about to wait goes along those lines from its target on: if they
//! lead back to it, through waits whose bells have not been rung, its wait would never end, since none of those actors can do
//! anything while it waits. All lines are under one lock, so of a circle that closes the last line is always refused.
//!
//! A bell is rung by the turn that answers, before that turn goes on. So who has answered, and then waits for the one whom it
//! has answered, is not mistaken for a circle, though that one may not be awake yet.
//!
//! What it cannot know: that an actor which is asked has given the reply away, so that somebody else will answer. A wait for
//! that reply counts as one for that actor. Circles through other executors, threads or tasks are not seen.

use crate::sync::{Mutex, ThreadWaker};
use std::collections::HashMap;
use std::sync::Arc;

/// Of one executor. Actors are addresses here; each is that of a cell which is kept by its running turn.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<HashMap<usize, Line>>);

#[derive(Debug)]
struct Line {
    target: usize,
    bell: Arc<ThreadWaker>,
}

impl Waits {
    /// `who` waits for `target` until `bell` is rung. `false`: refused, since `target` waits for `who`.
    #[must_use]
    pub(crate) fn begin(&self, who: *const (), target: *const (), bell: &Arc<ThreadWaker>) -> bool {
        let mut lines = self.0.lock();
        let who = who.addr();
        let mut at = target.addr();
        // No longer than there are lines: a circle without `who` would have been refused.
        while at != who {
            match lines.get(&at) {
                Some(line) if !line.bell.has_rung() => at = line.target,
                _ => {
                    lines.insert(who, Line { target: target.addr(), bell: Arc::clone(bell) });
                    return true;
                }
            }
        }
        false
    }

    /// `who` waits no more.
    pub(crate) fn end(&self, who: *const ()) {
        self.0.lock().remove(&who.addr());
    }
}

#[cfg(all(test, not(heist_loom)))]
mod tests {
    use super::*;
    use std::ptr::without_provenance;
    use std::task::Wake;

    fn at(place: usize) -> *const () {
        without_provenance(place)
    }

    #[test]
    fn the_last_line_of_a_circle_is_refused() {
        let (waits, bell) = (Waits::default(), ThreadWaker::new());
        assert!(!waits.begin(at(1), at(1), &bell));
        assert!(waits.begin(at(1), at(2), &bell));
        assert!(waits.begin(at(2), at(3), &bell));
        assert!(waits.begin(at(4), at(1), &bell), "a tail is no circle");
        assert!(!waits.begin(at(3), at(1), &bell));
        waits.end(at(2));
        assert!(waits.begin(at(3), at(1), &bell), "2 waits no more");
        assert!(!waits.begin(at(2), at(4), &bell));
    }

    #[test]
    fn who_has_been_answered_does_not_count_as_waiting() {
        let (waits, answered, bell) = (Waits::default(), ThreadWaker::new(), ThreadWaker::new());
        assert!(waits.begin(at(1), at(2), &answered));
        answered.wake_by_ref();
        assert!(waits.begin(at(2), at(1), &bell), "1 is about to go on");
    }
}

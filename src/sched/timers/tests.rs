//! The table of timers compared with a sorted map.

use super::*;
use crate::time::{self, Duration};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;

type Fired = Arc<Mutex<Vec<(u64, u64)>>>;

/// A timer that records when it was fired.
struct Probe {
    when: u64,
    id: u64,
    fired: Fired,
}

impl Timed for Probe {
    fn deliver_due(self: Box<Self>) -> Result<(), Box<dyn Timed>> {
        self.fired.lock().push((self.when, self.id));
        Ok(())
    }
    fn report_undeliverable(self: Box<Self>) {}
}

/// Arms, cancels, fires and rearms timers at random, and does the same with a map.
#[test]
fn the_heap_does_what_a_sorted_map_does() {
    let (timers, alarm, fired) = (Timers::new(), Alarm::new(), Fired::default());
    let start = time::now();
    let mut rng = SmallRng::seed_from_u64(7);
    let mut armed: BTreeMap<(u64, u64), Key> = BTreeMap::new();
    let mut out = Vec::new();
    for round in 0..20_000u64 {
        let at = start + Duration::from_nanos(rng.random_range(round * 10..round * 10 + 5_000));
        let when = alarm.count_of(Some(at));
        let mut make = |key: Key| -> Box<dyn Timed> {
            armed.insert((when, key.id), key);
            Box::new(Probe { when, id: key.id, fired: Arc::clone(&fired) })
        };
        match rng.random_range(0..8) {
            0..4 => assert!(timers.arm_timer(&alarm, Some(at), || true, make).is_some()),
            4 => match out.pop() {
                Some(key) if rng.random_range(0..2) == 0 => assert!(timers.end_timer(key)),
                Some(key) => {
                    let timed = make(key);
                    assert!(timers.rearm_timer(&alarm, key, Some(at), timed).is_ok());
                }
                None => {}
            },
            5 | 6 => {
                let place = rng.random_range(0..armed.len().max(1));
                let Some((&at, &key)) = armed.iter().nth(place) else { continue };
                armed.remove(&at);
                assert!(timers.cancel_timer(key));
                assert!(
                    !timers.is_valid(key) && !timers.cancel_timer(key) && !timers.end_timer(key)
                );
            }
            _ => {
                let now = start + Duration::from_nanos(round * 10);
                drop(timers.fire_due(&alarm, now, || true));
                let later = armed.split_off(&(alarm.count_of(Some(now)) + 1, 0));
                let due = std::mem::replace(&mut armed, later);
                assert_eq!(
                    std::mem::take(&mut *fired.lock()),
                    due.keys().copied().collect::<Vec<_>>()
                );
                out.extend(due.into_values());
                assert_eq!(alarm.is_set(), !armed.is_empty());
                let first = armed.keys().next().map(|first| first.0);
                assert!(
                    first.is_none_or(|first| !alarm.lower_to(first)),
                    "the alarm is later than a timer"
                );
            }
        }
        assert_eq!(timers.armed_timers(), armed.len());
    }
    out.into_iter().for_each(|key| assert!(timers.end_timer(key)));
    timers.refuse_timers(&alarm);
    drop(timers.fire_due(&alarm, start, || true));
    assert_eq!((timers.armed_timers(), alarm.is_set()), (0, false));
    assert!(timers.arm_timer(&alarm, Some(start), || true, |_| unreachable!("closed")).is_none());
    let table = timers.0.lock();
    assert_eq!(
        (table.in_use, table.slots.capacity()),
        (0, 0),
        "an empty table gives its memory back"
    );
}

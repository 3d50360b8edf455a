//! Tables of waits: actors of one or two executors that begin to wait for each other at the same
//! time.
//!
//! Covers: at least one wait of a cycle is refused, through two tables and through a forward;
//! inside one table exactly one is refused. An actor that has been answered is not taken for a
//! waiting one.
//!
//! Does not cover: pools' queues and successions, which are followed in the same way, under locks
//! of their own.

use super::{explore, spawn};
use crate::cell::waits::{ActorKey, WaitTarget, Waits};
use crate::id::ActorId;
use crate::id::WaitingActor;
use crate::sync::ThreadWaker;
use loom::sync::Arc as LoomArc;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::task::Wake;

/// Address of an ask.
const ASK: usize = 64;

/// The table of each executor.
type Tables = [Arc<Waits>; 2];

fn id(n: u64) -> ActorId {
    ActorId::from_raw(NonZeroU64::new(n).expect("ids begin at 1"))
}

fn place(tables: &Tables, table: usize, n: u64) -> ActorKey {
    ActorKey { table: Arc::clone(&tables[table]), id: id(n) }
}

/// Makes an actor begin to wait for another, each given as table and number. Returns `true` if the
/// wait is refused.
fn refused(
    tables: &Tables,
    (table, who): (usize, u64),
    (other, whom): (usize, u64),
    ask: usize,
    bell: &Arc<ThreadWaker>,
) -> bool {
    let named = |n| WaitingActor { id: id(n), type_name: "", name: None };
    let target = WaitTarget { at: place(tables, other, whom), sharing: None, ask };
    tables[table].register_wait(named(who), named(whom), target, bell).is_err()
}

#[test]
fn a_cycle_through_two_tables_is_refused() {
    explore(3, || {
        let tables = LoomArc::new(Tables::default());
        let other =
            spawn(&tables, |tables| refused(tables, (1, 2), (0, 1), 0, &ThreadWaker::new()));
        let one = refused(&tables, (0, 1), (1, 2), 0, &ThreadWaker::new());
        assert!(other.join().unwrap() || one, "both wait");
    });
}

#[test]
fn of_a_cycle_in_one_table_one_line_is_refused() {
    explore(3, || {
        let tables = LoomArc::new(Tables::default());
        let other =
            spawn(&tables, |tables| refused(tables, (0, 2), (0, 1), 0, &ThreadWaker::new()));
        let one = refused(&tables, (0, 1), (0, 2), 0, &ThreadWaker::new());
        // One lock orders the two, so exactly the second is refused.
        assert!(other.join().unwrap() != one, "the first one waits, and the other one is refused");
    });
}

#[test]
fn a_cycle_through_a_forward_is_refused() {
    explore(2, || {
        let tables = LoomArc::new(Tables::default());
        // Actor 2 was asked, and forwards to actor 3, which waits for actor 1.
        let other = spawn(&tables, |tables| {
            tables[0].register_forward(ASK, place(tables, 1, 3)).is_err()
                || refused(tables, (1, 3), (0, 1), 0, &ThreadWaker::new())
        });
        let one = refused(&tables, (0, 1), (0, 2), ASK, &ThreadWaker::new());
        assert!(other.join().unwrap() || one, "all wait");
    });
}

#[test]
fn who_has_been_answered_is_not_refused() {
    explore(2, || {
        let tables = LoomArc::new(Tables::default());
        let bell = ThreadWaker::new();
        let rung = Arc::clone(&bell);
        let other = spawn(&tables, move |tables| {
            // The answer comes first: actor 1 counts as answered, and its line no longer as a wait.
            rung.wake_by_ref();
            refused(tables, (1, 2), (0, 1), 0, &ThreadWaker::new())
        });
        assert!(!refused(&tables, (0, 1), (1, 2), 0, &bell), "2 answers");
        assert!(!other.join().unwrap(), "1 is about to go on");
    });
}

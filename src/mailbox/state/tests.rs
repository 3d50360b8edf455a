//! Unit tests of the state word's table, one step at a time.

use super::*;

#[test]
fn a_full_or_closed_mailbox_accepts_nothing() {
    let state = State::new();
    assert_eq!(state.reserve_place(1, false), Reserve::Accepted { schedule: false });
    assert_eq!(state.reserve_place(1, false), Reserve::Full);
    assert_eq!(state.reserve_exempt(), Reserve::Accepted { schedule: false });
    assert!(!state.set_closed(false), "its runnable exists");
    assert_eq!(state.reserve_place(9, false), Reserve::Closed);
    assert_eq!(state.end_turn(2, false), EndTurn::Ending);
    assert!(state.wait_for_stop());
    assert_eq!(state.set_dead(false), None);
    assert_eq!(state.set_dead(true), Some(Dead { tell_waiters: true, free: false }));
    assert!(!state.wait_for_stop());
    assert_eq!(state.release_ref(), Release::Free);
}

#[test]
fn who_is_wanted_looks_before_it_is_idle() {
    let state = State::new();
    assert!(!state.request_queue_check(), "it has a turn");
    assert_eq!(state.end_turn(0, false), EndTurn::CheckQueue);
    assert_eq!(state.reserve_exempt(), Reserve::Accepted { schedule: false });
    assert_eq!(
        state.end_turn(0, true),
        EndTurn::More { from_outside: false },
        "it found something"
    );
    assert_eq!(state.end_turn(1, true), EndTurn::CheckQueue, "and may find more");
    state.clear_queue_check();
    assert_eq!(state.end_turn(0, true), EndTurn::Idle);
    assert!(state.request_queue_check(), "it has none");
    assert!(state.reserve_idle());
    assert!(!state.reserve_idle());
}

#[test]
fn a_stop_of_the_state_is_seen_by_the_turns_last_step() {
    let state = State::new();
    assert_eq!(state.request_retire(), Some(false), "it has a turn");
    assert!(state.begin_turn().ends_state());
    assert!(!state.end_idle(0), "the usual way out is closed");
    assert_eq!(state.end_turn(0, false), EndTurn::Retire);
    assert_eq!(state.end_turn(0, false), EndTurn::Idle, "it is said once");
    assert_eq!(state.request_retire(), Some(true), "it has none");
    assert!(!state.clear_retire().ends_state());
    assert!(state.end_idle(0));
    assert_eq!(state.request_retire(), Some(true));
    assert!(!state.set_closed(false));
    assert_eq!(state.request_retire(), None, "its last state");
    assert_eq!(state.end_turn(0, false), EndTurn::Ending, "which ends with the actor");
}

#[test]
fn the_last_reference_schedules_the_final_turn_once() {
    let state = State::new();
    assert_eq!(state.end_turn(0, false), EndTurn::Idle);
    state.add_ref();
    assert_eq!(state.release_ref(), Release::Nothing);
    assert_eq!(state.release_ref(), Release::Schedule);
    assert!(state.try_upgrade(), "a weak reference may still come first");
    assert_eq!(state.end_turn(0, false), EndTurn::Idle);
    assert_eq!(state.release_ref(), Release::Schedule);
    assert_eq!(state.end_turn(0, false), EndTurn::Unreferenced);
    assert!(!state.try_upgrade());
    assert!(state.set_dead(false).unwrap().free);
}

#[test]
fn a_detached_actor_needs_no_reference() {
    let state = State::new();
    state.set_detached();
    assert_eq!(state.release_ref(), Release::Nothing);
    assert_eq!(state.end_turn(0, false), EndTurn::Idle);
    assert!(state.set_closed(true));
    assert_eq!(state.end_turn(0, false), EndTurn::Ending);
}

#[test]
fn nobody_barges_past_those_who_wait_for_room() {
    let state = State::new();
    assert_eq!(state.reserve_place(1, false), Reserve::Accepted { schedule: false });
    assert_eq!(state.wait_for_room(Some(0)), RoomWait::Waiting);
    assert_eq!(state.end_turn(1, false), EndTurn::ServeRoom);
    assert_eq!(state.reserve_place(1, false), Reserve::Full);
    state.set_notices_to_come();
    assert!(!state.end_idle(0));
    assert_eq!(state.end_turn(0, true), EndTurn::More { from_outside: false });
    assert_eq!(state.end_turn(0, false), EndTurn::ServeRoom, "once more in each turn");
    assert_eq!(
        state.reserve_place(1, false),
        Reserve::Accepted { schedule: false },
        "the room may be used"
    );
    state.clear_room_wait();
    assert_eq!(state.end_turn(1, false), EndTurn::Idle);
}

#[test]
fn what_an_outside_thread_sends_to_a_scheduled_actor_is_told_once() {
    let state = State::new();
    assert_eq!(state.reserve_place(9, true), Reserve::Accepted { schedule: false });
    assert_eq!(state.reserve_place(9, true), Reserve::Accepted { schedule: false });
    assert_eq!(state.end_turn(1, false), EndTurn::More { from_outside: true });
    assert_eq!(state.reserve_place(9, false), Reserve::Accepted { schedule: false });
    assert_eq!(state.end_turn(1, false), EndTurn::More { from_outside: false });
    assert_eq!(state.reserve_place(9, true), Reserve::Accepted { schedule: false });
    assert!(state.end_idle(2), "its message was handled, and the mark goes with it");
    assert_eq!(state.reserve_place(9, true), Reserve::Accepted { schedule: true });
    assert_eq!(state.reserve_place(9, false), Reserve::Accepted { schedule: false });
    assert_eq!(
        state.end_turn(1, false),
        EndTurn::More { from_outside: false },
        "it pushed the runnable itself"
    );
}

//! Tests of a mailbox that is as full as any can be. Messages exempt from capacities become dead
//! letters then, with this reason.

use crate::actor::context::Context;
use crate::actor::refs::ActorRef;
use crate::actor::{Actor, Handler};
use crate::cell::event::{DeadLetterCounts, DeadLetterReason, Event};
use crate::error::Refusal;
use crate::executor::Executor;
use crate::time::{self, Duration};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::any::type_name;
use std::thread;

struct Asking {
    other: ActorRef<Other>,
    goes_on: Receiver<()>,
}

impl Actor for Asking {}

/// Asks, reports the ask, and waits inside the turn.
struct HoldTurn(Sender<()>);

impl Handler<HoldTurn> for Asking {
    type Reply = ();
    fn handle(&mut self, HoldTurn(asked): HoldTurn, ctx: &mut Context<Self>) {
        let unreachable = |_: &mut Self, _, _: &mut Context<Self>| unreachable!("it has no place");
        ctx.ask_then(&self.other, Question, unreachable).unwrap();
        asked.send(()).unwrap();
        self.goes_on.recv().unwrap();
    }
}

struct Note;

impl Handler<Note> for Asking {
    type Reply = ();
    fn handle(&mut self, _: Note, _: &mut Context<Self>) {}
}

struct Other(Receiver<()>);

impl Actor for Other {}

struct Question;

impl Handler<Question> for Other {
    type Reply = ();
    fn handle(&mut self, _: Question, _: &mut Context<Self>) {
        self.0.recv().unwrap();
    }
}

#[test]
fn a_mailbox_that_holds_all_it_can_makes_dead_letters_of_what_is_exempt() {
    let (telling, told) = crossbeam_channel::unbounded();
    let hook = move |event: &Event| {
        if let Event::DeadLetters { reason, count, message_type, .. } = event {
            telling.send((*reason, *count, *message_type)).unwrap();
        }
    };
    let executor = Executor::builder().workers(3).on_event(hook).build().unwrap();
    let ((answer, answers), (go_on, goes_on), (asked, is_asked)) =
        (bounded(1), bounded(1), bounded(1));
    let other = executor.spawn(Other(answers));
    let owner = executor.build(Asking { other, goes_on }).unbounded().spawn();
    owner.tell(HoldTurn(asked)).unwrap();
    is_asked.recv().unwrap();

    let places = owner.header().state.reserve_all_places();
    assert_eq!(owner.tell(Note).unwrap_err().refusal(), Refusal::Full);
    // A due timer, and an answer.
    let timer = owner.tell_after(Duration::ZERO, Note).unwrap();
    let next = || told.recv_timeout(Duration::from_secs(60)).expect("a dead letter is told");
    assert_eq!(next(), (DeadLetterReason::Full, 1, type_name::<Note>()));
    assert!(!timer.is_armed() && !timer.cancel());
    answer.send(()).unwrap();
    assert_eq!(next(), (DeadLetterReason::Full, 1, "()"));

    // The actor goes on as if nothing had happened.
    let _ = owner.header().state.give_places_back(places);
    owner.tell(Note).unwrap();
    go_on.send(()).unwrap();
    let limit = time::now() + Duration::from_secs(60);
    while !owner.is_empty() {
        assert!(time::now() < limit, "it does not come to the note");
        thread::yield_now();
    }
    executor.wait_idle().unwrap();
    let stats = executor.stats();
    assert_eq!(stats.dead_letters, DeadLetterCounts { full: 2, ..DeadLetterCounts::default() });
    assert_eq!(stats.accepted, stats.handled + stats.dead_letters.total());
}

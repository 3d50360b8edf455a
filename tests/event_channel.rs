//! Tests the channel of events: order, capacity, and its end with the executor.

mod common;

use common::{LONG, Puppet, build, ended, intended_panic, quiet_panics, shut_down};
use heist::event::Events;
use heist::{Context, Event, Executor};
use std::sync::mpsc::{RecvError, RecvTimeoutError, TryRecvError};
use std::time::Duration;

/// Causes an event in a new actor, and returns the actor's id. The event was told by then.
fn panics(executor: &Executor) -> heist::ActorId {
    let puppet = executor.spawn(Puppet::default());
    let run = common::Run(|_: &mut Puppet, _: &mut Context<Puppet>| intended_panic());
    puppet.tell(run).unwrap();
    ended(&puppet);
    puppet.id()
}

fn who(event: Event) -> heist::ActorId {
    let Event::Panicked { actor, .. } = event else { panic!("{event}") };
    actor
}

#[test]
fn events_come_in_order_by_each_call() {
    quiet_panics();
    let (builder, mut events) = Executor::builder().workers(2).event_channel(100);
    let executor = build(builder);
    assert_eq!(events.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(events.recv_timeout(Duration::from_millis(1)), Err(RecvTimeoutError::Timeout));
    assert_eq!((events.len(), events.is_empty(), events.size_hint()), (0, true, (0, None)));

    let ids: Vec<_> = (0..6).map(|_| panics(&executor)).collect();
    assert_eq!((events.len(), events.size_hint()), (6, (6, None)));
    assert_eq!(format!("{events:?}"), "Events { len: 6, .. }");
    let first = [
        events.recv().unwrap(),
        events.recv_timeout(Duration::from_secs(LONG)).unwrap(),
        events.recv_timeout(Duration::MAX).unwrap(),
        events.try_recv().unwrap(),
        events.next().unwrap(),
    ];
    let seen: Vec<_> = first.into_iter().chain(events.try_iter()).map(who).collect();
    assert_eq!(seen, ids);
    assert_eq!(events.try_iter().next(), None);
    shut_down(&executor);
}

#[test]
fn what_is_left_can_be_received_after_the_executors_end() {
    quiet_panics();
    let (builder, mut events) = Executor::builder().workers(1).event_channel(100);
    let executor = build(builder);
    let id = panics(&executor);
    shut_down(&executor);
    assert_eq!(events.by_ref().map(who).collect::<Vec<_>>(), [id]);
    assert_eq!(events.next(), None);
    assert_eq!(events.recv(), Err(RecvError));
    assert_eq!(events.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(events.recv_timeout(Duration::MAX), Err(RecvTimeoutError::Disconnected));

    let (builder, events) = Executor::builder().event_channel(1);
    drop(builder);
    assert_eq!(events.recv(), Err(RecvError), "there will be no executor");
}

/// A thread that waits is woken by an event, and then by the end.
#[test]
fn another_thread_may_receive() {
    quiet_panics();
    let (builder, events) = Executor::builder().workers(1).event_channel(1);
    let executor = build(builder);
    let receiver = std::thread::spawn(move || events.map(who).collect::<Vec<_>>());
    let id = panics(&executor);
    shut_down(&executor);
    assert_eq!(receiver.join().unwrap(), [id]);
}

/// A full channel loses the newest events, and a dropped one all of them. No thread waits.
#[test]
fn events_without_room_are_lost() {
    quiet_panics();
    let (builder, events) = Executor::builder().workers(1).event_channel(2);
    let executor = build(builder);
    let ids: Vec<_> = (0..5).map(|_| panics(&executor)).collect();
    assert_eq!(events.try_iter().map(who).collect::<Vec<_>>(), ids[..2]);
    let next = panics(&executor);
    assert_eq!(who(events.recv().unwrap()), next);
    drop(events);
    panics(&executor);
    shut_down(&executor);

    let (builder, events) = Executor::builder().workers(1).event_channel(0);
    let executor = build(builder);
    panics(&executor);
    assert_eq!(events.try_recv(), Err(TryRecvError::Empty));
    shut_down(&executor);
}

#[test]
fn the_channel_may_go_to_any_thread() {
    fn any<T: Send + Sync + 'static>() {}
    any::<Events>();
}

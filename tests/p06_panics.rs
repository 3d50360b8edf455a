//! Tests P6, a panic stays inside: a panic fails its actor only, and the askers get the cause. The
//! worker and every other actor go on.
//!
//! The matrix covers each place in which user code can panic, however the message came, on one and
//! on two workers.

mod common;

use common::*;
use heist::event::PanicPlace;
use heist::*;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::{Arc, mpsc};
use std::task::{Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

type Me<'a> = &'a mut Puppet;
type Ctx<'a> = &'a mut Context<Puppet>;

/// The reported text of a panic with a payload that is not text.
const NO_TEXT: &str = "a panic whose payload is not a string";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Handler,
    /// A payload that panics with another such payload when dropped, this many times.
    Payload(u32),
    Started,
    Stopped,
    StateDrop,
    /// The drop of a message in its handler.
    MessageDrop,
    /// The drop of a message that is no longer handled.
    LeftoverDrop,
    /// The drop of an answer without an asker.
    ReplyDrop,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Ask,
    Tell,
    AskThen,
}

const PLACES: [Place; 10] = [
    Place::Handler,
    Place::Payload(0),
    Place::Payload(1),
    Place::Payload(5),
    Place::Started,
    Place::Stopped,
    Place::StateDrop,
    Place::MessageDrop,
    Place::LeftoverDrop,
    Place::ReplyDrop,
];

/// Panics when dropped, if armed.
struct Armed(bool);

impl Drop for Armed {
    fn drop(&mut self) {
        if self.0 {
            intended_panic();
        }
    }
}

struct Fragile {
    place: Place,
    /// Opened when the preparations are over. `started` waits for the latch.
    go: Latch,
    // Fields are dropped in this order: the replies in the middle of the unwinding.
    _state: Armed,
    kept: Vec<Reply<u64>>,
    _token: Token,
}

impl Actor for Fragile {
    fn started(&mut self, _: &mut Context<Self>) {
        self.go.wait();
        if self.place == Place::Started {
            intended_panic();
        }
    }
    fn stopped(&mut self, _: &StopReason) {
        if self.place == Place::Stopped {
            intended_panic();
        }
    }
}

struct Keep;
impl Receive<Keep> for Fragile {
    type Reply = u64;
    fn receive(&mut self, _: Keep, reply: Reply<u64>, _: &mut Context<Self>) {
        self.kept.push(reply);
    }
}

/// Triggers the panic, if the place lies in the handling of a message.
struct Trigger(Armed);
impl Handler<Trigger> for Fragile {
    type Reply = Armed;
    fn handle(&mut self, Trigger(message): Trigger, _: &mut Context<Self>) -> Armed {
        match self.place {
            Place::Handler => intended_panic(),
            Place::Payload(depth) => Bomb::explode(depth),
            Place::ReplyDrop => Armed(true),
            _ => {
                drop(message);
                Armed(false)
            }
        }
    }
}

struct Later(Token);
impl Handler<Later> for Fragile {
    type Reply = u64;
    fn handle(&mut self, Later(token): Later, _: &mut Context<Self>) -> u64 {
        token.number as u64
    }
}

/// The asks of one row and their outcomes.
struct Asked {
    fragile: ActorRef<Fragile>,
    kept: Ask<u64>,
    /// By ask or by callback.
    trigger: Option<Ask<Armed>>,
    queued: Vec<Ask<u64>>,
}

/// Checks one row of the matrix.
fn check(place: Place, by: By, workers: usize) {
    let row = format!("{place:?} by {by:?} on {workers}");
    let (events, tokens) = (EventLog::new(), Tokens::new());
    let executor = build(Executor::builder().workers(workers).on_event(events.hook()));
    let bystander = executor.spawn(Puppet::default());
    let (called, callback) = mpsc::channel();
    let go = Latch::new();
    let token = tokens.token();
    let fragile = Fragile {
        place,
        go: go.clone(),
        _state: Armed(place == Place::StateDrop),
        kept: vec![],
        _token: token,
    };
    let later = [(); 3].map(|()| Later(tokens.token()));
    // Prepares everything in one turn, before the fragile actor gets its first turn.
    let prepare = move |_: Me<'_>, ctx: Ctx<'_>| {
        let fragile = ctx.spawn(fragile);
        let kept = fragile.ask(Keep).unwrap();
        let trigger = Trigger(Armed(matches!(place, Place::MessageDrop | Place::LeftoverDrop)));
        let mut asked = None;
        match by {
            By::Tell => fragile.tell(trigger).unwrap(),
            // The actor drops this answer, so no asker may wait for it.
            By::Ask if place == Place::ReplyDrop => drop(fragile.ask(trigger).unwrap()),
            By::Ask => asked = Some(fragile.ask(trigger).unwrap()),
            By::AskThen => ctx
                .ask_then(&fragile, trigger, move |_, answer, _| {
                    called.send(answer.map(drop)).unwrap()
                })
                .unwrap(),
        }
        let queued = later.map(|later| fragile.ask(later).unwrap()).into();
        match place {
            Place::Stopped | Place::StateDrop => fragile.stop(),
            Place::LeftoverDrop => fragile.stop_now(),
            _ => {}
        }
        go.open();
        Asked { fragile, kept, trigger: asked, queued }
    };
    let Asked { fragile, kept, trigger, queued } =
        answer(bystander.ask(Run(prepare)).unwrap()).unwrap();

    let text = if matches!(place, Place::Payload(_)) { NO_TEXT } else { INTENDED };
    assert_eq!(panicked(ended(&fragile)).as_deref(), Some(text), "{row}: why it ended");
    let no_answer = |why: AskError| match why {
        AskError::Panicked(said) => said.to_string(),
        other => format!("{other:?}"),
    };
    let (of_kept, of_rest) = match place {
        // Handled before the end. The hook might have given the kept reply, but the drop could not.
        Place::Stopped => (Err(text), Ok(())),
        Place::StateDrop => (Err("Stopped"), Ok(())),
        // Already dropped before the panic.
        Place::LeftoverDrop => (Err("Stopped"), Err("Stopped")),
        _ => (Err(text), Err(text)),
    };
    let check = |got: Result<(), AskError>, wanted: Result<(), &str>, what| {
        assert_eq!(got.map_err(no_answer), wanted.map_err(str::to_string), "{row}: {what}");
    };
    check(answer(kept).map(drop), of_kept, "the reply that it kept");
    if let Some(trigger) = trigger {
        check(answer(trigger).map(drop), of_rest, "the ask in work");
    } else if by == By::AskThen {
        let called = callback.recv_timeout(Duration::from_secs(LONG)).expect("the callback runs");
        check(called, of_rest, "the callback");
    }
    queued.into_iter().for_each(|ask| check(answer(ask).map(drop), of_rest, "a queued ask"));

    settle(&executor);
    assert_eq!(answer(bystander.ask(Note(7)).unwrap()), Ok(7), "{row}: the bystander");
    assert_all_workers_work(&executor);
    let wanted_place = match place {
        Place::Started => PanicPlace::Started,
        Place::Stopped => PanicPlace::Stopped,
        Place::StateDrop => PanicPlace::StateDrop,
        Place::LeftoverDrop => PanicPlace::MessageDrop,
        _ => PanicPlace::Handler,
    };
    let told: Vec<_> =
        events.all().into_iter().filter(|event| matches!(event, Event::Panicked { .. })).collect();
    let [Event::Panicked { actor, type_name, place, text: said, .. }] = &told[..] else {
        panic!("{row}: {told:?}")
    };
    assert_eq!((*actor, *place, said.as_str()), (fragile.id(), wanted_place, text), "{row}");
    assert!(type_name.ends_with("Fragile"), "{row}: {type_name}");
    assert_eq!(executor.stats().panicked, 1, "{row}");
    shut_down(&executor);
    drop(fragile);
    tokens.assert_each_dropped_once();
}

fn panicked(reason: StopReason) -> Option<String> {
    match reason {
        StopReason::Panicked(text) => Some(text.to_string()),
        _ => None,
    }
}

/// Checks that as many turns run at the same time as there are workers.
#[track_caller]
fn assert_all_workers_work(executor: &Executor) {
    let held: Vec<_> =
        (0..executor.workers()).map(|_| Held::hold(&executor.spawn(Puppet::default()))).collect();
    drop(held);
}

#[test]
fn p06_a_panic_anywhere_stays_inside() {
    quiet_panics();
    for workers in [1, 2] {
        for place in PLACES {
            for by in [By::Ask, By::Tell, By::AskThen] {
                if (place, by) != (Place::ReplyDrop, By::AskThen) {
                    check(place, by, workers); // (the asker drops an answer to a callback)
                }
            }
        }
    }
}

/// A thousand panics, one after another, while the second worker may be stealing, parking or
/// waking.
#[test]
fn p06_the_crew_survives_any_number_of_panics() {
    quiet_panics();
    on_every_crew(|executor| {
        let bystander = executor.spawn(Puppet::default());
        for round in 0..200 {
            let puppets: Vec<_> = (0..5).map(|_| executor.spawn(Puppet::default())).collect();
            let asks: Vec<_> = puppets
                .iter()
                .map(|puppet| puppet.ask(Run(|_: Me<'_>, _: Ctx<'_>| intended_panic())).unwrap())
                .map(|ask: Ask<()>| cause(ask))
                .collect();
            assert!(asks.iter().all(|text| text == INTENDED));
            assert_eq!(answer(bystander.ask(Note(round)).unwrap()), Ok(round));
        }
        settle(executor);
        assert_eq!(executor.stats().panicked, 1000);
        assert_all_workers_work_unless_sharded(executor);
    });
}

fn assert_all_workers_work_unless_sharded(executor: &Executor) {
    if executor.policy() != Policy::Sharded {
        assert_all_workers_work(executor);
    }
}

/// A callback of `ask_then` is code of the asking actor, which alone fails.
#[test]
fn p06_a_panicking_callback_fails_the_asker_only() {
    quiet_panics();
    on_every_crew(|executor| {
        let (asker, asked) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
        let target = asked.clone();
        let ask = move |_: Me<'_>, ctx: Ctx<'_>| {
            ctx.ask_then(&target, Note(1), |_, _, _| intended_panic()).unwrap();
        };
        asker.tell(Run(ask)).unwrap();
        assert_eq!(panicked(ended(&asker)).as_deref(), Some(INTENDED));
        assert_eq!(answer(asked.ask(Log).unwrap()).unwrap(), [1]);
    });
}

/// A reply dropped by a caught panic answers with an error, although the turn succeeds.
#[test]
fn p06_a_reply_dropped_by_a_panic_that_the_handler_catches() {
    struct Careful;
    impl Actor for Careful {}
    impl Receive<()> for Careful {
        type Reply = u64;
        fn receive(&mut self, (): (), reply: Reply<u64>, _: &mut Context<Self>) {
            let caught = catch_unwind(AssertUnwindSafe(move || {
                let _dropped_while_unwinding = reply;
                intended_panic()
            }));
            assert!(caught.is_err());
        }
    }
    quiet_panics();
    on_every_crew(|executor| {
        let careful = executor.spawn(Careful);
        for _ in 0..3 {
            assert_eq!(answer(careful.ask(()).unwrap()), Err(AskError::NoReply));
        }
        assert!(careful.is_running());
    });
}

/// Makes a waker that panics in every call a worker makes. The panic must affect neither actor nor
/// worker.
fn panicking_waker(wakes: &Arc<AtomicU64>) -> Waker {
    fn wake(data: *const ()) {
        // SAFETY: the vtable is made for data from `Arc::into_raw`, and `wake` consumes the one
        // count of this data.
        unsafe { Arc::from_raw(data.cast::<AtomicU64>()) }.fetch_add(1, Relaxed);
        intended_panic()
    }
    const TABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            // SAFETY: the data comes from `Arc::into_raw` and its count is alive. The clone adds a
            // count.
            unsafe { Arc::increment_strong_count(data.cast::<AtomicU64>()) };
            RawWaker::new(data, &TABLE)
        },
        wake,
        |_| unreachable!("nobody wakes by reference here"),
        // SAFETY: the data comes from `Arc::into_raw`, and the drop consumes its count.
        |data| drop(unsafe { Arc::from_raw(data.cast::<AtomicU64>()) }),
    );
    let data = Arc::into_raw(Arc::clone(wakes));
    // SAFETY: the functions of the table own one count of an `Arc` for each waker, and an atomic is
    // `Send` and `Sync`.
    unsafe { Waker::from_raw(RawWaker::new(data.cast(), &TABLE)) }
}

#[test]
fn p06_a_panicking_waker_harms_nobody() {
    fn leave<F: Future + Unpin>(future: &mut F, waker: &Waker) {
        assert!(matches!(
            Pin::new(future).poll(&mut std::task::Context::from_waker(waker)),
            Poll::Pending
        ));
    }
    quiet_panics();
    for workers in [1, 2] {
        let executor = crew(workers);
        let wakes = Arc::new(AtomicU64::new(0));
        let waker = panicking_waker(&wakes);
        let puppet = executor.build(Puppet::default()).capacity(2).spawn();
        let held = Held::hold(&puppet);
        let mut asked = puppet.ask(Note(1)).unwrap();
        let mut sending = puppet.send_async(Note(2));
        let mut stopped = puppet.wait_stopped_async();
        let mut idle = executor.wait_idle_async();
        leave(&mut asked, &waker);
        leave(&mut sending, &waker);
        leave(&mut stopped, &waker);
        leave(&mut idle, &waker);
        drop(held);
        within(LONG, "ask, send and idle to be woken", || wakes.load(Relaxed) >= 3);
        assert_eq!(futures::executor::block_on(asked), Ok(1));
        futures::executor::block_on(sending).unwrap();
        assert_eq!(answer(puppet.ask(Log).unwrap()).unwrap(), [1, 2], "the actor went on");
        puppet.stop();
        assert_eq!(ended(&puppet), StopReason::Stopped);
        within(LONG, "the end to be told", || wakes.load(Relaxed) >= 4);
        settle(&executor);
        assert_all_workers_work(&executor);
        assert_eq!(executor.stats().panicked, 0, "no actor's code panicked");
        drop((stopped, idle));
        shut_down(&executor);
        drop(waker);
        assert_eq!(Arc::strong_count(&wakes), 1, "each waker was used up or dropped");
    }
}

#[test]
fn p06_a_panicking_event_hook_is_swallowed() {
    quiet_panics();
    for workers in [1, 2] {
        let calls = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&calls);
        let hook = move |_: &Event| {
            seen.fetch_add(1, Relaxed);
            intended_panic()
        };
        let executor = build(Executor::builder().workers(workers).on_event(hook));
        for _ in 0..10 {
            let puppet = executor.spawn(Puppet::default());
            let held = Held::hold(&puppet);
            puppet.tell(Run(|_: Me<'_>, _: Ctx<'_>| intended_panic())).unwrap();
            let queued = puppet.ask(Note(1)).unwrap();
            drop(held);
            assert_eq!(cause(queued), INTENDED);
            assert_eq!(panicked(ended(&puppet)).as_deref(), Some(INTENDED));
        }
        settle(&executor);
        assert_eq!(calls.load(Relaxed), 20, "a panic and a dead letter each");
        assert_all_workers_work(&executor);
        shut_down(&executor);
    }
}

/// Drops of messages, answers and states use the executor, which must hold no lock meanwhile.
#[test]
fn p06_drops_may_send_spawn_and_stop() {
    struct Busy(ActorRef<Puppet>, Handle);
    impl Drop for Busy {
        fn drop(&mut self) {
            self.0.tell(Note(1)).unwrap();
            let other = self.1.spawn(Puppet::default());
            other.tell(Note(2)).unwrap();
            other.stop();
        }
    }
    quiet_panics();
    on_every_crew(|executor| {
        let witness = executor.build(Puppet::default()).unbounded().spawn();
        let busy = || Busy(witness.clone(), executor.handle());
        for kill in [false, true] {
            let puppet = executor.build(Puppet::default()).capacity(20).spawn();
            let keep = busy();
            let keep = move |me: Me<'_>, _: Ctx<'_>| me.kept.push(Box::new(keep));
            answer(puppet.ask(Run(keep)).unwrap()).unwrap();
            let held = Held::hold(&puppet);
            if !kill {
                puppet.tell(Run(|_: Me<'_>, _: Ctx<'_>| intended_panic())).unwrap();
            }
            for _ in 0..10 {
                let message = busy();
                drop(puppet.ask(Run(move |_: Me<'_>, _: Ctx<'_>| message)).unwrap());
            }
            if kill {
                puppet.stop_now();
            }
            drop(held);
            ended(&puppet);
        }
        settle(executor);
        assert_eq!(answer(witness.ask(Log).unwrap()).unwrap().len(), 22);
        assert_eq!(executor.stats().live_actors, 1);
    });
}

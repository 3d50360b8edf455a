//! Tests backlogs: hundreds of waiting messages of several types and sizes, so that some lie in
//! segments, some in blocks of their own, and some segments are only partly used.
//!
//! The promises about order and about single messages hold for a backlog too.

mod common;

use common::*;
use heist::strategy::{SharedQueue, ToIndex};
use heist::*;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A handled message: its kind, its sender and its number.
type Seen = (char, u8, u32);
type Log = Arc<Mutex<Vec<Seen>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Nothing;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Small(u8, u32);
/// Has the size of `Small`, but is another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Other(u8, u32);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Middle(u8, u32, [u64; 2]);
/// Too large for a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Large(u8, u32, [u64; 6]);
/// Has the strictest alignment that a segment's slots allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Aligned(u128);
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
struct TooAligned(u8, u32);

struct Clerk {
    log: Log,
    waits: Option<(Latch, Latch)>,
}

impl Actor for Clerk {
    fn started(&mut self, _: &mut Context<Self>) {
        if let Some((entered, until)) = self.waits.take() {
            entered.open();
            blocking(|| until.wait()); // with one worker, a plain wait would stop the crew
        }
    }
}

impl Clerk {
    fn saw(&self, kind: char, sender: u8, number: u32) {
        self.log.lock().unwrap().push((kind, sender, number));
    }
}

macro_rules! noted {
    ($($message:ty: $pattern:pat => $kind:expr, $sender:expr, $number:expr;)*) => { $(
        impl Handler<$message> for Clerk {
            type Reply = ();
            fn handle(&mut self, message: $message, _: &mut Context<Self>) {
                let $pattern = message;
                self.saw($kind, $sender, $number);
            }
        }
    )* };
}

noted! {
    Nothing: Nothing => 'n', 0, 0;
    Small: Small(sender, number) => 's', sender, number;
    Other: Other(sender, number) => 'o', sender, number;
    Middle: Middle(sender, number, rest) => if rest == [7, u64::from(number)] { 'm' } else { '?' }, sender, number;
    Large: Large(sender, number, rest) => if rest == [u64::from(number); 6] { 'l' } else { '?' }, sender, number;
    Aligned: Aligned(both) => if (&raw const both).addr() % align_of::<u128>() == 0 { 'a' } else { '?' }, (both >> 64) as u8, both as u32;
    TooAligned: TooAligned(sender, number) => 't', sender, number;
}

/// Sends one message of a kind. Some kinds are asks, which lie between told messages.
fn send(to: &ActorRef<Clerk>, kind: char, sender: u8, number: u32) {
    match kind {
        'n' => to.tell(Nothing).unwrap(),
        's' => to.tell(Small(sender, number)).unwrap(),
        'S' => drop(to.ask(Small(sender, number)).unwrap()),
        'o' => to.tell(Other(sender, number)).unwrap(),
        'm' => to.tell(Middle(sender, number, [7, u64::from(number)])).unwrap(),
        'l' => to.tell(Large(sender, number, [u64::from(number); 6])).unwrap(),
        'a' => to.tell(Aligned((u128::from(sender) << 64) | u128::from(number))).unwrap(),
        't' => to.tell(TooAligned(sender, number)).unwrap(),
        _ => unreachable!(),
    }
}

/// Picks mostly the last kind again, so that long runs of one kind alternate with short ones.
fn kind_of(dice: &Dice, of: &[char], last: char) -> char {
    if dice.below(12) > 0 { last } else { of[dice.below(of.len() as u64) as usize] }
}

fn seen(kind: char, sender: u8, number: u32) -> Seen {
    match kind {
        'n' => ('n', 0, 0),
        'S' => ('s', sender, number),
        _ => (kind, sender, number),
    }
}

/// Spawns a clerk. With `held`, the clerk's first turn lasts until the returned latch is open.
fn clerk(executor: &Executor, held: bool) -> (ActorRef<Clerk>, Log, Option<Latch>) {
    let (log, entered, until) = (Log::default(), Latch::new(), Latch::new());
    let waits = held.then(|| (entered.clone(), until.clone()));
    let clerk = executor.build(Clerk { log: Arc::clone(&log), waits }).unbounded().spawn();
    if held {
        entered.wait();
    }
    (clerk, log, held.then_some(until))
}

const ALL: [char; 8] = ['n', 's', 'S', 'o', 'm', 'l', 'a', 't'];

/// Segments hold messages of one type, so a mix of types must not be regrouped by type.
#[test]
fn p02_a_backlog_of_several_types_comes_in_the_order_sent() {
    const MESSAGES: u32 = 3000;
    on_every_crew(|executor| {
        for (held, inside) in [(true, true), (true, false), (false, true), (false, false)] {
            let (clerk, log, until) = clerk(executor, held);
            let flood = move || {
                let dice = Dice::new(u64::from(held) + 2);
                let mut kind = 's';
                let mut sent = Vec::new();
                for number in 0..MESSAGES {
                    kind = kind_of(&dice, &ALL, kind);
                    send(&clerk, kind, 1, number);
                    sent.push(seen(kind, 1, number));
                }
                sent
            };
            let sent = if inside {
                let puppet = executor.spawn(Puppet::default());
                answer(
                    puppet
                        .ask(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| flood()))
                        .unwrap(),
                )
                .unwrap()
            } else {
                flood()
            };
            if let Some(until) = until {
                until.open();
            }
            settle(executor);
            assert_eq!(*log.lock().unwrap(), sent, "held: {held}, inside: {inside}");
        }
    });
}

/// Senders that claim slots of one segment at the same time must not mix up their messages.
#[test]
fn p02_many_senders_to_one_backlog_each_in_order() {
    const EACH: u32 = 2000;
    on_every_crew(|executor| {
        let (clerk, log, _) = clerk(executor, false);
        // Some senders send one type only, and meet in one segment. The others mix types.
        let flood = |clerk: ActorRef<Clerk>, sender: u8| {
            let of: &[char] = match sender % 4 {
                0 => &['s'],
                1 => &['o'],
                _ => &['s', 'o', 'm', 'l', 'a'],
            };
            let dice = Dice::new(u64::from(sender));
            let mut kind = of[0];
            for number in 0..EACH {
                kind = kind_of(&dice, of, kind);
                send(&clerk, kind, sender, number);
            }
        };
        for sender in 0..6 {
            let clerk = clerk.clone();
            let run = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| flood(clerk, sender));
            executor.spawn(Puppet::default()).tell(run).unwrap();
        }
        thread::scope(|scope| {
            for sender in 6..9 {
                let clerk = clerk.clone();
                scope.spawn(move || flood(clerk, sender));
            }
        });
        settle(executor);
        let mut next = [0; 9];
        for (kind, sender, number) in log.lock().unwrap().drain(..) {
            assert_ne!(kind, '?', "another message's bytes");
            assert_eq!(number, next[usize::from(sender)], "of sender {sender}");
            next[usize::from(sender)] += 1;
        }
        assert_eq!(next, [EACH; 9]);
    });
}

/// Counts its drop.
struct Counted(#[expect(dead_code, reason = "for its drop")] Token);
/// Counts its drop, and panics in the drop if asked to.
struct Fragile(#[expect(dead_code, reason = "for its drop")] Token, bool);

impl Drop for Fragile {
    fn drop(&mut self) {
        if self.1 {
            intended_panic();
        }
    }
}

/// Panics, or stops itself, at the message with a given number.
#[derive(Default)]
struct Victim {
    handled: u32,
    panic_at: u32,
    stop_now_at: u32,
}

impl Actor for Victim {}

impl Victim {
    fn count(&mut self, ctx: &mut Context<Self>) {
        self.handled += 1;
        if self.handled == self.stop_now_at {
            ctx.me().stop_now();
        }
        if self.handled == self.panic_at {
            intended_panic();
        }
    }
}

impl Handler<Counted> for Victim {
    type Reply = ();
    fn handle(&mut self, _: Counted, ctx: &mut Context<Self>) {
        self.count(ctx);
    }
}

impl Handler<Fragile> for Victim {
    type Reply = ();
    fn handle(&mut self, mut fragile: Fragile, ctx: &mut Context<Self>) {
        fragile.1 = false;
        self.count(ctx);
    }
}

/// Fills a victim's mailbox from inside one turn, so that with one worker the whole backlog waits.
fn fill(executor: &Executor, victim: Victim, send: impl Fn(&ActorRef<Victim>) + Send + 'static) {
    let victim = executor.build(victim).unbounded().spawn();
    let run = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| send(&victim));
    assert_eq!(answer(executor.spawn(Puppet::default()).ask(run).unwrap()), Ok(()));
    settle(executor);
}

/// Ends at every position of a segment, so that no slot is dropped twice or overlooked.
#[test]
fn p03_an_end_in_a_backlog_drops_each_message_once() {
    quiet_panics();
    const MESSAGES: u32 = 60;
    for workers in CREWS {
        let executor = crew(workers);
        for at in 1..=MESSAGES {
            for kill in [false, true] {
                let before = executor.stats();
                let tokens = Tokens::new();
                let victim = match kill {
                    false => Victim { panic_at: at, ..Victim::default() },
                    true => Victim { stop_now_at: at, ..Victim::default() },
                };
                let maker = tokens.clone();
                // With several workers the end may come before the last send. The refused message
                // then comes back and is dropped here.
                fill(&executor, victim, move |to| {
                    (0..MESSAGES).for_each(|_| _ = to.tell(Counted(maker.token())));
                });
                tokens.assert_each_dropped_once();
                let (accepted, handled) = {
                    let now = executor.stats();
                    (now.accepted - before.accepted, now.handled - before.handled)
                };
                // Subtracts the turn that sent the messages.
                assert_eq!(handled - 1, u64::from(at), "killed: {kill}");
                if workers == 1 {
                    assert_eq!(accepted - 1, u64::from(MESSAGES));
                }
            }
        }
        shut_down(&executor);
    }
}

#[test]
fn p06_a_drop_that_panics_in_a_backlog_is_contained() {
    quiet_panics();
    for workers in CREWS {
        let executor = crew(workers);
        let tokens = Tokens::new();
        let maker = tokens.clone();
        fill(&executor, Victim { stop_now_at: 3, ..Victim::default() }, move |to| {
            for n in 0..50 {
                if let Err(mut back) =
                    to.tell(Fragile(maker.token(), n % 3 == 0)).map_err(SendError::into_message)
                {
                    back.1 = false;
                }
            }
        });
        tokens.assert_each_dropped_once();
        shut_down(&executor);
    }
}

/// A replica that panics once, at a given number.
struct Replica {
    log: Arc<Mutex<Vec<u32>>>,
    panic_at: u32,
}

impl Actor for Replica {}

impl Handler<u32> for Replica {
    type Reply = ();
    fn handle(&mut self, number: u32, _: &mut Context<Self>) {
        self.log.lock().unwrap().push(number);
        if number == self.panic_at {
            intended_panic();
        }
    }
}

/// A replica that panics inside a segment must leave the rest of the segment to its successor.
#[test]
fn p03_a_successor_goes_on_in_the_middle_of_a_backlog() {
    quiet_panics();
    const MESSAGES: u32 = 200;
    on_every_crew(|executor| {
        for panic_at in [0, 7, 8, 19, 20, 21, 22, 35, 100, MESSAGES - 1] {
            let log = Arc::new(Mutex::new(Vec::new()));
            let replicas = Arc::clone(&log);
            let pool = executor.pool(1, move |_| Replica { log: Arc::clone(&replicas), panic_at });
            let pool = pool.backoff(Duration::ZERO, Duration::ZERO).build().unwrap();
            let flooded = pool.clone();
            let flood = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                (0..MESSAGES).for_each(|number| flooded.tell(ToIndex(0), number).unwrap());
            });
            assert_eq!(answer(executor.spawn(Puppet::default()).ask(flood).unwrap()), Ok(()));
            settle(executor);
            assert_eq!(*log.lock().unwrap(), (0..MESSAGES).collect::<Vec<_>>());
        }
    });
}

/// A shared queue hands its messages to mailboxes and batches one by one.
#[test]
fn p03_a_shared_queues_backlog_is_handled_once() {
    const MESSAGES: u32 = 2000;
    on_every_crew(|executor| {
        let log = Arc::new(Mutex::new(Vec::new()));
        let replicas = Arc::clone(&log);
        let pool = executor
            .pool(3, move |_| Replica { log: Arc::clone(&replicas), panic_at: u32::MAX })
            .queue_capacity(MESSAGES as usize)
            .build()
            .unwrap();
        let flooded = pool.clone();
        let flood = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            (0..MESSAGES).for_each(|number| flooded.tell(SharedQueue, number).unwrap());
        });
        assert_eq!(answer(executor.spawn(Puppet::default()).ask(flood).unwrap()), Ok(()));
        settle(executor);
        let mut handled = log.lock().unwrap().clone();
        handled.sort_unstable();
        assert_eq!(handled, (0..MESSAGES).collect::<Vec<_>>());
    });
}

/// The receiver's thread is not a worker and has no heap of its own.
#[test]
fn p02_a_dedicated_actors_backlog_comes_in_order() {
    const MESSAGES: u32 = 3000;
    let executor = crew(2);
    let log = Log::default();
    let clerk = {
        let log = Arc::clone(&log);
        executor.spawn_dedicated(move || Clerk { log, waits: None }).unwrap()
    };
    for inside in [true, false] {
        let clerk = clerk.clone();
        let flood = move || {
            for number in 0..MESSAGES {
                clerk.send(Small(0, number)).unwrap();
                clerk.send(Middle(0, number, [7, u64::from(number)])).unwrap();
            }
        };
        if inside {
            let run = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| flood());
            assert_eq!(answer(executor.spawn(Puppet::default()).ask(run).unwrap()), Ok(()));
        } else {
            flood();
        }
        settle(&executor);
        let sent = (0..MESSAGES).flat_map(|number| [('s', 0, number), ('m', 0, number)]);
        assert_eq!(std::mem::take(&mut *log.lock().unwrap()), sent.collect::<Vec<_>>());
    }
    drop(clerk);
    shut_down(&executor);
}

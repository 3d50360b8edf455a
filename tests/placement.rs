//! Tests placement: workers pinned to cores, and actors pinned to one worker.

mod common;

use common::*;
use heist::{Actor, ActorRef, Context, Executor, ExecutorBuilder, Handler, Policy, StopReason};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Runs `test` under each policy, with eight workers.
fn under_each_policy(test: impl Fn(&Executor)) {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(8).policy(policy));
        test(&executor);
        shut_down(&executor);
    }
}

fn thread_name() -> String {
    thread::current().name().unwrap_or_default().to_string()
}

#[cfg(target_os = "linux")]
mod pinned {
    use super::*;
    use heist::BuildError;
    use std::error::Error;

    /// Returns the cores that the calling thread may run on, according to the kernel.
    fn allowed() -> Vec<usize> {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        let range = |part: &str| {
            let mut ends = part.split('-').map(|end| end.trim().parse::<usize>().unwrap());
            let first = ends.next().unwrap();
            first..=ends.next().unwrap_or(first)
        };
        list.split(',').flat_map(range).collect()
    }

    fn error(builder: ExecutorBuilder<'_>) -> BuildError {
        builder.build().expect_err("it cannot be built")
    }

    /// Returns the cores of each worker, read in a handler on that worker.
    fn cores_of_workers(executor: &Executor) -> Vec<Vec<usize>> {
        let look = |k: usize| {
            let puppet = executor.build(Puppet::default()).on_worker(k).spawn();
            inside(&puppet, |_, _| allowed())
        };
        (0..executor.workers()).map(look).collect()
    }

    #[test]
    fn workers_are_pinned_to_their_cores() {
        let here = allowed();
        // In both directions, so that on two cores one list differs from an accidental placement.
        let lists = [here.clone(), here.iter().rev().copied().collect(), vec![here[0]; 3]];
        for cores in lists {
            let executor = build(Executor::builder().pin_workers(cores.clone()));
            assert_eq!(executor.workers(), cores.len());
            let each: Vec<Vec<usize>> = cores.iter().map(|&core| vec![core]).collect();
            assert_eq!(cores_of_workers(&executor), each);
            shut_down(&executor);
        }
        assert_eq!(allowed(), here, "the thread that builds is not pinned");
    }

    #[test]
    fn workers_are_pinned_on_threads_of_a_spawn_handler_too() {
        let core = *allowed().last().unwrap();
        let handler = |worker: heist::thread::WorkerThread| {
            thread::Builder::new().spawn(|| worker.run()).map(drop)
        };
        let executor =
            build(Executor::builder().workers(2).pin_workers([core; 2]).spawn_handler(handler));
        assert_eq!(cores_of_workers(&executor), [[core]; 2]);
        shut_down(&executor);
    }

    #[test]
    fn workers_are_not_pinned_unless_asked() {
        let executor = crew(2);
        assert_eq!(cores_of_workers(&executor), [allowed(), allowed()]);
    }

    #[test]
    fn what_cannot_be_pinned_is_an_error_of_build() {
        let builder = Executor::builder;
        let here = allowed()[0];
        assert!(matches!(error(builder().pin_workers([])), BuildError::Workers(0)));
        assert!(matches!(error(builder().pin_workers([here, 4095])), BuildError::Core(4095)));
        assert!(matches!(error(builder().pin_workers([usize::MAX])), BuildError::Core(usize::MAX)));
        let contradiction = error(builder().workers(2).pin_workers([here]));
        assert!(matches!(contradiction, BuildError::CoresAndWorkers { cores: 1, workers: 2, .. }));
        let text = contradiction.to_string();
        assert!(
            text.contains("`workers(2)`") && text.contains("`pin_workers` with 1 cores"),
            "{text}"
        );
        let given_up = error(builder().pin_workers([here; 2]).spawn_handler(|_| Ok(())));
        assert!(matches!(given_up, BuildError::ThreadLost));
    }

    /// The core exists but is not available to this process.
    #[test]
    fn a_core_outside_the_affinity_mask_is_refused() {
        let cores = allowed();
        let (first, last) = (cores[0], *cores.last().unwrap());
        if first == last {
            return; // with one core there is no other
        }
        // A thread of a pinned crew may use one core only.
        let pinned = build(Executor::builder().pin_workers([first]));
        let puppet = pinned.spawn(Puppet::default());
        let outcome =
            inside(&puppet, move |_, _| Executor::builder().pin_workers([last]).build().map(drop));
        assert!(matches!(outcome, Err(BuildError::Core(core)) if core == last));
    }

    /// Whichever thread holds worker k's slot is pinned to the core of worker k. Threads without a
    /// slot keep the builder's mask.
    #[test]
    fn spares_are_pinned_and_dedicated_actors_are_not() {
        let here = allowed();
        let (first, last) = (here[0], here[here.len() - 1]);
        // A spare that ended early would be followed by another thread.
        let builder = Executor::builder().pin_workers([first, last]).max_spares(1);
        let executor = build(builder.spare_keep_alive(Duration::MAX));
        let blocker = executor.build(Puppet::default()).on_worker(1).spawn();
        let other = executor.build(Puppet::default()).on_worker(1).spawn();
        let until = block(&blocker);
        let seen = inside(&other, |_, ctx| (ctx.worker(), thread_name(), allowed()));
        assert_eq!(seen, (Some(1), "heist-spare-0".to_string(), vec![last]));
        // Spawned in a spare's turn, and so on a pinned thread.
        let dedicated = inside(&other, |_, ctx| ctx.spawn_dedicated(Puppet::default).unwrap());
        assert_eq!(inside(&dedicated, |_, ctx| (ctx.worker(), allowed())), (None, here));
        until.open();
        settle(&executor);
        assert_eq!(cores_of_workers(&executor), [[first], [last]]);
        // The thread that lost its slot becomes the only spare, some time after its turn. It is
        // pinned to the core of its next slot.
        let blocker = executor.build(Puppet::default()).on_worker(0).spawn();
        let other = executor.build(Puppet::default()).on_worker(0).spawn();
        let mut until = None;
        within(60, "a thread leaves its slot to the spare", || {
            let kept = executor.stats().spares.kept;
            let release = block(&blocker);
            let has_left = executor.stats().spares.kept == kept;
            if !has_left {
                release.open();
            }
            until = has_left.then_some(release);
            has_left
        });
        let until = until.expect("the wait is over");
        let seen = inside(&other, |_, ctx| (ctx.worker(), thread_name(), allowed()));
        assert_eq!(seen, (Some(0), "heist-1".to_string(), vec![first]));
        until.open();
        shut_down(&executor);
    }

    /// The kernel withdraws the core between the check and the pinning.
    #[test]
    fn a_thread_that_cannot_be_pinned_is_an_error_of_build() {
        // Without privileges, only a filter on the worker's thread makes the call fail.
        let refuse = |worker: heist::thread::WorkerThread| {
            thread::Builder::new()
                .spawn(|| {
                    refuse_pinning_on_this_thread();
                    worker.run().expect("a new thread works for nobody yet");
                })
                .map(drop)
        };
        let here = allowed()[0];
        let error = error(Executor::builder().pin_workers([here; 2]).spawn_handler(refuse));
        assert!(matches!(error, BuildError::Pin(_)), "{error:?}");
        assert!(error.source().is_some());
    }

    /// Installs a seccomp filter that refuses `sched_setaffinity` with EPERM.
    fn refuse_pinning_on_this_thread() {
        const LOAD_NUMBER: libc::sock_filter = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
        let answer = |k: u32| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
        let mut filter = [
            LOAD_NUMBER,
            libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_sched_setaffinity as u32 },
            answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
            answer(libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: the filter outlives the call and applies to the calling thread only.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
                    == 0
        };
        assert!(done, "{}", std::io::Error::last_os_error());
    }
}

#[test]
fn a_worker_that_is_not_there_is_an_error_with_the_actor_inside() {
    let executor = crew(2);
    let error =
        executor.build(Puppet { log: vec![7], ..Puppet::default() }).on_worker(2).try_spawn();
    let error = error.expect_err("there is no worker 2");
    assert!(!error.is_shutting_down());
    assert_eq!(error.to_string(), "actor not spawned: there is no worker 2 (there are 0 to 1)");
    assert_eq!(error.into_actor().log, [7]);
    assert_eq!(executor.stats().live_actors, 0);
}

/// The threads of all turns, hooks and drops of an actor.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Seen {
    fn note(&self) {
        self.0.lock().unwrap().push(thread_name());
    }
}

/// Passes numbers on, to itself and round the others.
struct Relay {
    seen: Arc<Seen>,
    others: Vec<ActorRef<Relay>>,
    handled: Arc<AtomicU64>,
}

struct Hop(u64);
struct Meet(Vec<ActorRef<Relay>>);

impl Actor for Relay {
    fn started(&mut self, _: &mut Context<Self>) {
        self.seen.note();
    }
    fn stopped(&mut self, _: &StopReason) {
        self.seen.note();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.seen.note();
    }
}

impl Handler<Hop> for Relay {
    type Reply = ();
    fn handle(&mut self, Hop(rest): Hop, ctx: &mut Context<Self>) {
        self.seen.note();
        self.handled.fetch_add(1, Relaxed);
        if rest > 0 {
            let next = (rest * 7 + ctx.id().get()) as usize % self.others.len();
            self.others[next].tell(Hop(rest - 1)).expect("there is room");
        }
    }
}

impl Handler<Meet> for Relay {
    type Reply = ();
    fn handle(&mut self, Meet(others): Meet, _: &mut Context<Self>) {
        self.others = others;
    }
}

/// Pinned and other actors mixed, floods from outside and inside, siblings that steal: each pinned
/// actor stays where it was put.
#[test]
fn a_kept_actor_never_changes_its_worker() {
    under_each_policy(|executor| {
        let handled = Arc::new(AtomicU64::new(0));
        let relays: Vec<_> = (0..32)
            .map(|i| {
                let seen = Arc::new(Seen::default());
                let relay = Relay {
                    seen: Arc::clone(&seen),
                    others: Vec::new(),
                    handled: Arc::clone(&handled),
                };
                let kept = (i % 2 == 0).then_some(i / 4);
                let builder = executor.build(relay).unbounded();
                let builder = if let Some(k) = kept { builder.on_worker(k) } else { builder };
                (builder.spawn(), seen, kept)
            })
            .collect();
        let all: Vec<_> = relays.iter().map(|(relay, ..)| relay.clone()).collect();
        all.iter().for_each(|relay| relay.tell(Meet(all.clone())).unwrap());
        thread::scope(|scope| {
            for part in 0..4 {
                let all = &all;
                scope.spawn(move || {
                    for i in 0..2_000 {
                        all[(i * 5 + part) % all.len()].tell(Hop(10)).unwrap();
                    }
                });
            }
        });
        settle(executor);
        assert_eq!(handled.load(Relaxed), 4 * 2_000 * 11);
        relays.iter().for_each(|(relay, ..)| relay.stop());
        relays.iter().for_each(|(relay, ..)| assert_eq!(ended(relay), StopReason::Stopped));
        for (_, seen, kept) in &relays {
            let seen = seen.0.lock().unwrap();
            if let Some(k) = kept {
                let home = format!("heist-{k}");
                assert!(seen.iter().all(|name| *name == home), "kept on {k}, seen elsewhere");
            }
        }
        let elsewhere =
            |seen: &Arc<Seen>| seen.0.lock().unwrap().windows(2).any(|pair| pair[0] != pair[1]);
        if executor.policy() != Policy::Sharded {
            assert!(
                relays.iter().any(|(_, seen, _)| elsewhere(seen)),
                "nobody moved, so nothing was tried"
            );
        }
    });
}

/// A pinned actor waits behind a long turn while the other workers sleep, the sentinel among them.
/// Actors that are not pinned are taken meanwhile.
#[test]
fn kept_work_behind_a_long_turn_is_not_taken_and_the_rest_is() {
    let executor = crew(2);
    let busy = executor.build(Puppet::default()).on_worker(0).spawn();
    let kept = executor.build(Puppet::default()).on_worker(0).spawn();
    let free = executor.spawn(Puppet::default());
    settle(&executor);
    let (until, entered) = (Latch::new(), Latch::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = |what: &'static str, then: Option<Latch>| {
        let seen = Arc::clone(&seen);
        Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            seen.lock().unwrap().push((what, thread_name()));
            if let Some(latch) = then {
                latch.open();
            }
        })
    };
    // Sent from inside the long turn, so that both wait on worker 0, the pinned one first.
    let (first, second) = (note("kept", None), note("free", Some(until.clone())));
    let (kept_too, inside) = (kept.clone(), entered.clone());
    let long = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        kept_too.tell(first).unwrap();
        free.tell(second).unwrap();
        inside.open();
        until.wait(); // ends once a sibling has run the free actor
    });
    busy.tell(long).unwrap();
    entered.wait();
    settle(&executor);
    let seen = seen.lock().unwrap();
    assert_eq!(*seen, [("free", "heist-1".to_string()), ("kept", "heist-0".to_string())]);
    assert!(executor.stats().workers[1].sentinel_catches > 0, "the sentinel took what was free");
}

/// Blocks in `heist::blocking` until the returned latch is opened. Returns once the turn blocks.
fn block(puppet: &ActorRef<Puppet>) -> Latch {
    let (entered, until) = (Latch::new(), Latch::new());
    let (inside, release) = (entered.clone(), until.clone());
    let blocks = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
        heist::blocking(|| {
            inside.open();
            release.wait();
        });
    });
    puppet.tell(blocks).unwrap();
    entered.wait();
    until
}

/// A pinned actor follows its worker's slot, which passes to a spare while a thread blocks.
#[test]
fn kept_actors_go_with_their_worker_when_it_moves() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(2).policy(policy).max_spares(4));
        let blockers: Vec<_> =
            (0..4).map(|_| executor.build(Puppet::default()).on_worker(1).spawn()).collect();
        let kept = executor.build(Puppet::default()).on_worker(1).spawn();
        let mut latches = Vec::new();
        for blocker in &blockers {
            latches.push(block(blocker));
            // From outside and from the other worker.
            assert_eq!(inside(&kept, |_, ctx| ctx.worker()), Some(1));
            let to = kept.clone();
            let far = executor.build(Puppet::default()).on_worker(0).spawn();
            let asked = inside(&far, move |_, _| {
                to.ask(Run(|_: &mut Puppet, ctx: &mut Context<Puppet>| ctx.worker()))
            });
            assert_eq!(answer(asked.unwrap()), Ok(Some(1)));
        }
        latches.iter().for_each(Latch::open);
        for blocker in &blockers {
            assert_eq!(inside(blocker, |_, ctx| ctx.worker()), Some(1));
        }
        settle(&executor);
        shut_down(&executor);
    }
}

/// The blocked turn had made the pinned actor runnable before, and waits until it has run.
#[test]
fn kept_work_of_a_place_that_moves_is_not_left_behind() {
    for policy in POLICIES {
        let executor = build(Executor::builder().workers(1).policy(policy).max_spares(1));
        let blocker = executor.build(Puppet::default()).on_worker(0).spawn();
        let kept = executor.build(Puppet::default()).on_worker(0).spawn();
        settle(&executor);
        inside(&blocker, move |_, _| {
            let ran = Latch::new();
            let opens = ran.clone();
            kept.tell(Run(move |_: &mut Puppet, _: &mut Context<Puppet>| opens.open())).unwrap();
            heist::blocking(|| ran.wait());
        });
        shut_down(&executor);
    }
}

/// Without a spare to take the slot, a wait could be for work that is pinned behind it.
#[test]
fn p07_a_wait_in_front_of_kept_work_is_refused_without_spares() {
    let executor = build(Executor::builder().workers(2).max_spares(0));
    let asker = executor.build(Puppet::default()).on_worker(0).spawn();
    let asked = executor.build(Puppet::default()).on_worker(0).spawn();
    let to = asked.clone();
    let refused = inside(&asker, move |_, _| {
        let mut ask = to.ask(Note(1)).unwrap();
        (ask.wait().unwrap_err(), ask)
    });
    assert_eq!(refused.0, heist::AskError::NoSpare);
    assert_eq!(answer(refused.1), Ok(1));
    // Once the pinned actors have ended, waits on that worker are unrestricted.
    asker.stop();
    asked.stop();
    assert_eq!((ended(&asker), ended(&asked)), (StopReason::Stopped, StopReason::Stopped));
    let (free, other) = (executor.spawn(Puppet::default()), executor.spawn(Puppet::default()));
    let waited = inside(&free, move |_, _| other.ask(Note(2)).unwrap().wait());
    assert_eq!(waited, Ok(2));
}

/// Two pinned actors that tell each other keep their worker busy and wake no other.
#[test]
fn kept_actors_of_one_worker_wake_nobody() {
    let executor = crew(2);
    let handled = Arc::new(AtomicU64::new(0));
    let relay =
        || Relay { seen: Arc::default(), others: Vec::new(), handled: Arc::clone(&handled) };
    let pair = [0, 1].map(|_| executor.build(relay()).on_worker(0).spawn());
    for (i, relay) in pair.iter().enumerate() {
        relay.tell(Meet(vec![pair[1 - i].clone()])).unwrap();
    }
    settle(&executor);
    let before = executor.stats();
    const HOPS: u64 = 100_000;
    pair[0].tell(Hop(HOPS)).unwrap();
    settle(&executor);
    let after = executor.stats();
    assert_eq!(handled.load(Relaxed), HOPS + 1);
    let wakes =
        |stats: &heist::stats::Stats| stats.workers.iter().map(|worker| worker.wakes).sum::<u64>();
    assert!(wakes(&after) - wakes(&before) < HOPS / 100, "{before:?} {after:?}");
    assert_eq!(after.workers[1].turns, before.workers[1].turns);
}

/// Sends itself the next message until told to stop.
struct Restless {
    turns: Arc<AtomicU64>,
}

impl Actor for Restless {}

struct Go;

impl Handler<Go> for Restless {
    type Reply = ();
    fn handle(&mut self, _: Go, ctx: &mut Context<Self>) {
        self.turns.fetch_add(1, Relaxed);
        ctx.tell_self(Go).expect("one at a time");
    }
}

/// Many actors of one kind and one of the other, on one worker, under each policy, both ways round.
#[test]
fn p05_kept_and_other_actors_of_one_worker_share_it() {
    for policy in POLICIES {
        for kept_are_many in [true, false] {
            let executor = build(Executor::builder().workers(1).policy(policy));
            let counters =
                |n: usize| (0..n).map(|_| Arc::new(AtomicU64::new(0))).collect::<Vec<_>>();
            let (many, one) = (counters(50), counters(1));
            let mut actors = Vec::new();
            for (group, kept) in [(&many, kept_are_many), (&one, !kept_are_many)] {
                for turns in group {
                    let builder = executor.build(Restless { turns: Arc::clone(turns) });
                    let actor = if kept { builder.on_worker(0).spawn() } else { builder.spawn() };
                    actor.tell(Go).unwrap();
                    actors.push(actor);
                }
            }
            // Counted in turns instead of time: each actor of either group gets 100 turns.
            let least = |group: &[Arc<AtomicU64>]| {
                group.iter().map(|turns| turns.load(Relaxed)).min().unwrap()
            };
            within(LONG, "the one gets on", || least(&one) >= 100);
            within(LONG, "each of the many gets on", || least(&many) >= 100);
            // One more actor of either kind, told from outside.
            let cold = executor.spawn(Puppet::default());
            let cold_kept = executor.build(Puppet::default()).on_worker(0).spawn();
            for n in 0..20 {
                assert_eq!(answer(cold.ask(Note(n)).unwrap()), Ok(n));
                assert_eq!(answer(cold_kept.ask(Note(n)).unwrap()), Ok(n));
            }
            actors.iter().for_each(ActorRef::stop_now);
            shut_down(&executor);
        }
    }
}

/// A message after silence to each worker's pinned actor, from outside and from other workers.
#[test]
fn p04_a_kept_actor_is_woken_wherever_it_sleeps() {
    under_each_policy(|executor| {
        let kept: Vec<_> =
            (0..8).map(|k| executor.build(Puppet::default()).on_worker(k).spawn()).collect();
        for round in 0..300 {
            let (near, far) = (&kept[round % 8], kept[(round * 3 + 1) % 8].clone());
            let passed_on = inside(near, move |_, _| far.ask(Note(round as u64)).unwrap());
            assert_eq!(answer(passed_on), Ok(round as u64));
            settle(executor);
        }
    });
}

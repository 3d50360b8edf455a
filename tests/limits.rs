//! Tests limits that `docs/limits.md` names and no promise covers: what happens there, and that the
//! remedy helps.
//!
//! A test that leads actors into a stall ends the stall by the timeout of one wait, and asserts
//! that timeout. The stall is certain by then, because each thread that could end it is seen to
//! wait.

mod common;

use common::*;
use heist::{Actor, ActorRef, Ask, AskError, Context, Executor, Receive, Reply};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;
#[cfg(target_os = "linux")]
use std::time::Instant;

/// How long the tests wait for something that cannot happen.
const IN_VAIN: Duration = Duration::from_millis(50);

/// Keeps the replies of its messages.
#[derive(Default)]
struct Keeper(Vec<Reply<()>>);

impl Actor for Keeper {}

struct Large(#[allow(dead_code)] [u8; 96]);

impl Receive<Large> for Keeper {
    type Reply = ();
    fn receive(&mut self, _: Large, reply: Reply<()>, _: &mut Context<Self>) {
        self.0.push(reply);
    }
}

/// Answers all kept replies.
struct Answer;

impl heist::Handler<Answer> for Keeper {
    type Reply = ();
    fn handle(&mut self, _: Answer, _: &mut Context<Self>) {
        self.0.drain(..).for_each(|reply| reply.send(()));
    }
}

/// Memory of a nearly unused crew: one kept chunk, and some chunks of which only a few slabs are in
/// use.
const LITTLE: u64 = 8 << 20;

#[test]
fn a_reply_that_is_kept_keeps_the_block_of_its_message() {
    const ASKS: u64 = 100_000;
    let executor = crew(1);
    let keeper = executor.build(Keeper::default()).unbounded().spawn();
    for _ in 0..ASKS {
        drop(keeper.ask(Large([0; 96])).unwrap()); // the ask is dropped, and the reply still keeps its block
    }
    settle(&executor);
    assert_eq!(keeper.len(), 0, "all messages are handled");
    let kept = executor.stats().memory;
    assert!(kept >= ASKS * 96, "{kept} bytes for {ASKS} replies");
    keeper.tell(Answer).unwrap();
    settle(&executor);
    within(LONG, "the memory goes back", || executor.stats().memory <= LITTLE);
    shut_down(&executor);
}

#[test]
fn a_few_survivors_of_a_burst_keep_its_chunks() {
    const BURST: u64 = 200_000;
    let executor = crew(1);
    let puppet = executor.build(Puppet::default()).unbounded().spawn();
    let asks: Vec<Ask<u64>> = (0..BURST).map(|n| puppet.ask(Note(n)).unwrap()).collect();
    settle(&executor);
    let high = executor.stats().memory;
    assert!(high >= 2 * LITTLE, "{high} bytes are no burst");
    // Keeps one block in each chunk of 2 MiB, because a chunk holds more than 10,000 such blocks.
    let survivors: Vec<Ask<u64>> =
        asks.into_iter().enumerate().filter(|(n, _)| n % 10_000 == 0).map(|(_, ask)| ask).collect();
    settle(&executor);
    let held = executor.stats().memory;
    assert!(held >= high / 2, "{} survivors keep {held} bytes of {high}", survivors.len());
    // The outside thread returns only a few blocks, which the crew takes back during its next work.
    drop(survivors);
    puppet.tell(Note(0)).unwrap();
    settle(&executor);
    within(LONG, "the burst's memory goes back", || executor.stats().memory <= LITTLE);
    shut_down(&executor);
}

/// Waits for an answer that cannot come yet, and returns the ask.
fn in_vain<R>(mut ask: Ask<R>) -> Ask<R> {
    let error = ask.wait_timeout(IN_VAIN).err().expect("nobody can answer yet");
    assert_eq!(error, AskError::TimedOut);
    ask
}

/// As many actors as workers lock a mutex with `lock`, while another actor holds it and waits.
#[test]
fn a_mutex_held_across_a_wait_stops_the_crew_until_it_is_unlocked() {
    const WORKERS: usize = 2;
    let executor = build(Executor::builder().workers(WORKERS).max_spares(8));
    let answers = executor.spawn(Puppet::default());
    let holder = executor.spawn(Puppet::default());
    let others: Vec<ActorRef<Puppet>> =
        (0..WORKERS).map(|_| executor.spawn(Puppet::default())).collect();
    settle(&executor);
    let mutex = Arc::new(Mutex::new(()));
    let (theirs, asked) = (others.clone(), answers.clone());
    let answered = inside(&holder, move |_, _| {
        let guard = mutex.lock().unwrap();
        let (entering, entered) = channel();
        for other in &theirs {
            let (mutex, entering) = (Arc::clone(&mutex), entering.clone());
            let locks = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                entering.send(()).unwrap();
                drop(mutex.lock().unwrap()); // no spare is started
            });
            other.tell(locks).unwrap();
        }
        // By then each worker is in a turn of one of the others.
        heist::blocking(|| {
            (0..WORKERS).for_each(|_| entered.recv_timeout(Duration::from_secs(LONG)).unwrap())
        });
        let mut ask = in_vain(asked.ask(Note(7)).unwrap());
        drop(guard); // the remedy
        ask.wait()
    });
    assert_eq!(answered, Ok(7));
    settle(&executor);
    shut_down(&executor);
}

type Job = Box<dyn FnOnce() + Send>;

/// A common thread pool for jobs. A caller waits for the end of its job.
#[derive(Clone)]
struct Jobs(Sender<Job>);

impl Jobs {
    fn new(threads: usize) -> Self {
        let (sender, receiver) = channel::<Job>();
        let receiver: Arc<Mutex<Receiver<Job>>> = Arc::new(Mutex::new(receiver));
        for _ in 0..threads {
            let receiver = Arc::clone(&receiver);
            thread::spawn(move || {
                loop {
                    let next = receiver.lock().unwrap().recv();
                    match next {
                        Ok(job) => job(),
                        Err(_) => return,
                    }
                }
            });
        }
        Jobs(sender)
    }

    fn start<R: Send + 'static>(&self, job: impl FnOnce() -> R + Send + 'static) -> Receiver<R> {
        let (done, result) = channel();
        self.0.send(Box::new(move || drop(done.send(job())))).unwrap();
        result
    }
}

#[track_caller]
fn result<R>(job: &Receiver<R>) -> R {
    job.recv_timeout(Duration::from_secs(LONG)).expect("the job ends")
}

/// Jobs ask actors, and the actors' handlers wait for further jobs. With one pool for both, all
/// threads of the pool wait.
#[test]
fn jobs_that_ask_actors_that_use_their_pool_wait_for_ever_and_with_another_pool_do_not() {
    const THREADS: usize = 2;
    for one_pool in [true, false] {
        let executor = build(Executor::builder().workers(2).max_spares(8));
        let outer = Jobs::new(THREADS);
        let inner = if one_pool { outer.clone() } else { Jobs::new(THREADS) };
        let all_in = Arc::new(Barrier::new(THREADS));
        let jobs: Vec<Receiver<bool>> = (0..THREADS as u64)
            .map(|n| {
                let (actor, inner, all_in) =
                    (executor.spawn(Puppet::default()), inner.clone(), Arc::clone(&all_in));
                outer.start(move || {
                    all_in.wait(); // by then each thread of this pool runs such a job
                    let uses = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
                        let job = inner.start(move || n);
                        heist::blocking(|| result(&job))
                    });
                    let ask = actor.ask(uses).unwrap();
                    let (ask, stalled) = if one_pool { (in_vain(ask), true) } else { (ask, false) };
                    all_in.wait();
                    drop(ask); // this thread has stopped waiting and can run the jobs
                    stalled
                })
            })
            .collect();
        jobs.iter().for_each(|job| assert_eq!(result(job), one_pool));
        settle(&executor);
        assert_eq!(executor.stats().handled, THREADS as u64, "the handlers went on");
        shut_down(&executor);
    }
}

/// Moves each reply into a message for another actor, which asks the actor that waits for this
/// reply.
struct Moves(ActorRef<Puppet>);

impl Actor for Moves {}

struct Question(ActorRef<Puppet>);

impl Receive<Question> for Moves {
    type Reply = u64;
    fn receive(&mut self, Question(asker): Question, reply: Reply<u64>, _: &mut Context<Self>) {
        let answers = Run(move |_: &mut Puppet, _: &mut Context<Puppet>| {
            let further = asker.ask(Note(7)).unwrap().wait();
            reply.send(further.expect("no cycle is seen"));
        });
        self.0.tell(answers).unwrap();
    }
}

#[test]
fn a_cycle_through_a_reply_that_was_moved_is_not_seen_and_ends_by_a_timeout() {
    let executor = build(Executor::builder().workers(2).max_spares(8));
    let holder = executor.spawn(Puppet::default());
    let moves = executor.spawn(Moves(holder.clone()));
    let asker = executor.spawn(Puppet::default());
    let ask = inside(&asker, move |_, ctx| in_vain(moves.ask(Question(ctx.me().clone())).unwrap()));
    assert_eq!(answer(ask), Ok(7), "the one that waited has time for the question now");
    assert_eq!(executor.stats().spares.refused, 0);
    settle(&executor);
    shut_down(&executor);
}

/// A replica that, at its end, asks an actor that waits for the end of the replica's pool.
#[cfg(feature = "pool")]
#[test]
fn a_cycle_through_a_pools_end_is_not_seen_and_ends_by_a_timeout() {
    struct Asks(ActorRef<Puppet>, Latch);
    impl Actor for Asks {
        fn stopped(&mut self, _: &heist::StopReason) {
            let ask = self.0.ask(Run(|_: &mut Puppet, _: &mut Context<Puppet>| 7)).unwrap();
            self.1.open();
            assert_eq!(answer(ask), Ok(7), "the one that waited has time for the question now");
        }
    }
    let (waits, ends) = (crew(2), crew(2));
    let (waiter, asked) = (waits.spawn(Puppet::default()), Latch::new());
    let (its, told) = (waiter.clone(), asked.clone());
    let pool = ends.pool(1, move |_| Asks(its.clone(), told.clone())).build().unwrap();
    settle(&ends);
    let theirs = pool.clone();
    let wait = inside(&waiter, move |_, _| {
        theirs.stop();
        asked.wait();
        theirs.wait_stopped_timeout(IN_VAIN)
    });
    assert_eq!(wait, Err(heist::WaitError::TimedOut));
    assert_eq!(
        pool.wait_stopped_timeout(Duration::from_secs(LONG)),
        Ok(heist::pool::PoolStopReason::Stopped)
    );
    assert_eq!(ends.stats().panicked, 0);
    shut_down(&ends);
    shut_down(&waits);
}

/// Returns how often threads with this name prefix have gone to sleep, by the kernel's count.
#[cfg(target_os = "linux")]
fn sleeps_of_threads(prefix: &str) -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let sleeps = |task: std::path::PathBuf| {
        let status = read(task.join("status"));
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    };
    tasks.filter(|task| read(task.join("comm")).starts_with(prefix)).map(sleeps).sum()
}

/// The sentinel looks every 1 to 4 ms, and no other worker does.
#[cfg(target_os = "linux")]
#[test]
fn beside_a_long_turn_one_parked_worker_looks_now_and_then() {
    const LOOKS: u64 = 40;
    let executor = build(Executor::builder().workers(4).thread_name("beside"));
    let busy = executor.spawn(Puppet::default());
    settle(&executor);
    let held = Held::hold(&busy);
    let (before, begun) = (sleeps_of_threads("beside-"), Instant::now());
    within(LONG, "the sentinel looks", || sleeps_of_threads("beside-") - before >= LOOKS);
    let (looks, millis) =
        (sleeps_of_threads("beside-") - before, begun.elapsed().as_millis() as u64);
    // Each worker may be about to sleep when the count begins.
    assert!(looks <= millis + LOOKS / 4, "{looks} looks in {millis} ms");
    held.release();
    shut_down(&executor);
}

//! Measures the time until all workers are busy after a burst. While everything sleeps, one message
//! comes from outside, its actor tells many others, and each of those works for 20 us. The time
//! ends when the last worker has begun its first message.
//!
//! With a thread for each actor, "all workers" means as many threads as there are processors.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use heist::{Actor, ActorRef, BuildError, Context, Executor, Handler, Policy};

use super::machine::{self, Pace};

const BURSTS: usize = 30;
const TARGETS_A_WORKER: usize = 32;
const WORK_US: f64 = 20.0;
/// Pause between two bursts, in which spinning and lingering threads go to sleep.
const PAUSE: Duration = Duration::from_millis(3);

static BURST: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static BEGUN: Cell<u64> = const { Cell::new(0) };
}

/// The times of some bursts, in ascending order.
#[derive(Clone, Debug)]
pub(crate) struct Bursts(Vec<Duration>);

impl Bursts {
    pub(crate) fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    pub(crate) fn most(&self) -> Duration {
        self.0[self.0.len() - 1]
    }
}

/// One burst, as its targets see it.
struct Burst {
    number: u64,
    workers: usize,
    sent: Instant,
    begun: AtomicUsize,
    left: AtomicUsize,
    all_busy_ns: AtomicU64,
    over: Sender<()>,
    work: machine::Cost,
}

impl Burst {
    fn new(workers: usize, targets: usize, work: machine::Cost) -> (Arc<Self>, Receiver<()>) {
        let (over, is_over) = mpsc::channel();
        let burst = Self {
            number: BURST.fetch_add(1, Ordering::Relaxed),
            workers,
            sent: Instant::now(),
            begun: AtomicUsize::new(0),
            left: AtomicUsize::new(targets),
            all_busy_ns: AtomicU64::new(0),
            over,
            work,
        };
        (Arc::new(burst), is_over)
    }

    /// Handles a message of the burst. Counts the thread if this is its first message.
    fn handle(&self) {
        let first = BEGUN.replace(self.number) != self.number;
        if first && self.begun.fetch_add(1, Ordering::Relaxed) + 1 == self.workers {
            self.all_busy_ns.store(self.sent.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        self.work.spend();
        // AcqRel: the last thread has seen, and passes on, what all threads did.
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.over.send(());
        }
    }

    /// Returns the time until all workers were busy, or the time of the whole burst if some worker
    /// began no message.
    fn time(&self) -> Duration {
        match self.all_busy_ns.load(Ordering::Relaxed) {
            0 => self.sent.elapsed(),
            busy => Duration::from_nanos(busy),
        }
    }
}

fn measure(workers: usize, targets: usize, start: impl Fn(Arc<Burst>)) -> Bursts {
    let work = Pace::calibrated().cost(WORK_US);
    let one = |_| {
        thread::sleep(PAUSE);
        let (burst, is_over) = Burst::new(workers, targets, work);
        start(Arc::clone(&burst));
        is_over.recv().expect("the targets handle their messages");
        burst.time()
    };
    let mut times: Vec<_> = (0..BURSTS).map(one).collect();
    times.sort_unstable();
    Bursts(times)
}

struct Target;

impl Actor for Target {}

impl Handler<Arc<Burst>> for Target {
    type Reply = ();

    fn handle(&mut self, burst: Arc<Burst>, _: &mut Context<Self>) {
        burst.handle();
    }
}

struct Root(Vec<ActorRef<Target>>);

impl Actor for Root {}

impl Handler<Arc<Burst>> for Root {
    type Reply = ();

    fn handle(&mut self, burst: Arc<Burst>, _: &mut Context<Self>) {
        for target in &self.0 {
            target.tell(Arc::clone(&burst)).expect("a mailbox has room for one");
        }
    }
}

/// Measures bursts on a separate crew.
pub(crate) fn of_a_crew(policy: Policy, workers: usize) -> Result<Bursts, BuildError> {
    let executor = Executor::builder().workers(workers).policy(policy).build()?;
    let targets: Vec<_> = (0..TARGETS_A_WORKER * workers).map(|_| executor.spawn(Target)).collect();
    let count = targets.len();
    let root = executor.spawn(Root(targets));
    Ok(measure(workers, count, |burst| root.tell(burst).expect("a mailbox has room for one")))
}

/// Measures bursts with a thread for each target. Returns `None` if the system refuses to start so
/// many.
pub(crate) fn of_threads() -> Option<Bursts> {
    fn actor(handle: impl Fn(Arc<Burst>) + Send + 'static) -> Option<Sender<Arc<Burst>>> {
        let (sender, messages) = mpsc::channel();
        thread::Builder::new().spawn(move || messages.into_iter().for_each(handle)).ok()?;
        Some(sender)
    }
    let workers = machine::cores();
    let target = |_| actor(|burst| burst.handle());
    let targets: Vec<_> = (0..TARGETS_A_WORKER * workers).map(target).collect::<Option<_>>()?;
    let count = targets.len();
    let tell_all = move |burst: Arc<Burst>| {
        targets.iter().for_each(|target| target.send(Arc::clone(&burst)).expect("it runs"));
    };
    let root = actor(tell_all)?;
    Some(measure(workers, count, |burst| root.send(burst).expect("it runs")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_has_a_time_under_each_policy() {
        for policy in super::super::meter::POLICIES {
            let bursts = of_a_crew(policy, 2).unwrap();
            assert_eq!(bursts.0.len(), BURSTS);
            assert!(Duration::ZERO < bursts.median() && bursts.median() <= bursts.most());
        }
        assert!(of_threads().is_some_and(|bursts| bursts.median() <= bursts.most()));
    }

    #[test]
    fn the_time_is_that_of_the_last_worker_to_begin() {
        let (burst, is_over) = Burst::new(2, 3, machine::Cost::default());
        burst.handle();
        burst.handle(); // on the same worker
        assert_eq!(burst.all_busy_ns.load(Ordering::Relaxed), 0);
        thread::scope(|scope| {
            scope.spawn(|| burst.handle());
        });
        is_over.recv().unwrap();
        assert!(burst.all_busy_ns.load(Ordering::Relaxed) > 0);
        assert!(burst.time() <= burst.sent.elapsed());
    }
}

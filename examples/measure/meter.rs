//! Measures one run of a load on a crew, by counts before and after and by samples in between.

use std::fmt::{self, Display};
use std::time::{Duration, Instant};

use heist::stats::{Stats, WorkerStats};
use heist::{Executor, Handle, Policy};

use super::delay::Delay;
use super::machine;
use super::sampler::{Sampler, Seen};

pub(crate) const POLICIES: [Policy; 3] = [Policy::Stealing, Policy::Sharded, Policy::SharedQueue];

/// What ran the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Crew(Policy),
    /// A thread for each actor, and the system's scheduler.
    Threads,
}

impl Way {
    pub(crate) const ALL: [Way; 4] = [
        Way::Crew(Policy::Stealing),
        Way::Crew(Policy::Sharded),
        Way::Crew(Policy::SharedQueue),
        Way::Threads,
    ];
}

impl Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Crew(policy) => write!(f, "{policy:?}"),
            Way::Threads => write!(f, "a thread each"),
        }
    }
}

/// One run of a load.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) way: Way,
    /// Number of workers, or of processors if a thread runs each actor.
    pub(crate) workers: usize,
    /// Time from the first message sent to the last one handled. The other figures cover the same
    /// time.
    pub(crate) makespan: Duration,
    /// CPU time of the whole process, or `None` if the system does not report it.
    pub(crate) cpu: Option<Duration>,
    pub(crate) messages: u64,
    pub(crate) delays: Delay,
    /// Number of messages that did not find room at once, if counted.
    pub(crate) kept: Option<u64>,
    /// Figures that only a crew can report.
    pub(crate) crew: Option<Crew>,
}

#[derive(Clone, Debug)]
pub(crate) struct Crew {
    /// Busy time by worker.
    pub(crate) busy: Vec<Duration>,
    pub(crate) steals: u64,
    pub(crate) wakes: u64,
    pub(crate) catches: u64,
    pub(crate) seen: Seen,
}

impl Run {
    pub(crate) fn a_second(&self) -> f64 {
        self.messages as f64 / self.makespan.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// Returns idle hands as a part of the workers' total time.
    pub(crate) fn idle_part(&self) -> Option<f64> {
        let crew = self.crew.as_ref()?;
        let had = self.makespan.as_secs_f64() * self.workers as f64;
        Some(crew.seen.idle_hands.as_secs_f64() / had.max(f64::MIN_POSITIVE))
    }
}

/// Measures a run from its beginning to its end.
pub(crate) struct Meter {
    executor: Handle,
    policy: Policy,
    before: Stats,
    cpu: Option<Duration>,
    began: Instant,
    sampler: Sampler,
}

impl Meter {
    /// Starts the measurement. The crew must be idle.
    pub(crate) fn start(executor: &Executor) -> Self {
        let (before, cpu) = (executor.stats(), machine::cpu_time());
        let began = Instant::now();
        let sampler = Sampler::start(executor.handle(), began, &before);
        Self { executor: executor.handle(), policy: executor.policy(), before, cpu, began, sampler }
    }

    /// Ends the measurement. The crew must be idle again. The caller supplies the delays.
    pub(crate) fn stop(self, delays: Delay) -> Run {
        let makespan = self.began.elapsed();
        let (after, cpu) = (self.executor.stats(), machine::cpu_time());
        let seen = self.sampler.stop(makespan, after.clone());
        let before = &self.before;
        let sum = |of: fn(&WorkerStats) -> u64| {
            let total = |stats: &Stats| stats.workers.iter().map(of).sum::<u64>();
            total(&after) - total(before)
        };
        let pairs = || after.workers.iter().zip(&before.workers);
        Run {
            way: Way::Crew(self.policy),
            workers: after.workers.len(),
            makespan,
            cpu: cpu.zip(self.cpu).and_then(|(after, before)| after.checked_sub(before)),
            messages: after.handled - before.handled,
            delays,
            kept: None,
            crew: Some(Crew {
                busy: pairs().map(|(after, before)| after.busy - before.busy).collect(),
                steals: sum(|worker| worker.steals),
                wakes: sum(|worker| worker.wakes),
                catches: sum(|worker| worker.sentinel_catches),
                seen,
            }),
        }
    }
}

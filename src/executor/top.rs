//! The busiest actors, and those with the longest-waiting messages.

use crate::actor::handle::Handle;
use crate::cell::header::Header;
use crate::id::ActorId;
use crate::time::{self, Duration, Instant};
use std::cmp::Reverse;
use std::sync::Arc;

/// The busiest actors of an executor, and those with the oldest messages. From [`Handle::top`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Top {
    /// Timed actors by the time in their handlers, longest first; then the others by the number of
    /// messages handled. Actors that have done nothing yet are left out.
    pub busiest: Vec<TopActor>,
    /// Timed actors by the age of their oldest waiting message, oldest first; then the others by
    /// the number of messages that wait. Actors with an empty mailbox are left out.
    pub longest_waiting: Vec<TopActor>,
}

/// An actor of [`Top`], as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopActor {
    /// The actor's id.
    pub id: ActorId,
    /// The name that it was spawned with, if any.
    pub name: Option<Arc<str>>,
    /// The type of the actor's state.
    pub type_name: &'static str,
    /// Messages handled, without those of the running turn.
    pub handled: u64,
    /// Waiting messages, including those taken by the running turn.
    pub waiting: usize,
    /// Time in the actor's handlers from the beginning, including a running one. `None` unless the
    /// actor is timed.
    pub handling: Option<Duration>,
    /// The age of the oldest message that waits for its handler; `None` unless the actor is timed
    /// and a message waits.
    pub oldest: Option<Duration>,
}

/// A reading of one actor.
struct RankedActor<'a> {
    header: &'a Header,
    handled: u64,
    waiting: u32,
    handling: Option<Duration>,
    oldest: Option<Duration>,
}

impl<'a> RankedActor<'a> {
    fn new(header: &'a Header, now: Instant) -> Self {
        let stopwatch = header.stopwatch();
        RankedActor {
            header,
            handled: header.handled_total(),
            waiting: header.state.load_snapshot().len(),
            handling: stopwatch.map(|watch| watch.busy_until(now)),
            oldest: stopwatch.and_then(|watch| watch.oldest_waiting(header, now)),
        }
    }

    /// Returns the rank by work done, or `None` if the actor has done nothing.
    fn busy_rank(&self) -> Option<Rank> {
        let done = self.handling.map_or(self.handled > 0, |handling| !handling.is_zero());
        done.then_some((self.handling, self.handled))
    }

    /// Returns the rank by waiting work, or `None` if nothing waits. (A timed actor's message that
    /// counts as waiting but has no age is in hand.)
    fn waiting_rank(&self) -> Option<Rank> {
        let timed = self.handling.is_some();
        let waits = if timed { self.oldest.is_some() } else { self.waiting > 0 };
        waits.then_some((self.oldest, u64::from(self.waiting)))
    }

    fn to_top_actor(&self) -> TopActor {
        TopActor {
            id: self.header.id(),
            name: self.header.name(),
            type_name: self.header.type_name(),
            handled: self.handled,
            waiting: self.waiting as usize,
            handling: self.handling,
            oldest: self.oldest,
        }
    }
}

/// The order of actors: timed ones first, by a time, then the others by a count.
type Rank = (Option<Duration>, u64);

/// The `k` highest ranks among all offered actors.
struct TopK {
    k: usize,
    /// The lowest rank of the best `k` so far. Only a higher rank can matter.
    hopeless: Option<Rank>,
    found: Vec<(Rank, TopActor)>,
}

impl TopK {
    fn new(k: usize) -> Self {
        TopK { k, hopeless: None, found: Vec::new() }
    }

    fn offer_candidate(&mut self, rank: Option<Rank>, seen: &RankedActor<'_>) {
        // Names are copied only for candidates: most actors are out by their rank alone.
        let Some(rank) =
            rank.filter(|rank| self.k > 0 && self.hopeless.is_none_or(|hopeless| *rank > hopeless))
        else {
            return;
        };
        self.found.push((rank, seen.to_top_actor()));
        // Sorted only when `k` candidates are surplus, so that an offer costs O(log k) on average.
        if self.found.len() >= self.k.saturating_mul(2) {
            self.keep_best();
        }
    }

    fn keep_best(&mut self) {
        // `None` sorts below every time, so actors without timing come last.
        self.found.sort_by_key(|(rank, _)| Reverse(*rank));
        if self.found.len() >= self.k {
            self.found.truncate(self.k);
            self.hopeless = self.found.last().map(|(rank, _)| *rank);
        }
    }

    fn into_vec(mut self) -> Vec<TopActor> {
        self.keep_best();
        self.found.into_iter().map(|(_, actor)| actor).collect()
    }
}

impl Handle {
    /// Returns the `k` busiest actors, and the `k` with the oldest waiting messages. Actors that
    /// are timed ([`ExecutorBuilder::timing`](crate::ExecutorBuilder::timing)) are ranked by time;
    /// the others follow, ranked by counts. Each actor is seen at its own moment.
    ///
    /// # Costs
    /// The call looks at every actor of the executor, with a few loads for each: 256 actors at a
    /// time, under the lock of one part of the registry, which a worker needs to spawn and to
    /// forget actors. So it is for people and monitors that look now and then, not for handlers.
    ///
    /// ```
    /// # use heist::{Actor, Context, Executor, Handler};
    /// # use std::time::Duration;
    /// struct Solver;
    /// impl Actor for Solver {}
    /// struct Solve(Duration);
    /// impl Handler<Solve> for Solver {
    ///     type Reply = ();
    ///     fn handle(&mut self, Solve(effort): Solve, _: &mut Context<Self>) {
    ///         std::thread::sleep(effort);
    ///     }
    /// }
    ///
    /// # #[cfg(not(feature = "timing"))]
    /// # fn main() {}
    /// # #[cfg(feature = "timing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let executor = Executor::builder().timing(true).build()?;
    /// let hard = executor.build(Solver).name("hard").spawn();
    /// let easy = executor.build(Solver).name("easy").spawn();
    /// hard.tell(Solve(Duration::from_millis(20)))?;
    /// easy.tell(Solve(Duration::ZERO))?;
    /// executor.wait_idle()?;
    /// let top = executor.top(1);
    /// assert_eq!(top.busiest[0].name.as_deref(), Some("hard"));
    /// assert!(top.busiest[0].handling >= Some(Duration::from_millis(20)));
    /// assert!(top.longest_waiting.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn top(&self, k: usize) -> Top {
        if self.core().is_forked() {
            return Top::default();
        }
        let now = time::now();
        let (mut busiest, mut longest_waiting) = (TopK::new(k), TopK::new(k));
        // One reading of the clock for all, so that the ages are comparable.
        self.core().visit_unfinished(|header| {
            let seen = RankedActor::new(header, now);
            busiest.offer_candidate(seen.busy_rank(), &seen);
            longest_waiting.offer_candidate(seen.waiting_rank(), &seen);
            true
        });
        Top { busiest: busiest.into_vec(), longest_waiting: longest_waiting.into_vec() }
    }
}

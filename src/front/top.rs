//! Who is busy, and who is behind: the first few of all actors.

use crate::actor::handle::Handle;
use crate::cell::header::Header;
use crate::id::ActorId;
use crate::time::{self, Duration, Instant};
use std::cmp::Reverse;

/// The busiest and the longest-waiting actors of an executor. From [`Handle::top`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Top {
    /// By the time in handlers, longest first; then those that are not timed, by the number of messages handled. None that
    /// has done nothing yet.
    pub busiest: Vec<TopActor>,
    /// By the age of the oldest message that waits, oldest first; then those that are not timed, by the number of messages
    /// that wait. None that nothing waits for.
    pub longest_waiting: Vec<TopActor>,
}

/// One of the [`Top`] actors, as it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopActor {
    /// Its id.
    pub id: ActorId,
    /// The name given when it was spawned, if any.
    pub name: Option<String>,
    /// The type of its state.
    pub type_name: &'static str,
    /// Messages handled, those of the running turn not included.
    pub handled: u64,
    /// Messages that wait, those of the running turn included.
    pub waiting: usize,
    /// Time in its handlers from the beginning, the one that is running now included; `None` unless it is timed.
    pub handling: Option<Duration>,
    /// The age of the oldest message that waits for its handler; `None` unless it is timed, and something waits.
    pub oldest: Option<Duration>,
}

/// What is looked at in each actor.
struct Seen<'a> {
    header: &'a Header,
    handled: u64,
    waiting: u32,
    handling: Option<Duration>,
    oldest: Option<Duration>,
}

impl<'a> Seen<'a> {
    fn new(header: &'a Header, now: Instant) -> Self {
        let stopwatch = header.stopwatch();
        Seen {
            header,
            handled: header.handled(),
            waiting: header.state.peek().len(),
            handling: stopwatch.map(|watch| watch.busy(now)),
            oldest: stopwatch.and_then(|watch| watch.oldest(header, now)),
        }
    }

    /// `None`: it has done nothing.
    fn busy(&self) -> Option<Rank> {
        let done = self.handling.map_or(self.handled > 0, |handling| !handling.is_zero());
        done.then_some((self.handling, self.handled))
    }

    /// `None`: nothing waits for it. (What is counted as waiting for a timed one, but has no age, is in hand.)
    fn behind(&self) -> Option<Rank> {
        let timed = self.handling.is_some();
        let waits = if timed { self.oldest.is_some() } else { self.waiting > 0 };
        waits.then_some((self.oldest, u64::from(self.waiting)))
    }

    fn actor(&self) -> TopActor {
        let cold = self.header.cold_if_any();
        TopActor {
            id: self.header.id(),
            name: cold.and_then(|cold| cold.name.as_deref()).map(str::to_owned),
            type_name: self.header.type_name(),
            handled: self.handled,
            waiting: self.waiting as usize,
            handling: self.handling,
            oldest: self.oldest,
        }
    }
}

/// What an actor is ranked by: whoever is timed by a time, and before all others; those by a count.
type Rank = (Option<Duration>, u64);

/// The `k` of the highest rank among all that were offered.
struct Best {
    k: usize,
    /// No better than the worst of `k` that are known.
    hopeless: Option<Rank>,
    found: Vec<(Rank, TopActor)>,
}

impl Best {
    fn new(k: usize) -> Self {
        Best { k, hopeless: None, found: Vec::new() }
    }

    fn offer(&mut self, rank: Option<Rank>, seen: &Seen<'_>) {
        let Some(rank) =
            rank.filter(|rank| self.k > 0 && self.hopeless.is_none_or(|hopeless| *rank > hopeless))
        else {
            return;
        };
        self.found.push((rank, seen.actor()));
        if self.found.len() >= self.k.saturating_mul(2) {
            self.choose();
        }
    }

    fn choose(&mut self) {
        self.found.sort_by_key(|(rank, _)| Reverse(*rank));
        if self.found.len() >= self.k {
            self.found.truncate(self.k);
            self.hopeless = self.found.last().map(|(rank, _)| *rank);
        }
    }

    fn into_vec(mut self) -> Vec<TopActor> {
        self.choose();
        self.found.into_iter().map(|(_, actor)| actor).collect()
    }
}

impl Handle {
    /// The `k` busiest and the `k` longest-waiting actors. What is timed ([`Builder::timing`](crate::Builder::timing)) is ranked
    /// by time; what is not, behind it, by counts.
    ///
    /// It looks at every actor of the executor, a few loads for each, 256 at a time under the lock of one part
    /// of the registry, which a worker needs to spawn and to forget actors; so it is for people and monitors that look every
    /// now and then, not for handlers. Nothing stands still for it: each actor is seen at its own moment.
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
        if self.core().forked() {
            return Top::default();
        }
        let now = time::now();
        let (mut busiest, mut longest_waiting) = (Best::new(k), Best::new(k));
        self.core().unfinished(|header| {
            let seen = Seen::new(header, now);
            busiest.offer(seen.busy(), &seen);
            longest_waiting.offer(seen.behind(), &seen);
            true
        });
        Top { busiest: busiest.into_vec(), longest_waiting: longest_waiting.into_vec() }
    }
}

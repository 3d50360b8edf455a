//! Floor 0: identifiers of actors, and the actors of a cycle of waits.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

/// Names an actor, live or ended. An id is unique in its executor and is never reused there.
///
/// Executors in one process do not know of each other, so ids of different executors may be equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorId(NonZeroU64);

impl ActorId {
    pub(crate) const fn from_raw(raw: NonZeroU64) -> Self {
        ActorId(raw)
    }

    /// Returns the id as a number, for logs and tables.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ActorId({})", self.0)
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// An actor in a [`Waiting`](crate::stats::Waiting) or in a [`WaitCycle`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct WaitingActor {
    /// The actor.
    pub id: ActorId,
    /// Its Rust type.
    pub type_name: &'static str,
    /// The name that it was spawned with, if any.
    pub name: Option<Arc<str>>,
}

impl fmt::Display for WaitingActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}"),
            None => write!(f, "{} {}", self.type_name, self.id.get()),
        }
    }
}

/// The actors of a wait that was refused, since it could never end: the actor that was refused, and
/// those that wait for it. Each waits for the next one, and the last for the first. (Where any
/// replica behind a shared queue may answer, an actor waits for several of them.)
///
/// ```
/// # use heist::{Actor, ActorRef, AskError, Context, Executor, Handler};
/// # struct Node;
/// # impl Actor for Node {}
/// struct Visit(ActorRef<Node>);
/// impl Handler<Visit> for Node {
///     type Reply = Result<String, AskError>;
///     fn handle(&mut self, Visit(other): Visit, _: &mut Context<Self>) -> Self::Reply {
///         other.ask(Visit(other.clone()))?.wait()?
///     }
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let executor = Executor::new();
/// let node = executor.build(Node).name("node").spawn();
/// match node.ask(Visit(node.clone()))?.wait()? {
///     Err(AskError::WouldDeadlock(cycle)) => {
///         assert_eq!(cycle.to_string(), "node waits for node");
///         assert_eq!(cycle.actors()[0].id, node.id());
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitCycle(Arc<[WaitingActor]>);

impl WaitCycle {
    /// Makes the cycle of these actors, of which there is at least one.
    pub(crate) fn new(actors: impl IntoIterator<Item = WaitingActor>) -> Self {
        WaitCycle(actors.into_iter().collect())
    }

    /// Returns the actors, beginning with the one that was refused.
    #[must_use]
    pub fn actors(&self) -> &[WaitingActor] {
        &self.0
    }
}

impl fmt::Display for WaitCycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A cycle has an actor, but a formatter should not panic.
        let Some(first) = self.0.first() else { return Ok(()) };
        write!(f, "{first}")?;
        self.0[1..].iter().chain([first]).try_for_each(|actor| write!(f, " waits for {actor}"))
    }
}

//! References by message type: any actor that takes an `M`.

use super::Receive;
use super::ask::Ask;
use super::refs::{ActorRef, WeakRef};
use super::stopped::WeakStopped;
use crate::error::{SendError, StopReason, WaitError};
use crate::id::ActorId;
use crate::time::{self, Duration, Instant};
use std::fmt;
use std::hash::{Hash, Hasher};

type TellFn<M> = fn(&ActorRef<()>, M) -> Result<(), SendError<M>>;
type AskFn<M, R> = fn(&ActorRef<()>, M, Option<Instant>) -> Result<Ask<R>, SendError<M>>;

/// Restores the actor's own type, which the function pointer beside the reference remembers.
fn typed<A>(untyped: &ActorRef<()>) -> &ActorRef<A> {
    // SAFETY: an `ActorRef` is a pointer to an untyped header, whatever its parameter
    // (`repr(transparent)`). Each caller names the type that the reference was made from.
    unsafe { &*std::ptr::from_ref(untyped).cast() }
}

fn untyped<A>(actor: ActorRef<A>) -> ActorRef<()> {
    ActorRef::from_strong(actor.into_strong())
}

impl<A> ActorRef<A> {
    /// Returns a reference to the same actor that only tells it messages of type `M`.
    pub fn recipient<M: Send + 'static>(&self) -> Recipient<M>
    where
        A: Receive<M>,
    {
        Recipient::new(self.clone())
    }

    /// Returns a reference to the same actor that only asks it messages of type `M`.
    pub fn asker<M: Send + 'static>(&self) -> Asker<M, A::Reply>
    where
        A: Receive<M>,
    {
        Asker::new(self.clone())
    }
}

/// A reference to an actor, of whatever type, that takes messages of type `M`. Keeps the actor
/// alive, as an [`ActorRef`] does.
///
/// ```
/// # use heist::{Actor, Context, Executor, Handler, Recipient};
/// # struct Screen; struct File;
/// # impl Actor for Screen {}
/// # impl Actor for File {}
/// # impl Handler<String> for Screen {
/// #     type Reply = ();
/// #     fn handle(&mut self, _: String, _: &mut Context<Self>) {}
/// # }
/// # impl Handler<String> for File {
/// #     type Reply = u64;
/// #     fn handle(&mut self, _: String, _: &mut Context<Self>) -> u64 {
/// #         0
/// #     }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let executor = Executor::new();
/// let (screen, file) = (executor.spawn(Screen), executor.spawn(File));
/// let logs: Vec<Recipient<String>> = vec![screen.recipient(), file.recipient()];
/// for log in &logs {
///     log.tell("started".to_string())?;
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias("Sender", "MessageChannel", "channel"))]
#[must_use = "dropping the last reference ends the actor; see ActorRef::detach"]
pub struct Recipient<M> {
    actor: ActorRef<()>,
    tell: TellFn<M>,
}

impl<M: Send + 'static> Recipient<M> {
    fn new<A: Receive<M>>(actor: ActorRef<A>) -> Self {
        // A function pointer beside the reference, so a recipient costs no allocation.
        Recipient { actor: untyped(actor), tell: |actor, message| typed::<A>(actor).tell(message) }
    }

    /// Sends a message; see [`ActorRef::tell`].
    ///
    /// # Errors
    /// As [`ActorRef::tell`].
    pub fn tell(&self, message: M) -> Result<(), SendError<M>> {
        (self.tell)(&self.actor, message)
    }
}

impl<M> Recipient<M> {
    /// Returns a reference that does not keep the actor alive.
    pub fn downgrade(&self) -> WeakRecipient<M> {
        WeakRecipient { actor: self.actor.downgrade(), tell: self.tell }
    }

    /// Returns the actor's id.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.actor.id()
    }

    /// Returns `true` if the actor still accepts messages; see [`ActorRef::is_running`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.actor.is_running()
    }
}

impl<M> Clone for Recipient<M> {
    fn clone(&self) -> Self {
        Recipient { actor: self.actor.clone(), tell: self.tell }
    }
}

impl<A: Receive<M>, M: Send + 'static> From<ActorRef<A>> for Recipient<M> {
    fn from(actor: ActorRef<A>) -> Self {
        Recipient::new(actor)
    }
}

impl<A: Receive<M>, M: Send + 'static> From<&ActorRef<A>> for Recipient<M> {
    fn from(actor: &ActorRef<A>) -> Self {
        Recipient::new(actor.clone())
    }
}

/// Equal if the actor is the same.
impl<M> PartialEq for Recipient<M> {
    fn eq(&self, other: &Self) -> bool {
        self.actor == other.actor
    }
}

impl<M> Eq for Recipient<M> {}

impl<M> Hash for Recipient<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.actor.hash(state);
    }
}

impl<M> fmt::Debug for Recipient<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recipient").field(&self.actor).finish()
    }
}

/// A reference to an actor, of whatever type, that answers messages of type `M` with an `R`. Keeps
/// the actor alive, as an [`ActorRef`] does.
///
/// ```
/// # use heist::{Actor, Asker, Context, Executor, Handler};
/// # struct Doubler;
/// # impl Actor for Doubler {}
/// # impl Handler<u32> for Doubler {
/// #     type Reply = u32;
/// #     fn handle(&mut self, n: u32, _: &mut Context<Self>) -> u32 {
/// #         2 * n
/// #     }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let executor = Executor::new();
/// let asker: Asker<u32, u32> = executor.spawn(Doubler).asker();
/// assert_eq!(asker.ask(4)?.wait()?, 8);
/// # Ok(())
/// # }
/// ```
#[doc(alias("ReplyRecipient", "Caller"))]
#[must_use = "dropping the last reference ends the actor; see ActorRef::detach"]
pub struct Asker<M, R> {
    actor: ActorRef<()>,
    ask: AskFn<M, R>,
}

impl<M: Send + 'static, R: Send + 'static> Asker<M, R> {
    fn new<A: Receive<M, Reply = R>>(actor: ActorRef<A>) -> Self {
        // A single function pointer serves both ways to ask, so an asker has two words.
        let ask: AskFn<M, R> = |actor, message, deadline| match deadline {
            None => typed::<A>(actor).ask(message),
            Some(deadline) => typed::<A>(actor).ask_deadline(message, deadline),
        };
        Asker { actor: untyped(actor), ask }
    }

    /// Sends a message and returns its answer to come; see [`ActorRef::ask`].
    ///
    /// # Errors
    /// As [`ActorRef::ask`].
    pub fn ask(&self, message: M) -> Result<Ask<R>, SendError<M>> {
        (self.ask)(&self.actor, message, None)
    }

    /// Sends a message with a deadline and returns its answer to come; see
    /// [`ActorRef::ask_deadline`].
    ///
    /// # Errors
    /// As [`ActorRef::ask_deadline`].
    pub fn ask_deadline(&self, message: M, deadline: Instant) -> Result<Ask<R>, SendError<M>> {
        (self.ask)(&self.actor, message, Some(deadline))
    }
}

impl<M: Send + 'static, R: Send + 'static> Asker<M, R> {
    /// Sends a message with a deadline that lies `timeout` after this call; see
    /// [`ActorRef::ask_timeout`].
    ///
    /// # Errors
    /// As [`ActorRef::ask_timeout`].
    pub fn ask_timeout(&self, message: M, timeout: Duration) -> Result<Ask<R>, SendError<M>> {
        (self.ask)(&self.actor, message, time::instant_after(timeout))
    }
}

impl<M, R> Asker<M, R> {
    /// Returns the actor's id.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.actor.id()
    }

    /// Returns `true` if the actor still accepts messages; see [`ActorRef::is_running`].
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.actor.is_running()
    }
}

impl<M, R> Clone for Asker<M, R> {
    fn clone(&self) -> Self {
        Asker { actor: self.actor.clone(), ask: self.ask }
    }
}

impl<A: Receive<M, Reply = R>, M: Send + 'static, R: Send + 'static> From<ActorRef<A>>
    for Asker<M, R>
{
    fn from(actor: ActorRef<A>) -> Self {
        Asker::new(actor)
    }
}

impl<A: Receive<M, Reply = R>, M: Send + 'static, R: Send + 'static> From<&ActorRef<A>>
    for Asker<M, R>
{
    fn from(actor: &ActorRef<A>) -> Self {
        Asker::new(actor.clone())
    }
}

/// Equal if the actor is the same.
impl<M, R> PartialEq for Asker<M, R> {
    fn eq(&self, other: &Self) -> bool {
        self.actor == other.actor
    }
}

impl<M, R> Eq for Asker<M, R> {}

impl<M, R> Hash for Asker<M, R> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.actor.hash(state);
    }
}

impl<M, R> fmt::Debug for Asker<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asker").field(&self.actor).finish()
    }
}

/// A [`Recipient`] that does not keep the actor alive, as a [`WeakRef`].
///
/// ```
/// # use heist::{Actor, Context, Executor, Handler, Recipient, WeakRecipient};
/// # struct Screen;
/// # impl Actor for Screen {}
/// # impl Handler<String> for Screen {
/// #     type Reply = ();
/// #     fn handle(&mut self, _: String, _: &mut Context<Self>) {}
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let executor = Executor::new();
/// let screen = executor.spawn(Screen);
/// let listeners: Vec<WeakRecipient<String>> = vec![Recipient::from(&screen).downgrade()];
/// for listener in listeners.iter().filter_map(WeakRecipient::upgrade) {
///     listener.tell("started".to_string())?;
/// }
/// screen.stop();
/// assert!(listeners[0].upgrade().is_none());
/// # Ok(())
/// # }
/// ```
#[must_use = "a reference has no effect by itself"]
pub struct WeakRecipient<M> {
    actor: WeakRef<()>,
    tell: TellFn<M>,
}

impl<M> WeakRecipient<M> {
    /// Returns a [`Recipient`] if the actor still accepts messages.
    #[must_use]
    pub fn upgrade(&self) -> Option<Recipient<M>> {
        Some(Recipient { actor: self.actor.upgrade()?, tell: self.tell })
    }

    /// Returns the actor's id.
    #[must_use]
    pub fn id(&self) -> ActorId {
        self.actor.id()
    }

    /// Blocks until the actor has ended, without keeping it alive, and returns the reason; see
    /// [`WeakRef::wait_stopped`].
    ///
    /// # Errors
    /// As [`ActorRef::wait_stopped`].
    pub fn wait_stopped(&self) -> Result<StopReason, WaitError> {
        self.actor.wait_stopped()
    }

    /// Blocks as [`wait_stopped`](Self::wait_stopped) does, for at most `timeout`.
    ///
    /// # Errors
    /// As [`ActorRef::wait_stopped_timeout`].
    pub fn wait_stopped_timeout(&self, timeout: Duration) -> Result<StopReason, WaitError> {
        self.actor.wait_stopped_timeout(timeout)
    }

    /// Returns a future that resolves to the reason when the actor has ended, and does not keep the
    /// actor alive.
    pub fn wait_stopped_async(&self) -> WeakStopped {
        self.actor.wait_stopped_async()
    }
}

impl<M> Clone for WeakRecipient<M> {
    fn clone(&self) -> Self {
        WeakRecipient { actor: self.actor.clone(), tell: self.tell }
    }
}

/// Equal if the actor is the same.
impl<M> PartialEq for WeakRecipient<M> {
    fn eq(&self, other: &Self) -> bool {
        self.actor == other.actor
    }
}

impl<M> Eq for WeakRecipient<M> {}

impl<M> Hash for WeakRecipient<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.actor.hash(state);
    }
}

impl<M> fmt::Debug for WeakRecipient<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakRecipient").field(&self.actor).finish()
    }
}

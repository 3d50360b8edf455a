//! Sending to a key's actor: the methods of an `ActorRef`, each with a key.
//!
//! A look-up and a send are two steps, and the actor may stop in between. Its mailbox then refuses
//! the message, and the next look finds or makes another actor of the key.

use super::Directory;
use super::reach::Lookup;
use crate::actor::ask::Ask;
use crate::actor::carried::carried;
use crate::actor::refs::ActorRef;
use crate::actor::send::{Packed, Queued, Returned, open_packed, pack_message};
use crate::actor::{Actor, Receive};
use crate::drops::OwnedField;
use crate::error::{Refusal, SendError};
use crate::time::{self, Duration, Instant};
use crate::variance::Invariant;
use std::borrow::Borrow;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

impl<K, A> Directory<K, A>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    A: Actor + Send,
{
    /// Tells the key's actor a message, and spawns the actor if there is none. Never waits. If the
    /// actor stops at this moment the message goes to the next one.
    ///
    /// # Errors
    /// The message comes back inside the error if the mailbox is full, the executor shuts down, or
    /// the process was forked.
    pub fn tell<Q, M: Send + 'static>(&self, key: &Q, message: M) -> Result<(), SendError<M>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        A: Receive<M>,
    {
        carried!(message => self.deliver_to_key(key, message, ActorRef::tell_as::<M, _>))
    }

    /// Asks the key's actor a message, and spawns the actor if there is none. Never waits; the
    /// returned [`Ask`] can be waited for or awaited. If the actor stops at this moment the message
    /// goes to the next one.
    ///
    /// # Errors
    /// As for [`tell`](Self::tell).
    pub fn ask<Q, M: Send + 'static>(
        &self,
        key: &Q,
        message: M,
    ) -> Result<Ask<A::Reply>, SendError<M>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        A: Receive<M>,
    {
        carried!(message => self.deliver_to_key(key, message, ActorRef::ask_as::<M, _>))
    }

    /// Asks as [`ask`](Self::ask) does, with a deadline: see [`ActorRef::ask_deadline`].
    ///
    /// # Errors
    /// As for [`tell`](Self::tell).
    pub fn ask_deadline<Q, M: Send + 'static>(
        &self,
        key: &Q,
        message: M,
        deadline: Instant,
    ) -> Result<Ask<A::Reply>, SendError<M>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        A: Receive<M>,
    {
        carried!(message => self.deliver_to_key(key, message, |actor, message| {
            actor.ask_deadline_as::<M, _>(message, deadline)
        }))
    }

    /// Asks as [`ask_deadline`](Self::ask_deadline) does, with a deadline that lies `timeout` after
    /// this call. The wait for the answer is not cut short: see [`Ask::wait_timeout`].
    ///
    /// # Errors
    /// As for [`tell`](Self::tell).
    pub fn ask_timeout<Q, M: Send + 'static>(
        &self,
        key: &Q,
        message: M,
        timeout: Duration,
    ) -> Result<Ask<A::Reply>, SendError<M>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        A: Receive<M>,
    {
        match time::instant_after(timeout) {
            Some(deadline) => self.ask_deadline(key, message, deadline),
            // Later than any instant.
            None => self.ask(key, message),
        }
    }

    /// Sends the key's actor a message, and blocks until its mailbox has room; see
    /// [`ActorRef::send`]. Spawns the actor if there is none. If the actor stops, also during the
    /// wait, the message goes to the next one.
    ///
    /// # Errors
    /// As for [`ActorRef::send`], but for an actor that stops.
    pub fn send<Q, M: Send + 'static>(&self, key: &Q, message: M) -> Result<(), SendError<M>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        A: Receive<M>,
    {
        self.send_until(key, message, None)
    }

    /// Sends a message as [`send`](Self::send) does, and blocks for at most `timeout`, counted from
    /// this call.
    ///
    /// # Errors
    /// As for [`send`](Self::send), and [`Refusal::TimedOut`].
    pub fn send_timeout<Q, M: Send + 'static>(
        &self,
        key: &Q,
        message: M,
        timeout: Duration,
    ) -> Result<(), SendError<M>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        A: Receive<M>,
    {
        self.send_until(key, message, time::instant_after(timeout))
    }

    fn send_until<Q, M: Send + 'static>(
        &self,
        key: &Q,
        message: M,
        until: Option<Instant>,
    ) -> Result<(), SendError<M>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
        A: Receive<M>,
    {
        carried!(message => self.deliver_with(key, message, |reached, message| {
            // The actor begins before the wait: other senders may have filled its mailbox already,
            // and only its own turns give room.
            let Lookup { actor, _begin } = reached;
            drop(_begin);
            actor.send_until::<M, _>(message, until)
        }))
    }

    /// Returns a future that sends the key's actor a message and waits for room: the awaited form
    /// of [`send`](Self::send). The message joins the line at the first poll. Dropping it drops the
    /// message, unless that was accepted already.
    ///
    /// ```
    /// # use heist::{Actor, Context, Directory, Executor, Handler};
    /// # struct Log(Vec<String>);
    /// # impl Actor for Log {}
    /// # impl Handler<String> for Log {
    /// #     type Reply = usize;
    /// #     fn handle(&mut self, line: String, _: &mut Context<Self>) -> usize {
    /// #         self.0.push(line);
    /// #         self.0.len()
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let executor = Executor::new();
    /// let logs = Directory::new(&executor, |_: &String| Log(Vec::new()));
    /// let line = || "a line".to_string();
    /// futures::executor::block_on(logs.send_async("Ada", line()))?;
    /// logs.send("Ada", line())?;
    /// assert_eq!(logs.ask("Ada", line())?.wait()?, 3);
    /// # Ok(())
    /// # }
    /// ```
    pub fn send_async<Q, M: Send + 'static>(&self, key: &Q, message: M) -> DirectorySending<K, A, M>
    where
        K: Borrow<Q>,
        Q: ToOwned<Owned = K> + ?Sized,
        A: Receive<M>,
    {
        let inner = self.inner();
        let (core, timing) = (inner.executor.core(), inner.settings.timing);
        // Packed once, for whichever actor of the key: all have the same executor and timing.
        let state = DirectorySendState::Fresh(pack_message::<A, M>(message, core, timing));
        DirectorySending {
            directory: self.clone(),
            key: OwnedField::new(key.to_owned()),
            state,
            message: PhantomData,
        }
    }

    fn deliver_to_key<Q, M, R>(
        &self,
        key: &Q,
        message: M,
        send: impl Fn(&ActorRef<A>, M) -> Result<R, SendError<M>>,
    ) -> Result<R, SendError<M>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        // A new actor begins after the send: see `Lookup`.
        self.deliver_with(key, message, |reached, message| send(&reached.actor, message))
    }

    fn deliver_with<Q, M, R>(
        &self,
        key: &Q,
        mut message: M,
        send: impl Fn(Lookup<'_, A>, M) -> Result<R, SendError<M>>,
    ) -> Result<R, SendError<M>>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        loop {
            let Some(reached) = self.reach_actor(key) else {
                return Err(SendError::new(message, self.refusal()));
            };
            match send(reached, message) {
                // Stopped since the look-up. The actor is closed now, so the next look finds or
                // makes another.
                // Another round is needed only if another actor of the key was stopped meanwhile.
                Err(error) if error.refusal() == Refusal::Stopped => message = error.into_message(),
                done => return done,
            }
        }
    }

    /// Returns why there is no actor for a key.
    fn refusal(&self) -> Refusal {
        if self.inner().is_forked() { Refusal::Forked } else { Refusal::ShuttingDown }
    }
}

enum DirectorySendState<A> {
    Fresh(Packed<A>),
    Waiting(Queued<A>),
    Done,
}

/// A message on its way to a key's actor, to be awaited. From [`Directory::send_async`].
///
/// Resolves to `Ok` once the message is in a mailbox, or to an error with the message inside. After
/// [`std::mem::forget`] a message that waits stays in line and is sent when that mailbox has room;
/// if the actor stops before, the message leaks. The key leaks too, and so do a reference to the
/// actor and a handle of the directory.
///
/// # Panics
/// Polling it panics after it was ready.
#[must_use = "a future does nothing unless it is awaited"]
pub struct DirectorySending<K: 'static, A: Actor, M> {
    directory: Directory<K, A>,
    key: OwnedField<K>,
    state: DirectorySendState<A>,
    /// The envelope holds an `M`.
    message: Invariant<M>,
}

// No field is structurally pinned.
impl<K: 'static, A: Actor, M> Unpin for DirectorySending<K, A, M> {}

impl<K, A, M> DirectorySending<K, A, M>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    A: Receive<M> + Send,
    M: Send + 'static,
{
    #[track_caller]
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Returned<A>>> {
        loop {
            if let DirectorySendState::Fresh(_) = self.state {
                // The message stays in `state` meanwhile, since a key's code may panic.
                let reached = self.directory.reach_actor(&*self.key);
                let DirectorySendState::Fresh(packed) =
                    std::mem::replace(&mut self.state, DirectorySendState::Done)
                else {
                    unreachable!("it was fresh")
                };
                let Some(Lookup { actor, _begin }) = reached else {
                    return Poll::Ready(Err(Returned(packed, self.directory.refusal())));
                };
                self.state = DirectorySendState::Waiting(Queued::new(actor, packed));
                // `_begin` goes here: the actor begins while the future holds a reference to it.
            }
            let DirectorySendState::Waiting(queued) = &mut self.state else {
                panic!("a send was polled after it was done")
            };
            let result = ready!(Pin::new(queued).poll(cx));
            self.state = match result {
                // The actor has stopped, and the key gets another one.
                Err(Returned(packed, Refusal::Stopped)) => DirectorySendState::Fresh(packed),
                result => {
                    self.state = DirectorySendState::Done;
                    return Poll::Ready(result);
                }
            };
        }
    }
}

impl<K, A: Receive<M>, M: Send + 'static> DirectorySending<K, A, M> {
    /// Gives up, and returns the message unless it was accepted. Returns `None` if it was, or if
    /// the message came back in an error already. In a forked child a message that waits is not
    /// returned. An actor that was made for the message stays.
    #[must_use = "the message is lost unless it is used"]
    pub fn cancel(mut self) -> Option<M> {
        let packed = match std::mem::replace(&mut self.state, DirectorySendState::Done) {
            DirectorySendState::Fresh(packed) => packed,
            DirectorySendState::Waiting(mut queued) => queued.withdraw_message()?,
            DirectorySendState::Done => return None,
        };
        // SAFETY: `send_async` packed an `M` for this future, which has the same type parameter.
        Some(unsafe { open_packed(packed) })
    }
}

impl<K, A, M> Future for DirectorySending<K, A, M>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    A: Receive<M> + Send,
    M: Send + 'static,
{
    type Output = Result<(), SendError<M>>;

    #[track_caller]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.advance(cx).map_err(|Returned(packed, refusal)| {
            // SAFETY: `send_async` packed an `M` for this future, which has the same type
            // parameter.
            let message = unsafe { open_packed(packed) };
            SendError::new(message, refusal)
        })
    }
}

impl<K: 'static, A: Actor, M> fmt::Debug for DirectorySending<K, A, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectorySending")
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

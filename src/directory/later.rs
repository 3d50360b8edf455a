//! Telling a key's actor later.
//!
//! A timer of an actor would keep that actor's memory, and end with it. So the timer is one of the
//! directory's *postman*, an actor of its own. The postman holds the key, and looks the key's actor
//! up when the timer is due. There is one postman at a time, so messages to one key come in the
//! order of their instants. Its timers keep the postman alive, so a directory without timers has
//! none.
//!
//! The postman does not keep the directory. With the last handle the directory stops the postman,
//! and timers that are armed then become dead letters.

use super::Directory;
use super::table::Postman;
use crate::actor::carried::{Carried, carried};
use crate::actor::refs::ActorRef;
use crate::actor::timers::Timer;
use crate::actor::timers::relay::{self, DueTimer, Relay};
use crate::actor::{Actor, Receive};
use crate::cell::event::DeadLetterReason;
use crate::drops::{self, OwnedField};
use crate::error::{Refusal, SendError};
use crate::time::{self, Duration, Instant};
use crate::user::{self, Site};
use crate::variance::Invariant;
use std::borrow::Borrow;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;

impl<K, A> Directory<K, A>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    A: Actor + Send,
{
    /// Tells the key's actor `message` after `delay`. See [`Timer`]. The actor is looked up when
    /// the timer is due, and spawned then if there is none. So the timer keeps no actor alive, and
    /// the message reaches whichever actor the key has by then.
    ///
    /// The message is exempt from the capacity of the actor's mailbox, and overtakes what waits
    /// there. Messages of several timers to one key come in the order of their instants.
    ///
    /// The timer is over with the directory: when the last handle is dropped, the messages of armed
    /// timers become dead letters.
    ///
    /// # Costs
    /// While timers are armed the directory has an actor of its own for them, which counts in the
    /// executor's statistics. The look-ups of one directory's timers run one after the other. A key
    /// with a [`Hash`] or [`Eq`] that blocks holds up those behind it, and if one of these panics
    /// the message is a dead letter ([`Panicked`](crate::event::DeadLetterReason::Panicked)).
    ///
    /// # Errors
    /// [`Refusal::ShuttingDown`] once the executor shuts down, [`Refusal::Forked`] in a forked
    /// child. The message comes back inside the error.
    ///
    /// ```
    /// # use heist::{Actor, Context, Directory, Executor, Handler};
    /// # use std::time::Duration;
    /// # struct Session(u64);
    /// # impl Actor for Session {}
    /// # struct Remind(std::sync::mpsc::Sender<u64>);
    /// # impl Handler<Remind> for Session {
    /// #     type Reply = ();
    /// #     fn handle(&mut self, Remind(to): Remind, _: &mut Context<Self>) {
    /// #         to.send(self.0).unwrap();
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let (to, from) = std::sync::mpsc::channel();
    /// let executor = Executor::new();
    /// let sessions = Directory::new(&executor, |&user: &u64| Session(user));
    /// sessions.tell_after(&7, Duration::from_millis(10), Remind(to.clone()))?.detach();
    /// let other = sessions.tell_after(&8, Duration::from_secs(3600), Remind(to))?;
    /// assert_eq!(from.recv()?, 7);          // the session was spawned for the message
    /// assert!(sessions.find(&8).is_none());
    /// assert!(other.cancel());
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias("send_after", "reminder", "delay", "schedule_once"))]
    pub fn tell_after<Q, M: Send + 'static>(
        &self,
        key: &Q,
        delay: Duration,
        message: M,
    ) -> Result<Timer, SendError<M>>
    where
        K: Borrow<Q>,
        Q: ToOwned<Owned = K> + ?Sized,
        A: Receive<M>,
    {
        carried!(message => self.arm_letter::<Q, M, _>(key, time::instant_after(delay), message))
    }

    /// Tells the key's actor `message` at an instant, or as soon as possible if that has passed.
    /// See [`tell_after`](Self::tell_after) for all else.
    ///
    /// # Errors
    /// As [`tell_after`](Self::tell_after).
    #[doc(alias("send_at", "reminder", "schedule"))]
    pub fn tell_at<Q, M: Send + 'static>(
        &self,
        key: &Q,
        at: Instant,
        message: M,
    ) -> Result<Timer, SendError<M>>
    where
        K: Borrow<Q>,
        Q: ToOwned<Owned = K> + ?Sized,
        A: Receive<M>,
    {
        carried!(message => self.arm_letter::<Q, M, _>(key, Some(at), message))
    }

    fn arm_letter<Q, M: Send + 'static, C: Carried<M>>(
        &self,
        key: &Q,
        at: Option<Instant>,
        message: C,
    ) -> Result<Timer, SendError<C>>
    where
        K: Borrow<Q>,
        Q: ToOwned<Owned = K> + ?Sized,
        A: Receive<M>,
    {
        if self.inner().is_forked() {
            return Err(SendError::new(message, Refusal::Forked));
        }
        // User code, so before anything is changed.
        let key = OwnedField::new(user::run_passing(Site::Key, || key.to_owned()));
        let Some(postman) = self.postman() else {
            return Err(SendError::new(message, Refusal::ShuttingDown));
        };
        // A timer that is due at once waits from now, not from the instant in the past.
        let due = at.map(|at| at.max(time::now()));
        let letter = Letter { key, due, message, of: PhantomData::<fn(M) -> M> };
        relay::arm_relayed(postman, at, due, letter).map_err(|error| {
            let refusal = error.refusal();
            SendError::new(error.into_message().message, refusal)
        })
    }

    /// Returns the postman, and spawns one if there is none. Returns `None` once the executor shuts
    /// down.
    fn postman(&self) -> Option<ActorRef<Postman<K, A>>> {
        let inner = self.inner();
        if let Some(postman) = inner.find_postman() {
            return Some(postman);
        }
        // Outside the lock: a refused spawn may end the crew, whose end may run wakers.
        let fresh = inner.executor.try_spawn(Postman(Arc::downgrade(&self.owner))).ok()?;
        Some(inner.publish_postman(fresh))
    }
}

/// A message on its way to a key's actor. The type parameter `M` is what the carried form arrives
/// as.
struct Letter<K: 'static, M, C> {
    key: OwnedField<K>,
    due: Option<Instant>,
    message: C,
    of: Invariant<M>,
}

impl<K: 'static, A: Actor> Actor for Postman<K, A> {}

impl<K, A, M, C> Relay<Letter<K, M, C>> for Postman<K, A>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    A: Receive<M> + Send,
    M: Send + 'static,
    C: Carried<M>,
{
    type Message = M;

    fn pass_on(&mut self, timer: DueTimer<'_>, letter: Letter<K, M, C>) {
        let Letter { key, due, mut message, .. } = letter;
        let reason = loop {
            // The user may have cancelled the timer since it was due. No actor is spawned then.
            if timer.is_cancelled() {
                break DeadLetterReason::Cancelled;
            }
            let Some(owner) = self.0.upgrade() else { break DeadLetterReason::Stopped };
            let directory = Directory { owner };
            // A panic of the key's code must not end the postman.
            let reached = user::run_guarded(Site::Key, || directory.reach_actor(&*key));
            let Ok(reached) = reached else { break DeadLetterReason::Panicked };
            let Some(reached) = reached else { break DeadLetterReason::Shutdown };
            match timer.deliver::<A, M, C>(&reached.actor, due, message) {
                Ok(()) => return,
                // Stopped since the look-up. The next look finds or makes another actor.
                Err(back) => message = back,
            }
        };
        timer.give_up(reason);
        // The message's drop is user code, and its panic must not end the postman either.
        drops::run_or_put_off(move || user::run_contained(Site::Drop, || drop(message)));
    }
}

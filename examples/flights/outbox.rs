//! What an actor does when a mailbox is full. It must not wait (that would hold up its worker, and two actors
//! that wait for each other would never end), and it must not lose the message. So it keeps the message, goes on
//! with its own work, and has itself reminded when the other has room again.

use std::collections::{HashMap, VecDeque};

use heist::{Actor, ActorId, ActorRef, Context, Receive, Refusal};

/// The reminder: this actor has room again. Whoever has an [`Outbox`] handles it with [`Outbox::flush`].
pub(crate) struct Flush<B: Actor>(ActorRef<B>);

/// Messages that others had no room for, in the order in which they were meant to be sent to each of them.
///
/// An outbox has no bound of its own: the sender has to know how much it may have to keep (here: at most the
/// flights of one aircraft or airport). Where a stream never ends, its source has to be slowed down as well.
pub(crate) struct Outbox<M> {
    /// An actor is in here exactly as long as something is kept for it and a reminder is on order.
    waiting: HashMap<ActorId, VecDeque<M>>,
    kept: u64,
}

impl<M: Send + 'static> Outbox<M> {
    pub(crate) fn new() -> Self {
        Self { waiting: HashMap::new(), kept: 0 }
    }

    /// How many messages did not find room at once.
    pub(crate) fn kept(&self) -> u64 {
        self.kept
    }

    /// Sends `message` to `target`: now, or as soon as there is room, but never before an earlier one.
    pub(crate) fn send<A, B>(&mut self, target: &ActorRef<B>, message: M, ctx: &mut Context<A>)
    where
        A: Receive<Flush<B>>,
        B: Receive<M>,
    {
        if let Some(waiting) = self.waiting.get_mut(&target.id()) {
            // There may be room by now, but a message that took it would overtake those that wait.
            waiting.push_back(message);
            self.kept += 1;
        } else if let Some(message) = offer(target, message) {
            self.waiting.insert(target.id(), VecDeque::from([message]));
            self.kept += 1;
            remind(target, ctx);
        }
    }

    /// Sends what waits for the actor that has room again, as far as the room goes.
    pub(crate) fn flush<A, B>(&mut self, Flush(target): Flush<B>, ctx: &mut Context<A>)
    where
        A: Receive<Flush<B>>,
        B: Receive<M>,
    {
        let Some(mut waiting) = self.waiting.remove(&target.id()) else { return };
        while let Some(message) = waiting.pop_front() {
            if let Some(message) = offer(&target, message) {
                waiting.push_front(message);
                self.waiting.insert(target.id(), waiting);
                return remind(&target, ctx);
            }
        }
    }
}

/// Tells, and gives the message back if the mailbox is full. Any other refusal cannot happen in this program, as
/// every actor runs until the end; should it happen, the panic fails this actor, and whoever asks it is told.
fn offer<B: Receive<M>, M: Send + 'static>(target: &ActorRef<B>, message: M) -> Option<M> {
    match target.tell(message) {
        Ok(()) => None,
        Err(refused) if refused.refusal() == Refusal::Full => Some(refused.into_message()),
        Err(refused) => panic!("{target:?}: {refused}"),
    }
}

fn remind<A: Receive<Flush<B>>, B: Actor>(target: &ActorRef<B>, ctx: &mut Context<A>) {
    if let Err(refused) = ctx.when_room(target, Flush(target.clone())) {
        panic!("{target:?}: {refused}");
    }
}

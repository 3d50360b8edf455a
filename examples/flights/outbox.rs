//! Keeps messages for full mailboxes. An actor must not wait for room. Waiting would hold up its
//! worker, and two actors that wait for each other would never end. Losing the message is no option
//! either. So the actor keeps the message, goes on with its own work, and is reminded when the
//! other mailbox has room again.

use std::collections::{HashMap, VecDeque};

use heist::{Actor, ActorId, ActorRef, Context, Receive, Refusal};

/// A reminder that the actor has room again. The owner of an [`Outbox`] passes it to
/// [`Outbox::flush`].
pub(crate) struct Flush<B: Actor>(ActorRef<B>);

/// Messages for which others had no room, in the order of sending to each of them.
///
/// An outbox has no bound of its own. The sender has to know how much it may have to keep (here at
/// most the flights of one aircraft or airport). For an endless stream, the source has to be slowed
/// down as well.
pub(crate) struct Outbox<M> {
    /// Contains an actor exactly as long as messages are kept for it and a reminder is on order.
    waiting: HashMap<ActorId, VecDeque<M>>,
    kept: u64,
}

impl<M: Send + 'static> Outbox<M> {
    pub(crate) fn new() -> Self {
        Self { waiting: HashMap::new(), kept: 0 }
    }

    /// Returns the number of messages that did not find room at once.
    pub(crate) fn kept(&self) -> u64 {
        self.kept
    }

    /// Sends `message` to `target`, now or as soon as there is room, but never before an earlier
    /// message.
    pub(crate) fn send<A, B>(&mut self, target: &ActorRef<B>, message: M, ctx: &mut Context<A>)
    where
        A: Receive<Flush<B>>,
        B: Receive<M>,
    {
        if let Some(waiting) = self.waiting.get_mut(&target.id()) {
            // There may be room by now, but this message would overtake the waiting ones.
            waiting.push_back(message);
            self.kept += 1;
        } else if let Some(message) = offer(target, message) {
            self.waiting.insert(target.id(), VecDeque::from([message]));
            self.kept += 1;
            remind(target, ctx);
        }
    }

    /// Sends the messages that wait for the actor, as far as there is room.
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

/// Tells, and returns the message if the mailbox is full. No other refusal can happen in this
/// program, because every actor runs until the end. If one happened, the panic would fail this
/// actor, and its askers would be told.
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

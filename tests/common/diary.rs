//! Provides an actor for tests of starting and stopping. `Diary` records its own hooks, messages
//! and drop.

use super::*;
use heist::{ActorRef, Receive, Refusal, Reply};

/// Records its hooks, messages and drop as text entries.
pub(crate) struct Diary {
    pub(crate) entries: Entries,
    pub(crate) replies: Vec<Reply<()>>,
    pub(crate) panics_in: &'static str,
}

#[derive(Clone, Default)]
pub(crate) struct Entries(pub(crate) Arc<Mutex<Vec<String>>>);

impl Entries {
    pub(crate) fn write(&self, entry: impl Into<String>) {
        self.0.lock().unwrap().push(entry.into());
    }
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Diary {
    pub(crate) fn new(entries: &Entries) -> Self {
        Diary { entries: entries.clone(), replies: Vec::new(), panics_in: "" }
    }
    pub(crate) fn write(&self, entry: impl Into<String>) {
        let entry = entry.into();
        self.entries.write(&*entry);
        if entry == self.panics_in {
            intended_panic();
        }
    }
}

impl Actor for Diary {
    fn started(&mut self, _: &mut Context<Self>) {
        self.write("started");
    }
    fn stopped(&mut self, reason: &StopReason) {
        self.write(format!("stopped: {reason}"));
    }
}

impl Drop for Diary {
    fn drop(&mut self) {
        self.entries.write("dropped");
    }
}

pub(crate) struct Work(pub(crate) &'static str);

impl Handler<Work> for Diary {
    type Reply = ();
    fn handle(&mut self, Work(name): Work, _: &mut Context<Self>) {
        self.write(name);
    }
}

/// Stops the actor, then continues to the end of the handler.
pub(crate) struct End;

impl Handler<End> for Diary {
    type Reply = Refusal;
    fn handle(&mut self, _: End, ctx: &mut Context<Self>) -> Refusal {
        ctx.stop();
        self.write("stopping");
        ctx.me().tell(Work("too late")).unwrap_err().refusal()
    }
}

/// Waits inside the turn, so that a mailbox can be filled behind the turn.
pub(crate) struct Pause(pub(crate) Latch, pub(crate) Latch);

impl Handler<Pause> for Diary {
    type Reply = ();
    fn handle(&mut self, Pause(entered, until): Pause, _: &mut Context<Self>) {
        entered.open();
        until.wait();
    }
}

pub(crate) struct Keep;

impl Receive<Keep> for Diary {
    type Reply = ();
    fn receive(&mut self, _: Keep, reply: Reply<()>, _: &mut Context<Self>) {
        self.replies.push(reply);
    }
}

/// Spawns a diary, holds it in a turn and returns the latch that ends the turn.
pub(crate) fn paused(executor: &Executor, entries: &Entries) -> (ActorRef<Diary>, Latch) {
    let diary = executor.build(Diary::new(entries)).capacity(8).spawn();
    let (entered, until) = (Latch::new(), Latch::new());
    diary.tell(Pause(entered.clone(), until.clone())).unwrap();
    entered.wait();
    (diary, until)
}

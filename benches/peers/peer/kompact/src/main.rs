//! Runs the workloads on kompact: a component for each actor, with local messages only.

use std::{fmt, process::ExitCode, sync::OnceLock};

use kompact::prelude::*;
use workloads::{Next, Peer, Role};

static SYSTEM: OnceLock<KompactSystem> = OnceLock::new();

struct Kompact;

/// Wraps a message, because kompact requires `Debug`.
struct Shown<M>(M);

impl<M> fmt::Debug for Shown<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a message")
    }
}

#[derive(ComponentDefinition)]
struct Shell<R: Role<Kompact>> {
    ctx: ComponentContext<Self>,
    role: R,
}

impl<R: Role<Kompact>> ComponentLifecycle for Shell<R> {}

impl<R: Role<Kompact>> Actor for Shell<R> {
    type Message = Shown<R::Message>;

    fn receive_local(&mut self, message: Shown<R::Message>) -> HandlerResult {
        let ctx = &self.ctx;
        match self.role.handle(message.0, || ctx.actor_ref()) {
            Next::Go => Handled::OK,
            Next::Stop => Handled::SHUTDOWN,
        }
    }
}

#[derive(ComponentDefinition)]
struct Echo {
    ctx: ComponentContext<Self>,
}

impl ComponentLifecycle for Echo {}

impl Actor for Echo {
    type Message = Ask<u64, u64>;

    fn receive_local(&mut self, ask: Ask<u64, u64>) -> HandlerResult {
        ask.complete(|n| n).ok();
        Handled::OK
    }
}

fn system() -> &'static KompactSystem {
    SYSTEM.get().expect("started first")
}

impl Peer for Kompact {
    type Ref<R: Role<Self>> = ActorRef<Shown<R::Message>>;

    fn spawn<R: Role<Self>>(role: R) -> Self::Ref<R> {
        let component = system().create(|| Shell { ctx: ComponentContext::uninitialised(), role });
        system().start(&component);
        component.actor_ref()
    }

    fn tell<R: Role<Self>>(to: &Self::Ref<R>, message: R::Message) {
        to.tell(Shown(message));
    }

    fn echo() -> impl FnMut(u64) -> u64 + Send + 'static {
        let component = system().create(|| Echo { ctx: ComponentContext::uninitialised() });
        system().start(&component);
        let echo = component.actor_ref().hold().expect("a live actor");
        move |n| echo.ask(n).wait()
    }
}

fn start(workers: usize) -> Kompact {
    let mut config = KompactConfig::default();
    config.set_config_value(&kompact::config_keys::system::THREADS, workers);
    let system = config.build().wait().expect("a system");
    assert!(SYSTEM.set(system).is_ok(), "started once");
    Kompact
}

fn main() -> ExitCode {
    workloads::main("kompact", start, &workloads::entries::<Kompact>(), &workloads::NO_BOUNDED)
}

//! Tests errors as a caller meets them: with `?`, for any message type.

mod common;

use common::*;
use heist::{AskError, Context, Executor, Handler, Refusal, WaitError};
use std::cell::Cell;
use std::error::Error;
use std::io;

/// Errors work with `?` for any message. This message is neither `Debug` nor `Sync` nor `Clone`.
#[test]
fn errors_work_with_the_question_mark() {
    struct Odd(#[allow(dead_code)] Cell<u8>);
    impl Handler<Odd> for Puppet {
        type Reply = Result<(), io::Error>;
        fn handle(&mut self, _: Odd, _: &mut Context<Self>) -> io::Result<()> {
            Ok(())
        }
    }
    type Boxed = Box<dyn Error + Send + Sync>;
    let executor = crew(1);
    let puppet = executor.spawn(Puppet::default());
    let odd = || Odd(Cell::new(1));
    let all = || -> Result<(), Boxed> {
        puppet.tell(odd())?;
        puppet.send(odd())?;
        puppet.ask(odd())?.wait()??;
        futures::executor::block_on(puppet.send_async(odd()))?;
        Ok(())
    };
    all().unwrap();
    puppet.stop();
    ended(&puppet);
    assert_eq!(all().unwrap_err().to_string(), "message not sent: the actor has stopped");
    let told: Result<(), Boxed> = puppet.tell_many([Note(1)]).map(drop).map_err(Boxed::from);
    assert!(told.unwrap_err().to_string().starts_with("stopped sending after 0 messages"));
    let built: Result<Executor, Boxed> = Executor::builder().workers(0).build().map_err(Boxed::from);
    assert!(built.is_err());
    shut_down(&executor);
    let spawned: Result<_, Boxed> = executor.try_spawn(Puppet::default()).map_err(Boxed::from);
    assert!(spawned.unwrap_err().to_string().contains("shutting down"));
    let asked: Boxed = AskError::NoReply.into();
    assert_eq!(asked.to_string(), "the handler gave no reply");
}

/// The text of an error names the remedy, where one exists.
#[test]
fn each_error_names_its_remedy() {
    let texts = [
        (Refusal::Full.to_string(), "when_room"),
        (Refusal::WouldDeadlock.to_string(), "when_room"),
        (Refusal::NoSpare.to_string(), "Builder::max_spares"),
        (Refusal::Forked.to_string(), "in the child"),
        (AskError::WouldDeadlock.to_string(), "ask_then"),
        (AskError::NoSpare.to_string(), "Builder::max_spares"),
        (AskError::Forked.to_string(), "in the child"),
        (WaitError::OnCrew.to_string(), "another thread"),
        (WaitError::NoSpare.to_string(), "Builder::max_spares"),
        (WaitError::Forked.to_string(), "in the child"),
    ];
    for (text, remedy) in texts {
        assert!(text.contains(remedy), "{text}");
    }
}

//! Texts of events, for logs.

use super::event::{DeadLetterReason, Event, PanicPlace, ReplicaFailure, UnfinishedActor};
use crate::id::ActorId;
use std::fmt;

/// An actor's name, its type and its id.
struct Label<'a>(&'a Option<std::sync::Arc<str>>, &'static str, ActorId);

impl fmt::Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Label(name, type_name, id) = self;
        match name {
            Some(name) => write!(f, "{name} ({type_name} {id})"),
            None => write!(f, "{type_name} {id}"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Panicked { actor, name, type_name, message_type, place, text } => {
                write!(f, "actor {} panicked in {place}", Label(name, type_name, *actor))?;
                if let Some(message_type) = message_type {
                    write!(f, " of {message_type}")?;
                }
                write!(f, ": {text}")
            }
            Event::DeadLetters { actor, name, type_name, message_type, reason, count } => {
                let to = Label(name, type_name, *actor);
                write!(f, "messages of {message_type} to actor {to} not handled: {count}, {reason}")
            }
            Event::Replaced { actor, name, type_name, cause } => {
                let replica = Label(name, type_name, *actor);
                write!(f, "actor {replica} gets another state: {cause}")
            }
            Event::WaitRefused { cycle } => write!(f, "a wait was refused: {cycle}"),
            Event::Stuck { actor, name, type_name } => {
                let stuck = Label(name, type_name, *actor);
                write!(f, "actor {stuck} had not ended at the deadline of the shutdown")
            }
            Event::SpareStarted { spares } => {
                write!(f, "a spare thread started, so there are {spares}")
            }
            Event::SpareEnded { spares } => write!(f, "a spare thread ended, so {spares} are left"),
            Event::SpareFailed { error } => write!(f, "no spare thread could be started: {error}"),
        }
    }
}

impl fmt::Display for UnfinishedActor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Label(&self.name, self.type_name, self.id).fmt(f)
    }
}

impl fmt::Display for PanicPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PanicPlace::Handler => "its handler",
            PanicPlace::Started => "`started`",
            PanicPlace::Stopped => "`stopped`",
            PanicPlace::StateDrop => "the drop of its state",
            PanicPlace::MessageDrop => "the drop of a message",
            PanicPlace::Factory => "its factory",
        })
    }
}

impl fmt::Display for ReplicaFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplicaFailure::Stopped => f.write_str("it stopped"),
            ReplicaFailure::Panicked(text) => write!(f, "it panicked: {text}"),
            ReplicaFailure::Factory(text) => write!(f, "no successor could be made: {text}"),
        }
    }
}

impl fmt::Display for DeadLetterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeadLetterReason::Stopped => "the actor had stopped",
            DeadLetterReason::Killed => "the actor was stopped at once",
            DeadLetterReason::Panicked => "the actor had panicked",
            DeadLetterReason::Shutdown => "the executor shut down",
            DeadLetterReason::Expired => "the deadline had passed",
            DeadLetterReason::Cancelled => "the timer was cancelled",
            DeadLetterReason::Full => "the mailbox held all that it can",
        })
    }
}

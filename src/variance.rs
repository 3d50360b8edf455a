//! Floor 0: variance of the crate's types in the types of actors, messages and answers.
//!
//! `for<'a> fn(&'a str)` is a subtype of `fn(&'static str)`, so a `Box` of the one can be used as a
//! `Box` of the other. Each has a [`TypeId`](std::any::TypeId) of its own, and may have a different
//! implementation of a trait. A value made by type (a cell, an envelope, a slot, a segment) and a
//! handle to it must therefore agree on the type exactly.
//!
//! | types | variance | because |
//! |---|---|---|
//! | `Batch` | invariant | pops envelopes with the `TypeId` of `M`, and reinterprets them |
//! | `ActorRef`, `WeakRef`, `Stopped`, `Context` | invariant | reinterpret a cell; choose by type |
//! | `Recipient`, `WeakRecipient`, `Asker` | invariant | a typed function beside an untyped reference |
//! | `Ask`, `Broadcast` | invariant | one side of a slot made by type |
//! | `Reply` | invariant | the other side |
//! | `Sending`, `PoolSending`, `DirectorySending` | invariant | own an envelope made by type |
//! | `Pool`, `PoolStopped`, `Directory` | invariant | hold references; hash by type |
//! | `SpawnBuilder` | invariant | the state lies in its cell's memory already |
//! | `PoolBuilder`, `DirectoryBuilder` | invariant | build these |
//! | `SpawnError`, `SendError`, `TellManyError`, `FlatError` | covariant | own plain values |
//! | `ByKey` | covariant | owns a plain value |
//!
//! For each row `tests/compile_fail` holds a program that must not compile, and one that must.

use std::marker::PhantomData;

/// Makes a type invariant in `T`, without affecting `Send` and `Sync`.
pub(crate) type Invariant<T> = PhantomData<fn(T) -> T>;

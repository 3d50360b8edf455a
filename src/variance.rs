//! Floor 0: how the crate's types may vary in the types of actors, messages and answers.
//!
//! `for<'a> fn(&'a str)` is a subtype of `fn(&'static str)`, so a `Box` of the one can be used as a `Box` of the other.
//! Both have a [`TypeId`](std::any::TypeId) of their own, and may have different implementations of a trait. A value that
//! was made by type (a cell, an envelope, a slot, a segment) and a handle to it must therefore agree on the type exactly.
//!
//! | types | in the user's types | because |
//! |---|---|---|
//! | [`Batch`](crate::Batch) | invariant | pops envelopes whose `TypeId` is `M`'s, and reinterprets them |
//! | [`ActorRef`](crate::ActorRef), [`WeakRef`](crate::WeakRef), [`Stopped`](crate::Stopped), [`Context`](crate::Context) | invariant | reinterpret a cell; choose a handler by type |
//! | [`Recipient`](crate::Recipient), [`Asker`](crate::Asker) | invariant | a function made for the types stands beside an untyped reference |
//! | [`Ask`](crate::Ask), [`Broadcast`](crate::Broadcast), [`WaitAskError`](crate::WaitAskError) | invariant | one side of a slot that was made by type |
//! | [`Reply`](crate::Reply) | invariant | the other side |
//! | [`Sending`](crate::Sending), [`PoolSending`](crate::PoolSending) | invariant | own an envelope that was made by type |
//! | [`Pool`](crate::Pool), [`PoolStopped`](crate::PoolStopped), [`Directory`](crate::Directory) | invariant | hold references; a key is hashed by type |
//! | [`SpawnBuilder`](crate::SpawnBuilder) | invariant | the state lies in its cell's memory already |
//! | [`PoolBuilder`](crate::PoolBuilder), [`DirectoryBuilder`](crate::DirectoryBuilder) | invariant | become these |
//! | [`SpawnError`](crate::SpawnError), [`SendError`](crate::SendError), [`TellManyError`](crate::TellManyError), [`FlatError`](crate::FlatError), [`ByKey`](crate::strategy::ByKey) | covariant | own plain values, of which nothing was made by type yet |
//!
//! `tests/compile_fail` holds a program for each row that must not compile, and one that must.

use std::marker::PhantomData;

/// Makes a type invariant in `T`, and says nothing about `Send` and `Sync`.
pub(crate) type Invariant<T> = PhantomData<fn(T) -> T>;

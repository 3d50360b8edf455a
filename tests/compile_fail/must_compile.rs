//! Must compile. Each of the other programs differs from this one in one place.
#![allow(dead_code)]

use heist::strategy::{ByKey, RoundRobin};
use heist::*;
use heist::directory::{DirectoryBuilder, DirectorySending};
use heist::error::{FlatError, TellManyError};
use heist::future::{Sending, Shutdown, Stopped, WaitIdle, WeakStopped};
use heist::pool::{Broadcast, PoolBuilder, PoolSending, PoolStopped};
use heist::thread::{Dedicated, WorkerThread};
use std::marker::PhantomData;

/// Accepts any string: a subtype of `Narrow`, with a `TypeId` of its own.
type General = for<'a> fn(&'a str);
type Narrow = fn(&'static str);

/// An actor that is as covariant as possible.
struct W<T>(PhantomData<T>);
impl<T: 'static> Actor for W<T> {}

fn batch(it: Batch<'static, General, ()>) -> Batch<'static, General, ()> {
    it
}
fn batch_reply(it: Batch<'static, (), General>) -> Batch<'static, (), General> {
    it
}
fn strong(it: ActorRef<W<General>>) -> ActorRef<W<General>> {
    it
}
fn weak(it: WeakRef<W<General>>) -> WeakRef<W<General>> {
    it
}
fn end(it: Stopped<W<General>>) -> Stopped<W<General>> {
    it
}
fn ctx(it: Context<W<General>>) -> Context<W<General>> {
    it
}
fn to(it: Recipient<General>) -> Recipient<General> {
    it
}
fn weak_to(it: WeakRecipient<General>) -> WeakRecipient<General> {
    it
}
fn ask_what(it: Asker<General, ()>) -> Asker<General, ()> {
    it
}
fn ask_for(it: Asker<(), General>) -> Asker<(), General> {
    it
}
fn answer(it: Ask<General>) -> Ask<General> {
    it
}
fn all(it: Broadcast<General>) -> Broadcast<General> {
    it
}
fn back(it: Reply<General>) -> Reply<General> {
    it
}
fn send(it: Sending<W<()>, General>) -> Sending<W<()>, General> {
    it
}
fn send_to(it: Sending<W<General>, ()>) -> Sending<W<General>, ()> {
    it
}
fn pool_send(it: PoolSending<W<()>, RoundRobin, General>) -> PoolSending<W<()>, RoundRobin, General> {
    it
}
fn pool_send_to(it: PoolSending<W<General>, RoundRobin, ()>) -> PoolSending<W<General>, RoundRobin, ()> {
    it
}
fn replicated(it: Pool<W<General>>) -> Pool<W<General>> {
    it
}
fn pool_over(it: PoolStopped<W<General>>) -> PoolStopped<W<General>> {
    it
}
fn pool_plan(it: PoolBuilder<W<General>>) -> PoolBuilder<W<General>> {
    it
}
fn keys(it: Directory<General, W<()>>) -> Directory<General, W<()>> {
    it
}
fn by_keys(it: Directory<(), W<General>>) -> Directory<(), W<General>> {
    it
}
fn keys_plan(it: DirectoryBuilder<General, W<()>>) -> DirectoryBuilder<General, W<()>> {
    it
}
fn by_keys_plan(it: DirectoryBuilder<(), W<General>>) -> DirectoryBuilder<(), W<General>> {
    it
}
fn key_send(it: DirectorySending<u8, W<()>, General>) -> DirectorySending<u8, W<()>, General> {
    it
}
fn build(it: SpawnBuilder<'static, W<General>>) -> SpawnBuilder<'static, W<General>> {
    it
}

// Types with plain values vary like their values.
fn not_spawned(it: SpawnError<W<General>>) -> SpawnError<W<Narrow>> {
    it
}
fn not_sent(it: SendError<General>) -> SendError<Narrow> {
    it
}
fn not_all_sent(it: TellManyError<General, ()>) -> TellManyError<Narrow, ()> {
    it
}
fn rest(it: TellManyError<(), General>) -> TellManyError<(), Narrow> {
    it
}
fn flat(it: FlatError<General>) -> FlatError<Narrow> {
    it
}
fn key(it: ByKey<General>) -> ByKey<Narrow> {
    it
}
fn apart(it: Dedicated<General>) -> Dedicated<Narrow> {
    it
}

/// Holds for all actors, and for all messages and answers that can be sent.
fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}

/// Neither `Send` nor `Sync`.
type Local = *const ();
/// `Send`, but not `Sync`.
type Owned = std::cell::Cell<u8>;

fn main() {
    is_send::<ActorRef<W<Local>>>();
    is_sync::<ActorRef<W<Local>>>();
    is_send::<WeakRef<W<Local>>>();
    is_sync::<WeakRef<W<Local>>>();
    is_send::<Stopped<W<Local>>>();
    is_sync::<Stopped<W<Local>>>();
    is_send::<WeakStopped>();
    is_sync::<WeakStopped>();
    is_send::<Recipient<Local>>();
    is_sync::<Recipient<Local>>();
    is_send::<WeakRecipient<Local>>();
    is_sync::<WeakRecipient<Local>>();
    is_send::<Asker<Local, Local>>();
    is_sync::<Asker<Local, Local>>();
    is_send::<Ask<Owned>>();
    is_sync::<Ask<Owned>>();
    is_send::<Reply<Owned>>();
    is_sync::<Reply<Owned>>();
    is_send::<Broadcast<Owned>>();
    is_send::<Sending<W<Local>, Owned>>();
    is_send::<PoolSending<W<Local>, RoundRobin, Owned>>();
    is_send::<Pool<W<Local>>>();
    is_sync::<Pool<W<Local>>>();
    is_send::<PoolStopped<W<Local>>>();
    is_sync::<PoolStopped<W<Local>>>();
    is_send::<Directory<String, W<Local>>>();
    is_sync::<Directory<String, W<Local>>>();
    is_send::<SendError<Owned>>();
    is_sync::<SendError<Owned>>();
    is_send::<TellManyError<Owned, Owned>>();
    is_sync::<TellManyError<Owned, Owned>>();
    is_send::<SpawnError<Owned>>();
    is_sync::<SpawnError<Owned>>();
    is_send::<Executor>();
    is_sync::<Executor>();
    is_send::<Handle>();
    is_sync::<Handle>();
    is_send::<Timer>();
    is_sync::<Timer>();
    is_send::<WaitIdle>();
    is_sync::<WaitIdle>();
    is_send::<Shutdown>();
    is_send::<WorkerThread>();
}

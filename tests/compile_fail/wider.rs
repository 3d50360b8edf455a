//! Must not compile: a handle made for a type is no handle for its supertype.
#![allow(dead_code)]

use heist::strategy::RoundRobin;
use heist::*;
use heist::directory::{DirectoryBuilder, DirectorySending};
use heist::future::{Sending, Stopped};
use heist::pool::{Broadcast, PoolBuilder, PoolSending, PoolStopped};
use std::marker::PhantomData;

/// Of any string: a subtype of `Narrow`, with a `TypeId` of its own.
type General = for<'a> fn(&'a str);
type Narrow = fn(&'static str);

/// An actor that is as covariant as can be.
struct W<T>(PhantomData<T>);
impl<T: 'static> Actor for W<T> {}

fn batch(it: Batch<'static, General, ()>) -> Batch<'static, Narrow, ()> {
    it //~ E0308
}
fn batch_reply(it: Batch<'static, (), General>) -> Batch<'static, (), Narrow> {
    it //~ E0308
}
fn strong(it: ActorRef<W<General>>) -> ActorRef<W<Narrow>> {
    it //~ E0308
}
fn weak(it: WeakRef<W<General>>) -> WeakRef<W<Narrow>> {
    it //~ E0308
}
fn end(it: Stopped<W<General>>) -> Stopped<W<Narrow>> {
    it //~ E0308
}
fn ctx(it: Context<W<General>>) -> Context<W<Narrow>> {
    it //~ E0308
}
fn to(it: Recipient<General>) -> Recipient<Narrow> {
    it //~ E0308
}
fn weak_to(it: WeakRecipient<General>) -> WeakRecipient<Narrow> {
    it //~ E0308
}
fn ask_what(it: Asker<General, ()>) -> Asker<Narrow, ()> {
    it //~ E0308
}
fn ask_for(it: Asker<(), General>) -> Asker<(), Narrow> {
    it //~ E0308
}
fn answer(it: Ask<General>) -> Ask<Narrow> {
    it //~ E0308
}
fn all(it: Broadcast<General>) -> Broadcast<Narrow> {
    it //~ E0308
}
fn back(it: Reply<General>) -> Reply<Narrow> {
    it //~ E0308
}
fn send(it: Sending<W<()>, General>) -> Sending<W<()>, Narrow> {
    it //~ E0308
}
fn send_to(it: Sending<W<General>, ()>) -> Sending<W<Narrow>, ()> {
    it //~ E0308
}
fn pool_send(it: PoolSending<W<()>, RoundRobin, General>) -> PoolSending<W<()>, RoundRobin, Narrow> {
    it //~ E0308
}
fn pool_send_to(it: PoolSending<W<General>, RoundRobin, ()>) -> PoolSending<W<Narrow>, RoundRobin, ()> {
    it //~ E0308
}
fn replicated(it: Pool<W<General>>) -> Pool<W<Narrow>> {
    it //~ E0308
}
fn pool_over(it: PoolStopped<W<General>>) -> PoolStopped<W<Narrow>> {
    it //~ E0308
}
fn pool_plan(it: PoolBuilder<W<General>>) -> PoolBuilder<W<Narrow>> {
    it //~ E0308
}
fn keys(it: Directory<General, W<()>>) -> Directory<Narrow, W<()>> {
    it //~ E0308
}
fn by_keys(it: Directory<(), W<General>>) -> Directory<(), W<Narrow>> {
    it //~ E0308
}
fn keys_plan(it: DirectoryBuilder<General, W<()>>) -> DirectoryBuilder<Narrow, W<()>> {
    it //~ E0308
}
fn by_keys_plan(it: DirectoryBuilder<(), W<General>>) -> DirectoryBuilder<(), W<Narrow>> {
    it //~ E0308
}
fn key_send(it: DirectorySending<u8, W<()>, General>) -> DirectorySending<u8, W<()>, Narrow> {
    it //~ E0308
}
fn build(it: SpawnBuilder<'static, W<General>>) -> SpawnBuilder<'static, W<Narrow>> {
    it //~ E0308
}

fn main() {}

//! Must not compile: a handle made for a type is no handle for its subtype.
#![allow(dead_code)]

use heist::strategy::RoundRobin;
use heist::*;
use heist::directory::{DirectoryBuilder, DirectorySending};
use heist::future::{Sending, Stopped};
use heist::pool::{Broadcast, PoolBuilder, PoolSending, PoolStopped};
use std::marker::PhantomData;

/// Accepts any string: a subtype of `Narrow`, with a `TypeId` of its own.
type General = for<'a> fn(&'a str);
type Narrow = fn(&'static str);

/// An actor that is as covariant as possible.
struct W<T>(PhantomData<T>);
impl<T: 'static> Actor for W<T> {}

fn batch(it: Batch<'static, Narrow, ()>) -> Batch<'static, General, ()> {
    it //~ E0308
}
fn batch_reply(it: Batch<'static, (), Narrow>) -> Batch<'static, (), General> {
    it //~ E0308
}
fn strong(it: ActorRef<W<Narrow>>) -> ActorRef<W<General>> {
    it //~ E0308
}
fn weak(it: WeakRef<W<Narrow>>) -> WeakRef<W<General>> {
    it //~ E0308
}
fn end(it: Stopped<W<Narrow>>) -> Stopped<W<General>> {
    it //~ E0308
}
fn ctx(it: Context<W<Narrow>>) -> Context<W<General>> {
    it //~ E0308
}
fn to(it: Recipient<Narrow>) -> Recipient<General> {
    it //~ E0308
}
fn weak_to(it: WeakRecipient<Narrow>) -> WeakRecipient<General> {
    it //~ E0308
}
fn ask_what(it: Asker<Narrow, ()>) -> Asker<General, ()> {
    it //~ E0308
}
fn ask_for(it: Asker<(), Narrow>) -> Asker<(), General> {
    it //~ E0308
}
fn answer(it: Ask<Narrow>) -> Ask<General> {
    it //~ E0308
}
fn all(it: Broadcast<Narrow>) -> Broadcast<General> {
    it //~ E0308
}
fn back(it: Reply<Narrow>) -> Reply<General> {
    it //~ E0308
}
fn send(it: Sending<W<()>, Narrow>) -> Sending<W<()>, General> {
    it //~ E0308
}
fn send_to(it: Sending<W<Narrow>, ()>) -> Sending<W<General>, ()> {
    it //~ E0308
}
fn pool_send(it: PoolSending<W<()>, RoundRobin, Narrow>) -> PoolSending<W<()>, RoundRobin, General> {
    it //~ E0308
}
fn pool_send_to(it: PoolSending<W<Narrow>, RoundRobin, ()>) -> PoolSending<W<General>, RoundRobin, ()> {
    it //~ E0308
}
fn replicated(it: Pool<W<Narrow>>) -> Pool<W<General>> {
    it //~ E0308
}
fn pool_over(it: PoolStopped<W<Narrow>>) -> PoolStopped<W<General>> {
    it //~ E0308
}
fn pool_plan(it: PoolBuilder<W<Narrow>>) -> PoolBuilder<W<General>> {
    it //~ E0308
}
fn keys(it: Directory<Narrow, W<()>>) -> Directory<General, W<()>> {
    it //~ E0308
}
fn by_keys(it: Directory<(), W<Narrow>>) -> Directory<(), W<General>> {
    it //~ E0308
}
fn keys_plan(it: DirectoryBuilder<Narrow, W<()>>) -> DirectoryBuilder<General, W<()>> {
    it //~ E0308
}
fn by_keys_plan(it: DirectoryBuilder<(), W<Narrow>>) -> DirectoryBuilder<(), W<General>> {
    it //~ E0308
}
fn key_send(it: DirectorySending<u8, W<()>, Narrow>) -> DirectorySending<u8, W<()>, General> {
    it //~ E0308
}
fn build(it: SpawnBuilder<'static, W<Narrow>>) -> SpawnBuilder<'static, W<General>> {
    it //~ E0308
}

fn main() {}

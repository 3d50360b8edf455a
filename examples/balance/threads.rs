//! Runs the stream with a thread for each key, started at the key's first event. A channel with the
//! capacity of a mailbox leads to each thread, as is common without actors.

use std::error::Error;
use std::io;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::actor::{Event, Key, Log};
use crate::measure::delay::Delays;
use crate::measure::machine;
use crate::measure::meter::{Run, Way};
use crate::measure::progress::Progress;
use crate::stream::Stream;

/// Enough stack for the threads' work, and little enough for thousands of threads.
const STACK: usize = 128 * 1024;

enum Message {
    Event(Event),
    Report(Sender<Log>),
}

struct KeyThread {
    sender: Sender<Message>,
    thread: JoinHandle<()>,
}

impl KeyThread {
    fn start(delays: &'static Delays, capacity: usize) -> io::Result<Self> {
        let (sender, messages) = bounded(capacity);
        let thread = thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || work(Key::new(delays), &messages))?;
        Ok(Self { sender, thread })
    }
}

fn work(mut key: Key, messages: &Receiver<Message>) {
    for message in messages {
        match message {
            Message::Event(event) => key.event(event),
            // The asking thread waits for the reply.
            Message::Report(reply) => drop(reply.send(key.log())),
        }
    }
}

/// Tries to start all threads at once, so that a run does not fail in the middle.
pub(crate) fn can_start(threads: usize) -> io::Result<()> {
    let (sender, receiver) = bounded::<()>(0);
    let start = |_| {
        let receiver = receiver.clone();
        thread::Builder::new().stack_size(STACK).spawn(move || receiver.iter().for_each(drop))
    };
    let started: Vec<io::Result<JoinHandle<()>>> = (0..threads).map(start).collect();
    drop(sender);
    started.into_iter().try_for_each(|thread| {
        thread?.join().expect("it only waits");
        Ok(())
    })
}

/// Runs the stream. The time ends with the last key's answer to a question sent after all events.
/// The answer shows that the events before it were handled.
pub(crate) fn run(
    stream: &Stream<'_>,
    keys: usize,
    capacity: usize,
    label: &str,
) -> Result<(Run, Vec<Log>), Box<dyn Error>> {
    let delays = Delays::leaked();
    let mut threads: Vec<Option<KeyThread>> = Vec::new();
    threads.resize_with(keys, || None);
    let mut progress = Progress::new(label);

    let cpu_before = machine::cpu_time();
    let began = Instant::now();
    stream.each(|key, event| -> Result<(), Box<dyn Error>> {
        let thread = match &mut threads[key] {
            Some(thread) => thread,
            none => none.insert(KeyThread::start(delays, capacity)?),
        };
        progress.show(|| format!("{:3} % sent", 100 * event.row as usize / stream.len()));
        thread.sender.send(Message::Event(event)).map_err(|_| "a key's thread has ended".into())
    })?;
    let ask = |thread: &KeyThread| {
        let (reply, answer) = bounded(1);
        thread
            .sender
            .send(Message::Report(reply))
            .map(|()| answer)
            .map_err(|_| "a key's thread has ended")
    };
    let answers = threads.iter().flatten().map(ask).collect::<Result<Vec<_>, _>>()?;
    let logs = answers.iter().map(Receiver::recv).collect::<Result<Vec<_>, _>>()?;
    let makespan = began.elapsed();
    // Read while the threads live.
    let cpu =
        machine::cpu_time().zip(cpu_before).and_then(|(after, before)| after.checked_sub(before));

    for KeyThread { sender, thread } in threads.into_iter().flatten() {
        drop(sender);
        thread.join().map_err(|_| "a key's thread panicked")?;
    }
    let run = Run {
        way: Way::Threads,
        workers: machine::cores(),
        makespan,
        cpu,
        messages: stream.len() as u64,
        delays: delays.take(),
        kept: None,
        crew: None,
    };
    Ok((run, logs))
}

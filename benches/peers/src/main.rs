//! Builds the programs of heist and its peers, runs all of them interleaved, each run in a process
//! of its own, checks every answer, and prints and writes the comparison.

mod options;
mod peers;
mod record;
mod report;
mod svg;

use std::{
    process::{Child, Command, ExitCode, Stdio},
    time::Instant,
};

use options::Options;
use peers::{Outcome, Peer};
use record::Records;
use workloads::{Dice, Scale, WORKLOADS, Workload};

/// Workloads run with 1, 2, 4 and 8 workers, for peers with a configurable number of threads.
const SCALING_QUICK: [&str; 2] = ["pairs", "fjthrput"];
const SCALING_FULL: [&str; 7] = ["pingpong", "pairs", "fanin", "fjthrput", "threadring", "big", "skew"];
const SCALING_WORKERS: [usize; 3] = [1, 4, 8];
const SCALING_PEERS: [&str; 3] = ["heist", "tokio", "kompact"];

/// One workload at one number of workers. Each repeat runs the peers in a new order.
struct Case {
    workload: &'static Workload,
    workers: usize,
    peers: Vec<usize>,
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1).collect()).and_then(compare) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(words) => {
            eprintln!("{words}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the comparison. Returns `true` if every run completed with the right answer.
fn compare(options: Options) -> Result<bool, String> {
    let (peers, skipped) = peers::gather(|name| options.wants_peer(name))?;
    for words in &skipped {
        eprintln!("{words}");
    }
    if options.list {
        list(&peers);
        return Ok(true);
    }
    let _busy = Busy::start(options.busy, options.cores);
    let begin = Instant::now();
    let cases = cases(&options, &peers);
    let each: usize = cases.iter().map(|case| case.peers.len()).sum();
    let mut repeats = options.repeats;
    let mut records = Records::default();
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |t| t.as_secs());
    let mut dice = Dice::new(seed);
    let mut ran = 0;
    for repeat in 1..=options.repeats {
        // Runs as many whole repeats as the time allows.
        let sofar = begin.elapsed();
        if options.within.is_some_and(|within| repeat > 1 && sofar + sofar / (repeat as u32 - 1) > within) {
            repeats = repeat - 1;
            break;
        }
        for case in &cases {
            for at in shuffled(&case.peers, &mut dice) {
                let peer = &peers[at];
                ran += 1;
                let (limit, timeout) = (options.limit, options.timeout);
                let outcome =
                    peer.run(case.workload.name, case.workers, options.scale, limit, timeout, options.cores);
                eprintln!(
                    "[{ran}/{}, {:.0} s] repeat {repeat}: {} with {} workers, {}: {}",
                    each * options.repeats,
                    begin.elapsed().as_secs_f64(),
                    case.workload.name,
                    case.workers,
                    peer.name,
                    told(&outcome),
                );
                records.add(case.workload.name, case.workers, &peer.name, outcome);
            }
        }
    }
    let report =
        report::Report { repeats, options: &options, peers: &peers, skipped: &skipped, records: &records };
    let text = report.markdown(begin.elapsed());
    println!("{text}");
    let write = |file: &str, text: &str| {
        std::fs::create_dir_all(&options.out)
            .and_then(|()| std::fs::write(options.out.join(file), text))
            .map_err(|error| format!("{file} cannot be written: {error}"))
    };
    write("report.md", &text)?;
    write("report.json", &report.json(begin.elapsed()))?;
    write("report.svg", &svg::picture(&report))?;
    eprintln!("written to {}", options.out.display());
    Ok(records.all_right())
}

/// Processes that occupy a processor each, until dropped.
struct Busy(Vec<Child>);

impl Busy {
    fn start(how_many: usize, cores: Option<usize>) -> Busy {
        let start = |_| {
            let mut command = Command::new("taskset");
            let all = std::thread::available_parallelism().map_or(1, |n| n.get());
            command.args(["-c", &format!("0-{}", cores.unwrap_or(all) - 1), "yes"]);
            command.stdout(Stdio::null()).spawn().expect("taskset and yes are installed")
        };
        Busy((0..how_many).map(start).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn cases(options: &Options, peers: &[Peer]) -> Vec<Case> {
    let runs = |workload: &Workload, among: &dyn Fn(&str) -> bool| -> Vec<usize> {
        (0..peers.len())
            .filter(|&p| peers[p].runs.iter().any(|run| run == workload.name) && among(&peers[p].name))
            .collect()
    };
    let quick = options.scale == Scale::Quick;
    let mut cases = Vec::new();
    for workload in WORKLOADS {
        let asked_for = options.workloads.is_some();
        if !options.wants_workload(workload.name) || (quick && workload.full_only && !asked_for) {
            continue;
        }
        for workers in options.workers.clone().unwrap_or(vec![2]) {
            cases.push(Case { workload, workers, peers: runs(workload, &|_| true) });
        }
    }
    if options.workers.is_none() && options.workloads.is_none() {
        let names: &[&str] = if quick { &SCALING_QUICK } else { &SCALING_FULL };
        for workload in WORKLOADS.iter().filter(|w| names.contains(&w.name)) {
            for workers in SCALING_WORKERS {
                let peers = runs(workload, &|name| SCALING_PEERS.contains(&name));
                cases.push(Case { workload, workers, peers });
            }
        }
    }
    cases.retain(|case| !case.peers.is_empty());
    cases
}

fn shuffled(peers: &[usize], dice: &mut Dice) -> Vec<usize> {
    let mut order = peers.to_vec();
    for at in (1..order.len()).rev() {
        order.swap(at, dice.below(at as u64 + 1) as usize);
    }
    order
}

fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Hung => "HUNG".into(),
        Outcome::Failed(words) => format!("FAILED, {words}"),
        Outcome::Ran(run) => {
            let right = if run["ok"] == true {
                String::new()
            } else {
                format!("WRONG, {} for {}, ", run["answer"], run["expected"])
            };
            format!("{right}{}", run["figures"].to_string().replace(['{', '}', '"'], ""))
        }
    }
}

fn list(peers: &[Peer]) {
    for workload in WORKLOADS {
        println!("{}: {}; {} is an operation", workload.name, workload.what, workload.operation);
    }
    for peer in peers {
        println!("\n{} {}", peer.name, peer.version);
        for (workload, why) in &peer.left_out {
            println!("  without {workload}: {why}");
        }
    }
}

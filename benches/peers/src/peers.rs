//! Builds the peers' programs, asks each for its workloads, and runs a program once.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use workloads::{Scale, WORKLOADS};

pub const RUST: [&str; 8] = ["heist", "tokio", "kompact", "actix", "ractor", "kameo", "threads", "rayon"];

/// rayon runs tasks without state, order or mailbox. It shows the lower bound and is never the best
/// peer.
pub const FLOOR: &str = "rayon";

pub struct Peer {
    pub name: String,
    pub version: String,
    program: Vec<String>,
    pub runs: Vec<String>,
    /// Workloads left out, with the reasons.
    pub left_out: BTreeMap<String, String>,
}

pub enum Outcome {
    Ran(Value),
    Hung,
    Failed(String),
}

/// Builds the wanted peers and asks each for its workloads. The second part lists the skipped peers
/// with reasons.
pub fn gather(wanted: impl Fn(&str) -> bool) -> Result<(Vec<Peer>, Vec<String>), String> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rust: Vec<&str> = RUST.into_iter().filter(|p| wanted(p)).collect();
    if !rust.is_empty() {
        eprintln!("building {}", rust.join(", "));
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(home).args(["build", "--release"]);
        for peer in &rust {
            cargo.args(["-p", &format!("peer-{peer}")]);
        }
        let built = cargo.status().map_err(|error| format!("cargo does not start: {error}"))?;
        if !built.success() {
            return Err("the peers do not build".into());
        }
    }
    let beside = std::env::current_exe().map_err(|error| error.to_string())?;
    let beside = beside.parent().ok_or("no folder holds the runner")?;
    let mut peers = Vec::new();
    let mut skipped = Vec::new();
    for name in rust {
        let program = vec![beside.join(format!("peer-{name}")).display().to_string()];
        peers.push(introduce(name, version(name), program)?);
    }
    for (name, compiler) in [("go", "go"), ("erlang", "erlc")] {
        if !wanted(name) {
            continue;
        }
        match other(name, &home.join("other"), beside) {
            Ok((version, program)) => peers.push(introduce(name, version, program)?),
            Err(why) => skipped.push(format!("{name}: skipped, {compiler} {why}")),
        }
    }
    Ok((peers, skipped))
}

fn introduce(name: &str, version: String, program: Vec<String>) -> Result<Peer, String> {
    let mut command = Command::new(&program[0]);
    let told = command.args(&program[1..]).arg("list").output();
    let told = told.map_err(|error| format!("{name} does not start: {error}"))?;
    let told: Value = serde_json::from_slice(&told.stdout)
        .map_err(|error| format!("{name} did not list its workloads ({error}): {told:?}"))?;
    let runs = told["runs"].as_array().into_iter().flatten();
    let left_out = told["left_out"].as_object().into_iter().flatten();
    Ok(Peer {
        name: name.into(),
        version,
        program,
        runs: runs.filter_map(|run| run.as_str().map(str::to_string)).collect(),
        left_out: left_out.map(|(name, why)| (name.clone(), why.as_str().unwrap_or("").into())).collect(),
    })
}

/// Returns the version in the lock file, so that the report names what was measured.
fn version(name: &str) -> String {
    let package = if name == "threads" { "crossbeam-channel" } else { name };
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = std::fs::read_to_string(lock).unwrap_or_default();
    let after = lock.split(&format!("name = \"{package}\"\nversion = \"")).nth(1);
    let version = after.and_then(|rest| rest.split('"').next()).unwrap_or("?");
    if name == "threads" { format!("{package} {version}") } else { version.to_string() }
}

/// Compiles the small program for Go or Erlang next to the runner, if the language is installed.
fn other(name: &str, sources: &Path, beside: &Path) -> Result<(String, Vec<String>), String> {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().map_err(|_| "is not installed")?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_string();
        if output.status.success() {
            Ok(said)
        } else {
            Err(format!("failed: {}{said}", String::from_utf8_lossy(&output.stderr)))
        }
    };
    let source = |file: &str| sources.join(file).display().to_string();
    if name == "go" {
        let program = beside.join("peer-go").display().to_string();
        let version = said("go", &["env", "GOVERSION"])?;
        said("go", &["build", "-o", &program, &source("go/main.go"), &source("go/actors.go")])?;
        return Ok((version, vec![program]));
    }
    let folder: PathBuf = beside.join("peer-erlang");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let folder = folder.display().to_string();
    said("erlc", &["-o", &folder, &source("bench.erl")])?;
    let release = "io:put_chars(erlang:system_info(otp_release)), halt().";
    let version = format!("OTP {}", said("erl", &["-noshell", "-eval", release])?);
    let script = source("erlang.sh");
    Ok((version, vec!["sh".into(), script, folder]))
}

impl Peer {
    pub fn run(
        &self,
        workload: &str,
        workers: usize,
        scale: Scale,
        limit: Duration,
        timeout: Duration,
        cores: Option<usize>,
    ) -> Outcome {
        let scale = if scale == Scale::Quick { "quick" } else { "full" };
        let mut command = match cores {
            None => Command::new(&self.program[0]),
            Some(cores) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &format!("0-{}", cores - 1), &self.program[0]]);
                command
            }
        };
        command.args(&self.program[1..]).args(["run", workload, &workers.to_string(), scale]);
        command.arg(limit.as_millis().to_string()).args(self.size_for_others(workload, scale));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let begin = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if begin.elapsed() > timeout => {
                    child.kill().ok();
                    child.wait().ok();
                    return Outcome::Hung;
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => return Outcome::Failed(error.to_string()),
            }
        };
        let mut line = String::new();
        child.stdout.take().map(|mut out| out.read_to_string(&mut line));
        match serde_json::from_str(line.trim()) {
            Ok(value) if status.success() => Outcome::Ran(value),
            _ => {
                let mut words = String::new();
                child.stderr.take().map(|mut out| out.read_to_string(&mut words));
                let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no word");
                Outcome::Failed(format!("{status}: {last}"))
            }
        }
    }

    /// Programs in other languages have no table of sizes. The runner passes them actors, messages
    /// and the right answer.
    fn size_for_others(&self, workload: &str, scale: &str) -> Vec<String> {
        if RUST.contains(&self.name.as_str()) {
            return Vec::new();
        }
        let Some(workload) = WORKLOADS.iter().find(|w| w.name == workload) else { return Vec::new() };
        let size = workload.size(if scale == "quick" { Scale::Quick } else { Scale::Full });
        [size.actors, size.messages, workload.ops(size), workload.answer(size)]
            .map(|n| n.to_string())
            .to_vec()
    }
}

//! Parses the command line of the runner.

use std::{path::PathBuf, time::Duration};

use workloads::Scale;

pub const HELP: &str = "\
Runs heist and its peers through the same workloads and prints the comparison.

    --quick              smaller sizes, under three minutes with the Rust peers
    --repeats N          runs of each case (quick: as many as fit into three minutes, at most 3; full: 5)
    --workers N[,N..]    numbers of workers (default: 2 for all; full also 1, 4 and 8 for a few)
    --peers A,B,..       only these peers (heist, tokio, kompact, actix, ractor, kameo, threads, rayon, go, erlang)
    --workloads A,B,..   only these workloads
    --cores N            restricts each run to cores 0 to N-1 (by taskset)
    --busy N             runs N busy processes meanwhile, on the same cores
    --limit-ms N         reduces the size of a pass that would take longer (quick: 150, full: 2000)
    --timeout-s N        ends a run that takes longer and reports it as hung (quick: 20, full: 120)
    --out DIR            directory of report.json, report.md and report.svg (default: results/ beside this workspace)
    --list               lists what each peer runs and leaves out, with the reasons
";

pub struct Options {
    pub scale: Scale,
    pub repeats: usize,
    pub workers: Option<Vec<usize>>,
    pub peers: Option<Vec<String>>,
    pub workloads: Option<Vec<String>>,
    pub cores: Option<usize>,
    pub busy: usize,
    pub limit: Duration,
    pub timeout: Duration,
    /// A repeat that would end later than this is not started.
    pub within: Option<Duration>,
    pub out: PathBuf,
    pub list: bool,
    /// The command line as given, for the report.
    pub command: String,
}

impl Options {
    pub fn parse(arguments: Vec<String>) -> Result<Options, String> {
        let mut options = Options {
            scale: Scale::Full,
            repeats: 0,
            workers: None,
            peers: None,
            workloads: None,
            cores: None,
            busy: 0,
            limit: Duration::ZERO,
            timeout: Duration::ZERO,
            within: None,
            out: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results"),
            list: false,
            command: arguments.join(" "),
        };
        let mut rest = arguments.into_iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--quick" => options.scale = Scale::Quick,
                "--repeats" => options.repeats = number(&value()?)?,
                "--workers" => {
                    options.workers = Some(value()?.split(',').map(number).collect::<Result<_, _>>()?);
                }
                "--peers" => options.peers = Some(names(&value()?)),
                "--workloads" => options.workloads = Some(names(&value()?)),
                "--cores" => options.cores = Some(number(&value()?)?.max(1)),
                "--busy" => options.busy = number(&value()?)?,
                "--limit-ms" => options.limit = Duration::from_millis(number(&value()?)? as u64),
                "--timeout-s" => options.timeout = Duration::from_secs(number(&value()?)? as u64),
                "--out" => options.out = PathBuf::from(value()?),
                "--list" => options.list = true,
                "--help" | "-h" => return Err(HELP.into()),
                // `cargo bench` and `cargo run` pass `--bench` on.
                "--bench" => {}
                other => return Err(format!("{other} is unknown\n\n{HELP}")),
            }
        }
        let quick = options.scale == Scale::Quick;
        if quick && options.repeats == 0 {
            options.within = Some(Duration::from_secs(175));
        }
        if options.repeats == 0 {
            options.repeats = if quick { 3 } else { 5 };
        }
        if options.limit.is_zero() {
            options.limit = Duration::from_millis(if quick { 150 } else { 2_000 });
        }
        if options.timeout.is_zero() {
            options.timeout = Duration::from_secs(if quick { 20 } else { 120 });
        }
        Ok(options)
    }

    pub fn wants_peer(&self, name: &str) -> bool {
        self.peers.as_ref().is_none_or(|peers| peers.iter().any(|p| p == name))
    }

    pub fn wants_workload(&self, name: &str) -> bool {
        self.workloads.as_ref().is_none_or(|workloads| workloads.iter().any(|w| w == name))
    }
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(str::to_string).collect()
}

fn number(word: &str) -> Result<usize, String> {
    word.parse().map_err(|_| format!("{word} is not a number"))
}

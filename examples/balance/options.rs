//! Parses the command line of the example.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use crate::measure::machine;

pub(crate) const HELP: &str = "\
Runs a stream of keyed events through an actor for each key, under heist's three scheduling policies and with a
thread for each key. Shows how evenly the work was distributed: a table here, and pictures in an HTML file.

Usage: balance --keys FILE.csv --column NAME [OPTIONS]

  --keys FILE           a .csv or .csv.gz file with column names in its first line; each row is an event
  --column NAME         the column with the key
  --cost-us X           CPU time in microseconds that an event costs [default: 5]
  --cost-column NAME    a column with each event's cost as a multiple of --cost-us (then 1 by default)
  --workers N,N,..      sizes of the crew [default: 1,2,4,8]
  --repeat N            runs of each way; the table shows the median by makespan [default: 3]
  --load PERCENT        also runs at a steady pace that keeps the processors busy for this part of the time;
                        0 skips these runs [default: 70]
  --capacity N          capacity of a mailbox or channel [default: 1024]
  --threads-up-to N     most keys for which the ways include a thread for each key; 0: none [default: 5000]
  --rows N              only the first N events
  --out FILE            file for the pictures [default: balance.html]
  --help                this text

Exit code: 0 all keys agree with a sequential pass, 1 some do not, 2 could not run.
";

pub(crate) enum Request {
    Run(Options),
    Help,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) keys: PathBuf,
    pub(crate) column: String,
    pub(crate) cost_us: f64,
    pub(crate) cost_column: Option<String>,
    /// In ascending order.
    pub(crate) workers: Vec<usize>,
    pub(crate) repeat: usize,
    pub(crate) load: f64,
    pub(crate) capacity: usize,
    pub(crate) threads_up_to: usize,
    pub(crate) rows: usize,
    pub(crate) out: PathBuf,
}

impl Options {
    /// Returns the size of the crew in the pictures: the number of processors, or the next smaller
    /// size, or the smallest.
    pub(crate) fn shown(&self) -> usize {
        let fits =
            self.workers.iter().copied().filter(|workers| *workers <= machine::cores()).max();
        fits.unwrap_or(self.workers[0])
    }
}

/// Parses the arguments without the program's name. `--name value` and `--name=value` are
/// equivalent.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let (mut keys, mut column, mut cost_us) = (None, None, None);
    let mut options = Options {
        keys: PathBuf::new(),
        column: String::new(),
        cost_us: 0.0,
        cost_column: None,
        workers: vec![1, 2, 4, 8],
        repeat: 3,
        load: 70.0,
        capacity: heist::DEFAULT_CAPACITY,
        threads_up_to: 5_000,
        rows: usize::MAX,
        out: "balance.html".into(),
    };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        let (name, inline) =
            text.split_once('=').map_or((&*text, None), |(name, value)| (name, Some(value)));
        let mut value = || {
            inline
                .map(OsString::from)
                .or_else(|| arguments.next())
                .ok_or(format!("{name} needs a value"))
        };
        match name {
            "--keys" => keys = Some(PathBuf::from(value()?)),
            "--column" => column = Some(utf8(name, value()?)?),
            "--cost-column" => options.cost_column = Some(utf8(name, value()?)?),
            "--cost-us" => {
                let wanted = "a number of microseconds from 0 to 1000000";
                cost_us =
                    Some(number(name, &value()?, wanted, |us: &f64| (0.0..=1e6).contains(us))?);
            }
            "--workers" => {
                let sizes = utf8(name, value()?)?;
                let sizes = sizes.split(',').map(|size| {
                    let fits = |n: &usize| (1..=4096).contains(n);
                    number(
                        name,
                        OsStr::new(size),
                        "whole numbers from 1 to 4096, with commas between them",
                        fits,
                    )
                });
                options.workers = sizes.collect::<Result<_, _>>()?;
                options.workers.sort_unstable();
                options.workers.dedup();
            }
            "--repeat" => {
                options.repeat = number(name, &value()?, "a whole number from 1", |n| *n > 0)?
            }
            "--load" => {
                let fits = |load: &f64| (0.0..=1_000.0).contains(load);
                options.load = number(name, &value()?, "per cent from 0 to 1000", fits)?;
            }
            "--capacity" => {
                options.capacity = number(name, &value()?, "a whole number from 1", |n| *n > 0)?
            }
            "--threads-up-to" => {
                options.threads_up_to = number(name, &value()?, "a whole number", |_| true)?
            }
            "--rows" => {
                options.rows = number(name, &value()?, "a whole number from 1", |n| *n > 0)?
            }
            "--out" => options.out = value()?.into(),
            "--help" | "-h" => return Ok(Request::Help),
            _ => return Err(format!("{name} is not an option; --help lists them")),
        }
    }
    options.keys = keys.ok_or("--keys FILE.csv is missing; --help says more")?;
    options.column = column.ok_or("--column NAME is missing; --help says more")?;
    options.cost_us = cost_us.unwrap_or(if options.cost_column.is_some() { 1.0 } else { 5.0 });
    Ok(Request::Run(options))
}

fn utf8(name: &str, value: OsString) -> Result<String, String> {
    value
        .into_string()
        .map_err(|value| format!("{name} needs UTF-8, not {:?}", value.to_string_lossy()))
}

fn number<T: FromStr + Display>(
    name: &str,
    value: &OsStr,
    wanted: &str,
    fits: impl Fn(&T) -> bool,
) -> Result<T, String> {
    let number = value.to_str().and_then(|text| text.parse().ok()).filter(fits);
    number.ok_or_else(|| format!("{name} needs {wanted}, not {:?}", value.to_string_lossy()))
}

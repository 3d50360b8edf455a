//! Parses the command line of the example.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub(crate) const HELP: &str = "\
Streams a year of flights through an actor per aircraft, aircraft's day, route, airport and carrier,
checks every actor against a sequential pass, and compares heist's scheduling policies.

Usage: flights [OPTIONS] [FILE]

  FILE           a .csv or .csv.gz file with the columns month, day, sched_dep_time, carrier, tailnum,
                 origin, dest, dep_delay, arr_delay and air_time
                 [default: examples/data/flights-2013.csv.gz of this crate]

  --workers N    worker threads [default: one for each CPU that this process may use]
  --cost-us X    CPU time in microseconds that each flight costs each of its actors [default: 0]
  --repeat N     runs of each policy; the table shows the median, the least and the greatest [default: 1]
  --report FILE  an HTML file for the pictures; the build needs `--features pictures`
  --help         this text

Exit code: 0 all actors agree with the sequential pass, 1 some do not, 2 could not run.
";

pub(crate) enum Request {
    Run(Options),
    Help,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) file: PathBuf,
    pub(crate) workers: Option<usize>,
    pub(crate) cost_us: f64,
    pub(crate) repeat: usize,
    pub(crate) report: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .with_file_name("data")
            .join("flights-2013.csv.gz");
        Self { file, workers: None, cost_us: 0.0, repeat: 1, report: None }
    }
}

/// Parses the arguments without the program's name. `--name value` and `--name=value` are
/// equivalent.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, String> {
    let mut options = Options::default();
    let mut file = None;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if !argument.as_encoded_bytes().starts_with(b"-") {
            if let Some(earlier) = file.replace(PathBuf::from(argument)) {
                return Err(format!("one file at a time; the first was {}", earlier.display()));
            }
            continue;
        }
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
            "--workers" => options.workers = Some(positive(name, &value()?)?),
            "--repeat" => options.repeat = positive(name, &value()?)?,
            "--cost-us" => {
                let wanted = "a number of microseconds from 0 to 1000000";
                options.cost_us =
                    number(name, &value()?, wanted, |us: &f64| (0.0..=1e6).contains(us))?;
            }
            "--report" => options.report = Some(value()?.into()),
            "--help" | "-h" => return Ok(Request::Help),
            _ => return Err(format!("{name} is not an option; --help lists them")),
        }
    }
    options.file = file.unwrap_or(options.file);
    Ok(Request::Run(options))
}

fn positive(name: &str, value: &OsStr) -> Result<usize, String> {
    number(name, value, "a whole number from 1", |n| *n > 0)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Options, String> {
        match parse(arguments.iter().map(OsString::from))? {
            Request::Run(options) => Ok(options),
            Request::Help => Err("help".into()),
        }
    }

    #[test]
    fn reads_both_forms() {
        let all = ["--workers", "8", "--cost-us=1.5", "a.csv", "--repeat=3", "--report", "a.html"];
        let report = Some("a.html".into());
        let expected =
            Options { file: "a.csv".into(), workers: Some(8), cost_us: 1.5, repeat: 3, report };
        assert_eq!(parsed(&all).unwrap(), expected);
        assert_eq!(parsed(&[]).unwrap(), Options::default());
    }

    #[test]
    fn says_what_is_wrong() {
        for (arguments, part) in [
            (&["--workers", "0"][..], "--workers needs a whole number from 1, not \"0\""),
            (&["--repeat"], "--repeat needs a value"),
            (&["--cost-us", "NaN"], "from 0 to 1000000"),
            (&["--cost-us=-1"], "from 0 to 1000000"),
            (&["--speed", "9"], "--speed is not an option"),
            (&["a.csv", "b.csv"], "one file at a time"),
        ] {
            let error = parsed(arguments).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}

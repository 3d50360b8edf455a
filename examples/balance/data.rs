//! Reads the events, with the key and the cost of each row.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use csv::StringRecord;
use flate2::bufread::MultiGzDecoder;

use crate::measure::machine::{Cost, Pace};
use crate::measure::progress::Progress;
use crate::measure::text::grouped;
use crate::options::Options;

/// The rows in the order of the file.
#[derive(Debug)]
pub(crate) struct Events {
    /// Key and cost of each row.
    pub(crate) list: Vec<(u32, Cost)>,
    pub(crate) keys: Keys,
    /// Total cost of each key's events, in microseconds.
    work: Vec<f64>,
}

/// The keys, numbered in the order of their first events.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Keys {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number =
            u32::try_from(self.names.len()).expect("a u32 numbers all events, so also their keys");
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn name(&self, key: usize) -> &str {
        self.names.get(key).map_or("", String::as_str)
    }
}

impl Events {
    /// Reads the CSV file that the options name. The first bytes decide whether the file is
    /// compressed, not its name.
    pub(crate) fn read(
        options: &Options,
        pace: Pace,
        progress: &mut Progress,
    ) -> Result<Self, Box<dyn Error>> {
        let in_file = |error: &dyn Display| format!("{}: {error}", options.keys.display());
        let mut file = BufReader::new(File::open(&options.keys).map_err(|error| in_file(&error))?);
        let compressed =
            file.fill_buf().map_err(|error| in_file(&error))?.starts_with(&[0x1f, 0x8b]);
        let content: Box<dyn Read> =
            if compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Ok(Self::parse(content, options, pace, progress).map_err(|error| in_file(&error))?)
    }

    pub(crate) fn parse(
        content: impl Read,
        options: &Options,
        pace: Pace,
        progress: &mut Progress,
    ) -> Result<Self, Box<dyn Error>> {
        let mut reader = csv::Reader::from_reader(content);
        let header = reader.headers()?;
        let key = column(header, &options.column)?;
        let cost = options
            .cost_column
            .as_deref()
            .map(|name| Ok::<_, String>((name, column(header, name)?)));
        let cost = cost.transpose()?;
        let mut events = Self { list: Vec::new(), keys: Keys::default(), work: Vec::new() };
        let mut record = StringRecord::new();
        while events.list.len() < options.rows && reader.read_record(&mut record)? {
            let us = match cost {
                None => options.cost_us,
                Some((name, column)) => {
                    let factor =
                        amount(name, record.get(column).unwrap_or_default()).map_err(|error| {
                            let line = record.position().map_or(0, csv::Position::line);
                            format!("line {line}: {error}")
                        })?;
                    factor * options.cost_us
                }
            };
            events.add(record.get(key).unwrap_or_default(), us, pace)?;
            progress.show(|| format!("{} events", grouped(events.list.len())));
        }
        if events.list.is_empty() {
            return Err("no events in it".into());
        }
        Ok(events)
    }

    fn add(&mut self, key: &str, us: f64, pace: Pace) -> Result<(), String> {
        if u32::try_from(self.list.len()).is_err() {
            return Err("too many events: more than four thousand million".into());
        }
        let key = self.keys.number(key);
        self.list.push((key, pace.cost(us)));
        self.work.resize(self.keys.len(), 0.0);
        self.work[key as usize] += us;
        Ok(())
    }

    /// Returns the CPU time that all events cost together, in microseconds.
    pub(crate) fn total_us(&self) -> f64 {
        self.work.iter().sum()
    }

    /// Returns the key with the most work, or with the most events if the events cost nothing.
    pub(crate) fn busiest(&self) -> &str {
        let shares = self.shares();
        let most = (0..shares.len()).max_by(|a, b| shares[*a].total_cmp(&shares[*b]));
        most.map_or("", |key| self.keys.name(key))
    }

    /// Returns the total work divided by the work of the busiest key. Events of one key run one
    /// after another, so no more workers than this could be busy all the time.
    pub(crate) fn most_parallel(&self) -> f64 {
        let shares = self.shares();
        let most = shares.iter().copied().fold(0.0, f64::max);
        shares.iter().sum::<f64>() / most.max(f64::MIN_POSITIVE)
    }

    fn shares(&self) -> Vec<f64> {
        if self.total_us() > 0.0 {
            return self.work.clone();
        }
        let mut events = vec![0.0; self.keys.len()];
        self.list.iter().for_each(|(key, _)| events[*key as usize] += 1.0);
        events
    }
}

/// Returns the index of a column. The error lists the columns that exist.
fn column(header: &StringRecord, name: &str) -> Result<usize, String> {
    if header.is_empty() {
        return Err("the file is empty".into());
    }
    let titles = || header.iter().map(str::trim);
    titles().position(|title| title == name).ok_or_else(|| {
        let there: Vec<_> = titles().collect();
        format!("the first line names no column {name:?}; it names {}", there.join(", "))
    })
}

/// Parses a cost. An empty field costs nothing.
fn amount(column: &str, text: &str) -> Result<f64, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(0.0);
    }
    let number = text.parse().ok().filter(|number: &f64| (0.0..=1e6).contains(number));
    number.ok_or_else(|| format!("{column} is {text:?}, not a number from 0 to 1000000"))
}

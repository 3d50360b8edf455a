//! Reads the flights. Every key (aircraft, route, airport, carrier) becomes a small number, so that
//! a flight is a plain `Copy` value that can be sent to several actors.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::Display;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::str::FromStr;

use csv::StringRecord;
use flate2::bufread::MultiGzDecoder;

use crate::measure::progress::Progress;
use crate::measure::text::grouped;

/// The name of the aircraft for flights without a tail number.
pub(crate) const NO_AIRCRAFT: &str = "(none)";

/// One row of the file. The keys index the tables of names in [`Flights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    /// The row in the file, so that no two flights are equal.
    pub(crate) row: u32,
    pub(crate) aircraft: u32,
    pub(crate) route: u32,
    pub(crate) origin: u32,
    pub(crate) dest: u32,
    pub(crate) carrier: u32,
    pub(crate) day: Day,
    /// Local time as hhmm.
    pub(crate) scheduled: u16,
    /// In minutes, or `None` if the flight never left.
    pub(crate) departure_delay: Option<i16>,
    /// In minutes, or `None` if the flight never left or landed elsewhere.
    pub(crate) arrival_delay: Option<i16>,
    pub(crate) air_minutes: Option<u16>,
}

/// A day of the year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Day {
    pub(crate) month: u8,
    pub(crate) day: u8,
}

/// All flights in the order of the file, and the names of their keys.
#[derive(Default)]
pub(crate) struct Flights {
    pub(crate) list: Vec<Flight>,
    pub(crate) aircraft: Names,
    pub(crate) routes: Names,
    pub(crate) airports: Names,
    pub(crate) carriers: Names,
}

/// Names, numbered in the order of their first appearance.
#[derive(Default)]
pub(crate) struct Names {
    names: Vec<String>,
    keys: HashMap<String, u32>,
}

impl Names {
    fn key(&mut self, name: &str) -> u32 {
        if let Some(&key) = self.keys.get(name) {
            return key;
        }
        let key = u32::try_from(self.names.len())
            .expect("a u32 numbers all flights, so also all their keys");
        self.names.push(name.to_owned());
        self.keys.insert(name.to_owned(), key);
        key
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn name(&self, key: usize) -> &str {
        &self.names[key]
    }
}

impl Flights {
    /// Reads a CSV file. The first bytes decide whether the file is compressed, not its name.
    pub(crate) fn read(path: &Path, progress: &mut Progress) -> Result<Self, Box<dyn Error>> {
        let in_file = |error: &dyn Display| format!("{}: {error}", path.display());
        let mut file = BufReader::new(File::open(path).map_err(|error| in_file(&error))?);
        let compressed =
            file.fill_buf().map_err(|error| in_file(&error))?.starts_with(&[0x1f, 0x8b]);
        let content: Box<dyn Read> =
            if compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Ok(Self::parse(content, progress).map_err(|error| in_file(&error))?)
    }

    fn parse(content: impl Read, progress: &mut Progress) -> Result<Self, Box<dyn Error>> {
        let mut reader = csv::Reader::from_reader(content);
        let columns = Columns::find(reader.headers()?)?;
        let mut flights = Self::default();
        let mut record = StringRecord::new();
        while reader.read_record(&mut record)? {
            let flight = flights.flight(&columns, &record).map_err(|error| {
                let line = record.position().map_or(0, csv::Position::line);
                format!("line {line}: {error}")
            })?;
            flights.list.push(flight);
            progress.show(|| format!("{} flights", grouped(flights.list.len())));
        }
        if flights.list.is_empty() {
            return Err("no flights in it".into());
        }
        Ok(flights)
    }

    fn flight(&mut self, columns: &Columns, record: &StringRecord) -> Result<Flight, String> {
        let field = |column: Column| record.get(columns.0[column as usize]).unwrap_or_default();
        let name = |column: Column| match field(column) {
            "" => Err(format!("{} is empty", NAMES[column as usize])),
            name => Ok(name),
        };
        let origin = name(Column::Origin)?;
        let dest = name(Column::Dest)?;
        let aircraft = match field(Column::Tailnum) {
            "" => NO_AIRCRAFT,
            tail => tail,
        };
        Ok(Flight {
            row: u32::try_from(self.list.len()).map_err(|_| "too many flights")?,
            day: Day {
                month: within(Column::Month, name(Column::Month)?, 1, 12)?,
                day: within(Column::Day, name(Column::Day)?, 1, 31)?,
            },
            scheduled: within(Column::SchedDepTime, name(Column::SchedDepTime)?, 0, 2400)?,
            departure_delay: known(Column::DepDelay, field(Column::DepDelay))?,
            arrival_delay: known(Column::ArrDelay, field(Column::ArrDelay))?,
            air_minutes: known(Column::AirTime, field(Column::AirTime))?,
            carrier: self.carriers.key(name(Column::Carrier)?),
            aircraft: self.aircraft.key(aircraft),
            route: self.routes.key(&format!("{origin}-{dest}")),
            origin: self.airports.key(origin),
            dest: self.airports.key(dest),
        })
    }
}

/// The required columns, in the order of [`NAMES`].
#[derive(Clone, Copy)]
enum Column {
    Month,
    Day,
    SchedDepTime,
    Carrier,
    Tailnum,
    Origin,
    Dest,
    DepDelay,
    ArrDelay,
    AirTime,
}

const NAMES: [&str; 10] = [
    "month",
    "day",
    "sched_dep_time",
    "carrier",
    "tailnum",
    "origin",
    "dest",
    "dep_delay",
    "arr_delay",
    "air_time",
];

/// The index of each column in this file.
struct Columns([usize; NAMES.len()]);

impl Columns {
    fn find(header: &StringRecord) -> Result<Self, String> {
        let mut columns = [0; NAMES.len()];
        for (column, name) in columns.iter_mut().zip(NAMES) {
            *column = header
                .iter()
                .position(|title| title.trim() == name)
                .ok_or_else(|| format!("the first line names no column {name:?}"))?;
        }
        Ok(Self(columns))
    }
}

/// Parses a number, or returns `None` for an empty field.
fn known<T: FromStr>(column: Column, text: &str) -> Result<Option<T>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let unfit =
        |_| format!("{} is {text:?}, not a whole number of minutes", NAMES[column as usize]);
    text.parse().map(Some).map_err(unfit)
}

fn within<T: FromStr + PartialOrd + Display>(
    column: Column,
    text: &str,
    least: T,
    most: T,
) -> Result<T, String> {
    match text.parse() {
        Ok(number) if least <= number && number <= most => Ok(number),
        _ => Err(format!(
            "{} is {text:?}, not a number from {least} to {most}",
            NAMES[column as usize]
        )),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SOME: &str = "\
month,day,sched_dep_time,carrier,tailnum,origin,dest,dep_delay,arr_delay,air_time
1,1,515,UA,N14228,EWR,IAH,2,11,227
1,1,529,UA,N24211,LGA,IAH,4,20,227
1,1,540,AA,,JFK,MIA,,,
1,2,545,UA,N14228,EWR,IAH,-1,-18,183
";

    pub(crate) fn parsed(text: &str) -> Result<Flights, String> {
        Flights::parse(text.as_bytes(), &mut Progress::new("")).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_the_keys() {
        let flights = parsed(SOME).unwrap();
        let [a, _, none, b] = flights.list[..] else { panic!("not 4 flights") };
        assert_eq!(
            (a.aircraft, a.route, a.origin, a.dest),
            (b.aircraft, b.route, b.origin, b.dest)
        );
        assert_eq!(
            (a.departure_delay, b.arrival_delay, b.air_minutes),
            (Some(2), Some(-18), Some(183))
        );
        assert_eq!(
            (none.departure_delay, flights.aircraft.name(none.aircraft as usize)),
            (None, NO_AIRCRAFT)
        );
        assert_eq!(flights.routes.name(none.route as usize), "JFK-MIA");
        assert_eq!(
            [flights.aircraft.len(), flights.airports.len(), flights.carriers.len()],
            [3, 5, 2]
        );
    }

    #[test]
    fn names_the_line_and_what_is_wrong_with_it() {
        for (from, to, part) in [
            ("1,1,529", "1,32,529", "line 3: day is \"32\", not a number from 1 to 31"),
            (",4,20", ",x,20", "line 3: dep_delay is \"x\", not a whole number of minutes"),
            ("JFK", "", "line 4: origin is empty"),
            ("1,2,545,UA", "1,2,545", "line: 5"),
            ("tailnum", "plane", "names no column \"tailnum\""),
            (&SOME[SOME.find('\n').unwrap()..], "", "no flights in it"),
        ] {
            let error = parsed(&SOME.replace(from, to)).err().expect("an error");
            assert!(error.contains(part), "{error}");
        }
    }
}

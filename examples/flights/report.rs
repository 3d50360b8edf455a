//! Formats the results of the flights: what was read, and the delay statistics in aligned tables.

use crate::data::{Flights, NO_AIRCRAFT};
use crate::measure::text::{count, grouped, table};
use crate::tally::{LATE, Results, Tally};

/// Number of routes and aircraft in the tables.
const LISTED: usize = 10;

/// Describes the content of the file and the number of actors, one for each entry of the results.
pub(crate) fn overview(flights: &Flights, results: &Results) -> String {
    let kinds = [
        (flights.aircraft.len(), "aircraft"),
        (results.days.len(), "days of an aircraft"),
        (flights.routes.len(), "routes"),
        (flights.airports.len(), "airports"),
        (flights.carriers.len(), "carriers"),
    ];
    let kinds = kinds.map(|(count, what)| format!("{} {what}", grouped(count))).join(", ");
    let mut text = format!("{} actors: {kinds}.\n", grouped(results.len()));
    let none = results
        .aircraft
        .iter()
        .enumerate()
        .find(|(key, _)| flights.aircraft.name(*key) == NO_AIRCRAFT);
    if let Some((_, log)) = none {
        let without = count(log.tally.flights as usize, "flight");
        text += &format!(
            "{without} without a tail number belong to one aircraft named {NO_AIRCRAFT}.\n"
        );
    }
    text
}

/// Formats the tables of carriers, worst routes and busiest aircraft.
pub(crate) fn tables(flights: &Flights, results: &Results) -> String {
    let carriers =
        by(results.carriers.iter().copied().enumerate(), |tally| f64::from(tally.flights));
    let mut text = format!(
        "\nCarriers, by flights. Delays at departure and arrival in minutes; late is more than {LATE}.\n\n"
    );
    let carriers = carriers.iter().map(|(key, tally)| row(flights.carriers.name(*key), tally, &[]));
    text += &delays("carrier", &[], carriers.collect());

    // A route with a handful of flights would be best or worst by chance. Listed routes have at
    // least one flight in a thousand.
    let least = u32::try_from(flights.list.len().div_ceil(1000)).unwrap_or(u32::MAX);
    let often =
        results.routes.iter().copied().enumerate().filter(|(_, tally)| tally.flights >= least);
    let routes = by(often, |tally| tally.arrivals.mean().unwrap_or(f64::MIN));
    text += &format!(
        "\nThe worst routes, by mean delay at arrival, of the {} with at least {}.\n\n",
        routes.len(),
        count(least as usize, "flight"),
    );
    let routes =
        routes.iter().take(LISTED).map(|(key, tally)| row(flights.routes.name(*key), tally, &[]));
    text += &delays("route", &[], routes.collect());

    let mut days = vec![(0_u32, 0); flights.aircraft.len()];
    for (&(aircraft, _), log) in &results.days {
        let (days, most) = &mut days[aircraft as usize];
        *days += 1;
        *most = log.tally.flights.max(*most);
    }
    let named = results.aircraft.iter().map(|log| log.tally).enumerate();
    let named = named.filter(|(key, _)| flights.aircraft.name(*key) != NO_AIRCRAFT);
    let aircraft = by(named, |tally| f64::from(tally.flights));
    text += "\nThe busiest aircraft, with the days on which they flew and the most flights on one day.\n\n";
    let aircraft = aircraft.iter().take(LISTED).map(|(key, tally)| {
        let (days, most) = days[*key];
        row(flights.aircraft.name(*key), tally, &[days.to_string(), most.to_string()])
    });
    text += &delays("aircraft", &["days", "a day"], aircraft.collect());
    text
}

/// Sorts by rank, greatest first. The sort is stable, so that equal entries stay in the order of
/// the file.
fn by(
    tallies: impl Iterator<Item = (usize, Tally)>,
    rank: impl Fn(&Tally) -> f64,
) -> Vec<(usize, Tally)> {
    let mut tallies: Vec<_> = tallies.collect();
    tallies.sort_by(|(_, a), (_, b)| rank(b).total_cmp(&rank(a)));
    tallies
}

/// Formats a table of [`row`]s.
fn delays(what: &str, more: &[&str], rows: Vec<Vec<String>>) -> String {
    let columns =
        ["flights", "cancelled", "diverted", "dep mean", "max", "late", "arr mean", "max", "late"];
    let header = [what].into_iter().chain(columns).chain(more.iter().copied());
    table(header.map(str::to_owned).collect(), rows)
}

fn row(name: &str, tally: &Tally, more: &[String]) -> Vec<String> {
    let mut row = vec![name.to_owned(), grouped(tally.flights)];
    row.push(share(tally.cancelled, tally.flights));
    row.push(share(tally.diverted, tally.flights));
    for delays in [tally.departures, tally.arrivals] {
        row.push(delays.mean().map_or("-".into(), |mean| format!("{mean:.1}")));
        row.push(delays.most.map_or("-".into(), grouped));
        row.push(share(delays.late, delays.known));
    }
    row.extend_from_slice(more);
    row
}

fn share(part: u32, whole: u32) -> String {
    if whole == 0 {
        "-".into()
    } else {
        format!("{:.1} %", 100.0 * f64::from(part) / f64::from(whole))
    }
}

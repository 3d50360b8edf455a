//! Compares the actors' answers with the sequential pass.

use std::collections::BTreeSet;
use std::fmt::{self, Debug, Display};

use crate::data::{Flights, Names};
use crate::tally::Results;

/// Number of differences that are printed in full.
const SHOWN: usize = 5;

/// The number of differing actors, and the first few differences in words.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    count: usize,
    first: Vec<String>,
}

/// Compares every actor's result. A result on one side only is a difference too.
pub(crate) fn compare(flights: &Flights, expected: &Results, found: &Results) -> Differences {
    let mut differences = Differences::default();
    differences.named("aircraft", &flights.aircraft, &expected.aircraft, &found.aircraft);
    differences.named("route", &flights.routes, &expected.routes, &found.routes);
    differences.named("airport", &flights.airports, &expected.airports, &found.airports);
    differences.named("carrier", &flights.carriers, &expected.carriers, &found.carriers);
    for key @ (aircraft, day) in
        expected.days.keys().chain(found.days.keys()).collect::<BTreeSet<_>>()
    {
        differences.note(expected.days.get(key), found.days.get(key), || {
            format!(
                "aircraft {} on {}/{}",
                flights.aircraft.name(*aircraft as usize),
                day.month,
                day.day
            )
        });
    }
    differences
}

impl Differences {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn named<T: PartialEq + Debug>(
        &mut self,
        what: &str,
        names: &Names,
        expected: &[T],
        found: &[T],
    ) {
        for key in 0..expected.len().max(found.len()) {
            self.note(expected.get(key), found.get(key), || format!("{what} {}", names.name(key)));
        }
    }

    fn note<T: PartialEq + Debug>(
        &mut self,
        expected: Option<&T>,
        found: Option<&T>,
        whose: impl Fn() -> String,
    ) {
        if expected == found {
            return;
        }
        self.count += 1;
        if self.first.len() < SHOWN {
            let whose = whose();
            self.first.push(match (expected, found) {
                (_, None) => format!("{whose}: no actor has it"),
                (None, _) => format!("{whose}: an actor has it, but no flight"),
                (Some(expected), Some(found)) => {
                    format!("{whose}:\n    sequential {expected:?}\n    actor      {found:?}")
                }
            });
        }
    }
}

impl Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} results differ from the sequential pass, among them", self.count)?;
        self.first.iter().try_for_each(|difference| writeln!(f, "  {difference}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tests::{SOME, parsed};

    #[test]
    fn every_kind_of_result_is_compared() {
        let flights = parsed(SOME).unwrap();
        let expected = Results::sequential(&flights);
        assert!(compare(&flights, &expected, &Results::sequential(&flights)).is_empty());

        let spoil: [(&str, fn(&mut Results)); 7] = [
            ("aircraft N14228:", |results| results.aircraft[0].order ^= 1),
            ("route LGA-IAH:", |results| results.routes[1].flights += 1),
            ("airport EWR:", |results| results.airports[0].coming.cancelled += 1),
            ("carrier AA:", |results| results.carriers[1].arrivals.most = Some(0)),
            ("carrier AA: no actor has it", |results| results.carriers.truncate(1)),
            ("aircraft N14228 on 1/1:", |results| {
                results.days.first_entry().unwrap().get_mut().order ^= 1;
            }),
            ("aircraft N14228 on 1/1: no actor has it", |results| {
                results.days.pop_first();
            }),
        ];
        for (part, spoil) in spoil {
            let mut found = Results::sequential(&flights);
            spoil(&mut found);
            let differences = compare(&flights, &expected, &found);
            let text = differences.to_string();
            assert!(differences.count == 1 && text.contains(part), "{text}");
        }
    }

    #[test]
    fn only_the_first_few_are_spelled_out() {
        let flights = parsed(SOME).unwrap();
        let expected = Results::sequential(&flights);
        let found = Results::sequential(
            &parsed(&SOME.replace(",2,11,", ",3,11,").replace("4,20,", "5,20,")).unwrap(),
        );
        let text = compare(&flights, &expected, &found).to_string();
        assert!(text.starts_with("10 results differ"), "{text}");
        assert_eq!(
            text.matches("sequential {").count() + text.matches("sequential Log").count(),
            2,
            "{text}"
        );
    }
}

//! Formats a table of runs, with a row for each way of running a load and each size of crew.

use std::time::Duration;

use super::burst::Bursts;
use super::delay::quantile;
use super::meter::{Run, Way};
use super::spread::Spread;
use super::text;

/// The columns and their meanings.
pub(crate) const COLUMNS: [(&str, &str); 16] = [
    (
        "",
        "Where a runnable actor waits. Stealing: at the worker that made the actor runnable, and idle workers steal. \
          Sharded: at the worker that the actor's id hashes to. SharedQueue: in one queue for all workers. \
          A thread each: nowhere, because the system's scheduler runs the thread.",
    ),
    ("workers", "Number of worker threads, or of processors for a thread each."),
    (
        "makespan",
        "Time from the first message sent to the last one handled. All figures come from the run with the median makespan.",
    ),
    ("least..most", "Least and greatest makespan of all runs, in seconds."),
    (
        "CPU time",
        "CPU time of the whole process in that time, including the sender and the measurement.",
    ),
    (
        "delay p50",
        "Queue delay: time from sending a message (including the wait for room), or at a steady pace from its due \
                   time, to the beginning of its handling. Half of the messages waited no longer than this.",
    ),
    ("p99", "99 % of the messages waited no longer than this."),
    ("p99.9", "99.9 % of the messages waited no longer than this."),
    (
        "max / mean",
        "The busiest worker's busy time divided by the mean: 1 is even, and the number of workers means that one \
                  worker did everything. Busy time is clock time and includes time for which the system preempted a worker.",
    ),
    (
        "CV",
        "Coefficient of variation of the busy times, the standard deviation divided by the mean: 0 is even.",
    ),
    (
        "Jain",
        "Jain's index of the busy times, (sum x)\u{b2} / (n sum x\u{b2}): 1 is even, and 1/n means that one of n workers did everything.",
    ),
    (
        "idle hands",
        "Time for which workers slept while actors waited, sampled twice a millisecond, also as a part of all workers' \
                    time. Each sample counts the sleeping workers, at most the number of waiting actors. The standard \
                    error is about the root of 0.5 ms times the figure.",
    ),
    ("steals / 1,000", "Successful steals for each 1,000 messages."),
    ("wakes / 1,000", "Wake-ups of workers for each 1,000 messages."),
    (
        "all busy after",
        "Time from the message that starts a burst (see burst.rs) until all workers are busy: median and greatest \
                        of 30 bursts, measured separately.",
    ),
    ("no room", "Messages that did not find room in their mailbox at once."),
];

/// The runs of one way with one size of crew, by makespan.
pub(crate) struct Row<'a> {
    pub(crate) way: Way,
    pub(crate) workers: usize,
    pub(crate) runs: Vec<&'a Run>,
    burst: Option<&'a Bursts>,
}

/// All measured bursts.
pub(crate) type AllBursts = Vec<(Way, usize, Bursts)>;

/// Groups the runs into rows, by size of crew and then in the order of [`Way::ALL`]. Threads come
/// last.
pub(crate) fn rows<'a>(runs: &'a [Run], bursts: &'a AllBursts) -> Vec<Row<'a>> {
    let mut rows: Vec<Row<'a>> = Vec::new();
    for run in runs {
        match rows.iter_mut().find(|row| (row.way, row.workers) == (run.way, run.workers)) {
            Some(row) => row.runs.push(run),
            None => {
                let burst = bursts
                    .iter()
                    .find(|(way, workers, _)| (*way, *workers) == (run.way, run.workers));
                let burst = burst.map(|(_, _, burst)| burst);
                rows.push(Row { way: run.way, workers: run.workers, runs: vec![run], burst });
            }
        }
    }
    rows.iter_mut().for_each(|row| row.runs.sort_by_key(|run| run.makespan));
    let order = |way| Way::ALL.iter().position(|known| *known == way);
    rows.sort_by_key(|row| (row.way == Way::Threads, row.workers, order(row.way)));
    rows
}

impl<'a> Row<'a> {
    pub(crate) fn median(&self) -> &'a Run {
        self.runs[self.runs.len() / 2]
    }

    fn cells(&self) -> Vec<String> {
        let run = self.median();
        let delay = |part| quantile(&run.delays, part).map_or("-".into(), time);
        let crew = run.crew.as_ref();
        let spread = crew.and_then(|crew| Spread::of(&crew.busy));
        let of_spread = |of: fn(&Spread) -> f64| {
            spread.as_ref().map_or("-".into(), |s| format!("{:.3}", of(s)))
        };
        let a_thousand =
            |count: u64| format!("{:.2}", 1_000.0 * count as f64 / run.messages.max(1) as f64);
        let idle = crew.zip(run.idle_part()).map_or("-".into(), |(crew, part)| {
            format!("{} ({:.1} %)", time(crew.seen.idle_hands), 100.0 * part)
        });
        vec![
            self.way.to_string(),
            self.workers.to_string(),
            text::seconds(run.makespan),
            self.range(),
            run.cpu.map_or("n/a".into(), text::seconds),
            delay(0.5),
            delay(0.99),
            delay(0.999),
            of_spread(|spread| spread.most),
            of_spread(|spread| spread.variation),
            of_spread(|spread| spread.jain),
            idle,
            crew.map_or("-".into(), |crew| a_thousand(crew.steals)),
            crew.map_or("-".into(), |crew| a_thousand(crew.wakes)),
            self.burst.map_or("-".into(), |burst| {
                format!("{}, {}", time(burst.median()), time(burst.most()))
            }),
            run.kept.map_or("-".into(), text::grouped),
        ]
    }

    fn range(&self) -> String {
        match self.runs[..] {
            [least, .., most] => {
                format!("{:.3}..{:.3}", least.makespan.as_secs_f64(), most.makespan.as_secs_f64())
            }
            _ => "-".into(),
        }
    }
}

/// Returns the cells of the table, header first. Columns without any value are left out.
pub(crate) fn cells(rows: &[Row<'_>]) -> Vec<Vec<String>> {
    let mut table = vec![COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>()];
    table.extend(rows.iter().map(Row::cells));
    let empty = |column: usize| table[1..].iter().all(|row| row[column] == "-");
    let kept: Vec<usize> = (0..COLUMNS.len()).filter(|column| !empty(*column)).collect();
    table.iter().map(|row| kept.iter().map(|column| row[*column].clone()).collect()).collect()
}

/// Formats the table for a terminal.
pub(crate) fn text(rows: &[Row<'_>]) -> String {
    let mut cells = cells(rows);
    let header = cells.remove(0);
    text::table(header, cells)
}

/// Formats a time with three digits and a unit.
pub(crate) fn time(time: Duration) -> String {
    let ns = time.as_nanos() as f64;
    let (value, unit) = match ns {
        ..1e3 => return format!("{ns} ns"),
        ..1e6 => (ns / 1e3, "us"),
        ..1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let digits = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::delay::Delays;
    use heist::Policy;

    fn run(way: Way, workers: usize, ms: u64) -> Run {
        let delays = Delays::leaked().take();
        Run {
            way,
            workers,
            makespan: Duration::from_millis(ms),
            cpu: None,
            messages: 10,
            delays,
            kept: None,
            crew: None,
        }
    }

    #[test]
    fn rows_have_their_order_and_their_median() {
        let (stealing, sharded) = (Way::Crew(Policy::Stealing), Way::Crew(Policy::Sharded));
        let runs = [
            run(Way::Threads, 2, 9),
            run(sharded, 2, 1),
            run(stealing, 2, 30),
            run(sharded, 1, 1),
            run(stealing, 2, 10),
            run(stealing, 2, 20),
        ];
        let bursts = AllBursts::new();
        let rows = rows(&runs, &bursts);
        let order: Vec<_> = rows.iter().map(|row| (row.way, row.workers)).collect();
        assert_eq!(order, [(sharded, 1), (stealing, 2), (sharded, 2), (Way::Threads, 2)]);
        assert_eq!(rows[1].median().makespan, Duration::from_millis(20));
        assert_eq!(rows[1].range(), "0.010..0.030");
        let table = cells(&rows);
        assert_eq!(
            table[0],
            ["", "workers", "makespan", "least..most", "CPU time"],
            "the others are empty"
        );
        assert_eq!(table[2], ["Stealing", "2", "0.020 s", "0.010..0.030", "n/a"]);
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        let texts = [0, 999, 1_000, 99_940, 999_499, 12_345_678, 1_500_000_000, 75_000_000_000];
        let texts = texts.map(|ns| time(Duration::from_nanos(ns)));
        assert_eq!(
            texts,
            ["0 ns", "999 ns", "1.00 us", "99.9 us", "999 us", "12.3 ms", "1.50 s", "75.0 s"]
        );
    }
}

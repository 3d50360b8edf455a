//! Keeps the measurements of all runs and computes medians over them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::peers::Outcome;

#[derive(Default)]
pub struct Records(BTreeMap<(String, usize, String), Runs>);

#[derive(Default)]
pub struct Runs {
    pub ran: Vec<Value>,
    pub hung: usize,
    pub failed: Vec<String>,
}

/// A median with its least and greatest value.
#[derive(Clone, Copy, Debug)]
pub struct Middle {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Middle {
    pub fn of(mut values: Vec<f64>) -> Option<Middle> {
        values.retain(|v| v.is_finite());
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 };
        Some(Middle { median, least, most })
    }

    /// Returns half the range (max - min) as a percentage of the median.
    pub fn spread(&self) -> f64 {
        if self.median > 0.0 { (self.most - self.least) / 2.0 / self.median * 100.0 } else { 0.0 }
    }
}

impl Records {
    pub fn add(&mut self, workload: &str, workers: usize, peer: &str, outcome: Outcome) {
        let runs = self.0.entry((workload.into(), workers, peer.into())).or_default();
        match outcome {
            Outcome::Ran(run) => runs.ran.push(run),
            Outcome::Hung => runs.hung += 1,
            Outcome::Failed(words) => runs.failed.push(words),
        }
    }

    pub fn get(&self, workload: &str, workers: usize, peer: &str) -> Option<&Runs> {
        self.0.get(&(workload.into(), workers, peer.into()))
    }

    pub fn all(&self) -> impl Iterator<Item = (&(String, usize, String), &Runs)> {
        self.0.iter()
    }

    /// Returns the numbers of workers that a workload ran with.
    pub fn workers(&self, workload: &str) -> Vec<usize> {
        let mut workers: Vec<usize> =
            self.0.keys().filter(|(w, _, _)| w == workload).map(|(_, n, _)| *n).collect();
        workers.sort_unstable();
        workers.dedup();
        workers
    }

    pub fn all_right(&self) -> bool {
        self.0.values().all(|runs| runs.hung == 0 && runs.failed.is_empty() && runs.wrong() == 0)
    }
}

impl Runs {
    pub fn wrong(&self) -> usize {
        self.ran.iter().filter(|run| run["ok"] != true).count()
    }

    /// Returns `true` if a smaller size than the workload's own was run.
    pub fn cut(&self) -> bool {
        self.ran.iter().any(|run| run["cut"] == true)
    }

    pub fn middle(&self, value: impl Fn(&Value) -> Option<f64>) -> Option<Middle> {
        Middle::of(self.ran.iter().filter(|run| run["ok"] == true).filter_map(value).collect())
    }

    pub fn figure(&self, label: &str) -> Option<Middle> {
        self.middle(|run| run["figures"][label].as_f64())
    }

    pub fn cpu_ns_per_op(&self) -> Option<Middle> {
        self.middle(|run| Some(run["cpu_ns"].as_f64()? / run["ops"].as_f64()?))
    }

    pub fn peak_mb(&self) -> Option<Middle> {
        self.middle(|run| Some(run["peak_kb"].as_f64()? / 1_024.0))
    }
}

//! Writes the report: tables in Markdown, and all data in JSON.

use std::{fmt::Write, path::Path, time::Duration};

use serde_json::{Value, json};
use workloads::{Figure, Scale, WORKLOADS};

use crate::{
    options::Options,
    peers::{FLOOR, Peer},
    record::{Middle, Records, Runs},
};

pub const HEIST: &str = "heist";

pub struct Report<'a> {
    pub repeats: usize,
    pub options: &'a Options,
    pub peers: &'a [Peer],
    pub skipped: &'a [String],
    pub records: &'a Records,
}

/// One row of the comparison: a figure of a workload at one number of workers.
pub struct Row {
    pub workload: &'static str,
    pub figure: Figure,
    pub workers: usize,
}

impl Row {
    pub fn label(&self) -> String {
        match self.figure {
            Figure::NsPerOp => self.workload.into(),
            figure => format!("{}, {}", self.workload, figure.label()),
        }
    }
}

impl Report<'_> {
    /// Returns the rows of the main table (the number of workers that all peers ran with), or all
    /// other rows.
    pub fn rows(&self, main: bool) -> Vec<Row> {
        let asked = self.options.workers.as_ref().and_then(|w| w.first().copied()).unwrap_or(2);
        let mut rows = Vec::new();
        for workload in WORKLOADS {
            for workers in self.records.workers(workload.name) {
                if (workers == asked) == main {
                    let row = |&figure| Row { workload: workload.name, figure, workers };
                    rows.extend(workload.figures.iter().map(row));
                }
            }
        }
        rows
    }

    fn runs(&self, row: &Row, peer: &str) -> Option<&Runs> {
        self.records.get(row.workload, row.workers, peer)
    }

    pub fn middle(&self, row: &Row, peer: &str) -> Option<Middle> {
        self.runs(row, peer)?.figure(row.figure.label())
    }

    /// Returns the best peer. Neither heist nor the lower bound counts.
    pub fn best(&self, row: &Row) -> Option<(&str, f64)> {
        let peers = self.peers.iter().map(|p| p.name.as_str()).filter(|p| *p != HEIST && *p != FLOOR);
        peers
            .filter_map(|peer| Some((peer, self.middle(row, peer)?.median)))
            .min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Returns how many times better heist is than the best peer.
    pub fn ratio(&self, row: &Row) -> Option<f64> {
        let heist = self.middle(row, HEIST)?.median;
        (heist > 0.0).then_some(self.best(row)?.1 / heist)
    }

    pub fn markdown(&self, took: Duration) -> String {
        let mut text = String::from("# heist and its peers\n\n");
        let scale = if self.options.scale == Scale::Quick { "quick" } else { "full" };
        let _ = writeln!(
            text,
            "{}; {}; {scale} sizes, {} runs of each, interleaved, medians; took {:.0} s.\n",
            date(),
            machine().join(", "),
            self.repeats,
            took.as_secs_f64(),
        );
        let versions: Vec<String> = self.peers.iter().map(|p| format!("{} {}", p.name, p.version)).collect();
        let _ = writeln!(text, "Versions: {}.", versions.join(", "));
        for words in self.skipped {
            let _ = writeln!(text, "{words}.");
        }
        let _ = writeln!(
            text,
            "\nFigures are ns per operation unless the row names another unit, and less is better. ± is half the range \
             (max - min). * marks a smaller size, because the peer would take too long. - means left out. `ratio` is how \
             many times better heist is than the best peer ({FLOOR} is a lower bound and not a peer).\n"
        );
        self.table(&mut text, &self.rows(true), Self::cell, true);
        let others = self.rows(false);
        if !others.is_empty() {
            text.push_str("\n## Other numbers of workers\n\n");
            self.table(&mut text, &others, Self::cell, true);
        }
        self.workers_against_workers(&mut text);
        // CPU time and memory belong to a run, not to a figure, so each workload has one row.
        let mut once = self.rows(true);
        once.dedup_by_key(|row| row.workload);
        text.push_str("\n## CPU time, ns per operation, all threads\n\n");
        self.table(&mut text, &once, Self::cpu_cell, false);
        text.push_str("\n## Peak memory of the process, MB\n\n");
        self.table(&mut text, &once, Self::peak_cell, false);
        self.troubles(&mut text);
        text
    }

    fn table(&self, text: &mut String, rows: &[Row], cell: fn(&Self, &Row, &Peer) -> String, ratio: bool) {
        let mut lines: Vec<Vec<String>> = Vec::new();
        let mut head = vec!["workload".to_string(), "workers".into()];
        head.extend(self.peers.iter().map(|p| p.name.clone()));
        if ratio {
            head.extend(["best peer".to_string(), "ratio".into()]);
        }
        lines.push(head);
        for row in rows {
            let name = if ratio { row.label() } else { row.workload.to_string() };
            let mut line = vec![name, row.workers.to_string()];
            line.extend(self.peers.iter().map(|peer| cell(self, row, peer)));
            if ratio {
                line.push(self.best(row).map_or("-".into(), |(peer, _)| peer.to_string()));
                line.push(self.ratio(row).map_or("-".into(), |ratio| format!("{ratio:.2}")));
            }
            lines.push(line);
        }
        let widths: Vec<usize> = (0..lines[0].len())
            .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        for (at, line) in lines.iter().enumerate() {
            for (column, (word, &width)) in line.iter().zip(&widths).enumerate() {
                let _ = if column == 0 {
                    write!(text, "| {word:<width$} ")
                } else {
                    write!(text, "| {word:>width$} ")
                };
            }
            text.push_str("|\n");
            if at == 0 {
                let rules = widths.iter().enumerate().map(|(column, w)| {
                    format!("|{}{}", "-".repeat(w + 1), if column == 0 { "-" } else { ":" })
                });
                text.extend(rules);
                text.push_str("|\n");
            }
        }
    }

    /// Compares numbers of workers pairwise. The runs of one repeat follow each other.
    fn workers_against_workers(&self, text: &mut String) {
        let mut lines = Vec::new();
        for workload in WORKLOADS {
            let figure = workload.figures[0].label();
            for peer in self.peers {
                let by_workers: Vec<(usize, Vec<f64>)> = self
                    .records
                    .workers(workload.name)
                    .into_iter()
                    .filter_map(|n| Some((n, self.records.get(workload.name, n, &peer.name)?)))
                    .map(|(n, runs)| {
                        (n, runs.ran.iter().filter_map(|r| r["figures"][figure].as_f64()).collect())
                    })
                    .collect();
                for two in by_workers.windows(2) {
                    let ratios = two[0].1.iter().zip(&two[1].1).map(|(few, many)| many / few).collect();
                    if let Some(middle) = Middle::of(ratios) {
                        lines.push(format!(
                            "| {} | {} | {} against {} | {} | {} to {} |\n",
                            workload.name,
                            peer.name,
                            two[1].0,
                            two[0].0,
                            short(middle.median),
                            short(middle.least),
                            short(middle.most),
                        ));
                    }
                }
            }
        }
        if !lines.is_empty() {
            text.push_str(
                "\n## Numbers of workers: the time with more divided by the time with fewer, pair by pair\n\n",
            );
            text.push_str(
                "| workload | peer | workers | median ratio | least to most |\n|---|---|---|---:|---:|\n",
            );
            text.extend(lines);
        }
    }

    fn cell(&self, row: &Row, peer: &Peer) -> String {
        let Some(runs) = self.runs(row, &peer.name) else { return "-".into() };
        if runs.wrong() > 0 {
            return "WRONG".into();
        }
        let Some(middle) = runs.figure(row.figure.label()) else {
            return if runs.hung > 0 { "HUNG".into() } else { "FAILED".into() };
        };
        let trouble = if runs.hung > 0 || !runs.failed.is_empty() { "!" } else { "" };
        let cut = if runs.cut() { "*" } else { "" };
        format!("{}{cut}{trouble} ±{:.0}%", short(middle.median), middle.spread())
    }

    fn cpu_cell(&self, row: &Row, peer: &Peer) -> String {
        let middle = self.runs(row, &peer.name).and_then(Runs::cpu_ns_per_op);
        middle.map_or("-".into(), |m| short(m.median))
    }

    fn peak_cell(&self, row: &Row, peer: &Peer) -> String {
        let runs = self.runs(row, &peer.name);
        let cut = if runs.is_some_and(Runs::cut) { "*" } else { "" };
        let middle = runs.and_then(Runs::peak_mb);
        middle.map_or("-".into(), |m| format!("{}{cut}", short(m.median)))
    }

    fn troubles(&self, text: &mut String) {
        let mut lines = Vec::new();
        for ((workload, workers, peer), runs) in self.records.all() {
            let mut say =
                |what: String| lines.push(format!("- {peer}, {workload} with {workers} workers: {what}\n"));
            if runs.wrong() > 0 {
                say(format!("{} wrong answers", runs.wrong()));
            }
            if runs.hung > 0 {
                say(format!("{} runs did not end", runs.hung));
            }
            for words in &runs.failed {
                say(format!("failed, {words}"));
            }
        }
        if lines.is_empty() {
            text.push_str("\nEvery run completed with the right answer.\n");
        } else {
            text.push_str("\n## Failed runs\n\n");
            text.extend(lines);
        }
    }

    pub fn json(&self, took: Duration) -> String {
        let middle = |m: Option<Middle>| {
            m.map(|m| json!({"median": m.median, "least": m.least, "most": m.most})).unwrap_or(Value::Null)
        };
        let mut rows = Vec::new();
        for row in self.rows(true).into_iter().chain(self.rows(false)) {
            let peers: serde_json::Map<String, Value> = self
                .peers
                .iter()
                .filter_map(|peer| {
                    let runs = self.runs(&row, &peer.name)?;
                    let measured = json!({
                        "figure": middle(runs.figure(row.figure.label())),
                        "cpu_ns_per_op": middle(runs.cpu_ns_per_op()),
                        "peak_mb": middle(runs.peak_mb()),
                        "cut": runs.cut(), "wrong": runs.wrong(), "hung": runs.hung, "failed": runs.failed,
                    });
                    Some((peer.name.clone(), measured))
                })
                .collect();
            rows.push(json!({
                "workload": row.workload, "figure": row.figure.label(), "workers": row.workers,
                "best_peer": self.best(&row).map(|(peer, _)| peer), "ratio": self.ratio(&row), "peers": peers,
            }));
        }
        let runs: Vec<&Value> = self.records.all().flat_map(|(_, runs)| &runs.ran).collect();
        let report = json!({
            "date": date(), "machine": machine(), "command": self.options.command, "seconds": took.as_secs_f64(),
            "versions": self.peers.iter().map(|p| (p.name.clone(), p.version.clone().into())).collect::<serde_json::Map<_, Value>>(),
            "left_out": self.peers.iter().map(|p| (p.name.clone(), json!(p.left_out))).collect::<serde_json::Map<_, _>>(),
            "skipped": self.skipped, "rows": rows, "runs": runs,
        });
        format!("{report:#}\n")
    }
}

/// Formats a value with three digits, the precision of these figures.
pub fn short(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn machine() -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|l| l.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, |n| n.get());
    let rustc = std::process::Command::new("rustc").arg("--version").output();
    let rustc = rustc.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_string());
    vec![
        format!("{cores} cores"),
        model.unwrap_or("unknown processor").to_string(),
        format!("{} {}", std::env::consts::OS, read("/proc/sys/kernel/osrelease").trim()),
        rustc.unwrap_or_default(),
    ]
}

/// Returns the date of today in UTC.
fn date() -> String {
    let seconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let mut days = seconds / 86_400;
    let leap = |year: u64| (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

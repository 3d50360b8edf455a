//! Draws the three pictures: the workers' activity over time, queue delays, scaling.

use std::error::Error;
use std::ops::Range;
use std::time::Duration;

use plotters::coord::combinators::{BindKeyPoints, IntoLogRange};
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::look::{
    self, Drawn, FONT, GREY, GRID, HEAD, IDEAL, LABEL, SKY, VERMILLION, legend, legend_of_lines,
    line, look_of, mark, svg, title, write,
};
use crate::measure::delay::{Delay, quantile};
use crate::measure::meter::{Run, Way};
use crate::measure::spread::Spread;
use crate::measure::table::{Row, time};
use crate::measure::text::grouped;
use crate::measure::timeline::Lane;

const WIDTH: i32 = 920;
const LEFT: i32 = 92;
const BELOW: i32 = 52;
const RIGHT: i32 = 36;

type Svg = Result<String, Box<dyn Error>>;

// ---- the workers' activity over time -----------------------------------------------------------

/// Greatest number of parts of the time. A part is about four pixels wide.
const PARTS: usize = 200;
/// Greatest number of workers in the picture. The other workers of a larger crew are left out.
const MOST_LANES: usize = 32;

/// Draws a panel for each run, with a lane for each worker and a common time axis.
pub(crate) fn busy(title_text: &str, runs: &[&Run]) -> Svg {
    let panels: Vec<_> =
        runs.iter().filter_map(|run| run.crew.as_ref().map(|crew| (*run, crew))).collect();
    let lanes = panels.iter().map(|(run, _)| run.workers.min(MOST_LANES)).max().unwrap_or(1) as i32;
    let lane_height = (240 / lanes).clamp(14, 46);
    let (head, panel) = (30, lanes * lane_height);
    let step = head + panel + 12;
    let height = HEAD + step * panels.len() as i32 + BELOW;
    let longest = panels.iter().map(|(run, _)| run.makespan).max().unwrap_or_default();
    let (scale, unit) = if longest < Duration::from_secs(1) { (1e3, "ms") } else { (1.0, "s") };
    let end = (longest.as_secs_f64() * scale).max(1e-6);

    svg((WIDTH, height), |area| {
        title(area, title_text)?;
        let entries = [
            ("busy".to_owned(), SKY),
            ("parked while runnable work waited".to_owned(), VERMILLION),
        ];
        legend(area, &entries, |area, colour, (x, y), width| {
            area.draw(&Rectangle::new([(x, y - 7), (x + width, y + 7)], colour.filled()))?;
            Ok(())
        })?;
        let height = "a lane's height is 100 % of one worker's time";
        write(area, height, (WIDTH - RIGHT, 46), LABEL, Pos::new(HPos::Right, VPos::Center))?;

        for (place, (run, crew)) in panels.iter().enumerate() {
            let top = HEAD + step * place as i32;
            let last = place + 1 == panels.len();
            let all = crew.seen.timeline.lanes(PARTS);
            let shown = &all[..all.len().min(MOST_LANES)];
            write(
                area,
                &headline(run, crew.busy.as_slice()),
                (LEFT, top + 14),
                LABEL + 1,
                left_middle(),
            )?;

            let below = if last { BELOW } else { 8 };
            let (_, rest) = area.split_vertically(top + head);
            let (panel_area, _) = rest.split_vertically(panel + below);
            let count = shown.len();
            let middles = (0..count).map(|lane| lane as f64 + 0.5).collect();
            let mut chart = ChartBuilder::on(&panel_area)
                .margin_right(RIGHT)
                .margin_left(8)
                .y_label_area_size(LEFT - 8)
                .x_label_area_size(below)
                .build_cartesian_2d(0.0..end, Ticks { range: 0.0..count as f64, at: middles })?;
            let name = |at: &f64| format!("worker {}", count - 1 - *at as usize);
            let number = |x: &f64| if last { number(*x) } else { String::new() };
            chart
                .configure_mesh()
                .disable_y_mesh()
                .light_line_style(TRANSPARENT)
                .bold_line_style(GRID)
                .axis_style(GREY)
                .label_style((FONT, LABEL))
                .y_label_formatter(&name)
                .x_labels(10)
                .x_label_formatter(&number)
                .x_desc(if last {
                    format!("time since the first message, {unit}")
                } else {
                    String::new()
                })
                .draw()?;
            let width = run.makespan.as_secs_f64() * scale;
            for (worker, lane) in shown.iter().enumerate() {
                let floor = (count - 1 - worker) as f64;
                draw_lane(&mut chart, lane, floor, width)?;
            }
            // Marks the end of the run.
            let mark = vec![(width, 0.0), (width, count as f64)];
            chart.draw_series([PathElement::new(mark, GREY.stroke_width(1))])?;
        }
        Ok(())
    })
}

type LaneChart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Ticks>>;

/// Draws busy time from the floor up and idle hands from the ceiling down, with a small gap between
/// lanes.
fn draw_lane(chart: &mut LaneChart<'_, '_>, lane: &Lane, floor: f64, width: f64) -> Drawn {
    const HEIGHT: f64 = 0.88;
    let part = width / lane.busy.len() as f64;
    let steps = |shares: &[f64], level: &dyn Fn(f64) -> f64| -> Vec<(f64, f64)> {
        let step = |(at, share): (usize, &f64)| {
            let (from, level) = (at as f64 * part, level(*share));
            [(from, level), (from + part, level)]
        };
        shares.iter().enumerate().flat_map(step).collect()
    };
    let busy = steps(&lane.busy, &|share| floor + HEIGHT * share);
    chart.draw_series(
        AreaSeries::new(busy, floor, SKY.filled()).border_style(look::BLUE.stroke_width(1)),
    )?;
    if lane.idle.iter().any(|share| *share > 0.0) {
        let idle = steps(&lane.idle, &|share| floor + HEIGHT * (1.0 - share));
        chart.draw_series(AreaSeries::new(idle, floor + HEIGHT, VERMILLION.filled()))?;
    }
    Ok(())
}

fn headline(run: &Run, busy: &[Duration]) -> String {
    let mut text = format!("{}: {}", run.way, time(run.makespan)).replace(" us", " \u{b5}s");
    if let Some(spread) = Spread::of(busy) {
        text += &format!(", busiest worker / mean {:.2}", spread.most);
    }
    if let Some(part) = run.idle_part() {
        text += &format!(", idle hands {:.1} %", 100.0 * part);
    }
    if busy.len() > MOST_LANES {
        text += &format!(" (the first {MOST_LANES} of {} workers)", busy.len());
    }
    text
}

// ---- queue delays ------------------------------------------------------------------------------

/// Draws delays over percentiles. Each step to the right has a tenth of the previous step's
/// messages.
pub(crate) fn delays(title_text: &str, runs: &[&Run]) -> Svg {
    let runs: Vec<_> = runs.iter().filter(|run| !run.delays.is_empty()).collect();
    let curves: Vec<_> = runs.iter().map(|run| (run.way, curve(&run.delays))).collect();
    let values = || curves.iter().flat_map(|(_, curve)| curve.iter().map(|(_, us)| *us));
    let low = values().fold(f64::MAX, f64::min).clamp(1e-3, 1e9).log10().floor();
    let high = values().fold(0.0, f64::max).max(10_f64.powf(low + 0.1)).log10().ceil();
    let most =
        curves.iter().flat_map(|(_, curve)| curve.last()).map(|(x, _)| *x).fold(10.0, f64::max);
    let decades = (low as i32..=high as i32).map(|decade| 10_f64.powi(decade)).collect();
    let percents: Vec<f64> = PERCENTS.iter().map(|(x, _)| *x).filter(|x| *x <= most).collect();

    svg((WIDTH, 420), |area| {
        title(area, title_text)?;
        let entries: Vec<_> =
            curves.iter().map(|(way, _)| (way.to_string(), look_of(*way))).collect();
        legend_of_lines(area, &entries)?;
        let (_, below) = area.split_vertically(HEAD);
        let mut chart = ChartBuilder::on(&below)
            .margin_right(RIGHT)
            .margin_left(8)
            .margin_top(6)
            .y_label_area_size(LEFT - 8)
            .x_label_area_size(BELOW)
            .build_cartesian_2d(
                (1.0..most).log_scale().with_key_points(percents),
                (10_f64.powf(low)..10_f64.powf(high)).log_scale().with_key_points(decades),
            )?;
        let percent = |x: &f64| {
            let known = PERCENTS.iter().find(|(at, _)| at == x);
            known.map_or(String::new(), |(_, text)| (*text).to_owned())
        };
        let delay =
            |us: &f64| time(Duration::from_nanos((us * 1e3).round() as u64)).replace(".00", "");
        let delay = |us: &f64| delay(us).replace(".0 ", " ").replace("us", "\u{b5}s");
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GREY)
            .label_style((FONT, LABEL))
            .x_label_formatter(&percent)
            .y_label_formatter(&delay)
            .x_desc("part of the messages that waited no longer, %")
            .y_desc("queue delay (logarithmic)")
            .draw()?;
        for (way, curve) in &curves {
            let at = |&(x, us): &(f64, f64)| chart.plotting_area().map_coordinate(&(x, us));
            line(area, curve.iter().map(at).collect(), look_of(*way))?;
            for x in PERCENTS.iter().map(|(x, _)| *x) {
                if let Some(place) = curve.iter().find(|(known, _)| *known >= x) {
                    mark(area, at(place), look_of(*way))?;
                }
            }
        }
        Ok(())
    })
}

/// Positions of the marks, as one message in this many.
const PERCENTS: [(f64, &str); 8] = [
    (1.0, "0"),
    (2.0, "50"),
    (10.0, "90"),
    (100.0, "99"),
    (1e3, "99.9"),
    (1e4, "99.99"),
    (1e5, "99.999"),
    (1e6, "99.9999"),
];

/// Returns the points (one message in this many, its delay in us) as far as there are messages.
fn curve(delays: &Delay) -> Vec<(f64, f64)> {
    const STEPS: u32 = 24; // in a decade
    let most = (delays.len() as f64).max(10.0);
    let steps = (0..).map(|step| 10_f64.powf(f64::from(step) / f64::from(STEPS)));
    let marks = PERCENTS.iter().map(|(x, _)| *x).filter(|x| *x <= most);
    let mut places: Vec<f64> = steps.take_while(|x| *x <= most).chain(marks).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    let us =
        |x: f64| quantile(delays, 1.0 - 1.0 / x).map_or(0.0, |delay| delay.as_secs_f64() * 1e6);
    places.into_iter().map(|x| (x, us(x).max(1e-3))).collect()
}

// ---- scaling -----------------------------------------------------------------------------------

/// Draws throughput over the size of the crew. `most_parallel` is the number of workers that could
/// share the load at best.
pub(crate) fn scaling(title_text: &str, rows: &[Row<'_>], most_parallel: f64, cores: usize) -> Svg {
    let crews = |row: &&Row<'_>| row.way != Way::Threads;
    let mut sizes: Vec<usize> = rows.iter().filter(crews).map(|row| row.workers).collect();
    sizes.dedup();
    let place = |workers: usize| sizes.iter().position(|size| *size == workers).unwrap_or(0) as f64;
    let one =
        rows.iter().find(|row| row.workers == sizes[0]).map_or(0.0, |row| row.median().a_second());
    let one = one / sizes[0].min(cores) as f64;
    let ideal = |workers: usize| one * (workers.min(cores) as f64).min(most_parallel.max(1.0));
    let best =
        rows.iter().flat_map(|row| row.runs.iter().map(|run| run.a_second())).fold(0.0, f64::max);
    let high = sizes.iter().map(|size| ideal(*size)).fold(best, f64::max) * 1.06;
    let (scale, unit) = match high {
        ..1e5 => (1.0, ""),
        ..1e8 => (1e3, "thousand "),
        _ => (1e6, "million "),
    };
    let last = (sizes.len() - 1) as f64;
    let ends: Range<f64> = -0.2..last + 0.2;

    svg((WIDTH, 400), |area| {
        title(area, title_text)?;
        let mut ways: Vec<Way> = Vec::new();
        rows.iter().for_each(|row| {
            if !ways.contains(&row.way) {
                ways.push(row.way)
            }
        });
        let mut entries: Vec<_> = ways.iter().map(|way| (way.to_string(), look_of(*way))).collect();
        let bound = if most_parallel < cores as f64 { "the busiest key" } else { "the processors" };
        entries.push((
            format!(
                "ideal, up to what {bound} allow{}",
                if bound == "the busiest key" { "s" } else { "" }
            ),
            IDEAL,
        ));
        legend_of_lines(area, &entries)?;
        let (_, below) = area.split_vertically(HEAD);
        let mut chart = ChartBuilder::on(&below)
            .margin_right(RIGHT)
            .margin_left(8)
            .margin_top(6)
            .y_label_area_size(LEFT - 8)
            .x_label_area_size(BELOW)
            .build_cartesian_2d(
                Ticks { range: ends.clone(), at: (0..sizes.len()).map(|at| at as f64).collect() },
                0.0..high / scale,
            )?;
        let size = |x: &f64| sizes[x.round() as usize].to_string();
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(GREY)
            .label_style((FONT, LABEL))
            .x_label_formatter(&size)
            .y_labels(8)
            .y_label_formatter(&|y| number(*y))
            .x_desc(format!("workers ({cores} processors)"))
            .y_desc(format!("{unit}messages handled a second"))
            .draw()?;
        let at =
            |x: f64, a_second: f64| chart.plotting_area().map_coordinate(&(x, a_second / scale));
        line(area, sizes.iter().map(|size| at(place(*size), ideal(*size))).collect(), IDEAL)?;
        for (index, way) in ways.into_iter().enumerate() {
            let own: Vec<_> = rows.iter().filter(|row| row.way == way).collect();
            // Offset from each other, so that the ranges of different ways stay visible.
            let aside =
                |x: f64| if way == Way::Threads { x } else { x + 0.03 * (index as f64 - 1.0) };
            let mut places: Vec<_> = own
                .iter()
                .map(|row| at(aside(place(row.workers)), row.median().a_second()))
                .collect();
            if way == Way::Threads {
                let y = places[0].1;
                places = vec![(at(ends.start, 0.0).0, y), (at(ends.end, 0.0).0, y)];
            } else {
                for row in &own {
                    let [worst, best] = [row.runs.last(), row.runs.first()].map(|run| {
                        at(aside(place(row.workers)), run.map_or(0.0, |run| run.a_second()))
                    });
                    area.draw(&PathElement::new(
                        vec![worst, best],
                        look_of(way).colour.stroke_width(1),
                    ))?;
                }
                for place in &places {
                    mark(area, *place, look_of(way))?;
                }
            }
            line(area, places, look_of(way))?;
        }
        Ok(())
    })
}

/// A linear axis with marks at given positions. (The marks of plotters itself require axes that
/// format their own numbers.)
struct Ticks {
    range: Range<f64>,
    at: Vec<f64>,
}

impl Ranged for Ticks {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        RangedCoordf64::from(self.range.clone()).map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.at.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

fn number(x: f64) -> String {
    if x.fract() == 0.0 { grouped(x as i64) } else { format!("{x:.1}") }
}

fn left_middle() -> Pos {
    Pos::new(HPos::Left, VPos::Center)
}

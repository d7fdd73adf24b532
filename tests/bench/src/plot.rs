//! A picture of a run: latencies, deliveries, CPU and memory over its time, as SVG.
//!
//! Decides what is drawn and how fine. Leaves the numbers to `report`: a picture shows when
//! something happened, not whether a mark was kept.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use crate::audit::Joined;
use crate::report::shown;
use crate::samples::{OTHERS, Sampler};
use crate::sink::log::Arrival;
use crate::stats::percentile;

const WIDTH: u32 = 1_200;
const PANEL: u32 = 320;
/// No more points than this from left to right.
const POINTS_MAX: u64 = 600;
const SECOND: u64 = 1_000_000;
/// What tells lines apart, also for those who see few colours (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(60, 60, 60),
];

/// A line with its name: seconds from the beginning of the run, and a value.
type Line = (String, Vec<(f64, f64)>);

struct Panel {
    title: String,
    lines: Vec<Line>,
    /// By powers of ten: what differs by orders of magnitude.
    logarithmic: bool,
}

/// Draws it.
///
/// # Errors
/// The file cannot be written.
pub fn draw(
    path: &Path,
    name: &str,
    joined: &Joined<'_>,
    arrivals: &[Arrival],
    sampler: &Sampler,
) -> anyhow::Result<()> {
    let began = joined.events.iter().map(|event| event.intended_us).min();
    let came = arrivals.iter().map(|arrival| arrival.at_us).max();
    let (Some(began), Some(ended)) = (began, came) else {
        return Ok(());
    };
    let length = ended.saturating_sub(began).max(SECOND);
    let step = length.div_ceil(SECOND).div_ceil(POINTS_MAX);
    let axis = Axis { began, step };
    let each = match step {
        1 => "each second".to_owned(),
        _ => format!("each {step} s"),
    };
    let panels = [
        Panel {
            title: format!("{name}: first attempts after they were meant, ms, of {each}"),
            lines: latencies(joined, axis),
            logarithmic: true,
        },
        Panel {
            title: "deliveries a second".to_owned(),
            lines: vec![("answered well".to_owned(), deliveries(arrivals, axis))],
            logarithmic: false,
        },
        Panel {
            title: "CPU, cores".to_owned(),
            lines: cores(sampler, axis),
            logarithmic: false,
        },
        Panel {
            title: "resident memory, MiB".to_owned(),
            lines: memory(sampler, axis),
            logarithmic: false,
        },
    ];
    let root = SVGBackend::new(path, (WIDTH, PANEL * panels.len() as u32)).into_drawing_area();
    root.fill(&WHITE).map_err(unwritten)?;
    let seconds = length as f64 / SECOND as f64;
    for (area, panel) in root.split_evenly((panels.len(), 1)).iter().zip(&panels) {
        draw_panel(area, panel, seconds)?;
    }
    root.present().map_err(unwritten)
}

fn unwritten(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the picture cannot be drawn: {error}")
}

/// Where on the axis of time something is.
#[derive(Clone, Copy)]
struct Axis {
    began: u64,
    /// Seconds.
    step: u64,
}

impl Axis {
    /// `None` before the beginning.
    fn place(self, at_us: u64) -> Option<u64> {
        Some(at_us.checked_sub(self.began)? / (self.step * SECOND))
    }

    fn seconds(self, place: u64) -> f64 {
        (place * self.step) as f64
    }
}

fn latencies(joined: &Joined<'_>, axis: Axis) -> Vec<Line> {
    let mut places: BTreeMap<u64, Vec<i64>> = BTreeMap::new();
    for (event, fate) in joined.events.iter().zip(&joined.fates) {
        if let (Some(place), Some(first)) = (axis.place(event.intended_us), fate.first_us) {
            let latency = first as i64 - event.intended_us as i64;
            places.entry(place).or_default().push(latency);
        }
    }
    places
        .values_mut()
        .for_each(|values| values.sort_unstable());
    let line = |name: &str, permille: usize| {
        let point = |(place, values): (&u64, &Vec<i64>)| {
            let millis = percentile(values, permille) as f64 / 1_000.0;
            (axis.seconds(*place), millis)
        };
        (name.to_owned(), places.iter().map(point).collect())
    };
    vec![line("p50", 500), line("p99", 990), line("max", 1_000)]
}

fn deliveries(arrivals: &[Arrival], axis: Axis) -> Vec<(f64, f64)> {
    let mut places: BTreeMap<u64, u64> = BTreeMap::new();
    let good = arrivals.iter().filter(|arrival| arrival.is_success());
    for place in good.filter_map(|arrival| axis.place(arrival.at_us)) {
        *places.entry(place).or_default() += 1;
    }
    let last = places.keys().next_back().copied().unwrap_or_default();
    let rate = |place| {
        let count = places.get(&place).copied().unwrap_or_default();
        (axis.seconds(place), count as f64 / axis.step as f64)
    };
    (0..=last).map(rate).collect()
}

/// What a process had at the end of each step, by its name without the number of its life, one
/// line for each.
fn by_process<T: Copy>(
    axis: Axis,
    samples: Vec<(String, u64, T)>,
) -> BTreeMap<String, BTreeMap<u64, T>> {
    let mut all: BTreeMap<String, BTreeMap<u64, T>> = BTreeMap::new();
    for (name, at_us, value) in samples {
        if let Some(place) = axis.place(at_us) {
            let place_of = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
            all.entry(place_of(&name)).or_default().insert(place, value);
        }
    }
    all
}

fn cores(sampler: &Sampler, axis: Axis) -> Vec<Line> {
    let used = by_process(axis, sampler.cpu_so_far());
    let line = |(name, places): (&String, &BTreeMap<u64, f64>)| {
        let pairs = places.iter().zip(places.iter().skip(1));
        let points = pairs.map(|((from, before), (to, after))| {
            let seconds = axis.seconds(to - from);
            // less than before: another process in its place
            (axis.seconds(*to), (after - before).max(0.0) / seconds)
        });
        (name.clone(), points.collect())
    };
    let mut lines: Vec<Line> = used.iter().map(line).collect();
    // the last colour is grey
    lines.sort_by_key(|(name, _)| name == OTHERS);
    lines
}

fn memory(sampler: &Sampler, axis: Axis) -> Vec<Line> {
    let line = |(name, places): (&String, &BTreeMap<u64, u64>)| {
        let point = |(place, bytes): (&u64, &u64)| {
            (axis.seconds(*place), *bytes as f64 / f64::from(1 << 20))
        };
        (name.clone(), places.iter().map(point).collect())
    };
    by_process(axis, sampler.memory())
        .iter()
        .map(line)
        .collect()
}

fn draw_panel(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    panel: &Panel,
    seconds: f64,
) -> anyhow::Result<()> {
    let values = panel.lines.iter().flat_map(|(_, points)| points);
    let values = values.map(|(_, value)| *value);
    let top = values.clone().fold(0.0, f64::max);
    // names stand where no line is
    let end = seconds * 1.15;
    let mut chart = ChartBuilder::on(area);
    chart
        .caption(&panel.title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(36)
        .y_label_area_size(70);
    if panel.logarithmic {
        let least = values.filter(|value| *value > 0.0).fold(top, f64::min);
        let range = (least.max(0.01)..top.max(1.0) * 1.2).log_scale();
        let chart = chart.build_cartesian_2d(0.0..end, range);
        draw_lines(chart.map_err(unwritten)?, &panel.lines)
    } else {
        let chart = chart.build_cartesian_2d(0.0..end, 0.0..top.max(0.1) * 1.1);
        draw_lines(chart.map_err(unwritten)?, &panel.lines)
    }
}

type Chart<'a, 'b, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, Y>>;

fn draw_lines<'a, 'b: 'a, Y>(mut chart: Chart<'a, 'b, Y>, lines: &[Line]) -> anyhow::Result<()>
where
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart
        .configure_mesh()
        .x_desc("seconds")
        .x_label_formatter(&|value| shown(*value))
        .y_label_formatter(&|value| shown(*value))
        .light_line_style(RGBColor(240, 240, 240))
        .draw()
        .map_err(unwritten)?;
    for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))
            .map_err(unwritten)?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200))
        .draw()
        .map_err(unwritten)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::draw;
    use crate::audit::Joined;
    use crate::load::Event;
    use crate::samples::Sampler;
    use crate::sink::log::Arrival;

    #[test]
    fn a_run_has_its_four_panels() {
        let events: Vec<Event> = (0..100)
            .map(|number| Event {
                intended_us: number * 100_000,
                sent_us: number * 100_000,
                endpoint: 0,
            })
            .collect();
        let arrivals: Vec<Arrival> = (0..100)
            .map(|event| Arrival {
                connection: crate::sink::log::Connection::Kept,
                signed: true,

                at_us: event * 100_000 + 1_000 + event,
                event,
                receiver: 0,
                attempt: 1,
                status: 200,
            })
            .collect();
        let joined = Joined::new(&events, &arrivals);
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("x.svg");
        let sampler = Sampler::start(Vec::new());
        draw(&path, "x", &joined, &arrivals, &sampler).unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        for part in [
            "p50",
            "p99",
            "max",
            "answered well",
            "seconds",
            "MiB",
            "cores",
        ] {
            assert!(text.contains(part), "{part}");
        }
        assert!(!text.contains("NaN"), "{text}");
    }
}

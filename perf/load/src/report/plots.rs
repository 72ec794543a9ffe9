//! Plots as SVG.

use anyhow::anyhow;
use hdrhistogram::Histogram;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (900, 320);
const FONT: &str = "sans-serif";
const COLOURS: [RGBColor; 6] = [
    RGBColor(31, 119, 180),
    RGBColor(214, 39, 40),
    RGBColor(44, 160, 44),
    RGBColor(148, 103, 189),
    RGBColor(255, 127, 14),
    RGBColor(90, 90, 90),
];
/// Bars of a histogram for each factor of ten.
const BARS_PER_DECADE: f64 = 10.0;
/// Points of a curve of percentiles for each halving of what is above.
const STEPS_PER_HALF: u32 = 8;

/// Points that belong together, with their name.
pub struct Curve {
    /// In the legend.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

impl Curve {
    fn new(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), points }
    }
}

/// Values over seconds.
pub fn over_time(title: &str, unit: &str, curves: &[Curve]) -> anyhow::Result<String> {
    let (x_max, y_max) = (most(curves, |point| point.0), most(curves, |point| point.1));
    let ranges = (0.0..x_max, 0.0..y_max * 1.05);
    draw(title, ("seconds", &number, LABELS), (unit, &number, LABELS), ranges, curves)
}

/// Durations in microseconds over seconds, on a logarithmic scale.
pub fn durations_over_time(title: &str, curves: &[Curve]) -> anyhow::Result<String> {
    let x_max = most(curves, |point| point.0);
    let ranges = (0.0..x_max, durations(curves, |point| point.1).log_scale());
    draw(title, ("seconds", &number, LABELS), ("", &duration, LABELS), ranges, curves)
}

/// Durations in nanoseconds by percentile, both on logarithmic scales, so that each step to the right is ten times rarer.
pub fn by_percentile(title: &str, parts: &[(&str, &Histogram<u64>)]) -> anyhow::Result<String> {
    let curves: Vec<Curve> = parts
        .iter()
        .map(|(name, latencies)| {
            let steps = latencies.iter_quantiles(STEPS_PER_HALF);
            let points = steps.filter(|step| step.quantile_iterated_to() < 1.0).map(|step| {
                (-(1.0 - step.quantile_iterated_to()).log10(), super::us(step.value_iterated_to()))
            });
            let mut points: Vec<_> = points.collect();
            // The longest is where as many operations as there were leave room for one.
            points.push(((latencies.len().max(1) as f64).log10(), super::us(latencies.max())));
            Curve::new(name, points)
        })
        .collect();
    let nines = most(&curves, |point| point.0);
    let ranges = (0.0..nines, durations(&curves, |point| point.1).log_scale());
    // One for each nine.
    draw(title, ("percentile", &percentile, nines as usize + 2), ("", &duration, LABELS), ranges, &curves)
}

/// Shares of durations in nanoseconds, in bars of equal width on a logarithmic scale.
pub fn histogram(title: &str, parts: &[(&str, &Histogram<u64>)]) -> anyhow::Result<String> {
    let curves: Vec<Curve> =
        parts.iter().map(|(name, latencies)| Curve::new(name, bars(latencies))).collect();
    let ranges =
        (durations(&curves, |point| point.0).log_scale(), 0.0..most(&curves, |point| point.1) * 1.05);
    draw(title, ("", &duration, LABELS), ("% of operations", &number, LABELS), ranges, &curves)
}

/// The outline of the bars: two points for the top of each.
fn bars(latencies: &Histogram<u64>) -> Vec<(f64, f64)> {
    let edge = |bar: i64| 10_f64.powf(bar as f64 / BARS_PER_DECADE);
    let bar_of = |ns: u64| (super::us(ns.max(1)).log10() * BARS_PER_DECADE).floor() as i64;
    let (first, last) = (bar_of(latencies.min()), bar_of(latencies.max()));
    let mut shares = vec![0_u64; usize::try_from(last - first + 1).unwrap_or(1)];
    for value in latencies.iter_recorded() {
        let at = (bar_of(value.value_iterated_to()) - first).clamp(0, last - first);
        if let Some(share) = usize::try_from(at).ok().and_then(|at| shares.get_mut(at)) {
            *share += value.count_since_last_iteration();
        }
    }
    let all = latencies.len().max(1) as f64;
    let mut points = vec![(edge(first), 0.0)];
    for (bar, share) in (first..).zip(shares) {
        let percent = share as f64 * 100.0 / all;
        points.extend([(edge(bar), percent), (edge(bar + 1), percent)]);
    }
    points.push((edge(last + 1), 0.0));
    points
}

/// What an axis says: its name, how a value is written, and how many values are at most.
type Axis<'a> = (&'a str, &'a dyn Fn(&f64) -> String, usize);

const LABELS: usize = 10;

fn draw<X, Y>(
    title: &str,
    (x_name, x_label, x_labels): Axis<'_>,
    (y_name, y_label, y_labels): Axis<'_>,
    (x, y): (X, Y),
    curves: &[Curve],
) -> anyhow::Result<String>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut svg = String::new();
    let draw = || -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .caption(title, (FONT, 18))
            .margin(10)
            .x_label_area_size(42)
            .y_label_area_size(70)
            .build_cartesian_2d(x, y)?;
        let grid = BLACK.mix(0.15);
        chart
            .configure_mesh()
            .x_desc(x_name)
            .y_desc(y_name)
            .x_label_formatter(x_label)
            .y_label_formatter(y_label)
            .x_labels(x_labels)
            .y_labels(y_labels)
            .max_light_lines(2)
            .bold_line_style(grid)
            .light_line_style(BLACK.mix(0.05))
            .label_style((FONT, 12))
            .draw()?;
        for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            chart
                .draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)))?
                .label(&*curve.name)
                .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::MiddleRight)
            .background_style(WHITE.mix(0.8))
            .border_style(grid)
            .label_font((FONT, 12))
            .draw()?;
        area.present()
    };
    draw().map_err(|error| anyhow!("the plot '{title}' cannot be drawn: {error}"))?;
    Ok(svg)
}

/// Never zero, so that there is room for an axis.
fn most(curves: &[Curve], of: fn(&(f64, f64)) -> f64) -> f64 {
    curves.iter().flat_map(|curve| curve.points.iter().map(of)).fold(0.0, f64::max).max(1e-3)
}

/// From the shortest to the longest, in microseconds and never of no extent.
fn durations(curves: &[Curve], of: fn(&(f64, f64)) -> f64) -> std::ops::Range<f64> {
    let all = || curves.iter().flat_map(|curve| curve.points.iter().map(of)).filter(|us| *us > 0.0);
    let shortest = all().fold(f64::INFINITY, f64::min);
    let longest = all().fold(0.0, f64::max);
    if shortest > longest {
        return 0.1..10.0;
    }
    shortest / 1.2..longest * 1.2
}

fn number(value: &f64) -> String {
    match *value {
        value if value >= 1e6 => format!("{:.1} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value if value >= 10.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

/// Of microseconds.
fn duration(us: &f64) -> String {
    match *us {
        us if us >= 1e6 => format!("{} s", short(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", short(us / 1e3)),
        us if us >= 1.0 => format!("{} us", short(us)),
        us => format!("{} ns", short(us * 1e3)),
    }
}

fn short(value: f64) -> String {
    if value >= 9.95 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// Of the number of nines.
fn percentile(nines: &f64) -> String {
    let above = 10_f64.powf(-nines);
    let digits = (nines.ceil() as usize).saturating_sub(1).max(usize::from(nines.fract() > 0.01));
    format!("{:.digits$}", (1.0 - above) * 100.0)
}

//! Draws a chart of what a delivery costs.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;

use crate::report::{Report, Section};

/// The name of the figure that each bar shows, and the bar's colour.
const BARS: [(&str, RGBColor); 3] = [
    ("R1's CPU per delivery", RGBColor(170, 170, 170)),
    ("R2's CPU per delivery", RGBColor(110, 140, 190)),
    ("CPU per delivery", RGBColor(220, 110, 50)),
];
const LABELS: [&str; 3] = ["R1: sign and send, no queue", "R2: pull, send, ack", "Hookwright"];

/// Draws an SVG file. If no scenario has all the bars, there is no chart.
pub(crate) fn draw(report: &Report, path: &Path) -> Result<()> {
    let groups: Vec<(&Section, [f64; 3])> = report.sections().iter().filter_map(|s| Some((s, bars(s)?))).collect();
    if groups.is_empty() {
        // The chart of an earlier run says nothing about this one.
        let _ = std::fs::remove_file(path);
        return Ok(());
    }
    plot(&groups, path).map_err(|error| anyhow!("{error}")).with_context(|| format!("draw {}", path.display()))
}

fn bars(section: &Section) -> Option<[f64; 3]> {
    let value = |name: &str| section.figures.iter().find(|figure| figure.name() == name).map(|figure| figure.value());
    Some([value(BARS[0].0)?, value(BARS[1].0)?, value(BARS[2].0)?])
}

fn plot(groups: &[(&Section, [f64; 3])], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let most = groups.iter().flat_map(|(_, bars)| bars).copied().fold(0.0, f64::max);
    let area = SVGBackend::new(path, (760, 420)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(20)
        .caption("CPU of the sender per delivery", ("sans-serif", 18))
        .x_label_area_size(30)
        .y_label_area_size(50)
        .build_cartesian_2d(0.0..groups.len() as f64, 0.0..most * 1.15)?;
    let title = |x: &f64| {
        let section = (x.fract() == 0.5).then(|| groups.get(*x as usize)).flatten();
        section.map_or_else(String::new, |(section, _)| format!("{}: {}", section.letter, section.title))
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(groups.len() * 2 + 1)
        .x_label_formatter(&title)
        .y_desc("microseconds")
        .draw()?;
    for (bar, ((_, colour), label)) in BARS.iter().zip(LABELS).enumerate() {
        let rectangle = |(group, (_, values)): (usize, &(&Section, [f64; 3]))| {
            let left = group as f64 + 0.15 + bar as f64 * 0.24;
            Rectangle::new([(left, 0.0), (left + 0.22, values[bar])], colour.filled())
        };
        chart
            .draw_series(groups.iter().enumerate().map(rectangle))?
            .label(label)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::UpperRight).border_style(BLACK).draw()?;
    area.present()?;
    Ok(())
}

//! One figure and its target.

use std::fmt;

use serde::Serialize;

/// A figure.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// The smallest and the largest of the runs whose median the figure is.
    #[serde(skip_serializing_if = "Option::is_none")]
    spread: Option<(f64, f64)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Target>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, spread: None, target: None }
    }

    /// Adds the spread of the runs whose median the figure is.
    pub(crate) fn spread(mut self, runs: &[f64]) -> Self {
        let smallest = runs.iter().copied().min_by(f64::total_cmp);
        self.spread = smallest.zip(runs.iter().copied().max_by(f64::total_cmp));
        self
    }

    pub(crate) fn at_most(mut self, target: f64) -> Self {
        self.target = Some(Target::AtMost(target));
        self
    }

    pub(crate) fn at_least(mut self, target: f64) -> Self {
        self.target = Some(Target::AtLeast(target));
        self
    }

    /// Whether the target is met; `None` if there is no target.
    pub(crate) fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::AtMost(most) => self.value <= most,
            Target::AtLeast(least) => self.value >= least,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    /// The cells of a row of a table in Markdown, without the first cell.
    pub(super) fn row(&self) -> String {
        let Self { name, unit, .. } = self;
        let value = short(self.value);
        format!("{name} | {value} {unit} | {} | {} | {} |", self.runs(), self.aim(), self.verdict())
    }

    fn runs(&self) -> String {
        self.spread.map_or_else(String::new, |(least, most)| format!("{} to {}", short(least), short(most)))
    }

    fn aim(&self) -> String {
        match self.target {
            None => String::new(),
            Some(Target::AtMost(most)) => format!("<= {}", short(most)),
            Some(Target::AtLeast(least)) => format!(">= {}", short(least)),
        }
    }

    fn verdict(&self) -> &'static str {
        match self.is_met() {
            None => "",
            Some(true) => "met",
            Some(false) => "missed",
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = format!("{} {}", short(self.value), self.unit);
        write!(f, "{:<48}{value:>14}  {:<20}{:<10}{}", self.name, self.runs(), self.aim(), self.verdict())
    }
}

/// Prints a value with as many digits as matter.
fn short(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 && small.fract() != 0.0 => format!("{value:.2}"),
        middle if middle < 100.0 && middle.fract() != 0.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_held_against_their_targets() {
        let figure = Figure::new("ratio", 1.25, "x");
        assert_eq!(figure.is_met(), None);
        assert_eq!(figure.clone().at_most(1.25).is_met(), Some(true));
        assert_eq!(figure.clone().at_most(1.2).is_met(), Some(false));
        assert_eq!(figure.clone().at_least(1.3).is_met(), Some(false));
        let row = figure.spread(&[1.0, 2.0, 1.25]).at_least(1.0).row();
        assert_eq!(row, "ratio | 1.25 x | 1 to 2 | >= 1 | met |");
    }
}

//! The cost of an evaluation, estimated before it.

use std::iter::Sum;
use std::ops::{Add, Mul};

use super::error::CompileError;

/// The cost of an evaluation in about a nanosecond each. It is an upper bound for the worst event of its size, so that
/// most evaluations take much less. It doesn't overflow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(pub u64);

/// How much of an event an expression can look at: an upper bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// The bytes of JSON.
    pub bytes: usize,
    /// The JSON values in it, each element of a list and each member of an object.
    pub values: usize,
}

/// The sizes that costs are estimated for, each twice the one before, in bytes.
const SMALLEST: usize = 256;
const SIZES: usize = 16;
/// How many bytes a value has at least, in three kinds of events.
const DENSITIES: [usize; 3] = [2, 8, 32];

/// The costs of an expression by the size of the event, estimated once.
#[derive(Debug, Clone)]
pub struct Costs(Box<[[Cost; SIZES]; DENSITIES.len()]>);

impl Costs {
    /// Estimates the costs. `of` returns the cost for a size, which grows with the size. From the first size on that costs
    /// too much, nothing is estimated.
    pub(crate) fn estimate(of: impl Fn(Size) -> Cost) -> Self {
        Self(Box::new(DENSITIES.map(|density| {
            let mut cost = Cost::default();
            std::array::from_fn(|i| {
                let bytes = SMALLEST << i;
                if cost <= Cost::MOST {
                    cost = of(Size { bytes, values: bytes / density });
                }
                if cost <= Cost::MOST { cost } else { Cost(u64::MAX) }
            })
        })))
    }

    /// Checks that an expression may be evaluated for some event at least.
    ///
    /// # Errors
    /// If it costs too much even for the smallest.
    pub(crate) fn check(self, text: &str) -> Result<Self, CompileError> {
        if self.0.iter().all(|row| row[0] > Cost::MOST) {
            return Err(CompileError::at(text, 0, "the expression would take too long for any event"));
        }
        Ok(self)
    }

    /// The cost for a size, rounded up. Beyond the bound it says only that it is too much.
    #[must_use]
    pub fn at(&self, size: Size) -> Cost {
        let density = DENSITIES.iter().rposition(|density| size.values.saturating_mul(*density) <= size.bytes);
        let row = &self.0[density.unwrap_or(0)];
        let i = (0..SIZES).find(|i| size.bytes <= SMALLEST << i);
        i.map_or(Cost(u64::MAX), |i| row[i])
    }
}

impl Cost {
    /// The most that may be spent on an event: 10 ms for all filters of a namespace, or for a transform.
    pub const MOST: Self = Self(10_000_000);

    /// The cost of parsing a JSON text.
    pub(super) fn of_parsing(json: &[u8]) -> Self {
        Self(json.len() as u64 * 3 + values(json) as u64 * 60)
    }

    /// The cost by an estimate.
    pub(super) fn estimated(cost: f64) -> Self {
        Self(cost as u64)
    }
}

/// The most steps that an estimate itself takes. A tree that needs more costs too much for any event.
pub(super) const STEPS: u32 = 5_000;

/// A size in an estimate, which may be a product of many.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Amount {
    pub(super) bytes: f64,
    pub(super) values: f64,
}

impl Amount {
    /// The smallest value, with a comma behind it.
    pub(super) const SMALLEST: Self = Self { bytes: 2.0, values: 1.0 };
    pub(super) fn of(size: Size) -> Self {
        Self { bytes: size.bytes as f64, values: size.values as f64 }
    }

    /// The size of a JSON text.
    pub(super) fn of_json(json: &str) -> Self {
        Self::of(Size { bytes: json.len(), values: values(json.as_bytes()) })
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, values: self.values + other.values }
    }

    pub(super) fn times(self, times: f64) -> Self {
        Self { bytes: self.bytes * times, values: self.values * times }
    }

    pub(super) fn least(self, other: Self) -> Self {
        Self { bytes: self.bytes.min(other.bytes), values: self.values.min(other.values) }
    }
}

/// The cost of a part of an expression, and the size of its result.
#[derive(Clone, Copy, Default)]
pub(super) struct Bound {
    pub(super) cost: f64,
    pub(super) size: Amount,
}

impl Bound {
    pub(super) fn plus(self, other: Self) -> Self {
        Self { cost: self.cost + other.cost, size: self.size.plus(other.size) }
    }
}

/// An upper bound for the number of values in a JSON text: each but the first has a comma or a bracket before it.
pub(super) fn values(json: &[u8]) -> usize {
    1 + json.iter().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count()
}

impl Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Mul<u64> for Cost {
    type Output = Self;
    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self(0), Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_rounded_up() {
        let costs = Costs::estimate(|size| Cost((size.bytes * 2 + size.values) as u64));
        for (bytes, values, want) in [
            (1, 1, 640),
            (256, 128, 640),
            (256, 32, 544),
            (256, 8, 520),
            (257, 1, 1040),
            (4 << 20, 1, (4 << 20) * 2 + (4 << 20) / 32),
            (8 << 20, 1, u64::MAX),
            ((8 << 20) + 1, 1, u64::MAX),
        ] {
            assert_eq!(costs.at(Size { bytes, values }), Cost(want), "{bytes} {values}");
        }
    }
}

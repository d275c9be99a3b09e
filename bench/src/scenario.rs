//! The scenarios. Each has a letter, and each compares every input with every output.

mod drain;
mod failing;
mod fan_out;
mod large;
mod steady;
mod wide;

use anyhow::Result;

use crate::lab::Lab;
use crate::report::Report;

/// How many requests of a reference are under way at the same time: as many as a dispatcher allows an endpoint.
const IN_FLIGHT: usize = 64;

/// A scenario that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// One endpoint, drain
    A,
    /// Fan-out 10, drain
    B,
    /// Fan-out 1,000, drain
    C,
    /// A steady 200/s, latency
    D,
    /// One of ten endpoints hangs, latency at the others
    E,
    /// A fifth of the endpoints answers 503
    F,
    /// 10,000 Subscriptions of 1,000 types, with the operator's start and idleness (K)
    G,
    /// An endpoint comes back after a minute
    H,
    /// 1, 2 and 4 dispatchers
    I,
    /// kill -9 of a dispatcher in a drain
    J,
    /// Events of nearly 1 MiB beside an endpoint that hangs: memory
    M,
}

/// How much of each scenario is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// The number of interleaved runs whose median is the figure.
    pub(crate) rounds: usize,
    /// The deliveries of a drain.
    pub(crate) deliveries: u64,
    /// The Subscriptions of the widest scenario.
    pub(crate) subscriptions: u32,
    /// The endpoints of the widest fan-out.
    pub(crate) fan_out: u32,
    /// How long a steady load lasts, in seconds.
    pub(crate) seconds: u64,
}

impl Scale {
    /// The scale for figures.
    pub(crate) const FULL: Self =
        Self { rounds: 5, deliveries: 20_000, subscriptions: 10_000, fan_out: 1_000, seconds: 60 };
    /// The scale for correctness alone.
    pub(crate) const SMOKE: Self = Self { rounds: 1, deliveries: 400, subscriptions: 50, fan_out: 20, seconds: 2 };
}

impl Scenario {
    pub(crate) async fn run(self, lab: &mut Lab, scale: Scale, report: &mut Report) -> Result<()> {
        match self {
            Self::A => drain::one_endpoint(lab, scale, report).await,
            Self::B => fan_out::ten(lab, scale, report).await,
            Self::C => fan_out::many(lab, scale, report).await,
            Self::D => steady::latency(lab, scale, report).await,
            Self::E => steady::one_hangs(lab, scale, report).await,
            Self::F => failing::a_fifth(lab, scale, report).await,
            Self::G => wide::run(lab, scale, report).await,
            Self::H => failing::recovery(lab, scale, report).await,
            Self::I => drain::more_dispatchers(lab, scale, report).await,
            Self::J => drain::kill(lab, scale, report).await,
            Self::M => large::memory(lab, scale, report).await,
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::A => "one endpoint, drain",
            Self::B => "fan-out 10, drain",
            Self::C => "fan-out 1,000, drain",
            Self::D => "a steady 200/s",
            Self::E => "one of ten endpoints hangs",
            Self::F => "a fifth of the endpoints answers 503",
            Self::G => "10,000 Subscriptions of 1,000 types, and the operator",
            Self::H => "an endpoint comes back after a minute",
            Self::I => "1, 2 and 4 dispatchers",
            Self::J => "kill -9 of a dispatcher in a drain",
            Self::M => "large events beside an endpoint that hangs",
        }
    }
}

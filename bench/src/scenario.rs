//! The scenarios. Each has a letter, and each compares every input with every output.

mod behind;
mod drain;
mod failing;
mod fan_out;
mod filters;
mod large;
mod neighbours;
mod payload;
mod steady;
mod wide;

use anyhow::Result;

use crate::lab::Lab;
use crate::report::Report;
use crate::scale::Scale;

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
    /// 10,000 Subscriptions of one type that differ in an attribute, one of which matches
    N,
    /// An endpoint is down for 30 s, and comes back
    O,
    /// 500 endpoints are down for 30 s, and come back at once
    O2,
    /// The forms of a payload, A with each of them
    P,
    /// Other namespaces whose endpoints are slow, hang or fail: latency and retries of ten healthy ones
    Q,
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
            Self::N => filters::tenants(lab, scale, report).await,
            Self::O => behind::one(lab, scale, report).await,
            Self::O2 => behind::many(lab, scale, report).await,
            Self::P => payload::forms_of_payloads(lab, scale, report).await,
            Self::Q => neighbours::run(lab, scale, report).await,
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
            Self::N => "10,000 Subscriptions of one type that differ in an attribute",
            Self::O => "an endpoint is down and comes back",
            Self::O2 => "500 endpoints are down and come back at once",
            Self::P => "the forms of a payload, one endpoint, drain",
            Self::Q => "beside other namespaces' slow endpoints",
        }
    }
}

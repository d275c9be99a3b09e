//! How much of everything is measured.

/// How many requests of a reference are under way at the same time: as many as a dispatcher allows an endpoint.
pub(crate) const IN_FLIGHT: usize = 64;

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

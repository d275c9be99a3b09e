//! Bounds on what a payload may take.

use crate::expression::Cost;

/// The largest body that a transform may make, in bytes.
pub(super) const MAX_OUTPUT: usize = 1 << 20;
/// The most bytes of headers, names and values together, that are made of an event. Of an event that is larger as a whole,
/// CloudEvents doesn't say that it is forwarded, nor that a receiver takes it (1.0.2, size limits).
pub(super) const MAX_HEADERS: usize = 64 << 10;
/// The longest template, in bytes.
pub(super) const MAX_TEMPLATE: usize = 16 << 10;
/// A template without a block takes a fraction of a millisecond for a body of this size.
pub(super) const SMALL: usize = 4 * 1024;
/// To take a body apart that is larger takes longer than a fraction of a millisecond.
pub(super) const QUICKLY_READ: usize = 64 * 1024;
/// Expressions that cost at most this are evaluated at once: a third of a millisecond.
pub(super) const QUICK: Cost = Cost(300_000);
/// The most that an evaluation may cost, as much as a namespace's filters may cost for an event.
pub(super) const MOST: Cost = Cost::MOST;
/// The most bytes that are read to choose fields of a body, on all levels together: about 10 ms.
pub(super) const MOST_READ: usize = 8 << 20;

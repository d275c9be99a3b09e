//! Which features of records this build reads. The rule is in `hookwright_core::record::Feature`.

use std::sync::LazyLock;

use hookwright_core::record::{Feature, Record, decode};
use hookwright_runtime::logging::chain;

/// A variable of the environment that tests set to names of features, separated by commas, which this process is not to
/// read, as if it were of an older release.
const LACKS: &str = "HOOKWRIGHT_TEST_LACKS";

static READ: LazyLock<Vec<Feature>> = LazyLock::new(|| {
    let lacks = std::env::var(LACKS).unwrap_or_default();
    let is_read = |feature: &Feature| lacks.split(',').all(|lacking| lacking != feature.name());
    Feature::ALL.iter().copied().filter(is_read).collect()
});

/// The features that this process reads.
pub(crate) fn read() -> &'static [Feature] {
    &READ
}

/// Reads a record from JSON. Fails if it can't be read in full.
pub(crate) fn record<R: Record>(json: &[u8]) -> Result<R, String> {
    let record: R = decode(json).map_err(|error| chain(&error))?;
    match record.features().into_iter().find(|feature| !READ.contains(feature)) {
        Some(feature) => Err(format!("the record has the feature {}, which this process can't read", feature.name())),
        None => Ok(record),
    }
}

//! The bounds on the trees of all versions of an event type together.

use super::flaw::{Flaw, Pointer};

/// The most schemas in the trees of all versions, where each reference counts as the schemas that it stands for.
const MAX_NODES: usize = 5000;
/// About the most memory that the trees of all versions may take, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// The memory that a compiled schema takes beside its texts, in bytes.
pub(super) const NODE: usize = 320;

/// The rest of the schemas and of the memory for the trees of all versions of an event type.
pub(super) struct TreeBudget {
    nodes: usize,
    bytes: usize,
}

impl Default for TreeBudget {
    fn default() -> Self {
        Self { nodes: MAX_NODES, bytes: MAX_BYTES }
    }
}

impl TreeBudget {
    pub(super) fn node(&mut self, at: &Pointer, path: usize) -> Result<(), Flaw> {
        self.nodes = self.nodes.checked_sub(1).ok_or_else(|| {
            let what =
                format!("more than {MAX_NODES} schemas in all versions, each reference counted as what it stands for");
            Flaw::at(at, what)
        })?;
        self.bytes(NODE + path, at)
    }

    pub(super) fn bytes(&mut self, bytes: usize, at: &Pointer) -> Result<(), Flaw> {
        let left = self.bytes.checked_sub(bytes);
        self.bytes = left.ok_or_else(|| {
            Flaw::at(at, "the schemas of all versions take more than 4 MiB once their references are followed")
        })?;
        Ok(())
    }
}

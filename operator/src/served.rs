//! Which namespaces the operator serves.

use std::collections::BTreeSet;

use serde::Deserialize;

/// The namespaces whose objects are served: those that are listed, or all if none is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct ServedNamespaces(BTreeSet<String>);

impl FromIterator<String> for ServedNamespaces {
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Self {
        Self(names.into_iter().collect())
    }
}

impl ServedNamespaces {
    /// Returns whether the objects of this namespace are served.
    #[must_use]
    pub fn include(&self, namespace: &str) -> bool {
        self.0.is_empty() || self.0.contains(namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_namespaces_are_served_unless_some_are_listed() {
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<ServedNamespaces>();
        assert!(of(&[]).include("shop"));
        assert!(of(&["shop", "billing"]).include("shop"));
        assert!(!of(&["shop", "billing"]).include("sho"));
    }
}

//! The record of a Producer's grants: since when other namespaces may have its events.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::codec::VERSION;

/// The namespaces that a Producer lets in now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// Every namespace.
    All,
    /// The namespaces with these uids. A namespace that is created again has another uid.
    Some(BTreeSet<String>),
}

/// The last sequence that the stream had given when a namespace was let in: the value of `grants.<producer>`. What the
/// stream has up to there was published before the grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grants {
    /// The record version, [`VERSION`].
    pub version: u32,
    /// When the stream was created.
    pub stream_created: Timestamp,
    /// The sequence at which every namespace was let in, if all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<u64>,
    /// The sequences at which single namespaces were let in, by their uids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub namespaces: BTreeMap<String, u64>,
}

impl Grants {
    /// The grants after a look at the Producer, whose stream has come to the sequence `last`. Who was let in before stays
    /// so from then on; who is shut out has to be let in anew.
    #[must_use]
    pub fn after(old: Option<&Self>, stream_created: Timestamp, last: u64, admitted: &Admitted) -> Self {
        // Everything in another stream was published after the grants.
        let earlier = |sequence: u64| match old {
            Some(old) if old.stream_created == stream_created => sequence,
            _ => 0,
        };
        let all_before = old.and_then(|old| old.all).map(earlier);
        let before = |uid: &String| {
            let own = old.and_then(|old| old.namespaces.get(uid)).copied().map(earlier);
            own.into_iter().chain(all_before).min()
        };
        let (all, namespaces) = match admitted {
            Admitted::All => {
                let kept = old.map(|old| &old.namespaces).into_iter().flatten();
                let kept = kept.map(|(uid, sequence)| (uid.clone(), earlier(*sequence))).collect();
                (Some(all_before.unwrap_or(last)), kept)
            }
            Admitted::Some(uids) => {
                let since = |uid: &String| (uid.clone(), before(uid).unwrap_or(last));
                (None, uids.iter().map(since).collect())
            }
        };
        Self { version: VERSION, stream_created, all, namespaces }
    }

    /// The sequence at which the namespace was let in; `None` if it wasn't.
    #[must_use]
    pub fn of(&self, namespace: &str) -> Option<u64> {
        self.namespaces.get(namespace).copied().into_iter().chain(self.all).min()
    }

    /// Whether no namespace is let in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_none() && self.namespaces.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};

    #[test]
    fn a_grant_opens_what_is_published_from_then_on() {
        let created = |second| Timestamp::from_second(second).unwrap();
        let some = |uids: &[&str]| Admitted::Some(uids.iter().map(|uid| (*uid).to_owned()).collect());
        let mut grants: Option<Grants> = None;
        for (stream, last, admitted, want, why) in [
            (1, 10, some(&["a"]), [Some(10), None], "a is let in"),
            (1, 20, some(&["a"]), [Some(10), None], "and stays so"),
            (1, 30, some(&["a", "b"]), [Some(10), Some(30)], "b is let in later"),
            (1, 40, some(&["b"]), [None, Some(30)], "a is shut out"),
            (1, 50, Admitted::All, [Some(50), Some(30)], "all are let in"),
            (1, 60, some(&["a", "b"]), [Some(50), Some(30)], "a list keeps them since then"),
            (1, 70, some(&[]), [None, None], "nobody"),
            (1, 80, some(&["a", "b"]), [Some(80), Some(80)], "they are let in anew"),
            (2, 5, some(&["a"]), [Some(0), None], "another stream has only later events"),
            (2, 9, Admitted::All, [Some(0), Some(9)], "all, in the other stream"),
        ] {
            let next = Grants::after(grants.as_ref(), created(stream), last, &admitted);
            assert_eq!([next.of("a"), next.of("b")], want, "{why}");
            assert_eq!(decode::<Grants>(&encode(&next).unwrap()).unwrap(), next);
            grants = Some(next);
        }
    }
}

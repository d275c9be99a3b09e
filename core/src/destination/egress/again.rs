//! Rules that take the place of others while the process runs.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use ring::digest::SHA256;

use super::{Egress, EgressPolicy};

impl Egress {
    /// These rules, which follow `former`. A namespace whose rules are as they were keeps the former ones, the same in
    /// memory, so that nothing has to be done about it. With another proxy, none does.
    #[must_use]
    pub fn after(mut self, former: &Self) -> Self {
        if self.proxy != former.proxy {
            return self;
        }
        let kept = |policy: &mut Arc<EgressPolicy>, former: &Arc<EgressPolicy>| {
            if *policy == *former {
                *policy = Arc::clone(former);
            }
        };
        kept(&mut self.others, &former.others);
        for (namespace, policy) in &mut self.namespaces {
            kept(policy, former.of(namespace));
        }
        self
    }

    /// Whether these very rules are those of some namespace.
    #[must_use]
    pub fn has(&self, policy: &Arc<EgressPolicy>) -> bool {
        Arc::ptr_eq(&self.others, policy) || self.namespaces.values().any(|other| Arc::ptr_eq(other, policy))
    }
}

/// The digest of an egress file, by which operator and dispatchers find out whether they have read the same.
#[must_use]
pub fn digest(file: &[u8]) -> String {
    HEXLOWER.encode(&ring::digest::digest(&SHA256, file).as_ref()[..16])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn egress(settings: Value) -> Egress {
        serde_json::from_value(settings).unwrap()
    }

    #[test]
    fn a_namespace_keeps_its_rules_where_a_new_file_has_the_same() {
        let settings = |shop: Value, proxy: Value| {
            let namespaces = json!({ "shop": shop, "crm": { "plainHttp": true } });
            json!({ "allowedPorts": [443, 8443], "namespaces": namespaces, "proxy": proxy })
        };
        let (ports, proxy) = (json!({ "allowedPorts": [443] }), json!({ "url": "http://proxy:3128" }));
        let former = egress(settings(ports.clone(), json!(null)));
        for (namespaces, proxy, kept) in [
            (ports.clone(), json!(null), [true, true, true]),
            (json!({ "allowedPorts": [8443] }), json!(null), [false, true, true]),
            // It has what the others have.
            (json!({}), json!(null), [false, true, true]),
            (ports, proxy, [false, false, false]),
        ] {
            let now = egress(settings(namespaces.clone(), proxy)).after(&former);
            let same = |namespace| {
                assert!(now.has(now.of(namespace)), "{namespace} {namespaces}");
                let same = Arc::ptr_eq(former.of(namespace), now.of(namespace));
                assert_eq!(now.has(former.of(namespace)), same, "{namespace} {namespaces}");
                same
            };
            assert_eq!(["shop", "crm", "other"].map(same), kept, "{namespaces}");
        }
        let unlisted = egress(json!({ "allowedPorts": [443, 8443] })).after(&former);
        assert!(Arc::ptr_eq(unlisted.of("other"), former.of("other")));
        assert!(!Arc::ptr_eq(unlisted.of("shop"), former.of("shop")));
    }
}

//! Rules that take the place of others while the process runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use ring::digest::SHA256;
use serde::Serialize;

use super::{Egress, EgressPolicy, ProxySettings};

/// What the digest is made of. Releases agree about it: what a later one adds is left out while it has its default.
#[derive(Serialize)]
struct Digested<'a> {
    others: &'a EgressPolicy,
    /// In order, and without those that have the rules of the others.
    namespaces: BTreeMap<&'a str, &'a EgressPolicy>,
    proxy: Option<&'a ProxySettings>,
}

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

    /// The rules of all namespaces. Several may have the same.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<EgressPolicy>> {
        std::iter::once(&self.others).chain(self.namespaces.values())
    }

    /// The digest of the rules, by which operator and dispatchers find out whether they go by the same. It doesn't matter
    /// how they are written, nor, for the defaults, whether there is a file.
    #[must_use]
    pub fn digest(&self) -> String {
        let listed = self.namespaces.iter().filter(|(_, policy)| **policy != self.others);
        let namespaces = listed.map(|(namespace, policy)| (namespace.as_str(), &**policy)).collect();
        let rules = Digested { others: &self.others, namespaces, proxy: self.proxy.as_ref() };
        // Nothing in it fails: it has come from text.
        let text = serde_json::to_vec(&rules).unwrap_or_default();
        HEXLOWER.encode(&ring::digest::digest(&SHA256, &text).as_ref()[..16])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
            let has = |rules: &Arc<EgressPolicy>| now.policies().any(|policy| Arc::ptr_eq(policy, rules));
            let same = |namespace| {
                assert!(has(now.of(namespace)), "{namespace} {namespaces}");
                let same = Arc::ptr_eq(former.of(namespace), now.of(namespace));
                assert_eq!(has(former.of(namespace)), same, "{namespace} {namespaces}");
                same
            };
            assert_eq!(["shop", "crm", "other"].map(same), kept, "{namespaces}");
        }
        let unlisted = egress(json!({ "allowedPorts": [443, 8443] })).after(&former);
        assert!(Arc::ptr_eq(unlisted.of("other"), former.of("other")));
        assert!(!Arc::ptr_eq(unlisted.of("shop"), former.of("shop")));
    }

    #[test]
    fn the_digest_is_of_the_rules_however_they_are_written() {
        let default = Egress::default().digest();
        for settings in [
            json!({}),
            json!({ "plainHttp": false, "proxy": null, "allowedPorts": ["443"] }),
            json!({ "allowedHosts": [], "namespaces": { "shop": {}, "crm": { "allowedPorts": ["443-443"] } } }),
        ] {
            assert_eq!(egress(settings.clone()).digest(), default, "{settings}");
        }
        let mut digests = BTreeSet::from([default]);
        for settings in [
            json!({ "allowedCIDRs": ["10.0.0.0/8"] }),
            json!({ "deniedCIDRs": ["10.0.0.0/8"] }),
            json!({ "allowedHosts": ["example.com"] }),
            json!({ "allowedPorts": [8443] }),
            json!({ "plainHttp": true }),
            json!({ "namespaces": { "shop": { "plainHttp": true } } }),
            json!({ "namespaces": { "crm": { "plainHttp": true } } }),
            json!({ "proxy": { "url": "http://proxy:3128" } }),
            json!({ "proxy": { "url": "http://proxy:3128", "credentialsFile": "/login" } }),
        ] {
            assert!(digests.insert(egress(settings.clone()).digest()), "{settings}");
        }
        let many = (0..100).map(|n| (format!("shop-{n}"), json!({ "plainHttp": n > 1 }))).collect::<Value>();
        let many = || egress(json!({ "namespaces": many.clone() })).digest();
        assert_eq!(many(), many());
    }
}

//! Services as endpoints: which of them a Subscription may name, and the address that is dialled.

use std::net::IpAddr;

use hookwright_core::destination::egress::EgressPolicy;
use hookwright_crds::{ALLOWED_NAMESPACES, Reason, ServiceRef};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use kube::ResourceExt;

use crate::refusal::Refusal;

/// Returns the cluster IP that webhooks of a Subscription in `namespace` are sent to. A namespace that a Service doesn't
/// let in must not learn whether it exists.
pub(crate) fn resolve(
    namespace: &str,
    reference: &ServiceRef,
    service: Option<&Service>,
    egress: &EgressPolicy,
) -> Result<IpAddr, Refusal> {
    let (name, of) = (&reference.name, reference.namespace(namespace));
    let service = match service {
        Some(service) if of == namespace || lets_in(service, namespace) => service,
        None if of == namespace => {
            let message = format!("Service {name:?} doesn't exist in this namespace.");
            return Err(Refusal::new(Reason::ServiceNotFound, message));
        }
        _ => {
            let message = format!(
                "Service {name:?} doesn't exist in namespace {of:?}, or its annotation {ALLOWED_NAMESPACES} doesn't name \
                 this namespace."
            );
            return Err(Refusal::new(Reason::RefNotPermitted, message));
        }
    };
    let refuse = |why: &str| Refusal::new(Reason::ServiceUnsupported, format!("Service {name:?} {why}."));
    let spec = service.spec.as_ref().ok_or_else(|| refuse("has no spec that can be read"))?;
    let address = cluster_ip(spec).map_err(refuse)?;
    let is_port = |port: &ServicePort| {
        port.port == reference.port && port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
    };
    if !spec.ports.iter().flatten().any(is_port) {
        return Err(refuse(&format!("has no TCP port {}", reference.port)));
    }
    egress.check_service(address).map_err(|_| refuse("has an address that is not allowed in this installation"))?;
    Ok(address)
}

fn lets_in(service: &Service, namespace: &str) -> bool {
    let allowed = service.annotations().get(ALLOWED_NAMESPACES);
    allowed.is_some_and(|allowed| allowed.split(',').map(str::trim).any(|name| name == "*" || name == namespace))
}

/// Returns the address of a Service whose endpoints Kubernetes chooses by a selector. Without one, and with an external
/// name, the author of the Service would choose any address.
fn cluster_ip(spec: &ServiceSpec) -> Result<IpAddr, &'static str> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return Err("is of type ExternalName: use endpoint.url");
    }
    if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
        return Err("has no selector: use endpoint.url");
    }
    match spec.cluster_ip.as_deref().unwrap_or_default() {
        "None" => Err("is headless: give it a cluster IP, or use endpoint.url"),
        text => text.parse().map_err(|_| "has no cluster IP yet"),
    }
}

#[cfg(test)]
mod tests {
    use hookwright_core::destination::egress::Egress;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn services_table() {
        let egress: Egress = serde_json::from_value(json!({ "deniedCIDRs": ["10.96.9.0/24"] })).unwrap();
        let resolved = |namespace: Value, annotation: Value, spec: Value| {
            let reference = json!({ "name": "crm", "namespace": namespace, "port": 8080 });
            let reference: ServiceRef = serde_json::from_value(reference).unwrap();
            let mut fields = json!({
                "clusterIP": "10.96.0.7", "selector": { "app": "crm" },
                "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 8080 }],
            });
            for (key, value) in spec.as_object().cloned().unwrap_or_default() {
                fields[key] = value;
            }
            let service = json!({ "metadata": { "annotations": { ALLOWED_NAMESPACES: annotation } }, "spec": fields });
            let service: Option<Service> = (!spec.is_null()).then(|| serde_json::from_value(service).unwrap());
            let resolved = resolve("shop", &reference, service.as_ref(), egress.of("shop"));
            resolved.map(|address| address.to_string()).map_err(|refusal| refusal.reason)
        };
        let ip = |text: &str| Ok(text.to_owned());
        for (namespace, annotation, spec, want) in [
            (json!(null), json!(""), json!({}), ip("10.96.0.7")),
            (json!("shop"), json!(""), json!({ "clusterIP": "fd00::7" }), ip("fd00::7")),
            (json!("crm"), json!("billing, shop"), json!({}), ip("10.96.0.7")),
            (json!("crm"), json!("*"), json!({}), ip("10.96.0.7")),
            (json!("crm"), json!("shopping,sh"), json!({}), Err(Reason::RefNotPermitted)),
            (json!("crm"), json!("*"), json!(null), Err(Reason::RefNotPermitted)),
            (json!(null), json!(""), json!(null), Err(Reason::ServiceNotFound)),
            (json!(null), json!(""), json!({ "clusterIP": "None" }), Err(Reason::ServiceUnsupported)),
            (json!(null), json!(""), json!({ "clusterIP": null }), Err(Reason::ServiceUnsupported)),
            (json!(null), json!(""), json!({ "selector": {} }), Err(Reason::ServiceUnsupported)),
            (json!(null), json!(""), json!({ "selector": null }), Err(Reason::ServiceUnsupported)),
            (json!(null), json!(""), json!({ "type": "ExternalName" }), Err(Reason::ServiceUnsupported)),
            (json!(null), json!(""), json!({ "ports": [{ "port": 80 }] }), Err(Reason::ServiceUnsupported)),
            (
                json!(null),
                json!(""),
                json!({ "ports": [{ "port": 8080, "protocol": "UDP" }] }),
                Err(Reason::ServiceUnsupported),
            ),
            (json!(null), json!(""), json!({ "clusterIP": "10.96.9.7" }), Err(Reason::ServiceUnsupported)),
            (json!(null), json!(""), json!({ "clusterIP": "169.254.169.254" }), Err(Reason::ServiceUnsupported)),
        ] {
            assert_eq!(resolved(namespace.clone(), annotation.clone(), spec.clone()), want, "{annotation} {spec}");
        }
    }
}

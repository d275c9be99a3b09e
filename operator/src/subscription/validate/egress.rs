//! A URL that the egress rules forbid as it stands, and what can be done about it.

use hookwright_core::destination::egress::{EgressPolicy, Refusal as Forbidden, is_loopback};
use hookwright_crds::Reason;
use url::Url;

use crate::refusal::Refusal;

/// Returns the URL, unless the egress rules forbid it as it stands. Addresses of a host name are looked at by the
/// dispatcher, each time.
pub(super) fn allowed(url: Url, rules: &EgressPolicy) -> Result<Url, Refusal> {
    let forbidden = rules.refusals(&url);
    if forbidden.is_empty() {
        return Ok(url);
    }
    // A first try often sends to the user's own machine, and would come to one fault after the other.
    let is_own_machine = is_loopback(&url) && forbidden.iter().any(|rule| matches!(rule, Forbidden::Address(_)));
    let why = if is_own_machine {
        own_machine(&url, &forbidden)
    } else {
        forbidden.iter().map(why).collect::<Vec<_>>().join("; ")
    };
    Err(Refusal::new(Reason::EndpointNotAllowed, format!("endpoint.url: {why}.")))
}

/// Returns what to do about a URL with this fault.
fn why(forbidden: &Forbidden) -> String {
    match forbidden {
        Forbidden::Scheme(_) => "plain http is not allowed in this installation: use an https URL, or have its \
                                 administrator set egress.plainHttp"
            .to_owned(),
        Forbidden::Port(port) => format!(
            "port {port} is not allowed in this installation: use another one, such as 443, or have its administrator add \
             it to egress.allowedPorts"
        ),
        Forbidden::Address(_) => {
            "this address is not a public one: use a host that is reachable from outside, or have \
                                  the installation's administrator add the address to egress.allowedCIDRs"
                .to_owned()
        }
        Forbidden::Denied(_) => "this address is not allowed in this installation".to_owned(),
        Forbidden::Host(_) => "this host is not among those that this namespace may send to: have the installation's \
                               administrator add it to egress.allowedHosts"
            .to_owned(),
        other => other.to_string(),
    }
}

/// Returns what to do about a URL of the machine that dials it.
fn own_machine(url: &Url, forbidden: &[Forbidden]) -> String {
    let host = url.host_str().unwrap_or_default();
    let changes: Vec<_> = forbidden.iter().filter_map(|rule| change(rule, host)).collect();
    let changes = match changes.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    };
    format!(
        "{host} is the machine that runs the dispatchers, a Pod of the cluster, and not yours. Use an https URL that they \
         can reach, or endpoint.serviceRef for a Service of the cluster. To try Hookwright with a receiver on the \
         dispatchers' own machine, have the installation's administrator {changes}"
    )
}

/// Returns what the administrator has to change so that the rule allows a URL of the machine itself.
fn change(forbidden: &Forbidden, host: &str) -> Option<String> {
    Some(match forbidden {
        Forbidden::Scheme(_) => "set egress.plainHttp".to_owned(),
        Forbidden::Port(port) => format!("add {port} to egress.allowedPorts"),
        Forbidden::Host(_) => format!("add {host} to egress.allowedHosts"),
        Forbidden::Address(address) if address.to_canonical().is_ipv6() => {
            format!("add {address}/128 to egress.allowedCIDRs")
        }
        Forbidden::Address(_) => "add 127.0.0.0/8 to egress.allowedCIDRs".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use hookwright_core::destination::egress::Egress;
    use serde_json::{Value, json};

    use super::*;

    fn message(settings: Value, url: &str) -> Option<String> {
        let egress: Egress = serde_json::from_value(settings).unwrap();
        let refusal = allowed(Url::parse(url).unwrap(), egress.of("shop")).err()?;
        assert_eq!(refusal.reason, Reason::EndpointNotAllowed, "{url}");
        Some(refusal.message)
    }

    #[test]
    fn a_url_that_the_installation_forbids_is_refused_and_the_message_says_what_to_do() {
        let hosts = ["example.com", "10.0.0.1", "169.254.169.254"];
        for (url, says) in [
            ("https://example.com/", &[][..]),
            ("http://example.com:443/", &["use an https URL"]),
            ("https://example.com:8080/", &["port 8080 is not allowed"]),
            ("https://10.0.0.1/", &["egress.allowedCIDRs"]),
            ("https://169.254.169.254/", &["not allowed in this installation"]),
            ("https://1.1.1.1/", &["not among those"]),
            // All faults at once.
            ("http://10.0.0.1:8080/", &["use an https URL", "; port 8080", "; this address is not a public one"]),
        ] {
            let message = message(json!({ "namespaces": { "shop": { "allowedHosts": hosts } } }), url);
            assert_eq!(message.is_some(), !says.is_empty(), "{url}");
            let message = message.unwrap_or_default();
            assert!(says.iter().all(|part| message.contains(part)), "{url}: {message}");
        }
    }

    #[test]
    fn a_user_who_sends_to_their_own_machine_is_told_all_that_it_takes() {
        let plain = json!({ "plainHttp": true, "allowedPorts": [443, 8080], "allowedHosts": ["example.com"] });
        for (settings, url, ends) in [
            (
                json!({}),
                "http://localhost/",
                "set egress.plainHttp, add 80 to egress.allowedPorts and add 127.0.0.0/8 to egress.allowedCIDRs.",
            ),
            (json!({}), "https://127.0.0.1/", "administrator add 127.0.0.0/8 to egress.allowedCIDRs."),
            (
                plain,
                "http://[::1]:8080/",
                "administrator add [::1] to egress.allowedHosts and add ::1/128 to egress.allowedCIDRs.",
            ),
        ] {
            let message = message(settings, url).unwrap();
            assert!(message.contains("Use an https URL that they can reach, or endpoint.serviceRef"), "{message}");
            assert!(message.ends_with(ends), "{message}");
        }
        // The address is no matter there.
        let allowed = json!({ "allowedCIDRs": ["127.0.0.0/8"], "allowedPorts": [80] });
        assert!(message(allowed, "http://localhost/").unwrap().contains("plain http is not allowed"));
        let denied = json!({ "deniedCIDRs": ["127.0.0.0/8"] });
        assert!(message(denied, "https://localhost/").unwrap().ends_with("not allowed in this installation."));
    }
}

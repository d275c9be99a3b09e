//! Removed keys of buckets. A removal is a message without a value, the mark that the key was removed, which goes after an
//! hour. By then every mirror has seen it, or starts again with a list of all keys.

use async_nats::HeaderMap;

/// The header in which a client says that a message removes its key.
const OPERATION: &str = "KV-Operation";
/// How long a mark stays.
const TTL: &str = "1h";

/// The headers of a removal. It has no roll-up, as NATS may lose track of a time to live beside one (nats-server #8594).
/// A bucket keeps one message for each key, so none is needed.
#[must_use]
pub fn removal() -> HeaderMap {
    let mut headers = removal_in_memory();
    headers.insert("Nats-TTL", TTL);
    headers
}

/// The headers of a removal from a bucket where everything goes soon, such as that of the leases.
#[must_use]
pub fn removal_in_memory() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(OPERATION, "DEL");
    headers
}

/// Whether a message with these headers removes its key. The server marks what it removes itself, by a time to live for
/// example, in a way of its own.
#[must_use]
pub fn is_removal(headers: &HeaderMap) -> bool {
    headers.get(OPERATION).is_some_and(|operation| matches!(operation.as_str(), "DEL" | "PURGE"))
        || headers.get("Nats-Marker-Reason").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_and_the_server_remove_keys() {
        for (name, value, want) in [
            ("KV-Operation", "DEL", true),
            ("KV-Operation", "PURGE", true),
            ("KV-Operation", "PUT", false),
            ("Nats-Marker-Reason", "MaxAge", true),
            ("Nats-TTL", "1h", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value);
            assert_eq!(is_removal(&headers), want, "{name}: {value}");
        }
        assert!(!is_removal(&HeaderMap::new()));
        assert!(is_removal(&removal()) && is_removal(&removal_in_memory()));
        assert_eq!(removal().get("Nats-TTL").map(|ttl| ttl.as_str()), Some("1h"));
    }
}

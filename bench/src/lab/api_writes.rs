//! Counts what the API server was asked to write.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Lab;

/// How often each kind of write was served, by `VERB resource`. Refused writes have their status code in the name.
/// Leases don't count.
#[derive(Debug, Clone, Default)]
pub(crate) struct ApiWrites(BTreeMap<String, u64>);

const VERBS: [&str; 5] = ["POST", "PUT", "PATCH", "APPLY", "DELETE"];

impl ApiWrites {
    fn parse(metrics: &str) -> Self {
        let mut writes = Self::default();
        for line in metrics.lines().filter(|line| line.starts_with("apiserver_request_total{")) {
            let label = |name: &str| Some(line.split_once(&format!("{name}=\""))?.1.split_once('"')?.0);
            let (verb, resource) = (label("verb").unwrap_or_default(), label("resource").unwrap_or_default());
            let count = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or_default();
            if VERBS.contains(&verb) && resource != "leases" {
                let part = label("subresource").filter(|part| !part.is_empty());
                let name = part.map_or_else(|| resource.to_owned(), |part| format!("{resource}/{part}"));
                let refused = label("code").filter(|code| !code.starts_with('2'));
                let refused = refused.map(|code| format!(" ({code})")).unwrap_or_default();
                *writes.0.entry(format!("{verb} {name}{refused}")).or_default() += count;
            }
        }
        writes
    }

    /// The writes since `before`.
    pub(crate) fn since(mut self, before: &Self) -> Self {
        for (name, count) in &mut self.0 {
            *count -= before.0.get(name).copied().unwrap_or_default().min(*count);
        }
        self.0.retain(|_, count| *count > 0);
        self
    }

    /// The writes of other resources than this one.
    pub(crate) fn without(mut self, resource: &str) -> Self {
        self.0.retain(|name, _| !name.contains(resource));
        self
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Each kind with its count.
    pub(crate) fn list(&self) -> String {
        self.0.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    }
}

impl Lab {
    /// The writes since the API server started.
    pub(crate) async fn api_writes(&self) -> Result<ApiWrites> {
        let metrics = self.world.control_plane.kubectl(&["get", "--raw", "/metrics"]).await?;
        Ok(ApiWrites::parse(&metrics))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_counted_by_kind() {
        let metrics = |status: u64| {
            format!(
                r#"apiserver_request_total{{code="200",resource="subscriptions",subresource="status",verb="APPLY"}} {status}
apiserver_request_total{{code="409",resource="subscriptions",subresource="status",verb="APPLY"}} 1
apiserver_request_total{{code="200",resource="leases",subresource="",verb="PUT"}} 9
apiserver_request_total{{code="200",resource="secrets",subresource="",verb="GET"}} 9
apiserver_request_total{{code="201",resource="secrets",subresource="",verb="POST"}} 3"#
            )
        };
        let (before, after) = (ApiWrites::parse(&metrics(2)), ApiWrites::parse(&metrics(7)));
        assert_eq!(before.total(), 6);
        assert_eq!(before.list(), "APPLY subscriptions/status 2, APPLY subscriptions/status (409) 1, POST secrets 3");
        assert_eq!(after.clone().since(&before).list(), "APPLY subscriptions/status 5");
        assert_eq!(after.without("subscriptions").list(), "POST secrets 3");
    }
}

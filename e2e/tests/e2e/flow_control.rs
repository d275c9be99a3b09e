//! The API server of the tests has priority and fairness on, as any cluster has.

use crate::shop::{metric, shared};

#[tokio::test]
async fn the_operator_is_served_as_any_service_account() {
    let (shop, _machine) = shared().await;
    let client = shop.world.control_plane.client().await.unwrap();
    let metrics = client.request_text(http::Request::get("/metrics").body(Vec::new()).unwrap()).await.unwrap();
    let labels = r#"{flow_schema="service-accounts",priority_level="workload-low"}"#;
    let served = metric(&metrics, &format!("apiserver_flowcontrol_dispatched_requests_total{labels}"));
    let sent = metric(&shop.world.operator.metrics().await.unwrap(), "hookwright_operator_api_requests_total ");
    assert!(served > 0 && sent > 0, "{served} served, {sent} sent");
}

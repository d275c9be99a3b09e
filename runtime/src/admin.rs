//! The admin endpoint of a process: `/healthz`, `/readyz` and `/metrics` over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::info;

/// The settings of the admin endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdminSettings {
    /// The address and port to listen on. Port 0 takes a free port, which the log names.
    pub listen: SocketAddr,
}

/// Why a process is not ready; `None` if it is ready.
pub type NotReady = Option<String>;

struct Shared {
    ready: watch::Receiver<NotReady>,
    registry: Registry,
}

/// Serves the admin endpoint for as long as the process lives.
///
/// # Errors
/// If the address can't be listened on.
pub async fn serve(
    settings: &AdminSettings,
    ready: watch::Receiver<NotReady>,
    registry: Registry,
) -> std::io::Result<()> {
    let listener = TcpListener::bind(settings.listen).await?;
    info!("listening on http://{}", listener.local_addr()?);
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(Shared { ready, registry }));
    axum::serve(listener, router).await
}

async fn readyz(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    match shared.ready.borrow().clone() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shared.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(axum::http::header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

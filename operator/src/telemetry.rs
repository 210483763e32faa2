//! Logs as JSON lines; health and metrics on a port of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    pub outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PolicyLabel {
    pub namespace: String,
    pub policy: String,
}

#[derive(Clone, Default)]
pub struct Metrics {
    pub reconciliations: Family<Outcome, Counter>,
    pub proofs: Family<Outcome, Counter>,
    pub restarts: Counter,
    pub leading: Gauge,
    pub matched_pods: Family<PolicyLabel, Gauge>,
    pub protected_pods: Family<PolicyLabel, Gauge>,
    ready: Arc<AtomicBool>,
}

impl Metrics {
    /// Ready once the API server has answered; also where another replica leads.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("cloakroom_operator");
        registry.register("reconciliations", "Reconciliations by outcome", self.reconciliations.clone());
        registry.register("proofs", "Answers on protected ports", self.proofs.clone());
        registry.register("workload_restarts", "Workloads restarted", self.restarts.clone());
        registry.register("leading", "1 while this replica leads", self.leading.clone());
        registry.register("matched_pods", "Running pods that a policy selects", self.matched_pods.clone());
        registry.register("protected_pods", "Of those, pods that proved their sidecar", self.protected_pods.clone());
        registry
    }
}

pub fn init_logs(filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_env_filter(filter)
        .init();
}

/// Serves until the process ends.
pub async fn serve(listen: SocketAddr, metrics: Metrics) -> std::io::Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let registry = Arc::new(metrics.registry());
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (registry, metrics) = (registry.clone(), metrics.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &registry, &metrics);
                async move { Ok::<_, std::convert::Infallible>(response) }
            });
            if let Err(error) =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
            {
                tracing::debug!(%error, "a client of the metrics port went away");
            }
        });
    }
}

fn answer<B>(request: &Request<B>, registry: &Registry, metrics: &Metrics) -> Response<Full<Bytes>> {
    let (status, body) = match request.uri().path() {
        "/livez" => (StatusCode::OK, "alive\n".to_owned()),
        "/readyz" if metrics.ready.load(Ordering::Relaxed) => (StatusCode::OK, "ready\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "the API server has not answered yet\n".to_owned()),
        "/metrics" => {
            let mut body = String::new();
            match text::encode(&mut body, registry) {
                Ok(()) => (StatusCode::OK, body),
                Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, String::new()),
            }
        }
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

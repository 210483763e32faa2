//! A small app to protect. It knows nothing of opaque tokens: it sees the JWT on localhost, as any app behind a sidecar does.

use std::future::Future;

use axum::Router;
use axum::routing::{any, get};
use tokio::net::TcpListener;

mod echo;
mod page;
mod received_jwt;
mod session;
mod streams;

/// Where the sample app listens when it runs on its own.
#[derive(clap::Args)]
pub(crate) struct SampleApp {
    /// Address and port; port 0 takes any free one
    #[arg(long, env = "CLOAKROOM_SAMPLE_APP_LISTEN", default_value = "127.0.0.1:3000")]
    listen: String,
}

impl SampleApp {
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) -> anyhow::Result<()> {
        let listener = TcpListener::bind(&self.listen)
            .await
            .map_err(|error| anyhow::anyhow!("cannot listen on {}: {error}", self.listen))?;
        say!("sample app on http://{}", listener.local_addr()?);
        tokio::select! {
            served = serve(listener) => Ok(served?),
            () = shutdown => Ok(()),
        }
    }
}

/// Answers until it is dropped; HTTP/1.1 and HTTP/2 with prior knowledge.
pub(crate) async fn serve(listener: TcpListener) -> std::io::Result<()> {
    axum::serve(listener, routes()).await
}

fn routes() -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/healthz", get(async || "ok\n"))
        .route("/sse", get(streams::sse))
        .route("/ws", any(streams::web_socket))
        .route("/stream", get(streams::stream))
        .route("/slow", any(streams::slow))
        .route("/session", any(session::session))
        .route("/leak", any(session::leak))
        // `/echo`, and every path that a policy's rules may name.
        .fallback(echo::echo)
}

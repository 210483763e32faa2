//! Port 15020: health, metrics, rewritten probes, the JWKS for apps, and a page for people. Nothing here needs authentication, so nothing
//! here says or does anything that would.

pub mod http;
pub mod status_page;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use ::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::Bytes;
use cloakroom_protocol::injected::Probe;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::http::AdminRequest;
use crate::auth_client::AuthClient;
use crate::config::CurrentPolicy;
use crate::listen::Phase;
use crate::local_response::LocalResponse;
use crate::log;
use crate::metrics::{self, Metrics};
use crate::probes;
use crate::start::Refused;
use crate::tls::{self, Certificates};

/// Whoever opens more than these is turned away, so that nobody can keep kubelet out and so have the pod restarted.
const CONNECTIONS: usize = 512;
const CONNECTIONS_OF_ONE_ADDRESS: usize = 16;
/// The pod's own apps, which fetch keys all at once.
const CONNECTIONS_OF_THIS_POD: usize = 256;
const READ_TIMEOUT: Duration = Duration::from_secs(5);

pub struct Admin {
    pub client: Arc<AuthClient>,
    pub policy: Arc<CurrentPolicy>,
    pub metrics: Arc<Metrics>,
    pub refused: Arc<Refused>,
    /// Where the protected ports speak TLS.
    pub certificates: Option<Arc<Certificates>>,
    pub phase: watch::Sender<Phase>,
    pub probes: Vec<Probe>,
    pub pod_uid: String,
}

pub async fn serve(socket: TcpListener, admin: Arc<Admin>) {
    let listener = match tokio::net::TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return log::error("the admin port did not start", &[("error", &error)]),
    };
    let guests = Arc::<Guests>::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Some(guest) = guests.clone().admit(peer.ip().to_canonical()) else { continue };
                let admin = admin.clone();
                tokio::spawn(async move {
                    admin.talk(stream, peer).await;
                    drop(guest);
                });
            }
            // Out of file descriptors, or gone already: neither may spin.
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Who is being served, by address.
#[derive(Default)]
struct Guests(Mutex<HashMap<IpAddr, usize>>);

struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
}

impl Guests {
    fn admit(self: Arc<Self>, address: IpAddr) -> Option<Guest> {
        let most = if address.is_loopback() { CONNECTIONS_OF_THIS_POD } else { CONNECTIONS_OF_ONE_ADDRESS };
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = counts.values().sum();
        if total >= CONNECTIONS || counts.get(&address).is_some_and(|count| *count >= most) {
            return None;
        }
        *counts.entry(address).or_default() += 1;
        drop(counts);
        Some(Guest { guests: self, address })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

impl Admin {
    /// One request a connection: whoever comes here comes every few seconds.
    async fn talk(&self, mut stream: TcpStream, peer: SocketAddr) {
        let (response, to_head) = match timeout(READ_TIMEOUT, http::read(&mut stream)).await {
            Ok(Ok(request)) => (self.answer(&request, peer).await, request.method == "HEAD"),
            Ok(Err(status)) => (text(status, "not understood\n"), false),
            Err(_) => return,
        };
        // It went away: there is nobody to tell.
        let _ = timeout(READ_TIMEOUT, http::write(&mut stream, &response, to_head)).await;
    }

    async fn answer(&self, request: &AdminRequest, peer: SocketAddr) -> LocalResponse {
        match (request.method.as_str(), request.path.as_str()) {
            ("PUT", "/log-level") => set_log_level(request, peer),
            ("GET" | "HEAD", "/log-level") => text(StatusCode::OK, &format!("{}\n", log::level())),
            ("PUT", "/leave") => self.leave(peer),
            ("GET" | "HEAD", "/healthz") => text(StatusCode::OK, "ok\n"),
            ("GET" | "HEAD", "/ready") => self.ready(),
            ("GET" | "HEAD", "/metrics") => self.metrics(),
            ("GET" | "HEAD", "/jwks.json") => self.jwks(),
            ("GET" | "HEAD", "/") => status_page::page(self),
            ("GET" | "HEAD", path) => match path.strip_prefix("/probe/") {
                Some(name) => self.probe(name, request).await,
                None => text(StatusCode::NOT_FOUND, "not found\n"),
            },
            _ => text(StatusCode::METHOD_NOT_ALLOWED, "not allowed\n"),
        }
    }

    /// An auth service that does not answer takes no pod out of its Services: who is signed in stays so, and the rest learn why.
    fn ready(&self) -> LocalResponse {
        if *self.phase.borrow() != Phase::Serving {
            return text(StatusCode::SERVICE_UNAVAILABLE, "draining\n");
        }
        if let Some(certificates) = &self.certificates
            && certificates.current().is_none()
        {
            let reason = certificates.refused().map(|reason| reason.to_string()).unwrap_or_default();
            return text(StatusCode::SERVICE_UNAVAILABLE, &format!("no certificate: {reason}: {}\n", tls::REMEDY));
        }
        match (self.policy.load().as_ref(), self.refused.load().as_ref()) {
            (Some(_), _) => text(StatusCode::OK, "ok\n"),
            (None, Some(reason)) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("no config: {reason}\n")),
            (None, None) => text(StatusCode::SERVICE_UNAVAILABLE, "no config\n"),
        }
    }

    /// The pod is on its way out: `cloakroom-sidecar leave`, which its preStop hook runs, says so.
    fn leave(&self, peer: SocketAddr) -> LocalResponse {
        if !is_inside(peer) {
            return text(StatusCode::FORBIDDEN, FROM_INSIDE_ONLY);
        }
        let serving = self.phase.send_if_modified(|phase| {
            let serving = *phase == Phase::Serving;
            if serving {
                *phase = Phase::Leaving;
            }
            serving
        });
        if serving {
            log::info("leaving: every client is told to go elsewhere", &[]);
        }
        text(StatusCode::OK, "ok\n")
    }

    fn metrics(&self) -> LocalResponse {
        let mut rendered = self.metrics.render();
        if let Some(policy) = &*self.policy.load() {
            metrics::render_routes(&policy.routes, &mut rendered);
        }
        let mut response = text(StatusCode::OK, &rendered);
        let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers.insert(CONTENT_TYPE, format);
        response
    }

    fn jwks(&self) -> LocalResponse {
        let Some(jwks) = self.client.jwks() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the auth service has not told its keys yet\n");
        };
        let mut response = text(StatusCode::OK, "");
        response.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Keys are published well before they sign.
        response.headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=30"));
        response.body = (*jwks).clone();
        response
    }

    /// Declared ones only: anything else would be a way around authentication.
    async fn probe(&self, name: &str, request: &AdminRequest) -> LocalResponse {
        let declared = |probe: &&Probe| name.split_once('/') == Some((&probe.container, &probe.kind));
        let Some(probe) = self.probes.iter().find(declared) else {
            return text(StatusCode::NOT_FOUND, "no such probe is declared\n");
        };
        match probes::replay(probe, request.host.as_deref()).await {
            Ok(()) => text(StatusCode::OK, "ok\n"),
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}\n")),
        }
    }
}

const FROM_INSIDE_ONLY: &str = "from inside the pod only\n";

/// By `kubectl exec` or port-forward, say.
fn is_inside(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

fn set_log_level(request: &AdminRequest, peer: SocketAddr) -> LocalResponse {
    if !is_inside(peer) {
        return text(StatusCode::FORBIDDEN, FROM_INSIDE_ONLY);
    }
    match request.body.trim().parse() {
        Ok(level) => {
            log::set_level(level);
            text(StatusCode::OK, &format!("{level}\n"))
        }
        Err(error) => text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: &str) -> LocalResponse {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    LocalResponse { status, title: "", headers, body: Bytes::from(body.to_owned()) }
}

#[cfg(test)]
mod tests;

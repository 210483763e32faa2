//! A request's head after it was cleansed: what every later stage reads, whatever the protocol it came by.

use std::net::IpAddr;

use http::{HeaderMap, Method};

#[derive(Debug)]
pub struct RequestHead {
    pub method: Method,
    /// Canonical; what rules match is what is forwarded.
    pub path: String,
    /// Without the `?`, as sent.
    pub query: Option<String>,
    pub headers: HeaderMap,
    /// `http` or `https` and host as the client sees it: `X-Forwarded-*` of trusted proxies, else the connection's own.
    pub origin: String,
    pub client: IpAddr,
    /// Shown to the caller on a denial, and logged.
    pub decision_id: String,
}

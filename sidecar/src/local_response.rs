//! Responses that the sidecar makes itself.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// A whole response, small enough to hold.
#[derive(Debug)]
pub struct LocalResponse {
    pub status: StatusCode,
    /// What it says, for the log; empty where there is nothing to say.
    pub title: &'static str,
    pub headers: HeaderMap,
    pub body: Bytes,
}

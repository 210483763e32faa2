//! Responses that the sidecar makes itself.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// A whole response, small enough to hold.
#[derive(Debug)]
pub struct LocalResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

//! Whose page may read an answer of ours (Fetch §3.2). Without this, a page for which the policy lets preflights pass sees a network error
//! where it should see 401.

use cloakroom_protocol::sidecar_config::Preflight;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue};

use crate::config::Policy;

/// Who asks, if a page of another origin may know what it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Of an origin that the policy names: also with the browser's cookies.
    Named(HeaderValue),
    /// The app says to preflights whom it lets in, and without cookies there is nothing about anybody in what we refuse with.
    Anybody,
}

const EXPOSED: HeaderValue = HeaderValue::from_static("cloakroom-decision, retry-after, www-authenticate");

impl Reader {
    pub fn of(origin: Option<&[u8]>, policy: &Policy) -> Option<Self> {
        let origin = origin?;
        if policy.origins.iter().any(|named| named.as_bytes().eq_ignore_ascii_case(origin)) {
            return HeaderValue::from_bytes(origin).ok().map(Self::Named);
        }
        (policy.preflight == Preflight::Pass).then_some(Self::Anybody)
    }

    pub fn let_in(&self, headers: &mut HeaderMap) {
        let origin = match self {
            Self::Named(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
                origin.clone()
            }
            Self::Anybody => HeaderValue::from_static("*"),
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        headers.append(VARY, ORIGIN.into());
    }
}

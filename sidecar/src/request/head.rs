//! A request's head: as it came in, whatever the protocol, and as the cold paths keep it.

use std::net::IpAddr;

use http::{HeaderMap, Method};

/// Name as sent, value without the white space around it.
pub type Field<'a> = httparse::Header<'a>;

/// More fields than this are refused; one bit each marks what is not forwarded.
pub const MAX_FIELDS: usize = 100;

/// A head whose framing has been judged, before anything was removed from it.
#[derive(Clone, Copy, Debug)]
pub struct Head<'h> {
    pub method: &'h str,
    /// The target's path as sent; `*` only for OPTIONS.
    pub path: &'h str,
    /// Without the `?`, as sent.
    pub query: Option<&'h str>,
    /// `Host` or `:authority`, one and well-formed; empty only where HTTP/1.0 sent none.
    pub host: &'h str,
    pub fields: &'h [Field<'h>],
    pub protocol: Protocol,
    /// Asks to switch protocols, in a version that can.
    pub upgrade: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http10,
    Http11,
    Http2,
}

/// Fields with a meaning to the sidecar, by their exact name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Accept,
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Date,
    Expect,
    Host,
    Http2Settings,
    KeepAlive,
    MaxForwards,
    Origin,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    SecFetchMode,
    SecFetchSite,
    SetCookie,
    Te,
    TransferEncoding,
    Upgrade,
}

impl Known {
    pub fn of(name: &str) -> Option<Self> {
        let candidates: &[(&str, Self)] = match name.len() {
            2 => &[("te", Self::Te)],
            4 => &[("host", Self::Host), ("date", Self::Date)],
            6 => &[
                ("accept", Self::Accept),
                ("cookie", Self::Cookie),
                ("expect", Self::Expect),
                ("origin", Self::Origin),
            ],
            7 => &[("upgrade", Self::Upgrade)],
            10 => &[("connection", Self::Connection), ("keep-alive", Self::KeepAlive), ("set-cookie", Self::SetCookie)],
            12 => &[("content-type", Self::ContentType), ("max-forwards", Self::MaxForwards)],
            14 => &[
                ("content-length", Self::ContentLength),
                ("http2-settings", Self::Http2Settings),
                ("sec-fetch-mode", Self::SecFetchMode),
                ("sec-fetch-site", Self::SecFetchSite),
            ],
            16 => &[("proxy-connection", Self::ProxyConnection)],
            17 => &[("transfer-encoding", Self::TransferEncoding)],
            18 => &[("proxy-authenticate", Self::ProxyAuthenticate)],
            19 => &[("proxy-authorization", Self::ProxyAuthorization)],
            _ => return None,
        };
        candidates.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, known)| *known)
    }

    /// Belongs to one connection, not to the message (RFC 9110 §7.6.1), or frames it.
    pub fn is_per_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::ContentLength
                | Self::Http2Settings
                | Self::KeepAlive
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }
}

/// As `Upgrade` names it: HTTP/2 begins with prior knowledge or not at all (RFC 9113 §3.1).
pub fn is_version_of_http(protocol: &[u8]) -> bool {
    let begins = |name: &[u8]| protocol.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    begins(b"h2") || begins(b"http")
}

/// An owned head for the paths that leave the hot one: signing in, the sidecar's own pages.
#[derive(Debug)]
pub struct RequestHead {
    pub method: Method,
    /// Canonical; what rules match is what is forwarded.
    pub path: String,
    /// Without the `?`, as sent.
    pub query: Option<String>,
    /// All that the client sent, tokens included.
    pub headers: HeaderMap,
    /// `http` or `https` and host as the client sees it: `X-Forwarded-*` of trusted proxies, else the connection's own.
    pub origin: String,
    pub client: IpAddr,
    /// Shown to the caller on a denial, and logged.
    pub decision_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_fields_are_found_in_any_case_and_nothing_else_is() {
        assert_eq!(Known::of("HOST"), Some(Known::Host));
        assert_eq!(Known::of("Transfer-Encoding"), Some(Known::TransferEncoding));
        for other in ["hos", "hosts", "transfer_encoding", "cookies", ""] {
            assert_eq!(Known::of(other), None, "{other}");
        }
    }
}

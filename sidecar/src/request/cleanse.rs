//! Nothing that a client sends is believed: one spelling of the path, no identity header in any spelling, no per-hop header.

pub mod path;
pub mod reserved;

use std::net::IpAddr;

use ipnet::IpNet;

use super::head::{Field, Head, Known, MAX_FIELDS, Protocol};
use crate::http1::request_head::content_length;
use path::{AmbiguousPath, CanonicalPath, canonical};
use reserved::Reserved;

/// A head of which only what may be believed is left to be forwarded.
#[derive(Debug)]
pub struct Cleansed<'h> {
    pub head: Head<'h>,
    pub path: CanonicalPath<'h>,
    /// Fields that are not forwarded.
    pub dropped: FieldSet,
    pub cookies: FieldSet,
    /// Fields by which proxies say for whom they forward; believed only from trusted ones.
    pub forwarding: FieldSet,
    pub from_trusted_proxy: bool,
    pub origin: Option<&'h [u8]>,
    pub sec_fetch_site: Option<&'h [u8]>,
    pub sec_fetch_mode: Option<&'h [u8]>,
    pub accept: Option<&'h [u8]>,
    pub content_type: Option<&'h [u8]>,
    pub expect_continue: bool,
    /// How many more hops a question about the way itself may take.
    pub max_forwards: Option<u64>,
}

/// A set of field positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(u128);

impl FieldSet {
    pub fn insert(&mut self, index: usize) {
        self.0 |= 1 << index;
    }

    pub fn remove(&mut self, index: usize) {
        self.0 &= !(1 << index);
    }

    pub fn contains(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

const _: () = assert!(MAX_FIELDS <= u128::BITS as usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error(transparent)]
    Path(#[from] AmbiguousPath),
    #[error("the query has a character that no URI has")]
    Query,
    #[error("the method is not an upper-case token")]
    Method,
    #[error("this method is not proxied")]
    MethodRefused,
    #[error("more than one {0}")]
    Duplicate(&'static str),
    #[error("Connection names a header that frames or routes the request")]
    Connection,
    #[error("Max-Forwards is not a number")]
    MaxForwards,
    #[error("an expectation other than 100-continue")]
    Expectation,
    #[error("a header's name that some apps read as one that frames the body")]
    Disguise,
}

pub fn cleanse<'h>(
    head: &Head<'h>,
    reserved: &Reserved,
    peer: IpAddr,
    trusted: &[IpNet],
) -> Result<Cleansed<'h>, Malformed> {
    check_method(head.method)?;
    if head.query.is_some_and(|query| !query.bytes().all(|b| b.is_ascii_graphic() && b != b'#')) {
        return Err(Malformed::Query);
    }
    let mut cleansed = Cleansed {
        head: *head,
        path: canonical(head.path)?,
        dropped: FieldSet::default(),
        cookies: FieldSet::default(),
        forwarding: FieldSet::default(),
        from_trusted_proxy: trusted.iter().any(|net| net.contains(&peer)),
        origin: None,
        sec_fetch_site: None,
        sec_fetch_mode: None,
        accept: None,
        content_type: None,
        expect_continue: false,
        max_forwards: None,
    };
    for (index, field) in head.fields.iter().enumerate() {
        cleansed.look_at(index, field, reserved)?;
    }
    Ok(cleansed)
}

impl<'h> Cleansed<'h> {
    fn look_at(&mut self, index: usize, field: &Field<'h>, reserved: &Reserved) -> Result<(), Malformed> {
        match Known::of(field.name) {
            Some(Known::Connection) => {
                self.dropped.insert(index);
                self.drop_nominated(field.value)?;
            }
            Some(known) if known.is_per_hop() => self.dropped.insert(index),
            // Written anew, first of all.
            Some(Known::Host) => self.dropped.insert(index),
            Some(Known::Cookie) => self.cookies.insert(index),
            Some(Known::Origin) => once(&mut self.origin, field.value, "Origin")?,
            Some(Known::SecFetchSite) => once(&mut self.sec_fetch_site, field.value, "Sec-Fetch-Site")?,
            Some(Known::SecFetchMode) => once(&mut self.sec_fetch_mode, field.value, "Sec-Fetch-Mode")?,
            Some(Known::ContentType) => once(&mut self.content_type, field.value, "Content-Type")?,
            Some(Known::Accept) => self.accept = self.accept.or(Some(field.value)),
            // RFC 9110 §7.6.2: written anew with one hop less. With any other method it means nothing.
            Some(Known::MaxForwards) if self.head.method == "OPTIONS" => {
                let left = content_length(field.value).ok_or(Malformed::MaxForwards)?;
                if self.max_forwards.replace(left).is_some() {
                    return Err(Malformed::Duplicate("Max-Forwards"));
                }
                self.dropped.insert(index);
            }
            Some(Known::Expect) => {
                if !field.value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Malformed::Expectation);
                }
                // RFC 9110 §10.1.1: not from HTTP/1.0; and HTTP/2's client is asked for its body by the flow-control window.
                self.expect_continue = self.head.protocol == Protocol::Http11;
                if !self.expect_continue {
                    self.dropped.insert(index);
                }
            }
            _ => {
                if reserved::is_framing_in_disguise(field.name) {
                    return Err(Malformed::Disguise);
                }
                if reserved::is_forwarding(field.name) {
                    self.forwarding.insert(index);
                    self.dropped.insert(index);
                } else if reserved.is_identity(field.name) {
                    self.dropped.insert(index);
                }
            }
        }
        Ok(())
    }

    /// Hop-by-hop headers go first and ours are set last, so that no client can have ours removed (RFC 9110 §7.6.1).
    fn drop_nominated(&mut self, value: &[u8]) -> Result<(), Malformed> {
        if value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close") {
            return Ok(());
        }
        for (count, name) in value.split(|b| *b == b',').map(<[u8]>::trim_ascii).enumerate() {
            if count >= MAX_NOMINATED
                || name.eq_ignore_ascii_case(b"host")
                || name.eq_ignore_ascii_case(b"content-length")
            {
                return Err(Malformed::Connection);
            }
            for (index, field) in self.head.fields.iter().enumerate() {
                if field.name.as_bytes().eq_ignore_ascii_case(name) {
                    self.dropped.insert(index);
                }
            }
        }
        Ok(())
    }

    /// Whether `Connection` makes this a header of one hop.
    pub fn is_nominated(&self, name: &str) -> bool {
        let connections = self.head.fields.iter().filter(|field| Known::of(field.name) == Some(Known::Connection));
        let mut nominated = connections.flat_map(|field| field.value.split(|b| *b == b','));
        nominated.any(|nominated| nominated.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Whether the app sees the field as it came.
    pub fn is_forwarded(&self, index: usize) -> bool {
        !self.dropped.contains(index)
    }

    /// A call in all that makes one (gRPC over HTTP/2, "Requests"): whoever merely says so would be told 200 where it is refused.
    pub fn is_grpc(&self) -> bool {
        self.head.protocol == Protocol::Http2
            && self.head.method == "POST"
            && self.content_type.is_some_and(|value| {
                value.len() >= 16
                    && value[..16].eq_ignore_ascii_case(b"application/grpc")
                    && matches!(value.get(16), None | Some(b'+' | b';' | b' '))
            })
    }

    /// A browser's question whether a page of another origin may ask (Fetch §4.8): it has an origin and names one method.
    pub fn is_preflight(&self) -> bool {
        let mut methods = self.head.fields.iter().filter(|field| is_requested_method(field.name));
        self.head.method == "OPTIONS"
            && !self.head.upgrade
            && self.origin.is_some_and(|origin| !origin.is_empty())
            && methods.next().is_some_and(|field| is_token(field.value))
            && methods.next().is_none()
    }

    /// Leaves a preflight its question, and what any request says of itself.
    pub fn only_the_question(&mut self) {
        const KEPT: [&str; 7] = [
            "origin",
            "user-agent",
            "accept",
            "referer",
            "access-control-request-headers",
            "access-control-request-private-network",
            "access-control-request-method",
        ];
        for (index, field) in self.head.fields.iter().enumerate() {
            if !KEPT.iter().any(|kept| field.name.eq_ignore_ascii_case(kept)) {
                self.dropped.insert(index);
            }
        }
        self.max_forwards = None;
    }

    /// A person waits for a page, and can be sent elsewhere to sign in.
    pub fn is_page_load(&self) -> bool {
        match self.sec_fetch_mode {
            Some(mode) => mode == b"navigate",
            None => matches!(self.head.method, "GET" | "HEAD") && self.accepts_html() && !self.head.upgrade,
        }
    }

    pub fn accepts_html(&self) -> bool {
        self.accept.is_some_and(|accept| {
            accept.split(|b| *b == b',').any(|part| {
                let media_type = part.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
                media_type.eq_ignore_ascii_case(b"text/html")
                    || media_type.eq_ignore_ascii_case(b"application/xhtml+xml")
            })
        })
    }
}

fn is_requested_method(name: &str) -> bool {
    name.eq_ignore_ascii_case("access-control-request-method")
}

/// RFC 9110 §5.6.2
fn is_token(value: &[u8]) -> bool {
    let is_token_byte = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    !value.is_empty() && value.iter().all(is_token_byte)
}

/// No legitimate client names more.
const MAX_NOMINATED: usize = 16;

fn once<'h>(slot: &mut Option<&'h [u8]>, value: &'h [u8], name: &'static str) -> Result<(), Malformed> {
    if slot.replace(value).is_some() { Err(Malformed::Duplicate(name)) } else { Ok(()) }
}

fn check_method(method: &str) -> Result<(), Malformed> {
    match method {
        "GET" | "POST" | "PUT" | "HEAD" | "DELETE" | "PATCH" | "OPTIONS" => Ok(()),
        // TRACE echoes what we hide (RFC 9110 §9.3.8); a tunnel would leave with the sidecar's address.
        "CONNECT" | "TRACE" | "TRACK" => Err(Malformed::MethodRefused),
        // Methods are case-sensitive, but not to every app: `get` must not slip past a rule about GET.
        _ if method.len() <= 32 && method.bytes().all(|b| b.is_ascii_uppercase() || matches!(b, b'-' | b'_')) => Ok(()),
        _ => Err(Malformed::Method),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn head<'h>(method: &'h str, path: &'h str, fields: &'h [Field<'h>]) -> Head<'h> {
        Head { method, path, query: None, host: "a", fields, protocol: Protocol::Http11, upgrade: false }
    }

    fn field<'h>(name: &'h str, value: &'h str) -> Field<'h> {
        Field { name, value: value.as_bytes() }
    }

    /// Names that reach the app.
    fn forwarded(fields: &[Field<'_>]) -> Vec<String> {
        let reserved = Reserved::new(["authorization", "x-user-email", "x-api-key"].into_iter(), false);
        let cleansed = cleanse(&head("GET", "/", fields), &reserved, PEER, &[]).unwrap();
        let kept = fields.iter().enumerate().filter(|(index, _)| cleansed.is_forwarded(*index));
        kept.map(|(_, field)| field.name.to_owned()).collect()
    }

    fn refused(method: &str, fields: &[Field<'_>]) -> Malformed {
        cleanse(&head(method, "/", fields), &Reserved::new([].into_iter(), false), PEER, &[]).unwrap_err()
    }

    #[test]
    fn no_spelling_of_an_identity_header_passes() {
        for name in [
            "Authorization",
            "AUTHORIZATION",
            "X-User-Email",
            "x_user_email",
            "X.User-eMail",
            "x-user_email",
            "X~User~Email",
            "X-Api-Key",
            "X_API.KEY",
            "Cloakroom-Session",
            "cloakroom_anything",
            "X-Forwarded-For",
            "X_Forwarded_User",
            "Forwarded",
            "X-Real-IP",
            "X-Original-URL",
            "X.Rewrite.URL",
        ] {
            assert!(forwarded(&[field(name, "me")]).is_empty(), "{name}");
        }
        assert_eq!(forwarded(&[field("X-User-Emails", "x"), field("X-User", "x")]).len(), 2);
    }

    #[test]
    fn hop_by_hop_headers_and_those_nominated_go() {
        let kept = forwarded(&[
            field("Connection", "close, X-Custom ,  te"),
            field("X-Custom", "1"),
            field("x-cUSTOM", "2"),
            field("TE", "trailers"),
            field("Keep-Alive", "timeout=5"),
            field("Proxy-Connection", "keep-alive"),
            field("Proxy-Authorization", "Basic x"),
            field("Upgrade", "h2c"),
            field("HTTP2-Settings", "x"),
            field("X-Other", "3"),
        ]);
        assert_eq!(kept, ["X-Other"]);
    }

    #[test]
    fn connection_cannot_take_the_frame_away() {
        for value in ["host", "keep-alive, Content-Length", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"] {
            assert_eq!(refused("GET", &[field("Connection", value)]), Malformed::Connection, "{value}");
        }
    }

    #[test]
    fn doubled_headers_that_decide_something_are_refused() {
        for name in ["Origin", "Sec-Fetch-Site", "sec-fetch-mode", "Content-Type"] {
            let doubled = [field(name, "a"), field(name, "a")];
            assert!(matches!(refused("GET", &doubled), Malformed::Duplicate(_)), "{name}");
        }
    }

    #[test]
    fn methods_that_tunnel_echo_or_hide_are_refused() {
        for method in ["CONNECT", "TRACE", "TRACK"] {
            assert_eq!(refused(method, &[]), Malformed::MethodRefused);
        }
        for method in ["get", "Get", "G\u{e9}T", "A1", ""] {
            if !method.is_empty() {
                assert_eq!(refused(method, &[]), Malformed::Method, "{method}");
            }
        }
        assert!(cleanse(&head("M-SEARCH", "/", &[]), &Reserved::new([].into_iter(), false), PEER, &[]).is_ok());
    }

    #[test]
    fn other_expectations_are_refused() {
        assert_eq!(refused("POST", &[field("Expect", "a-miracle")]), Malformed::Expectation);
    }

    #[test]
    fn a_page_load_is_told_from_a_call() {
        let is_page = |fields: &[Field<'_>], method: &str| {
            cleanse(&head(method, "/", fields), &Reserved::new([].into_iter(), false), PEER, &[])
                .unwrap()
                .is_page_load()
        };
        assert!(is_page(&[field("Sec-Fetch-Mode", "navigate")], "GET"));
        assert!(is_page(&[field("Accept", "application/json;q=0.1, text/HTML;q=0.9")], "GET"));
        assert!(!is_page(&[field("Sec-Fetch-Mode", "cors"), field("Accept", "text/html")], "GET"));
        assert!(!is_page(&[field("Accept", "text/html")], "POST"));
        assert!(!is_page(&[field("Accept", "*/*")], "GET"));
        assert!(!is_page(&[], "GET"));
    }
}

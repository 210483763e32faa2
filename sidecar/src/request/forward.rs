//! What the app is sent: the cleansed head, then what only the sidecar may say, the JWT last of all.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;

use super::cleanse::{Cleansed, reserved};
use super::credential::write_other_cookies;
use super::head::{Field, Known, Protocol};
use super::trace;
use crate::clock::HttpDate;
use crate::config::Policy;
use crate::identity::Identity;

/// A request that may pass. Only `request::judge` makes one, and only one is forwarded.
pub struct Admitted<'h> {
    pub(super) cleansed: Cleansed<'h>,
    pub(super) identity: Option<Arc<Identity>>,
}

impl<'h> Admitted<'h> {
    pub fn cleansed(&self) -> &Cleansed<'h> {
        &self.cleansed
    }

    pub fn into_cleansed(self) -> Cleansed<'h> {
        self.cleansed
    }

    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }
}

/// Who is at the other end of the connection, written once.
#[derive(Clone, Debug)]
pub struct Peer {
    pub address: IpAddr,
    pub text: Box<str>,
    /// RFC 7239 §6: IPv6 in brackets and quotes.
    pub forwarded_for: Box<str>,
    /// Speaks over TLS.
    pub secure: bool,
}

impl Peer {
    pub fn new(address: IpAddr) -> Self {
        // A dual-stack listener sees IPv4 clients as mapped addresses; proxies are listed by their own.
        let address = address.to_canonical();
        let text = address.to_string().into_boxed_str();
        let forwarded_for = match address {
            IpAddr::V4(_) => format!("for={text}"),
            IpAddr::V6(_) => format!("for=\"[{text}]\""),
        };
        Self { address, text, forwarded_for: forwarded_for.into_boxed_str(), secure: false }
    }
}

/// Towards app and client alike.
pub const DECISION: &[u8] = b"Cloakroom-Decision";

/// How the request's body is delimited towards the app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// An HTTP/1.1 head. The app is told the id of the decision where something is logged under it.
pub fn write_head(
    admitted: &Admitted<'_>,
    framing: Framing,
    peer: &Peer,
    policy: &Policy,
    decision_id: Option<&str>,
    out: &mut Vec<u8>,
) {
    let head = &admitted.cleansed.head;
    for part in [head.method, " ", admitted.cleansed.path.forwarded()] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(query) = head.query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(if head.host.is_empty() { b"localhost" } else { head.host.as_bytes() });
    out.extend_from_slice(b"\r\n");
    if head.upgrade {
        write_upgrade(admitted, out);
    }
    match framing {
        Framing::None => {}
        Framing::Length(length) => write_length(length, out),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    if let Some(id) = decision_id {
        write_field(DECISION, id.as_bytes(), out);
    }
    write_fields(admitted, peer, policy, out);
    out.extend_from_slice(b"\r\n");
}

/// Every field but those that HTTP/1.1 and HTTP/2 put differently.
fn write_fields(admitted: &Admitted<'_>, peer: &Peer, policy: &Policy, out: &mut Vec<u8>) {
    let cleansed = &admitted.cleansed;
    let mut context = trace::Context::default();
    for (index, field) in cleansed.head.fields.iter().enumerate() {
        if !cleansed.is_forwarded(index) || cleansed.cookies.contains(index) {
            continue;
        }
        if trace::is_context(field.name) {
            context.look_at(field);
        } else {
            write_field(field.name.as_bytes(), field.value, out);
        }
    }
    if let Some(left) = cleansed.max_forwards {
        write_text(out, format_args!("Max-Forwards: {}\r\n", left.saturating_sub(1)));
    }
    if let Some(parent) = context.continued() {
        write_trace(cleansed, parent, out);
    }
    if !cleansed.cookies.is_empty() {
        let fields = cleansed.head.fields.iter().enumerate();
        let cookies = fields.filter(|(index, _)| cleansed.cookies.contains(*index) && cleansed.is_forwarded(*index));
        write_other_cookies(cookies.map(|(_, field)| field.value), &policy.token_sources, out);
    }
    write_forwarding(cleansed, peer, out);
    if let Some(identity) = &admitted.identity {
        for (name, value) in &identity.claim_headers {
            write_field(name.as_str().as_bytes(), value.as_bytes(), out);
        }
        write_field(header_case(&policy.jwt.name), &identity.jwt_header, out);
    }
}

fn write_trace(cleansed: &Cleansed<'_>, parent: &[u8], out: &mut Vec<u8>) {
    write_field(b"traceparent", parent, out);
    let fields = cleansed.head.fields.iter().enumerate();
    for (_, state) in fields.filter(|(index, field)| cleansed.is_forwarded(*index) && trace::is_state(field.name)) {
        write_field(b"tracestate", state.value, out);
    }
}

pub fn write_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

pub fn write_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: ");
    write_number(length, out);
    out.extend_from_slice(b"\r\n");
}

/// What every answer has in it is worth less than `fmt` takes for it.
pub fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    while first == digits.len() || number > 0 {
        first -= 1;
        digits[first] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
    out.extend_from_slice(&digits[first..]);
}

/// `now`: Unix seconds.
pub fn write_date(now: u64, out: &mut Vec<u8>) {
    write_text(out, format_args!("Date: {}\r\n", HttpDate(now)));
}

/// Appends formatted text.
pub fn write_text(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory cannot fail.
    let _ = std::io::Write::write_fmt(out, text);
}

/// The usual spelling, for apps that compare it as it is written.
fn header_case(name: &HeaderName) -> &[u8] {
    if *name == http::header::AUTHORIZATION { b"Authorization" } else { name.as_str().as_bytes() }
}

fn write_upgrade(admitted: &Admitted<'_>, out: &mut Vec<u8>) {
    for field in admitted.cleansed.head.fields {
        if Known::of(field.name) == Some(Known::Upgrade) {
            out.extend_from_slice(b"Connection: Upgrade\r\n");
            write_field(b"Upgrade", field.value, out);
        }
    }
}

/// For whom we forward. A trusted proxy's own words are kept and continued; anybody else's were dropped.
fn write_forwarding(cleansed: &Cleansed<'_>, peer: &Peer, out: &mut Vec<u8>) {
    let seen = Outside::of(cleansed, peer);
    if cleansed.from_trusted_proxy {
        for field in forwarding_fields(cleansed).filter(|field| !is_rewritten(field.name)) {
            write_field(field.name.as_bytes(), field.value, out);
        }
    }
    out.extend_from_slice(b"X-Forwarded-For: ");
    write_earlier_hops(cleansed, "x-forwarded-for", out);
    for part in [&*peer.text, "\r\nX-Forwarded-Proto: ", seen.scheme] {
        out.extend_from_slice(part.as_bytes());
    }
    if !seen.host.is_empty() {
        out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
        out.extend_from_slice(seen.host.as_bytes());
    }
    out.extend_from_slice(b"\r\nForwarded: ");
    write_earlier_hops(cleansed, "forwarded", out);
    out.extend_from_slice(peer.forwarded_for.as_bytes());
    if !seen.host.is_empty() {
        for part in [";host=\"", seen.host, "\""] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    for part in [";proto=", seen.scheme, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

fn forwarding_fields<'c, 'h>(cleansed: &'c Cleansed<'h>) -> impl DoubleEndedIterator<Item = &'c Field<'h>> {
    let fields = cleansed.head.fields.iter().enumerate();
    fields.filter(|(index, _)| cleansed.forwarding.contains(*index)).map(|(_, field)| field)
}

fn write_earlier_hops(cleansed: &Cleansed<'_>, name: &str, out: &mut Vec<u8>) {
    if !cleansed.from_trusted_proxy {
        return;
    }
    let fields = forwarding_fields(cleansed).filter(|field| field.name.eq_ignore_ascii_case(name));
    for field in fields.filter(|field| closes_quotes(field.value)) {
        out.extend_from_slice(field.value);
        out.extend_from_slice(b", ");
    }
}

/// Many proxies pass a client's `Forwarded` on as it is, and in a quotation without an end ours would be part of it (RFC 7239 §4).
fn closes_quotes(value: &[u8]) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
    }
    !quoted
}

/// Written anew, with what a trusted proxy said in it.
fn is_rewritten(name: &str) -> bool {
    ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"]
        .iter()
        .any(|rewritten| reserved::is_same(rewritten.as_bytes(), name.as_bytes()))
}

/// The request's URL as the client sees it.
pub struct Outside<'h> {
    pub scheme: &'h str,
    pub host: &'h str,
}

impl<'h> Outside<'h> {
    pub fn of(cleansed: &Cleansed<'h>, peer: &Peer) -> Self {
        let own = Self { scheme: if peer.secure { "https" } else { "http" }, host: cleansed.head.host };
        if !cleansed.from_trusted_proxy || cleansed.forwarding.is_empty() {
            return own;
        }
        let proto = only(cleansed, "x-forwarded-proto");
        let host = only(cleansed, "x-forwarded-host").filter(|host| crate::http1::target::is_host(host));
        Self {
            scheme: match proto {
                Some("https") => "https",
                Some("http") => "http",
                _ => own.scheme,
            },
            host: host.unwrap_or(own.host),
        }
    }

    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.host)
    }
}

/// The value of a forwarding field that is there exactly once.
fn only<'h>(cleansed: &Cleansed<'h>, name: &str) -> Option<&'h str> {
    let mut fields = cleansed.head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let value = fields.next()?.value;
    if fields.next().is_some() {
        return None;
    }
    std::str::from_utf8(value).ok()
}

/// The nearest address that is no trusted proxy.
pub fn client(cleansed: &Cleansed<'_>, peer: &Peer, policy: &Policy) -> IpAddr {
    let fields = forwarding_fields(cleansed).filter(|field| field.name.eq_ignore_ascii_case("x-forwarded-for"));
    nearest(fields.rev().flat_map(|field| field.value.rsplit(|b| *b == b',')), peer, policy)
}

/// The same, from a head that [`write_head`] wrote: who asks rarely need not have it worked out for every request.
pub fn client_in(head: &[u8], peer: &Peer, policy: &Policy) -> IpAddr {
    nearest(written(head, b"\r\nX-Forwarded-For: ").rsplit(|b| *b == b','), peer, policy)
}

/// [`Outside::origin`], from such a head.
pub fn origin_in(head: &[u8]) -> String {
    let text = |name| std::str::from_utf8(written(head, name)).unwrap_or_default();
    Outside { scheme: text(b"\r\nX-Forwarded-Proto: "), host: text(b"\r\nX-Forwarded-Host: ") }.origin()
}

/// What [`write_head`] said under a name that it lets nobody else use.
fn written<'h>(head: &'h [u8], name: &[u8]) -> &'h [u8] {
    let value = memchr::memmem::find(head, name).and_then(|at| head[at + name.len()..].split(|b| *b == b'\r').next());
    value.unwrap_or_default()
}

/// Each hop is what the one before it says, and only trusted proxies are believed.
fn nearest<'h>(hops: impl Iterator<Item = &'h [u8]>, peer: &Peer, policy: &Policy) -> IpAddr {
    let mut client = peer.address;
    for hop in hops {
        if !policy.trusted_proxies.iter().any(|net| net.contains(&client)) {
            break;
        }
        match std::str::from_utf8(hop).ok().and_then(|hop| hop.trim().parse::<IpAddr>().ok()) {
            Some(address) => client = address.to_canonical(),
            None => break,
        }
    }
    client
}

/// Tells protocols apart in logs.
impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::tests::config;
    use crate::http1::request_head::{field_store, parse};
    use crate::identity::tests::identity;
    use crate::request::cleanse::cleanse;

    /// What an app would be sent for these bytes, if anything.
    fn forwarded(bytes: &[u8], identity: Option<Identity>) -> Option<Vec<u8>> {
        let policy = Policy::parse(config("http://127.0.0.1:9443").to_string().as_bytes()).unwrap();
        let peer = Peer::new("192.0.2.1".parse().unwrap());
        let mut store = field_store();
        let message = parse(bytes, &mut store).ok()??;
        let cleansed = cleanse(&message.head, &policy.reserved, peer.address, &policy.trusted_proxies).ok()?;
        let mut out = Vec::new();
        let admitted = Admitted { cleansed, identity: identity.map(Arc::new) };
        write_head(&admitted, message.framing, &peer, &policy, None, &mut out);
        Some(out)
    }

    #[test]
    fn an_ipv6_client_is_quoted_as_the_rfc_says() {
        let peer = Peer::new("2001:db8::1".parse().unwrap());
        assert_eq!(&*peer.forwarded_for, "for=\"[2001:db8::1]\"");
        assert_eq!(&*Peer::new("::ffff:192.0.2.1".parse().unwrap()).text, "192.0.2.1");
    }

    #[test]
    fn the_client_is_the_nearest_that_no_trusted_proxy_is() {
        let with_proxies = |proxies: &str| {
            let mut config = config("http://127.0.0.1:9443");
            config["trusted_proxies"] = serde_json::from_str(proxies).unwrap();
            Policy::parse(config.to_string().as_bytes()).unwrap()
        };
        let peer = Peer::new("192.0.2.1".parse().unwrap());
        let told = |policy: &Policy, headers: &str| {
            let text = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{headers}\r\n");
            let mut store = field_store();
            let message = parse(text.as_bytes(), &mut store).unwrap().unwrap();
            let cleansed = cleanse(&message.head, &policy.reserved, peer.address, &policy.trusted_proxies).unwrap();
            let told = client(&cleansed, &peer, policy);
            let mut out = Vec::new();
            let admitted = Admitted { cleansed, identity: None };
            write_head(&admitted, message.framing, &peer, policy, None, &mut out);
            assert_eq!(client_in(&out, &peer, policy), told, "{}", String::from_utf8_lossy(&out));
            told.to_string()
        };
        let trusting = with_proxies(r#"["192.0.2.0/24", "10.0.0.0/8"]"#);
        for (headers, wanted) in [
            ("", "192.0.2.1"),
            ("X-Forwarded-For: 9.9.9.9\r\n", "9.9.9.9"),
            ("X-Forwarded-For: 6.6.6.6, 9.9.9.9, 10.1.2.3\r\n", "9.9.9.9"),
            ("X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 9.9.9.9 ,10.1.2.3\r\n", "9.9.9.9"),
            ("X-Forwarded-For: ::ffff:9.9.9.9\r\n", "9.9.9.9"),
            ("X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"),
            ("X-Forwarded-For: 9.9.9.9, unknown, 10.1.2.3\r\n", "10.1.2.3"),
            ("X-Forwarded-For: junk\r\n", "192.0.2.1"),
        ] {
            assert_eq!(told(&trusting, headers), wanted, "{headers:?}");
        }
        assert_eq!(told(&with_proxies("[]"), "X-Forwarded-For: 9.9.9.9\r\n"), "192.0.2.1", "anybody can say that");
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[A-Za-z0-9._-]{1,12}",
            prop::sample::select(vec![
                "Authorization",
                "X-User-Email",
                "x_user.email",
                "Connection",
                "Cookie",
                "Cloakroom-Session",
                "Forwarded",
                "X-Forwarded-For",
                "Transfer-Encoding",
                "Content-Length",
                "Host",
                "Upgrade",
                "Expect",
                "TE",
                "traceparent",
                "TraceState",
            ])
            .prop_map(str::to_owned),
        ]
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~\t]{0,16}",
            prop::sample::select(vec![
                "Bearer forged",
                "close, authorization",
                "X-User-Email",
                "upgrade",
                "websocket",
                "chunked",
                "5",
                "a=1; __Host-cloakroom=forged",
                "x\r\nX-User-Email: forged",
                "x\nHost: forged",
                "100-continue",
                "forged",
            ])
            .prop_map(str::to_owned),
        ]
    }

    proptest! {
        #[test]
        fn whatever_comes_in_what_goes_out_is_one_clear_request_with_our_identity(
            method in prop::sample::select(vec!["GET", "POST", "HEAD"]),
            path in "/[a-z/.%;:@25eEfF-]{0,20}(\\?[!-~]{0,8})?",
            fields in prop::collection::vec((name(), value()), 0..8),
        ) {
            let mut text = format!("{method} {path} HTTP/1.1\r\nHost: a.example\r\n");
            for (name, value) in &fields {
                text.extend([name.as_str(), ": ", value.as_str(), "\r\n"]);
            }
            text += "\r\n";
            if let Some(out) = forwarded(text.as_bytes(), Some(identity())) {
                let shown = String::from_utf8_lossy(&out).into_owned();
                let mut store = field_store();
                let again = parse(&out, &mut store).expect("the app can read it").expect("whole");
                prop_assert_eq!(again.length, out.len());
                prop_assert_eq!(again.head.method, method);
                prop_assert!(again.head.path.starts_with('/') && !again.head.path.contains("//"));
                let values = |wanted: &str| {
                    let fields = again.head.fields.iter().filter(|field| reserved::is_same(wanted.as_bytes(), field.name.as_bytes()));
                    fields.map(|field| String::from_utf8_lossy(field.value).into_owned()).collect::<Vec<_>>()
                };
                prop_assert_eq!(values("host"), ["a.example"]);
                prop_assert_eq!(values("authorization"), ["Bearer eyJ.eyJ.sig"]);
                prop_assert_eq!(values("x-forwarded-for"), ["192.0.2.1"]);
                prop_assert!(values("traceparent").is_empty() && values("tracestate").is_empty(), "nobody's trace: {}", shown);
                prop_assert!(values("x-user-email").is_empty(), "{}", shown);
                prop_assert!(!values("cookie").concat().contains("__Host-cloakroom"), "{}", shown);
                prop_assert!(values("content-length").len() + values("transfer-encoding").len() <= 1, "{}", shown);
            }
        }
    }
}

//! Bytes → request head, or a refusal of what two parsers could read differently (RFC 9112).

use std::mem::MaybeUninit;

use super::target;
use super::unreadable::Unreadable;
use crate::request::forward::Framing;
use crate::request::head::{Field, Head, Known, MAX_FIELDS, Protocol, is_version_of_http};

pub type FieldStore<'h> = [MaybeUninit<Field<'h>>; MAX_FIELDS];

pub const fn field_store<'h>() -> FieldStore<'h> {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

#[derive(Debug)]
pub struct RequestMessage<'h> {
    pub head: Head<'h>,
    pub framing: Framing,
    /// The client wants the connection kept.
    pub keep_alive: bool,
    /// Bytes of the head.
    pub length: usize,
}

/// `None`: more bytes are needed.
pub fn parse<'h>(
    bytes: &'h [u8],
    store: &'h mut [MaybeUninit<Field<'h>>],
) -> Result<Option<RequestMessage<'h>>, Unreadable> {
    let mut request = httparse::Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, store) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if names_http2(bytes) => return Err(Unreadable::AnotherProtocol),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::Version) => return Err(version(bytes)),
        Err(error) => return Err(Unreadable::Syntax(error)),
    };
    if !ends_lines_in_crlf(&bytes[..length]) {
        return Err(Unreadable::LineEnd);
    }
    let (Some(method), Some(path), Some(version)) = (request.method, request.path, request.version) else {
        return Err(Unreadable::Target);
    };
    let fields: &'h [Field<'h>] = request.headers;
    let protocol = if version == 0 { Protocol::Http10 } else { Protocol::Http11 };
    let target = target::parse(method, path)?;
    let noted = Noted::of(fields)?;
    let host = noted.host(protocol, target.authority)?;
    let framing = noted.framing(protocol)?;
    let keep_alive = if version == 0 { noted.keep_alive && !noted.close } else { !noted.close };
    // An upgrade takes the connection over; with a body in front nobody agrees where it begins.
    let bodyless = matches!(framing, Framing::None | Framing::Length(0));
    let upgrade = noted.upgrade && protocol == Protocol::Http11 && bodyless;
    let head = Head { method, path: target.path, query: target.query, host, fields, protocol, upgrade };
    Ok(Some(RequestMessage { head, framing, keep_alive, length }))
}

/// Begins as nothing but HTTP/2 does (RFC 9113 §3.4): whoever says that much takes no answer in HTTP/1.
pub fn names_http2(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PRI * ")
}

/// A version of HTTP that we do not speak, or of something else.
fn version(bytes: &[u8]) -> Unreadable {
    let line = &bytes[..memchr::memchr(b'\n', bytes).unwrap_or(bytes.len())];
    let names_http = !names_http2(bytes) && line.windows(5).any(|name| name.eq_ignore_ascii_case(b"HTTP/"));
    if names_http { Unreadable::Version } else { Unreadable::AnotherProtocol }
}

/// `httparse` takes a lone LF for a line's end; others do not (RFC 9112 §2.2).
fn ends_lines_in_crlf(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).all(|at| at > 0 && head[at - 1] == b'\r')
}

/// What the connection's fields say.
#[derive(Default)]
struct Noted<'h> {
    host: Option<&'h str>,
    length: Option<u64>,
    coding: Option<&'h [u8]>,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
}

impl<'h> Noted<'h> {
    fn of(fields: &[Field<'h>]) -> Result<Self, Unreadable> {
        let mut noted = Self::default();
        let mut upgrade_named = false;
        let mut protocols: Option<&[u8]> = None;
        for field in fields {
            match Known::of(field.name) {
                Some(Known::Host) => {
                    let host = std::str::from_utf8(field.value).map_err(|_| Unreadable::Host)?;
                    if noted.host.replace(host).is_some() {
                        return Err(Unreadable::Host);
                    }
                }
                Some(Known::ContentLength) => {
                    let length = content_length(field.value).ok_or(Unreadable::Framing)?;
                    // Even the same number twice: a sender that repeats itself is not one we understand.
                    if noted.length.replace(length).is_some() {
                        return Err(Unreadable::Framing);
                    }
                }
                Some(Known::TransferEncoding) if noted.coding.is_none() => noted.coding = Some(field.value),
                Some(Known::Upgrade) if protocols.is_none() => protocols = Some(field.value),
                Some(Known::TransferEncoding | Known::Upgrade) => return Err(Unreadable::Framing),
                Some(Known::Connection) => {
                    for option in field.value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                        noted.close |= option.eq_ignore_ascii_case(b"close");
                        noted.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                        upgrade_named |= option.eq_ignore_ascii_case(b"upgrade");
                    }
                }
                _ => {}
            }
        }
        // HTTP/2 begins with prior knowledge or not at all: an h2c upgrade would carry requests past us (RFC 9113 §3.1).
        noted.upgrade = upgrade_named
            && protocols.is_some_and(|protocols| {
                !protocols.is_empty()
                    && !protocols.split(|b| *b == b',').any(|protocol| is_version_of_http(protocol.trim_ascii()))
            });
        Ok(noted)
    }

    fn host(&self, protocol: Protocol, authority: Option<&'h str>) -> Result<&'h str, Unreadable> {
        let host = match self.host {
            Some(host) if target::is_host(host) => host,
            None if protocol == Protocol::Http10 => authority.unwrap_or_default(),
            Some(_) | None => return Err(Unreadable::Host),
        };
        match authority {
            Some(authority) if !authority.eq_ignore_ascii_case(host) => Err(Unreadable::Host),
            _ => Ok(host),
        }
    }

    fn framing(&self, protocol: Protocol) -> Result<Framing, Unreadable> {
        match (self.coding, self.length) {
            (Some(coding), None) if protocol != Protocol::Http10 => {
                if coding.eq_ignore_ascii_case(b"chunked") {
                    Ok(Framing::Chunked)
                } else if ends_in_chunked(coding) {
                    Err(Unreadable::TransferCoding)
                } else {
                    Err(Unreadable::Framing)
                }
            }
            (Some(_), _) => Err(Unreadable::Framing),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (None, None) => Ok(Framing::None),
        }
    }
}

/// Delimited, but in a coding we do not know: 501. Anything else has no end that could be relied on: 400 (RFC 9112 §6.1, §6.3).
fn ends_in_chunked(coding: &[u8]) -> bool {
    let mut codings = coding.rsplit(|b| *b == b',').map(<[u8]>::trim_ascii);
    codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"))
        && codings.all(|other| {
            !other.is_empty() && !other.eq_ignore_ascii_case(b"chunked") && other.iter().all(u8::is_ascii_alphanumeric)
        })
}

/// Digits and nothing else: no sign, no list, no white space.
pub fn content_length(value: &[u8]) -> Option<u64> {
    let digits = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    digits.then(|| value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Unreadable {
        match parse(text.as_bytes(), &mut field_store()) {
            Err(refusal) => refusal,
            Ok(Some(_)) => panic!("accepted {text:?}"),
            Ok(None) => panic!("waits for more of {text:?}"),
        }
    }

    fn with<T>(text: &str, look: impl FnOnce(RequestMessage<'_>) -> T) -> T {
        let mut store = field_store();
        look(parse(text.as_bytes(), &mut store).unwrap().unwrap())
    }

    #[test]
    fn a_plain_request_is_read() {
        with("GET /a?b HTTP/1.1\r\nHost: a.example\r\nX:  y z \r\n\r\nrest", |message| {
            assert_eq!((message.head.path, message.head.query, message.head.host), ("/a", Some("b"), "a.example"));
            assert_eq!(message.head.fields[1].value, b"y z");
            assert_eq!((message.framing, message.keep_alive, message.length), (Framing::None, true, 48));
        });
    }

    #[test]
    fn the_body_is_framed_in_one_clear_way_or_refused() {
        for headers in [
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: 1, 1",
            "Content-Length: +1",
            "Content-Length: -1",
            "Content-Length: 0x1",
            "Content-Length: 1 1",
            "Content-Length:",
            "Content-Length: 9999999999999999999",
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\ncontent-length: 0",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ] {
            assert_eq!(
                refusal(&format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n")),
                Unreadable::Framing,
                "{headers}"
            );
        }
        for coding in [
            "gzip",
            "chunked, gzip",
            "chunked, chunked",
            "identity",
            "",
            ", chunked",
            "xchunked",
            "chunked;q=1",
            "\"chunked\"",
            "chunked\x0b",
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n");
            assert_eq!(refusal(&text).status().0, 400, "{coding}");
        }
        assert_eq!(
            refusal("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"),
            Unreadable::TransferCoding
        );
        assert_eq!(refusal("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), Unreadable::Framing);
        with("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n", |m| {
            assert_eq!(m.framing, Framing::Chunked);
        });
        with("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 007\r\n\r\n", |m| {
            assert_eq!(m.framing, Framing::Length(7));
        });
    }

    #[test]
    fn lines_end_in_crlf_only() {
        for text in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(refusal(text), Unreadable::LineEnd, "{text:?}");
        }
        for text in ["GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "GET / HTTP/1.1\rHost: a\r\n\r\n"] {
            assert!(matches!(refusal(text), Unreadable::Syntax(_) | Unreadable::Version), "{text:?}");
        }
    }

    #[test]
    fn syntax_that_lenient_parsers_take_is_refused() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \x7f\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX(y): x\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET /\r\n\r\n",
        ] {
            assert!(matches!(refusal(text), Unreadable::Syntax(_) | Unreadable::Version), "{text:?}");
        }
        for version in ["HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "http/1.1", "HTTP/1", "HTTP/11"] {
            assert!(
                matches!(
                    refusal(&format!("GET / {version}\r\nHost: a\r\n\r\n")),
                    Unreadable::Version | Unreadable::Syntax(_)
                ),
                "{version}"
            );
        }
    }

    #[test]
    fn there_is_one_host_and_the_target_does_not_contradict_it() {
        for text in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET http://a:81/ HTTP/1.1\r\nHost: a:80\r\n\r\n",
        ] {
            assert_eq!(refusal(text), Unreadable::Host, "{text:?}");
        }
        with("GET http://A.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n", |m| {
            assert_eq!((m.head.path, m.head.host), ("/x", "a.example"));
        });
        with("GET / HTTP/1.0\r\n\r\n", |m| assert_eq!(m.head.host, ""));
    }

    #[test]
    fn connections_are_kept_as_the_version_says() {
        with("GET / HTTP/1.0\r\n\r\n", |m| assert!(!m.keep_alive));
        with("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", |m| assert!(m.keep_alive));
        with("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n", |m| assert!(!m.keep_alive));
    }

    #[test]
    fn upgrades_need_both_headers_and_no_body_and_are_never_to_http() {
        let upgrade =
            |headers: &str| with(&format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n"), |m| m.head.upgrade);
        assert!(upgrade("Connection: keep-alive, Upgrade\r\nUpgrade: websocket"));
        assert!(upgrade("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0"));
        for headers in [
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
            "Connection: Upgrade\r\nUpgrade: websocket, H2C",
            "Connection: Upgrade\r\nUpgrade: HTTP/2.0",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1",
            "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked",
        ] {
            assert!(!upgrade(headers), "{headers}");
        }
    }

    #[test]
    fn too_many_fields_are_a_refusal_of_their_own() {
        let many = "X: y\r\n".repeat(MAX_FIELDS);
        let refused = refusal(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"));
        assert_eq!(refused.status().0, 431);
    }
}

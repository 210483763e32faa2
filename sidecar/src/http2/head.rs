//! An HTTP/2 request's head, in the form that every stage reads.

use http::{HeaderValue, Uri, Version};
use hyper::body::{Body, Incoming};

use super::app_body::append;
use crate::config::Policy;
use crate::http1::request_head::content_length;
use crate::http1::target::is_host;
use crate::http1::unreadable::Unreadable;
use crate::request::forward::Framing;
use crate::request::head::{Field, Head, Known, MAX_FIELDS, Protocol};

/// Of what the app is sent: those of the client, and ours, of which a policy's claims alone are up to sixteen.
pub const MAX_WRITTEN_FIELDS: usize = MAX_FIELDS + 32;

const SOCKET_KEY: &str = "sec-websocket-key";

pub struct Message<'p> {
    method: &'p str,
    path: &'p str,
    query: Option<&'p str>,
    host: &'p str,
    fields: Vec<Field<'p>>,
    upgrade: bool,
    pub framing: Framing,
}

impl Message<'_> {
    pub fn head(&self) -> Head<'_> {
        Head {
            method: self.method,
            path: self.path,
            query: self.query,
            host: self.host,
            fields: &self.fields,
            protocol: Protocol::Http2,
            upgrade: self.upgrade,
        }
    }
}

/// Makes one line of a cookie that came in pieces (RFC 9113 §8.2.3), where they are many: they are not so many fields.
pub fn join_cookies(headers: &mut http::HeaderMap) {
    if headers.len() <= MAX_FIELDS / 2 {
        return;
    }
    let pieces: Vec<&[u8]> = headers.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&pieces.join(&b"; "[..]))
        && pieces.len() > 1
    {
        headers.insert(http::header::COOKIE, whole);
    }
}

/// `socket_key`: the request opens a WebSocket, for which the app is asked as HTTP/1.1 asks, with this key (RFC 8441 §5).
pub fn read<'p>(
    parts: &'p http::request::Parts,
    body: &Incoming,
    policy: &Policy,
    socket_key: Option<&'p str>,
) -> Result<Message<'p>, Unreadable> {
    let mut host = parts.uri.authority().map(http::uri::Authority::as_str);
    let mut host_seen = false;
    let mut length = None;
    let mut size = 0;
    let mut fields = Vec::with_capacity(parts.headers.len());
    for (name, value) in &parts.headers {
        let field = Field { name: name.as_str(), value: value.as_bytes() };
        size += field.name.len() + field.value.len();
        // RFC 9113 §8.2.1. HTTP/1.1 would not tell the app of it.
        if field.value.trim_ascii().len() < field.value.len() {
            return Err(Unreadable::Syntax(httparse::Error::HeaderValue));
        }
        match Known::of(field.name) {
            Some(Known::Host) => {
                let named = value.to_str().map_err(|_| Unreadable::Host)?;
                // RFC 9113 §8.3.1: it may repeat :authority, not contradict it.
                if host_seen || host.is_some_and(|host| !host.eq_ignore_ascii_case(named)) {
                    return Err(Unreadable::Host);
                }
                host_seen = true;
                host = Some(named);
            }
            Some(Known::ContentLength) if length.is_none() => {
                length = Some(content_length(field.value).ok_or(Unreadable::Framing)?);
            }
            Some(Known::ContentLength | Known::TransferEncoding) => return Err(Unreadable::Framing),
            // The app is given our own.
            None if socket_key.is_some() && field.name == SOCKET_KEY => continue,
            _ => {}
        }
        fields.push(field);
    }
    let path = parts.uri.path();
    let query = parts.uri.query();
    let target = path.len() + query.map_or(0, str::len);
    let limit = usize::try_from(policy.limits.request_headers).unwrap_or(usize::MAX);
    if target > limit {
        return Err(Unreadable::TargetTooLong);
    }
    if size + target > limit {
        return Err(Unreadable::HeadTooLarge);
    }
    // RFC 9113 §8.3.1; hyper lets others pass.
    if path == "*" && parts.method != http::Method::OPTIONS {
        return Err(Unreadable::Target);
    }
    if parts.uri.scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(Unreadable::Target);
    }
    if !path.is_ascii() || !query.unwrap_or_default().is_ascii() {
        return Err(Unreadable::Target);
    }
    if let Some(key) = socket_key {
        fields.push(Field { name: "upgrade", value: b"websocket" });
        fields.push(Field { name: SOCKET_KEY, value: key.as_bytes() });
    }
    if fields.len() > MAX_FIELDS {
        return Err(Unreadable::Syntax(httparse::Error::TooManyHeaders));
    }
    let host = host.filter(|host| is_host(host)).ok_or(Unreadable::Host)?;
    let framing = match length {
        _ if body.is_end_stream() => match length {
            // A body was announced that does not come.
            Some(length) if length > 0 => return Err(Unreadable::Framing),
            Some(_) => Framing::Length(0),
            None => Framing::None,
        },
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    let method = if socket_key.is_some() { "GET" } else { parts.method.as_str() };
    Ok(Message { method, path, query, host, fields, upgrade: socket_key.is_some(), framing })
}

/// The head that an HTTP/1.1 app would get, as HTTP/2.
pub fn onward<B>(head: &Head<'_>, body: B) -> Result<http::Request<B>, Unreadable> {
    let target = match head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.to_owned(),
    };
    let uri = Uri::builder().scheme("http").authority(head.host).path_and_query(target).build();
    let mut request = http::Request::new(body);
    *request.method_mut() = http::Method::from_bytes(head.method.as_bytes()).map_err(|_| Unreadable::Target)?;
    *request.uri_mut() = uri.map_err(|_| Unreadable::Target)?;
    *request.version_mut() = Version::HTTP_2;
    let goes_on = |known: Option<Known>| match known {
        Some(Known::ContentLength) | None => true,
        Some(Known::Host) => false,
        Some(known) => !known.is_per_hop(),
    };
    for field in head.fields.iter().filter(|field| goes_on(Known::of(field.name))) {
        append(request.headers_mut(), field.name, field.value);
    }
    request.headers_mut().insert(http::header::TE, HeaderValue::from_static("trailers"));
    Ok(request)
}

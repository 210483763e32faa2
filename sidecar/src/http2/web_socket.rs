//! WebSockets over HTTP/2 (RFC 8441): a stream of the client's connection, and one of the app's opened as RFC 6455 says.

use std::rc::Rc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::request::Parts;
use http::{HeaderName, Method, StatusCode};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sha1::{Digest as _, Sha1};
use tokio::net::TcpStream;

use super::app_body::{AppEnd, Timed};
use super::body::ReplyBody;
use super::kept::Counted;
use super::plain::{Answer, read_head};
use super::{Response, Session};
use crate::http1::buffer::Buffer;
use crate::http1::io::{Limits, write_all};
use crate::http1::reply_head::InvalidReply;
use crate::metrics::Cut;
use crate::request::gate::Forwarding;
use crate::request::rescue::Failure;
use crate::upgrade::shuttle;
use crate::upstream::{self, UpstreamError};
use crate::worker::Worker;
use crate::worker::deadlines::Bond;

const ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");
const SOCKET_KEY_FIELD: &[u8] = b"sec-websocket-key:";

/// The `Sec-WebSocket-Key` for the app, if the request asks for a WebSocket; clients over HTTP/2 send none. It keeps caches from
/// answering, of which there is none on the way to localhost, so it need only be new.
pub fn key(parts: &Parts, worker: &Worker) -> Option<String> {
    let protocol = parts.extensions.get::<Protocol>()?;
    if parts.method != Method::CONNECT || !protocol.as_str().eq_ignore_ascii_case("websocket") {
        return None;
    }
    let id = format!("{:0>16}", worker.new_decision());
    Some(BASE64_STANDARD.encode(&id.as_bytes()[id.len() - 16..]))
}

/// Asks the app, and answers 200 where it answers 101.
pub async fn open(
    session: &Rc<Session>,
    forwarding: &Rc<Forwarding>,
    switching: OnUpgrade,
) -> Result<Response, Failure> {
    let timed = Timed::of_stream(session, forwarding.policy.limits.idle_timeout);
    timed.watch().await;
    timed.bind(forwarding, Bond::Unanswered);
    let key = sent_key(&forwarding.head);
    let (port, policy) = (session.app_port, &forwarding.policy);
    let mut app = upstream::fresh(&session.worker, port, policy, timed.deadline()).await?.stream;
    let limits = Limits { worker: &session.worker, deadline: timed.deadline() };
    write_all(&mut app, &forwarding.head, limits).await.map_err(UpstreamError::from)?;
    let mut read = Buffer::default();
    let mut answer = read_head(session, forwarding, &mut app, &mut read, limits).await?;
    if answer.status == StatusCode::SWITCHING_PROTOCOLS {
        // The client has no key to check it by (RFC 8441 §5), so that falls to us (RFC 6455 §4.1).
        if answer.headers.remove(ACCEPT).is_none_or(|accept| accept.as_bytes() != expected(key).as_bytes()) {
            return Err(UpstreamError::from(InvalidReply::Handshake).into());
        }
        forwarding.answered(&session.worker, &session.peer, StatusCode::OK.as_u16());
        let mut response = http::Response::new(ReplyBody::whole(bytes::Bytes::new()));
        *response.headers_mut() = std::mem::take(&mut answer.headers);
        tokio::task::spawn_local(tunnel(Rc::clone(session), Rc::clone(forwarding), switching, app, read));
        return Ok(response);
    }
    refusal(&answer)?;
    Ok(answer.respond(AppEnd::Whole(app), read, timed, session, forwarding))
}

/// The key that the app was sent.
fn sent_key(head: &[u8]) -> &[u8] {
    let mut lines = head.split(|b| *b == b'\n').filter_map(|line| line.strip_prefix(SOCKET_KEY_FIELD));
    lines.next().unwrap_or_default().trim_ascii()
}

/// What an app makes of it that opens a WebSocket (RFC 6455 §4.2.2).
fn expected(key: &[u8]) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    BASE64_STANDARD.encode(digest)
}

/// Any 2xx would tell the client that its socket is open (RFC 9110 §9.3.6).
fn refusal(answer: &Answer) -> Result<(), UpstreamError> {
    if answer.status < StatusCode::MULTIPLE_CHOICES { Err(InvalidReply::NoSwitch.into()) } else { Ok(()) }
}

async fn tunnel(
    session: Rc<Session>,
    forwarding: Rc<Forwarding>,
    switching: OnUpgrade,
    mut app: TcpStream,
    mut reply: Buffer,
) {
    let _counted = Counted::tunnel(&session);
    session.tunnels.set(session.tunnels.get() + 1);
    session.worker.runtime.metrics.upgraded.inc();
    // A client that is gone has no stream any more.
    if let Ok(stream) = switching.await {
        let timed = Timed::new(&session, forwarding.policy.limits.stream_idle_timeout);
        timed.watch().await;
        timed.bind(&forwarding, Bond::Stream);
        let limits = Limits { worker: &session.worker, deadline: timed.deadline() };
        let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(stream));
        let (mut from_app, mut to_app) = app.split();
        let mut input = Buffer::default();
        let up = (&mut input, &mut from_client, &mut to_app);
        let down = (&mut reply, &mut from_app, &mut to_client);
        shuttle(up, down, limits).await;
        if timed.deadline().has_passed() {
            forwarding.cut(&session.worker, &session.peer, forwarding.lateness(&session.worker, Cut::TimedOut));
        }
    }
    session.worker.runtime.metrics.upgraded.dec();
    session.tunnels.set(session.tunnels.get() - 1);
    session.progress();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_answered_as_the_rfc_says() {
        let head = b"GET /chat HTTP/1.1\r\nHost: a\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        assert_eq!(expected(sent_key(head)), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(sent_key(b"GET / HTTP/1.1\r\n\r\n"), b"");
    }
}

//! The beginning of a connection over TLS, in its own task and within its own time.

use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::unreadable::Unreadable;
use super::{Alpn, Connection, local};
use crate::client_stream::ClientStream;
use crate::log;
use crate::metrics::Handshake;
use crate::request::ending::turn_away;
use crate::tls::pair::ALPN_HTTP2;
use crate::worker::Worker;

/// From the first byte on as well as before it.
const SECONDS: u64 = 10;
/// What the session holds beside its buffers until both sides agree, measured generously.
const UNDER_WAY: usize = 16 << 10;
/// RFC 8446 §5.1: every connection begins with a record of this type.
const HANDSHAKE_RECORD: u8 = 22;

/// A stream as these ports speak; none while there is no certificate.
pub(super) fn stream(socket: TcpStream, worker: &Rc<Worker>) -> Option<ClientStream> {
    let Some(certificates) = &worker.runtime.certificates else { return Some(ClientStream::Plain(socket)) };
    let Some(pair) = certificates.current() else {
        worker.runtime.metrics.tls_handshakes.of(Handshake::NoCertificate).inc();
        return None;
    };
    ClientStream::tls(socket, &pair, Rc::clone(worker)).ok()
}

/// What a connection begins with.
enum First {
    Tls,
    Http,
    /// Nothing, or nothing that there is an answer to.
    Else,
}

impl Connection {
    /// False: nothing can be said, or everything has been.
    pub(super) async fn shake_hands(&mut self, peer: IpAddr) -> bool {
        let seconds = SECONDS.min(self.patience());
        self.deadline.allow(&self.worker.deadlines, seconds);
        let outcome = match self.first().await {
            First::Else => return false,
            First::Http => {
                self.refuse_plain_http();
                Handshake::PlainHttp
            }
            First::Tls if self.worker.buffers.is_short() => {
                self.worker.shed();
                Handshake::NoRoom
            }
            First::Tls => match self.agree().await {
                Ok(()) => Handshake::Done,
                Err(error) if error.kind() == ErrorKind::TimedOut => Handshake::TimedOut,
                Err(error) => {
                    log::debug("TLS handshake failed", &[("client", &peer), ("error", &error)]);
                    Handshake::Failed
                }
            },
        };
        self.worker.runtime.metrics.tls_handshakes.of(outcome).inc();
        outcome == Handshake::Done
    }

    /// Looks without taking: whoever connects and says nothing costs no memory.
    async fn first(&mut self) -> First {
        let Self { stream: ClientStream::Tls(stream), worker, deadline, late, .. } = self else { return First::Else };
        let stream = stream.get_mut();
        let mut bytes = [0; 3];
        let mut first = ReadBuf::new(&mut bytes);
        let looked = poll_fn(|cx| match stream.socket().poll_peek(cx, &mut first) {
            Poll::Pending if deadline.has_passed() || !worker.is_worth_waiting(false, *late) => Poll::Ready(Ok(0)),
            other => other,
        });
        if looked.await.is_err() {
            return First::Else;
        }
        match first.filled() {
            [HANDSHAKE_RECORD, ..] => First::Tls,
            // HTTP/2 would take our words for a frame.
            b"P" | b"PR" | b"PRI" => First::Else,
            [byte, ..] if byte.is_ascii_uppercase() => First::Http,
            _ => First::Else,
        }
    }

    async fn agree(&mut self) -> io::Result<()> {
        let _lent = self.worker.buffers.lend(UNDER_WAY);
        let Self { stream: ClientStream::Tls(stream), deadline, alpn, peer, .. } = self else { return Ok(()) };
        let stream = stream.get_mut();
        poll_fn(|cx| match stream.poll_handshake(cx) {
            Poll::Pending if deadline.has_passed() => Poll::Ready(Err(ErrorKind::TimedOut.into())),
            other => other,
        })
        .await?;
        *alpn = match stream.alpn() {
            None => Alpn::Nothing,
            Some(protocol) if protocol == ALPN_HTTP2 => Alpn::Http2,
            Some(_) => Alpn::Http1,
        };
        peer.secure = true;
        Ok(())
    }

    /// In the form that its sender understands.
    fn refuse_plain_http(&mut self) {
        let response = turn_away(&self.worker, &self.peer, &Unreadable::PlainHttp.into());
        let mut words = Vec::new();
        local::write(&response, false, true, self.worker.now(), &mut words);
        self.stream.discard_unread();
        if let ClientStream::Tls(stream) = &self.stream {
            // Who does not take it at once goes without.
            let _ = stream.borrow().socket().try_write(&words);
        }
    }
}

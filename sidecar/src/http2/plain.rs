//! A request that is no gRPC call, sent on as HTTP/1.1.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use hyper::body::{Body, Incoming};
use tokio::io::AsyncRead;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::oneshot;

use super::app_body::{AppBody, AppEnd, Timed, append, header_map, tell_decision};
use super::body::ReplyBody;
use super::{Response, Session, date};
use crate::http1::buffer::Buffer;
use crate::http1::chunked::write_chunk;
use crate::http1::io::{Limits, fill, write_all};
use crate::http1::reply_head::{self, InvalidReply, MAX_INTERIM, MAX_REPLY_HEAD, ReplyFraming};
use crate::http1::request_body::may_trail;
use crate::http1::request_head::field_store;
use crate::http1::unreadable::Unreadable;
use crate::request::forward::{Framing, write_field};
use crate::request::gate::{Forwarding, Granted};
use crate::request::hand_back::{self, Wishes};
use crate::request::rescue::Failure;
use crate::upstream::{self, UpstreamError};
use crate::worker::deadlines::Bond;

pub async fn forward(session: &Rc<Session>, forwarding: &Rc<Forwarding>, body: Incoming) -> Result<Response, Failure> {
    let worker = &session.worker;
    let timed = Timed::of_stream(session, forwarding.policy.limits.idle_timeout);
    timed.watch().await;
    timed.bind(forwarding, Bond::Unanswered);
    let bodyless = matches!(forwarding.reading.framing, Framing::None | Framing::Length(0));
    let retriable = bodyless && forwarding.is_idempotent();
    let mut read = Buffer::default();
    let (port, policy) = (session.app_port, &forwarding.policy);
    let mut app = upstream::open(worker, port, policy, retriable, timed.deadline()).await?;
    loop {
        let limits = Limits { worker, deadline: timed.deadline() };
        let sent = write_all(&mut app.stream, &forwarding.head, limits).await;
        if !bodyless {
            sent.map_err(UpstreamError::from)?;
            return with_body(session, forwarding, app.stream, body, read, timed).await;
        }
        match first_bytes(&mut app.stream, &mut read, limits).await {
            Ok(()) => {}
            Err(_) if app.reused && retriable && read.is_empty() && !timed.deadline().has_passed() => {
                app = upstream::fresh(worker, port, policy, timed.deadline()).await?;
                continue;
            }
            Err(error) => return Err(error.into()),
        }
        let answer = read_head(session, forwarding, &mut app.stream, &mut read, limits).await?;
        return Ok(answer.respond(AppEnd::Whole(app.stream), read, timed, session, forwarding));
    }
}

/// Body and answer at the same time.
async fn with_body(
    session: &Rc<Session>,
    forwarding: &Rc<Forwarding>,
    stream: tokio::net::TcpStream,
    body: Incoming,
    mut read: Buffer,
    timed: Rc<Timed>,
) -> Result<Response, Failure> {
    let (mut from_app, to_app) = stream.into_split();
    let (sender, receiver) = oneshot::channel();
    let sending = send_body(Rc::clone(session), Rc::clone(forwarding), Rc::clone(&timed), body, to_app, sender);
    let mut sending = tokio::task::spawn_local(sending);
    let limits = Limits { worker: &session.worker, deadline: timed.deadline() };
    let answer = {
        let mut reading = pin!(read_head(session, forwarding, &mut from_app, &mut read, limits));
        let mut sent = false;
        poll_fn(|cx| {
            if !sent && let Poll::Ready(result) = Pin::new(&mut sending).poll(cx) {
                sent = true;
                // An app that takes no more may have answered.
                if let Ok(Err(unreadable)) = result {
                    return Poll::Ready(Err(unreadable.into()));
                }
            }
            reading.as_mut().poll(cx)
        })
        .await
    };
    // Nobody sends the rest to an app whose answer nobody waits for.
    let answer = answer.inspect_err(|_| sending.abort())?;
    Ok(answer.respond(AppEnd::Half(from_app, receiver), read, timed, session, forwarding))
}

/// Sends the request's body, and gives the connection's half back if all of it went. Nobody can expect an answer meanwhile, so the time
/// for one begins anew with each piece. It may go on behind an answer, but not without its session.
async fn send_body(
    session: Rc<Session>,
    forwarding: Rc<Forwarding>,
    answer: Rc<Timed>,
    body: Incoming,
    mut to_app: OwnedWriteHalf,
    done: oneshot::Sender<OwnedWriteHalf>,
) -> Result<(), Unreadable> {
    let timed = Timed::new(&session, forwarding.policy.limits.idle_timeout);
    timed.bind(&forwarding, Bond::Unanswered);
    let limits = Limits { worker: &session.worker, deadline: timed.deadline() };
    let chunked = forwarding.reading.framing == Framing::Chunked;
    let mut allowed = forwarding.policy.limits.request_body;
    let mut out = Vec::new();
    let mut body = pin!(body);
    let mut ended = false;
    loop {
        let frame = poll_fn(|cx| match body.as_mut().poll_frame(cx) {
            Poll::Pending if timed.has_passed(cx) => Poll::Ready(Err(Unreadable::TimedOut)),
            other => other.map(Ok),
        })
        .await;
        // Whoever waits for the answer learns of that by himself, and is told otherwise while the app signs out.
        if frame.is_err() && forwarding.is_cut_off(&session.worker) {
            return Ok(());
        }
        let frame = frame?;
        out.clear();
        match frame {
            // The client reset the stream; nobody waits for an answer.
            Some(Err(_)) => return Err(Unreadable::CutOff),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    allowed = allowed.checked_sub(data.len() as u64).ok_or(Unreadable::BodyTooLarge)?;
                    // Frames without content are no progress.
                    if data.is_empty() {
                        continue;
                    }
                    timed.progress();
                    answer.progress();
                    if chunked {
                        write_chunk(data, &mut out);
                    } else {
                        out.extend_from_slice(data);
                    }
                } else if let Some(trailers) = frame.trailers_ref() {
                    ended = true;
                    if chunked {
                        out.extend_from_slice(b"0\r\n");
                        let reserved = &forwarding.policy.reserved;
                        for (name, value) in trailers.iter().filter(|(name, _)| may_trail(name.as_str(), reserved)) {
                            write_field(name.as_str().as_bytes(), value.as_bytes(), &mut out);
                        }
                        out.extend_from_slice(b"\r\n");
                    }
                }
            }
            None => {
                if chunked && !ended {
                    out.extend_from_slice(b"0\r\n\r\n");
                }
                if write_all(&mut to_app, &out, limits).await.is_ok() {
                    // Nobody takes it back if the answer is over already.
                    let _ = done.send(to_app);
                }
                return Ok(());
            }
        }
        if write_all(&mut to_app, &out, limits).await.is_err() {
            return Ok(());
        }
    }
}

async fn first_bytes<R: AsyncRead + Unpin>(
    from: &mut R,
    read: &mut Buffer,
    limits: Limits<'_>,
) -> Result<(), UpstreamError> {
    match fill(read, from, limits).await? {
        0 => Err(UpstreamError::closed_after(read.filled())),
        _ => Ok(()),
    }
}

/// The head of an answer, for the client.
pub struct Answer {
    pub status: http::StatusCode,
    pub headers: http::HeaderMap,
    framing: ReplyFraming,
    app_stays: bool,
    event_stream: bool,
    signed_out: bool,
}

enum Digested {
    Interim,
    Wishes(Wishes),
    Final(Answer),
}

/// The first head of an answer that is no interim one.
pub async fn read_head<R: AsyncRead + Unpin>(
    session: &Session,
    forwarding: &Forwarding,
    from: &mut R,
    read: &mut Buffer,
    limits: Limits<'_>,
) -> Result<Answer, Failure> {
    let mut granted = Granted::Nothing;
    let mut interim = 0;
    if read.is_empty() {
        first_bytes(from, read, limits).await?;
    }
    loop {
        match digest(session, forwarding, granted, read)? {
            Some(Digested::Final(answer)) => return Ok(answer),
            Some(Digested::Interim) if interim == MAX_INTERIM => {
                return Err(UpstreamError::from(InvalidReply::Interim).into());
            }
            // hyper's server has no way to send 1xx.
            Some(Digested::Interim) => interim += 1,
            Some(Digested::Wishes(wishes)) => {
                granted = forwarding.grant(limits, wishes).await?;
            }
            None => {
                if read.is_full() {
                    if read.capacity() >= MAX_REPLY_HEAD {
                        return Err(UpstreamError::from(InvalidReply::TooLarge).into());
                    }
                    read.grow(MAX_REPLY_HEAD, &session.worker.buffers);
                }
                first_bytes(from, read, limits).await?;
            }
        }
    }
}

fn digest(
    session: &Session,
    forwarding: &Forwarding,
    granted: Granted,
    read: &mut Buffer,
) -> Result<Option<Digested>, Failure> {
    let mut store = field_store();
    let parsed =
        reply_head::parse(read.filled(), forwarding.reading.to_head, &mut store).map_err(UpstreamError::from)?;
    let Some(message) = parsed else { return Ok(None) };
    if message.status == 101 && !forwarding.upgrade {
        return Err(UpstreamError::from(InvalidReply::Switch).into());
    }
    let length = message.length;
    if message.status < 200 && message.status != 101 {
        read.consume(length);
        return Ok(Some(Digested::Interim));
    }
    if granted == Granted::Nothing
        && let Some(wishes) = hand_back::wishes(message.fields)?
    {
        return Ok(Some(Digested::Wishes(wishes)));
    }
    let mut headers = header_map(message.fields, forwarding, session);
    if message.status != 101 {
        date(&mut headers, session.worker.now());
        if forwarding.is_private(message.fields) {
            append(&mut headers, "cache-control", b"private");
        }
    }
    let signed_out = granted == Granted::SignedOut;
    if signed_out {
        hand_back::write_expired_cookie(&forwarding.policy.token_sources, |name, value| {
            append(&mut headers, name, value);
        });
    }
    let known_length = match message.framing {
        ReplyFraming::Length(length) => Some(length),
        ReplyFraming::None if !matches!(message.status, 101 | 204) => reply_head::said_length(message.fields),
        ReplyFraming::None | ReplyFraming::Chunked | ReplyFraming::UntilClose => None,
    };
    if let Some(length) = known_length {
        headers.insert(http::header::CONTENT_LENGTH, length.into());
    }
    let status = http::StatusCode::from_u16(message.status)
        .map_err(|_| UpstreamError::from(InvalidReply::Syntax(httparse::Error::Status)))?;
    let (framing, app_stays, event_stream) = (message.framing, message.keep_alive, message.event_stream);
    read.consume(length);
    tell_decision(&mut headers, forwarding);
    Ok(Some(Digested::Final(Answer { status, headers, framing, app_stays, event_stream, signed_out })))
}

impl Answer {
    pub fn respond(
        self,
        app: AppEnd,
        read: Buffer,
        timed: Rc<Timed>,
        session: &Rc<Session>,
        forwarding: &Rc<Forwarding>,
    ) -> Response {
        timed.deadline().answers();
        if self.event_stream {
            timed.allow(forwarding.policy.limits.stream_idle_timeout);
            if !self.signed_out {
                timed.bind(forwarding, Bond::Stream);
            }
        }
        forwarding.answered(&session.worker, &session.peer, self.status.as_u16());
        let body =
            AppBody::new(app, self.app_stays, read, self.framing, timed, Rc::clone(forwarding), Rc::clone(session));
        let mut response = http::Response::new(ReplyBody::app(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

//! gRPC calls: to the app as HTTP/2, with trailers both ways.

pub mod channels;
pub mod messages;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::{Body, Frame, Incoming};

use super::app_body::{Timed, header_map, tell_decision};
use super::body::{CutShort, ReplyBody};
use super::head::{MAX_WRITTEN_FIELDS, onward};
use super::{Response, Session, date};
use crate::http1::io::Limits;
use crate::http1::request_body::may_trail;
use crate::http1::request_head;
use crate::http1::unreadable::Unreadable;
use crate::metrics::Cut;
use crate::request::gate::{Forwarding, Granted};
use crate::request::hand_back;
use crate::request::head::Field;
use crate::request::rescue::Failure;
use crate::upstream::UpstreamError;
use crate::worker::deadlines::Bond;
use channels::AppRequest;
use messages::MessageLengths;

pub async fn forward(session: &Rc<Session>, forwarding: &Rc<Forwarding>, body: Incoming) -> Result<Response, Failure> {
    let timed = Timed::of_stream(session, forwarding.policy.limits.stream_idle_timeout);
    // A call may be long in coming to its answer's head, and all the while its messages go to the app.
    timed.bind(forwarding, Bond::Unanswered);
    let too_long = Rc::<Cell<bool>>::default();
    let body = CallRequest {
        body,
        lengths: MessageLengths::new(forwarding.policy.limits.request_body),
        too_long: Rc::clone(&too_long),
        timed: Rc::clone(&timed),
        forwarding: Rc::clone(forwarding),
    };
    let request = request(&forwarding.head, body)?;
    let place =
        channels::place(&session.worker, session.app_port, timed.deadline(), forwarding.policy.limits.idle_timeout)
            .await?;
    let mut channel = place.channel();
    let mut answering = pin!(channel.send_request(request));
    let reply = poll_fn(|cx| match answering.as_mut().poll(cx) {
        Poll::Pending if timed.has_passed(cx) => Poll::Ready(Err(Failure::from(UpstreamError::TimedOut))),
        // It was given up because of the client, and not by the app.
        Poll::Ready(Err(_)) if too_long.get() => Poll::Ready(Err(Unreadable::BodyTooLarge.into())),
        Poll::Ready(Err(_)) => Poll::Ready(Err(UpstreamError::Closed.into())),
        Poll::Ready(Ok(reply)) => Poll::Ready(Ok(reply)),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    let (parts, body) = reply.into_parts();
    let given: Vec<Field<'_>> = fields_of(&parts.headers);
    let mut granted = Granted::Nothing;
    if let Some(wishes) = hand_back::wishes(&given)? {
        granted = forwarding.grant(Limits { worker: &session.worker, deadline: timed.deadline() }, wishes).await?;
    }
    if granted != Granted::SignedOut {
        timed.bind(forwarding, Bond::Stream);
    }
    let mut headers = header_map(&given, forwarding, session);
    tell_decision(&mut headers, forwarding);
    date(&mut headers, session.worker.now());
    forwarding.answered(&session.worker, &session.peer, parts.status.as_u16());
    let (forwarding, session) = (Rc::clone(forwarding), Rc::clone(session));
    let body = CallBody { body, too_long, timed, forwarding, session, over: false, _place: place };
    let mut response = http::Response::new(ReplyBody::call(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// The head that an HTTP/1.1 app would get, as HTTP/2.
fn request(head: &[u8], body: CallRequest) -> Result<http::Request<AppRequest>, Unreadable> {
    let mut store = [const { MaybeUninit::uninit() }; MAX_WRITTEN_FIELDS];
    let parsed = request_head::parse(head, &mut store)?.ok_or(Unreadable::CutOff)?.head;
    onward(&parsed, AppRequest::Call(body))
}

fn fields_of(headers: &HeaderMap) -> Vec<Field<'_>> {
    headers.iter().map(|(name, value)| Field { name: name.as_str(), value: value.as_bytes() }).collect()
}

/// A call's messages on their way to the app.
pub struct CallRequest {
    body: Incoming,
    lengths: MessageLengths,
    /// Set where a message is longer than the policy allows; the call ends with it.
    too_long: Rc<Cell<bool>>,
    /// The call's: its messages keep it alive, whichever way they go.
    timed: Rc<Timed>,
    forwarding: Rc<Forwarding>,
}

impl Body for CallRequest {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        let Poll::Ready(polled) = Pin::new(&mut self.body).poll_frame(cx) else { return Poll::Pending };
        let Some(frame) = polled else { return Poll::Ready(None) };
        let Ok(frame) = frame else { return Poll::Ready(Some(Err(CutShort))) };
        if let Some(data) = frame.data_ref() {
            if self.lengths.look_at(data).is_err() {
                self.too_long.set(true);
                return Poll::Ready(Some(Err(CutShort)));
            }
            if !data.is_empty() {
                self.timed.progress();
            }
        }
        Poll::Ready(Some(Ok(match frame.into_trailers() {
            Ok(trailers) => {
                let reserved = &self.forwarding.policy.reserved;
                Frame::trailers(
                    trailers
                        .into_iter()
                        .scan(None::<HeaderName>, |last, (name, value)| {
                            *last = name.or(last.take());
                            Some((last.clone()?, value))
                        })
                        .filter(|(name, _)| may_trail(name.as_str(), reserved))
                        .collect(),
                )
            }
            Err(frame) => frame,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// A call's answer on its way to the client.
pub struct CallBody {
    body: Incoming,
    too_long: Rc<Cell<bool>>,
    timed: Rc<Timed>,
    forwarding: Rc<Forwarding>,
    session: Rc<Session>,
    over: bool,
    _place: channels::Place,
}

impl CallBody {
    pub fn timed(&self) -> &Rc<Timed> {
        &self.timed
    }

    pub fn is_end(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending if self.timed.has_passed(cx) => {
                let cut = self.forwarding.lateness(&self.session.worker, Cut::TimedOut);
                self.cut(cut);
                return Poll::Ready(Some(Ok(Frame::trailers(last_words(cut)))));
            }
            Poll::Pending => return Poll::Pending,
            Poll::Ready(None) => {
                self.over = true;
                return Poll::Ready(None);
            }
            // It is this side that has given the call up.
            Poll::Ready(Some(Err(_))) if self.too_long.get() => {
                self.cut(Cut::RequestBroken);
                return Poll::Ready(Some(Ok(Frame::trailers(trailers("8", Unreadable::BodyTooLarge.status().1)))));
            }
            Poll::Ready(Some(Err(_))) => {
                self.cut(Cut::AppClosed);
                return Poll::Ready(Some(Err(CutShort)));
            }
            Poll::Ready(Some(Ok(frame))) => frame,
        };
        self.timed.progress();
        Poll::Ready(Some(Ok(match frame.into_trailers() {
            Ok(trailers) => {
                self.over = true;
                Frame::trailers(header_map(&fields_of(&trailers), &self.forwarding, &self.session))
            }
            Err(frame) => frame,
        })))
    }

    fn cut(&mut self, cut: Cut) {
        self.over = true;
        self.forwarding.cut(&self.session.worker, &self.session.peer, cut);
    }
}

/// What a call ends with that may not go on: `UNAUTHENTICATED`, `UNAVAILABLE` or `DEADLINE_EXCEEDED`.
fn last_words(cut: Cut) -> HeaderMap {
    match cut {
        Cut::SessionEnded => trailers("16", "The session has ended"),
        Cut::Unheard => trailers("14", "Your sign-in cannot be checked at the moment"),
        _ => trailers("4", "Nothing came for too long"),
    }
}

fn trailers(status: &'static str, message: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status));
    trailers.insert(HeaderName::from_static("grpc-message"), HeaderValue::from_static(message));
    trailers
}

impl Drop for CallBody {
    fn drop(&mut self) {
        if !self.is_end() {
            self.cut(Cut::ClientGone);
        }
    }
}

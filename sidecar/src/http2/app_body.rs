//! The body of an app's HTTP/1.1 answer, as HTTP/2 frames.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::Frame;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::Session;
use super::body::CutShort;
use crate::http1::buffer::Buffer;
use crate::http1::chunked::{ChunkedDecoder, Piece, trailer_fields};
use crate::http1::reply_head::ReplyFraming;
use crate::metrics::Cut;
use crate::request::ending::DECISION_HEADER;
use crate::request::gate::Forwarding;
use crate::request::hand_back;
use crate::worker::deadlines::{Bond, Deadline};

/// The app's connection while its answer is read.
pub enum AppEnd {
    /// The request has been sent.
    Whole(TcpStream),
    /// The request's body is still on its way; the sender gives its half back when it is done.
    Half(OwnedReadHalf, tokio::sync::oneshot::Receiver<OwnedWriteHalf>),
    Gone,
}

pub struct AppBody {
    pub app: AppEnd,
    /// The app will take another request on this connection.
    pub app_stays: bool,
    pub read: Buffer,
    left: Left,
    /// Ended before it was whole, and that was told.
    is_cut: bool,
    timed: Rc<Timed>,
    forwarding: Rc<Forwarding>,
    session: Rc<Session>,
}

enum Read {
    Some,
    /// The app has closed its side.
    Nothing,
    Failed(Cut),
}

enum Left {
    Nothing,
    Length(u64),
    Chunks(ChunkedDecoder),
    UntilClose,
}

/// A deadline that is given back.
pub struct Timed {
    session: Rc<Session>,
    deadline: Deadline,
}

impl Timed {
    /// A stream's own, which the connection looks at too: hyper asks nobody for an answer that the client does not take.
    pub fn of_stream(session: &Rc<Session>, seconds: u64) -> Rc<Self> {
        let timed = Rc::new(Self::new(session, seconds));
        session.watch(&timed);
        timed
    }

    pub fn new(session: &Rc<Session>, seconds: u64) -> Self {
        let timed = Self { session: Rc::clone(session), deadline: session.worker.deadlines.register() };
        timed.allow(seconds);
        timed
    }

    /// From now on so long without progress.
    pub fn allow(&self, seconds: u64) {
        self.deadline.allow(&self.session.worker.deadlines, seconds);
    }

    /// From now on it wakes this task.
    pub async fn watch(&self) {
        poll_fn(|cx| {
            self.deadline.watch(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Ends with the session too, if there is one.
    pub fn bind(&self, forwarding: &Forwarding, bond: Bond) {
        forwarding.bind(&self.session.worker, &self.deadline, bond);
    }

    pub fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    pub fn has_passed(&self, cx: &Context<'_>) -> bool {
        self.deadline.watch(cx);
        self.deadline.has_passed()
    }

    pub fn progress(&self) {
        self.deadline.progress(&self.session.worker.deadlines);
        self.session.progress();
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        self.session.worker.deadlines.forget(&self.deadline);
    }
}

impl AppBody {
    pub fn new(
        app: AppEnd,
        app_stays: bool,
        read: Buffer,
        framing: ReplyFraming,
        timed: Rc<Timed>,
        forwarding: Rc<Forwarding>,
        session: Rc<Session>,
    ) -> Self {
        let left = match framing {
            ReplyFraming::None => Left::Nothing,
            ReplyFraming::Length(length) => Left::Length(length),
            ReplyFraming::Chunked => Left::Chunks(ChunkedDecoder::default()),
            ReplyFraming::UntilClose => Left::UntilClose,
        };
        let mut body = Self { app, app_stays, read, left, is_cut: false, timed, forwarding, session };
        if body.is_end() {
            body.finish();
        }
        body
    }

    pub fn timed(&self) -> &Rc<Timed> {
        &self.timed
    }

    pub fn is_end(&self) -> bool {
        match &self.left {
            Left::Nothing | Left::Length(0) => true,
            Left::Length(_) | Left::Chunks(_) | Left::UntilClose => false,
        }
    }

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        loop {
            if self.is_end() {
                return Poll::Ready(None);
            }
            match self.take() {
                Err(CutShort) => return Poll::Ready(Some(Err(self.cut(Cut::AppMalformed)))),
                Ok(Some(frame)) => {
                    self.timed.progress();
                    if self.is_end() {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(frame)));
                }
                Ok(None) => {}
            }
            if self.is_end() {
                self.finish();
                return Poll::Ready(None);
            }
            match ready!(self.poll_read(cx)) {
                Read::Some => {}
                // That is how this body ends.
                Read::Nothing if matches!(self.left, Left::UntilClose) => {
                    self.left = Left::Nothing;
                    return Poll::Ready(None);
                }
                Read::Nothing => return Poll::Ready(Some(Err(self.cut(Cut::AppClosed)))),
                Read::Failed(cut) => return Poll::Ready(Some(Err(self.cut(cut)))),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        if self.read.is_full() {
            return Poll::Ready(Read::Failed(Cut::AppMalformed));
        }
        self.read.release(&self.session.worker.buffers);
        let polled = match &mut self.app {
            AppEnd::Whole(stream) => self.read.poll_fill_from_pool(cx, stream, &self.session.worker.buffers),
            AppEnd::Half(stream, _) => self.read.poll_fill_from_pool(cx, stream, &self.session.worker.buffers),
            AppEnd::Gone => return Poll::Ready(Read::Nothing),
        };
        match polled {
            Poll::Ready(Ok(0)) => Poll::Ready(Read::Nothing),
            Poll::Ready(Ok(_)) => Poll::Ready(Read::Some),
            // A reset is not the end of a body, not even of one that ends with the connection.
            Poll::Ready(Err(_)) => Poll::Ready(Read::Failed(Cut::AppClosed)),
            Poll::Pending if self.timed.has_passed(cx) => {
                Poll::Ready(Read::Failed(self.forwarding.lateness(&self.session.worker, Cut::TimedOut)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The stream is reset for this.
    fn cut(&mut self, cut: Cut) -> CutShort {
        self.is_cut = true;
        self.forwarding.cut(&self.session.worker, &self.session.peer, cut);
        CutShort
    }

    /// A frame of what was read.
    fn take(&mut self) -> Result<Option<Frame<Bytes>>, CutShort> {
        let input = self.read.filled();
        match &mut self.left {
            Left::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                let data = Bytes::copy_from_slice(&input[..count]);
                *left -= count as u64;
                self.read.consume(count);
                Ok((count > 0).then(|| Frame::data(data)))
            }
            Left::UntilClose => {
                let data = Bytes::copy_from_slice(input);
                self.read.clear();
                Ok((!data.is_empty()).then(|| Frame::data(data)))
            }
            Left::Chunks(decoder) => {
                let mut data = BytesMut::new();
                let mut consumed = 0;
                loop {
                    match decoder.next(&input[consumed..]).map_err(|_| CutShort)? {
                        Piece::Skip(count) => consumed += count,
                        Piece::Data(count) => {
                            data.extend_from_slice(&input[consumed..consumed + count]);
                            consumed += count;
                        }
                        // Trailers go in a frame of their own, after the data.
                        Piece::Trailers(_) if !data.is_empty() => {
                            decoder.again();
                            break;
                        }
                        Piece::Trailers(count) => {
                            let fields = trailer_fields(&input[consumed..consumed + count]).map_err(|_| CutShort)?;
                            let trailers = header_map(&fields, &self.forwarding, &self.session);
                            self.read.consume(consumed + count);
                            self.left = Left::Nothing;
                            return Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)));
                        }
                        Piece::NeedMore => break,
                    }
                }
                self.read.consume(consumed);
                Ok((!data.is_empty()).then(|| Frame::data(data.freeze())))
            }
            Left::Nothing => Ok(None),
        }
    }

    /// The answer is whole: the app's connection may serve another.
    fn finish(&mut self) {
        self.timed.deadline().unbind();
        let stays = self.app_stays && self.read.is_empty();
        let stream = match std::mem::replace(&mut self.app, AppEnd::Gone) {
            AppEnd::Whole(stream) => Some(stream),
            AppEnd::Half(read, mut sender) => sender.try_recv().ok().and_then(|write| read.reunite(write).ok()),
            AppEnd::Gone => None,
        };
        if let Some(stream) = stream.filter(|_| stays) {
            let worker = &self.session.worker;
            worker.pool.give_back(stream, self.session.app_port, worker.deadlines.now());
        }
    }
}

impl Drop for AppBody {
    fn drop(&mut self) {
        if !self.is_end() && !self.is_cut {
            self.cut(Cut::ClientGone);
        }
        self.session.worker.buffers.give_back(std::mem::take(&mut self.read));
    }
}

/// The fields that may leave.
pub fn header_map(fields: &[httparse::Header<'_>], forwarding: &Forwarding, session: &Session) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(fields.len());
    let guard = forwarding.leak_guard();
    let leaks = hand_back::each_field(fields, guard.as_ref(), &forwarding.policy.token_sources, |name, value| {
        append(&mut headers, name, value);
    });
    if leaks > 0 {
        forwarding.report_leak(&session.worker, &session.peer);
        tell_decision(&mut headers, forwarding);
    }
    headers
}

/// So that whoever asks about this answer can say which.
pub fn tell_decision(headers: &mut HeaderMap, forwarding: &Forwarding) {
    if let Some(Ok(id)) = forwarding.decision_id().map(HeaderValue::from_str) {
        headers.insert(DECISION_HEADER, id);
    }
}

pub fn append(headers: &mut HeaderMap, name: &str, value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(value)) {
        headers.append(name, value);
    }
}

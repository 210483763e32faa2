//! The app's answer on its way to an HTTP/1.x client.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::task::Poll;

use tokio::io::AsyncRead;

use super::buffer::{Buffer, SMALL};
use super::chunked::{ChunkedDecoder, Piece, trailer_fields, write_chunk};
use super::io::{Limits, fill_now, write_all, write_both};
use super::local::write_status;
use super::reply_head::{self, InvalidReply, MAX_INTERIM, MAX_REPLY_HEAD, ReplyFraming};
use super::request_head::field_store;
use crate::client_stream::Client;
use crate::metrics::Cut;
use crate::request::forward::{DECISION, Peer, write_date, write_field, write_length};
use crate::request::gate::{Forwarding, Granted};
use crate::request::hand_back::{self, Wishes};
use crate::request::head::Protocol;
use crate::request::rescue::Failure;
use crate::upstream::{Upstream, UpstreamError};
use crate::worker::Worker;
use crate::worker::deadlines::Bond;

pub struct Relay<'r> {
    pub limits: Limits<'r>,
    pub forwarding: &'r Forwarding,
    /// The app's bytes, not yet consumed.
    pub reply: &'r mut Buffer,
    /// Nothing was sent to the client yet but whole interim answers, after which another one may follow.
    pub silent: bool,
    /// Of a final head that is about to be.
    pub status: Option<u16>,
    pub peer: &'r Peer,
    /// The app has the whole request; else the connection cannot go on after this answer.
    pub request_done: &'r Cell<bool>,
}

#[derive(Debug)]
pub enum RelayError {
    /// The client has got no answer yet, and can be told.
    Unanswered(Failure),
    /// The client must see the connection end early.
    CutShort(Cut),
}

impl<E: Into<Failure>> From<E> for RelayError {
    fn from(error: E) -> Self {
        Self::Unanswered(error.into())
    }
}

/// Bodies up to here are copied behind their head: dearer to the processor than a vector of two only on paper.
const COPIED: usize = 4 << 10;

/// How an answer ended.
pub enum Relayed<U = Upstream> {
    Done {
        close: bool,
    },
    /// 101 was passed on; from here it is the app's connection.
    Switched(U),
}

/// [`Relayed`], before it is known what becomes of the app's connection.
pub enum Ended {
    Done { close: bool, app_stays: bool },
    Switched,
}

impl Ended {
    /// Gives the app's connection its place: pool, tunnel or end.
    pub fn settle(self, upstream: Upstream, worker: &Rc<Worker>, port: u16, request_done: bool) -> Relayed {
        match self {
            Self::Switched => Relayed::Switched(upstream),
            Self::Done { close, app_stays } => {
                if app_stays && request_done {
                    worker.pool.give_back(upstream.stream, port, worker.deadlines.now());
                }
                Relayed::Done { close: close || !request_done }
            }
        }
    }
}

/// A head that was read.
enum Digested {
    /// 1xx; written, more follows.
    Interim,
    Switching,
    /// To be granted before anything is written.
    Wishes(Wishes),
    /// And whether it is an event stream, which ends with its session at once.
    Final(Plan, bool),
}

/// How the body goes on.
#[derive(Clone, Copy)]
struct Plan {
    framing: ReplyFraming,
    /// Chunks are written, since the length is not known and the client knows chunks.
    chunks: bool,
    close: bool,
    app_stays: bool,
}

impl Relay<'_> {
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Until the app says something at all.
    pub async fn await_reply<R, C>(&mut self, from: &mut R, to: &mut C) -> Result<Result<(), UpstreamError>, RelayError>
    where
        R: AsyncRead + Unpin,
        C: Client,
    {
        Ok(match self.hear(from, to).await? {
            Ok(0) => Err(UpstreamError::closed_after(self.reply.filled())),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        })
    }

    /// What the app says next, for as long as there is a client that it could be for. 0: it has finished.
    async fn hear<R, C>(&mut self, from: &mut R, to: &mut C) -> Result<io::Result<usize>, RelayError>
    where
        R: AsyncRead + Unpin,
        C: Client,
    {
        let Limits { worker, deadline } = self.limits;
        self.reply.release(&worker.buffers);
        let heard = poll_fn(|cx| {
            let read = self.reply.poll_fill_from_pool(cx, from, &worker.buffers);
            match deadline.limit(&worker.deadlines, read) {
                Poll::Ready(read) => Poll::Ready(Some(read)),
                Poll::Pending => to.poll_gone(cx, deadline).map(|()| None),
            }
        });
        heard.await.ok_or(RelayError::CutShort(Cut::ClientGone))
    }

    /// Head, then body. `out` is empty scratch space.
    pub async fn run<R, W>(&mut self, from: &mut R, to: &mut W, out: &mut Vec<u8>) -> Result<Ended, RelayError>
    where
        R: AsyncRead + Unpin,
        W: Client,
    {
        let mut granted = Granted::Nothing;
        let mut interim = 0;
        let (plan, event_stream) = loop {
            match self.digest(granted, out)? {
                None => self.read_more_head(from, to).await?,
                Some(Digested::Interim) if interim == MAX_INTERIM => {
                    return Err(UpstreamError::from(InvalidReply::Interim).into());
                }
                Some(Digested::Interim) => {
                    interim += 1;
                    self.write(to, out, 0).await?;
                    self.silent = true;
                }
                Some(Digested::Switching) => {
                    self.write(to, out, 0).await?;
                    return Ok(Ended::Switched);
                }
                Some(Digested::Wishes(wishes)) => {
                    granted = self.forwarding.grant(self.limits, wishes).await?;
                }
                Some(Digested::Final(plan, event_stream)) => break (plan, event_stream),
            }
        };
        let Limits { worker, deadline } = self.limits;
        deadline.answers();
        if event_stream {
            deadline.allow(&worker.deadlines, self.forwarding.policy.limits.stream_idle_timeout);
            if granted != Granted::SignedOut {
                self.forwarding.bind(worker, deadline, Bond::Stream);
            }
        }
        match plan.framing {
            ReplyFraming::None => self.write(to, out, 0).await?,
            ReplyFraming::Length(length) => self.relay_length(length, from, to, out).await?,
            ReplyFraming::Chunked => self.relay_chunked(plan, from, to, out).await?,
            ReplyFraming::UntilClose => self.relay_until_close(plan, from, to, out).await?,
        }
        // More than was announced: nobody knows what it would answer.
        let app_stays = plan.app_stays && self.reply.is_empty();
        Ok(Ended::Done { close: plan.close, app_stays })
    }

    /// Reads a head from what there is and writes it for the client.
    fn digest(&mut self, granted: Granted, out: &mut Vec<u8>) -> Result<Option<Digested>, RelayError> {
        let forwarding = self.forwarding;
        let mut store = field_store();
        let parsed = reply_head::parse(self.reply.filled(), forwarding.reading.to_head, &mut store)
            .map_err(UpstreamError::from)?;
        let Some(message) = parsed else { return Ok(None) };
        if message.status == 101 && !forwarding.upgrade {
            return Err(UpstreamError::Invalid(InvalidReply::Switch).into());
        }
        let interim = message.status < 200 && message.status != 101;
        if granted == Granted::Nothing
            && !interim
            && let Some(wishes) = hand_back::wishes(message.fields)?
        {
            return Ok(Some(Digested::Wishes(wishes)));
        }
        let known_length = match message.framing {
            ReplyFraming::Length(length) => Some(length),
            ReplyFraming::None => reply_head::said_length(message.fields),
            ReplyFraming::Chunked | ReplyFraming::UntilClose => None,
        };
        let delimited = matches!(message.framing, ReplyFraming::Length(_) | ReplyFraming::None);
        let chunks = !delimited && forwarding.reading.protocol == Protocol::Http11;
        let goes_on = forwarding.reading.keep_alive && self.request_done.get() && (delimited || chunks);
        let close = !goes_on || self.limits.worker.is_leaving();
        if !(interim && forwarding.reading.protocol == Protocol::Http10) {
            write_status(message.status, out);
            let guard = forwarding.leak_guard();
            let sources = &forwarding.policy.token_sources;
            let mut write = |name: &str, value: &[u8]| write_field(name.as_bytes(), value, out);
            let mut leaks = hand_back::each_field(message.fields, guard.as_ref(), sources, &mut write);
            leaks += match message.status {
                101 => hand_back::switched(message.fields, guard.as_ref(), write),
                426 => hand_back::offered(message.fields, guard.as_ref(), write),
                _ => 0,
            };
            if leaks > 0 {
                forwarding.report_leak(self.limits.worker, self.peer);
            }
            if !interim && let Some(id) = forwarding.decision_id() {
                write_field(DECISION, id.as_bytes(), out);
            }
            if message.status != 101 && !interim {
                // RFC 9110 §6.6.1: where the app has no clock, whoever passes its answer on has.
                if !message.dated {
                    write_date(self.limits.worker.now(), out);
                }
                if forwarding.is_private(message.fields) {
                    out.extend_from_slice(b"Cache-Control: private\r\n");
                }
                if granted == Granted::SignedOut {
                    hand_back::write_expired_cookie(sources, |name, value| write_field(name.as_bytes(), value, out));
                }
                if let Some(length) = known_length
                    && message.status != 204
                {
                    write_length(length, out);
                }
                if chunks {
                    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                }
                if close {
                    out.extend_from_slice(b"Connection: close\r\n");
                } else if forwarding.reading.protocol == Protocol::Http10 {
                    out.extend_from_slice(b"Connection: keep-alive\r\n");
                }
            }
            out.extend_from_slice(b"\r\n");
        }
        let (framing, length, status) = (message.framing, message.length, message.status);
        let (app_stays, event_stream) = (message.keep_alive, message.event_stream);
        self.reply.consume(length);
        if interim {
            return Ok(Some(Digested::Interim));
        }
        self.status = Some(status);
        if status == 101 {
            return Ok(Some(Digested::Switching));
        }
        Ok(Some(Digested::Final(Plan { framing, chunks, close, app_stays }, event_stream)))
    }

    async fn read_more_head<R, C>(&mut self, from: &mut R, to: &mut C) -> Result<(), RelayError>
    where
        R: AsyncRead + Unpin,
        C: Client,
    {
        if self.reply.is_full() {
            if self.reply.capacity() >= MAX_REPLY_HEAD {
                return Err(UpstreamError::from(InvalidReply::TooLarge).into());
            }
            self.reply.grow(MAX_REPLY_HEAD, &self.limits.worker.buffers);
        }
        Ok(self.await_reply(from, to).await??)
    }

    /// Writes `out` and then `count` bytes of the reply, and forgets both.
    async fn write<W: Client>(&mut self, to: &mut W, out: &mut Vec<u8>, count: usize) -> Result<(), RelayError> {
        if out.is_empty() && count == 0 {
            return Ok(());
        }
        self.silent = false;
        if let Some(status) = self.status.take() {
            self.forwarding.answered(self.limits.worker, self.peer, status);
        }
        if !out.is_empty() && count > 0 && count <= COPIED {
            out.extend_from_slice(&self.reply.filled()[..count]);
            self.reply.consume(count);
            write_all(to, out, self.limits).await.map_err(|error| self.untaken(&error))?;
            out.clear();
            return Ok(());
        }
        let written = write_both(to, out, &self.reply.filled()[..count], self.limits).await;
        written.map_err(|error| self.untaken(&error))?;
        out.clear();
        self.reply.consume(count);
        Ok(())
    }

    async fn relay_length<R, W>(
        &mut self,
        length: u64,
        from: &mut R,
        to: &mut W,
        out: &mut Vec<u8>,
    ) -> Result<(), RelayError>
    where
        R: AsyncRead + Unpin,
        W: Client,
    {
        let mut left = length;
        let pool = &self.limits.worker.buffers;
        let more = left > self.reply.len() as u64;
        if more && left > SMALL as u64 {
            self.reply.expect_much(pool);
        }
        // The body often follows its head at once: then both leave together.
        if more && let Some(read) = fill_now(self.reply, from, pool).await {
            match read {
                Ok(0) => return Err(UpstreamError::Closed.into()),
                Ok(_) => {}
                Err(error) => return Err(UpstreamError::from(error).into()),
            }
        }
        loop {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(self.reply.len());
            self.write(to, out, count).await?;
            left -= count as u64;
            if left == 0 {
                return Ok(());
            }
            self.more_body(from, to).await?;
        }
    }

    async fn relay_chunked<R, W>(
        &mut self,
        plan: Plan,
        from: &mut R,
        to: &mut W,
        out: &mut Vec<u8>,
    ) -> Result<(), RelayError>
    where
        R: AsyncRead + Unpin,
        W: Client,
    {
        let mut decoder = ChunkedDecoder::default();
        loop {
            self.recode(&mut decoder, plan.chunks, out)?;
            self.write(to, out, 0).await?;
            if decoder.is_done() {
                return Ok(());
            }
            if self.reply.is_full() {
                return Err(RelayError::CutShort(Cut::AppMalformed));
            }
            self.more_body(from, to).await?;
        }
    }

    /// Decodes what there is, and writes it as one chunk.
    fn recode(&mut self, decoder: &mut ChunkedDecoder, chunks: bool, out: &mut Vec<u8>) -> Result<(), RelayError> {
        let silent = self.silent;
        let bad = |_| {
            if silent {
                UpstreamError::from(InvalidReply::Chunk).into()
            } else {
                RelayError::CutShort(Cut::AppMalformed)
            }
        };
        let input = self.reply.filled();
        let begin = out.len();
        // Room for a size that is known afterwards: eight digits and CRLF.
        if chunks {
            out.extend_from_slice(b"00000000\r\n");
        }
        let data_begin = out.len();
        let mut consumed = 0;
        let mut trailers = None;
        loop {
            match decoder.next(&input[consumed..]).map_err(bad)? {
                Piece::Skip(count) => consumed += count,
                Piece::Data(count) => {
                    out.extend_from_slice(&input[consumed..consumed + count]);
                    consumed += count;
                }
                Piece::Trailers(count) => {
                    trailers = Some(consumed..consumed + count);
                    consumed += count;
                    break;
                }
                Piece::NeedMore => break,
            }
        }
        let size = out.len() - data_begin;
        if chunks && size == 0 {
            out.truncate(begin);
        } else if chunks {
            let digits = format!("{size:08x}");
            out[begin..begin + 8].copy_from_slice(digits.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if let Some(section) = trailers
            && chunks
        {
            out.extend_from_slice(b"0\r\n");
            let fields = trailer_fields(&input[section]).map_err(bad)?;
            let guard = self.forwarding.leak_guard();
            let sources = &self.forwarding.policy.token_sources;
            let leaks = hand_back::each_field(&fields, guard.as_ref(), sources, |name, value| {
                write_field(name.as_bytes(), value, out);
            });
            if leaks > 0 {
                self.forwarding.report_leak(self.limits.worker, self.peer);
                write_field(DECISION, self.forwarding.decision_id().unwrap_or_default().as_bytes(), out);
            }
            out.extend_from_slice(b"\r\n");
        }
        self.reply.consume(consumed);
        Ok(())
    }

    async fn relay_until_close<R, W>(
        &mut self,
        plan: Plan,
        from: &mut R,
        to: &mut W,
        out: &mut Vec<u8>,
    ) -> Result<(), RelayError>
    where
        R: AsyncRead + Unpin,
        W: Client,
    {
        loop {
            let count = self.reply.len();
            if plan.chunks && count > 0 {
                write_chunk(self.reply.filled(), out);
                self.reply.clear();
                self.write(to, out, 0).await?;
            } else {
                self.write(to, out, count).await?;
            }
            match self.hear(from, to).await? {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return Err(self.broken_off(&error)),
            }
        }
        if plan.chunks {
            out.extend_from_slice(b"0\r\n\r\n");
        }
        self.write(to, out, 0).await
    }

    /// The end of the app's connection inside a body is not the end of the body.
    async fn more_body<R, C>(&mut self, from: &mut R, to: &mut C) -> Result<(), RelayError>
    where
        R: AsyncRead + Unpin,
        C: Client,
    {
        match self.hear(from, to).await? {
            Ok(count) if count > 0 => Ok(()),
            Ok(_) => Err(RelayError::CutShort(Cut::AppClosed)),
            Err(error) => {
                debug_assert!(error.kind() != ErrorKind::WouldBlock);
                Err(self.broken_off(&error))
            }
        }
    }

    /// By the app.
    fn broken_off(&self, error: &io::Error) -> RelayError {
        let timed_out = error.kind() == ErrorKind::TimedOut;
        RelayError::CutShort(if timed_out { self.lateness(Cut::TimedOut) } else { Cut::AppClosed })
    }

    fn lateness(&self, otherwise: Cut) -> Cut {
        self.forwarding.lateness(self.limits.worker, otherwise)
    }

    /// By the client.
    fn untaken(&self, error: &io::Error) -> RelayError {
        let timed_out = error.kind() == ErrorKind::TimedOut;
        RelayError::CutShort(if timed_out { self.lateness(Cut::ClientStalled) } else { Cut::ClientGone })
    }
}

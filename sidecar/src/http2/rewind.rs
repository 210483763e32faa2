//! A stream of which the first bytes were read already, and the last words are heard.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Session;
use super::frames::{FrameWatch, HeadWatch};
use crate::client_stream::ClientStream;
use crate::http1::buffer::Lent;

/// Bytes at a time while there is no room: of requests alone, the smallest that there are, hyper takes as many as it finds before it lets
/// anyone look at the first, and those of all connections at once are many.
const FEW: usize = 64;

pub struct Rewind<'s> {
    read: Vec<u8>,
    given: usize,
    stream: &'s mut ClientStream,
    written: FrameWatch,
    heads: HeadWatch,
    /// For a head that is not whole.
    lent: Option<Lent>,
    session: Rc<Session>,
}

impl<'s> Rewind<'s> {
    pub fn new(read: Vec<u8>, stream: &'s mut ClientStream, head_limit: usize, session: Rc<Session>) -> Self {
        let heads = HeadWatch::new(head_limit);
        Self { read, given: 0, stream, written: FrameWatch::default(), heads, lent: None, session }
    }

    fn read_what_there_is(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.read_on(cx, buffer))?;
        let held = self.heads.see(&buffer.filled()[before..]);
        if held > 0 || self.lent.is_some() {
            self.lent = (held > 0).then(|| self.session.worker.buffers.lend(held));
        }
        Poll::Ready(Ok(()))
    }

    fn read_on(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.given < self.read.len() {
            let count = buffer.remaining().min(self.read.len() - self.given);
            buffer.put_slice(&self.read[self.given..self.given + count]);
            self.given += count;
            if self.given == self.read.len() {
                (self.read, self.given) = (Vec::new(), 0);
            }
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut *self.stream).poll_read(cx, buffer)
    }

    /// Whether the client takes what there is for it.
    fn note<T>(&self, polled: Poll<T>) -> Poll<T> {
        self.session.blocked.set(polled.is_pending());
        polled
    }

    fn watch(&mut self, bytes: &[u8]) {
        self.written.see(bytes, |error| self.session.worker.broken_http2(&self.session.peer, error));
    }
}

impl AsyncRead for Rewind<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.session.worker.buffers.is_short() {
            return self.read_what_there_is(cx, buffer);
        }
        if self.lent.is_some() && self.session.worker.buffers.is_exhausted() {
            self.session.doomed.set(true);
        }
        // Others have their turn before there is more to do.
        if self.session.has_read.get() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut few = [0; FEW];
        let mut few = ReadBuf::new(&mut few[..FEW.min(buffer.remaining())]);
        ready!(self.read_what_there_is(cx, &mut few))?;
        buffer.put_slice(few.filled());
        self.session.has_read.set(true);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Rewind<'_> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream).poll_write(cx, bytes);
        let count = ready!(self.note(polled))?;
        self.watch(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut *self.stream).poll_write_vectored(cx, slices);
        let count = ready!(self.note(polled))?;
        let mut left = count;
        for slice in slices {
            let length = left.min(slice.len());
            self.watch(&slice[..length]);
            left -= length;
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut *self.stream).poll_flush(cx);
        self.note(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }
}

//! What answers hold until they have left. hyper takes an answer, or the rest of it, long before a client does that is slow or takes
//! nothing at all; what it has taken keeps its stream counted.

use std::io::IoSlice;
use std::rc::Rc;

use bytes::{Buf, Bytes};
use hyper::body::{Body as _, Incoming};

use super::app_body::Timed;
use super::{SEND_BUFFER, STREAM_WINDOW, Session};
use crate::http1::buffer::Lent;

/// hyper's and our own state of a stream, measured generously, with a head of usual size.
const STREAM: usize = 12 << 10;
const USUAL_HEAD: usize = 4 << 10;
/// The same where all there is to say is that there is no room.
const REFUSED: usize = 6 << 10;

/// Counts a stream while it is there, and what hyper may hold for it.
pub struct Counted {
    session: Rc<Session>,
    is_refused: bool,
    _lent: Lent,
}

impl Counted {
    pub fn new(session: &Rc<Session>, request: &http::Request<Incoming>) -> Self {
        let window = if request.body().is_end_stream() { 0 } else { STREAM_WINDOW as usize };
        // hyper's, and ours for the app.
        let head = 2 * head_size(request).saturating_sub(USUAL_HEAD);
        Self::of(session, false, STREAM + head + SEND_BUFFER + window)
    }

    /// Of what a client and an app send each other at will.
    pub fn tunnel(session: &Rc<Session>) -> Self {
        Self::of(session, false, STREAM + SEND_BUFFER + STREAM_WINDOW as usize)
    }

    /// For want of room.
    pub fn refused(session: &Rc<Session>) -> Self {
        Self::of(session, true, REFUSED)
    }

    fn of(session: &Rc<Session>, is_refused: bool, bytes: usize) -> Self {
        session.streams.set(session.streams.get() + 1);
        session.refused.set(session.refused.get() + usize::from(is_refused));
        Self { session: Rc::clone(session), is_refused, _lent: session.worker.buffers.lend(bytes) }
    }

    pub fn is_refused(&self) -> bool {
        self.is_refused
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let session = &self.session;
        session.streams.set(session.streams.get() - 1);
        session.refused.set(session.refused.get() - usize::from(self.is_refused));
    }
}

fn head_size(request: &http::Request<Incoming>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    request.headers().iter().fold(target, |size, (name, value)| size + name.as_str().len() + value.len())
}

/// A stream until its answer has left, with the time it has for that.
pub struct Kept {
    counted: Counted,
    _timed: Option<Rc<Timed>>,
}

impl Kept {
    pub fn new(counted: Counted, timed: Option<Rc<Timed>>) -> Rc<Self> {
        Rc::new(Self { counted, _timed: timed })
    }

    /// hyper has all of the answer. Pieces that have not left hold the stream themselves; a head or trailers hold nothing, but they leave as
    /// soon as the connection takes any more.
    pub fn let_go(self: Rc<Self>) {
        let session = Rc::clone(&self.counted.session);
        if !session.over.get() {
            session.leaving.borrow_mut().push(self);
        }
    }
}

/// Bytes of an answer.
pub struct Piece {
    bytes: Bytes,
    _kept: Option<Rc<Kept>>,
}

impl Piece {
    pub fn new(bytes: Bytes, kept: Option<&Rc<Kept>>) -> Self {
        Self { bytes, _kept: kept.map(Rc::clone) }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(slices)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}

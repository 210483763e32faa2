//! Bodies of responses to HTTP/2 clients.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::app_body::AppBody;
use super::grpc::CallBody;
use super::kept::{Counted, Kept, Piece};

/// The stream is reset: the client sees that something is missing.
#[derive(Debug, thiserror::Error)]
#[error("the response was cut short")]
pub struct CutShort;

pub struct ReplyBody {
    content: Content,
    kept: Option<Rc<Kept>>,
}

enum Content {
    Whole(Bytes),
    App(Box<AppBody>),
    Call(Box<CallBody>),
}

impl ReplyBody {
    pub fn whole(bytes: Bytes) -> Self {
        Self { content: Content::Whole(bytes), kept: None }
    }

    pub fn app(body: AppBody) -> Self {
        Self { content: Content::App(Box::new(body)), kept: None }
    }

    pub fn call(body: CallBody) -> Self {
        Self { content: Content::Call(Box::new(body)), kept: None }
    }

    /// Keeps the stream counted until its last byte has left.
    pub(super) fn counted(mut self, counted: Counted) -> Self {
        let timed = match &self.content {
            Content::Whole(_) => None,
            Content::App(body) => Some(body.timed()),
            Content::Call(body) => Some(body.timed()),
        };
        self.kept = Some(Kept::new(counted, timed.map(Rc::clone)));
        self
    }
}

impl Body for ReplyBody {
    type Data = Piece;
    type Error = CutShort;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, CutShort>>> {
        let Self { content, kept } = &mut *self;
        let polled = match content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::App(body) => body.poll_frame(cx),
            Content::Call(body) => body.poll_frame(cx),
        };
        polled.map_ok(|frame| frame.map_data(|bytes| Piece::new(bytes, kept.as_ref())))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::App(body) => body.is_end(),
            Content::Call(body) => body.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::App(_) | Content::Call(_) => SizeHint::default(),
        }
    }
}

impl Drop for ReplyBody {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            kept.let_go();
        }
    }
}

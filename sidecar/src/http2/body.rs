//! Bodies of responses to HTTP/2 clients.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::Counted;
use super::app_body::AppBody;
use super::grpc::CallBody;

/// The stream is reset: the client sees that something is missing.
#[derive(Debug, thiserror::Error)]
#[error("the response was cut short")]
pub struct CutShort;

pub struct ReplyBody {
    content: Content,
    /// Keeps the stream counted until its last byte has left.
    _counted: Option<Counted>,
}

enum Content {
    Whole(Bytes),
    App(Box<AppBody>),
    Call(Box<CallBody>),
}

impl ReplyBody {
    pub fn whole(bytes: Bytes) -> Self {
        Self { content: Content::Whole(bytes), _counted: None }
    }

    pub fn app(body: AppBody) -> Self {
        Self { content: Content::App(Box::new(body)), _counted: None }
    }

    pub fn call(body: CallBody) -> Self {
        Self { content: Content::Call(Box::new(body)), _counted: None }
    }

    pub(super) fn counted(self, counted: Counted) -> Self {
        Self { _counted: Some(counted), ..self }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::App(body) => body.poll_frame(cx),
            Content::Call(body) => body.poll_frame(cx),
        }
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

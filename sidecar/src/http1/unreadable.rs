//! Why a request's bytes are no request.

use http::StatusCode;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("not HTTP: {0}")]
    Syntax(httparse::Error),
    #[error("a line does not end in CRLF")]
    LineEnd,
    #[error("the request target is not one")]
    Target,
    #[error("the HTTP version is not 1.0 or 1.1")]
    Version,
    #[error("plain HTTP where TLS is spoken")]
    PlainHttp,
    #[error("not HTTP by its own word")]
    AnotherProtocol,
    #[error("Host is missing, doubled or malformed, or is not the target's")]
    Host,
    #[error("the body's length is said twice or not clearly")]
    Framing,
    #[error("a transfer coding other than chunked")]
    TransferCoding,
    #[error("a chunk is malformed")]
    Chunk,
    #[error("the head is larger than the limit")]
    HeadTooLarge,
    #[error("the request line is larger than the limit")]
    TargetTooLong,
    #[error("the body is larger than the limit")]
    BodyTooLarge,
    #[error("the request did not come in time")]
    TimedOut,
    #[error("the connection ended inside the request")]
    CutOff,
}

impl Unreadable {
    /// Whoever names another protocol would take our words for something in theirs: HTTP/2 for a frame, say.
    pub fn is_answered(self) -> bool {
        self != Self::AnotherProtocol
    }

    pub fn status(self) -> (StatusCode, &'static str) {
        match self {
            Self::Syntax(httparse::Error::TooManyHeaders) | Self::HeadTooLarge => {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's headers are too large")
            }
            Self::Version => (StatusCode::HTTP_VERSION_NOT_SUPPORTED, "This version of HTTP is not spoken here"),
            Self::Syntax(_)
            | Self::AnotherProtocol
            | Self::LineEnd
            | Self::Target
            | Self::Host
            | Self::Chunk
            | Self::CutOff => (StatusCode::BAD_REQUEST, "The request is malformed"),
            Self::Framing => (StatusCode::BAD_REQUEST, "The request could be read in more than one way"),
            Self::PlainHttp => (StatusCode::BAD_REQUEST, "Plain HTTP was sent to a port that speaks TLS: use https://"),
            Self::TransferCoding => (StatusCode::NOT_IMPLEMENTED, "This transfer coding is not spoken here"),
            Self::TargetTooLong => (StatusCode::URI_TOO_LONG, "The URL is too long"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "The request's body is too large"),
            Self::TimedOut => (StatusCode::REQUEST_TIMEOUT, "The request took too long"),
        }
    }
}

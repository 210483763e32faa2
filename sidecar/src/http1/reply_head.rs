//! Bytes of the app's answer → response head and how its body ends (RFC 9112 §6.3).

use super::request_head::{FieldStore, content_length};
use crate::request::head::{Field, Known};

#[derive(Debug)]
pub struct ReplyMessage<'r> {
    pub status: u16,
    pub fields: &'r [Field<'r>],
    pub framing: ReplyFraming,
    /// The app will take another request on this connection.
    pub keep_alive: bool,
    /// `text/event-stream`: lives as long as its session, not as long as its bytes.
    pub event_stream: bool,
    /// Says when it was made.
    pub dated: bool,
    /// Bytes of the head.
    pub length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFraming {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// The app may not set the limits of what a client can make it send.
pub const MAX_REPLY_HEAD: usize = 64 << 10;

/// Interim answers (1xx) to one request: hints, or a sign of life now and then.
pub const MAX_INTERIM: u32 = 100;

/// What is wrong with the app's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReply {
    #[error("not HTTP: {0}")]
    Syntax(httparse::Error),
    #[error("its body's length is said twice or not clearly")]
    Framing,
    #[error("its head is too large")]
    TooLarge,
    #[error("it switches protocols unasked")]
    Switch,
    #[error("malformed chunk")]
    Chunk,
    #[error("one interim answer after the other")]
    Interim,
    #[error("it neither opens the WebSocket nor refuses to")]
    NoSwitch,
    #[error("it opens a WebSocket, but not the one that was asked for")]
    Handshake,
}

/// `None`: more bytes are needed.
pub fn parse<'r>(
    bytes: &'r [u8],
    to_head_request: bool,
    store: &'r mut FieldStore<'r>,
) -> Result<Option<ReplyMessage<'r>>, InvalidReply> {
    let mut reply = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut reply, bytes, store) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(InvalidReply::Syntax(error)),
    };
    let (status, version) = (reply.code.unwrap_or_default(), reply.version.unwrap_or_default());
    if !(100..=999).contains(&status) {
        return Err(InvalidReply::Syntax(httparse::Error::Status));
    }
    let fields: &'r [Field<'r>] = reply.headers;
    let mut said_length = None;
    let mut chunked = false;
    let (mut close, mut keep) = (false, false);
    let (mut event_stream, mut dated) = (false, false);
    for field in fields {
        match Known::of(field.name) {
            Some(Known::ContentLength) => {
                let value = content_length(field.value).ok_or(InvalidReply::Framing)?;
                if said_length.replace(value).is_some() {
                    return Err(InvalidReply::Framing);
                }
            }
            Some(Known::TransferEncoding) => {
                if chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(InvalidReply::Framing);
                }
                chunked = true;
            }
            Some(Known::Connection) => {
                for option in field.value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
                    close |= option.eq_ignore_ascii_case(b"close");
                    keep |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            Some(Known::ContentType) => event_stream |= is_event_stream(field.value),
            Some(Known::Date) => dated = true,
            _ => {}
        }
    }
    let bodyless = to_head_request || status < 200 || matches!(status, 204 | 304);
    let framing = match (chunked, said_length) {
        // RFC 9112 §6.1: an attempt to smuggle, or an app that cannot be understood.
        (true, Some(_)) => return Err(InvalidReply::Framing),
        _ if bodyless => ReplyFraming::None,
        (true, None) if version == 0 => return Err(InvalidReply::Framing),
        (true, None) => ReplyFraming::Chunked,
        (false, Some(0)) => ReplyFraming::None,
        (false, Some(length)) => ReplyFraming::Length(length),
        (false, None) => ReplyFraming::UntilClose,
    };
    // Announced where none may be (RFC 9112 §6.3), a body may well come, and would be taken for the next answer.
    let misled = status == 204 && (chunked || said_length.is_some_and(|length| length > 0));
    let ends = framing == ReplyFraming::UntilClose || misled || close;
    let keep_alive = !ends && (version == 1 || keep);
    Ok(Some(ReplyMessage { status, fields, framing, keep_alive, event_stream, dated, length }))
}

/// Media types are the same in any case (RFC 9110 §8.3.1).
fn is_event_stream(content_type: &[u8]) -> bool {
    let media_type = content_type.split(|b| *b == b';').next().unwrap_or_default();
    media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
}

/// What a client may be told of the length where no body follows (HEAD, 304) or where it is the same.
pub fn said_length(fields: &[Field<'_>]) -> Option<u64> {
    let field = fields.iter().find(|field| Known::of(field.name) == Some(Known::ContentLength))?;
    content_length(field.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::request_head::field_store;

    fn framing(text: &str, head: bool) -> Result<(ReplyFraming, bool), InvalidReply> {
        let mut store = field_store();
        parse(text.as_bytes(), head, &mut store).map(|reply| {
            let reply = reply.unwrap();
            (reply.framing, reply.keep_alive)
        })
    }

    #[test]
    fn the_end_of_a_body_is_found_as_the_rfc_says() {
        for (text, head, wanted) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, (ReplyFraming::Length(5), true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, (ReplyFraming::None, true)),
            ("HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\n", false, (ReplyFraming::Chunked, true)),
            ("HTTP/1.1 200 OK\r\n\r\n", false, (ReplyFraming::UntilClose, false)),
            ("HTTP/1.1 304 OK\r\nContent-Length: 5\r\n\r\n", false, (ReplyFraming::None, true)),
            ("HTTP/1.1 204 OK\r\nConnection: x, Close\r\n\r\n", false, (ReplyFraming::None, false)),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, (ReplyFraming::Length(5), false)),
            ("HTTP/1.1 204 OK\r\nContent-Length: 0\r\n\r\n", false, (ReplyFraming::None, true)),
            ("HTTP/1.1 204 OK\r\nContent-Length: 5\r\n\r\n", false, (ReplyFraming::None, false)),
            ("HTTP/1.1 204 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, (ReplyFraming::None, false)),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
                false,
                (ReplyFraming::Length(5), true),
            ),
        ] {
            assert_eq!(framing(text, head), Ok(wanted), "{text:?}");
        }
    }

    #[test]
    fn an_event_stream_is_one_in_any_spelling() {
        for (content_type, is_one) in [
            ("text/event-stream", true),
            ("Text/Event-Stream; charset=utf-8", true),
            ("text/event-stream ;x=y", true),
            ("text/event-streams", false),
            ("application/x; text/event-stream", false),
        ] {
            assert_eq!(is_event_stream(content_type.as_bytes()), is_one, "{content_type}");
        }
    }

    #[test]
    fn an_answer_with_two_lengths_is_refused() {
        for headers in [
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5, 5",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ] {
            assert_eq!(
                framing(&format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n"), false),
                Err(InvalidReply::Framing),
                "{headers}"
            );
        }
    }
}

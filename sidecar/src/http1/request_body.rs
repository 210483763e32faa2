//! A request's body on its way to the app: counted, checked, never gathered.

use std::io::ErrorKind;

use tokio::io::{AsyncRead, AsyncWrite};

use super::buffer::Buffer;
use super::chunked::{ChunkedDecoder, Piece, trailer_fields, write_chunk};
use super::io::{Limits, fill, write_all};
use super::unreadable::Unreadable;
use crate::request::cleanse::reserved::{Reserved, is_forwarding, is_framing_in_disguise};
use crate::request::forward::write_field;
use crate::request::head::Known;

/// What is left to read of it.
#[derive(Debug)]
pub enum RequestBody {
    Length(u64),
    Chunked { decoder: ChunkedDecoder, allowed: u64 },
}

#[derive(Debug)]
pub enum PumpError {
    /// The client's fault.
    Client(Unreadable),
    /// The client is gone, without a word that could be answered.
    ClientGone,
    /// The app takes no more; it may have answered already.
    AppClosed,
}

impl RequestBody {
    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked { decoder, .. } => decoder.is_done(),
        }
    }

    /// Moves the body from client to app until it ends.
    pub async fn pump<R, W>(
        &mut self,
        input: &mut Buffer,
        from: &mut R,
        to: &mut W,
        reserved: &Reserved,
        limits: Limits<'_>,
    ) -> Result<(), PumpError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut coded = Vec::new();
        while !self.is_done() {
            if input.is_empty() || !self.advances(input, to, reserved, &mut coded, limits).await? {
                match fill(input, from, limits).await {
                    Ok(0) => return Err(PumpError::Client(Unreadable::CutOff)),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::TimedOut => {
                        return Err(PumpError::Client(Unreadable::TimedOut));
                    }
                    Err(_) => return Err(PumpError::ClientGone),
                }
            }
        }
        Ok(())
    }

    /// Sends on what the buffer holds of the body; false if that is nothing yet.
    async fn advances<W: AsyncWrite + Unpin>(
        &mut self,
        input: &mut Buffer,
        to: &mut W,
        reserved: &Reserved,
        coded: &mut Vec<u8>,
        limits: Limits<'_>,
    ) -> Result<bool, PumpError> {
        match self {
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                write_all(to, &input.filled()[..count], limits).await.map_err(|_| PumpError::AppClosed)?;
                input.consume(count);
                *left -= count as u64;
                Ok(true)
            }
            Self::Chunked { decoder, allowed } => {
                coded.clear();
                let consumed = recode(decoder, allowed, input.filled(), reserved, coded)?;
                input.consume(consumed);
                write_all(to, coded, limits).await.map_err(|_| PumpError::AppClosed)?;
                Ok(consumed > 0)
            }
        }
    }
}

/// Decodes what there is and codes it anew, as one chunk: extensions and odd spellings end here.
fn recode(
    decoder: &mut ChunkedDecoder,
    allowed: &mut u64,
    input: &[u8],
    reserved: &Reserved,
    out: &mut Vec<u8>,
) -> Result<usize, PumpError> {
    let bad = |_| PumpError::Client(Unreadable::Chunk);
    let mut consumed = 0;
    let mut data = Vec::new();
    let mut trailers = None;
    loop {
        match decoder.next(&input[consumed..]).map_err(bad)? {
            Piece::Skip(count) => consumed += count,
            Piece::Data(count) => {
                *allowed = allowed.checked_sub(count as u64).ok_or(PumpError::Client(Unreadable::BodyTooLarge))?;
                data.extend_from_slice(&input[consumed..consumed + count]);
                consumed += count;
            }
            Piece::Trailers(count) => {
                trailers = Some(trailer_fields(&input[consumed..consumed + count]).map_err(bad)?);
                consumed += count;
                break;
            }
            Piece::NeedMore => break,
        }
    }
    write_chunk(&data, out);
    if let Some(fields) = trailers {
        out.extend_from_slice(b"0\r\n");
        for field in fields.iter().filter(|field| may_trail(field.name, reserved)) {
            write_field(field.name.as_bytes(), field.value, out);
        }
        out.extend_from_slice(b"\r\n");
    }
    Ok(consumed)
}

/// Apps may merge trailers into the headers (RFC 9110 §6.5.1), so what no client may set ahead of a body, it may not set behind one.
pub fn may_trail(name: &str, reserved: &Reserved) -> bool {
    Known::of(name).is_none() && !reserved.is_identity(name) && !is_forwarding(name) && !is_framing_in_disguise(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recoded(input: &str, mut allowed: u64) -> Result<String, PumpError> {
        let reserved = Reserved::new(["authorization"].into_iter(), false);
        let mut out = Vec::new();
        recode(&mut ChunkedDecoder::default(), &mut allowed, input.as_bytes(), &reserved, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn chunks_are_written_anew_without_what_clients_may_not_say() {
        let body = "3;evil\r\nabc\r\n002\r\nde\r\n0\r\nX-Sum: 1\r\nAuthorization: Bearer x\r\nX_Forwarded.For: 1\r\nHost: x\r\n\r\n";
        assert_eq!(recoded(body, 5).unwrap(), "5\r\nabcde\r\n0\r\nX-Sum: 1\r\n\r\n");
    }

    #[test]
    fn a_body_over_the_limit_is_refused() {
        assert!(matches!(recoded("6\r\nabcdef\r\n0\r\n\r\n", 5), Err(PumpError::Client(Unreadable::BodyTooLarge))));
        assert!(matches!(recoded("z\r\n", 5), Err(PumpError::Client(Unreadable::Chunk))));
    }
}

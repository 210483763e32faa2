//! The chunked transfer coding (RFC 9112 §7.1), read strictly: what one parser skips another one executes.

use crate::request::forward::write_text;

/// Where in the coding the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { digits: u8 },
    Extension { length: u16 },
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

#[derive(Debug)]
pub struct ChunkedDecoder {
    state: State,
    remaining: u64,
}

/// What the bytes at the start of the input are.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Framing, to be skipped.
    Skip(usize),
    /// Content.
    Data(usize),
    /// The trailer section with its closing empty line; the body ends behind it.
    Trailers(usize),
    NeedMore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed chunk")]
pub struct BadChunk;

/// Nothing that we know uses any.
const MAX_EXTENSION: u16 = 256;
const MAX_TRAILERS: usize = 8 << 10;

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self { state: State::Size { digits: 0 }, remaining: 0 }
    }
}

impl ChunkedDecoder {
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes a [`Piece::Trailers`] back, which is then given again.
    pub fn again(&mut self) {
        self.state = State::Trailers;
    }

    pub fn next(&mut self, input: &[u8]) -> Result<Piece, BadChunk> {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match self.state {
                State::Size { digits } => match char::from(byte).to_digit(16) {
                    // 15 digits: more than any body, and no overflow.
                    Some(digit) if digits < 15 => {
                        self.remaining = self.remaining << 4 | u64::from(digit);
                        self.state = State::Size { digits: digits + 1 };
                    }
                    None if digits > 0 && byte == b'\r' => self.state = State::SizeLf,
                    None if digits > 0 && byte == b';' => self.state = State::Extension { length: 0 },
                    _ => return Err(BadChunk),
                },
                State::Extension { length } => match byte {
                    b'\r' => self.state = State::SizeLf,
                    b'\t' | b' '..=b'~' if length < MAX_EXTENSION => {
                        self.state = State::Extension { length: length + 1 }
                    }
                    _ => return Err(BadChunk),
                },
                State::SizeLf if byte == b'\n' => {
                    self.state = if self.remaining == 0 { State::Trailers } else { State::Data };
                }
                State::DataCr if byte == b'\r' => self.state = State::DataLf,
                State::DataLf if byte == b'\n' => self.state = State::Size { digits: 0 },
                State::SizeLf | State::DataCr | State::DataLf => return Err(BadChunk),
                State::Data | State::Trailers | State::Done if at > 0 => return Ok(Piece::Skip(at)),
                State::Data => {
                    let count = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len());
                    self.remaining -= count as u64;
                    if self.remaining == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Piece::Data(count));
                }
                State::Trailers => return self.trailers(input),
                State::Done => return Ok(Piece::NeedMore),
            }
            at += 1;
        }
        Ok(if at > 0 { Piece::Skip(at) } else { Piece::NeedMore })
    }

    fn trailers(&mut self, input: &[u8]) -> Result<Piece, BadChunk> {
        let end = if input.starts_with(b"\r\n") {
            Some(2)
        } else {
            memchr::memmem::find(input, b"\r\n\r\n").map(|at| at + 4)
        };
        match end {
            Some(end) if end <= MAX_TRAILERS => {
                self.state = State::Done;
                Ok(Piece::Trailers(end))
            }
            None if input.len() < MAX_TRAILERS && input[0] != b'\n' => Ok(Piece::NeedMore),
            _ => Err(BadChunk),
        }
    }
}

/// Nothing for no data: an empty chunk would be the last one.
pub fn write_chunk(data: &[u8], out: &mut Vec<u8>) {
    if !data.is_empty() {
        write_text(out, format_args!("{:x}\r\n", data.len()));
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// The fields of a trailer section, which ends in its empty line.
pub fn trailer_fields(section: &[u8]) -> Result<Vec<httparse::Header<'_>>, BadChunk> {
    if memchr::memchr_iter(b'\n', section).any(|at| at == 0 || section[at - 1] != b'\r') {
        return Err(BadChunk);
    }
    let mut fields = [httparse::EMPTY_HEADER; 32];
    match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((length, fields))) if length == section.len() => Ok(fields.to_vec()),
        _ => Err(BadChunk),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes input that comes `step` bytes at a time; `Err` also where it never ends.
    fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, usize), BadChunk> {
        let mut decoder = ChunkedDecoder::default();
        let (mut data, mut trailers) = (Vec::new(), Vec::new());
        let (mut start, mut end) = (0, 0);
        loop {
            match decoder.next(&input[start..end])? {
                Piece::Skip(count) => start += count,
                Piece::Data(count) => {
                    data.extend_from_slice(&input[start..start + count]);
                    start += count;
                }
                Piece::Trailers(count) => {
                    trailers.extend_from_slice(&input[start..start + count]);
                    assert!(decoder.is_done());
                    return Ok((data, trailers, start + count));
                }
                Piece::NeedMore if end == input.len() => return Err(BadChunk),
                Piece::NeedMore => end = input.len().min(end + step),
            }
        }
    }

    #[test]
    fn a_body_is_read_however_it_is_cut() {
        let body = b"5\r\nhello\r\n00A;x=\"y\"\r\n, world!..\r\n0\r\nX-Sum: 1\r\n\r\nGET /";
        for step in 1..=body.len() {
            let (data, trailers, length) = decode(body, step).unwrap();
            assert_eq!(data, b"hello, world!..");
            assert_eq!(trailers, b"X-Sum: 1\r\n\r\n");
            assert_eq!(&body[length..], b"GET /");
        }
        assert_eq!(decode(b"0\r\n\r\n", 5).unwrap().0, b"");
    }

    #[test]
    fn what_another_parser_could_read_differently_is_refused() {
        let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(300));
        for body in [
            "5\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhelloX0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\n",
            "5\r\nhello\r\n0\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-1\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5_0\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            ";x\r\nhello\r\n0\r\n\r\n",
            "5;\n\r\nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n",
            "0000000000000005\r\nhello\r\n0\r\n\r\n",
            "5\r\rhello\r\n0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhel",
            &long,
        ] {
            for step in [1, 3, body.len()] {
                assert_eq!(decode(body.as_bytes(), step), Err(BadChunk), "{body:?} by {step}");
            }
        }
    }

    #[test]
    fn trailers_are_bounded_and_strict() {
        let endless = format!("0\r\nX: {}", "y".repeat(9 << 10));
        assert_eq!(decode(endless.as_bytes(), 4096), Err(BadChunk));
        assert_eq!(trailer_fields(b"A: 1\r\nB: 2\r\n\r\n").unwrap().len(), 2);
        assert_eq!(trailer_fields(b"\r\n").unwrap().len(), 0);
        for section in [&b"A: 1\n\r\n"[..], b"A : 1\r\n\r\n", b"A: 1\r\n 2\r\n\r\n", b"A\r\n\r\n", b"A: \0\r\n\r\n"] {
            assert_eq!(trailer_fields(section).unwrap_err(), BadChunk);
        }
    }
}

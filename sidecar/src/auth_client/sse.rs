//! Server-sent events as the auth service sends them, parsed strictly and in bounded memory: what is not understood is an error, since
//! a revocation that was not understood is one that did not happen.

/// One line; the longest is a revocation by subject.
const MAX_LINE: usize = 16 << 10;

#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    pub name: String,
    pub data: String,
    pub id: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("a line longer than {MAX_LINE} bytes")]
    TooLong,
    #[error("not UTF-8")]
    NotUtf8,
    #[error("a carriage return inside a line")]
    CarriageReturn,
    #[error("an unknown field")]
    UnknownField,
    #[error("a field twice, or data of several lines")]
    Twice,
    #[error("an event without name, data or id")]
    Incomplete,
    #[error("an id that is not <milliseconds>-<sequence>")]
    InvalidId,
}

#[derive(Default)]
pub struct Parser {
    line: Vec<u8>,
    name: Option<String>,
    data: Option<String>,
    id: Option<String>,
}

impl Parser {
    /// Takes bytes as they arrive, cut anywhere; gives messages as they are complete.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<Message>) -> Result<(), Broken> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.extend(&bytes[..end])?;
            bytes = &bytes[end + 1..];
            let line = std::mem::take(&mut self.line);
            if let Some(message) = self.line(&line)? {
                out.push(message);
            }
            self.line = line;
            self.line.clear();
        }
        self.extend(bytes)
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.line.len() + bytes.len() > MAX_LINE {
            return Err(Broken::TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Message>, Broken> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line).map_err(|_| Broken::NotUtf8)?;
        if line.contains('\r') {
            return Err(Broken::CarriageReturn);
        }
        if line.is_empty() {
            return self.end_of_message();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            // A comment.
            "" | "retry" => Ok(None),
            "event" => set(&mut self.name, value),
            "data" => set(&mut self.data, value),
            "id" if is_id(value) => set(&mut self.id, value),
            "id" => Err(Broken::InvalidId),
            _ => Err(Broken::UnknownField),
        }
    }

    fn end_of_message(&mut self) -> Result<Option<Message>, Broken> {
        match (self.name.take(), self.data.take(), self.id.take()) {
            (Some(name), Some(data), Some(id)) => Ok(Some(Message { name, data, id })),
            // Blank lines separate comments too.
            (None, None, None) => Ok(None),
            _ => Err(Broken::Incomplete),
        }
    }
}

fn set(place: &mut Option<String>, value: &str) -> Result<Option<Message>, Broken> {
    if place.is_some() {
        return Err(Broken::Twice);
    }
    *place = Some(value.to_owned());
    Ok(None)
}

/// As Redis writes the ids of a stream's entries.
fn is_id(text: &str) -> bool {
    let number = |part: &str| (1..=20).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    text.split_once('-').is_some_and(|(ms, sequence)| number(ms) && number(sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Vec<Message>, Broken> {
        let mut out = Vec::new();
        Parser::default().push(bytes, &mut out).map(|()| out)
    }

    const STREAM: &[u8] =
        b": hello\n\nevent: keys\ndata: {}\nid: 1-0\n\nid:2-10\r\nevent:heartbeat\r\ndata:{\"at\":1}\r\n\r\n";

    #[test]
    fn messages_are_read_wherever_the_stream_is_cut() {
        let whole = parse(STREAM).unwrap();
        assert_eq!(whole.len(), 2);
        assert_eq!(whole[1], Message { name: "heartbeat".into(), data: r#"{"at":1}"#.into(), id: "2-10".into() });
        for cut in 0..=STREAM.len() {
            let (mut parser, mut out) = (Parser::default(), Vec::new());
            parser.push(&STREAM[..cut], &mut out).unwrap();
            parser.push(&STREAM[cut..], &mut out).unwrap();
            assert_eq!(out, whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (bytes, why) in [
            (&b"event: a\ndata: b\n\n"[..], Broken::Incomplete),
            (b"data: b\nid: 1-0\n\n", Broken::Incomplete),
            (b"data: a\ndata: b\n", Broken::Twice),
            (b"evnt: a\n", Broken::UnknownField),
            (b"id: 0\n", Broken::InvalidId),
            (b"id: 1-0\r\nx", Broken::UnknownField),
            (b"data: a\rid: 1-0\n", Broken::CarriageReturn),
            (b"data: \xff\n", Broken::NotUtf8),
            (b"\xef\xbb\xbfevent: a\n", Broken::UnknownField),
        ] {
            let result = parse(&[bytes, b"\n"].concat());
            assert_eq!(result, Err(why), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let mut parser = Parser::default();
        let result = (0..100).try_for_each(|_| parser.push(&[b'a'; 1024], &mut Vec::new()));
        assert_eq!(result, Err(Broken::TooLong));
        assert!(parser.line.len() <= MAX_LINE);
    }

    proptest::proptest! {
        #[test]
        fn whatever_arrives_memory_is_bounded_and_cuts_make_no_difference(
            bytes in proptest::collection::vec(proptest::prop_oneof![
                proptest::sample::select(b"event: data: id: 1-0\r\n\n\n: {}".to_vec()), proptest::num::u8::ANY,
            ], 0..400),
            cut in 0..400_usize,
        ) {
            let (mut whole, mut parts) = (Parser::default(), Parser::default());
            let (mut out_whole, mut out_parts) = (Vec::new(), Vec::new());
            let cut = cut.min(bytes.len());
            let first = whole.push(&bytes, &mut out_whole);
            let second = parts.push(&bytes[..cut], &mut out_parts).and_then(|()| parts.push(&bytes[cut..], &mut out_parts));
            proptest::prop_assert_eq!(first, second);
            proptest::prop_assert_eq!(out_whole, out_parts);
        }
    }
}

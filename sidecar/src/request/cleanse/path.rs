//! One spelling for every path: what rules match is what is forwarded (RFC 3986 §6.2.2).

use std::borrow::Cow;

/// Starts with `/` (or is `*`): unreserved characters decoded, hex digits upper case, no dot segments, no empty segment but a last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'h> {
    forwarded: Cow<'h, str>,
    loose: Option<String>,
}

impl CanonicalPath<'_> {
    /// What the app is sent.
    pub fn forwarded(&self) -> &str {
        &self.forwarded
    }

    /// How an app may well read it, where that differs: every visible character decoded, `;params` left out. Rules that guard match
    /// this one too.
    pub fn loose(&self) -> Option<&str> {
        self.loose.as_deref()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmbiguousPath {
    #[error("the path is not absolute")]
    NotAbsolute,
    #[error("the path has a character that no URI has")]
    Character,
    #[error("the path has a % that two hex digits do not follow")]
    Percent,
    #[error("the path has an encoded slash, backslash or control character")]
    Encoded,
    #[error("the path's percent-encoding is not UTF-8")]
    NotUtf8,
    #[error("the path leads above the root")]
    AboveRoot,
    #[error("the path has parameters on a dot or empty segment")]
    Parameters,
}

pub fn canonical(path: &str) -> Result<CanonicalPath<'_>, AmbiguousPath> {
    if is_plain(path.as_bytes()) {
        return Ok(CanonicalPath { forwarded: Cow::Borrowed(path), loose: None });
    }
    if path == "*" {
        return Ok(CanonicalPath { forwarded: Cow::Borrowed(path), loose: None });
    }
    let decoded = decode(path.strip_prefix('/').ok_or(AmbiguousPath::NotAbsolute)?)?;
    let forwarded = resolve(&decoded)?;
    let loose = loosen(&forwarded);
    Ok(CanonicalPath { loose: (loose != forwarded).then_some(loose), forwarded: Cow::Owned(forwarded) })
}

/// Everything a path may hold (RFC 3986 §3.3) but what needs a closer look: `%`, `.`, `;` and the slash.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        let sub_delimiter = matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=');
        table[byte as usize] =
            byte.is_ascii_alphanumeric() || sub_delimiter || matches!(byte, b'-' | b'_' | b'~' | b':' | b'@');
        byte += 1;
    }
    table
};

/// Already canonical, told in one pass; a dot inside a segment is common and harmless.
fn is_plain(path: &[u8]) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    let mut previous = b'/';
    for &byte in &path[1..] {
        let fine = PLAIN[usize::from(byte)] || (matches!(byte, b'/' | b'.') && previous != b'/');
        if !fine {
            return false;
        }
        previous = byte;
    }
    true
}

/// Decodes what may be decoded without a change of meaning; encodes what should have been.
fn decode(rest: &str) -> Result<String, AmbiguousPath> {
    let bytes = rest.as_bytes();
    let mut out = String::with_capacity(bytes.len() + 8);
    let mut raw = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        match byte {
            b'%' => {
                let value = bytes.get(at + 1..at + 3).and_then(hex_pair).ok_or(AmbiguousPath::Percent)?;
                if value < 0x20 || matches!(value, 0x7f | b'/' | b'\\') {
                    return Err(AmbiguousPath::Encoded);
                }
                raw.push(value);
                if is_unreserved(value) {
                    out.push(char::from(value));
                } else {
                    push_encoded(&mut out, value);
                }
                at += 3;
                continue;
            }
            b'/' | b'.' | b';' => out.push(char::from(byte)),
            _ if PLAIN[usize::from(byte)] => out.push(char::from(byte)),
            // Not allowed raw, but sent by browsers and clients all the same (WHATWG URL, path percent-encode set).
            b'"' | b'<' | b'>' | b'[' | b']' | b'^' | b'`' | b'{' | b'|' | b'}' => push_encoded(&mut out, byte),
            _ => return Err(AmbiguousPath::Character),
        }
        raw.push(byte);
        at += 1;
    }
    // Overlong forms of dots and slashes live in what is not UTF-8.
    if std::str::from_utf8(&raw).is_err() {
        return Err(AmbiguousPath::NotUtf8);
    }
    Ok(out)
}

fn resolve(decoded: &str) -> Result<String, AmbiguousPath> {
    let mut out = String::with_capacity(decoded.len() + 1);
    let mut segments = decoded.split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "" | "." => {
                if last {
                    out.push('/');
                }
            }
            ".." => {
                let parent = out.rfind('/').ok_or(AmbiguousPath::AboveRoot)?;
                out.truncate(parent);
                if last {
                    out.push('/');
                }
            }
            _ => {
                // Some servers drop parameters first and resolve dots then: `..;` would climb there and not here.
                // To some an encoded semicolon is one, too.
                let name = segment.split("%3B").next().and_then(|name| name.split(';').next());
                if name.is_some_and(|name| name != segment && matches!(name, "" | "." | "..")) {
                    return Err(AmbiguousPath::Parameters);
                }
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    Ok(out)
}

fn loosen(forwarded: &str) -> String {
    let mut out = String::with_capacity(forwarded.len());
    for segment in forwarded.split('/').skip(1) {
        out.push('/');
        let mut rest = segment.as_bytes();
        let mut decoded = String::with_capacity(segment.len());
        while let Some((&byte, tail)) = rest.split_first() {
            match tail.get(..2).filter(|_| byte == b'%').and_then(hex_pair) {
                Some(value) if value.is_ascii_graphic() => {
                    decoded.push(char::from(value));
                    rest = &tail[2..];
                }
                _ => {
                    decoded.push(char::from(byte));
                    rest = tail;
                }
            }
        }
        out.push_str(decoded.split(';').next().unwrap_or_default());
    }
    out
}

fn hex_pair(pair: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn push_encoded(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(HEX[usize::from(byte >> 4)]));
    out.push(char::from(HEX[usize::from(byte & 15)]));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn forwarded(path: &str) -> String {
        canonical(path).unwrap().forwarded().to_owned()
    }

    #[test]
    fn every_spelling_becomes_the_one_spelling() {
        for (given, wanted) in [
            ("/", "/"),
            ("/a.b/c", "/a.b/c"),
            ("/%61", "/a"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("//a///b", "/a/b"),
            ("/a//", "/a/"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/a/..", "/"),
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
            ("/a%2fb".replace("%2f", "%3f").as_str(), "/a%3Fb"),
            ("/%e2%82%ac", "/%E2%82%AC"),
            ("/a|b", "/a%7Cb"),
            ("/a%20b", "/a%20b"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("*", "*"),
        ] {
            assert_eq!(forwarded(given), wanted, "{given}");
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for given in [
            "",
            "a",
            "/..",
            "/../a",
            "/a/../../b",
            "/%2e%2e/a",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00b",
            "/a%0ab",
            "/%",
            "/%4",
            "/%zz",
            "/%+1",
            "/a b",
            "/a#b",
            "/a?b",
            "/\u{e9}",
            "/%c0%ae%c0%ae/a",
            "/%ff",
            "/..;/a",
            "/a/.;x/b",
            "/;x/a",
            "/a/%2e%2e;/b",
            "/a/..%3b/b",
            "/a/.%3B",
            "/%3bx/a",
            "/a/..%3bx;y",
            "/a\u{7f}",
            "/%7f",
        ] {
            assert!(canonical(given).is_err(), "{given:?}");
        }
    }

    #[test]
    fn the_loose_reading_is_there_where_apps_may_differ() {
        assert_eq!(canonical("/a").unwrap().loose(), None);
        assert_eq!(canonical("/a//b").unwrap().loose(), None);
        assert_eq!(canonical("/%40me;v=1/b").unwrap().loose(), Some("/@me/b"));
        assert_eq!(canonical("/a%3Bb").unwrap().loose(), Some("/a"));
        assert_eq!(canonical("/a%252eb").unwrap().loose(), Some("/a%2eb"));
    }

    proptest! {
        #[test]
        fn a_canonical_path_is_its_own_canonical_form(path in "/[a-c./;%25eE0-9@|-]{0,24}") {
            if let Ok(once) = canonical(&path) {
                let again = canonical(once.forwarded()).unwrap();
                prop_assert_eq!(again.forwarded(), once.forwarded());
                prop_assert!(once.forwarded().starts_with('/'));
                prop_assert!(!once.forwarded().contains("//"));
                prop_assert!(once.forwarded().split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}

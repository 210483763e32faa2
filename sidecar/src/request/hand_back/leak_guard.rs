//! The in-flight JWT never leaves: where the app's answer carries it, the opaque token stands instead.

use cloakroom_protocol::token::OpaqueToken;

pub struct LeakGuard<'i> {
    /// With its dot.
    header: &'i [u8],
    /// Says all that the JWT says; enough to give the session's details away.
    payload: &'i [u8],
    /// With its dot.
    signature: &'i [u8],
    token: &'i OpaqueToken,
}

impl<'i> LeakGuard<'i> {
    pub fn new(jwt: &'i [u8], token: &'i OpaqueToken) -> Option<Self> {
        let first = memchr::memchr(b'.', jwt)? + 1;
        let last = first + memchr::memchr(b'.', &jwt[first..])?;
        let guard = Self { header: &jwt[..first], payload: &jwt[first..last], signature: &jwt[last..], token };
        (!guard.payload.is_empty()).then_some(guard)
    }

    /// The value with the token in place of the JWT, if the JWT is in it.
    pub fn clean(&self, value: &[u8]) -> Option<Vec<u8>> {
        if value.len() < self.payload.len() {
            return None;
        }
        let plain = self.replace(value);
        if !value.contains(&b'%')
            || memchr::memmem::find(value, self.payload).is_some_and(|at| self.is_whole(value, at))
        {
            return plain;
        }
        // What was percent-encoded round it need not stay so: tokens stand for themselves, and what no header can carry goes.
        let decoded = self.replace(&percent_decoded(value)).map(|mut cleaned| {
            cleaned.retain(|byte| matches!(byte, b'\t' | b' '..=b'~'));
            cleaned
        });
        decoded.or(plain)
    }

    fn is_whole(&self, value: &[u8], at: usize) -> bool {
        value[..at].ends_with(self.header) && value[at + self.payload.len()..].starts_with(self.signature)
    }

    fn replace(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut rest = value;
        while let Some(at) = memchr::memmem::find(rest, self.payload) {
            let (before, after) = (&rest[..at], &rest[at + self.payload.len()..]);
            out.extend_from_slice(before.strip_suffix(self.header).unwrap_or(before));
            out.extend_from_slice(self.token.expose().as_bytes());
            rest = after.strip_prefix(self.signature).unwrap_or(after);
        }
        if rest.len() == value.len() {
            return None;
        }
        out.extend_from_slice(rest);
        Some(out)
    }
}

fn percent_decoded(value: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(value.len());
    let mut at = 0;
    while at < value.len() {
        match (value[at], digit(value.get(at + 1)), digit(value.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (byte, _, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use cloakroom_protocol::token::TokenKind;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1MSJ9.c2lnbmF0dXJl";

    fn clean(value: &str) -> Option<String> {
        let token = OpaqueToken::generate(TokenKind::Session, &mut StdRng::seed_from_u64(1));
        let guard = LeakGuard::new(JWT.as_bytes(), &token).unwrap();
        let cleaned = guard.clean(value.as_bytes())?;
        Some(String::from_utf8(cleaned).unwrap().replace(token.expose(), "TOKEN"))
    }

    #[test]
    fn the_jwt_is_replaced_wherever_it_stands() {
        assert_eq!(clean(JWT).unwrap(), "TOKEN");
        assert_eq!(clean(&format!("Bearer {JWT}")).unwrap(), "Bearer TOKEN");
        assert_eq!(clean(&format!("t={JWT}; u={JWT}; Path=/")).unwrap(), "t=TOKEN; u=TOKEN; Path=/");
        assert_eq!(clean("https://a/?x=eyJzdWIiOiJ1MSJ9&y").unwrap(), "https://a/?x=TOKEN&y");
        assert_eq!(clean("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1MSJ9.other").unwrap(), "TOKEN.other");
    }

    #[test]
    fn percent_encoding_does_not_hide_it() {
        assert_eq!(clean(&JWT.replace('.', "%2e")).unwrap(), "TOKEN");
        assert_eq!(clean(&format!("next=/a?t={}", JWT.replace('e', "%65"))).unwrap(), "next=/a?t=TOKEN");
        assert_eq!(clean(&format!("%0d%0aSet-Cookie:x={}", JWT.replace('J', "%4A"))).unwrap(), "Set-Cookie:x=TOKEN");
    }

    #[test]
    fn other_values_are_left_alone() {
        for value in [
            "",
            "eyJhbGciOiJFUzI1NiJ9",
            "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1MiJ9.c2lnbmF0dXJl",
            "%65%79%4A%zz%",
            "text/html; charset=utf-8",
        ] {
            assert_eq!(clean(value), None, "{value}");
        }
    }
}

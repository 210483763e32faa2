//! The in-flight JWT never leaves: where the app's answer carries it, the opaque token stands instead. Another issuer's token does not: the
//! JWT is cut out, since what is many times as long would let an app's answer grow without bound.
//!
//! It is known by its payload, which says all that there is to say. Whole, it is replaced; what is left of it otherwise (a piece in each
//! of several cookies, the whole in base64) is cut out.

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use cloakroom_protocol::presented::Presented;
use cloakroom_protocol::token::OpaqueToken;

/// So many characters of the JWT in a row are no coincidence, and more of it than anybody may have.
const PIECE: usize = 24;
/// The beginning says who issued it, in the same words as any other JWT of theirs.
const COMMON: usize = 96;

pub struct LeakGuard<'i> {
    /// With its dot.
    header: &'i [u8],
    /// Says all that the JWT says; enough to give the session's details away.
    payload: &'i [u8],
    /// With its dot.
    signature: &'i [u8],
    instead: &'i str,
}

impl<'i> LeakGuard<'i> {
    pub fn new(jwt: &'i [u8], token: &'i Presented) -> Option<Self> {
        let first = memchr::memchr(b'.', jwt)? + 1;
        let last = first + memchr::memchr(b'.', &jwt[first..])?;
        let instead = token.ours().map_or("", OpaqueToken::expose);
        let guard = Self { header: &jwt[..first], payload: &jwt[first..last], signature: &jwt[last..], instead };
        (!guard.payload.is_empty()).then_some(guard)
    }

    /// The value with the token in place of the JWT, and without what is left of it, if the JWT is in it.
    pub fn clean(&self, value: &[u8]) -> Option<Vec<u8>> {
        let whole = if value.len() < self.payload.len() { None } else { self.whole(value) };
        let rest = whole.as_deref().unwrap_or(value);
        // Few values have anything so long in them that none of these is in.
        if has_run(rest, 2 * PIECE) { self.cut(rest).or(whole) } else { whole }
    }

    fn whole(&self, value: &[u8]) -> Option<Vec<u8>> {
        let plain = self.replace(value);
        if !value.contains(&b'%')
            || memchr::memmem::find(value, self.payload).is_some_and(|at| self.is_whole(value, at))
        {
            return plain;
        }
        // What was percent-encoded round it need not stay so: tokens stand for themselves, and what no header can carry goes. Some encode
        // an encoded value once more.
        let once = percent_decoded(value);
        let twice = once.contains(&b'%').then(|| percent_decoded(&once));
        let found = self.replace(&once).or_else(|| self.replace(&twice?));
        let decoded = found.map(|mut cleaned| {
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
            out.extend_from_slice(self.instead.as_bytes());
            rest = after.strip_prefix(self.signature).unwrap_or(after);
        }
        if rest.len() == value.len() {
            return None;
        }
        out.extend_from_slice(rest);
        Some(out)
    }

    /// Pieces of it, and what base64 makes of it.
    fn cut(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut out: Option<Vec<u8>> = None;
        let mut at = 0;
        loop {
            let current = out.as_deref().unwrap_or(value);
            let piece = self.piece(&current[at..]).or_else(|| self.wrapped(&current[at..]));
            let Some(piece) = piece else { return out };
            let (start, end) = (at + piece.start, at + piece.end);
            out.get_or_insert_with(|| value.to_vec()).drain(start..end);
            // Not from the beginning again: what two cuts bring together is not looked at as one.
            at = start;
        }
    }

    /// A run of the JWT's characters that holds a whole block of it. Any run of two blocks' length does.
    fn piece(&self, value: &[u8]) -> Option<Range<usize>> {
        let telling = self.payload.get(COMMON.min(self.payload.len() / 2)..).unwrap_or_default();
        for within in [telling, self.signature] {
            for (index, block) in within.chunks_exact(PIECE).enumerate() {
                if let Some(at) = memchr::memmem::find(value, block) {
                    let (before, after) = (&within[..index * PIECE], &within[(index + 1) * PIECE..]);
                    let same = |(a, b): &(&u8, &u8)| a == b;
                    let begin = at - value[..at].iter().rev().zip(before.iter().rev()).take_while(same).count();
                    let end = at + PIECE;
                    return Some(begin..end + value[end..].iter().zip(after).take_while(same).count());
                }
            }
        }
        None
    }

    /// All of a value's base64 in which the payload is wrapped: it begins at any of three places within a group of three bytes.
    fn wrapped(&self, value: &[u8]) -> Option<Range<usize>> {
        if value.len() < self.payload.len() / 3 * 4 {
            return None;
        }
        let standard: Vec<u8> = value
            .iter()
            .map(|byte| match byte {
                b'-' => b'+',
                b'_' => b'/',
                other => *other,
            })
            .collect();
        for offset in 0..3 {
            // Only whole groups look the same whatever stands around them.
            let inner = self.payload.get(offset..).unwrap_or_default();
            let groups = &inner[..inner.len() / 3 * 3];
            if groups.is_empty() {
                continue;
            }
            if let Some(at) = memchr::memmem::find(&standard, STANDARD_NO_PAD.encode(groups).as_bytes()) {
                let begin = at - standard[..at].iter().rev().take_while(|byte| is_encoded(**byte)).count();
                let length = standard[at..].iter().take_while(|byte| is_encoded(**byte) || **byte == b'=').count();
                return Some(begin..at + length);
            }
        }
        None
    }
}

/// Of either base64.
fn is_encoded(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// Whether there are so many characters of base64 in a row. Looks at few of them.
fn has_run(value: &[u8], length: usize) -> bool {
    let mut begin = 0;
    while let Some(window) = value.get(begin..begin + length) {
        match window.iter().rposition(|byte| !is_encoded(*byte)) {
            Some(at) => begin += at + 1,
            None => return true,
        }
    }
    false
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
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use cloakroom_protocol::token::TokenKind;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use cloakroom_protocol::presented::ForeignToken;

    use super::*;

    const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1MSJ9.c2lnbmF0dXJl";

    /// As long as real ones are.
    fn long_jwt() -> String {
        let payload = URL_SAFE_NO_PAD.encode(
            r#"{"iss":"https://auth.example.com","aud":"shop/shop","sub":"u1","exp":1,"nbf":1,"iat":1,"jti":"K3Jx0wPq","client_id":"shop/shop","scope":"orders","session":{"cart":[17,4]}}"#,
        );
        let signature = URL_SAFE_NO_PAD.encode((0..64).map(|n: u8| n.wrapping_mul(37) ^ 0xa5).collect::<Vec<_>>());
        format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"k","typ":"at+jwt"}"#))
    }

    fn clean_of(jwt: &str, value: &str) -> Option<String> {
        let token = Presented::from(OpaqueToken::generate(TokenKind::Session, &mut StdRng::seed_from_u64(1)));
        let guard = LeakGuard::new(jwt.as_bytes(), &token).unwrap();
        let cleaned = guard.clean(value.as_bytes())?;
        Some(String::from_utf8(cleaned).unwrap().replace(token.expose(), "TOKEN"))
    }

    fn clean(value: &str) -> Option<String> {
        clean_of(JWT, value)
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
    fn another_issuers_token_does_not_stand_in_its_place() {
        let token = ForeignToken::parse("f".repeat(8000).as_bytes()).unwrap().into();
        let guard = LeakGuard::new(JWT.as_bytes(), &token).unwrap();
        assert_eq!(guard.clean(format!("t={JWT}; Path=/").as_bytes()).unwrap(), b"t=; Path=/");
    }

    #[test]
    fn percent_encoding_does_not_hide_it() {
        assert_eq!(clean(&JWT.replace('.', "%2e")).unwrap(), "TOKEN");
        assert_eq!(clean(&format!("next=/a?t={}", JWT.replace('e', "%65"))).unwrap(), "next=/a?t=TOKEN");
        assert_eq!(clean(&format!("%0d%0aSet-Cookie:x={}", JWT.replace('J', "%4A"))).unwrap(), "Set-Cookie:x=TOKEN");
        assert_eq!(clean(&format!("next=/a?t={}", JWT.replace('J', "%254a"))).unwrap(), "next=/a?t=TOKEN");
    }

    #[test]
    fn base64_does_not_hide_it_wherever_it_begins() {
        let jwt = long_jwt();
        for around in ["", "a", "ab", "abc", "{\"token\":\""] {
            for encode in [|text: &str| STANDARD.encode(text), |text: &str| URL_SAFE_NO_PAD.encode(text)] {
                let value = format!("state={}; Path=/", encode(&format!("{around}{jwt}{around}")));
                assert_eq!(clean_of(&jwt, &value).unwrap(), "state=; Path=/", "{value}");
            }
        }
        assert_eq!(clean_of(&jwt, &format!("a, {}, b", STANDARD.encode(&jwt))).unwrap(), "a, , b");
    }

    #[test]
    fn cut_in_pieces_it_does_not_leave_either() {
        let jwt = long_jwt();
        let payload = jwt.split('.').nth(1).unwrap();
        let (half, other) = jwt.split_at(jwt.len() / 2);
        for (index, piece) in [half, other].into_iter().enumerate() {
            let left = clean_of(&jwt, &format!("sid.{index}={piece}; Path=/")).unwrap();
            assert!(left.starts_with(&format!("sid.{index}=")) && left.ends_with("; Path=/"), "{left}");
            for window in payload.as_bytes()[COMMON..].windows(2 * PIECE) {
                assert!(memchr::memmem::find(left.as_bytes(), window).is_none(), "{left}");
            }
        }
        let signature = jwt.rsplit('.').next().unwrap();
        assert_eq!(clean_of(&jwt, &format!("x-sig: {signature}")).unwrap(), "x-sig: ");
        // Twice in one value, next to another piece.
        let both = format!("{} {} {}", &payload[COMMON..], &payload[COMMON..], &signature[..60]);
        assert!(clean_of(&jwt, &both).unwrap().len() < PIECE);
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
        // Another JWT of the same issuer begins like ours.
        let other = URL_SAFE_NO_PAD
            .encode(r#"{"iss":"https://auth.example.com","aud":"shop/shop","sub":"u2","exp":2,"nonce":"n"}"#);
        assert_eq!(clean_of(&long_jwt(), &format!("id_token=x.{other}.y")), None);
    }

    #[test]
    fn only_what_is_long_enough_is_looked_at() {
        for (value, found) in
            [("", false), ("aaaa", true), ("aaa aaa", false), ("aaa aaaa", true), ("aaaa;", true), ("a;aaa", false)]
        {
            assert_eq!(has_run(value.as_bytes(), 4), found, "{value}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_around_it_nothing_telling_of_it_is_left(
            before in "[ -~]{0,40}", after in "[ -~]{0,40}", from in 0_usize..200, length in 48_usize..400,
        ) {
            let jwt = long_jwt();
            let piece = &jwt[from.min(jwt.len() - 48)..(from + length).min(jwt.len())];
            let value = format!("{before}{piece}{after}");
            let left = clean_of(&jwt, &value).unwrap_or(value);
            let payload = jwt.split('.').nth(1).unwrap().as_bytes();
            let told = payload[COMMON..].windows(2 * PIECE).any(|w| memchr::memmem::find(left.as_bytes(), w).is_some());
            prop_assert!(!told, "{}", left);
        }
    }
}

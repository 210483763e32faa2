//! What the app answers with: its reserved headers act and are removed, and the JWT does not leave.

pub mod leak_guard;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloakroom_protocol::revocation::RevokeScope;
use serde_json::{Map, Value};

use super::cleanse::reserved;
use super::credential::{is_own_cookie, split_crumb};
use super::head::{Field, Known, is_version_of_http};
use crate::authority::{CommitError, SignOutError};
use crate::config::TokenSource;
use leak_guard::LeakGuard;

/// What the app asks of the sidecar, by `Cloakroom-Session` and `Cloakroom-Logout`.
#[derive(Debug, Default, PartialEq)]
pub struct Wishes {
    /// RFC 7396 merge patch of the session's data.
    pub session: Option<Map<String, Value>>,
    pub logout: Option<RevokeScope>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandBackError {
    #[error("the app's {0} header is not understood")]
    NotUnderstood(&'static str),
    #[error("the app writes to a session, but this request has none")]
    NoSession,
    #[error("the app writes to or ends a session, but the token is another issuer's")]
    Foreign,
    #[error("the app ends a session, but the request has more than one token")]
    SeveralTokens,
    #[error("the session was not written: {0}")]
    Commit(#[from] CommitError),
    #[error("the session was not ended: {0}")]
    SignOut(#[from] SignOutError),
}

const SESSION: &[u8] = b"cloakroom-session";
const LOGOUT: &[u8] = b"cloakroom-logout";

/// Of a final answer, or one that switches protocols: in an interim one they are removed, and do nothing.
pub fn wishes(fields: &[Field<'_>]) -> Result<Option<Wishes>, HandBackError> {
    let mut wishes: Option<Wishes> = None;
    for field in fields.iter().filter(|field| reserved::is_own(field.name)) {
        let wishes = wishes.get_or_insert_default();
        let name = field.name.as_bytes();
        if reserved::is_same(SESSION, name) {
            let wrong = HandBackError::NotUnderstood("Cloakroom-Session");
            let json = URL_SAFE_NO_PAD.decode(trim_padding(field.value)).map_err(|_| wrong)?;
            let patch = serde_json::from_slice(&json).map_err(|_| wrong)?;
            if wishes.session.replace(patch).is_some() {
                return Err(wrong);
            }
        } else if reserved::is_same(LOGOUT, name) {
            let scope = match field.value {
                b"session" => RevokeScope::Session,
                b"everywhere" => RevokeScope::Everywhere,
                _ => return Err(HandBackError::NotUnderstood("Cloakroom-Logout")),
            };
            if wishes.logout.replace(scope).is_some() {
                return Err(HandBackError::NotUnderstood("Cloakroom-Logout"));
            }
        }
    }
    Ok(wishes.filter(|wishes| *wishes != Wishes::default()))
}

fn trim_padding(value: &[u8]) -> &[u8] {
    let end = value.iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
    &value[..end]
}

/// Gives `sink` every field that may leave; returns how many leaks were closed.
pub fn each_field(
    fields: &[Field<'_>],
    guard: Option<&LeakGuard<'_>>,
    sources: &[TokenSource],
    mut sink: impl FnMut(&str, &[u8]),
) -> u32 {
    let mut leaks = 0;
    for (index, field) in fields.iter().enumerate() {
        if !leaves(fields, index, sources) {
            continue;
        }
        if guard.is_some_and(|guard| guard.clean(field.name.as_bytes()).is_some()) {
            leaks += 1;
            continue;
        }
        leaks += clean(field.name, field.value, guard, &mut sink);
    }
    leaks
}

fn clean(name: &str, value: &[u8], guard: Option<&LeakGuard<'_>>, mut sink: impl FnMut(&str, &[u8])) -> u32 {
    match guard.and_then(|guard| guard.clean(value)) {
        None => {
            sink(name, value);
            0
        }
        Some(cleaned) => {
            sink(name, &cleaned);
            1
        }
    }
}

/// What a 101 says of the protocol that comes next; like [`each_field`].
pub fn switched(fields: &[Field<'_>], guard: Option<&LeakGuard<'_>>, mut sink: impl FnMut(&str, &[u8])) -> u32 {
    sink("Connection", b"Upgrade");
    let protocols = fields.iter().filter(|field| Known::of(field.name) == Some(Known::Upgrade));
    protocols.map(|field| clean("Upgrade", field.value, guard, &mut sink)).sum()
}

/// A 426 says what it wants instead (RFC 9110 §15.5.22), except what cannot be had through us; like [`each_field`].
pub fn offered(fields: &[Field<'_>], guard: Option<&LeakGuard<'_>>, mut sink: impl FnMut(&str, &[u8])) -> u32 {
    let protocols = fields.iter().filter(|field| Known::of(field.name) == Some(Known::Upgrade));
    let protocols = protocols.flat_map(|field| field.value.split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    let offered: Vec<&[u8]> =
        protocols.filter(|protocol| !protocol.is_empty() && !is_version_of_http(protocol)).collect();
    if offered.is_empty() {
        return 0;
    }
    sink("Connection", b"Upgrade");
    clean("Upgrade", &offered.join(&b", "[..]), guard, sink)
}

fn leaves(fields: &[Field<'_>], index: usize, sources: &[TokenSource]) -> bool {
    let field = &fields[index];
    match Known::of(field.name) {
        Some(Known::SetCookie) => {
            let crumb = field.value.split(|b| *b == b';').next().unwrap_or_default();
            // Of a cookie without a name browsers send the value alone (RFC 6265bis §5.8.3), which then reads as name and value.
            let begin = crumb.iter().position(|b| *b != b'=' && !b.is_ascii_whitespace()).unwrap_or(crumb.len());
            !is_own_cookie(split_crumb(crumb[begin..].trim_ascii()).0, sources)
        }
        Some(known) if known.is_per_hop() => false,
        _ => !reserved::is_own(field.name) && !is_nominated(fields, field.name),
    }
}

fn is_nominated(fields: &[Field<'_>], name: &str) -> bool {
    fields.iter().any(|field| {
        field.name.len() == 10
            && Known::of(field.name) == Some(Known::Connection)
            && field
                .value
                .split(|b| *b == b',')
                .any(|nominated| nominated.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// Whether an answer's `Cache-Control` says that shared caches may keep it though it was asked for with `Authorization`, or that they may
/// not (RFC 9111 §3.5, §5.2.2).
pub fn says_who_may_keep_it(fields: &[Field<'_>]) -> bool {
    const TELLING: [&str; 5] = ["private", "no-store", "public", "s-maxage", "must-revalidate"];
    let named = fields.iter().filter(|field| field.name.eq_ignore_ascii_case("cache-control"));
    named.flat_map(|field| field.value.split(|b| *b == b',')).any(|directive| {
        let name = directive.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        TELLING.iter().any(|telling| name.eq_ignore_ascii_case(telling.as_bytes()))
    })
}

/// Ends the cookie with the session.
pub fn write_expired_cookie(sources: &[TokenSource], mut sink: impl FnMut(&str, &[u8])) {
    for source in sources {
        if let TokenSource::Cookie(name) = source {
            let expired = format!("{name}=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax");
            sink("Set-Cookie", expired.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field<'h>(name: &'h str, value: &'h str) -> Field<'h> {
        Field { name, value: value.as_bytes() }
    }

    fn left(fields: &[Field<'_>]) -> Vec<String> {
        let mut names = Vec::new();
        each_field(fields, None, &[TokenSource::Cookie("sid".into())], |name, value| {
            names.push(format!("{name}: {}", String::from_utf8_lossy(value)));
        });
        names
    }

    #[test]
    fn a_patch_and_a_logout_are_read() {
        let patch = URL_SAFE_NO_PAD.encode(r#"{"cart":[1],"locale":null}"#);
        let wished =
            wishes(&[field("cloakroom_SESSION", &patch), field("Cloakroom-Logout", "everywhere")]).unwrap().unwrap();
        assert_eq!(wished.session.unwrap()["cart"][0], 1);
        assert_eq!(wished.logout, Some(RevokeScope::Everywhere));
        assert_eq!(wishes(&[field("X-Cloakroom-Session", &patch)]).unwrap(), None);
    }

    #[test]
    fn what_is_not_understood_is_an_error_and_not_silence() {
        let number = URL_SAFE_NO_PAD.encode("1");
        let good = URL_SAFE_NO_PAD.encode("{}");
        for fields in [
            vec![field("Cloakroom-Session", "%%%")],
            vec![field("Cloakroom-Session", &number)],
            vec![field("Cloakroom-Session", "")],
            vec![field("Cloakroom-Session", &good), field("Cloakroom-Session", &good)],
            vec![field("Cloakroom-Logout", "later")],
            vec![field("Cloakroom-Logout", "session"), field("cloakroom.logout", "session")],
        ] {
            assert!(wishes(&fields).is_err(), "{fields:?}");
        }
    }

    #[test]
    fn an_answer_says_in_many_ways_who_may_keep_it() {
        let says = |values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| field("cache-CONTROL", value)).collect();
            says_who_may_keep_it(&fields)
        };
        for values in [&["private"][..], &["max-age=60 , Public"], &["max-age=60", "S-MaxAge=5"], &["no-store"]] {
            assert!(says(values), "{values:?}");
        }
        for values in [&[][..], &[""], &["max-age=60"], &["no-cache"], &["x-private, proxy-revalidate"]] {
            assert!(!says(values), "{values:?}");
        }
    }

    #[test]
    fn only_what_is_the_clients_leaves() {
        let kept = left(&[
            field("Cloakroom-Session", "x"),
            field("CLOAKROOM_logout", "x"),
            field("Cloakroom-Future", "x"),
            field("Connection", "close, X-Hop"),
            field("x-hop", "1"),
            field("Transfer-Encoding", "chunked"),
            field("Content-Length", "1"),
            field("Upgrade", "h2c"),
            field("Set-Cookie", "sid=stolen; Path=/"),
            field("set-cookie", " __Host-cloakroom-flow-x = 1"),
            field("Set-Cookie", "=sid=2"),
            field("Set-Cookie", " = =__Host-cloakroom=5; Path=/"),
            field("Set-Cookie", "theme=dark; sid=1"),
            field("Set-Cookie", "=theme=sid; Path=/"),
            field("Content-Type", "text/plain"),
        ]);
        assert_eq!(
            kept,
            ["Set-Cookie: theme=dark; sid=1", "Set-Cookie: =theme=sid; Path=/", "Content-Type: text/plain"]
        );
    }
}

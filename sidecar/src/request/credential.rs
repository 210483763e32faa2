//! The one token of a request, from the policy's sources; what carries it is not forwarded.

use cloakroom_protocol::presented::{ForeignToken, Presented};
use cloakroom_protocol::token::{InvalidToken, OpaqueToken, TokenKind};

use super::cleanse::Cleansed;
use crate::config::TokenSource;

/// A token, and whether a browser adds it by itself.
#[derive(Debug)]
pub struct Credential {
    pub token: Presented,
    /// Came by cookie and by nothing else, so that another site's page may have caused the request.
    pub ambient: bool,
    /// In `Authorization`, where caches on the way see that the answer is for one person (RFC 9111 §3.5).
    pub shown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// With where.
    #[error("more than one token: {0}")]
    Ambiguous(&'static str),
    /// Costs no look-up.
    #[error(transparent)]
    Malformed(#[from] InvalidToken),
}

/// With `foreign`, what is not ours may be another issuer's, if it came by header alone: a cookie travels by itself, and only what our own
/// sign-in has put there may count for that.
pub fn find(
    cleansed: &Cleansed<'_>,
    sources: &[TokenSource],
    foreign: bool,
) -> Result<Option<Credential>, CredentialError> {
    let mut found: Option<&[u8]> = None;
    let (mut ambient, mut by_cookie, mut shown) = (true, false, false);
    for source in sources {
        let value = match source {
            TokenSource::Cookie(name) => from_cookies(cleansed, name)?,
            TokenSource::Header { name, scheme } => from_header(cleansed, name.as_str(), scheme.as_deref())?,
        };
        let Some(value) = value else { continue };
        let cookie = matches!(source, TokenSource::Cookie(_));
        if found.is_some_and(|first| first != value) {
            return Err(CredentialError::Ambiguous(match (ambient && cookie, by_cookie || cookie) {
                (true, _) => "two cookies",
                (false, true) => "a cookie and a header",
                (false, false) => "two headers",
            }));
        }
        (ambient, by_cookie) = (ambient && cookie, by_cookie || cookie);
        shown |= matches!(source, TokenSource::Header { name, .. } if *name == http::header::AUTHORIZATION);
        found = Some(value);
    }
    let Some(value) = found else { return Ok(None) };
    let token = match OpaqueToken::parse(value) {
        Err(InvalidToken) if foreign && !by_cookie => {
            return Ok(Some(Credential { token: ForeignToken::parse(value)?.into(), ambient, shown }));
        }
        ours => ours?,
    };
    // A refresh token is for the auth service's eyes only.
    if token.kind() == TokenKind::Refresh {
        return Err(CredentialError::Malformed(InvalidToken));
    }
    Ok(Some(Credential { token: token.into(), ambient, shown }))
}

/// Shadow mode takes nothing from an app that judges for itself: whoever is nobody here may still be somebody there, by what stands in the
/// headers for credentials. Only a token of ours is for nobody but us.
pub fn leave_to_app(cleansed: &mut Cleansed<'_>, sources: &[TokenSource]) {
    for (index, field) in cleansed.head.fields.iter().enumerate() {
        let mut names = headers(sources).map(|(name, _)| name).chain(["authorization"]);
        let is_credential = names.any(|name| field.name.eq_ignore_ascii_case(name));
        if is_credential && !holds_token(field.value) && !cleansed.is_nominated(field.name) {
            cleansed.dropped.remove(index);
        }
    }
}

/// Whether a token of ours stands anywhere in it, whatever is around it.
fn holds_token(value: &[u8]) -> bool {
    value.split(|b| !b.is_ascii_alphanumeric() && *b != b'_').any(|piece| OpaqueToken::parse(piece).is_ok())
}

/// Whether anything came in a header that is a source, good or bad.
pub fn is_in_header(cleansed: &Cleansed<'_>, sources: &[TokenSource]) -> bool {
    headers(sources).any(|(name, scheme)| !matches!(from_header(cleansed, name, scheme), Ok(None)))
}

/// Those of the sources that are headers, with their schemes.
fn headers(sources: &[TokenSource]) -> impl Iterator<Item = (&str, Option<&str>)> {
    sources.iter().filter_map(|source| match source {
        TokenSource::Header { name, scheme } => Some((name.as_str(), scheme.as_deref())),
        TokenSource::Cookie(_) => None,
    })
}

fn from_header<'h>(
    cleansed: &Cleansed<'h>,
    name: &str,
    scheme: Option<&str>,
) -> Result<Option<&'h [u8]>, CredentialError> {
    let mut fields = cleansed.head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return Err(CredentialError::Ambiguous("a header twice"));
    }
    let value = field.value;
    let Some(scheme) = scheme else { return Ok((!value.is_empty()).then_some(value)) };
    let Some((given, rest)) = value.split_at_checked(scheme.len()) else { return Ok(None) };
    if !given.eq_ignore_ascii_case(scheme.as_bytes()) || !matches!(rest.first(), None | Some(b' ')) {
        return Ok(None);
    }
    // RFC 9110 §11.4: one or more spaces. A scheme without a token is a malformed token, not none.
    Ok(Some(rest.trim_ascii_start()))
}

fn from_cookies<'h>(cleansed: &Cleansed<'h>, name: &str) -> Result<Option<&'h [u8]>, CredentialError> {
    if cleansed.cookies.is_empty() {
        return Ok(None);
    }
    let mut found: Option<&[u8]> = None;
    for (index, field) in cleansed.head.fields.iter().enumerate() {
        if !cleansed.cookies.contains(index) {
            continue;
        }
        for crumb in crumbs(field.value) {
            let (crumb_name, value) = split_crumb(crumb);
            if crumb_name != name.as_bytes() || value.is_empty() {
                continue;
            }
            if found.is_some_and(|first| first != value) {
                return Err(CredentialError::Ambiguous("a cookie with two values"));
            }
            found = Some(value);
        }
    }
    Ok(found)
}

/// Whether the app must not see this cookie: a token, or anything else of ours.
pub fn is_own_cookie(name: &[u8], sources: &[TokenSource]) -> bool {
    // Browsers compare the prefix without case (RFC 6265bis §5.7), so an app may be shown one under either spelling.
    let prefixed = name.get(..OWN_COOKIES.len()).is_some_and(|start| start.eq_ignore_ascii_case(OWN_COOKIES));
    prefixed || sources.iter().any(|source| matches!(source, TokenSource::Cookie(own) if own.as_bytes() == name))
}

/// Sessions and sign-in flows.
const OWN_COOKIES: &[u8] = b"__Host-cloakroom";

/// One `Cookie` line without our cookies, the others byte for byte; no line if none is left. HTTP/2 cuts the header up, HTTP/1.1 wants it
/// whole (RFC 9113 §8.2.3).
pub fn write_other_cookies<'v>(values: impl Iterator<Item = &'v [u8]>, sources: &[TokenSource], out: &mut Vec<u8>) {
    let mut separator: &[u8] = b"Cookie: ";
    for value in values {
        if !crumbs(value).any(|crumb| is_own_cookie(split_crumb(crumb).0, sources)) {
            out.extend_from_slice(separator);
            out.extend_from_slice(value);
            separator = b"; ";
            continue;
        }
        for crumb in crumbs(value).filter(|crumb| !crumb.is_empty() && !is_own_cookie(split_crumb(crumb).0, sources)) {
            out.extend_from_slice(separator);
            out.extend_from_slice(crumb);
            separator = b"; ";
        }
    }
    if separator == b"; " {
        out.extend_from_slice(b"\r\n");
    }
}

fn crumbs(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|b| *b == b';').map(<[u8]>::trim_ascii)
}

/// Name and value; a value in double quotes is what stands between them, as most servers read it.
pub fn split_crumb(crumb: &[u8]) -> (&[u8], &[u8]) {
    let Some(equals) = crumb.iter().position(|b| *b == b'=') else { return (b"", crumb) };
    let (name, value) = (crumb[..equals].trim_ascii(), crumb[equals + 1..].trim_ascii());
    let unquoted = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
    (name, unquoted)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::request::cleanse::cleanse;
    use crate::request::cleanse::reserved::Reserved;
    use crate::request::head::{Field, Head, Protocol};

    fn token(seed: u64) -> String {
        OpaqueToken::generate(TokenKind::Session, &mut StdRng::seed_from_u64(seed)).expose().to_owned()
    }

    fn sources() -> Vec<TokenSource> {
        vec![
            TokenSource::Cookie("__Host-cloakroom".into()),
            TokenSource::Header { name: http::header::AUTHORIZATION, scheme: Some("Bearer".into()) },
            TokenSource::Header { name: http::HeaderName::from_static("x-api-key"), scheme: None },
        ]
    }

    fn take(fields: &[(&str, String)]) -> Result<Option<Credential>, CredentialError> {
        take_with(fields, false)
    }

    fn take_with(fields: &[(&str, String)], foreign: bool) -> Result<Option<Credential>, CredentialError> {
        let fields: Vec<_> = fields.iter().map(|(name, value)| Field { name, value: value.as_bytes() }).collect();
        let head = Head {
            method: "GET",
            path: "/",
            query: None,
            host: "a",
            fields: &fields,
            protocol: Protocol::Http11,
            upgrade: false,
        };
        let reserved = Reserved::new([].into_iter(), false);
        find(&cleanse(&head, &reserved, IpAddr::V4(Ipv4Addr::LOCALHOST), &[]).unwrap(), &sources(), foreign)
    }

    fn taken(fields: &[(&str, String)]) -> Option<(String, bool)> {
        take(fields).unwrap().map(|credential| (credential.token.expose().to_owned(), credential.ambient))
    }

    #[test]
    fn a_token_is_found_in_each_source() {
        let t = token(1);
        assert_eq!(taken(&[("Cookie", format!("a=1; __Host-cloakroom={t}; b=2"))]), Some((t.clone(), true)));
        assert_eq!(taken(&[("cookie", format!("__Host-cloakroom=\"{t}\""))]), Some((t.clone(), true)));
        assert_eq!(taken(&[("Authorization", format!("bEARER   {t}"))]), Some((t.clone(), false)));
        assert_eq!(taken(&[("x-API-key", t.clone())]), Some((t.clone(), false)));
        assert_eq!(taken(&[("X-Api-Key", t.clone()), ("Cookie", format!("__Host-cloakroom={t}"))]), Some((t, false)));
        assert_eq!(taken(&[]), None);
        assert_eq!(taken(&[("Authorization", "Basic dTpw".into())]), None);
        assert_eq!(taken(&[("Cookie", "__Host-cloakroom=; x=y".into())]), None);
    }

    #[test]
    fn two_tokens_are_an_error_wherever_they_are() {
        let (a, b) = (token(1), token(2));
        for (fields, place) in [
            (
                vec![("Cookie", format!("__Host-cloakroom={a}")), ("Authorization", format!("Bearer {b}"))],
                "a cookie and a header",
            ),
            (vec![("Cookie", format!("__Host-cloakroom={a}; __Host-cloakroom={b}"))], "a cookie with two values"),
            (
                vec![("Cookie", format!("__Host-cloakroom={a}")), ("Cookie", format!("__Host-cloakroom={b}"))],
                "a cookie with two values",
            ),
            (
                vec![("Authorization", format!("Bearer {a}")), ("Authorization", format!("Bearer {a}"))],
                "a header twice",
            ),
            (vec![("Authorization", format!("Bearer {a}")), ("authorization", "Basic x".into())], "a header twice"),
            (vec![("Authorization", "Bearer junk".into()), ("X-Api-Key", a.clone())], "two headers"),
        ] {
            assert_eq!(take(&fields).unwrap_err(), CredentialError::Ambiguous(place), "{fields:?}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused_without_a_look_up() {
        let refresh = OpaqueToken::generate(TokenKind::Refresh, &mut StdRng::seed_from_u64(1)).expose().to_owned();
        for value in [
            "Bearer".into(),
            "Bearer ".into(),
            "Bearer junk".into(),
            format!("Bearer {} x", token(1)),
            format!("Bearer {refresh}"),
        ] {
            assert_eq!(
                take(&[("Authorization", value.clone())]).unwrap_err(),
                CredentialError::Malformed(InvalidToken),
                "{value}"
            );
        }
    }

    #[test]
    fn another_issuers_token_is_taken_from_headers_where_the_policy_says_so() {
        let jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl".to_owned();
        for header in [("Authorization", format!("Bearer {jwt}")), ("X-Api-Key", jwt.clone())] {
            let taken = take_with(std::slice::from_ref(&header), true).unwrap().unwrap();
            assert!(!taken.ambient && matches!(&taken.token, Presented::Foreign(found) if found.expose() == jwt));
            assert_eq!(take(&[header]).unwrap_err(), InvalidToken.into(), "not everywhere");
        }
        let ours = take_with(&[("Authorization", format!("Bearer {}", token(1)))], true).unwrap().unwrap();
        assert!(ours.token.ours().is_some());
    }

    #[test]
    fn a_cookie_never_carries_another_issuers_token_even_beside_a_header() {
        let jwt = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl".to_owned();
        let cookie = ("Cookie", format!("__Host-cloakroom={jwt}"));
        let header = ("Authorization", format!("Bearer {jwt}"));
        for fields in [vec![cookie.clone()], vec![cookie, header]] {
            assert_eq!(take_with(&fields, true).unwrap_err(), InvalidToken.into(), "{fields:?}");
        }
    }

    #[test]
    fn what_looks_like_ours_or_like_no_token_at_all_is_never_sent_to_another_issuer() {
        let refresh = OpaqueToken::generate(TokenKind::Refresh, &mut StdRng::seed_from_u64(1)).expose().to_owned();
        let broken = token(1).replace(|c: char| c.is_ascii_digit(), "x");
        for value in [broken, refresh, token(1)[..70].to_owned(), "short".into(), "a b".repeat(9), "x".repeat(9000)] {
            let header = [("Authorization", format!("Bearer {value}"))];
            assert_eq!(take_with(&header, true).unwrap_err(), InvalidToken.into(), "{value}");
        }
    }

    fn others(value: &str) -> String {
        let mut out = Vec::new();
        write_other_cookies(value.split('|').map(str::as_bytes), &sources(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn our_cookies_go_and_the_others_stay_byte_for_byte() {
        assert_eq!(others("a=1; __Host-cloakroom=x; b=\"2 3\""), "Cookie: a=1; b=\"2 3\"\r\n");
        assert_eq!(others("__Host-cloakroom=x"), "");
        assert_eq!(others("__Host-cloakroom-flow-1=x;__host-CLOAKROOM=y; ; c"), "Cookie: c\r\n");
        assert_eq!(others("a=1;b=2 ;  c=3"), "Cookie: a=1;b=2 ;  c=3\r\n");
        assert_eq!(others(" __Host-cloakroom = x ; z=__Host-cloakroom=1"), "Cookie: z=__Host-cloakroom=1\r\n");
        assert_eq!(others("a=1|__Host-cloakroom=x|b=2; __Host-cloakroom=x"), "Cookie: a=1; b=2\r\n");
    }
}

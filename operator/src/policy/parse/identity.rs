//! The headers and cookies that carry identity: clients' tokens in, the JWT and its claims on to the app.

use std::collections::{BTreeMap, BTreeSet};

use cloakroom_crds as crd;
use cloakroom_protocol::sidecar_config::TokenSource;

use super::Rejected;

/// Headers that mean something to HTTP itself or to the sidecar; an identity in one of them would change what the message is.
const RESERVED: [&str; 30] = [
    "accept",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "proxy-authenticate",
    "proxy-connection",
    "range",
    "referer",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-server",
];

pub(super) fn token_sources(sources: &[crd::TokenSource]) -> Result<Vec<TokenSource>, Rejected> {
    if sources.is_empty() {
        return Err(Rejected::new("spec.token.sources", "without a source no client could ever be authenticated"));
    }
    let mut parsed = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let field = format!("spec.token.sources[{index}]");
        let source = token_source(&field, source)?;
        if parsed.iter().any(|other| is_same(other, &source)) {
            return Err(Rejected::new(field, "this source is there twice"));
        }
        parsed.push(source);
    }
    Ok(parsed)
}

/// Header names and schemes are compared without case (RFC 9110 §5.1, §11.1), cookie names with.
fn is_same(a: &TokenSource, b: &TokenSource) -> bool {
    match (a, b) {
        (TokenSource::Header { name: a, scheme: scheme_a }, TokenSource::Header { name: b, scheme: scheme_b }) => {
            let lower = |scheme: &Option<String>| scheme.as_ref().map(|s| s.to_ascii_lowercase());
            canonical(a) == canonical(b) && lower(scheme_a) == lower(scheme_b)
        }
        _ => a == b,
    }
}

fn token_source(field: &str, source: &crd::TokenSource) -> Result<TokenSource, Rejected> {
    match (&source.cookie, &source.header, &source.scheme) {
        (Some(name), None, None) => cookie(field, name),
        (None, Some(name), scheme) => {
            let name = header(field, name)?;
            if name.eq_ignore_ascii_case("authorization") && scheme.is_none() {
                return Err(Rejected::new(field, "the Authorization header needs a scheme, e.g. Bearer"));
            }
            if let Some(scheme) = scheme
                && (scheme.is_empty() || !scheme.bytes().all(is_token_byte))
            {
                return Err(Rejected::new(field, format!("{scheme:?} is not a scheme such as Bearer")));
            }
            Ok(TokenSource::Header { name, scheme: scheme.clone() })
        }
        (None, None, _) | (Some(_), Some(_), _) => Err(Rejected::new(field, "a source is either a cookie or a header")),
        (Some(_), None, Some(_)) => Err(Rejected::new(field, "only a header has a scheme")),
    }
}

fn cookie(field: &str, name: &str) -> Result<TokenSource, Rejected> {
    // RFC 6265 §4.1.1: a cookie's name is a token.
    if !(1..=64).contains(&name.len()) || !name.bytes().all(is_token_byte) {
        return Err(Rejected::new(field, format!("{name:?} cannot be the name of a cookie")));
    }
    if name.starts_with("__Host-cloakroom-flow") {
        return Err(Rejected::new(field, "cookies named __Host-cloakroom-flow… belong to the sign-in flow"));
    }
    Ok(TokenSource::Cookie { name: name.to_owned() })
}

/// Which ids there are, the auth service knows; here it is only seen that they can be ids.
pub(super) fn token_issuers(token: &crd::Token) -> Result<BTreeSet<String>, Rejected> {
    let field = "spec.token.issuers";
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_id = |id: &String| {
        (1..=32).contains(&id.len())
            && id.bytes().all(|b| plain(b) || b == b'-')
            && !id.starts_with('-')
            && !id.ends_with('-')
    };
    if let Some(id) = token.issuers.iter().find(|id| !is_id(id)) {
        let sentence = format!("{id:?}: an issuer's id has at most 32 lower-case letters, digits and dashes");
        return Err(Rejected::new(field, sentence));
    }
    // A cookie is sent by browsers by themselves; only what our own sign-in has put there may count for that.
    if !token.issuers.is_empty() && token.sources.iter().all(|source| source.header.is_none()) {
        let sentence = "tokens of other issuers are taken from headers only: name one among the sources";
        return Err(Rejected::new(field, sentence));
    }
    Ok(token.issuers.iter().cloned().collect())
}

pub(super) fn jwt_header(name: &str) -> Result<String, Rejected> {
    header("spec.jwt.header", name)
}

/// Claims that become headers: none may share its name with another identity header, in any spelling.
pub(super) fn claim_headers(
    jwt: &crd::Jwt,
    sources: &[crd::TokenSource],
) -> Result<BTreeMap<String, String>, Rejected> {
    let field = "spec.jwt.claimHeaders";
    let mut taken: Vec<String> = sources.iter().filter_map(|s| s.header.as_deref()).map(canonical).collect();
    taken.push(canonical(&jwt.header));
    let mut parsed = BTreeMap::new();
    for (name, claim) in &jwt.claim_headers {
        if taken.contains(&canonical(name)) {
            return Err(Rejected::new(field, format!("{name} already carries the token, the JWT or another claim")));
        }
        taken.push(canonical(name));
        if claim.is_empty() || claim.len() > 64 || !claim.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Rejected::new(field, format!("{claim:?} cannot be the name of a claim")));
        }
        parsed.insert(header(field, name)?, claim.clone());
    }
    Ok(parsed)
}

/// Letters, digits and dashes only: gateways and CGI apps confuse all other spellings.
fn header(field: &str, name: &str) -> Result<String, Rejected> {
    let valid = (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !valid {
        return Err(Rejected::new(field, format!("{name:?}: a header's name has letters, digits and dashes")));
    }
    let lower = name.to_ascii_lowercase();
    let ours = lower.starts_with("cloakroom-") || lower.starts_with("sec-");
    if ours || RESERVED.contains(&lower.as_str()) {
        return Err(Rejected::new(
            field,
            format!("{name} has a meaning of its own in HTTP and cannot carry an identity"),
        ));
    }
    Ok(name.to_owned())
}

/// RFC 9110 §5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn canonical(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

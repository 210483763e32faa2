//! What black-box tests stand on: the real `cloakroom local` on free ports, clients that behave as browsers and programs do.

pub mod browser;
pub mod chromium;
pub mod held;
pub mod html;
pub mod local;
pub mod python;
pub mod raw;
pub mod redis;
pub mod service;

/// An opaque token of any kind, wherever it hides in a text.
pub fn opaque_token_in(text: &str) -> Option<&str> {
    const LENGTH: usize = 74;
    ["cs_", "ca_", "cr_", "ck_"].iter().flat_map(|prefix| text.match_indices(prefix)).find_map(|(start, _)| {
        let token = text.get(start..start + LENGTH)?;
        token[3..].bytes().all(|b| b.is_ascii_alphanumeric()).then_some(token)
    })
}

/// A compact JWS wherever it hides in a text: three base64url parts, the first of them a JSON object.
pub fn jwt_in(text: &str) -> Option<&str> {
    let in_jwt = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.match_indices("eyJ").find_map(|(start, _)| {
        let rest = &text[start..];
        let token = &rest[..rest.find(|c| !in_jwt(c)).unwrap_or(rest.len())];
        (token.split('.').count() == 3).then_some(token)
    })
}

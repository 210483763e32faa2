//! Cookies of a sign-in under way. They start with `__Host-`, so no other host can set or read them (RFC 6265bis §4.1.3.2).

use cloakroom_protocol::token::OpaqueToken;
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// `__Host-cloakroom-flow-<state>` = PKCE verifier.
const FLOW: &str = "__Host-cloakroom-flow-";
/// How often sign-in came back within the last minute, see [`LOOP_AFTER`].
const RETURNS: &str = "__Host-cloakroom-flow-returns";
/// A person has this many tabs waiting at most; older ones start again. Ten bytes short of a kilobyte of header.
const MAX_FLOWS: usize = 8;
const FLOW_SECONDS: u32 = 600;
const RETURNS_SECONDS: u32 = 60;
/// Whoever signed in so often within a minute goes round in circles.
pub const LOOP_AFTER: u32 = 4;

const ATTRIBUTES: &str = "Path=/; HttpOnly; Secure; SameSite=Lax";

/// What a request brought.
pub struct FlowCookies {
    /// State and verifier, oldest first, as browsers send them (RFC 6265 §5.4).
    flows: Vec<(String, String)>,
    pub returns: u32,
}

impl FlowCookies {
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self { flows: Vec::new(), returns: 0 };
        for (name, value) in cookies(headers) {
            if name == RETURNS {
                found.returns = value.parse().unwrap_or(0);
            } else if let Some(state) = name.strip_prefix(FLOW)
                && is_state(state)
            {
                found.flows.push((state.to_owned(), value.to_owned()));
            }
        }
        found
    }

    pub fn verifier(&self, state: &str) -> Option<&str> {
        self.flows.iter().find(|(known, _)| known == state).map(|(_, verifier)| verifier.as_str())
    }

    /// Sets the cookie of a new flow, and clears the oldest where there are too many.
    pub fn begin(&self, state: &str, verifier: &str, headers: &mut HeaderMap) {
        let surplus = (self.flows.len() + 1).saturating_sub(MAX_FLOWS);
        for (old, _) in &self.flows[..surplus] {
            clear(&format!("{FLOW}{old}"), headers);
        }
        append(format!("{FLOW}{state}={verifier}; Max-Age={FLOW_SECONDS}; {ATTRIBUTES}"), headers);
    }

    pub fn end(state: &str, headers: &mut HeaderMap) {
        clear(&format!("{FLOW}{state}"), headers);
    }

    /// Counts one more return from sign-in.
    pub fn returned(&self, headers: &mut HeaderMap) {
        let returns = self.returns.saturating_add(1);
        append(format!("{RETURNS}={returns}; Max-Age={RETURNS_SECONDS}; {ATTRIBUTES}"), headers);
    }

    pub fn forget_returns(headers: &mut HeaderMap) {
        clear(RETURNS, headers);
    }
}

/// A session's cookie; `seconds` until the session's absolute end.
pub fn set_session(name: &str, token: &str, seconds: u64, headers: &mut HeaderMap) {
    append(format!("{name}={token}; Max-Age={seconds}; {ATTRIBUTES}"), headers);
}

/// Whether a cookie of that name holds something that could be a token.
pub fn has_token(name: &str, headers: &HeaderMap) -> bool {
    cookies(headers).any(|(found, value)| found == name && value.parse::<OpaqueToken>().is_ok())
}

pub fn clear(name: &str, headers: &mut HeaderMap) {
    append(format!("{name}=; Max-Age=0; {ATTRIBUTES}"), headers);
}

/// 128 bits in base62, as [`TokenId`](cloakroom_protocol::token::TokenId) has them.
pub fn is_state(text: &str) -> bool {
    text.len() == 22 && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

fn append(cookie: String, headers: &mut HeaderMap) {
    // Names come from the config, values from us or from tokens whose form was checked: visible ASCII.
    if let Ok(value) = HeaderValue::try_from(cookie) {
        headers.append(SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookies: &[String]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for cookie in cookies {
            headers.append(COOKIE, cookie.parse().unwrap());
        }
        headers
    }

    fn set(headers: &HeaderMap) -> Vec<&str> {
        headers.get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap()).collect()
    }

    fn state(at: usize) -> String {
        format!("{at:022}")
    }

    #[test]
    fn a_flow_finds_its_own_verifier_only() {
        let cookies = FlowCookies::of(&headers(&[
            format!("a=b; {FLOW}{}=v1;{FLOW}{}=v2", state(1), state(2)),
            format!("{RETURNS}=3"),
        ]));
        assert_eq!(cookies.verifier(&state(2)), Some("v2"));
        assert_eq!(cookies.verifier(&state(3)), None);
        assert_eq!(cookies.returns, 3);
        assert_eq!(cookies.verifier("returns"), None);
    }

    #[test]
    fn flows_never_pile_up() {
        let many: Vec<String> = (0..20).map(|at| format!("{FLOW}{}=v", state(at))).collect();
        let mut out = HeaderMap::new();
        FlowCookies::of(&headers(&many)).begin(&state(99), "verifier", &mut out);
        let set = set(&out);
        assert_eq!(set.len(), 14, "thirteen go, one comes");
        assert!(set[0].starts_with(&format!("{FLOW}{}=; Max-Age=0; ", state(0))));
        assert_eq!(
            set[13],
            format!("{FLOW}{}=verifier; Max-Age=600; Path=/; HttpOnly; Secure; SameSite=Lax", state(99))
        );
    }

    #[test]
    fn odd_cookies_are_no_flows() {
        for odd in [
            format!("{FLOW}short=v"),
            format!("{FLOW}{}=v", "\u{e9}".repeat(11)),
            format!("{FLOW}{}x=v", state(1)),
            FLOW.to_owned(),
        ] {
            let Ok(value) = HeaderValue::from_str(&odd) else { continue };
            let mut headers = HeaderMap::new();
            headers.append(COOKIE, value);
            assert!(FlowCookies::of(&headers).flows.is_empty(), "{odd}");
        }
    }
}

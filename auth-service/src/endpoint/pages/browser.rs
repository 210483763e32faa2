//! What a browser brings and takes away: two cookies, one that proves that a form came from our page, one that is the sign-in.

use std::net::IpAddr;

use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, header};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::error::PageError;
use crate::app::App;
use crate::random::SECRET_LEN;
use crate::record::hash::StoredHash;
use crate::record::session::{self, Session, Terms};

/// Bound to this host by its prefix (RFC 6265bis §4.1.3): no neighbour can set it.
pub const SSO_COOKIE: &str = "__Host-cloakroom-sso";
pub const BROWSER_COOKIE: &str = "__Host-cloakroom-browser";

pub struct Browser {
    sso: Option<OpaqueToken>,
    /// Random, this browser's own.
    secret: String,
    address: IpAddr,
    set: Vec<String>,
}

impl Browser {
    pub fn of(app: &App, headers: &HeaderMap, address: IpAddr) -> Self {
        let sso = cookie(headers, SSO_COOKIE).and_then(|text| OpaqueToken::parse(text.as_bytes()).ok());
        let known = cookie(headers, BROWSER_COOKIE)
            .filter(|secret| secret.len() == SECRET_LEN && secret.bytes().all(|b| b.is_ascii_alphanumeric()));
        let mut set = Vec::new();
        let secret = known.map_or_else(
            || {
                let secret = app.random.secret();
                set.push(format!("{BROWSER_COOKIE}={secret}; Path=/; Secure; HttpOnly; SameSite=Lax"));
                secret
            },
            str::to_owned,
        );
        Self { sso: sso.filter(|token| token.kind() == TokenKind::Session), secret, address, set }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The session that this browser is signed in with.
    pub async fn session(&self, app: &App) -> Result<Option<Session>, PageError> {
        let Some(token) = &self.sso else { return Ok(None) };
        let session = session::load(app.store(), token.id()).await?;
        let hash = StoredHash::from(token.secret_hash());
        let config = &app.config.session;
        let now = app.now();
        Ok(session.filter(|session| {
            // Idle time as the longest of the apps in use allows; each app applies its own again.
            let terms = Terms { idle: config.idle_seconds.max(session.longest_idle), absolute: u64::MAX };
            session.facts.sso.matches(&hash) && session.is_within(terms, now)
        }))
    }

    pub fn hash(&self) -> StoredHash {
        StoredHash::of_secret(&self.secret)
    }

    /// CSRF token of a form: only a page that this browser got can have it.
    pub fn form_token(&self, purpose: &str) -> String {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()) else {
            unreachable!("HMAC takes keys of any length (RFC 2104 §2)")
        };
        mac.update(purpose.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }

    pub fn proves(&self, purpose: &str, token: Option<&str>) -> bool {
        token.is_some_and(|token| self.form_token(purpose).as_bytes().ct_eq(token.as_bytes()).into())
    }

    /// Signed in: the browser's secret changes too, so that nothing from before the sign-in is worth anything after it.
    #[must_use]
    pub fn signed_in(mut self, app: &App, token: &OpaqueToken) -> Self {
        self.secret = app.random.secret();
        self.set = vec![
            format!("{SSO_COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Lax", token.expose()),
            format!("{BROWSER_COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Lax", self.secret),
        ];
        self
    }

    #[must_use]
    pub fn forget_session(mut self) -> Self {
        self.sso = None;
        self.set.push(format!("{SSO_COOKIE}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"));
        self
    }

    /// Puts the cookies onto a response.
    pub fn answer(self, mut response: Response) -> Response {
        for cookie in self.set {
            if let Ok(value) = HeaderValue::from_str(&cookie) {
                response.headers_mut().append(header::SET_COOKIE, value);
            }
        }
        response
    }
}

/// The cookie, if there is just one of that name: two could be somebody's attempt to have his own believed.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(given, _)| *given == name)
        .map(|(_, value)| value);
    let first = found.next()?;
    if found.next().is_some() { None } else { Some(first) }
}

/// A form that another site sent is refused even if it had the token. Browsers without these headers are judged by the token alone.
pub fn is_from_us(app: &App, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(HeaderValue::as_bytes);
    text("origin").is_none_or(|origin| origin == app.config.issuer.as_bytes())
        && text("sec-fetch-site").is_none_or(|site| matches!(site, b"same-origin" | b"none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_cookies_of_one_name_none_is_believed() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("a=1; __Host-cloakroom-sso=x"));
        assert_eq!(cookie(&headers, SSO_COOKIE), Some("x"));
        headers.append(header::COOKIE, HeaderValue::from_static("__Host-cloakroom-sso=y"));
        assert_eq!(cookie(&headers, SSO_COOKIE), None);
        assert_eq!(cookie(&headers, "cloakroom-sso"), None);
    }
}

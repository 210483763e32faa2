//! The policy in force: the mounted config, parsed whole or refused whole.

pub mod file;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use cloakroom_protocol::policy_ref::PolicyRef;
use cloakroom_protocol::sidecar_config::{
    AppProtocol, FORMAT, Limits, Mode, Outage, Preflight, Rule, SidecarConfig, TokenSource as RawSource,
    Unauthenticated,
};
use http::uri::Authority;
use http::{HeaderName, Uri};
use ipnet::IpNet;

use crate::auth_client::endpoint::{Endpoint, InvalidEndpoint};
use crate::metrics::{self, Route};
use crate::request::cleanse::reserved::Reserved;

/// What every stage reads; `None` denies everything.
pub type CurrentPolicy = ArcSwapOption<Policy>;

/// One config, ready for use; a request keeps the one it began with.
pub struct Policy {
    pub revision: String,
    pub policy: PolicyRef,
    pub endpoint: Endpoint,
    /// `iss` of every JWT, without a trailing slash.
    pub issuer: String,
    pub mode: Mode,
    pub origins: Vec<String>,
    pub trusted_proxies: Vec<IpNet>,
    pub token_sources: Vec<TokenSource>,
    /// Other issuers whose tokens are asked about.
    pub token_issuers: Vec<String>,
    pub unauthenticated: Unauthenticated,
    pub app_protocol: AppProtocol,
    pub preflight: Preflight,
    pub writable: HashSet<String>,
    pub jwt: JwtHeader,
    pub outage: Outage,
    pub rules: Vec<Rule>,
    /// What came of the requests of each rule, and of those that none was about.
    pub routes: Vec<Arc<Route>>,
    pub limits: Limits,
    /// Headers that only the sidecar sets.
    pub reserved: Reserved,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    Cookie(String),
    Header {
        name: HeaderName,
        /// Compared without case (RFC 9110 §11.1).
        scheme: Option<String>,
    },
}

/// How the app receives its JWT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtHeader {
    pub name: HeaderName,
    pub audience: String,
    /// Header → claim.
    pub claim_headers: Vec<(HeaderName, String)>,
}

impl JwtHeader {
    /// What stands before the JWT in its header.
    pub fn prefix(&self) -> &'static str {
        if self.name == http::header::AUTHORIZATION { "Bearer " } else { "" }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    #[error("not a sidecar config: {0}")]
    Json(#[from] serde_json::Error),
    #[error("config format {0} is not known to this version, which reads {FORMAT}")]
    Format(u32),
    #[error("auth_service: {0}")]
    Endpoint(#[from] InvalidEndpoint),
    #[error("{field}: {value:?} is not acceptable")]
    Value { field: &'static str, value: String },
}

/// Headers with a meaning of their own in HTTP: neither tokens nor identities travel in them.
const RESERVED_HEADERS: [&str; 16] = [
    "cookie",
    "set-cookie",
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "forwarded",
    "origin",
    "referer",
    "expect",
    "date",
    "keep-alive",
];

impl Policy {
    pub fn parse(json: &[u8]) -> Result<Self, InvalidConfig> {
        /// Only the format, so that a newer config is refused by that name and not for its unknown fields.
        #[derive(serde::Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(json)?;
        if format != FORMAT {
            return Err(InvalidConfig::Format(format));
        }
        Self::compile(serde_json::from_slice(json)?)
    }

    pub fn compile(config: SidecarConfig) -> Result<Self, InvalidConfig> {
        if config.format != FORMAT {
            return Err(InvalidConfig::Format(config.format));
        }
        let endpoint = Endpoint::parse(&config.auth_service)?;
        let issuer = config.auth_service.issuer.trim_end_matches('/').to_owned();
        check("auth_service.issuer", &issuer, is_web_url(&issuer))?;
        for origin in &config.origins {
            check("origins", origin, is_origin(origin))?;
        }
        if config.token_sources.is_empty() {
            return Err(InvalidConfig::Value { field: "token_sources", value: "[]".to_owned() });
        }
        for rule in &config.rules {
            check("rules", "a rule that matches nothing", !rule.matches.is_empty())?;
        }
        let limits = config.limits;
        check("limits", "0", limits.request_headers > 0 && limits.idle_timeout > 0 && limits.stream_idle_timeout > 0)?;
        let claim_headers = config.jwt.claim_headers.into_iter();
        let token_sources: Vec<_> = config.token_sources.into_iter().map(token_source).collect::<Result<_, _>>()?;
        let jwt = JwtHeader {
            name: header_name("jwt.header", &config.jwt.header)?,
            audience: config.jwt.audience,
            claim_headers: claim_headers
                .map(|(name, claim)| Ok((header_name("jwt.claim_headers", &name)?, claim)))
                .collect::<Result<_, InvalidConfig>>()?,
        };
        Ok(Self {
            endpoint,
            issuer,
            reserved: reserved(&jwt, &token_sources, &config.rules),
            routes: metrics::routes(&config.rules),
            app_protocol: config.app_protocol,
            preflight: config.preflight,
            token_sources,
            token_issuers: config.token_issuers,
            jwt,
            revision: config.revision,
            policy: config.policy,
            mode: config.mode,
            origins: config.origins,
            trusted_proxies: config.trusted_proxies,
            unauthenticated: config.unauthenticated,
            writable: config.writable.into_iter().collect(),
            outage: config.outage,
            rules: config.rules,
            limits,
        })
    }

    /// For the requests that this rule is about, as numbered, or no rule.
    pub fn outage_of(&self, route: usize) -> Outage {
        self.rules.get(route).and_then(|rule| rule.outage).unwrap_or(self.outage)
    }

    /// The longest time without an auth service that any rule bridges.
    pub fn longest_bridge(&self) -> Duration {
        let of_rules = self.rules.iter().filter_map(|rule| rule.outage).map(Outage::bridges);
        of_rules.fold(self.outage.bridges(), Duration::max)
    }

    /// Goes on counting where another policy counted the same.
    pub fn continue_counts(&mut self, before: &Self) {
        for route in &mut self.routes {
            if let Some(same) = before.routes.iter().find(|same| same.label == route.label) {
                *route = Arc::clone(same);
            }
        }
    }

    /// The cookie that sign-in sets: the first of the sources that is one.
    pub fn session_cookie(&self) -> Option<&str> {
        self.token_sources.iter().find_map(|source| match source {
            TokenSource::Cookie(name) => Some(name.as_str()),
            TokenSource::Header { .. } => None,
        })
    }

    /// Whether there is a place to come back to, and a cookie to come back with.
    pub fn offers_sign_in(&self) -> bool {
        !self.origins.is_empty() && self.session_cookie().is_some()
    }

    /// How clients know the origin at which they were seen: as the policy names that host. A proxy that ends TLS without being trusted
    /// makes us see http where the client saw https.
    pub fn public_origin<'o>(&'o self, seen: &'o str) -> &'o str {
        let host = |origin: &'o str| origin.split_once("://").map(|(_, host)| host);
        let named = self.origins.iter().find(|origin| *origin == seen);
        let same_host = || self.origins.iter().find(|origin| host(origin) == host(seen));
        named.or_else(same_host).map_or(seen, String::as_str)
    }

    /// Whether a token may come as RFC 6750 §2.1 says.
    pub fn takes_bearer_header(&self) -> bool {
        self.token_sources.iter().any(|source| match source {
            TokenSource::Header { name, scheme } => {
                *name == http::header::AUTHORIZATION
                    && scheme.as_ref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("Bearer"))
            }
            TokenSource::Cookie(_) => false,
        })
    }

    /// Whether anything but our own tokens is asked about.
    pub fn takes_foreign(&self) -> bool {
        !self.token_issuers.is_empty()
    }

    /// Whether identities made under `other` say the same under this policy.
    pub fn same_identities(&self, other: &Self) -> bool {
        self.policy == other.policy
            && self.jwt == other.jwt
            && self.token_issuers == other.token_issuers
            && self.issuer == other.issuer
            && self.endpoint.same_service(&other.endpoint)
    }
}

fn reserved(jwt: &JwtHeader, sources: &[TokenSource], rules: &[Rule]) -> Reserved {
    let claims = jwt.claim_headers.iter().map(|(name, _)| name.as_str());
    let tokens = sources.iter().filter_map(|source| match source {
        TokenSource::Header { name, .. } => Some(name.as_str()),
        TokenSource::Cookie(_) => None,
    });
    let names_methods = rules.iter().flat_map(|rule| &rule.matches).any(|wanted| !wanted.methods.is_empty());
    Reserved::new(claims.chain(tokens).chain([jwt.name.as_str()]), names_methods)
}

fn check(field: &'static str, value: &str, good: bool) -> Result<(), InvalidConfig> {
    if good { Ok(()) } else { Err(InvalidConfig::Value { field, value: value.to_owned() }) }
}

fn token_source(raw: RawSource) -> Result<TokenSource, InvalidConfig> {
    match raw {
        RawSource::Cookie { name } => {
            // A cookie's name is an HTTP token, as a header's is (RFC 6265 §4.1.1); unlike that, its case counts.
            check("token_sources.cookie", &name, !name.is_empty() && name.bytes().all(is_token_byte))?;
            Ok(TokenSource::Cookie(name))
        }
        RawSource::Header { name, scheme } => {
            let good = scheme.as_ref().is_none_or(|s| !s.is_empty() && s.bytes().all(is_token_byte));
            check("token_sources.header.scheme", scheme.as_deref().unwrap_or_default(), good)?;
            Ok(TokenSource::Header { name: header_name("token_sources.header", &name)?, scheme })
        }
    }
}

fn header_name(field: &'static str, text: &str) -> Result<HeaderName, InvalidConfig> {
    let wrong = || InvalidConfig::Value { field, value: text.to_owned() };
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| wrong())?;
    if RESERVED_HEADERS.contains(&name.as_str()) { Err(wrong()) } else { Ok(name) }
}

/// RFC 9110 §5.6.2
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `https://host[:port]`, or http for this machine only; nothing after it.
fn is_origin(text: &str) -> bool {
    is_web_url(text) && text.splitn(3, '/').nth(2).is_some_and(|authority| !authority.contains('/'))
}

fn is_web_url(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"?#@\\\"<>;,".contains(&b));
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => uri.authority().is_some_and(is_this_machine),
        _ => false,
    };
    plain && secure && uri.host().is_some_and(|host| !host.is_empty())
}

/// Names and addresses that never leave the machine (RFC 6761 §6.3).
fn is_this_machine(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
pub mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A config as the operator writes it, with the auth service at `internal_url`.
    pub fn config(internal_url: &str) -> Value {
        json!({
            "format": 1, "revision": "r1", "policy": "shop/web",
            "auth_service": {"internal_url": internal_url, "issuer": "https://auth.example.com"},
            "mode": "Enforce", "origins": ["https://shop.example.com", "http://localhost:8000"], "trusted_proxies": [],
            "token_sources": [{"cookie": {"name": "__Host-cloakroom"}}, {"header": {"name": "Authorization", "scheme": "Bearer"}}],
            "unauthenticated": "Auto", "writable": ["cart"],
            "jwt": {"header": "Authorization", "audience": "shop/web", "claim_headers": {"X-User-Email": "email"}},
            "outage": "Deny", "rules": [],
            "limits": {"request_headers": 32768, "request_body": 10_485_760, "idle_timeout": 60}
        })
    }

    fn parse(config: &Value) -> Result<Policy, InvalidConfig> {
        Policy::parse(config.to_string().as_bytes())
    }

    #[test]
    fn a_config_is_compiled_once() {
        let policy = parse(&config("http://127.0.0.1:9443")).unwrap();
        assert_eq!(policy.session_cookie(), Some("__Host-cloakroom"));
        assert_eq!(policy.jwt.prefix(), "Bearer ");
        assert_eq!(policy.jwt.claim_headers[0].0, "x-user-email");
        assert!(policy.same_identities(&policy));
    }

    #[test]
    fn clients_are_told_the_origin_that_the_policy_names() {
        let policy = parse(&config("http://127.0.0.1:9443")).unwrap();
        for (seen, told) in [
            ("https://shop.example.com", "https://shop.example.com"),
            ("http://shop.example.com", "https://shop.example.com"),
            ("http://localhost:8000", "http://localhost:8000"),
            ("http://shop.example.com:81", "http://shop.example.com:81"),
            ("http://shop.example.com.evil.example", "http://shop.example.com.evil.example"),
            ("", ""),
        ] {
            assert_eq!(policy.public_origin(seen), told);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_whole() {
        let changes: [(&str, Value); 11] = [
            ("/format", json!(2)),
            ("/surprise", json!(true)),
            ("/policy", json!("shop")),
            ("/token_sources", json!([])),
            ("/token_sources", json!([{"header": {"name": "Cookie"}}])),
            ("/token_sources", json!([{"cookie": {"name": "a b"}}])),
            ("/jwt/header", json!("Host")),
            ("/jwt/header", json!("X Y")),
            ("/origins", json!(["http://shop.example.com"])),
            ("/origins", json!(["https://shop.example.com/"])),
            ("/auth_service/issuer", json!("http://auth.example.com")),
        ];
        for (at, value) in changes {
            let mut broken = config("http://127.0.0.1:9443");
            match broken.pointer_mut(at) {
                Some(place) => *place = value.clone(),
                None => broken[at.trim_start_matches('/')] = value.clone(),
            }
            assert!(parse(&broken).is_err(), "{at} = {value}");
        }
        assert!(Policy::parse(b"").is_err());
    }

    #[test]
    fn a_newer_format_is_named_even_if_its_fields_are_unknown() {
        assert!(matches!(Policy::parse(br#"{"format":2,"new":1}"#), Err(InvalidConfig::Format(2))));
    }
}

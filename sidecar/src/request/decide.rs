//! May this caller do this? Pure functions of rule, request and identity. Identities are cached, what is decided here never.

use std::sync::Arc;

use cloakroom_protocol::acr;
use cloakroom_protocol::sidecar_config::{Access, Outage, Preflight, Require, Rule, Unauthenticated};

use super::cleanse::Cleansed;
use super::credential::{Credential, CredentialError};
use crate::authority::{Exchanged, StepUp};
use crate::config::Policy;
use crate::identity::Identity;

/// What applies to one request: its rule's word, else the policy's.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'p> {
    pub access: Access,
    pub require: Option<&'p Require>,
    pub unauthenticated: Unauthenticated,
    pub outage: Outage,
    pub preflight: Preflight,
}

impl<'p> Terms<'p> {
    pub fn of(policy: &'p Policy, rule: Option<&'p Rule>) -> Self {
        Self {
            access: rule.map(|rule| rule.access).unwrap_or_default(),
            require: rule.map(|rule| &rule.require).filter(|require| !require.is_empty()),
            unauthenticated: rule.and_then(|rule| rule.unauthenticated).unwrap_or(policy.unauthenticated),
            outage: rule.and_then(|rule| rule.outage).unwrap_or(policy.outage),
            preflight: policy.preflight,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("no token")]
    NoToken,
    #[error("{0}")]
    Credential(#[from] CredentialError),
    #[error("the token is not valid here, or no longer")]
    Inactive,
    #[error("the session ended before there was an answer")]
    Ended,
    #[error("a rule denies this to everybody")]
    Denied,
    #[error("another site's page caused this request")]
    CrossSite,
    #[error("a scope is missing")]
    Scope { required: String },
    #[error("a role is missing")]
    Role,
    #[error("a stronger or fresher sign-in is needed")]
    StepUp(StepUp),
}

/// Before anybody is asked about the token.
#[derive(Debug)]
pub enum First {
    /// Passes without an identity.
    Unidentified,
    /// Passes as a question of a browser's, and nothing else.
    Preflight,
    /// Depends on whose token this is.
    Ask(Credential),
}

pub fn first(
    terms: &Terms<'_>,
    cleansed: &Cleansed<'_>,
    credential: impl FnOnce() -> Result<Option<Credential>, CredentialError>,
    origins: &[String],
) -> Result<First, Refusal> {
    match terms.access {
        Access::Anonymous => return Ok(First::Unidentified),
        Access::Deny => return Err(Refusal::Denied),
        Access::Optional | Access::Authenticated => {}
    }
    if terms.preflight == Preflight::Pass && cleansed.is_preflight() {
        return Ok(First::Preflight);
    }
    let optional = terms.access == Access::Optional;
    let credential = match credential() {
        Ok(Some(credential)) => credential,
        Ok(None) | Err(CredentialError::Malformed(_)) if optional => return Ok(First::Unidentified),
        Ok(None) => return Err(Refusal::NoToken),
        Err(error) => return Err(error.into()),
    };
    if credential.ambient && is_cross_site(cleansed, origins) {
        return Err(Refusal::CrossSite);
    }
    Ok(First::Ask(credential))
}

/// After: what the answer means for this request, at this time (Unix seconds).
pub fn second(terms: &Terms<'_>, answer: &Exchanged, now: u64) -> Result<Option<Arc<Identity>>, Refusal> {
    match answer {
        Exchanged::Active(identity) if !identity.life.is_over() => {
            if let Some(require) = terms.require {
                fulfils(identity, require, now)?;
            }
            Ok(Some(Arc::clone(identity)))
        }
        Exchanged::Active(_) | Exchanged::Inactive if terms.access == Access::Optional => Ok(None),
        Exchanged::Active(_) | Exchanged::Inactive => Err(Refusal::Inactive),
    }
}

fn fulfils(identity: &Identity, require: &Require, now: u64) -> Result<(), Refusal> {
    if !require.scopes.iter().all(|scope| identity.has_scope(scope)) {
        return Err(Refusal::Scope { required: require.scopes.join(" ") });
    }
    if !require.roles.is_empty() && !require.roles.iter().any(|role| identity.roles.contains(role)) {
        return Err(Refusal::Role);
    }
    let strong = require.acr.as_ref().is_none_or(|acr| identity.acr.as_ref().is_some_and(|held| acr::meets(held, acr)));
    // Without auth_time nobody can tell how fresh a sign-in is, so it is not.
    let fresh = require.max_age.is_none_or(|max| identity.auth_time.is_some_and(|at| now.saturating_sub(at) <= max));
    if strong && fresh {
        Ok(())
    } else {
        Err(Refusal::StepUp(StepUp { acr: require.acr.clone(), max_age: require.max_age }))
    }
}

/// Cookies travel by themselves, so with a cookie the browser's word on who asks counts.
fn is_cross_site(cleansed: &Cleansed<'_>, origins: &[String]) -> bool {
    let safe = matches!(cleansed.head.method, "GET" | "HEAD" | "OPTIONS");
    // A WebSocket is opened by a GET that no same-origin policy guards (RFC 6455 §10.2).
    if safe && !cleansed.head.upgrade {
        return false;
    }
    let by_fetch = cleansed.sec_fetch_site.is_some_and(|site| site.eq_ignore_ascii_case(b"cross-site"));
    by_fetch || cleansed.origin.is_some_and(|origin| !is_own_origin(origin, cleansed.head.host, origins))
}

/// Among the policy's, or of the very host that the request is for.
fn is_own_origin(origin: &[u8], host: &str, origins: &[String]) -> bool {
    if origins.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(origin)) {
        return true;
    }
    let authority = origin.strip_prefix(b"https://").or_else(|| origin.strip_prefix(b"http://"));
    authority.is_some_and(|authority| !authority.is_empty() && authority.eq_ignore_ascii_case(host.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use cloakroom_protocol::token::{OpaqueToken, TokenKind};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::identity::tests::identity;
    use crate::request::cleanse::cleanse;
    use crate::request::cleanse::reserved::Reserved;
    use crate::request::head::{Field, Head, Protocol};

    fn terms(access: Access, require: Option<&Require>) -> Terms<'_> {
        let (outage, preflight) = (Outage::Deny, Preflight::AsRules);
        Terms { access, require, unauthenticated: Unauthenticated::Auto, outage, preflight }
    }

    fn credential(ambient: bool) -> Credential {
        let token = OpaqueToken::generate(TokenKind::Session, &mut StdRng::seed_from_u64(1));
        Credential { token: token.into(), ambient, shown: false }
    }

    fn decide(method: &str, upgrade: bool, fields: &[(&str, &str)], ambient: bool) -> Result<First, Refusal> {
        let fields: Vec<_> = fields.iter().map(|(name, value)| Field { name, value: value.as_bytes() }).collect();
        let head = Head {
            method,
            path: "/",
            query: None,
            host: "shop.example.com",
            fields: &fields,
            protocol: Protocol::Http11,
            upgrade,
        };
        let reserved = Reserved::new([].into_iter(), false);
        let cleansed = cleanse(&head, &reserved, IpAddr::V4(Ipv4Addr::LOCALHOST), &[]).unwrap();
        let origins = ["https://www.example.com".to_owned()];
        first(&terms(Access::Authenticated, None), &cleansed, || Ok(Some(credential(ambient))), &origins)
    }

    #[test]
    fn another_sites_page_cannot_use_the_cookie() {
        for fields in [
            [("Sec-Fetch-Site", "cross-site")],
            [("Origin", "https://evil.example")],
            [("Origin", "null")],
            [("Origin", "https://shop.example.com.evil.example")],
            [("Origin", "https://")],
        ] {
            assert_eq!(decide("POST", false, &fields, true).unwrap_err(), Refusal::CrossSite, "{fields:?}");
            assert_eq!(decide("GET", true, &fields, true).unwrap_err(), Refusal::CrossSite, "upgrade {fields:?}");
            assert!(decide("GET", false, &fields, true).is_ok(), "{fields:?}");
            assert!(decide("POST", false, &fields, false).is_ok(), "a header is not ambient {fields:?}");
        }
        for origin in ["https://www.example.com", "https://shop.example.com"] {
            assert!(decide("POST", false, &[("Origin", origin)], true).is_ok());
        }
        assert!(decide("POST", false, &[("Sec-Fetch-Site", "same-site")], true).is_ok());
    }

    #[test]
    fn a_preflight_passes_where_the_policy_says_so_and_no_rule_denies() {
        let question = [("Origin", "https://www.example.com"), ("Access-Control-Request-Method", "PUT")];
        let judge = |access, preflight, method: &str, fields: &[(&str, &str)]| {
            let fields: Vec<_> = fields.iter().map(|(name, value)| Field { name, value: value.as_bytes() }).collect();
            let head = Head {
                method,
                path: "/",
                query: None,
                host: "a",
                fields: &fields,
                protocol: Protocol::Http11,
                upgrade: false,
            };
            let reserved = Reserved::new([].into_iter(), false);
            let cleansed = cleanse(&head, &reserved, IpAddr::V4(Ipv4Addr::LOCALHOST), &[]).unwrap();
            let terms = Terms { preflight, ..terms(access, None) };
            first(&terms, &cleansed, || Ok(None), &[])
        };
        let authenticated = |preflight, method, fields: &[_]| judge(Access::Authenticated, preflight, method, fields);
        assert!(matches!(authenticated(Preflight::Pass, "OPTIONS", &question), Ok(First::Preflight)));
        assert_eq!(authenticated(Preflight::AsRules, "OPTIONS", &question).unwrap_err(), Refusal::NoToken);
        assert_eq!(judge(Access::Deny, Preflight::Pass, "OPTIONS", &question).unwrap_err(), Refusal::Denied);
        assert_eq!(authenticated(Preflight::Pass, "GET", &question).unwrap_err(), Refusal::NoToken);
        for no_question in [
            &question[..1],
            &question[1..],
            &[("Origin", "null"), ("Access-Control-Request-Method", "PUT"), ("access-control-request-method", "GET")],
            &[("Origin", "x"), ("Access-Control-Request-Method", "P T")],
            &[("Origin", "x"), ("Access-Control-Request-Method", "")],
        ] {
            assert_eq!(
                authenticated(Preflight::Pass, "OPTIONS", no_question).unwrap_err(),
                Refusal::NoToken,
                "{no_question:?}"
            );
        }
    }

    #[test]
    fn access_says_who_is_asked_for_a_token() {
        let head = Head {
            method: "GET",
            path: "/",
            query: None,
            host: "a",
            fields: &[],
            protocol: Protocol::Http11,
            upgrade: false,
        };
        let reserved = Reserved::new([].into_iter(), false);
        let cleansed = cleanse(&head, &reserved, IpAddr::V4(Ipv4Addr::LOCALHOST), &[]).unwrap();
        let none = || Ok(None);
        let junk = || Err(OpaqueToken::parse(b"junk").unwrap_err().into());
        let ask = |access, credential: &dyn Fn() -> Result<Option<Credential>, CredentialError>| {
            first(&terms(access, None), &cleansed, credential, &[])
        };
        assert!(matches!(ask(Access::Anonymous, &|| Ok(Some(credential(true)))), Ok(First::Unidentified)));
        assert!(matches!(ask(Access::Optional, &none), Ok(First::Unidentified)));
        assert!(matches!(ask(Access::Optional, &junk), Ok(First::Unidentified)));
        assert!(matches!(ask(Access::Optional, &|| Ok(Some(credential(true)))), Ok(First::Ask(_))));
        assert_eq!(
            ask(Access::Optional, &|| Err(CredentialError::Ambiguous("two cookies"))).unwrap_err(),
            CredentialError::Ambiguous("two cookies").into()
        );
        assert_eq!(ask(Access::Authenticated, &none).unwrap_err(), Refusal::NoToken);
        assert!(matches!(ask(Access::Authenticated, &junk), Err(Refusal::Credential(_))));
        assert_eq!(ask(Access::Deny, &|| Ok(Some(credential(true)))).unwrap_err(), Refusal::Denied);
    }

    #[test]
    fn every_requirement_must_hold() {
        let mut identity = identity();
        identity.scope = "orders read".into();
        identity.roles = vec!["clerk".into()];
        identity.acr = Some("mfa".into());
        identity.auth_time = Some(1000);
        let identity = Arc::new(identity);
        let judge = |require: Require, now: u64| {
            second(&terms(Access::Authenticated, Some(&require)), &Exchanged::Active(Arc::clone(&identity)), now)
                .map(|_| ())
        };
        let scopes = |scopes: &[&str]| Require {
            scopes: scopes.iter().map(ToString::to_string).collect(),
            ..Require::default()
        };
        assert_eq!(judge(scopes(&["read", "orders"]), 0), Ok(()));
        assert!(
            matches!(judge(scopes(&["orders", "admin"]), 0), Err(Refusal::Scope { required }) if required == "orders admin")
        );
        let roles =
            |roles: &[&str]| Require { roles: roles.iter().map(ToString::to_string).collect(), ..Require::default() };
        assert_eq!(judge(roles(&["admin", "clerk"]), 0), Ok(()));
        assert_eq!(judge(roles(&["admin"]), 0), Err(Refusal::Role));
        let acr = |acr: &str| Require { acr: Some(acr.into()), ..Require::default() };
        assert_eq!(judge(acr("mfa"), 0), Ok(()));
        assert_eq!(judge(acr("pwd"), 0), Ok(()), "two factors are as good as one");
        assert!(matches!(judge(acr("phr"), 0), Err(Refusal::StepUp(_))));
        let max_age = Require { max_age: Some(60), ..Require::default() };
        assert_eq!(judge(max_age.clone(), 1060), Ok(()));
        assert!(matches!(judge(max_age, 1061), Err(Refusal::StepUp(StepUp { max_age: Some(60), acr: None }))));
    }

    #[test]
    fn an_ended_session_is_no_identity() {
        let ended = Arc::new(identity());
        ended.life.end();
        let answer = Exchanged::Active(ended);
        assert_eq!(second(&terms(Access::Authenticated, None), &answer, 0).unwrap_err(), Refusal::Inactive);
        assert!(second(&terms(Access::Optional, None), &answer, 0).unwrap().is_none());
        assert_eq!(
            second(&terms(Access::Authenticated, None), &Exchanged::Inactive, 0).unwrap_err(),
            Refusal::Inactive
        );
    }
}

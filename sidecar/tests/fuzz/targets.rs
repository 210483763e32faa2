//! What must hold for any bytes at all. Each takes input as it comes from outside, and panics if a promise is broken.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use cloakroom_protocol::events::Event;
use cloakroom_protocol::interest::{Filter, Key};
use cloakroom_protocol::sidecar_config::Access;
use cloakroom_protocol::token::OpaqueToken;
use cloakroom_sidecar::auth_client::sse::Parser;
use cloakroom_sidecar::config::Policy;
use cloakroom_sidecar::http1::request_head::{field_store, parse};
use cloakroom_sidecar::request::cleanse::path::canonical;
use cloakroom_sidecar::request::cleanse::{Cleansed, cleanse};
use cloakroom_sidecar::request::credential;
use cloakroom_sidecar::rules;

pub(crate) type Target = fn(&[u8]);

pub(crate) const ALL: [(&str, Target); 6] = [
    ("head", head),
    ("credential", find_credential),
    ("rules", find_rule),
    ("config", config),
    ("token", token),
    ("events", events),
];

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    Policy::parse(include_bytes!("seeds/config/whole")).unwrap_or_else(|error| panic!("the seed is a config: {error}"))
});

fn cleansed(bytes: &[u8], look: impl FnOnce(&Cleansed<'_>)) {
    let mut store = field_store();
    let Ok(Some(message)) = parse(bytes, &mut store) else { return };
    assert!(message.length <= bytes.len());
    if let Ok(cleansed) = cleanse(&message.head, &POLICY.reserved, PEER, &[]) {
        look(&cleansed);
    }
}

/// One spelling of the path, and nothing left of what only we may say.
fn head(bytes: &[u8]) {
    cleansed(bytes, |cleansed| {
        let path = cleansed.path.forwarded();
        assert!(path == "*" || path.starts_with('/'), "{path}");
        assert!(!path.contains("//") && !path.split('/').any(|segment| matches!(segment, "." | "..")), "{path}");
        assert_eq!(
            canonical(path).expect("it was canonical").forwarded(),
            path,
            "canonical once is canonical for good"
        );
        for (index, field) in cleansed.head.fields.iter().enumerate() {
            assert!(!cleansed.is_forwarded(index) || !POLICY.reserved.is_identity(field.name), "{}", field.name);
        }
    });
}

/// What is found stood in the request, and is no other's.
fn find_credential(bytes: &[u8]) {
    cleansed(bytes, |cleansed| {
        for foreign in [false, true] {
            if let Ok(Some(found)) = credential::find(cleansed, &POLICY.token_sources, foreign) {
                let token = found.token.expose().as_bytes();
                assert!(bytes.windows(token.len()).any(|window| window == token), "made up");
                assert!(found.token.ours().is_some() || (foreign && !found.ambient), "by cookie, or uncalled for");
            }
        }
    });
}

/// No spelling of a denied path is anything but denied, nor does one open a door.
fn find_rule(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(path) = canonical(text) else { return };
    let access = rules::find(&POLICY.rules, "GET", &path).map(|(_, rule)| rule.access);
    let forwarded = path.forwarded();
    if forwarded == "/never" || forwarded.starts_with("/never/") {
        assert_eq!(access, Some(Access::Deny), "{text}");
    }
    if access == Some(Access::Anonymous) {
        assert!(forwarded == "/open" || forwarded.starts_with("/open/"), "{text}");
    }
}

/// Refused whole, or taken whole.
fn config(bytes: &[u8]) {
    if let Ok(policy) = Policy::parse(bytes) {
        assert!(!policy.token_sources.is_empty() && policy.routes.len() == policy.rules.len() + 1);
    }
}

fn token(bytes: &[u8]) {
    if let Ok(token) = OpaqueToken::parse(bytes) {
        assert_eq!(token.expose().as_bytes(), bytes, "one spelling only");
        assert!(!format!("{token:?}").contains(&token.expose()[30..]), "its secret in Debug");
    }
}

/// However the stream is cut, it says the same; and what it says survives being said again.
fn events(bytes: &[u8]) {
    let parsed = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut parser, mut messages) = (Parser::default(), Vec::new());
        let broken = pieces.map(|piece| parser.push(piece, &mut messages)).find_map(Result::err);
        (messages, broken)
    };
    let whole = parsed(&mut std::iter::once(bytes));
    assert_eq!(parsed(&mut bytes.chunks(7)), whole);
    for message in whole.0 {
        let Ok(event) = Event::parse(&message.name, &message.data) else { continue };
        assert_eq!(Event::parse(event.name(), &event.data()).expect("our own words"), event);
        if let Some(key) = Key::of_event(&event) {
            assert!(Filter::of(&[key]).may_contain(key));
        }
    }
    if let Ok(filter) = Filter::try_from(String::from_utf8_lossy(bytes).into_owned()) {
        assert_eq!(Filter::try_from(String::from(filter.clone())).expect("our own words"), filter);
    }
}

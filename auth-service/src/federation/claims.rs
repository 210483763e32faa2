//! A provider's claims as what we say of people: which claim is what, and whose group is which. Pure.

use serde_json::{Map, Value};

use crate::config::providers::{ClaimNames, Provider};
use crate::record::group;

/// Groups and roles of one person; more are a mistake, or an attack on everything that carries them.
const MAX_LIST: usize = 200;
const MAX_TEXT: usize = 256;
/// `acr` values that can only be met with two factors: ours, that of PAPE, and those of the OpenID EAP profile.
const MULTI_FACTOR: [&str; 4] = [
    cloakroom_protocol::acr::MULTI_FACTOR,
    "http://schemas.openid.net/pape/policies/2007/06/multi-factor",
    "phr",
    "phrh",
];

/// What a provider says of a person, in our words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    pub username: Option<String>,
    pub name: Option<String>,
    pub email: Option<String>,
    pub email_verified: bool,
    pub groups: Vec<String>,
    pub roles: Vec<String>,
}

pub fn map(provider: &Provider, claims: &Map<String, Value>) -> Mapped {
    let names = &provider.claims;
    let text = |name: &str| find(claims, name).and_then(Value::as_str).and_then(clean);
    let list = |name: Option<&String>| name.map(|name| texts(find(claims, name))).unwrap_or_default();
    let group = |theirs: String| match (provider.group_map.get(&theirs), &provider.group_prefix) {
        (Some(ours), _) => Some(ours.clone()),
        (None, Some(prefix)) => Some(format!("{prefix}{theirs}")).filter(|name| group::is_name(name)),
        (None, None) => None,
    };
    let email = text(&names.email);
    Mapped {
        username: text(&names.username),
        name: text(&names.name),
        // What is said of `email` holds for that claim alone.
        email_verified: email.is_some() && names.email == "email" && claims.get("email_verified").is_some_and(is_true),
        email,
        groups: unique(list(names.groups.as_ref()).into_iter().filter_map(group)),
        roles: unique(list(names.roles.as_ref()).iter().filter_map(|theirs| provider.role_map.get(theirs)).cloned()),
    }
}

/// Whether something that is to be known is not in there.
pub(super) fn are_missing(names: &ClaimNames, claims: &Map<String, Value>) -> bool {
    let wanted =
        [Some(&names.username), Some(&names.name), Some(&names.email), names.groups.as_ref(), names.roles.as_ref()];
    wanted.into_iter().flatten().any(|name| find(claims, name).is_none())
}

/// Whether a sign-in with two factors is what they say it was (RFC 8176 §2).
pub(super) fn say_multi_factor(claims: &Map<String, Value>) -> bool {
    texts(claims.get("amr")).iter().any(|method| method == "mfa")
        || claims.get("acr").and_then(Value::as_str).is_some_and(|acr| MULTI_FACTOR.contains(&acr))
}

/// By its whole name first: names that are URLs have dots and slashes.
fn find<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    if let Some(pointer) = name.strip_prefix('/') {
        let (first, rest) = pointer.split_once('/').map_or((pointer, None), |(first, rest)| (first, Some(rest)));
        let value = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
        return rest.map_or(Some(value), |rest| value.pointer(&format!("/{rest}")));
    }
    let mut steps = name.split('.');
    let first = claims.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.get(step))
}

/// A list of texts, or one.
fn texts(value: Option<&Value>) -> Vec<String> {
    let items = match value {
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    items.iter().filter_map(Value::as_str).filter_map(clean).take(MAX_LIST).collect()
}

fn clean(text: &str) -> Option<String> {
    let text = text.trim();
    let fits = !text.is_empty() && text.chars().count() <= MAX_TEXT && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// Some send booleans as text.
fn is_true(value: &Value) -> bool {
    value.as_bool() == Some(true) || value.as_str() == Some("true")
}

fn unique(list: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for one in list {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn provider(change: &Value) -> Provider {
        let mut all = json!({"id": "corp", "name": "Corp", "issuer": "https://idp.example.com", "client_id": "x"});
        all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn mapped(change: &Value, claims: &Value) -> Mapped {
        map(&provider(change), claims.as_object().unwrap())
    }

    #[test]
    fn groups_and_roles_are_ours_only_where_the_map_says_so() {
        let claims =
            json!({"groups": ["/staff", "admins", "admins", 7, ""], "realm_access": {"roles": ["boss", "admin"]}});
        let names = json!({"groups": "groups", "roles": "realm_access.roles"});
        let settings = json!({"claims": names, "group_map": {"/staff": "staff"}, "role_map": {"boss": "buyer"}});
        let person = mapped(&settings, &claims);
        assert_eq!((person.groups, person.roles), (vec!["staff".to_owned()], vec!["buyer".to_owned()]));
        let settings = json!({"claims": names, "group_map": {"/staff": "staff"}, "group_prefix": "corp:"});
        assert_eq!(mapped(&settings, &claims).groups, ["staff", "corp:admins"], "theirs cannot pass for ours");
        assert_eq!(mapped(&json!({}), &claims), Mapped::default(), "what is not named is not taken");
    }

    #[test]
    fn a_claim_is_found_by_name_by_path_and_by_pointer() {
        let claims = json!({"https://x.example/groups": ["a"], "a.b": "whole", "a": {"b": "path", "c/d": ["e"]}, "one": "alone"});
        let claims = claims.as_object().unwrap();
        for (name, value) in [
            ("https://x.example/groups", json!(["a"])),
            ("a.b", json!("whole")),
            ("/a/b", json!("path")),
            ("/a/c~1d", json!(["e"])),
            ("/a/c~1d/0", json!("e")),
            ("one", json!("alone")),
        ] {
            assert_eq!(find(claims, name), Some(&value), "{name}");
        }
        assert_eq!((find(claims, "a.x"), find(claims, "/"), find(claims, "")), (None, None, None));
    }

    #[test]
    fn an_address_is_verified_only_if_they_say_so_of_that_very_claim() {
        let claims = json!({"email": "a@example.com", "upn": "root@example.com", "email_verified": true});
        assert!(mapped(&json!({}), &claims).email_verified);
        let other = mapped(&json!({"claims": {"email": "upn"}}), &claims);
        assert_eq!((other.email.as_deref(), other.email_verified), (Some("root@example.com"), false));
        assert!(!mapped(&json!({}), &json!({"email": "a@example.com"})).email_verified);
        assert_eq!(mapped(&json!({}), &json!({"name": "a\nb", "preferred_username": "  "})), Mapped::default());
    }

    #[test]
    fn two_factors_are_two_factors_only_in_so_many_words() {
        for (claims, strong) in [
            (json!({"amr": ["pwd", "mfa"]}), true),
            (json!({"amr": ["pwd", "otp"]}), false),
            (json!({"acr": "phr"}), true),
            (json!({"acr": "1"}), false),
            (json!({}), false),
        ] {
            assert_eq!(say_multi_factor(claims.as_object().unwrap()), strong, "{claims}");
        }
    }
}

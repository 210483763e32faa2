//! The name of a policy, which is also its OAuth client id.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `<namespace>/<name>` of an `AuthPolicy`; the `client_id` of its sidecars.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyRef {
    namespace: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a policy is named <namespace>/<name>, both Kubernetes names")]
pub struct InvalidPolicyRef;

impl PolicyRef {
    pub fn new(namespace: &str, name: &str) -> Result<Self, InvalidPolicyRef> {
        // Namespaces are DNS labels, custom resources DNS subdomains (Kubernetes, "Object Names and IDs").
        let valid = is_dns_name(namespace, 63) && !namespace.contains('.') && is_dns_name(name, 253);
        valid.then(|| Self { namespace: namespace.to_owned(), name: name.to_owned() }).ok_or(InvalidPolicyRef)
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

fn is_dns_name(text: &str, max: usize) -> bool {
    let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= max
        && bytes.first().is_some_and(|b| edge(*b))
        && bytes.last().is_some_and(|b| edge(*b))
        && bytes.iter().all(|b| edge(*b) || matches!(b, b'-' | b'.'))
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for PolicyRef {
    type Err = InvalidPolicyRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (namespace, name) = text.split_once('/').ok_or(InvalidPolicyRef)?;
        Self::new(namespace, name)
    }
}

impl TryFrom<String> for PolicyRef {
    type Error = InvalidPolicyRef;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PolicyRef> for String {
    fn from(policy: PolicyRef) -> Self {
        policy.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reference_survives_a_round_trip() {
        let policy: PolicyRef = "shop/web.v1".parse().unwrap();
        assert_eq!((policy.namespace(), policy.name()), ("shop", "web.v1"));
        assert_eq!(policy.to_string(), "shop/web.v1");
    }

    #[test]
    fn anything_but_two_kubernetes_names_is_refused() {
        for text in
            ["", "shop", "/", "shop/", "/web", "a/b/c", "Shop/web", "a.b/web", "shop/we b", "shop/-web", "../web"]
        {
            assert!(text.parse::<PolicyRef>().is_err(), "{text}");
        }
    }
}

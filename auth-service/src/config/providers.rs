//! Other OpenID providers that people may sign in with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Deserialize;
use url::Url;

use super::{ConfigError, is_confidential};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// In the redirect URI, `<our issuer>/sign-in/from/<id>`: lower-case letters, digits and `-`.
    pub id: String,
    /// On the button.
    pub name: String,
    /// As its discovery document says, to the letter. Identities belong to the issuer: another one is another provider.
    pub issuer: String,
    pub client_id: String,
    /// Read again each time. Absent: a public client, with PKCE alone.
    #[serde(default)]
    pub client_secret_file: Option<PathBuf>,
    /// Beside `openid`.
    #[serde(default = "default_scopes")]
    pub scopes: Vec<String>,
    /// PEM; absent: the system's roots.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub claims: ClaimNames,
    /// Their group → ours. Others are dropped, unless there is a `group_prefix`.
    #[serde(default)]
    pub group_map: BTreeMap<String, String>,
    /// Keeps groups that are not in the map, with this before the name: theirs cannot pass for ours.
    #[serde(default)]
    pub group_prefix: Option<String>,
    /// Their role → ours; others are dropped.
    #[serde(default)]
    pub role_map: BTreeMap<String, String>,
    /// Whether somebody who comes for the first time gets an account.
    #[serde(default)]
    pub create: bool,
    /// Whether a second factor that they asked for counts as one of ours.
    #[serde(default)]
    pub trust_factors: bool,
    /// Whether whoever signs out here is offered to sign out there, too. It has to know `<our issuer>/signed-out` as an address to come back to.
    #[serde(default)]
    pub sign_out: bool,
    /// A sentence for people who have no account here: whom to ask.
    #[serde(default)]
    pub ask: Option<String>,
}

/// Which claim says what: a name, a dotted path (`realm_access.roles`), or a JSON pointer (`/realm_access/roles`).
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClaimNames {
    pub username: String,
    pub name: String,
    pub email: String,
    pub groups: Option<String>,
    pub roles: Option<String>,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self {
            username: "preferred_username".to_owned(),
            name: "name".to_owned(),
            email: "email".to_owned(),
            groups: None,
            roles: None,
        }
    }
}

fn default_scopes() -> Vec<String> {
    ["profile", "email"].map(str::to_owned).to_vec()
}

pub(super) fn validate(providers: &[Provider]) -> Result<(), ConfigError> {
    let (mut ids, mut issuers) = (BTreeSet::new(), BTreeSet::new());
    for provider in providers {
        let refuse = |sentence: &str| Err(ConfigError::Invalid(format!("providers: {:?}: {sentence}", provider.id)));
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !(1..=32).contains(&provider.id.len()) || !provider.id.bytes().all(plain) || !ids.insert(&provider.id) {
            return refuse("id: 1 to 32 of a-z 0-9 -, each once");
        }
        if provider.name.trim().is_empty() {
            return refuse("name: what the button says");
        }
        let url = Url::parse(&provider.issuer).ok();
        if !is_confidential(&provider.issuer)
            || url.is_none_or(|url| url.query().is_some() || url.fragment().is_some())
            || !issuers.insert(&provider.issuer)
        {
            return refuse("issuer: https, or http on this machine, without query; each once");
        }
        if provider.group_prefix.as_ref().is_some_and(String::is_empty) {
            return refuse("group_prefix: not empty, or a group of theirs could pass for one of ours");
        }
        if !provider.group_map.values().all(|group| crate::record::group::is_name(group)) {
            return refuse("group_map: 1 to 128 characters, none of them a control character");
        }
    }
    Ok(())
}

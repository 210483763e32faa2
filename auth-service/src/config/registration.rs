//! Whether clients may register themselves (RFC 7591), and how far they get by it.

use serde::Deserialize;

use super::{ConfigError, Tokens};
use crate::record::client::is_scope;

const DAY: u64 = 86_400;

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    pub mode: Mode,
    /// All that such clients may ask for.
    pub scopes: Vec<String>,
    /// All that their tokens may be for.
    pub audiences: Vec<String>,
    /// Without a token, from one address in a day.
    pub per_address: u64,
    /// Clients that registered without a token.
    pub max_open: usize,
    /// Such a client is forgotten so long after it registered, if it never got a token,
    pub unused_seconds: u64,
    /// or so long after it got its last one.
    pub idle_seconds: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    #[default]
    Off,
    /// Whoever has an initial access token (RFC 7591 §1.2).
    Token,
    /// Anybody; those with such a token are not limited.
    Open,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            mode: Mode::Off,
            scopes: ["openid", "profile", "email", "offline_access"].map(str::to_owned).into(),
            audiences: Vec::new(),
            per_address: 50,
            max_open: 1000,
            unused_seconds: DAY,
            idle_seconds: 90 * DAY,
        }
    }
}

impl Registration {
    pub(super) fn validate(&self, tokens: Tokens) -> Result<(), ConfigError> {
        let refuse = |sentence: String| Err(ConfigError::Invalid(format!("registration.{sentence}")));
        if let Some(scope) = self.scopes.iter().find(|scope| !is_scope(scope)) {
            return refuse(format!("scopes: {scope:?} is not a scope"));
        }
        if self.scopes.len() > 100 || self.audiences.len() > 100 {
            return refuse("scopes, audiences: at most 100 of each".to_owned());
        }
        if let Some(audience) = self.audiences.iter().find(|one| one.is_empty() || one.contains([' ', '\0'])) {
            return refuse(format!("audiences: {audience:?} is not an audience"));
        }
        if self.per_address == 0 || !(1..=100_000).contains(&self.max_open) {
            return refuse("per_address: at least 1; max_open: 1 to 100000".to_owned());
        }
        if self.unused_seconds < 600 {
            return refuse("unused_seconds: at least 600: somebody has to sign in meanwhile".to_owned());
        }
        // A use is written down once a day, and what a client holds must not outlive it.
        if self.idle_seconds < tokens.grant_seconds.saturating_add(DAY) {
            return refuse("idle_seconds: longer than tokens.grant_seconds by a day or more".to_owned());
        }
        Ok(())
    }
}

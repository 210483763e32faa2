//! Other OpenID providers: what is known of each, and how to talk to it.
//!
//! What comes from here is what a provider says of a subject of its own, verified. Who that is among us is decided in [`accounts`], by issuer
//! and `sub` and nothing else.

pub mod accounts;
pub mod claims;
mod discovery;
mod exchange;
mod logout_token;
mod wire;

use std::sync::Arc;

pub use exchange::{Asked, Presented, Proofs};
pub use logout_token::{LogoutToken, LogoutTokenError, OLDEST as OLDEST_LOGOUT};

use crate::clock::Clock;
use crate::config::providers;
use discovery::Discovery;
use wire::Wire;

/// Clocks differ.
const LEEWAY: u64 = 30;

#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Nobody's fault here: it is down, or slow, or not to be found.
    #[error("{0}")]
    Unreachable(String),
    /// It answered something that cannot be believed or used.
    #[error("{0}")]
    Unacceptable(String),
}

pub struct Provider {
    pub settings: providers::Provider,
    redirect_uri: String,
    /// Where a browser comes back to that has signed out there.
    signed_out_uri: String,
    wire: Wire,
    discovery: Discovery,
    clock: Clock,
}

/// Those of the configuration, in its order. None is asked anything before somebody wants to sign in with it.
pub struct Providers(Vec<Arc<Provider>>);

impl Providers {
    pub fn new(settings: &[providers::Provider], issuer: &str, clock: &Clock) -> Self {
        let provider = |settings: &providers::Provider| {
            let wire = Wire::new(&settings.issuer, settings.ca_file.clone(), clock.clone());
            Arc::new(Provider {
                redirect_uri: format!("{issuer}/sign-in/from/{}", settings.id),
                signed_out_uri: format!("{issuer}/signed-out"),
                discovery: Discovery::new(settings.issuer.clone(), wire.clone(), clock.clone()),
                wire,
                clock: clock.clone(),
                settings: settings.clone(),
            })
        };
        Self(settings.iter().map(provider).collect())
    }

    pub fn get(&self, id: &str) -> Option<&Arc<Provider>> {
        self.0.iter().find(|provider| provider.settings.id == id)
    }

    pub fn all(&self) -> &[Arc<Provider>] {
        &self.0
    }
}

impl Provider {
    pub fn id(&self) -> &str {
        &self.settings.id
    }

    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }
}

/// An error with what caused it, for the log: libraries put the interesting part last.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

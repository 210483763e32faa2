//! A provider's discovery document and keys: had when first needed, and again when they are old or a key is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{AdditionalProviderMetadata, DiscoveryError, IssuerUrl, ProviderMetadata};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::wire::Wire;
use super::{ProviderError, whole};
use crate::clock::Clock;

/// Made-up key ids, and people who try again, must not make us ask all the time.
const ASK_AGAIN_AFTER: u64 = 10;
/// So that withdrawn keys go.
const REFRESH_AFTER: u64 = 300;

/// What the library leaves out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Further {
    /// RFC 9207 §3.
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for Further {}

pub(super) type Metadata = ProviderMetadata<
    Further,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

pub(super) struct Discovery {
    issuer: String,
    wire: Wire,
    clock: Clock,
    known: ArcSwapOption<Metadata>,
    /// Unix seconds of the last attempt and the last success; 0: none.
    asked: AtomicU64,
    had: AtomicU64,
    asking: Mutex<()>,
}

impl Discovery {
    pub(super) fn new(issuer: String, wire: Wire, clock: Clock) -> Self {
        let known = ArcSwapOption::empty();
        Self { issuer, wire, clock, known, asked: AtomicU64::new(0), had: AtomicU64::new(0), asking: Mutex::new(()) }
    }

    pub(super) async fn current(&self) -> Result<Arc<Metadata>, ProviderError> {
        let Some(known) = self.known.load_full() else { return self.ask().await };
        if self.clock.seconds() < self.had.load(Ordering::Relaxed) + REFRESH_AFTER {
            return Ok(known);
        }
        self.ask().await.or_else(|error| {
            // Old keys are better than none.
            tracing::warn!(%error, issuer = self.issuer, "a provider's keys cannot be refreshed; the known ones are used on");
            Ok(known)
        })
    }

    /// After a key was missing.
    pub(super) async fn renewed(&self) -> Result<Arc<Metadata>, ProviderError> {
        self.ask().await
    }

    /// One at a time; those who waited take what the first one got.
    async fn ask(&self) -> Result<Arc<Metadata>, ProviderError> {
        let _one_at_a_time = self.asking.lock().await;
        let now = self.clock.seconds();
        let asked = self.asked.load(Ordering::Relaxed);
        if asked != 0 && now < asked + ASK_AGAIN_AFTER {
            let silent = || ProviderError::Unreachable(format!("{}: no answer a moment ago", self.issuer));
            return self.known.load_full().ok_or_else(silent);
        }
        self.asked.store(now, Ordering::Relaxed);
        let metadata = Arc::new(self.fetch().await?);
        self.known.store(Some(Arc::clone(&metadata)));
        self.had.store(now, Ordering::Relaxed);
        Ok(metadata)
    }

    async fn fetch(&self) -> Result<Metadata, ProviderError> {
        let issuer = IssuerUrl::new(self.issuer.clone()).map_err(|error| unacceptable(&self.issuer, &error))?;
        let metadata = Metadata::discover_async(issuer, &self.wire).await.map_err(|error| match &error {
            DiscoveryError::Request(_) => ProviderError::Unreachable(whole(&error)),
            _ => unacceptable(&self.issuer, &error),
        })?;
        let endpoints = [
            Some(metadata.authorization_endpoint().as_str()),
            metadata.token_endpoint().map(|url| url.as_str()),
            metadata.userinfo_endpoint().map(|url| url.as_str()),
        ];
        if let Some(url) = endpoints.into_iter().flatten().find(|url| !self.wire.may_call(url)) {
            return Err(ProviderError::Unacceptable(format!("{}: {url:?} is not https", self.issuer)));
        }
        Ok(metadata)
    }
}

fn unacceptable(issuer: &str, error: &dyn std::error::Error) -> ProviderError {
    ProviderError::Unacceptable(format!("{issuer}: {}", whole(error)))
}

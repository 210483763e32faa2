//! A provider's discovery document and keys: had when first needed, and again when they are old or a key is missing.

use std::sync::Arc;

use openidconnect::core::{
    CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode, CoreResponseType,
    CoreSubjectIdentifierType,
};
use openidconnect::{AdditionalProviderMetadata, DiscoveryError, IssuerUrl, ProviderMetadata};
use serde::{Deserialize, Serialize};

use super::wire::Wire;
use super::{ProviderError, whole};
use crate::clock::Clock;
use crate::fetched::Fetched;

/// What the library leaves out.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Further {
    /// RFC 9207 §3.
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
    /// OpenID Connect RP-Initiated Logout §2.1.
    #[serde(default)]
    pub(super) end_session_endpoint: Option<String>,
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
    metadata: Fetched<Metadata>,
}

impl Discovery {
    pub(super) fn new(issuer: String, wire: Wire, clock: Clock) -> Self {
        Self { issuer, wire, metadata: Fetched::nothing_yet(clock) }
    }

    pub(super) async fn current(&self) -> Result<Arc<Metadata>, ProviderError> {
        match self.metadata.known() {
            None => self.renewed().await,
            Some(known) if !self.metadata.is_old() => Ok(known),
            Some(known) => self.renewed().await.or_else(|error| {
                // Old keys are better than none.
                tracing::warn!(%error, issuer = self.issuer, "a provider's keys cannot be refreshed; the known ones are used on");
                Ok(known)
            }),
        }
    }

    /// Also after a key was missing.
    pub(super) async fn renewed(&self) -> Result<Arc<Metadata>, ProviderError> {
        self.metadata.renew(self.fetch()).await?;
        let silent = || ProviderError::Unreachable(format!("{}: no answer a moment ago", self.issuer));
        self.metadata.known().ok_or_else(silent)
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

//! `ApiKey`: the secret is the whole key, whose id names its record.

use std::collections::BTreeMap;

pub(crate) use cloakroom_crds::ApiKey;
use cloakroom_crds::{CredentialStatus, Rotation};
use cloakroom_protocol::credential::{ApiKeyRegistration, CredentialRef, EarlierSecret};
use cloakroom_protocol::internal_api::API_KEYS;
use cloakroom_protocol::token::{OpaqueToken, SecretHash, TokenKind};
use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use rand::rngs::StdRng;

use super::Credential;

/// The Secret's only entry.
const ENTRY: &str = "api_key";

impl Credential for ApiKey {
    type Plain = OpaqueToken;
    type Registration = ApiKeyRegistration;

    const PATH: &'static str = API_KEYS;
    const SUFFIX: &'static str = "api-key";

    fn status(&self) -> Option<&CredentialStatus> {
        self.status.as_ref()
    }

    fn rotation(&self) -> &Rotation {
        &self.spec.rotation
    }

    fn expires(&self) -> Option<Timestamp> {
        self.spec.expires_at.as_ref().map(|end| end.0)
    }

    /// The key before has the same id, so that it is one key with two secrets while they overlap.
    fn make(&self, before: Option<&OpaqueToken>, rng: &mut StdRng) -> OpaqueToken {
        match before {
            Some(before) => OpaqueToken::with_id(TokenKind::ApiKey, before.id(), rng),
            None => OpaqueToken::generate(TokenKind::ApiKey, rng),
        }
    }

    fn read(&self, entries: &BTreeMap<String, ByteString>) -> Option<OpaqueToken> {
        let token = OpaqueToken::parse(&entries.get(ENTRY)?.0).ok();
        token.filter(|token| token.kind() == TokenKind::ApiKey)
    }

    fn hash(plain: &OpaqueToken) -> Option<SecretHash> {
        Some(plain.secret_hash())
    }

    fn id(_: &CredentialRef, plain: &OpaqueToken) -> String {
        plain.id().to_string()
    }

    fn registration(
        &self,
        of: &CredentialRef,
        plain: &OpaqueToken,
        before: Option<EarlierSecret>,
    ) -> ApiKeyRegistration {
        ApiKeyRegistration {
            of: of.clone(),
            id: plain.id(),
            secret: plain.secret_hash(),
            before,
            scopes: self.spec.scopes.clone(),
            audiences: self.spec.audiences.clone(),
            expires: self.expires().map(|end| u64::try_from(end.as_second()).unwrap_or_default()),
        }
    }

    fn entries(_: &CredentialRef, plain: &OpaqueToken, _: &str) -> BTreeMap<&'static str, String> {
        [(ENTRY, plain.expose().to_owned())].into()
    }

    fn remedy(secret: &str) -> String {
        format!("delete Secret {secret} for a new one")
    }
}

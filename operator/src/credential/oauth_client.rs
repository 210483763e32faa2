//! `OAuthClient`: the client's id is the resource's name, so that only the secret is made; a public client has none.

use std::collections::BTreeMap;

pub(crate) use cloakroom_crds::OAuthClient;
use cloakroom_crds::{ClientGrantType, ClientType, CredentialStatus, Rotation};
use cloakroom_protocol::client_secret::ClientSecret;
use cloakroom_protocol::credential::{ClientGrant, ClientRegistration, CredentialRef, EarlierSecret};
use cloakroom_protocol::internal_api::CLIENTS;
use cloakroom_protocol::token::SecretHash;
use k8s_openapi::ByteString;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use rand::rngs::StdRng;

use super::Credential;

/// The Secret's entry with the client's secret.
const SECRET: &str = "client_secret";

impl Credential for OAuthClient {
    /// `None`: a public client's.
    type Plain = Option<ClientSecret>;
    type Registration = ClientRegistration;

    const PATH: &'static str = CLIENTS;
    const SUFFIX: &'static str = "oauth-client";

    fn status(&self) -> Option<&CredentialStatus> {
        self.status.as_ref()
    }

    fn rotation(&self) -> &Rotation {
        &self.spec.rotation
    }

    fn expires(&self) -> Option<Timestamp> {
        None
    }

    fn make(&self, _: Option<&Self::Plain>, rng: &mut StdRng) -> Self::Plain {
        is_confidential(self).then(|| ClientSecret::generate(rng))
    }

    fn read(&self, entries: &BTreeMap<String, ByteString>) -> Option<Self::Plain> {
        if !is_confidential(self) {
            return Some(None);
        }
        ClientSecret::parse(&entries.get(SECRET)?.0).map(Some)
    }

    fn hash(plain: &Self::Plain) -> Option<SecretHash> {
        plain.as_ref().map(ClientSecret::hash)
    }

    fn id(of: &CredentialRef, _: &Self::Plain) -> String {
        of.client_id()
    }

    fn registration(
        &self,
        of: &CredentialRef,
        plain: &Self::Plain,
        before: Option<EarlierSecret>,
    ) -> ClientRegistration {
        let spec = &self.spec;
        ClientRegistration {
            of: of.clone(),
            uid: self.uid().unwrap_or_default(),
            secret: Self::hash(plain),
            before: before.filter(|_| plain.is_some()),
            name: spec.display_name.clone(),
            grant_types: spec.grant_types.iter().copied().map(grant).collect(),
            redirect_uris: spec.redirect_uris.clone(),
            post_logout_redirect_uris: spec.post_logout_redirect_uris.clone(),
            scopes: spec.scopes.clone(),
            audiences: spec.audiences.clone(),
            dpop_bound_access_tokens: spec.dpop_bound_access_tokens,
            require_mfa: spec.require_mfa,
        }
    }

    /// All that a client library asks for: the rest is in the issuer's discovery document.
    fn entries(of: &CredentialRef, plain: &Self::Plain, issuer: &str) -> BTreeMap<&'static str, String> {
        let mut entries = BTreeMap::from([("client_id", of.client_id()), ("issuer", issuer.to_owned())]);
        entries.extend(plain.as_ref().map(|secret| (SECRET, secret.expose().to_owned())));
        entries
    }

    /// A new secret would be the same client.
    fn remedy(_: &str) -> String {
        "delete the OAuthClient and make another".to_owned()
    }
}

fn is_confidential(client: &OAuthClient) -> bool {
    client.spec.client_type == ClientType::Confidential
}

fn grant(grant: ClientGrantType) -> ClientGrant {
    match grant {
        ClientGrantType::AuthorizationCode => ClientGrant::AuthorizationCode,
        ClientGrantType::RefreshToken => ClientGrant::RefreshToken,
        ClientGrantType::ClientCredentials => ClientGrant::ClientCredentials,
    }
}

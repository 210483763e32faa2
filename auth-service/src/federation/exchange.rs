//! The code flow with a provider (OpenID Connect Core §3.1, PKCE, RFC 9207): where to send the browser, and what the code is worth.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode, header};
use openidconnect::core::{
    CoreAuthPrompt, CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreIdToken, CoreJwsSigningAlgorithm,
};
use openidconnect::{
    AccessToken, AuthType, AuthenticationContextClass, AuthorizationCode, ClaimsVerificationError, ClientId,
    ClientSecret, CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, LoginHint, Nonce, OAuth2TokenResponse,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, SignatureVerificationError,
    TokenResponse,
};
use serde_json::{Map, Value};
use url::Url;

use super::discovery::Metadata;
use super::{LEEWAY, Provider, ProviderError, claims, whole};

/// An ID token that was made longer ago was made for another sign-in.
const OLDEST: u64 = 600;
/// OpenID Connect Core §2.
const MAX_SUB: usize = 255;

/// Asymmetric ones only (RFC 8725 §3.1): with a shared secret, whoever checks could have signed, too.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// What ties an answer to the browser that asked.
pub struct Proofs {
    pub nonce: String,
    /// PKCE.
    pub verifier: String,
}

/// What a sign-in has to be like.
#[derive(Clone, Copy, Default)]
pub struct Asked<'a> {
    /// A sign-in from before does not count.
    pub anew: bool,
    /// Seconds.
    pub max_age: Option<u64>,
    pub mfa: bool,
    pub login_hint: Option<&'a str>,
}

/// Whom the provider says that it has signed in.
#[derive(Clone, Debug)]
pub struct Presented {
    pub sub: String,
    /// Its session, by which it tells of the end.
    pub sid: Option<String>,
    /// Unix seconds.
    pub auth_time: Option<u64>,
    /// Whether two factors were used, where its word for that is taken.
    pub multi_factor: bool,
    pub claims: Map<String, Value>,
}

impl Provider {
    pub async fn authorize_url(&self, state: &str, proofs: &Proofs, asked: Asked<'_>) -> Result<Url, ProviderError> {
        let metadata = self.discovery.current().await?;
        let (state, nonce) = (CsrfToken::new(state.to_owned()), Nonce::new(proofs.nonce.clone()));
        let client = self.client(&metadata, None)?;
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, move || state, move || nonce)
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(
                proofs.verifier.clone(),
            )));
        for scope in self.settings.scopes.iter().filter(|scope| *scope != "openid") {
            request = request.add_scope(Scope::new(scope.clone()));
        }
        if asked.anew {
            request = request.add_prompt(CoreAuthPrompt::Login);
        }
        if let Some(seconds) = asked.max_age {
            request = request.set_max_age(Duration::from_secs(seconds));
        }
        if asked.mfa && self.settings.trust_factors {
            request = request.add_auth_context_value(AuthenticationContextClass::new("mfa".to_owned()));
        }
        if let Some(hint) = asked.login_hint {
            request = request.set_login_hint(LoginHint::new(hint.to_owned()));
        }
        Ok(request.url().0)
    }

    /// Where a browser signs out there, if that can be had (OpenID Connect RP-Initiated Logout §2). Without a hint, which we do not keep,
    /// the provider asks the person first.
    pub async fn sign_out_url(&self) -> Result<Option<Url>, ProviderError> {
        let metadata = self.discovery.current().await?;
        let endpoint = metadata.additional_metadata().end_session_endpoint.as_deref();
        let Some(mut url) = endpoint.filter(|url| self.wire.may_call(url)).and_then(|url| Url::parse(url).ok()) else {
            return Ok(None);
        };
        url.query_pairs_mut()
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("post_logout_redirect_uri", &self.signed_out_uri);
        Ok(Some(url))
    }

    /// Whether an answer comes from this provider, as far as it says so itself (RFC 9207 §2.4).
    pub async fn is_answer_of(&self, iss: Option<&str>) -> Result<bool, ProviderError> {
        if let Some(iss) = iss {
            return Ok(iss == self.issuer());
        }
        let metadata = self.discovery.current().await?;
        Ok(!metadata.additional_metadata().authorization_response_iss_parameter_supported)
    }

    /// Redeems a code and verifies who came with it.
    pub async fn redeem(&self, code: &str, proofs: &Proofs) -> Result<Presented, ProviderError> {
        let metadata = self.discovery.current().await?;
        let client = self.client(&metadata, self.secret().await?)?;
        let tokens = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .map_err(|error| unacceptable(&error))?
            .set_pkce_verifier(PkceCodeVerifier::new(proofs.verifier.clone()))
            .request_async(&self.wire)
            .await
            .map_err(|error| match &error {
                RequestTokenError::Request(_) => ProviderError::Unreachable(whole(&error)),
                _ => unacceptable(&error),
            })?;
        let id_token = tokens.id_token().ok_or_else(|| refused("no ID token"))?;
        let nonce = Nonce::new(proofs.nonce.clone());
        let presented = match self.verify(&metadata, id_token, &nonce) {
            Err(ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey)) => {
                self.verify(&*self.discovery.renewed().await?, id_token, &nonce)
            }
            verified => verified,
        };
        let mut presented = presented.map_err(|error| unacceptable(&error))?;
        if claims::are_missing(&self.settings.claims, &presented.claims) {
            self.ask_further(&metadata, tokens.access_token(), &mut presented).await?;
        }
        Ok(presented)
    }

    fn client(&self, metadata: &Metadata, secret: Option<ClientSecret>) -> Result<Client, ProviderError> {
        let redirect_uri = RedirectUrl::new(self.redirect_uri.clone()).map_err(|error| unacceptable(&error))?;
        let id = ClientId::new(self.settings.client_id.clone());
        let methods = metadata.token_endpoint_auth_methods_supported();
        let knows = |method| methods.is_none_or(|methods| methods.contains(&method));
        let by = if knows(CoreClientAuthMethod::ClientSecretBasic) || !knows(CoreClientAuthMethod::ClientSecretPost) {
            AuthType::BasicAuth
        } else {
            AuthType::RequestBody
        };
        let client = CoreClient::from_provider_metadata(metadata.clone(), id, secret);
        Ok(client.set_redirect_uri(redirect_uri).set_auth_type(by))
    }

    async fn secret(&self) -> Result<Option<ClientSecret>, ProviderError> {
        let Some(file) = &self.settings.client_secret_file else { return Ok(None) };
        let text = tokio::fs::read_to_string(file)
            .await
            .map_err(|error| ProviderError::Unreachable(format!("client_secret_file: {}: {error}", file.display())))?;
        Ok(Some(ClientSecret::new(text.trim().to_owned())))
    }

    /// OpenID Connect Core §3.1.3.7.
    fn verify(
        &self,
        metadata: &Metadata,
        id_token: &CoreIdToken,
        nonce: &Nonce,
    ) -> Result<Presented, ClaimsVerificationError> {
        let now = self.clock.seconds();
        let latest_end = UNIX_EPOCH + Duration::from_secs(now.saturating_sub(LEEWAY));
        let client = self.client(metadata, None).map_err(|error| ClaimsVerificationError::Other(error.to_string()))?;
        let verifier = client
            .id_token_verifier()
            .set_allowed_algs(ALGORITHMS)
            .set_time_fn(move || latest_end.into())
            .set_issue_time_verifier_fn(move |issued| {
                let issued = SystemTime::from(issued).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                let fits = issued <= now + LEEWAY && now <= issued + OLDEST;
                if fits { Ok(()) } else { Err("iat is not of this sign-in".to_owned()) }
            });
        let said = id_token.claims(&verifier, nonce)?;
        if said.authorized_party().is_some_and(|party| **party != self.settings.client_id) {
            return Err(ClaimsVerificationError::InvalidAudience("azp is another client".to_owned()));
        }
        let sub = said.subject().as_str();
        if sub.is_empty() || sub.len() > MAX_SUB {
            return Err(ClaimsVerificationError::InvalidSubject("1 to 255 characters".to_owned()));
        }
        let claims =
            payload(&id_token.to_string()).ok_or_else(|| ClaimsVerificationError::Other("no claims".into()))?;
        Ok(Presented {
            sub: sub.to_owned(),
            sid: claims.get("sid").and_then(Value::as_str).map(str::to_owned),
            auth_time: said.auth_time().map(|time| u64::try_from(time.timestamp()).unwrap_or(0)),
            multi_factor: self.settings.trust_factors && claims::say_multi_factor(&claims),
            claims,
        })
    }

    /// What the ID token leaves out, where the provider has more (OpenID Connect Core §5.3). The ID token's own word stands.
    async fn ask_further(
        &self,
        metadata: &Metadata,
        access_token: &AccessToken,
        presented: &mut Presented,
    ) -> Result<(), ProviderError> {
        let Some(url) = metadata.userinfo_endpoint() else { return Ok(()) };
        let request = http::Request::builder()
            .method(Method::GET)
            .uri(url.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", access_token.secret()))
            .body(Vec::new())
            .map_err(|error| unacceptable(&error))?;
        let answer = self.wire.send(request).await.map_err(|error| ProviderError::Unreachable(error.to_string()))?;
        if answer.status() != StatusCode::OK {
            return Err(refused(&format!("userinfo: {}", answer.status())));
        }
        let more: Map<String, Value> =
            serde_json::from_slice(answer.body()).map_err(|_| refused("userinfo: not a JSON object"))?;
        // §5.3.2: or it could be told of somebody else.
        if more.get("sub").and_then(Value::as_str) != Some(presented.sub.as_str()) {
            return Err(refused("userinfo: of another subject"));
        }
        // Said of the address beside it, which need not be the ID token's.
        let same_email = presented.claims.get("email").is_none_or(|email| more.get("email") == Some(email));
        for (name, value) in more {
            if name != "email_verified" || same_email {
                presented.claims.entry(name).or_insert(value);
            }
        }
        Ok(())
    }
}

fn unacceptable(error: &dyn std::error::Error) -> ProviderError {
    ProviderError::Unacceptable(whole(error))
}

fn refused(why: &str) -> ProviderError {
    ProviderError::Unacceptable(why.to_owned())
}

/// Of a JWT that has been verified.
fn payload(jwt: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(jwt.split('.').nth(1)?).ok()?).ok()
}

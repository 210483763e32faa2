//! `/oauth2/authorize`: checks what a client asks for, finds out who the person is, and sends the browser back with a code.
//!
//! Until client and redirect URI are known to belong together, every error is a page; a browser is never sent to an address that is not
//! registered (RFC 9700 §4.11).

use std::net::IpAddr;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use bytes::Bytes;
use cloakroom_protocol::token::TokenId;
use http::HeaderMap;
use url::Url;

use super::audiences::audiences;
use super::error::OAuthError;
use super::id_token;
use super::redirects::may_redirect_to;
use crate::app::{App, Shared};
use crate::assurance::{Demand, Missing, Proof, SUPPORTED_ACR};
use crate::endpoint::pages::browser::Browser;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::pages::{consent, flows, redirect, second_factor, sign_in};
use crate::form::Parameters;
use crate::messages::say;
use crate::peer::ClientAddress;
use crate::pkce::is_challenge;
use crate::record::client::{self, Client};
use crate::record::code::{self, Code};
use crate::record::flow::{self, AuthorizationRequest, Goal, Prompt};
use crate::record::registered::Registered;
use crate::record::session::{Session, Terms};
use crate::record::{consent as consents, user};
use crate::registry::terms;

pub const REQUEST_URI_PREFIX: &str = "urn:ietf:params:oauth:request_uri:";

/// RFC 6749 §4.1.2.1 and OpenID Connect Core §3.1.2.6: an error that the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    InvalidRequest(&'static str),
    UnsupportedResponseType,
    InvalidScope,
    InvalidTarget,
    UnauthorizedClient,
    RequestNotSupported,
    LoginRequired,
    InteractionRequired,
    ConsentRequired,
    AccessDenied,
}

impl Refusal {
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest(_) => "invalid_request",
            Self::UnsupportedResponseType => "unsupported_response_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::RequestNotSupported => "request_not_supported",
            Self::LoginRequired => "login_required",
            Self::InteractionRequired => "interaction_required",
            Self::ConsentRequired => "consent_required",
            Self::AccessDenied => "access_denied",
        }
    }

    pub fn description(self) -> &'static str {
        match self {
            Self::InvalidRequest(sentence) => sentence,
            Self::UnsupportedResponseType => "response_type is code",
            Self::InvalidScope => "a scope is not allowed for this application",
            Self::InvalidTarget => "a resource is not allowed for this application",
            Self::UnauthorizedClient => "the application may not sign people in",
            Self::RequestNotSupported => "request objects are not supported",
            Self::LoginRequired => "nobody is signed in",
            Self::InteractionRequired => "a second factor has to be asked for",
            Self::ConsentRequired => "consent has not been given",
            Self::AccessDenied => "the person said no",
        }
    }
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    authorize(&app, &headers, address, query.unwrap_or_default().as_bytes()).await
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    authorize(&app, &headers, address, &body).await
}

async fn authorize(app: &App, headers: &HeaderMap, address: IpAddr, encoded: &[u8]) -> Result<Response, PageError> {
    let parameters = Parameters::parse(encoded).map_err(|error| PageError::Malformed(error.to_string()))?;
    let checked = match parameters.get("request_uri") {
        Some(uri) => Ok(pushed(app, &parameters, uri).await?),
        None => check(app, &parameters).await?,
    };
    let request = match checked {
        Ok(request) => request,
        Err(Refused { refusal, untrusted: true, .. }) => {
            return Err(PageError::Malformed(format!("the application made a mistake: {}", refusal.description())));
        }
        Err(Refused { redirect_uri, state, refusal, .. }) => {
            return Ok(refuse(app, &redirect_uri, state.as_deref(), refusal));
        }
    };
    let browser = Browser::of(app, headers, address);
    let session = browser.session(app).await?;
    proceed(app, browser, request, session, false).await
}

/// A request whose redirect URI is good, but which is refused.
pub struct Refused {
    redirect_uri: String,
    state: Option<String>,
    refusal: Refusal,
    /// Anybody may have registered the address: a browser goes there only once the person has agreed (RFC 9700 §4.11.2), or this would be
    /// an open redirector.
    untrusted: bool,
}

impl Refused {
    /// The same refusal for a client that pushed its request.
    pub fn into_error(self) -> OAuthError {
        OAuthError::Authorization(self.refusal)
    }
}

async fn pushed(app: &App, parameters: &Parameters, uri: &str) -> Result<AuthorizationRequest, PageError> {
    let expired = || PageError::BadRequest(say::sorry_sign_in_link_over());
    let id = uri.strip_prefix(REQUEST_URI_PREFIX).ok_or_else(expired)?;
    let request = flow::take_pushed(app.store(), id).await?.ok_or_else(expired)?;
    // RFC 9126 §4: bound to the client that pushed it.
    if parameters.get("client_id") == Some(request.client_id.as_str()) { Ok(request) } else { Err(expired()) }
}

/// Checks a request's parameters. The outer error is a page, the inner one goes to the client.
pub async fn check(app: &App, parameters: &Parameters) -> Result<Result<AuthorizationRequest, Refused>, PageError> {
    let missing = |name: &str| PageError::Malformed(format!("{name} is missing"));
    let client_id = parameters.get("client_id").ok_or_else(|| missing("client_id"))?;
    let client = client::load(app.store(), client_id).await?;
    let client = client.ok_or_else(|| PageError::BadRequest(say::sorry_application_unknown()))?;
    let redirect_uri = parameters.get("redirect_uri").ok_or_else(|| missing("redirect_uri"))?;
    if !may_redirect_to(app, &client, redirect_uri) {
        crate::audit::record("authorize.unregistered-redirect", client_id, "", redirect_uri);
        return Err(PageError::BadRequest(say::sorry_redirect_unregistered()));
    }
    let state = parameters.owned("state");
    let untrusted = client.registered.as_ref().is_some_and(Registered::is_open);
    let refused = |refusal| {
        let (redirect_uri, state) = (redirect_uri.to_owned(), parameters.owned("state"));
        Ok(Err(Refused { redirect_uri, state, refusal, untrusted }))
    };
    if !client.allows(client::GrantType::AuthorizationCode) {
        return refused(Refusal::UnauthorizedClient);
    }
    match parameters.get("response_type") {
        Some("code") => {}
        Some(_) => return refused(Refusal::UnsupportedResponseType),
        None => return refused(Refusal::InvalidRequest("response_type is missing")),
    }
    if parameters.get("response_mode").is_some_and(|mode| mode != "query") {
        return refused(Refusal::InvalidRequest("response_mode is query"));
    }
    if parameters.get("request").is_some() {
        return refused(Refusal::RequestNotSupported);
    }
    let challenge = parameters.get("code_challenge").filter(|challenge| is_challenge(challenge));
    let (Some(challenge), Some("S256")) = (challenge, parameters.get("code_challenge_method")) else {
        return refused(Refusal::InvalidRequest("PKCE is needed: code_challenge, and code_challenge_method=S256"));
    };
    let too_long = [("state", 2048), ("nonce", 512), ("acr_values", 256), ("login_hint", 256), ("ui_locales", 256)]
        .into_iter()
        .any(|(name, most)| parameters.get(name).is_some_and(|value| value.len() > most));
    if too_long {
        return refused(Refusal::InvalidRequest("state, nonce, acr_values, login_hint or ui_locales is too long"));
    }
    let Some(scope) = client.scope_for(parameters.get("scope")) else { return refused(Refusal::InvalidScope) };
    let Some(aud) = audiences(app, &client, parameters) else { return refused(Refusal::InvalidTarget) };
    let Some(mut prompt) = parse_prompt(parameters.get("prompt")) else {
        return refused(Refusal::InvalidRequest("prompt is none, or of login and consent"));
    };
    // RFC 8252 §8.6: any program on the device can pose as a client that has neither a secret nor an address of its own.
    prompt.consent |= client.is_public() && !redirect_uri.starts_with("https://");
    prompt.consent |= client.is_strangers();
    if untrusted && prompt.none {
        return refused(Refusal::ConsentRequired);
    }
    let max_age = match parameters.get("max_age").map(str::parse) {
        None => None,
        Some(Ok(seconds)) => Some(seconds),
        Some(Err(_)) => return refused(Refusal::InvalidRequest("max_age is a number of seconds")),
    };
    let hint = match parameters.get("id_token_hint").map(|hint| id_token::hint(app, hint)) {
        None => None,
        Some(Some(hint)) if hint.aud == client_id => Some(hint.sub),
        Some(_) => return refused(Refusal::InvalidRequest("id_token_hint is an ID token that this client got")),
    };
    let dpop_jkt = parameters.owned("dpop_jkt");
    if dpop_jkt.as_ref().is_some_and(|jkt| !is_challenge(jkt)) {
        return refused(Refusal::InvalidRequest("dpop_jkt is the SHA-256 thumbprint of a key"));
    }
    Ok(Ok(AuthorizationRequest {
        client_id: client_id.to_owned(),
        for_policy: false,
        redirect_uri: redirect_uri.to_owned(),
        state,
        scope,
        aud,
        nonce: parameters.owned("nonce"),
        code_challenge: challenge.to_owned(),
        acr_values: parameters.owned("acr_values"),
        max_age,
        prompt,
        login_hint: parameters.owned("login_hint"),
        ui_locales: parameters.owned("ui_locales"),
        sub: hint,
        dpop_jkt,
        return_to: None,
    }))
}

fn parse_prompt(prompt: Option<&str>) -> Option<Prompt> {
    let mut parsed = Prompt::default();
    for word in prompt.unwrap_or_default().split(' ').filter(|word| !word.is_empty()) {
        match word {
            "none" => parsed.none = true,
            // There is one account per session: choosing another one is signing in anew.
            "login" | "select_account" => parsed.login = true,
            "consent" => parsed.consent = true,
            _ => return None,
        }
    }
    (!parsed.none || (!parsed.login && !parsed.consent)).then_some(parsed)
}

/// Sends the browser on: to sign in, to the second factor, to consent, or back to the client. `fresh`: the person has just signed in for
/// this very request, so that only how strongly is still a question.
pub async fn proceed(
    app: &App,
    browser: Browser,
    request: AuthorizationRequest,
    session: Option<Session>,
    fresh: bool,
) -> Result<Response, PageError> {
    let client = client_of(app, &request).await?;
    let expected = |session: &Session| request.sub.as_ref().is_none_or(|sub| *sub == session.facts.sub);
    if fresh && session.as_ref().is_some_and(|session| !expected(session)) {
        // OpenID Connect Core §3.1.2.1: the client asked for somebody else than who has signed in now.
        return Ok(browser.answer(refuse(
            app,
            &request.redirect_uri,
            request.state.as_deref(),
            Refusal::LoginRequired,
        )));
    }
    let session = session.filter(expected);
    if is_beyond_reach(&request) {
        return Err(PageError::Forbidden(say::sorry_stronger_than_here()));
    }
    let missing = missing(app, &request, session.as_ref(), fresh).await?;
    let session = match (session, missing) {
        (Some(session), Missing::Nothing) => session,
        (_, _) if request.prompt.none => {
            let refusal =
                if missing == Missing::SecondFactor { Refusal::InteractionRequired } else { Refusal::LoginRequired };
            return Ok(refuse(app, &request.redirect_uri, request.state.as_deref(), refusal));
        }
        (Some(session), Missing::SecondFactor) => {
            return second_factor::step_up(app, browser, Goal::Authorize(Box::new(request)), &session).await;
        }
        (_, _) => return sign_in::begin(app, browser, Goal::Authorize(Box::new(request))).await,
    };
    if needs_consent(app, &request, client.as_ref(), &session).await? {
        if request.prompt.none {
            return Ok(refuse(app, &request.redirect_uri, request.state.as_deref(), Refusal::ConsentRequired));
        }
        return consent::begin(app, browser, request).await;
    }
    answer(app, browser, &request, &session).await
}

/// A policy that demands what no sign-in here can give: said at once, instead of sending the browser to and fro.
fn is_beyond_reach(request: &AuthorizationRequest) -> bool {
    let demanded = request.acr_values.as_deref().filter(|_| request.for_policy);
    demanded.is_some_and(|demanded| !demanded.split(' ').any(|acr| SUPPORTED_ACR.contains(&acr)))
}

/// What of the sign-in does not count, or not enough, for what is asked.
async fn missing(
    app: &App,
    request: &AuthorizationRequest,
    session: Option<&Session>,
    fresh: bool,
) -> Result<Missing, PageError> {
    let Some(session) = session else { return Ok(Missing::Everything) };
    if !fresh && !is_alive(app, request, session) {
        return Ok(Missing::Everything);
    }
    let mut demand = flows::demand_of(app, request, &session.profile.groups).await?;
    if fresh {
        demand = Demand { mfa: demand.mfa, ..Demand::default() };
    }
    let proof = Proof::from_amr(&session.facts.amr, session.facts.auth_time);
    Ok(demand.missing(&proof, app.now()))
}

/// Whether the session has not ended for who asks: a policy has an idle and an absolute time of its own.
fn is_alive(app: &App, request: &AuthorizationRequest, session: &Session) -> bool {
    let terms = if request.for_policy {
        app.registry.get(&request.client_id).map(|policy| terms(&policy))
    } else {
        Some(Terms { idle: app.config.session.idle_seconds, absolute: app.config.session.absolute_seconds })
    };
    terms.is_some_and(|terms| session.is_within(terms, app.now()))
}

/// The client that asks, unless it is a policy. It may have been removed, and its address may, since it asked.
pub async fn client_of(app: &App, request: &AuthorizationRequest) -> Result<Option<Client>, PageError> {
    if request.for_policy {
        return Ok(None);
    }
    let client = client::load(app.store(), &request.client_id).await?;
    let client = client.ok_or_else(|| PageError::BadRequest(say::sorry_application_gone()))?;
    if !may_redirect_to(app, &client, &request.redirect_uri) {
        return Err(PageError::BadRequest(say::sorry_redirect_unregistered()));
    }
    Ok(Some(client))
}

async fn needs_consent(
    app: &App,
    request: &AuthorizationRequest,
    client: Option<&Client>,
    session: &Session,
) -> Result<bool, PageError> {
    if client.is_none_or(|client| client.first_party) {
        return Ok(false);
    }
    let given = consents::load(app.store(), &session.facts.sub, &request.client_id).await?;
    Ok(request.prompt.consent || !given.covers(&request.scope, &request.aud))
}

/// The code, to the registered address, with `iss` (RFC 9207) so that the client knows who answers.
async fn answer(
    app: &App,
    browser: Browser,
    request: &AuthorizationRequest,
    session: &Session,
) -> Result<Response, PageError> {
    let sub = &session.facts.sub;
    let user = user::load(app.store(), sub).await?.filter(|user| !user.details.disabled);
    let user = user.ok_or(PageError::Forbidden(say::sorry_not_active()))?;
    let (id, secret) = (app.random.with(TokenId::generate), app.random.secret());
    let code = code::create(app.store(), (id, secret), |secret| Code {
        secret,
        request: request.clone(),
        sid: session.id,
        sub: sub.clone(),
        epoch: user.epoch,
    })
    .await?;
    let target = with_parameters(
        &request.redirect_uri,
        [("code", Some(code.as_str())), ("state", request.state.as_deref()), ("iss", Some(&app.config.issuer))],
    );
    Ok(browser.answer(redirect(&target)))
}

pub fn refuse(app: &App, redirect_uri: &str, state: Option<&str>, refusal: Refusal) -> Response {
    redirect(&with_parameters(
        redirect_uri,
        [
            ("error", Some(refusal.code())),
            ("error_description", Some(refusal.description())),
            ("state", state),
            ("iss", Some(&app.config.issuer)),
        ],
    ))
}

/// Adds to the query that a registered URI may have (RFC 6749 §3.1.2).
pub fn with_parameters<const N: usize>(uri: &str, parameters: [(&str, Option<&str>); N]) -> String {
    let given: Vec<(&str, &str)> = parameters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    match Url::parse(uri) {
        Ok(mut url) if !given.is_empty() => {
            url.query_pairs_mut().extend_pairs(given);
            url.into()
        }
        _ => uri.to_owned(),
    }
}

/// Who asks, for a page to name.
pub async fn display_name(app: &App, request: &AuthorizationRequest) -> Result<String, PageError> {
    if request.for_policy {
        let host = Url::parse(&request.redirect_uri).ok().and_then(|url| url.host_str().map(str::to_owned));
        return Ok(host.unwrap_or_else(|| request.client_id.clone()));
    }
    let client = client::load(app.store(), &request.client_id).await?;
    Ok(client::shown_name(client.as_ref(), &request.client_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_that_is_registered_stays_and_values_cannot_break_out() {
        assert_eq!(
            with_parameters("https://a.example/cb?x=1", [("code", Some("a&b=c#d")), ("state", None)]),
            "https://a.example/cb?x=1&code=a%26b%3Dc%23d"
        );
        assert_eq!(
            with_parameters("https://a.example/bye", [("state", None)]),
            "https://a.example/bye",
            "as registered"
        );
    }

    #[test]
    fn prompt_none_goes_with_nothing_else() {
        assert_eq!(parse_prompt(Some("none login")), None);
        assert_eq!(parse_prompt(Some("teleport")), None);
        assert_eq!(parse_prompt(None), Some(Prompt::default()));
    }
}

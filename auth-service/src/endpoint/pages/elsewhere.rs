//! Signing in with another OpenID provider: `/sign-in/with/<id>` goes there, `/sign-in/from/<id>` is where it sends the browser back.
//!
//! What comes back counts once, in the browser that left, and only at the address of the provider that it was sent to (RFC 9700 §4.4).

use axum::extract::{Path, Query, RawQuery, State};
use axum::response::Response;
use http::HeaderMap;

use super::browser::Browser;
use super::error::PageError;
use super::flows::FlowParameter;
use super::{flows, redirect, second_factor, sign_in};
use crate::app::{App, Shared};
use crate::assurance::{Method, Proof};
use crate::federation::accounts::{self, AccountError};
use crate::federation::{Asked, Presented, Proofs, Provider, ProviderError};
use crate::form::Parameters;
use crate::messages::say;
use crate::metrics::Outcome;
use crate::peer::ClientAddress;
use crate::record::RecordError;
use crate::record::flow::{AuthorizationRequest, Away, Entered, Goal, Stage};
use crate::record::origin::Origin;
use crate::record::user;
use crate::registry::terms;
use crate::throttle::{self, Verdict};

/// Clocks differ, in seconds.
const LEEWAY: u64 = 60;

/// A link of the sign-in page, and of no other: it has to name a flow of this browser's.
pub async fn go(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(FlowParameter { flow }): Query<FlowParameter>,
) -> Result<Response, PageError> {
    let provider = app.providers.get(&id).ok_or(PageError::NotFound)?;
    let browser = Browser::of(&app, &headers, address);
    let goal = flows::at_sign_in(&app, &browser, &flow).await?;
    send(&app, browser, provider, goal, None).await
}

/// From the page after signing out here: sends the browser to sign out there, too.
pub async fn sign_out(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let provider = app.providers.get(&id).filter(|provider| provider.settings.sign_out).ok_or(PageError::NotFound)?;
    if let Verdict::Wait(seconds) = throttle::visit(app.store(), &app.config.limits, address).await? {
        return Err(PageError::Throttled(say::sorry_too_many_visits(), seconds));
    }
    let url = provider.sign_out_url().await.map_err(|error| failed(&app, provider, &error))?;
    let url = url.ok_or_else(|| PageError::BadRequest(say::sorry_no_sign_out_there(provider.name())))?;
    Ok(redirect(url.as_str()))
}

/// Sends the browser to a provider: to sign in, or to connect an account.
pub async fn send(
    app: &App,
    browser: Browser,
    provider: &Provider,
    goal: Goal,
    connects: Option<String>,
) -> Result<Response, PageError> {
    if let Verdict::Wait(seconds) = throttle::visit(app.store(), &app.config.limits, browser.address()).await? {
        return Err(PageError::Throttled(say::sorry_too_many_sign_ins(), seconds));
    }
    let wish = Wish::of(app, &goal).await?;
    let hint = match &goal {
        Goal::Authorize(request) => request.login_hint.clone(),
        Goal::Account | Goal::Settings(_) | Goal::Device { .. } => None,
    };
    let asked = Asked {
        // Whoever has left a session of his own over there must not end up in somebody else's account.
        anew: wish.anew || connects.is_some(),
        max_age: wish.max_age.into_iter().chain(wish.within).min(),
        mfa: wish.mfa,
        login_hint: hint.as_deref(),
    };
    let away = Away { provider: provider.id().to_owned(), connects };
    let state = flows::start(app, &browser, goal, Stage::Away(away)).await?;
    let url = provider.authorize_url(&state, &proofs(&browser, &state), asked).await;
    let url = url.map_err(|error| failed(app, provider, &error))?;
    Ok(browser.answer(redirect(url.as_str())))
}

/// Made from the browser's own secret: kept nowhere, and worth nothing in another browser.
fn proofs(browser: &Browser, state: &str) -> Proofs {
    Proofs {
        nonce: browser.form_token(&format!("nonce\0{state}")),
        verifier: browser.form_token(&format!("code verifier\0{state}")),
    }
}

/// What the sign-in there has to be, before it is known whose it is.
struct Wish {
    anew: bool,
    /// Somebody asks for a sign-in of at most this age, in seconds.
    max_age: Option<u64>,
    /// A session would end at this age.
    within: Option<u64>,
    mfa: bool,
}

impl Wish {
    async fn of(app: &App, goal: &Goal) -> Result<Self, PageError> {
        let demand = flows::demand(app, goal, &[]).await?;
        let within = match goal {
            Goal::Authorize(request) => absolute(app, request),
            Goal::Account | Goal::Settings(_) | Goal::Device { .. } => None,
        };
        Ok(Self { anew: demand.anew, max_age: demand.max_age, within, mfa: demand.mfa })
    }

    /// When the person was asked, by the provider's word; `None`: not recently enough. Whoever says nothing has asked just now, but where
    /// that was the question (OpenID Connect Core §2: `auth_time` must then be there).
    fn judge(&self, auth_time: Option<u64>, left: u64, now: u64) -> Option<u64> {
        let Some(at) = auth_time.map(|at| at.min(now)) else {
            return (!self.anew && self.max_age.is_none()).then_some(now);
        };
        let anew = !self.anew || at + LEEWAY >= left;
        let young = self.max_age.into_iter().chain(self.within).all(|most| now.saturating_sub(at) <= most + LEEWAY);
        (anew && young).then_some(at)
    }
}

fn absolute(app: &App, request: &AuthorizationRequest) -> Option<u64> {
    if request.for_policy {
        app.registry.get(&request.client_id).map(|policy| terms(&policy).absolute)
    } else {
        Some(app.config.session.absolute_seconds)
    }
}

pub async fn back(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let provider = app.providers.get(&id).ok_or(PageError::NotFound)?;
    let answer = Parameters::parse(query.unwrap_or_default().as_bytes());
    let answer = answer.map_err(|error| PageError::Malformed(error.to_string()))?;
    let browser = Browser::of(&app, &headers, address);
    let state = answer.get("state").unwrap_or_default();
    let flow = flows::away(&app, &browser, state).await?;
    if flow.away.provider != provider.id() {
        return Err(mixed_up(&app, provider, "sent to another provider"));
    }
    flows::finish(&app, state).await?;
    if !provider.is_answer_of(answer.get("iss")).await.map_err(|error| failed(&app, provider, &error))? {
        return Err(mixed_up(&app, provider, "iss is another provider's"));
    }
    if let Some(error) = answer.get("error") {
        tracing::info!(provider = provider.id(), error, "a provider signed nobody in");
        count(&app, "declined");
        return declined(&app, browser, flow).await;
    }
    let code = answer.get("code").ok_or_else(|| PageError::BadRequest(say::sorry_no_code()))?;
    let presented = provider.redeem(code, &proofs(&browser, state)).await;
    let presented = presented.map_err(|error| failed(&app, provider, &error))?;
    match flow.away.connects.clone() {
        Some(sub) => connect(&app, browser, provider, &flow, &sub, &presented).await,
        None => enter(&app, browser, provider, flow, &presented).await,
    }
}

/// Back to where another way can be chosen.
async fn declined(app: &App, browser: Browser, flow: flows::Left) -> Result<Response, PageError> {
    match flow.away.connects {
        Some(_) => Ok(browser.answer(redirect("/account/connections?done=declined"))),
        None => sign_in::begin_after(app, browser, flow.goal, Some(sign_in::DECLINED)).await,
    }
}

async fn enter(
    app: &App,
    browser: Browser,
    provider: &Provider,
    flow: flows::Left,
    presented: &Presented,
) -> Result<Response, PageError> {
    let now = app.now();
    let Some(at) = Wish::of(app, &flow.goal).await?.judge(presented.auth_time, flow.started, now) else {
        count(app, "refused");
        return Err(PageError::BadRequest(say::sorry_not_recent_there(provider.name())));
    };
    let user = match accounts::arrive(app, provider, presented).await {
        Ok(Some(user)) => user,
        Ok(None) => {
            count(app, "unknown");
            crate::audit::record("sign-in.unknown", browser.address(), &presented.sub, provider.id());
            let (name, ask) = (provider.name().to_owned(), provider.settings.ask.clone());
            return Err(PageError::NoAccount { provider: name, ask });
        }
        Err(error) => return Err(not_entered(app, provider.name(), error)),
    };
    count(app, "success");
    let mut proof = Proof::of(Method::Provider, at);
    if presented.multi_factor {
        proof = proof.and(Method::ProviderMfa);
    }
    let origin = Origin {
        issuer: provider.issuer().to_owned(),
        sub: presented.sub.clone(),
        sid: presented.sid.clone(),
        at: now,
    };
    let entered = Entered {
        sub: user.id.clone(),
        epoch: user.epoch,
        proof,
        elevates: None,
        demanded: false,
        origin: Some(origin),
    };
    second_factor::after_first(app, browser, flow.goal, &user, entered).await
}

/// Only for whoever began it, and who is still there: what was begun at an unlocked screen must not be finished by somebody else later.
async fn connect(
    app: &App,
    browser: Browser,
    provider: &Provider,
    flow: &flows::Left,
    sub: &str,
    presented: &Presented,
) -> Result<Response, PageError> {
    let too_late = || PageError::BadRequest(say::sorry_took_too_long());
    let session = browser.session(app).await?.filter(|session| session.facts.sub == sub).ok_or_else(too_late)?;
    if app.now() > flow.started + app.config.factors.recent_seconds {
        return Err(too_late());
    }
    let user = user::load(app.store(), &session.facts.sub).await?.filter(|user| !user.details.disabled);
    let user = user.ok_or(PageError::Forbidden(say::sorry_not_active()))?;
    match accounts::connect(app, provider, user, presented).await {
        Ok(()) => Ok(browser.answer(redirect("/account/connections?done=connected"))),
        Err(error) => Err(not_entered(app, provider.name(), error)),
    }
}

fn count(app: &App, outcome: &'static str) {
    app.metrics.provider_sign_ins.get_or_create(&Outcome { outcome }).inc();
}

fn mixed_up(app: &App, provider: &Provider, why: &'static str) -> PageError {
    count(app, "refused");
    crate::audit::record("sign-in.mixed-up", provider.id(), "", why);
    PageError::BadRequest(say::sorry_not_the_answer())
}

/// What a person learns of a provider's failure; the log has the rest.
fn failed(app: &App, provider: &Provider, error: &ProviderError) -> PageError {
    let name = provider.name().to_owned();
    match error {
        ProviderError::Unreachable(why) => {
            count(app, "unavailable");
            PageError::ProviderUnavailable { name, why: why.clone() }
        }
        ProviderError::Unacceptable(why) => {
            count(app, "refused");
            tracing::warn!(provider = provider.id(), why, "a provider's answer is not accepted");
            PageError::BadRequest(say::sorry_not_verified(name))
        }
    }
}

/// For people; also where an identity is taken off an account.
pub fn not_entered(app: &App, name: &str, error: AccountError) -> PageError {
    let sentence = match error {
        AccountError::Record(RecordError::Store(error)) => return error.into(),
        AccountError::Record(error) => return error.into(),
        AccountError::Disabled => return PageError::Forbidden(say::sorry_not_active()),
        AccountError::TooMuch => {
            tracing::warn!(provider = name, "a person's groups and roles do not fit into a profile");
            say::sorry_tells_too_much(name)
        }
        AccountError::Taken => say::sorry_taken(name),
        AccountError::Occupied => say::sorry_occupied(name),
        AccountError::Gone => say::sorry_not_connected(name),
        AccountError::LastWay if app.config.passwords.enabled => say::sorry_last_way(),
        AccountError::LastWay => say::sorry_last_way_no_passwords(),
    };
    count(app, "refused");
    PageError::BadRequest(sentence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_old_a_sign_in_may_be_is_what_was_asked() {
        let wish = |anew, max_age, within| Wish { anew, max_age, within, mfa: false };
        let (now, left) = (10_000, 9_900);
        for (wish, auth_time, at) in [
            (wish(false, None, None), None, Some(now)),
            (wish(false, None, None), Some(5), Some(5)),
            (wish(false, None, None), Some(20_000), Some(now)),
            (wish(true, None, None), None, None),
            (wish(true, None, None), Some(9_000), None),
            (wish(true, None, None), Some(9_950), Some(9_950)),
            (wish(false, Some(300), None), None, None),
            (wish(false, Some(300), None), Some(9_000), None),
            (wish(false, None, Some(300)), None, Some(now)),
            (wish(false, None, Some(300)), Some(9_000), None),
            (wish(false, Some(1_000), Some(3_000)), Some(9_000), Some(9_000)),
        ] {
            assert_eq!(
                wish.judge(auth_time, left, now),
                at,
                "{:?} {auth_time:?}",
                (wish.anew, wish.max_age, wish.within)
            );
        }
    }
}

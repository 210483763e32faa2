//! `/second-factor`: after the password, or on top of a session that is not strong enough for what comes next.

use std::net::IpAddr;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::authenticator::{self, Confirmed, show_recovery_codes};
use super::browser::Browser;
use super::error::PageError;
use super::flows::{self, Destination, FlowParameter};
use super::passkeys::{self, Ask};
use super::{Frame, page, page_with_script, redirect, signed_in, when_to_try_again};
use crate::app::{App, Shared};
use crate::assurance::{Method, Proof};
use crate::form::Parameters;
use crate::messages::{Sentence, say};
use crate::peer::ClientAddress;
use crate::record::factors::{self, Factors, Totp};
use crate::record::flow::{Entered, Goal, Stage};
use crate::record::session::Session;
use crate::record::user::{self, User};
use crate::throttle::{self, Source, Verdict};
use crate::totp;

#[derive(Template)]
#[template(path = "second_factor.html")]
struct SecondFactorPage {
    frame: Frame,
    application: Option<String>,
    flow: String,
    csrf: String,
    has_authenticator: bool,
    passkey: Option<Ask>,
    recovery_codes: usize,
    /// For how many days this browser may be trusted; absent where that is not offered.
    trust_days: Option<u64>,
    problem: Option<Sentence>,
    recovery_problem: Option<Sentence>,
}

/// After a first factor: signs in, or asks for the second one.
pub async fn after_first(
    app: &App,
    browser: Browser,
    goal: Goal,
    user: &User,
    entered: Entered,
) -> Result<Response, PageError> {
    let demanded = flows::demand(app, &goal, &user.details.profile.groups).await?.mfa;
    let enrolled = factors::load(app.store(), &user.id).await?.is_enrolled();
    // Trust in a browser is for coming in, not for changing the locks.
    let strictly = demanded || matches!(goal, Goal::Settings(_));
    let wanted = demanded || (enrolled && (strictly || !signed_in::is_trusted(app, &browser, &user.id).await?));
    if wanted && !entered.proof.is_multi_factor() {
        return begin(app, browser, goal, Entered { demanded: strictly, ..entered }).await;
    }
    let (browser, session) = signed_in::complete(app, browser, user, &entered).await?;
    signed_in::go_on(app, browser, goal, session).await
}

/// On top of a session: asks for the second factor only.
pub async fn step_up(app: &App, browser: Browser, goal: Goal, session: &Session) -> Result<Response, PageError> {
    let sub = &session.facts.sub;
    let user = active(user::load(app.store(), sub).await?)?;
    let entered = Entered {
        sub: sub.clone(),
        epoch: user.epoch,
        proof: Proof::from_amr(&session.facts.amr, session.facts.auth_time),
        elevates: Some(session.id),
        demanded: true,
        origin: session.facts.origin.clone(),
    };
    begin(app, browser, goal, entered).await
}

async fn begin(app: &App, browser: Browser, goal: Goal, entered: Entered) -> Result<Response, PageError> {
    let id = flows::start(app, &browser, goal, Stage::SecondFactor(Box::new(entered))).await?;
    Ok(browser.answer(redirect(&format!("/second-factor?flow={id}"))))
}

fn active(user: Option<User>) -> Result<User, PageError> {
    user.filter(|user| !user.details.disabled).ok_or(PageError::Forbidden(say::sorry_not_active()))
}

/// Who is at the page, if nothing has happened to the account since the password.
async fn person(app: &App, entered: &Entered) -> Result<User, PageError> {
    let user = active(user::load(app.store(), &entered.sub).await?)?;
    if user.epoch == entered.epoch {
        return Ok(user);
    }
    Err(PageError::BadRequest(say::sorry_account_changed()))
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Query(FlowParameter { flow: id }): Query<FlowParameter>,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    let (goal, entered) = flows::at_second_factor(&app, &browser, &id).await?;
    let user = person(&app, &entered).await?;
    let factors = factors::load(app.store(), &user.id).await?;
    if factors.is_enrolled() {
        return show(&app, browser, (&id, &goal, &entered), &factors, StatusCode::OK, Problems::default()).await;
    }
    let leads_to = flows::destination(&app, &goal).await?.leads_to;
    let form = set_up_form(&app, &browser, (&id, &goal, &entered));
    let offer = authenticator::offer(&app, &browser, &user, form)?;
    Ok(browser.answer(page(StatusCode::OK, &offer, &leads_to)?))
}

fn set_up_form(app: &App, browser: &Browser, (id, goal, entered): (&str, &Goal, &Entered)) -> authenticator::Form {
    authenticator::Form {
        frame: Frame::of_flow(app, browser, goal),
        action: "/second-factor/set-up",
        flow: Some(id.to_owned()),
        csrf: browser.form_token(id),
        demanded: entered.demanded,
    }
}

#[derive(Default)]
struct Problems {
    code: Option<Sentence>,
    recovery: Option<Sentence>,
}

async fn show(
    app: &App,
    browser: Browser,
    (id, goal, entered): (&str, &Goal, &Entered),
    factors: &Factors,
    status: StatusCode,
    problems: Problems,
) -> Result<Response, PageError> {
    let Destination { application, leads_to } = flows::destination(app, goal).await?;
    let days = app.config.factors.trust_browser_days;
    let template = SecondFactorPage {
        frame: Frame::of_flow(app, &browser, goal),
        application,
        flow: id.to_owned(),
        csrf: browser.form_token(id),
        has_authenticator: factors.totp.is_some(),
        passkey: passkeys::ask(app, &browser, id, &factors.passkeys).filter(|_| !factors.passkeys.is_empty()),
        recovery_codes: factors.recovery_codes,
        trust_days: (days > 0 && !entered.demanded).then_some(days),
        problem: problems.code,
        recovery_problem: problems.recovery,
    };
    let response = if template.passkey.is_some() {
        page_with_script(status, &template, &leads_to)?
    } else {
        page(status, &template, &leads_to)?
    };
    Ok(browser.answer(when_to_try_again(app, response)))
}

/// A form of this page, and for whom it is.
struct Arrived {
    browser: Browser,
    form: Parameters,
    id: String,
    goal: Goal,
    entered: Entered,
    user: User,
    factors: Factors,
}

async fn arrive(app: &App, headers: &HeaderMap, address: IpAddr, body: &Bytes) -> Result<Arrived, PageError> {
    let (browser, form) = Browser::form(app, headers, address, body, flows::of_form)?;
    let id = flows::of_form(&form);
    let (goal, entered) = flows::at_second_factor(app, &browser, &id).await?;
    let user = person(app, &entered).await?;
    let factors = factors::load(app.store(), &user.id).await?;
    Ok(Arrived { browser, form, id, goal, entered, user, factors })
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let Arrived { mut browser, form, id, goal, entered, user, factors } =
        arrive(&app, &headers, address, &body).await?;
    let by_code = form.get("recovery_code").is_none();
    let tried = match form.get("recovery_code") {
        Some(typed) => by_recovery_code(&app, &browser, &user, &factors, typed).await?,
        None => by_totp(&app, &browser, &user, &factors, form.get("code").unwrap_or_default()).await?,
    };
    let (status, problem) = match tried {
        Tried::Right(method) => {
            flows::finish(&app, &id).await?;
            let entered = Entered { proof: entered.proof.clone().and(method), ..entered };
            if form.get("trust").is_some() && !entered.demanded {
                signed_in::trust(&app, &mut browser, &user.id).await?;
            }
            let (browser, session) = signed_in::complete(&app, browser, &user, &entered).await?;
            return signed_in::go_on(&app, browser, goal, session).await;
        }
        Tried::Wrong if by_code => (StatusCode::UNPROCESSABLE_ENTITY, say::wrong_code()),
        Tried::Wrong => (StatusCode::UNPROCESSABLE_ENTITY, say::wrong_recovery_code()),
        Tried::TooMany => (StatusCode::TOO_MANY_REQUESTS, say::too_many_codes()),
    };
    let problems = if by_code {
        Problems { code: Some(problem), recovery: None }
    } else {
        Problems { code: None, recovery: Some(problem) }
    };
    show(&app, browser, (&id, &goal, &entered), &factors, status, problems).await
}

pub async fn with_passkey(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let Arrived { browser, form, id, goal, entered, user, factors } = arrive(&app, &headers, address, &body).await?;
    let challenge = passkeys::challenge(&browser, &id);
    if !passkeys::verify(&app, &challenge, &user.id, &factors, &form).await? {
        crate::audit::record("second-factor.failed", browser.address(), &user.id, "passkey");
        let problems = Problems { code: Some(say::wrong_passkey()), recovery: None };
        return show(&app, browser, (&id, &goal, &entered), &factors, StatusCode::UNPROCESSABLE_ENTITY, problems).await;
    }
    flows::finish(&app, &id).await?;
    let entered = Entered { proof: entered.proof.clone().and(Method::Passkey), ..entered };
    let (browser, session) = signed_in::complete(&app, browser, &user, &entered).await?;
    signed_in::go_on(&app, browser, goal, session).await
}

enum Tried {
    Right(Method),
    Wrong,
    TooMany,
}

async fn by_totp(
    app: &App,
    browser: &Browser,
    user: &User,
    factors: &Factors,
    typed: &str,
) -> Result<Tried, PageError> {
    let known = browser.known_to(app, &user.id);
    if let Verdict::Wait(_) = throttle::code(app.store(), &app.config.limits, &user.id, known.as_deref()).await? {
        crate::audit::record("second-factor.throttled", browser.address(), &user.id, "the password may be stolen");
        return Ok(Tried::TooMany);
    }
    let Some(totp) = &factors.totp else { return Ok(Tried::Wrong) };
    let (sealer, purpose) = (app.ring.sealer(), factors::purpose(&user.id));
    let internal = |error: crate::keys::seal::SealError| PageError::Internal(format!("TOTP seed: {error}"));
    let seed = sealer.open(&purpose, &totp.seed).map_err(internal)?;
    let step = totp::parse(typed).and_then(|code| totp::step_of(&seed, &code, app.now()));
    let resealed = if totp.seed.key == sealer.current() {
        None
    } else {
        Some(Totp { seed: sealer.seal(&purpose, &seed, &app.random).map_err(internal)?, created: totp.created })
    };
    let right = match step {
        Some(step) => factors::use_step(app.store(), &user.id, factors, step, resealed.as_ref()).await?,
        None => false,
    };
    if !right {
        crate::audit::record("second-factor.failed", browser.address(), &user.id, "totp");
        return Ok(Tried::Wrong);
    }
    throttle::forgive_codes(app.store(), &user.id, known.as_deref()).await?;
    Ok(Tried::Right(Method::Totp))
}

/// Recovery codes are beyond guessing; they only share the password's limits, so that nobody keeps the store busy.
async fn by_recovery_code(
    app: &App,
    browser: &Browser,
    user: &User,
    factors: &Factors,
    typed: &str,
) -> Result<Tried, PageError> {
    let account = format!("recovery\0{}", user.id);
    let known = browser.known_to(app, &user.id);
    let from = Source { address: browser.address(), known: known.as_deref() };
    let verdict = throttle::attempt(app.store(), &app.config.limits, &account, from).await?;
    if let Verdict::Wait(_) = verdict {
        crate::audit::record("second-factor.throttled", browser.address(), &user.id, "recovery code");
        return Ok(Tried::TooMany);
    }
    let hash = authenticator::recovery_hash(typed);
    if factors::use_recovery_code(app.store(), &user.id, factors, &hash).await? {
        crate::audit::record("recovery-code.used", browser.address(), &user.id, factors.recovery_codes - 1);
        return Ok(Tried::Right(Method::RecoveryCode));
    }
    crate::audit::record("second-factor.failed", browser.address(), &user.id, "recovery code");
    Ok(Tried::Wrong)
}

/// Whoever needs a second factor and has none sets one up on the way in.
pub async fn set_up(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let Arrived { browser, form, id, goal, entered, user, factors } = arrive(&app, &headers, address, &body).await?;
    if factors.is_enrolled() {
        // Knowing the password is not enough to put another one in its place.
        return Err(PageError::Forbidden(say::sorry_has_second_factor()));
    }
    let shown = set_up_form(&app, &browser, (&id, &goal, &entered));
    let codes = match authenticator::confirm(&app, &browser, &user, &form, shown).await? {
        Confirmed::Yes(codes) => codes.unwrap_or_default(),
        Confirmed::No(again) => {
            let leads_to = flows::destination(&app, &goal).await?.leads_to;
            return Ok(browser.answer(page(StatusCode::UNPROCESSABLE_ENTITY, again.as_ref(), &leads_to)?));
        }
    };
    flows::finish(&app, &id).await?;
    let entered = Entered { proof: entered.proof.clone().and(Method::Totp), ..entered };
    let (browser, session) = signed_in::complete(&app, browser, &user, &entered).await?;
    let frame = Frame::of_flow(&app, &browser, &goal);
    let next = flows::start(&app, &browser, goal, Stage::SignedIn(session.id)).await?;
    let next = format!("/second-factor/continue?flow={next}");
    show_recovery_codes(frame, browser, codes, next)
}

/// From the recovery codes on to where the sign-in leads.
pub async fn go_on(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Query(FlowParameter { flow: id }): Query<FlowParameter>,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    let (goal, sid) = flows::at_end(&app, &browser, &id).await?;
    let session = browser.session(&app).await?.filter(|session| session.id == sid);
    let session = session.ok_or_else(|| PageError::BadRequest(say::sorry_signed_out_meanwhile()))?;
    flows::finish(&app, &id).await?;
    signed_in::go_on(&app, browser, goal, session).await
}

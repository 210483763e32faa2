//! `/sign-in`: name and password, and on to where the flow leads.

use std::net::IpAddr;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::browser::{Browser, is_from_us};
use super::error::PageError;
use super::{Frame, LeadsTo, page, redirect};
use crate::app::{App, Shared};
use crate::endpoint::oauth::authorize::{display_name, proceed};
use crate::form::Parameters;
use crate::metrics::Outcome;
use crate::password::PasswordError;
use crate::peer::ClientAddress;
use crate::record::RecordError;
use crate::record::flow::{self, Flow, Goal};
use crate::record::session::{self, Facts, Session};
use crate::record::user::{self, User};
use crate::throttle::{self, Verdict};

const WRONG: &str = "The user name or password is not right.";
const TOO_MANY: &str = "There were too many attempts. Wait a few minutes, then try again.";

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    frame: Frame,
    application: Option<String>,
    flow: String,
    csrf: String,
    username: String,
    problem: Option<&'static str>,
}

#[derive(Deserialize)]
pub struct FlowParameter {
    flow: Option<String>,
}

/// Starts a flow and sends the browser to its page.
pub async fn begin(app: &App, browser: Browser, goal: Goal) -> Result<Response, PageError> {
    // Nobody is signed in yet, and every flow takes room in the store.
    if let Verdict::Wait(seconds) = throttle::visit(app.store(), &app.config.limits, browser.address()).await? {
        return Err(PageError::Throttled("There were too many sign-ins from your network.", seconds));
    }
    let id = app.random.secret();
    let flow = Flow { goal, browser: browser.hash(), started: app.now() };
    flow::create(app.store(), &id, &flow).await?;
    Ok(browser.answer(redirect(&format!("/sign-in?flow={id}"))))
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Query(FlowParameter { flow }): Query<FlowParameter>,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    let Some(id) = flow else { return begin(&app, browser, Goal::Account).await };
    let flow = load(&app, &browser, &id).await?;
    let username = match &flow.goal {
        Goal::Authorize(request) => request.login_hint.clone().unwrap_or_default(),
        Goal::Account => String::new(),
    };
    show(&app, browser, (&id, &flow), username, StatusCode::OK, None).await
}

/// The flow, if it is this browser's.
pub async fn load(app: &App, browser: &Browser, id: &str) -> Result<Flow, PageError> {
    let flow = flow::load(app.store(), id).await?.filter(|flow| flow.browser.matches(&browser.hash()));
    flow.ok_or_else(|| PageError::BadRequest("This sign-in page has expired or was used before.".to_owned()))
}

async fn show(
    app: &App,
    browser: Browser,
    (id, flow): (&str, &Flow),
    username: String,
    status: StatusCode,
    problem: Option<&'static str>,
) -> Result<Response, PageError> {
    let (application, leads_to) = match &flow.goal {
        Goal::Authorize(request) => {
            let uri = request.redirect_uri.as_str();
            let leads_to = if request.for_policy { LeadsTo::Origin(uri) } else { LeadsTo::Client(uri) };
            (Some(display_name(app, request).await?.to_string()), leads_to)
        }
        Goal::Account => (None, LeadsTo::Here),
    };
    let template = SignInPage {
        frame: Frame::of(app),
        application,
        flow: id.to_owned(),
        csrf: browser.form_token(id),
        username,
        problem,
    };
    let mut response = page(status, &template, &leads_to)?;
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, app.config.limits.window_seconds.into());
    }
    Ok(browser.answer(response))
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let form = Parameters::parse(&body).map_err(|error| PageError::BadRequest(error.to_string()))?;
    let id = form.get("flow").unwrap_or_default();
    let browser = Browser::of(&app, &headers, address);
    if !is_from_us(&app, &headers) || !browser.proves(id, form.get("csrf")) {
        return Err(PageError::BadRequest("This form did not come from our page, or the page is too old.".to_owned()));
    }
    let flow = load(&app, &browser, id).await?;
    let username = form.get("username").unwrap_or_default();
    let password = Zeroizing::new(form.owned("password").unwrap_or_default());
    let user = match authenticate(&app, username, password, address).await? {
        Attempt::Right(user) => *user,
        Attempt::Wrong => {
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return show(&app, browser, (id, &flow), username.to_owned(), status, Some(WRONG)).await;
        }
        Attempt::TooMany => {
            let status = StatusCode::TOO_MANY_REQUESTS;
            return show(&app, browser, (id, &flow), username.to_owned(), status, Some(TOO_MANY)).await;
        }
    };
    if !flow::finish(app.store(), id).await? {
        return Err(PageError::BadRequest("This sign-in page was used before.".to_owned()));
    }
    let user_agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let place = Place { address, user_agent: user_agent.chars().take(256).collect() };
    let before = browser.session(&app).await?;
    let (session, token) = start_session(&app, &user, place).await?;
    replace(&app, before, &session).await?;
    let browser = browser.signed_in(&app, &token);
    match flow.goal {
        Goal::Authorize(request) => proceed(&app, browser, *request, Some(session), true).await,
        Goal::Account => Ok(browser.answer(redirect("/account"))),
    }
}

enum Attempt {
    Right(Box<User>),
    Wrong,
    TooMany,
}

/// Every way to be wrong looks alike and costs alike.
async fn authenticate(
    app: &App,
    username: &str,
    password: Zeroizing<String>,
    address: IpAddr,
) -> Result<Attempt, PageError> {
    let count = |outcome| app.metrics.sign_ins.get_or_create(&Outcome { outcome }).inc();
    let user = user::find(app.store(), username).await?;
    let account = user.as_ref().map_or_else(|| user::normalize(username), |user| user.id.clone());
    if let Verdict::Wait(_) = throttle::attempt(app.store(), &app.config.limits, &account, address).await? {
        count("throttled");
        crate::audit::record("sign-in.throttled", address, &account, "");
        return Ok(Attempt::TooMany);
    }
    let expected = user.as_ref().filter(|user| !user.details.disabled).and_then(|user| user.password.clone());
    let right = app.passwords.verify(password, expected).await.map_err(|error| match error {
        PasswordError::Busy => PageError::Unavailable(error.to_string()),
        other => PageError::Internal(other.to_string()),
    })?;
    if let Some(user) = user.filter(|_| right) {
        count("success");
        throttle::forgive(app.store(), &account, address).await?;
        return Ok(Attempt::Right(Box::new(user)));
    }
    count("failure");
    crate::audit::record("sign-in.failed", address, &account, "wrong name or password");
    Ok(Attempt::Wrong)
}

struct Place {
    address: IpAddr,
    user_agent: String,
}

/// A session of its own for every sign-in: an id from before is worth nothing after it.
async fn start_session(app: &App, user: &User, place: Place) -> Result<(Session, OpaqueToken), PageError> {
    let now = app.now();
    let token = app.random.with(|rng| OpaqueToken::generate(TokenKind::Session, rng));
    let session = Session {
        id: token.id(),
        facts: Facts {
            sub: user.id.clone(),
            auth_time: now,
            acr: "pwd".to_owned(),
            amr: vec!["pwd".to_owned()],
            sso: token.secret_hash().into(),
            user_agent: place.user_agent,
            address: place.address.to_string(),
        },
        last_used: now,
        longest_idle: app.config.session.idle_seconds,
        end: now + app.config.session.absolute_seconds,
        profile: user.profile(),
    };
    match session::create(app.store(), user, &session, now).await {
        Ok(()) => {}
        Err(RecordError::SubjectChanged) => {
            return Err(PageError::Unavailable("the account was changed during the sign-in".to_owned()));
        }
        Err(error) => return Err(error.into()),
    }
    crate::audit::record("sign-in", &session.facts.address, &user.id, session.id);
    Ok((session, token))
}

/// One browser, one session: the one before ends; what apps stored in it goes on if it is the same person's.
async fn replace(app: &App, before: Option<Session>, session: &Session) -> Result<(), PageError> {
    let Some(before) = before else { return Ok(()) };
    if before.facts.sub == session.facts.sub {
        session::inherit(app.store(), before.id, session.id).await?;
    }
    crate::revoke::record(app, before.id).await?;
    Ok(())
}

//! `/sign-in`: name and password, and on to the second factor or to where the flow leads.

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::browser::Browser;
use super::error::PageError;
use super::flows::{self, Destination};
use super::passkeys::{self, Ask};
use super::{Frame, new_password, page, page_with_script, redirect, second_factor, signed_in, when_to_try_again};
use crate::app::{App, Shared};
use crate::assurance::{Method, Proof};
use crate::messages::{Sentence, say};
use crate::metrics::Outcome;
use crate::password::PasswordError;
use crate::peer::ClientAddress;
use crate::record::factors;
use crate::record::flow::{Entered, Goal, Stage};
use crate::record::user::{self, User};
use crate::throttle::{self, Source, Verdict};

/// Value of `done` after a new password was set by a link.
const PASSWORD_RESET: &str = "password-reset";

/// After a passkey was made by a link.
const PASSKEY_ADDED: &str = "passkey-added";

/// After another provider signed nobody in.
pub const DECLINED: &str = "declined";

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    frame: Frame,
    application: Option<String>,
    flow: String,
    csrf: String,
    passwords: bool,
    username: String,
    passkey: Option<Ask>,
    /// Ids and names.
    providers: Vec<(String, String)>,
    notice: Option<Sentence>,
    problem: Option<Sentence>,
}

#[derive(Deserialize)]
pub struct FlowParameter {
    flow: Option<String>,
    /// What was just done.
    done: Option<String>,
}

/// Starts a flow and sends the browser to its page.
pub async fn begin(app: &App, browser: Browser, goal: Goal) -> Result<Response, PageError> {
    begin_after(app, browser, goal, None).await
}

/// The same after something that the page tells.
pub async fn begin_after(app: &App, browser: Browser, goal: Goal, done: Option<&str>) -> Result<Response, PageError> {
    // Nobody is signed in yet, and every flow takes room in the store.
    if let Verdict::Wait(seconds) = throttle::visit(app.store(), &app.config.limits, browser.address()).await? {
        return Err(PageError::Throttled(say::sorry_too_many_sign_ins(), seconds));
    }
    let id = flows::start(app, &browser, goal, Stage::SignIn).await?;
    let done = done.map(|done| format!("&done={done}")).unwrap_or_default();
    Ok(browser.answer(redirect(&format!("/sign-in?flow={id}{done}"))))
}

pub async fn get(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    Query(FlowParameter { flow, done }): Query<FlowParameter>,
) -> Result<Response, PageError> {
    let browser = Browser::of(&app, &headers, address);
    let done = done.filter(|done| [PASSWORD_RESET, PASSKEY_ADDED, DECLINED].contains(&done.as_str()));
    let Some(id) = flow else { return begin_after(&app, browser, Goal::Account, done.as_deref()).await };
    let goal = flows::at_sign_in(&app, &browser, &id).await?;
    let username = match &goal {
        Goal::Authorize(request) => request.login_hint.clone(),
        // Whoever is to prove it again need not say who it is.
        Goal::Settings(_) => browser.session(&app).await?.and_then(|session| session.profile.username),
        Goal::Account | Goal::Device { .. } => None,
    };
    let message = match done.as_deref() {
        Some(PASSWORD_RESET) => Message { notice: Some(say::password_was_set()), problem: None },
        Some(PASSKEY_ADDED) => Message { notice: Some(say::passkey_was_added()), problem: None },
        Some(DECLINED) => Message::problem(say::not_signed_in_there()),
        _ => Message::default(),
    };
    show(&app, browser, (&id, &goal), username.unwrap_or_default(), StatusCode::OK, message).await
}

/// What a page says above its form.
#[derive(Default)]
struct Message {
    notice: Option<Sentence>,
    problem: Option<Sentence>,
}

impl Message {
    fn problem(sentence: Sentence) -> Self {
        Self { notice: None, problem: Some(sentence) }
    }
}

async fn show(
    app: &App,
    browser: Browser,
    (id, goal): (&str, &Goal),
    username: String,
    status: StatusCode,
    Message { notice, problem }: Message,
) -> Result<Response, PageError> {
    let Destination { application, leads_to } = flows::destination(app, goal).await?;
    let template = SignInPage {
        frame: Frame::of_flow(app, &browser, goal),
        application,
        flow: id.to_owned(),
        csrf: browser.form_token(id),
        passwords: app.config.passwords.enabled,
        username,
        passkey: passkeys::ask(app, &browser, id, &[]),
        providers: providers(app),
        notice,
        problem,
    };
    let response = if template.passkey.is_some() {
        page_with_script(status, &template, &leads_to)?
    } else {
        page(status, &template, &leads_to)?
    };
    Ok(browser.answer(when_to_try_again(app, response)))
}

fn providers(app: &App) -> Vec<(String, String)> {
    app.providers.all().iter().map(|provider| (provider.id().to_owned(), provider.name().to_owned())).collect()
}

pub async fn post(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    new_password::are_enabled(&app)?;
    let (browser, form) = Browser::form(&app, &headers, address, &body, flows::of_form)?;
    let id = form.get("flow").unwrap_or_default();
    let goal = flows::at_sign_in(&app, &browser, id).await?;
    let username = form.get("username").unwrap_or_default();
    let password = Zeroizing::new(form.owned("password").unwrap_or_default());
    let (status, problem) = match authenticate(&app, username, password, &browser).await? {
        Attempt::Right(user) => return after_password(&app, browser, id, goal, &user).await,
        Attempt::Wrong => (StatusCode::UNPROCESSABLE_ENTITY, say::wrong_name_or_password()),
        Attempt::TooMany => (StatusCode::TOO_MANY_REQUESTS, say::too_many_attempts()),
    };
    show(&app, browser, (id, &goal), username.to_owned(), status, Message::problem(problem)).await
}

async fn after_password(app: &App, browser: Browser, id: &str, goal: Goal, user: &User) -> Result<Response, PageError> {
    flows::finish(app, id).await?;
    let entered = Entered {
        sub: user.id.clone(),
        epoch: user.epoch,
        proof: Proof::of(Method::Password, app.now()),
        elevates: None,
        demanded: false,
        origin: None,
    };
    second_factor::after_first(app, browser, goal, user, entered).await
}

/// With nothing but a passkey: it says whose it is, and its device has asked for a PIN or a fingerprint.
pub async fn with_passkey(
    State(app): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, PageError> {
    let (browser, form) = Browser::form(&app, &headers, address, &body, flows::of_form)?;
    let id = form.get("flow").unwrap_or_default();
    let goal = flows::at_sign_in(&app, &browser, id).await?;
    let count = |outcome| app.metrics.sign_ins.get_or_create(&Outcome { outcome }).inc();
    // Nobody has said who it is: counted by address alone, so that nobody uses up the tries of others.
    let account = format!("passkey\0{address}");
    let from = Source { address, known: None };
    if let Verdict::Wait(_) = throttle::attempt(app.store(), &app.config.limits, &account, from).await? {
        count("throttled");
        let status = StatusCode::TOO_MANY_REQUESTS;
        return show(&app, browser, (id, &goal), String::new(), status, Message::problem(say::too_many_attempts()))
            .await;
    }
    let sub = passkeys::user_handle(&form).unwrap_or_default();
    let user = user::load(app.store(), &sub).await?.filter(|user| !user.details.disabled);
    let factors = factors::load(app.store(), &sub).await?;
    let right = passkeys::verify(&app, &passkeys::challenge(&browser, id), &sub, &factors, &form).await?;
    let Some(user) = user.filter(|_| right) else {
        count("failure");
        crate::audit::record("sign-in.failed", address, &sub, "passkey");
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let passwords = app.config.passwords.enabled;
        let unknown = if passwords { say::unknown_passkey() } else { say::unknown_passkey_no_passwords() };
        return show(&app, browser, (id, &goal), String::new(), status, Message::problem(unknown)).await;
    };
    count("success");
    throttle::forgive(app.store(), &account, from).await?;
    flows::finish(&app, id).await?;
    let entered = Entered {
        sub: user.id.clone(),
        epoch: user.epoch,
        proof: Proof::of(Method::Passkey, app.now()),
        elevates: None,
        demanded: false,
        origin: None,
    };
    let (browser, session) = signed_in::complete(&app, browser, &user, &entered).await?;
    signed_in::go_on(&app, browser, goal, session).await
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
    browser: &Browser,
) -> Result<Attempt, PageError> {
    let address = browser.address();
    let count = |outcome| app.metrics.sign_ins.get_or_create(&Outcome { outcome }).inc();
    let user = user::find(app.store(), username).await?;
    let account = user.as_ref().map_or_else(|| user::normalize(username), |user| user.id.clone());
    let known = browser.known_to(app, &account);
    let from = Source { address, known: known.as_deref() };
    if let Verdict::Wait(_) = throttle::attempt(app.store(), &app.config.limits, &account, from).await? {
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
        throttle::forgive(app.store(), &account, from).await?;
        return Ok(Attempt::Right(Box::new(user)));
    }
    count("failure");
    crate::audit::record("sign-in.failed", address, &account, "wrong name or password");
    Ok(Attempt::Wrong)
}

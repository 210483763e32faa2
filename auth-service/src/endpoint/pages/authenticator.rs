//! Setting up an authenticator app, at sign-in or on the account page: a seed to scan, confirmed by its first code; and recovery codes.
//!
//! Until it is confirmed the seed is kept by the page itself, sealed for this person and browser, so that nothing is stored for people
//! who change their mind.

use askama::Template;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::browser::Browser;
use super::error::PageError;
use super::{Frame, LeadsTo, page};
use crate::app::App;
use crate::form::Parameters;
use crate::keys::seal::Sealed;
use crate::messages::{Sentence, say};
use crate::record::factors::{self, Totp};
use crate::record::hash::StoredHash;
use crate::record::user::User;
use crate::store::to_json;
use crate::totp::{self, SEED_LEN};

const RECOVERY_CODES: usize = 10;
/// 80 bits: nobody guesses one, so a plain hash protects it.
const RECOVERY_BYTES: usize = 10;
/// How long a page with a seed can be confirmed, seconds.
const OFFER_LIFE: u64 = 1800;

/// The form around a seed that is offered.
#[derive(Template)]
#[template(path = "authenticator.html")]
pub struct SetUpPage {
    frame: Frame,
    /// Where the form goes, and what it is part of.
    action: &'static str,
    flow: Option<String>,
    csrf: String,
    demanded: bool,
    qr: String,
    secret: String,
    offer: String,
    problem: Option<Sentence>,
}

/// The only time that recovery codes are shown.
#[derive(Template)]
#[template(path = "recovery_codes.html")]
struct RecoveryCodesPage {
    frame: Frame,
    codes: Vec<String>,
    next: String,
}

/// `next` is where to go on from there.
pub fn show_recovery_codes(
    frame: Frame,
    browser: Browser,
    codes: Vec<String>,
    next: String,
) -> Result<Response, PageError> {
    let template = RecoveryCodesPage { frame, codes, next };
    Ok(browser.answer(page(StatusCode::OK, &template, &LeadsTo::Here)?))
}

#[derive(Serialize, Deserialize)]
struct Offer {
    seed: [u8; SEED_LEN],
    made: u64,
}

/// Where a set-up form is shown.
pub struct Form {
    pub frame: Frame,
    pub action: &'static str,
    pub flow: Option<String>,
    pub csrf: String,
    pub demanded: bool,
}

pub fn offer(app: &App, browser: &Browser, user: &User, form: Form) -> Result<SetUpPage, PageError> {
    let offer = Offer { seed: app.random.bytes(), made: app.now() };
    let sealed = app.ring.sealer().seal(&purpose(&user.id, browser), to_json(&offer).as_bytes(), &app.random);
    let sealed = sealed.map_err(|error| PageError::Internal(error.to_string()))?;
    Ok(show(app, user, form, &offer, URL_SAFE_NO_PAD.encode(to_json(&sealed)), None))
}

fn show(app: &App, user: &User, form: Form, offer: &Offer, sealed: String, problem: Option<Sentence>) -> SetUpPage {
    let uri = totp::provisioning_uri(&app.config.theme.name, &user.details.username, &offer.seed);
    let secret: Vec<char> = totp::base32(&offer.seed).chars().collect();
    SetUpPage {
        frame: form.frame,
        action: form.action,
        flow: form.flow,
        csrf: form.csrf,
        demanded: form.demanded,
        qr: totp::qr_svg(&uri).unwrap_or_default(),
        secret: secret.chunks(4).map(|four| four.iter().collect::<String>()).collect::<Vec<_>>().join(" "),
        offer: sealed,
        problem,
    }
}

fn purpose(sub: &str, browser: &Browser) -> String {
    format!("totp offer\0{sub}\0{}", browser.form_token("totp offer"))
}

/// What came of a set-up form.
pub enum Confirmed {
    /// It is set up; recovery codes, unless there were some already.
    Yes(Option<Vec<String>>),
    /// The same seed once more.
    No(Box<SetUpPage>),
}

pub async fn confirm(
    app: &App,
    browser: &Browser,
    user: &User,
    sent: &Parameters,
    form: Form,
) -> Result<Confirmed, PageError> {
    let text = sent.get("offer").unwrap_or_default();
    let now = app.now();
    let offer = open(app, browser, user, text).filter(|offer| now < offer.made + OFFER_LIFE);
    let offer = offer.ok_or_else(|| PageError::BadRequest(say::sorry_page_too_old()))?;
    let code = sent.get("code").and_then(totp::parse);
    let Some(step) = code.and_then(|code| totp::step_of(&offer.seed, &code, now)) else {
        return Ok(Confirmed::No(Box::new(show(
            app,
            user,
            form,
            &offer,
            text.to_owned(),
            Some(say::authenticator_wrong_code()),
        ))));
    };
    let seed = app.ring.sealer().seal(&factors::purpose(&user.id), &offer.seed, &app.random);
    let seed = seed.map_err(|error| PageError::Internal(error.to_string()))?;
    let before = factors::load(app.store(), &user.id).await?;
    factors::set_totp(app.store(), &user.id, &Totp { seed, created: now }, step).await?;
    crate::audit::record("factor.added", &user.id, &user.id, "totp");
    let codes = if before.recovery_codes == 0 { Some(new_recovery_codes(app, &user.id).await?) } else { None };
    Ok(Confirmed::Yes(codes))
}

fn open(app: &App, browser: &Browser, user: &User, text: &str) -> Option<Offer> {
    let sealed: Sealed = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let plain = app.ring.sealer().open(&purpose(&user.id, browser), &sealed).ok()?;
    serde_json::from_slice(&plain).ok()
}

/// Ten new codes as people write them down; all earlier ones are worth nothing any more.
pub async fn new_recovery_codes(app: &App, sub: &str) -> Result<Vec<String>, PageError> {
    let codes: Vec<String> = (0..RECOVERY_CODES).map(|_| totp::base32(&app.random.bytes::<RECOVERY_BYTES>())).collect();
    let hashes: Vec<StoredHash> = codes.iter().map(|code| StoredHash::of_secret(code)).collect();
    factors::set_recovery_codes(app.store(), sub, &hashes).await?;
    crate::audit::record("recovery-codes.made", sub, sub, codes.len());
    Ok(codes.iter().map(|code| written(code)).collect())
}

fn written(code: &str) -> String {
    let lower: Vec<char> = code.to_lowercase().chars().collect();
    lower.chunks(4).map(|four| four.iter().collect::<String>()).collect::<Vec<_>>().join("-")
}

/// The hash of a recovery code as somebody typed it.
pub fn recovery_hash(typed: &str) -> StoredHash {
    let code: String = typed.chars().filter(char::is_ascii_alphanumeric).collect();
    StoredHash::of_secret(&code.to_uppercase())
}

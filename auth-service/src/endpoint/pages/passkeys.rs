//! Passkeys: to sign in with nothing else, or as a second factor. The page's script asks the browser; what is asked and what counts as an
//! answer is decided here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::browser::Browser;
use super::error::PageError;
use crate::app::App;
use crate::form::Parameters;
use crate::messages::say;
use crate::record::factors::{self, Factors, Passkey};
use crate::record::user::User;
use crate::webauthn::{self, ALGORITHMS, Assertion, KnownKey, Party, Refused, Registration};

/// What a page's script needs to ask for a passkey.
pub struct Ask {
    pub rp: String,
    pub challenge: String,
    /// Ids of the keys that would do, space separated; empty: any key that knows whose it is.
    pub allow: String,
}

/// Nothing, where the issuer is an IP address: browsers have passkeys for domains only.
pub fn ask(app: &App, browser: &Browser, flow: &str, allowed: &[Passkey]) -> Option<Ask> {
    let party = Party::of_issuer(&app.config.issuer)?;
    let ids: Vec<&str> = allowed.iter().map(|passkey| passkey.id.as_str()).collect();
    Some(Ask { rp: party.id, challenge: challenge(browser, flow), allow: ids.join(" ") })
}

const MAX_PASSKEYS: usize = 20;
const MAX_NAME: usize = 64;

/// What a page's script makes a new passkey with.
pub struct New {
    /// Where the form goes.
    pub action: &'static str,
    pub flow: String,
    pub csrf: String,
    pub rp: String,
    pub user: String,
    pub username: String,
    pub display_name: String,
    pub challenge: String,
    pub algorithms: String,
    pub exclude: String,
}

/// The form that a new passkey is made with.
pub struct Make {
    pub action: &'static str,
    pub flow: String,
    pub csrf: String,
}

/// Whether somebody can have one more.
pub fn may_add(app: &App, factors: &Factors) -> bool {
    Party::of_issuer(&app.config.issuer).is_some() && factors.passkeys.len() < MAX_PASSKEYS
}

pub fn offer(app: &App, browser: &Browser, (user, factors): (&User, &Factors), make: Make) -> Option<New> {
    let party = Party::of_issuer(&app.config.issuer)?;
    let ids: Vec<&str> = factors.passkeys.iter().map(|passkey| passkey.id.as_str()).collect();
    let details = &user.details;
    Some(New {
        action: make.action,
        rp: party.id,
        user: user.id.clone(),
        username: details.username.clone(),
        display_name: details.profile.name.clone().unwrap_or_else(|| details.username.clone()),
        challenge: challenge(browser, &make.flow),
        algorithms: ALGORITHMS.map(|algorithm| algorithm.to_string()).join(" "),
        exclude: ids.join(" "),
        flow: make.flow,
        csrf: make.csrf,
    })
}

/// What the person calls it.
pub fn name(sent: &Parameters, browser: &Browser, factors: &Factors) -> String {
    let given: String =
        sent.get("name").unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_NAME).collect();
    let given = given.trim();
    if !given.is_empty() {
        return given.to_owned();
    }
    browser.language().say(&say::passkey_numbered(factors.passkeys.len() + 1)).to_text()
}

/// Of one page of one browser. The flow's id is random, ours, and good once, and so is what is derived from it.
pub fn challenge(browser: &Browser, flow: &str) -> String {
    browser.form_token(&format!("passkey challenge\0{flow}"))
}

/// Which of somebody's passkeys signed the challenge; its use is remembered.
pub async fn verify(
    app: &App,
    challenge: &str,
    sub: &str,
    factors: &Factors,
    sent: &Parameters,
) -> Result<bool, PageError> {
    let (Some(party), Some(id)) = (Party::of_issuer(&app.config.issuer), sent.get("credential")) else {
        return Ok(false);
    };
    let Some(passkey) = factors.passkeys.iter().find(|passkey| passkey.id == id) else { return Ok(false) };
    let count = match judge(&party, challenge, passkey, sent) {
        Ok(count) => count,
        Err(refused) => {
            crate::audit::record("passkey.refused", sub, &passkey.id, refused);
            return Ok(false);
        }
    };
    Ok(factors::use_passkey(app.store(), sub, passkey, count, app.now()).await?)
}

fn judge(party: &Party, challenge: &str, passkey: &Passkey, sent: &Parameters) -> Result<u32, Refused> {
    let (client_data, authenticator_data) = (bytes(sent, "client_data")?, bytes(sent, "authenticator_data")?);
    let signature = bytes(sent, "signature")?;
    let public_key = URL_SAFE_NO_PAD.decode(&passkey.kept.public_key).map_err(|_| Refused::Key)?;
    let key = KnownKey { public_key: &public_key, algorithm: passkey.kept.algorithm, count: passkey.kept.count };
    let assertion =
        Assertion { client_data: &client_data, authenticator_data: &authenticator_data, signature: &signature };
    webauthn::verify(party, challenge, &key, &assertion)
}

/// A new passkey as the browser made it.
pub fn register(app: &App, challenge: &str, name: &str, sent: &Parameters) -> Result<Passkey, Refused> {
    let party = Party::of_issuer(&app.config.issuer).ok_or(Refused::Party)?;
    let (client_data, authenticator_data) = (bytes(sent, "client_data")?, bytes(sent, "authenticator_data")?);
    let public_key = bytes(sent, "public_key")?;
    let algorithm = sent.get("algorithm").and_then(|number| number.parse().ok()).ok_or(Refused::Key)?;
    let registration = Registration {
        client_data: &client_data,
        authenticator_data: &authenticator_data,
        public_key: &public_key,
        algorithm,
    };
    let new = webauthn::register(&party, challenge, &registration)?;
    let now = app.now();
    Ok(Passkey::new(
        URL_SAFE_NO_PAD.encode(&new.credential_id),
        factors::KeptPasskey {
            name: name.to_owned(),
            public_key: URL_SAFE_NO_PAD.encode(&public_key),
            algorithm,
            count: new.count,
            backed_up: new.backed_up,
            created: now,
            last_used: now,
        },
    ))
}

fn bytes(sent: &Parameters, name: &str) -> Result<Vec<u8>, Refused> {
    URL_SAFE_NO_PAD.decode(sent.get(name).unwrap_or_default()).map_err(|_| Refused::Malformed)
}

/// Whose the discoverable key says that it is: the `user.id` that it was made for.
pub fn user_handle(sent: &Parameters) -> Option<String> {
    String::from_utf8(bytes(sent, "user_handle").ok()?).ok().filter(|sub| !sub.is_empty())
}

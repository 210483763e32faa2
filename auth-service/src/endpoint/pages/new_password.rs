//! A password that somebody chooses: long enough, not easily guessed, and typed the same way twice.

use zeroize::Zeroizing;

use super::error::PageError;
use crate::app::App;
use crate::form::Parameters;
use crate::password::PasswordError;
use crate::record::user::{PasswordHash, User};

pub enum Chosen {
    Good(PasswordHash),
    /// What to tell the person.
    Bad(String),
}

pub async fn choose(app: &App, user: &User, form: &Parameters) -> Result<Chosen, PageError> {
    let password = Zeroizing::new(form.owned("new_password").unwrap_or_default());
    let again = Zeroizing::new(form.owned("again").unwrap_or_default());
    if *password != *again {
        return Ok(Chosen::Bad("The two passwords are not the same.".to_owned()));
    }
    let about = about(app, user);
    let verdict = async {
        if let Some(advice) = app.passwords.advise(password.clone(), about).await? {
            return Ok(Chosen::Bad(advice));
        }
        app.passwords.hash(password).await.map(Chosen::Good)
    };
    verdict.await.or_else(|error| match error {
        PasswordError::Length(_) => Ok(Chosen::Bad(error.to_string())),
        PasswordError::Busy => Err(PageError::Unavailable(error.to_string())),
        PasswordError::Parameters(_) | PasswordError::Hashing(_) => Err(PageError::Internal(error.to_string())),
    })
}

/// What somebody who knows the person tries first: names, their parts, and the parts run together.
fn about(app: &App, user: &User) -> Vec<String> {
    let profile = &user.details.profile;
    let known =
        [Some(&user.details.username), profile.name.as_ref(), profile.email.as_ref(), Some(&app.config.theme.name)];
    let mut words = Vec::new();
    for text in known.into_iter().flatten() {
        let parts: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|part| part.len() > 1).collect();
        words.push(parts.concat());
        words.extend(parts.into_iter().map(str::to_owned));
        words.push(text.clone());
    }
    words
}

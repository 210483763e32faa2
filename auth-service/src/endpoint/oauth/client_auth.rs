//! Which client calls: `client_secret_basic`, `client_secret_post`, `private_key_jwt`, or a public client's bare id (RFC 6749 §2.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};

use super::client_assertion::{self, AssertionError, TYPE, claimed_client};
use super::error::OAuthError;
use crate::app::App;
use crate::form::Parameters;
use crate::record::client::{self, Client};
use crate::record::hash::StoredHash;

/// The client, authenticated if it has a secret.
pub async fn authenticate(app: &App, headers: &HeaderMap, form: &Parameters) -> Result<Client, OAuthError> {
    let basic = basic_credentials(headers)?;
    let refused = || OAuthError::InvalidClient;
    // RFC 6749 §2.3: one method per request.
    let twice = || Err(OAuthError::InvalidRequest("more than one client authentication".to_owned()));
    if form.get("client_assertion").is_some() || form.get("client_assertion_type").is_some() {
        let other = basic.is_some() || form.get("client_secret").is_some();
        return if other { twice() } else { by_assertion(app, form).await };
    }
    let (id, secret) = match basic {
        Some((id, secret)) => {
            if form.get("client_secret").is_some() || form.get("client_id").is_some_and(|other| other != id) {
                return twice();
            }
            (id, Some(secret))
        }
        None => (form.owned("client_id").ok_or_else(refused)?, form.owned("client_secret")),
    };
    let client = known(app, &id).await?;
    let right = match (&client.secret, &secret) {
        (Some(_), Some(given)) => client.is_secret(&StoredHash::of_secret(given), app.now()),
        (None, None) => client.is_public(),
        (Some(_), None) | (None, Some(_)) => false,
    };
    if right {
        Ok(client)
    } else {
        crate::audit::record("client.refused", &id, "", "wrong secret");
        Err(refused())
    }
}

async fn known(app: &App, id: &str) -> Result<Client, OAuthError> {
    client::load(app.store(), id).await?.ok_or_else(|| {
        crate::audit::record("client.refused", id, "", "unknown client");
        OAuthError::InvalidClient
    })
}

async fn by_assertion(app: &App, form: &Parameters) -> Result<Client, OAuthError> {
    let text = form.get("client_assertion").filter(|_| form.get("client_assertion_type") == Some(TYPE));
    let text = text.ok_or(OAuthError::InvalidClient)?;
    // RFC 7521 §4.2: client_id is not needed, and must be the same.
    let id = claimed_client(text).filter(|id| form.get("client_id").is_none_or(|given| given == id));
    let client = known(app, &id.ok_or(OAuthError::InvalidClient)?).await?;
    match client_assertion::verify(app, &client, text).await {
        Ok(()) => Ok(client),
        Err(AssertionError::Store(error)) => Err(error.into()),
        Err(AssertionError::Refused(why)) => {
            crate::audit::record("client.refused", &client.client_id, "", why);
            Err(OAuthError::InvalidClient)
        }
    }
}

/// Id and secret are form-encoded before they are joined (RFC 6749 §2.3.1).
fn basic_credentials(headers: &HeaderMap) -> Result<Option<(String, String)>, OAuthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let refused = || OAuthError::InvalidClient;
    if values.next().is_some() {
        return Err(refused());
    }
    let text = value.to_str().map_err(|_| refused())?;
    let (scheme, encoded) = text.split_once(' ').ok_or_else(refused)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(refused());
    }
    let decoded = STANDARD.decode(encoded.trim()).map_err(|_| refused())?;
    let pair = String::from_utf8(decoded).map_err(|_| refused())?;
    let (id, secret) = pair.split_once(':').ok_or_else(refused)?;
    let plain = |text: &str| {
        let encoded = text.replace('=', "%3D").replace('&', "%26");
        url::form_urlencoded::parse(encoded.as_bytes()).next().map(|(name, _)| name.into_owned()).unwrap_or_default()
    };
    Ok(Some((plain(id), plain(secret))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(pair: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(pair)).parse().unwrap());
        basic_credentials(&headers).unwrap()
    }

    #[test]
    fn id_and_secret_are_decoded_as_the_rfc_says() {
        assert_eq!(credentials("a:b"), Some(("a".into(), "b".into())));
        assert_eq!(credentials("a%3Ab:c%20d+e"), Some(("a:b".into(), "c d e".into())));
        assert_eq!(credentials("a:b=c&d"), Some(("a".into(), "b=c&d".into())));
    }

    #[test]
    fn another_scheme_or_two_headers_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, "Bearer x".parse().unwrap());
        assert!(basic_credentials(&headers).is_err());
        headers.insert(header::AUTHORIZATION, "Basic YTpi".parse().unwrap());
        headers.append(header::AUTHORIZATION, "Basic YTpi".parse().unwrap());
        assert!(basic_credentials(&headers).is_err());
    }
}

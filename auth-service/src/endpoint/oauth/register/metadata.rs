//! What a client says about itself (RFC 7591 §2), and what of that is registered.
//!
//! What is not known is ignored, as §2 demands, names in other languages among it. Pages and pictures of the client's (`client_uri`,
//! `logo_uri`, `policy_uri`, `tos_uri`) are neither kept nor shown: a page of ours that vouches for them would vouch for anybody's.

use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use url::{Host, Url};

use super::error::RegistrationError;
use crate::endpoint::admin::input::is_json;
use crate::keys::Algorithm;
use crate::record::client::{Client, GrantType, redirect_uri};
use crate::record::hash::StoredHash;
use crate::record::registered::{About, AuthMethod};
use crate::store::to_json;

/// Shown to people beside other words, which it must not push away.
const MAX_NAME: usize = 80;
const MAX_TEXT: usize = 128;
const MAX_CONTACTS: usize = 5;
/// Bytes of a record: anybody may fill as many as there are places.
const MAX_RECORD: usize = 8 << 10;
/// Characters of a mistake that are told.
const MAX_MISTAKE: usize = 200;

/// `null` is as good as absent (RFC 7592 §2.2).
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    redirect_uris: Option<Vec<String>>,
    token_endpoint_auth_method: Option<String>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    client_name: Option<String>,
    scope: Option<String>,
    contacts: Option<Vec<String>>,
    software_id: Option<String>,
    software_version: Option<String>,
    software_statement: Option<Value>,
    application_type: Option<String>,
    dpop_bound_access_tokens: Option<bool>,
    id_token_signed_response_alg: Option<String>,
    post_logout_redirect_uris: Option<Vec<String>>,
    backchannel_logout_uri: Option<String>,
    // Only looked at where a client changes its registration.
    client_id: Option<String>,
    client_secret: Option<String>,
    client_id_issued_at: Option<Value>,
    client_secret_expires_at: Option<Value>,
    registration_access_token: Option<Value>,
    registration_client_uri: Option<Value>,
}

fn refuse<T>(sentence: &str) -> Result<T, RegistrationError> {
    Err(RegistrationError::Metadata(sentence.to_owned()))
}

impl Metadata {
    pub(super) fn read(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<Self, RegistrationError> {
        let body = body.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => RegistrationError::TooLarge,
            _ => RegistrationError::Metadata("the body cannot be read".to_owned()),
        })?;
        // A list would do for a struct, field by field.
        if !is_json(headers) || body.trim_ascii_start().first() != Some(&b'{') {
            return refuse("the body is a JSON object, and Content-Type: application/json");
        }
        serde_json::from_slice(&body).map_err(|error| {
            let mistake = error.to_string().chars().take(MAX_MISTAKE).collect();
            RegistrationError::Metadata(mistake)
        })
    }

    pub(super) fn auth_method(&self) -> Result<AuthMethod, RegistrationError> {
        match self.token_endpoint_auth_method.as_deref() {
            // RFC 7591 §2
            None | Some("client_secret_basic") => Ok(AuthMethod::ClientSecretBasic),
            Some("client_secret_post") => Ok(AuthMethod::ClientSecretPost),
            Some("none") => Ok(AuthMethod::None),
            Some(_) => refuse("token_endpoint_auth_method: client_secret_basic, client_secret_post or none"),
        }
    }

    /// RFC 7592 §2.2: that a client names itself, and sets nothing that is ours to set.
    pub(super) fn is_of(&self, client: &Client) -> Result<(), RegistrationError> {
        if self.client_id.as_deref() != Some(&client.client_id) {
            return refuse("client_id: the client's own");
        }
        let secret = self.client_secret.as_deref().map(StoredHash::of_secret);
        if secret.is_some() && secret != client.secret {
            return refuse("client_secret: cannot be chosen");
        }
        let ours = [
            &self.client_id_issued_at,
            &self.client_secret_expires_at,
            &self.registration_access_token,
            &self.registration_client_uri,
        ];
        if ours.into_iter().any(Option::is_some) {
            return refuse(
                "client_id_issued_at, client_secret_expires_at, registration_access_token and registration_client_uri cannot be set",
            );
        }
        Ok(())
    }

    /// The client as it will be: `client` has all that it may have, and keeps or gets less of it.
    pub(super) fn apply(
        self,
        mut client: Client,
        issuer: &str,
        algorithms: &[Algorithm],
    ) -> Result<Client, RegistrationError> {
        let auth_method = self.auth_method()?;
        let Some(mut registered) = client.registered.take() else {
            return Err(RegistrationError::Internal("not a client that registered itself".to_owned()));
        };
        if self.software_statement.is_some() {
            return Err(RegistrationError::SoftwareStatement);
        }
        if (auth_method == AuthMethod::None) != client.is_public() {
            return refuse("token_endpoint_auth_method: whether there is a secret cannot be changed");
        }
        if self.response_types.is_some_and(|types| !types.iter().any(|kind| kind == "code")) {
            return refuse("response_types: code");
        }
        client.grant_types = grants(self.grant_types)?;
        client.scopes = scopes(client.scopes, self.scope.as_deref())?;
        client.name = text("client_name", self.client_name, MAX_NAME)?.unwrap_or_default();
        client.id_token_signed_response_alg = id_token_alg(self.id_token_signed_response_alg.as_deref(), algorithms)?;
        client.dpop_bound_access_tokens |= self.dpop_bound_access_tokens.unwrap_or_default();
        client.redirect_uris = self.redirect_uris.unwrap_or_default();
        client.post_logout_redirect_uris = self.post_logout_redirect_uris.unwrap_or_default();
        client.backchannel_logout_uri = self.backchannel_logout_uri;
        if registered.is_open() && !client.post_logout_redirect_uris.is_empty() {
            return refuse(
                "post_logout_redirect_uris: only with a token: this service would send browsers to anybody's",
            );
        }
        if registered.is_open() && client.backchannel_logout_uri.is_some() {
            return refuse("backchannel_logout_uri: only with a token: this service would call anybody's");
        }
        let contacts = self.contacts.unwrap_or_default();
        if contacts.len() > MAX_CONTACTS {
            return refuse("contacts: at most 5");
        }
        registered.auth_method = auth_method;
        registered.about = About {
            application_type: self.application_type.filter(|kind| matches!(kind.as_str(), "web" | "native")),
            software_id: text("software_id", self.software_id, MAX_TEXT)?,
            software_version: text("software_version", self.software_version, MAX_TEXT)?,
            contacts: contacts
                .into_iter()
                .filter_map(|contact| text("contacts", Some(contact), MAX_TEXT).transpose())
                .collect::<Result<_, _>>()?,
        };
        client.registered = Some(registered);
        client.validate()?;
        addresses(&client, issuer)?;
        if to_json(&client).len() > MAX_RECORD {
            return refuse("more than 8 KiB in all");
        }
        Ok(client)
    }
}

/// Those that are not for such clients are left out, as RFC 7591 §2 lets us; without this one the client could do nothing.
fn grants(asked: Option<Vec<String>>) -> Result<Vec<GrantType>, RegistrationError> {
    let code = GrantType::AuthorizationCode;
    let Some(asked) = asked else { return Ok(vec![code]) };
    let grants: Vec<GrantType> =
        GrantType::REGISTERED.into_iter().filter(|grant| asked.iter().any(|one| one == grant.name())).collect();
    if grants.contains(&code) {
        Ok(grants)
    } else {
        refuse("grant_types: authorization_code, and refresh_token with it")
    }
}

/// OpenID Connect Registration §2: RS256 is meant where nothing is said.
fn id_token_alg(asked: Option<&str>, offered: &[Algorithm]) -> Result<Option<Algorithm>, RegistrationError> {
    let asked = asked.unwrap_or("RS256");
    match offered.iter().find(|alg| alg.name() == asked) {
        Some(alg) => Ok(Some(*alg)),
        None => refuse("id_token_signed_response_alg: one of the metadata's id_token_signing_alg_values_supported"),
    }
}

fn scopes(allowed: Vec<String>, asked: Option<&str>) -> Result<Vec<String>, RegistrationError> {
    let Some(asked) = asked.filter(|asked| !asked.is_empty()) else { return Ok(allowed) };
    let scopes: Vec<String> = allowed.into_iter().filter(|one| asked.split(' ').any(|scope| scope == one)).collect();
    if scopes.is_empty() { refuse("scope: none of these may be had here") } else { Ok(scopes) }
}

/// Without what nobody sees, which makes two names look alike, or turns one around.
fn text(what: &str, given: Option<String>, most: usize) -> Result<Option<String>, RegistrationError> {
    let Some(given) = given.map(|given| given.trim().to_owned()).filter(|given| !given.is_empty()) else {
        return Ok(None);
    };
    if given.chars().count() > most || given.chars().any(is_invisible) {
        return refuse(&format!("{what}: at most {most} characters, all of them visible"));
    }
    Ok(Some(given))
}

/// Control and format characters (Unicode's Cc, Cf, Zl, Zp), and fillers.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0e}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// What nobody may register, though an administrator may: browsers sent back into our own pages, calls of ours to wherever a stranger
/// likes. A name of its own site's can still be made to lead elsewhere; what is sent there says no more than that somebody has signed out.
fn addresses(client: &Client, issuer: &str) -> Result<(), RegistrationError> {
    let origin = |uri: &str| Url::parse(uri).ok().map(|url| url.origin());
    let ours = origin(issuer);
    for uri in client.redirect_uris.iter().chain(&client.post_logout_redirect_uris) {
        if origin(uri) == ours {
            return Err(RegistrationError::RedirectUri(format!("redirect URI {uri:?}: that is this service")));
        }
    }
    let Some(uri) = &client.backchannel_logout_uri else { return Ok(()) };
    let named = Url::parse(uri).is_ok_and(|url| matches!(url.host(), Some(Host::Domain(_))));
    let host = redirect_uri::host(uri).filter(|_| named);
    if host.is_none() || !client.redirect_uris.iter().any(|own| redirect_uri::host(own) == host) {
        return refuse("backchannel_logout_uri: https, at the name of one of the redirect_uris");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::registered::{By, Registered};

    fn blank(by: By, public: bool) -> Client {
        let registered = Registered {
            by,
            at: 0,
            access: StoredHash::of_secret("x"),
            auth_method: AuthMethod::None,
            about: About::default(),
            last_used: None,
        };
        Client {
            client_id: "client-1".into(),
            secret: (!public).then(|| StoredHash::of_secret("secret")),
            scopes: vec!["openid".into(), "orders".into()],
            audiences: vec!["shop/web".into()],
            registered: Some(registered),
            ..Client::default()
        }
    }

    /// What comes of a public client that is as it should be, but for these.
    fn with(changes: Value, by: By) -> Result<Client, RegistrationError> {
        let mut given = json!({"redirect_uris": ["https://app.example.com/cb"], "token_endpoint_auth_method": "none"});
        let Value::Object(changes) = changes else { panic!("no object") };
        given.as_object_mut().unwrap().extend(changes);
        let metadata: Metadata = serde_json::from_value(given).unwrap();
        metadata.apply(blank(by, true), "https://auth.example.com", &[Algorithm::ES256, Algorithm::RS256])
    }

    fn by_token() -> By {
        By::Token { id: "0123456789ABCDEFGHIJKL".parse().unwrap(), label: "partner".into() }
    }

    #[test]
    fn what_is_not_for_it_is_left_out_and_what_it_cannot_do_without_is_not() {
        let all = json!([
            "authorization_code",
            "refresh_token",
            "client_credentials",
            "implicit",
            "password",
            "urn:ietf:params:oauth:grant-type:device_code",
            "urn:ietf:params:oauth:grant-type:token-exchange"
        ]);
        let client = with(json!({"grant_types": all, "scope": "orders admin"}), By::Open).unwrap();
        assert_eq!(client.grant_types, GrantType::REGISTERED);
        assert_eq!((client.scopes, client.audiences), (vec!["orders".to_owned()], vec!["shop/web".to_owned()]));
        let client = with(json!({"scope": "", "grant_types": null, "client_name": null}), By::Open).unwrap();
        assert_eq!((client.scopes.len(), client.grant_types), (2, vec![GrantType::AuthorizationCode]));
        for bad in [
            json!({"grant_types": ["client_credentials"]}),
            json!({"grant_types": []}),
            json!({"response_types": ["token"]}),
            json!({"scope": "admin"}),
            json!({"id_token_signed_response_alg": "none"}),
            json!({"id_token_signed_response_alg": "HS256"}),
            json!({"token_endpoint_auth_method": "private_key_jwt"}),
            json!({"token_endpoint_auth_method": "client_secret_basic"}),
        ] {
            assert!(matches!(with(bad.clone(), By::Open), Err(RegistrationError::Metadata(_))), "{bad}");
        }
        let signed = with(json!({"software_statement": "e30.e30."}), By::Open);
        assert!(matches!(signed, Err(RegistrationError::SoftwareStatement)));
    }

    #[test]
    fn a_name_has_no_more_to_it_than_people_see() {
        for good in ["Caf\u{e9} \u{1f600}", "\u{8ba2}\u{5355}", "The \"App\" <b>"] {
            assert_eq!(with(json!({"client_name": good}), By::Open).unwrap().name, good);
        }
        for bad in ["a\nb", "a\u{202e}b", "a\u{200b}b", "a\u{2066}b", "\u{feff}a", "a\u{e0041}", "\u{3164}", "a\u{0}"] {
            assert!(with(json!({"client_name": bad}), By::Open).is_err(), "{bad:?}");
        }
        assert!(with(json!({"client_name": "x".repeat(81)}), By::Open).is_err());
    }

    #[test]
    fn whom_this_service_calls_and_where_it_sends_browsers_is_not_up_to_strangers() {
        let logout = |uri: &str| json!({"backchannel_logout_uri": uri});
        assert!(with(logout("https://app.example.com/bye"), by_token()).is_ok());
        assert!(with(logout("https://app.example.com/bye"), By::Open).is_err());
        for bad in [
            "https://other.example.com/",
            "http://app.example.com/",
            "https://10.0.0.1/",
            "https://[::1]/",
            "http://127.0.0.1:9090/",
            "https://localhost/",
            "https://user@app.example.com/",
            "https://2130706433/",
        ] {
            assert!(with(logout(bad), by_token()).is_err(), "{bad}");
        }
        let literal = json!({"redirect_uris": ["https://10.0.0.1/cb"], "backchannel_logout_uri": "https://10.0.0.1/"});
        assert!(with(literal, by_token()).is_err());
        let leave = json!({"post_logout_redirect_uris": ["https://app.example.com/bye"]});
        assert!(with(leave.clone(), by_token()).is_ok() && with(leave, By::Open).is_err());
        for ours in ["https://auth.example.com/oauth2/logout", "https://AUTH.example.com:443/"] {
            assert!(matches!(
                with(json!({"redirect_uris": [ours]}), by_token()),
                Err(RegistrationError::RedirectUri(_))
            ));
        }
    }

    #[test]
    fn a_record_is_small() {
        let long = |many: usize| -> Vec<String> {
            (0..many).map(|at| format!("https://app.example.com/{}{at}", "x".repeat(1000))).collect()
        };
        assert!(with(json!({"redirect_uris": long(4)}), By::Open).is_ok());
        assert!(with(json!({"redirect_uris": long(9)}), By::Open).is_err());
        assert!(with(json!({"contacts": vec!["a@example.com"; 6]}), By::Open).is_err());
        assert!(with(json!({"software_id": "x".repeat(129)}), By::Open).is_err());
    }
}

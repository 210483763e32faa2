//! Somebody and something to try it with: a user, an OAuth client, an API key. Made through the admin API, as in a cluster.

use anyhow::{Context, Result};
use rand::distr::{Alphanumeric, SampleString};
use rand::rngs::StdRng;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth_service::AuthService;
use crate::admin_api::AdminApi;
use crate::users::{self, List, User};

const NAME: &str = "demo";
/// Beside those of the policy.
const CLIENT_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];
const API_KEY_SECONDS: u64 = 30 * 86_400;

pub(crate) struct Demo {
    pub(crate) username: String,
    /// Empty where there are no passwords.
    pub(crate) password: String,
    /// Then the way in: adds a passkey.
    pub(crate) passkey_link: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) api_key: String,
}

/// What a store that outlives this process may hold of an earlier one is brought up to date.
pub(crate) async fn set_up(
    auth_service: &AuthService,
    audience: &str,
    scopes: &[String],
    rng: &mut StdRng,
) -> Result<Demo> {
    let api = &auth_service.admin;
    let password = auth_service.passwords.then(|| Alphanumeric.sample_string(rng, 16));
    let user = user(api, password.as_deref(), scopes).await.context("the demo user")?;
    let passkey_link = match password {
        Some(_) => None,
        None => Some(users::passkey_link(api, &user).await.context("the demo user's passkey")?.url),
    };
    let password = password.unwrap_or_default();
    let client_secret = client(api, audience, scopes).await.context("the demo client")?;
    let api_key = api_key(api, &user, audience, scopes).await.context("the demo API key")?;
    Ok(Demo { username: NAME.to_owned(), password, passkey_link, client_id: NAME.to_owned(), client_secret, api_key })
}

async fn user(api: &AdminApi, password: Option<&str>, scopes: &[String]) -> Result<User> {
    let found: List<User> = api.get("/admin/v1/users", &[("username", NAME)]).await?;
    if let Some(user) = found.items.into_iter().next() {
        if let Some(password) = password {
            users::set_password(api, &user, password).await?;
        }
        return Ok(user);
    }
    let user = json!({
        "username": NAME, "password": password, "name": "Demo User", "email": "demo@example.com", "email_verified": true,
        "roles": ["admin"], "groups": ["staff"], "scopes": scopes,
    });
    api.send(Method::POST, "/admin/v1/users", &user).await
}

#[derive(Deserialize)]
struct Client {
    client_id: String,
}

#[derive(Deserialize)]
struct Secret {
    client_secret: String,
}

async fn client(api: &AdminApi, audience: &str, scopes: &[String]) -> Result<String> {
    let settings = json!({
        "name": "Demo client",
        // On any port (RFC 8252 §7.3).
        "redirect_uris": ["http://127.0.0.1/callback"],
        "post_logout_redirect_uris": ["http://127.0.0.1/", "http://127.0.0.1/callback"],
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
        "scopes": CLIENT_SCOPES.iter().map(|scope| (*scope).to_owned()).chain(scopes.iter().cloned()).collect::<Vec<_>>(),
        "audiences": [audience],
        "first_party": true,
    });
    let known: List<Client> = api.get("/admin/v1/clients", &[]).await?;
    let secret: Secret = if known.items.iter().any(|client| client.client_id == NAME) {
        api.send::<Value>(Method::PUT, "/admin/v1/clients/demo", &settings).await?;
        api.send(Method::POST, "/admin/v1/clients/demo/secret", &json!({})).await?
    } else {
        let mut client = settings;
        client["client_id"] = NAME.into();
        api.send(Method::POST, "/admin/v1/clients", &client).await?
    };
    Ok(secret.client_secret)
}

async fn api_key(api: &AdminApi, user: &User, audience: &str, scopes: &[String]) -> Result<String> {
    #[derive(Deserialize)]
    struct Created {
        api_key: String,
    }
    let key = json!({
        "name": "Demo key", "user": user.id, "scopes": scopes, "audiences": [audience], "expires_in": API_KEY_SECONDS,
    });
    Ok(api.send::<Created>(Method::POST, "/admin/v1/api-keys", &key).await?.api_key)
}

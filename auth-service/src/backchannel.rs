//! OpenID Connect Back-Channel Logout 1.0: tells clients that somebody whom they had signed in by us has signed out.
//!
//! The session's end does not wait for it: a client that is down must not keep anybody signed in. Deliveries are tried a few times over half a
//! minute and then given up, with a line in the log; they do not outlive the process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloakroom_protocol::token::TokenId;
use http::{Method, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::keys::ring::KeyError;
use crate::keys::signer::JwtType;
use crate::record::{client, signed_in_at};
use crate::store::StoreError;
use crate::tls::TlsError;

/// Deliveries under way at once; others wait.
const AT_ONCE: usize = 32;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Before each further try.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(6), Duration::from_secs(20)];
/// Seconds that a logout token is good for (§2.4 recommends two minutes at most).
const LIFETIME: u64 = 120;
const MAX_BODY: usize = 64 << 10;

pub struct Backchannel {
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    places: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
enum NotDelivered {
    #[error("{0}")]
    Lost(String),
    /// §2.8: 400 is the client's last word.
    #[error("the client answered {0}")]
    Refused(StatusCode),
}

#[derive(Debug, thiserror::Error)]
pub enum BackchannelError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl Backchannel {
    pub fn new() -> Result<Self, TlsError> {
        let tls = crate::tls::client_config(None)?;
        let connector =
            hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let http = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { http, places: Arc::new(Semaphore::new(AT_ONCE)) })
    }
}

/// Tells every client that has signed the person in with this session, in the background.
pub async fn session_ended(app: &App, sid: TokenId, sub: &str) -> Result<(), BackchannelError> {
    for (client_id, sid) in signed_in_at::take_all(app.store(), sid).await? {
        let Some(client) = client::load(app.store(), &client_id).await? else { continue };
        let Some(uri) = client.backchannel_logout_uri.as_deref().and_then(|uri| uri.parse().ok()) else { continue };
        let token = logout_token(app, &client, sub, sid).await?;
        let http = app.backchannel.http.clone();
        let places = Arc::clone(&app.backchannel.places);
        tokio::spawn(async move {
            let Ok(_place) = places.acquire().await else { return };
            match deliver(&http, &uri, &token).await {
                Ok(()) => crate::audit::record("backchannel-logout", &client_id, sid, "delivered"),
                Err(error) => {
                    tracing::warn!(%error, client_id, sid = %sid, "a client was not told of a sign-out");
                    crate::audit::record("backchannel-logout", &client_id, sid, "given up");
                }
            }
        });
    }
    Ok(())
}

/// §2.4. No nonce: that would make it pass for an ID token. Signed as the client's ID tokens are (§2.6).
async fn logout_token(app: &App, client: &client::Client, sub: &str, sid: TokenId) -> Result<String, KeyError> {
    let now = app.now();
    let claims = json!({
        "iss": app.config.issuer,
        "sub": sub,
        "aud": client.client_id,
        "iat": now,
        "exp": now + LIFETIME,
        "jti": app.random.secret(),
        "sid": sid,
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
    });
    app.ring.sign_as(app.store(), client.id_token_signed_response_alg, JwtType::Logout, &claims).await
}

async fn deliver(
    http: &Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: &http::Uri,
    token: &str,
) -> Result<(), NotDelivered> {
    let mut pauses = PAUSES.into_iter();
    loop {
        let outcome = post(http, uri, token).await;
        match (outcome, pauses.next()) {
            (Err(NotDelivered::Lost(_)), Some(pause)) => tokio::time::sleep(pause).await,
            (outcome, _) => return outcome,
        }
    }
}

/// Redirects are not followed: the token is for this address.
async fn post(
    http: &Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: &http::Uri,
    token: &str,
) -> Result<(), NotDelivered> {
    let lost = |why: &dyn std::fmt::Display| NotDelivered::Lost(why.to_string());
    let body = url::form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", token).finish();
    let request = http::Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| lost(&error))?;
    let exchange = async {
        let answer = http.request(request).await.map_err(|error| lost(&error))?;
        let status = answer.status();
        // Read, so that the connection can be used again.
        let _ = Limited::new(answer.into_body(), MAX_BODY).collect().await;
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::BAD_REQUEST => Err(NotDelivered::Refused(status)),
            status => Err(lost(&status)),
        }
    };
    tokio::time::timeout(ANSWER_WITHIN, exchange).await.map_err(|_| lost(&"no answer in time"))?
}

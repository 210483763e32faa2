//! What the service can do: RFC 8414 and OpenID Connect Discovery, one document for both.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde_json::json;

use super::dpop;
use crate::app::Shared;
use crate::assurance::SUPPORTED_ACR;
use crate::record::client::GrantType;

pub async fn metadata(State(app): State<Shared>) -> Response {
    let issuer = &app.config.issuer;
    let at = |path: &str| format!("{issuer}{path}");
    let client_authentication = ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"];
    let assertions = super::client_assertion::algorithms();
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": at("/oauth2/authorize"),
        "token_endpoint": at(super::token::PATH),
        "jwks_uri": at("/oauth2/jwks.json"),
        "userinfo_endpoint": at(super::userinfo::PATH),
        "introspection_endpoint": at("/oauth2/introspect"),
        "revocation_endpoint": at("/oauth2/revoke"),
        "pushed_authorization_request_endpoint": at("/oauth2/par"),
        "device_authorization_endpoint": at("/oauth2/device_authorization"),
        "end_session_endpoint": at("/oauth2/logout"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": GrantType::ALL.map(GrantType::name),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": client_authentication,
        "revocation_endpoint_auth_methods_supported": client_authentication,
        "introspection_endpoint_auth_methods_supported": client_authentication[..3],
        "token_endpoint_auth_signing_alg_values_supported": assertions,
        "revocation_endpoint_auth_signing_alg_values_supported": assertions,
        "introspection_endpoint_auth_signing_alg_values_supported": assertions,
        "dpop_signing_alg_values_supported": dpop::ALGORITHMS,
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": app.ring.offered(),
        "scopes_supported": ["openid", "profile", "email", "roles", "groups", "offline_access"],
        "claims_supported": [
            "iss", "sub", "aud", "exp", "iat", "auth_time", "acr", "amr", "sid", "nonce", "at_hash",
            "name", "preferred_username", "email", "email_verified", "roles", "groups",
        ],
        "acr_values_supported": SUPPORTED_ACR,
        "ui_locales_supported": app.messages.tags().collect::<Vec<_>>(),
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "authorization_response_iss_parameter_supported": true,
        "backchannel_logout_supported": true,
        "backchannel_logout_session_supported": true,
        "request_parameter_supported": false,
        "request_uri_parameter_supported": false,
        "claims_parameter_supported": false,
    });
    if super::register::is_offered(&app.config) {
        document["registration_endpoint"] = at(super::register::PATH).into();
    }
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300")),
    ];
    (headers, document.to_string()).into_response()
}

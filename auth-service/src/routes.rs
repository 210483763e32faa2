//! URL → endpoint: one table for each port.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post, put};
use cloakroom_protocol::internal_api as paths;
use http::{HeaderValue, StatusCode};

use crate::app::Shared;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::problem::problem;
use crate::endpoint::{admin, health, internal, oauth, pages};

/// Forms and documents are small.
const PUBLIC_BODY: usize = 64 << 10;
/// Usage reports come in batches.
const INTERNAL_BODY: usize = 1 << 20;
/// Longer than a receipt may be waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);

pub fn public(app: Shared) -> Router {
    Router::new()
        .route("/sign-in", get(pages::sign_in::get).post(pages::sign_in::post))
        .route("/sign-in/passkey", post(pages::sign_in::with_passkey))
        .route("/second-factor", get(pages::second_factor::get).post(pages::second_factor::post))
        .route("/second-factor/passkey", post(pages::second_factor::with_passkey))
        .route("/second-factor/set-up", post(pages::second_factor::set_up))
        .route("/second-factor/continue", get(pages::second_factor::go_on))
        .route("/consent", get(pages::consent::get).post(pages::consent::post))
        .route("/device", get(pages::device::get).post(pages::device::post))
        .route("/account", get(pages::account::get))
        .route("/account/sign-out", post(pages::account::sessions::sign_out))
        .route("/account/browsers/forget", post(pages::account::browsers::forget))
        .route("/account/applications/disconnect", post(pages::account::applications::disconnect))
        .route("/account/password", get(pages::account::password::get).post(pages::account::password::post))
        .route("/account/passkeys", get(pages::account::passkeys::get).post(pages::account::passkeys::post))
        .route("/account/passkeys/remove", post(pages::account::passkeys::remove))
        .route("/reset-password", get(pages::reset_password::get).post(pages::reset_password::post))
        .route(
            "/account/authenticator",
            get(pages::account::authenticator::get).post(pages::account::authenticator::post),
        )
        .route("/account/authenticator/remove", post(pages::account::authenticator::remove))
        .route(
            "/account/recovery-codes",
            get(pages::account::recovery_codes::get).post(pages::account::recovery_codes::post),
        )
        .route("/signed-out", get(pages::signed_out::get))
        .route("/assets/style.css", get(pages::assets::style))
        .route("/assets/logo", get(pages::assets::logo))
        .route("/assets/passkeys.js", get(pages::assets::passkeys))
        .route("/oauth2/authorize", get(oauth::authorize::get).post(oauth::authorize::post))
        .route("/oauth2/logout", get(oauth::logout::get).post(oauth::logout::post))
        .route("/oauth2/introspect", post(oauth::introspect::introspect))
        .merge(for_browser_clients())
        .route("/", get(home))
        .fallback(no_such_page)
        .layer(from_fn_with_state(Shared::clone(&app), pages::error::render))
        .layer(from_fn_with_state(Shared::clone(&app), frame))
        .layer(DefaultBodyLimit::max(PUBLIC_BODY))
        .with_state(app)
}

/// What clients call that are pages themselves.
fn for_browser_clients() -> Router<Shared> {
    Router::new()
        .route(oauth::token::PATH, post(oauth::token::token))
        .route("/oauth2/device_authorization", post(oauth::device::authorize))
        .route("/oauth2/par", post(oauth::par::push))
        .route("/oauth2/revoke", post(oauth::revoke::revoke))
        .route(oauth::userinfo::PATH, get(oauth::userinfo::userinfo).post(oauth::userinfo::userinfo))
        .route("/oauth2/jwks.json", get(internal::jwks::jwks))
        .route("/.well-known/oauth-authorization-server", get(oauth::discovery::metadata))
        .route("/.well-known/openid-configuration", get(oauth::discovery::metadata))
        .route_layer(from_fn(oauth::cors::share))
}

pub fn internal(app: Shared) -> Router {
    Router::new()
        .route(paths::INTROSPECT, post(internal::introspect::introspect))
        .route(paths::EVENTS, get(internal::events::events))
        .route(paths::ACKNOWLEDGE, post(internal::acknowledge::acknowledge))
        .route(paths::INTEREST, post(internal::interest::declare))
        .route(paths::REVOKE, post(internal::revoke::revoke))
        .route(paths::SESSION, post(internal::session::patch))
        .route(paths::USAGE, post(internal::usage::report))
        .route(paths::PAR, post(internal::par::push))
        .route(paths::TOKEN, post(internal::token::exchange))
        .route(paths::JWKS, get(internal::jwks::jwks))
        .route(paths::POLICIES, get(internal::policies::list))
        .route(
            &format!("{}/{{namespace}}/{{name}}", paths::POLICIES),
            put(internal::policies::put).delete(internal::policies::delete),
        )
        .nest("/admin/v1", administration())
        .fallback(nothing_here)
        .layer(from_fn_with_state(Shared::clone(&app), frame))
        .layer(DefaultBodyLimit::max(INTERNAL_BODY))
        .with_state(app)
}

fn administration() -> Router<Shared> {
    Router::new()
        .route("/users", get(admin::users::list).post(admin::users::create))
        .route("/users/{id}", get(admin::users::get).patch(admin::users::update).delete(admin::users::delete))
        .route("/users/{id}/password", put(admin::users::set_password))
        .route("/users/{id}/password-reset", post(admin::users::reset_password))
        .route("/users/{id}/factors", get(admin::users::factors).delete(admin::users::delete_factors))
        .route("/users/{id}/sessions", get(admin::sessions::of_user).delete(admin::sessions::delete_of_user))
        .route("/sessions/{id}", get(admin::sessions::get).delete(admin::sessions::delete))
        .route("/clients", get(admin::clients::list).post(admin::clients::create))
        .route("/clients/{id}", get(admin::clients::get).put(admin::clients::replace).delete(admin::clients::delete))
        .route("/clients/{id}/secret", post(admin::clients::new_secret))
        .route("/api-keys", get(admin::api_keys::list).post(admin::api_keys::create))
        .route("/api-keys/{id}", get(admin::api_keys::get).delete(admin::api_keys::delete))
        .route("/api-keys/{id}/rotate", post(admin::api_keys::rotate))
        .route("/keys/rotate", post(admin::keys::rotate))
}

/// Health and metrics, for kubelet and Prometheus.
pub fn metrics(app: Shared) -> Router {
    Router::new()
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .with_state(app)
}

async fn home() -> Response {
    pages::redirect("/account")
}

async fn no_such_page() -> PageError {
    PageError::NotFound
}

async fn nothing_here() -> Response {
    problem(StatusCode::NOT_FOUND, "not found", None)
}

async fn frame(State(app): State<Shared>, request: Request, next: Next) -> Response {
    // A body that trickles in must not keep anything busy. Event streams are answered at once; what follows is not counted.
    let answered = tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await;
    let mut response = answered.unwrap_or_else(|_| problem(StatusCode::REQUEST_TIMEOUT, "too slow", None));
    let headers = response.headers_mut();
    let fixed = [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        // Not no-referrer: browsers would then send `Origin: null` with our own forms.
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers
        .entry("content-security-policy")
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'"));
    if !app.config.is_plain() {
        headers.insert("strict-transport-security", HeaderValue::from_static("max-age=31536000"));
    }
    response
}

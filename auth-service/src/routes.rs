//! URL → endpoint: one table for each port.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post, put};
use cloakroom_protocol::internal_api as paths;
use http::{HeaderValue, StatusCode};

use crate::app::Shared;
use crate::audit;
use crate::endpoint::caller::ADMIN_API;
use crate::endpoint::pages::error::PageError;
use crate::endpoint::problem::problem;
use crate::endpoint::{admin, health, internal, oauth, pages, provider_logout};

/// Forms and documents are small.
pub const PUBLIC_BODY: usize = 64 << 10;
/// Usage reports come in batches.
const INTERNAL_BODY: usize = 1 << 20;
/// Says which request this was; the log, the audit trail and every error have the same id.
const DECISION_HEADER: &str = "cloakroom-decision";
/// Longer than a receipt may be waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);

pub fn public(app: Shared) -> Router {
    Router::new()
        .route("/sign-in", get(pages::sign_in::get).post(pages::sign_in::post))
        .route("/sign-in/passkey", post(pages::sign_in::with_passkey))
        .route("/sign-in/with/{provider}", get(pages::elsewhere::go))
        .route("/sign-in/from/{provider}", get(pages::elsewhere::back))
        .route("/sign-in/from/{provider}/backchannel-logout", post(provider_logout::post))
        .route("/sign-out/at/{provider}", get(pages::elsewhere::sign_out))
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
        .route("/account/connections", get(pages::account::connections::get).post(pages::account::connections::connect))
        .route("/account/connections/remove", post(pages::account::connections::remove))
        .route("/account/passkeys/remove", post(pages::account::passkeys::remove))
        .route("/new-passkey", get(pages::new_passkey::get).post(pages::new_passkey::post))
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
        .merge(for_clients(&app))
        .route("/", get(home))
        .fallback(no_such_page)
        .layer(from_fn_with_state(Shared::clone(&app), pages::error::render))
        .layer(from_fn_with_state(Shared::clone(&app), frame))
        .layer(DefaultBodyLimit::max(PUBLIC_BODY))
        .with_state(app)
}

/// What clients call. Whoever keeps failing to authenticate is slowed down; all but introspection is for pages as clients, too, which can
/// read the refusal as well.
fn for_clients(app: &Shared) -> Router<Shared> {
    let refusals = from_fn_with_state(Shared::clone(app), oauth::refusals::limit);
    let of_authenticated = Router::new()
        .route(oauth::token::PATH, post(oauth::token::token))
        .route("/oauth2/device_authorization", post(oauth::device::authorize))
        .route("/oauth2/par", post(oauth::par::push))
        .route("/oauth2/revoke", post(oauth::revoke::revoke))
        .merge(registration(app))
        .route_layer(refusals.clone());
    let of_pages = Router::new()
        .route(oauth::userinfo::PATH, get(oauth::userinfo::userinfo).post(oauth::userinfo::userinfo))
        .route("/oauth2/jwks.json", get(internal::jwks::jwks))
        .route("/.well-known/oauth-authorization-server", get(oauth::discovery::metadata))
        .route("/.well-known/openid-configuration", get(oauth::discovery::metadata))
        .merge(of_authenticated)
        .route_layer(from_fn(oauth::cors::share));
    Router::new().route("/oauth2/introspect", post(oauth::introspect::introspect)).route_layer(refusals).merge(of_pages)
}

/// Where it is not offered, it is not there.
fn registration(app: &Shared) -> Router<Shared> {
    if !oauth::register::is_offered(&app.config) {
        return Router::new();
    }
    let one =
        get(oauth::register::manage::get).put(oauth::register::manage::replace).delete(oauth::register::manage::delete);
    Router::new()
        .route(oauth::register::PATH, post(oauth::register::register))
        .route(&format!("{}/{{client_id}}", oauth::register::PATH), one)
}

pub fn internal(app: Shared) -> Router {
    Router::new()
        .route(paths::INTROSPECT, post(internal::introspect::introspect))
        .route(paths::INTROSPECT_MANY, post(internal::introspect::introspect_many))
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
        .route(
            &format!("{}/{{namespace}}/{{name}}", paths::API_KEYS),
            put(internal::api_keys::put).delete(internal::api_keys::delete),
        )
        .route(
            &format!("{}/{{namespace}}/{{name}}", paths::CLIENTS),
            put(internal::clients::put).delete(internal::clients::delete),
        )
        .nest(ADMIN_API, admin::routes())
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_with_this_method)
        .layer(from_fn_with_state(Shared::clone(&app), frame))
        .layer(DefaultBodyLimit::max(INTERNAL_BODY))
        .with_state(app)
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

/// `Allow` says which: the router adds it (RFC 9110 §15.5.6).
async fn not_with_this_method() -> Response {
    problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed", None)
}

async fn frame(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let decision: Arc<str> = app.random.reference().into();
    let of_request = audit::Request { decision: Arc::clone(&decision), trail: app.trail.clone() };
    let answer = async {
        // A body that trickles in must not keep anything busy. Event streams are answered at once; what follows is not counted.
        let answered = tokio::time::timeout(ANSWER_WITHIN, next.run(request)).await;
        answered.unwrap_or_else(|_| problem(StatusCode::REQUEST_TIMEOUT, "too slow", None))
    };
    let mut response = audit::within(of_request, answer).await;
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
    if let Ok(id) = HeaderValue::from_str(&decision) {
        headers.insert(DECISION_HEADER, id);
    }
    headers
        .entry("content-security-policy")
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; base-uri 'none'"));
    // What may be kept says so itself.
    headers.entry("cache-control").or_insert(HeaderValue::from_static("no-store"));
    if !app.config.is_plain() {
        headers.insert("strict-transport-security", HeaderValue::from_static("max-age=31536000"));
    }
    response
}

//! `POST /internal/v1/token`: a sidecar exchanges the code that a browser brought for the policy's own session token.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cloakroom_protocol::sign_in::{CodeExchange, SignedIn};
use cloakroom_protocol::token::{OpaqueToken, TokenKind};
use http::StatusCode;

use super::policy_for;
use crate::app::Shared;
use crate::endpoint::caller::FormOrJson;
use crate::endpoint::problem::{ApiError, problem};
use crate::pkce::verifies;
use crate::record::code::{self, Code, Found, Spent};
use crate::record::session::{self, Seat};
use crate::record::{RecordError, user};
use crate::registry::terms;
use crate::workload::Caller;

#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// RFC 6749 §5.2 `invalid_grant`; the sentence goes to the log only.
    #[error("{0}")]
    InvalidGrant(&'static str),
    #[error(transparent)]
    Api(#[from] ApiError),
}

impl From<crate::store::StoreError> for ExchangeError {
    fn from(error: crate::store::StoreError) -> Self {
        Self::Api(error.into())
    }
}

impl IntoResponse for ExchangeError {
    fn into_response(self) -> Response {
        match self {
            Self::InvalidGrant(why) => {
                tracing::info!(why, "code refused");
                problem(StatusCode::BAD_REQUEST, "invalid_grant", None)
            }
            Self::Api(error) => error.into_response(),
        }
    }
}

pub async fn exchange(
    State(app): State<Shared>,
    caller: Caller,
    FormOrJson(body): FormOrJson<CodeExchange>,
) -> Result<Response, ExchangeError> {
    let policy = policy_for(&app, &caller, &body.client_id)?;
    if body.grant_type != "authorization_code" {
        return Err(ApiError::BadRequest("grant_type is authorization_code".to_owned()).into());
    }
    let found = code::find(app.store(), &body.code).await?;
    let Found { code, spent } = found.ok_or(ExchangeError::InvalidGrant("unknown or expired code"))?;
    if !fits(&code, &body) {
        return Err(ExchangeError::InvalidGrant("client, redirect URI or verifier do not fit the code"));
    }
    if let Some(spent) = spent {
        take_back(&app, &caller, &spent).await?;
        return Err(ExchangeError::InvalidGrant("code replayed"));
    }
    let spent = Spent::Seat { sid: code.sid, client: body.client_id.clone() };
    if !code::spend(app.store(), &body.code, &spent).await? {
        take_back(&app, &caller, &spent).await?;
        return Err(ExchangeError::InvalidGrant("code replayed at the same time"));
    }
    let now = app.now();
    let gone = ExchangeError::InvalidGrant("the session ended meanwhile");
    let Some(mut session) = session::load(app.store(), code.sid).await? else { return Err(gone) };
    let Some(user) = user::load(app.store(), &code.sub).await?.filter(|user| user.epoch == code.epoch) else {
        return Err(gone);
    };
    let token = app.random.with(|rng| OpaqueToken::with_id(TokenKind::Session, code.sid, rng));
    let seat = Seat { secret: token.secret_hash().into(), issued: now };
    match session::seat(app.store(), &user, &mut session, (&body.client_id, &seat), terms(&policy), now).await {
        Ok(()) => {}
        Err(RecordError::Revoked | RecordError::SubjectChanged) => return Err(gone),
        Err(error) => return Err(ExchangeError::Api(error.into())),
    }
    crate::audit::record("session.issued", &body.client_id, &code.sub, session.id);
    let answer = SignedIn {
        session_token: token.expose().to_owned(),
        expires_in: session.end_under(terms(&policy)).saturating_sub(now),
        return_to: code.request.return_to.unwrap_or_else(|| "/".to_owned()),
    };
    let mut response = axum::Json(answer).into_response();
    response.headers_mut().insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
    Ok(response)
}

fn fits(code: &Code, body: &CodeExchange) -> bool {
    code.request.for_policy
        && code.request.client_id == body.client_id
        && code.request.redirect_uri == body.redirect_uri
        && verifies(&body.code_verifier, &code.request.code_challenge)
}

/// RFC 6749 §4.1.2: what a replayed code gave is taken back. Only its own client can get here.
async fn take_back(app: &Shared, caller: &Caller, spent: &Spent) -> Result<(), ExchangeError> {
    crate::audit::record("code.replayed", caller.name(), format_args!("{spent:?}"), "what it gave is revoked");
    match spent {
        Spent::Seat { sid, client } => {
            session::unseat(app.store(), *sid, client).await?;
            crate::revoke::updated(app, *sid).await?;
        }
        Spent::Grant(id) => {
            crate::revoke::record(app, *id).await?;
        }
    }
    Ok(())
}

//! Errors that people see: what happened, what to do, an id to quote. The log has the rest under the same id.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::{Frame, LeadsTo};
use crate::app::Shared;
use crate::record::RecordError;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A sentence for the person.
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("no such page")]
    NotFound,
    #[error("{0}")]
    Throttled(&'static str, u64),
    #[error("{0}")]
    Unavailable(String),
    #[error("{name}: {why}")]
    ProviderUnavailable { name: String, why: String },
    /// Nobody here is connected with whoever has signed in there.
    #[error("no account for a sign-in at {provider}")]
    NoAccount { provider: String, ask: Option<String> },
    #[error("{0}")]
    Internal(String),
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::NotReplicated => Self::Unavailable(error.to_string()),
            StoreError::Corrupt(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<RecordError> for PageError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Store(error) => error.into(),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    frame: Frame,
    heading: &'a str,
    sentence: &'a str,
    advice: &'a str,
    reference: &'a str,
}

impl IntoResponse for PageError {
    /// Left to [`render`], which knows what to quote.
    fn into_response(self) -> Response {
        let mut response = StatusCode::INTERNAL_SERVER_ERROR.into_response();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Turns errors into pages, in this one place.
pub async fn render(State(app): State<Shared>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    match response.extensions().get::<Arc<PageError>>() {
        Some(error) => {
            let decision = crate::audit::decision().map_or_else(|| app.random.reference(), |id| id.to_string());
            error.page(Frame::of(&app), &decision)
        }
        None => response,
    }
}

impl PageError {
    /// What is said of another provider, by its name.
    fn about_provider(&self) -> String {
        match self {
            Self::ProviderUnavailable { name, .. } => format!("{name} cannot be reached right now."),
            Self::NoAccount { provider, .. } => {
                format!("You have signed in at {provider}, which no account here is connected with.")
            }
            _ => String::new(),
        }
    }

    fn page(&self, frame: Frame, reference: &str) -> Response {
        let named = self.about_provider();
        let (status, heading, sentence, advice) = match self {
            Self::BadRequest(sentence) => (
                StatusCode::BAD_REQUEST,
                "This does not work",
                sentence.as_str(),
                "Go back to the application and start again from there.",
            ),
            Self::Forbidden(sentence) => (
                StatusCode::FORBIDDEN,
                "Not allowed",
                *sentence,
                "Go back to the application and start again from there.",
            ),
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "There is no such page",
                "The address may have been typed wrongly.",
                "Go back, or start from the application that you want to use.",
            ),
            Self::Throttled(sentence, _) => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many attempts", *sentence, "Wait a few minutes, then try again.")
            }
            Self::Unavailable(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Try again in a moment",
                "The sign-in service is not available right now. Nobody has been signed out.",
                "Reload this page in a few seconds.",
            ),
            Self::ProviderUnavailable { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Try again in a moment",
                named.as_str(),
                "Go back and try again in a few seconds, or sign in another way. Nobody has been signed out.",
            ),
            Self::NoAccount { ask, .. } => (
                StatusCode::FORBIDDEN,
                "There is no account for you here",
                named.as_str(),
                ask.as_deref().unwrap_or(
                    "If you have an account here, sign in to it and connect the two on your account page. Else ask your administrator for one.",
                ),
            ),
            Self::Internal(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something went wrong",
                "This is our mistake, not yours.",
                "Try again, and tell your administrator the reference below if it happens again.",
            ),
        };
        if status.is_server_error() {
            tracing::warn!(error = %self, reference, "page failed");
        } else {
            tracing::info!(error = %self, reference, "page refused");
        }
        let page = ErrorPage { frame, heading, sentence, advice, reference };
        let mut response = super::page(status, &page, &LeadsTo::Here)
            .unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response());
        let retry_after = match self {
            Self::Throttled(_, seconds) => HeaderValue::from_str(&seconds.to_string()).ok(),
            Self::Unavailable(_) | Self::ProviderUnavailable { .. } => Some(HeaderValue::from_static("2")),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

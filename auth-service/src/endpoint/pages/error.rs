//! Errors that people see: what happened, what to do, an id to quote. The log has the rest under the same id.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use super::{Frame, LeadsTo, browser};
use crate::app::Shared;
use crate::messages::{Sentence, say};
use crate::record::RecordError;
use crate::store::StoreError;

#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("{0}")]
    BadRequest(Sentence),
    /// What an application's developer has to know, in English.
    #[error("{0}")]
    Malformed(String),
    #[error("{0}")]
    Forbidden(Sentence),
    #[error("no such page")]
    NotFound,
    #[error("{0}")]
    Throttled(Sentence, u64),
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
    heading: Sentence,
    sentence: Why,
    advice: Sentence,
    reference: &'a str,
}

/// What happened.
enum Why {
    Said(Sentence),
    Technical(String),
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
    let language = browser::language(&app, request.headers());
    let response = next.run(request).await;
    match response.extensions().get::<Arc<PageError>>() {
        Some(error) => {
            let decision = crate::audit::decision().map_or_else(|| app.random.reference(), |id| id.to_string());
            error.page(Frame::in_language(&app, language), &decision)
        }
        None => response,
    }
}

impl PageError {
    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) | Self::NoAccount { .. } => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Throttled(..) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) | Self::ProviderUnavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Heading, what happened, what to do.
    fn words(&self) -> (Sentence, Why, Sentence) {
        match self {
            Self::BadRequest(sentence) => {
                (say::error_bad_request(), Why::Said(sentence.clone()), say::error_start_again())
            }
            Self::Malformed(english) => {
                (say::error_bad_request(), Why::Technical(english.clone()), say::error_start_again())
            }
            Self::Forbidden(sentence) => {
                (say::error_forbidden(), Why::Said(sentence.clone()), say::error_start_again())
            }
            Self::NotFound => {
                (say::error_not_found(), Why::Said(say::error_not_found_why()), say::error_not_found_advice())
            }
            Self::Throttled(sentence, _) => {
                (say::error_throttled(), Why::Said(sentence.clone()), say::error_throttled_advice())
            }
            Self::Unavailable(_) => {
                (say::error_unavailable(), Why::Said(say::error_unavailable_why()), say::error_unavailable_advice())
            }
            Self::ProviderUnavailable { name, .. } => (
                say::error_unavailable(),
                Why::Said(say::error_provider_unavailable(name)),
                say::error_provider_unavailable_advice(),
            ),
            Self::NoAccount { provider, ask } => (
                say::error_no_account(),
                Why::Said(say::error_no_account_why(provider)),
                ask.as_deref().map_or_else(say::error_no_account_advice, Sentence::verbatim),
            ),
            Self::Internal(_) => {
                (say::error_internal(), Why::Said(say::error_internal_why()), say::error_internal_advice())
            }
        }
    }

    fn page(&self, frame: Frame, reference: &str) -> Response {
        let (status, (heading, sentence, advice)) = (self.status(), self.words());
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
